"""TextGrad and OptoPrime, the real libraries in their own environment, on the work of `descend`."""

import asyncio
import json
import re
import shlex
from dataclasses import replace

import httpx2
import pytest

from semback import LLM, CacheMiss, Graph, Language, Node, ParameterError, ResponseCache
from semback.baselines import optimise, python

try:
    PYTHON = python()
except ParameterError as error:
    pytest.skip(str(error), allow_module_level=True)
pytestmark = [pytest.mark.slow, pytest.mark.process, pytest.mark.network]
NAMES = ("größe {0}", "2nd: a.b", "2nd: a-b", "__code", "question")
LIAR = Graph(  # three layers, an input that skips one, a node that learns nothing
    (
        Node(NAMES[0], "Say how large it is.", form="At most {two} sentences."),
        Node(NAMES[1], "Say what it is about.", trainable=False),
        Node(NAMES[2], "Check the size.", NAMES[:2]),
        Node(NAMES[3], "Check the rest.", NAMES[1:2]),
        Node(NAMES[4], "Solve the problem.", (*NAMES[2:4], NAMES[0])),
    )
)
# Calls for a gradient: of the loss, every input and every instruction that may change.
GRADIENTS = 1 + sum(len(node.inputs) + node.trainable for node in LIAR)


@pytest.fixture(autouse=True)
def peers(monkeypatch):
    monkeypatch.setenv("SEMBACK_PEERS_PYTHON", str(PYTHON))


def phase(body):
    system, user = (message["content"] for message in body["messages"][:2])
    if "coding/algorithm problem" in system or "<IMPROVED_VARIABLE>" in user:
        return "update"
    return "backward" if "gradient (feedback) engine" in system else "forward"


def suggestions(user):
    """What OptoPrime's prompt has of every variable: {name: value}."""
    variables = user.partition("\n#Variables\n")[2].partition("\n#Constraints\n")[0]
    return dict(re.findall(r"^\(str\) (\w+)=(.*)$", variables, re.MULTILINE))


def reply(body):
    """Sums are the better the more often the answer's instruction says Carry; updates add one."""
    system, user = (message["content"] for message in body["messages"][:2])
    if phase(body) == "backward":
        return "It does not carry {the one}."
    if phase(body) == "forward":
        a, b = map(int, re.search(r"(\d+) \+ (\d+)", user).groups())
        right = system.startswith("Solve") and a % 6 <= system.count("Carry.")
        return f"Answer: {a + b if right else 999}"
    if new := {name: f"{old} Carry." for name, old in suggestions(user).items()}:
        return json.dumps({"reasoning": "It has to.", "suggestion": new})
    old = re.search("<VARIABLE> (.*?) </VARIABLE>", user)[1]
    return f"<IMPROVED_VARIABLE>{old} Carry.</IMPROVED_VARIABLE>"


def in_turn(*updates):
    """Replies as above, but to updates these in turn; None is the reply as above."""
    left = list(updates)

    def says(body):
        special = left.pop(0) if phase(body) == "update" and left else None
        special = special(body) if callable(special) else special
        return reply(body) if special is None else special

    return says


def run(method, task, *models, **settings):
    lang = Language(models[0], models[-1])
    return asyncio.run(optimise(method, task, lang, **settings))


def correct(step):
    return step.scores and sum(row.correct for row in step.scores.rows)


def without_sources(run):
    """A run as plain data, but for where its replies came from."""
    data = run.to_dict()
    for row in data["usage"]["counts"]:
        for name in [name for name in row if name == "recorded" or name.startswith("live")]:
            del row[name]
    return data


@pytest.mark.parametrize("method", ["textgrad", "optoprime"])
def test_any_graph_is_improved_and_replays_exactly_and_no_key_reaches_the_library(
    method, task, script, cache, tmp_path, monkeypatch
):
    monkeypatch.setenv("OPENAI_API_KEY", "sk-distinctive-7c1e9b")
    wrapper, seen = tmp_path / "python", tmp_path / "environment"
    wrapper.write_text(f'#!/bin/sh\nenv > {seen}\nexec {shlex.quote(str(PYTHON))} "$@"\n')
    wrapper.chmod(0o755)
    monkeypatch.setenv("SEMBACK_PEERS_PYTHON", str(wrapper))
    task, model = replace(task, graph=LIAR), script(reply)
    params = {"temperature": 0.5, "max_tokens": 77, "seed": 3}
    settings = {"steps": 3, "errors": 5, "seed": 1}
    first = run(method, task, model.llm(cache=cache, params=params), **settings)

    assert "OPENAI_API_KEY=unused" in seen.read_text()
    assert "distinctive" not in seen.read_text()
    assert [correct(step) for step in first.steps] == [2, 4, 6, 8]
    assert [len(step.examples) for step in first.steps] == [0, 5, 5, 5]
    assert all(step.accepted for step in first.steps) and not first.usage.failures
    assert first.settings.items() >= settings.items()
    changed = [n.name for n, old in zip(first.graph, LIAR) if n.instruction.count("Carry.") == 3]
    assert changed == [node.name for node in LIAR if node.trainable]
    calls = {row["phase"]: row["calls"] for row in first.usage.rows()}
    library = {"backward": 3 * 5 * GRADIENTS, "update": 3 * 4}
    library = library if method == "textgrad" else {"update": 3}
    assert calls == {"forward": 4 * 12 * 5, **library}
    asked = [phase(body) for body in model.asked]
    for row in first.usage.rows():
        assert row["live"] == asked.count(row["phase"])
    assert all(body.items() >= params.items() for body in model.asked)

    silent, copies = script("Nobody asks."), [tmp_path / "copy", tmp_path / "second"]

    async def replayed(folder):
        llm = silent.llm(cache=ResponseCache(folder, mode="replay"), params=params)
        return await optimise(method, task, Language(llm, llm), **settings)

    async def all_replayed():
        return await asyncio.gather(*map(replayed, copies))

    for folder in copies:
        cache.copy(folder)
    one, two = asyncio.run(all_replayed())
    assert not silent.asked
    assert one.to_dict() == two.to_dict()
    assert without_sources(one) == without_sources(first)


def test_what_textgrad_cannot_use_is_a_failed_step_that_leaves_no_trace(task, script, cache):
    rubbish, empty = "I would rather not.", "<IMPROVED_VARIABLE> </IMPROVED_VARIABLE>"
    worse = "<IMPROVED_VARIABLE>Guess.</IMPROVED_VARIABLE>"
    nothing = {"message": {"role": "assistant", "content": None}}
    updates = (None, rubbish, None, None, empty, nothing, *[worse] * 3)
    model = script(in_turn(*updates)).llm(cache=cache)
    found = run("textgrad", task, model, steps=5)
    assert [step.accepted for step in found.steps] == [True, False, False, False, False, True]
    assert [correct(step) for step in found.steps] == [2, None, None, None, 0, 4]
    problems = ["could not be indexed.*I would rather not", "gave '' as the instruction", "None"]
    for step, problem in zip(found.steps[1:4], problems):
        assert all(re.search(problem, kept) for kept in step.kept.values()) and len(step.kept) == 3
    assert len(found.usage.failures) == 3
    for old, new in zip(task.graph, found.graph):
        assert new.instruction == f"{old.instruction} Carry."


def test_what_optoprime_cannot_use_is_counted_and_leaves_no_trace(task, script, cache):
    def suggesting(text, node):
        def says(body):
            suggestion = json.loads(reply(body))["suggestion"]
            return json.dumps({"suggestion": suggestion | {f"{node}_instruction0": text}})

        return says

    refused = httpx2.Response(400, json={"error": {"message": "there is no JSON mode"}})
    dropped, empty = suggesting("Use no undefined words.", "hint_1"), suggesting("", "answer")
    nothing = {"message": {"role": "assistant", "content": None}}
    model = script(in_turn(refused, dropped, "TERMINATE", "I would rather not.", empty, nothing))
    found = run("optoprime", task, model.llm(cache=cache), steps=6)
    assert [step.accepted for step in found.steps] == [True, True, True, False, False, False, True]
    assert [correct(step) for step in found.steps] == [2, 4, 4, None, None, None, 6]
    lost = {"hint_1": "the library took the suggestion for Python and dropped it"}
    assert [step.kept for step in found.steps[:3]] == [{}, lost, {}]
    problems = ["that could be used: 'I would rather not.'", "gave '' as the instruction", "None"]
    for step, problem in zip(found.steps[3:6], problems):
        assert all(problem in kept for kept in step.kept.values()) and len(step.kept) == 3
    assert len(found.usage.failures) == 4
    counts = [node.instruction.count("Carry.") for node in found.graph]
    assert counts == [1, 2, 2]  # the first was dropped once
    asked = [body for body in model.asked if phase(body) == "update"]
    assert ["response_format" in body for body in asked[:3]] == [True, False, True]


def test_a_missing_recording_of_the_coach_is_that_error(task, script, cache, tmp_path):
    model, nobody = script(reply), script("Nobody asks.")
    empty = ResponseCache(tmp_path / "empty", mode="replay")
    with pytest.raises(CacheMiss):
        run("textgrad", task, model.llm(cache=cache), nobody.llm(cache=empty), steps=3)
    assert not nobody.asked and len(model.asked) == 12 * 3  # the start graph, and no step


@pytest.mark.parametrize("method", ["textgrad", "optoprime"])
def test_the_simulated_coach_answers_in_the_form_that_the_library_wants(method, task, cache):
    model = LLM.simulated(task, cache=cache)
    found = run(method, task, model, steps=2)
    assert len(found.steps) == 3 and not found.usage.failures
    for step in found.steps[1:]:
        assert all(
            new.instruction != old.instruction for new, old in zip(step.candidate, task.graph)
        )
