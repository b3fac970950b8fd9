"""Descent: what is accepted and counted; a run is the same in whatever order replies arrive."""

import asyncio
import json
import random
import re
from dataclasses import replace

import httpx2
import pytest
from conftest import Script, gradients

from semback import (
    DataError,
    Example,
    Language,
    ModelError,
    ParameterError,
    PromptTooLong,
    ResponseCache,
    Run,
    descend,
    evaluate,
    tasks,
)
from semback.language import CUT
from semback.llm.simulated import Student, dice


def world(right, new="<instruction>\nCarry the one.\n</instruction>", said="Be exact."):
    """A model that adds correctly where right(system prompt, first number); as coach, `said`."""

    def says(body):
        system, user = (message["content"] for message in body["messages"][:2])
        if reply := gradients(user, said):
            return reply
        if "<instruction>" in user:
            return new
        a, b = map(int, re.search(r"(\d+) \+ (\d+)", user).groups())
        return (
            "A hint."
            if "End with" not in system
            else f"Answer: {a + b if right(system, a) else 999}"
        )

    return Script(says)


def language(script, cache=None, settings=None, **llm):
    model = script.llm(cache=cache, **llm)
    return Language(model, model, **settings or {})


def run(task, script, settings=None, **arguments):
    return asyncio.run(descend(task, language(script, settings=settings), **arguments))


def half(system, a):
    return a % 2 == 0


def carries(system, a):
    return "Carry" in system or a % 2 == 0


@pytest.mark.parametrize(
    "task, said, answer",
    [
        (tasks.gsm8k(train=2), "She had 16 eggs. 16 - 3 - 4 = 9", None),
        (tasks.gsm8k(train=2), "Answer: 9\n\nTo be sure, I check", "9"),
        (tasks.liar(train=2), "It may be one: Yes", None),
        (tasks.bbh("date_understanding", train=2), "Let me look at option (A)", None),
    ],
)
def test_what_stands_where_a_reply_was_cut_is_no_answer_unless_it_was_announced(task, said, answer):
    script = Script({"finish_reason": "length", "message": {"role": "assistant", "content": said}})
    scores = asyncio.run(evaluate(task.graph, task.train[:1], task, language(script)))
    (row,), (trace,) = scores.rows, scores.traces.values()
    assert row.answer == answer and all(value == said + CUT for value in trace.values.values())
    result = run(replace(task, train=task.train[:1]), script, steps=0)
    assert re.search(r"\d+ cut", repr(result)) and result.steps[0].scores.rows == scores.rows


# What is kept


@pytest.mark.parametrize(
    "right, gate, accepted",
    [
        pytest.param(carries, True, True, id="better"),
        pytest.param(lambda system, a: (a < 6) != ("Carry" in system), True, False, id="equal"),
        pytest.param(lambda system, a: a < 6 and "Carry" not in system, True, False, id="worse"),
        pytest.param(
            lambda system, a: (a < 6) != ("Carry" in system),
            False,
            True,
            id="equal without the gate",
        ),
        pytest.param(
            lambda system, a: a < 6 and "Carry" not in system,
            False,
            True,
            id="worse without the gate",
        ),
    ],
)
def test_the_gate_keeps_a_new_graph_only_where_it_is_strictly_better(task, right, gate, accepted):
    result = run(task, world(right), steps=1, gate=gate)
    assert result.steps[1].accepted is accepted and result.graph == result.steps[accepted].candidate
    assert {node.instruction for node in result.steps[1].candidate.nodes} == {"Carry the one."}
    assert ("Carry the one." in result.diff()) is accepted


def test_it_stops_when_nothing_is_wrong_any_more(task):
    result = run(task, world(carries), steps=4)
    assert (
        len(result.steps) == 2
        and result.steps[1].scores.accuracy == 1
        and "every training example" in result.stopped
    )
    nothing_to_do = world(lambda system, a: True)
    result = run(task, nothing_to_do, steps=4)
    assert (
        len(result.steps) == 1 and result.graph == task.graph and len(nothing_to_do.asked) == 3 * 12
    )


@pytest.mark.slow
def test_examples_are_drawn_by_the_seed_among_the_wrong_ones_or_any(task):
    def chosen(**arguments):
        return [step.examples for step in run(task, world(half), steps=3, **arguments).steps[1:]]

    wrong = {example.id for i, example in enumerate(task.train) if i % 2}
    assert (
        chosen(seed=1) == chosen(seed=1) and len({str(chosen(seed=seed)) for seed in range(4)}) > 1
    )
    assert all(len(set(step)) == 2 and set(step) <= wrong for step in chosen())
    assert [len(step) for step in chosen(errors=50)] == [6, 6, 6]
    assert set(chosen(among="any", errors=12)[0]) == {example.id for example in task.train}


def test_only_trainable_or_named_nodes_change(task):
    def changed(graph=task.graph, **arguments):
        new = run(replace(task, graph=graph), world(half), steps=1, gate=False, **arguments).graph
        return [node.name for node in new.nodes if node.instruction != graph[node.name].instruction]

    fixed = replace(
        task.graph, nodes=(*task.graph.nodes[:2], replace(task.graph["answer"], trainable=False))
    )
    assert changed(trainable=["hint_2"]) == ["hint_2"] and changed(fixed) == ["hint_1", "hint_2"]


def test_draw_between_lets_the_seed_choose_old_or_new_for_each_node(task):
    kept = [
        run(task, world(half), steps=1, draw_between=True, seed=seed).steps[1].kept
        for seed in range(8)
    ]
    assert {len(each) for each in kept} >= {1, 2} and {
        reason for each in kept for reason in each.values()
    } == {"drew the old one"}
    assert run(task, world(half), steps=1, draw_between=True, seed=0).steps[1].kept == kept[0]


def test_without_gradients_nothing_is_propagated_and_updates_see_none(task):
    script = world(half)
    result = run(task, script, {"gradient": False}, steps=1, gate=False)
    assert {phase for phase, _ in result.usage.counts} == {"forward", "update"} and result.steps[
        1
    ].gradients == {}
    updates = [
        body["messages"][1]["content"]
        for body in script.asked
        if "<instruction>" in body["messages"][1]["content"]
    ]
    assert (
        len(updates) == 3
        and not any("```gradient" in text for text in updates)
        and {len(result.steps[1].kept)} == {0}
    )


def test_an_instruction_that_cannot_be_read_keeps_the_old_one_and_is_counted(task):
    result = run(task, world(half, new="Carry the one."), steps=1, gate=False)
    step = result.steps[1]
    assert step.candidate == task.graph and not step.accepted and step.scores is None
    assert step.kept == dict.fromkeys(task.graph.order, "the new one could not be read")
    assert (
        sorted(each["node"] for each in result.usage.failures)
        == ["answer"] * 2 + ["hint_1"] * 2 + ["hint_2"] * 2
    )


def test_a_node_that_no_gradient_reached_is_not_updated_and_says_so(task):
    result = run(task, world(half, said="..."), steps=1, gate=False)
    assert result.steps[1].kept == dict.fromkeys(["hint_1", "hint_2"], "no gradient reached it")
    assert (
        result.graph["answer"].instruction == "Carry the one."
        and result.graph["hint_1"] == task.graph["hint_1"]
    )
    assert all(text is None for said in result.steps[1].messages.values() for _, _, text in said)


# Scores


def test_an_unreadable_answer_is_asked_for_once_more_and_then_wrong_and_counted(task):
    script = Script(lambda body: "Hm.")
    scores = asyncio.run(evaluate(task.graph, task.train, task, language(script)))
    assert (scores.correct, scores.unreadable, len(script.asked)) == (0, 12, 12 * 4)
    assert [each["node"] for each in scores.usage.failures] == [
        "answer"
    ] * 24  # every reply that could not be read


def test_a_second_try_that_can_be_read_counts(task):
    script = Script(
        lambda body: (
            "Answer: 0" if "could not be used" in body["messages"][-1]["content"] else "Zero."
        )
    )
    scores = asyncio.run(evaluate(task.graph, task.train[:1], task, language(script)))
    assert (scores.accuracy, scores.unreadable, scores.rows[0].reply) == (1, 0, "Answer: 0")
    assert [each["reply"] for each in scores.usage.failures] == ["Zero."]


@pytest.mark.parametrize("fails_at", [1, 30, 37, 42])
def test_a_model_error_is_raised_and_never_becomes_a_score(task, fails_at):
    script = world(half)
    says, script.says = (
        script.says,
        lambda body: httpx2.Response(500, json={}) if len(script.asked) >= fails_at else says(body),
    )
    with pytest.raises(ModelError, match="500"):
        asyncio.run(descend(task, language(script, retries=0), steps=1))


def test_an_error_in_the_tasks_own_code_is_raised_as_itself(task):
    with pytest.raises(ZeroDivisionError):
        run(replace(task, correct=lambda answer, example: 1 / 0), world(half))
    with pytest.raises(DataError, match="sums"):
        asyncio.run(evaluate(task.graph, [], task, language(world(half))))


# The Run


def test_a_run_holds_everything_and_comes_back_from_its_file_the_same(task, tmp_path):
    result = run(
        task,
        world(carries, said="Be é\u2028xact."),
        {"critique": False},
        steps=2,
        trainable=("answer", "hint_1"),
    )
    result.save(tmp_path / "new" / "run.json")
    again = Run.load(tmp_path / "new" / "run.json")
    assert (
        again == result
        and again.to_dict() == result.to_dict()
        and again.usage.counts == result.usage.counts
    )
    again.save(tmp_path / "again.json")
    assert (tmp_path / "again.json").read_bytes() == (tmp_path / "new" / "run.json").read_bytes()
    step = again.steps[1]
    assert {example: set(said) for example, said in step.gradients.items()} == dict.fromkeys(
        step.examples, set(task.graph.order)
    )
    assert list(step.messages[step.examples[0]]) == [
        ("answer", "hint_1", "Be é\u2028xact."),
        ("answer", "hint_2", "Be é\u2028xact."),
    ]
    assert [row.correct for row in again.steps[0].scores.rows] == [
        True,
        False,
    ] * 6 and again.settings["trainable"] == ["answer", "hint_1"]
    assert (
        list(again.to_frame().accuracy) == [0.5, 1]
        and again.steps[0].scores.interval[0] < 0.5 < again.steps[0].scores.interval[1]
    )


@pytest.mark.parametrize(
    "content",
    [
        "",
        "[]",
        "{}",
        '{"steps": [{}]}',
        '{"steps": [{"candidate": 1, "examples": [], "scores": []}]}',
    ],
)
def test_a_file_that_holds_no_run_is_a_data_error_that_names_it(tmp_path, content):
    (tmp_path / "x.json").write_text(content)
    with pytest.raises(DataError, match="x.json"):
        Run.load(tmp_path / "x.json")


@pytest.mark.parametrize(
    "change, said",
    [
        (lambda data: data["steps"].clear(), "no step 0"),
        (
            lambda data: data["steps"][0].update(scores=None),
            "it was accepted, and has no scores",
        ),
        (
            lambda data: data["steps"][0]["scores"][1].update(correct={}),
            r"steps.0.scores.rows.1.correct\..*: Input should be a valid bool",
        ),
        (lambda data: data.update(model=5), "model: Input should be a valid string"),
        (lambda data: data["usage"]["counts"][0].pop("phase"), "KeyError..phase"),
        (
            lambda data: data["steps"][1]["kept"].update(a=True),
            "steps.1.kept.a: Input should be a valid string",
        ),
        (
            lambda data: data["steps"][1].update(messages={"a": [["b", "c"]]}),
            "steps.1.messages.a.0.2: Field required",
        ),
    ],
)
def test_a_damaged_run_is_a_data_error_that_names_the_file_and_the_place(
    task, tmp_path, change, said
):
    data = json.loads(json.dumps(run(task, world(half), steps=1).to_dict()))
    change(data)
    for text, says in ((json.dumps(data), said), ("[" * 100_000, "RecursionError")):
        (tmp_path / "x.json").write_text(text)
        with pytest.raises(DataError, match=f"x.json does not hold a saved run: .*{says}"):
            Run.load(tmp_path / "x.json")


@pytest.mark.parametrize("cached", [True, False])
def test_the_usage_adds_up_and_every_request_that_was_made_is_live(task, cache, cached):
    script = world(half)
    result = asyncio.run(descend(task, language(script, cache if cached else None), steps=2))
    rows = result.usage.rows()
    assert [row["phase"] for row in rows] == ["backward", "forward", "update"]
    assert all(row["calls"] == row["live"] + row["recorded"] + row["repeated"] for row in rows)
    assert sum(row["live"] for row in rows) == len(script.asked)
    assert sum(row["live_prompt_tokens"] for row in rows) == 7 * len(script.asked)


# In whatever order the answers come


def student(task):
    """A script of the simulated student, whose replies are sometimes unreadable."""
    reply = Student(task, "simulated").reply
    return Script(
        lambda body: (
            f"Hm, {luck}."
            if (luck := dice(json.dumps(body, sort_keys=True))) < 0.2
            else reply(body["messages"])
        )
    )


@pytest.mark.slow
def test_order_of_arrival_and_concurrency_change_no_byte_of_a_run(task, tmp_path):
    for number, in_flight in enumerate([1, 1, 3, 64, 64, 64]):
        cache = ResponseCache(tmp_path / str(number))
        lang = language(
            student(task),
            cache,
            model="simulated",
            jitter=random.Random(number),
            in_flight=in_flight,
        )
        asyncio.run(descend(task, lang, steps=3, seed=1)).save(tmp_path / f"{number}.json")
        cache.export(tmp_path / f"{number}.jsonl")
        cache.close()
    assert len({(tmp_path / f"{number}.json").read_bytes() for number in range(6)}) == 1
    assert len({(tmp_path / f"{number}.jsonl").read_bytes() for number in range(6)}) == 1
    data = json.loads((tmp_path / "0.json").read_text())
    assert len(data["steps"]) == 4 and len(data["usage"]["failures"]) > 4


def test_a_rerun_on_the_same_cache_makes_no_request_and_gives_the_same_run(task, cache):
    first = asyncio.run(descend(task, language(world(half), cache), steps=2))
    script = world(half)
    again = asyncio.run(descend(task, language(script, cache), steps=2))
    assert (
        script.asked == []
        and again == first
        and all(row["live"] == 0 for row in again.usage.rows())
    )


@pytest.mark.parametrize("cancelled_at", [1, 20, 40, 60])
def test_a_run_that_was_cancelled_goes_on_where_it_was_and_no_request_is_made_twice(
    task, cache, cancelled_at
):
    script = student(task)

    async def interrupted():
        lang = language(script, cache, model="simulated", jitter=random.Random(0), in_flight=8)
        descent = asyncio.create_task(descend(task, lang, steps=3))
        while len(script.asked) < cancelled_at and not descent.done():
            await asyncio.sleep(0)
        assert descent.cancel()
        await asyncio.wait([descent])
        others = asyncio.all_tasks() - {asyncio.current_task()}
        await asyncio.gather(
            *(each for each in others if each.get_name() != "semback's connections")
        )  # the calls that were under way

    asyncio.run(interrupted())
    result = asyncio.run(descend(task, language(script, cache, model="simulated"), steps=3))
    assert len(script.asked) == len({json.dumps(body) for body in script.asked}) > cancelled_at
    assert result == asyncio.run(descend(task, language(student(task), model="simulated"), steps=3))


def test_seeds_draw_independently_where_the_model_samples_and_share_answers_where_it_does_not(
    task, cache
):
    for temperature, asked_again in (0, 0), (1, 36):
        counts = []
        for seed in range(2):
            script = world(half)
            asyncio.run(
                descend(
                    task,
                    language(script, cache, params={"temperature": temperature}),
                    steps=0,
                    seed=seed,
                )
            )
            counts.append(len(script.asked))
        assert counts == [36, asked_again]


@pytest.mark.parametrize(
    "wrong",
    [
        {"steps": -1},
        {"steps": 1.5},
        {"steps": "4"},
        {"errors": 0},
        {"errors": 2.5},
        {"among": "right"},
        {"seed": None},
        {"seed": -1},
        {"gate": "no"},
        {"draw_between": 1},
        {"trainable": "hint_1"},
        {"trainable": ["hint_3"]},
        {"trainable": []},
        {"trainable": 3},
        {"trainable": [["hint_1"]]},
    ],
    ids=str,
)
def test_an_argument_that_cannot_be_is_a_parameter_error_before_any_request(task, wrong):
    script = world(half)
    with pytest.raises(
        ParameterError, match=f"{[*wrong][0]}.*{re.escape(str([*wrong.values()][0]))}"
    ):
        run(task, script, **wrong)
    assert script.asked == []


@pytest.mark.parametrize(
    "place, wrong, said",
    [
        (0, "task", "graph is of type Task; it takes a Graph"),
        (1, "task", "examples is of type Task; it takes .*task.test"),
        (2, "graph", "task is of type Graph; it takes a Task"),
        (3, "model", r"lang is of type LLM; .* Language\(model, coach\)"),
    ],
)
def test_an_argument_in_the_place_of_another_is_a_parameter_error_that_says_what_belongs_there(
    task, place, wrong, said
):
    script = world(half)
    given = [task.graph, task.train, task, language(script)]
    given[place] = {"task": task, "graph": task.graph, "model": given[3].model}[wrong]
    with pytest.raises(ParameterError, match=said):
        asyncio.run(evaluate(*given))
    if place > 1:
        with pytest.raises(ParameterError, match=said):
            asyncio.run(descend(*given[2:]))
    assert script.asked == []


def test_a_descent_without_a_coach_is_a_parameter_error_before_any_request(task):
    script = world(half)
    with pytest.raises(ParameterError, match=r"descend needs a coach.* Language\(model, coach\)"):
        asyncio.run(descend(task, replace(language(script), coach=None)))
    assert script.asked == []


@pytest.mark.parametrize(
    "examples, said",
    [
        ([], "no examples"),
        (Example("a", "1 + 1?", 2), "'a': the answer is 2, which is not text"),
        (["1 + 1?"], "not an Example"),
        (
            [Example("a", "1 + 1?", "2"), Example("a", "3 + 3?", "6")],
            "two examples have the id 'a'",
        ),
    ],
    ids=str,
)
def test_examples_that_cannot_be_told_apart_or_scored_are_a_data_error_before_any_request(
    task, examples, said
):
    script = world(half)
    with pytest.raises(DataError, match=said):
        asyncio.run(evaluate(task.graph, examples, task, language(script)))
    assert script.asked == []


def test_a_read_function_that_gives_no_text_is_an_error_and_not_a_score_that_no_file_can_hold(task):
    with pytest.raises(ParameterError, match=r"the read function of .* returned \('2', 1\)"):
        run(replace(task, read=lambda reply: ("2", 1)), world(half))


# A candidate that cannot be evaluated


def short_sighted(status=400, message="This model's maximum context length is 40 tokens"):
    """A world whose model refuses prompts with the new instruction."""
    believer = world(half)

    def says(body):
        if "Carry" in body["messages"][0]["content"] and "End with" not in str(body["messages"]):
            return httpx2.Response(status, json={"error": {"message": message}})
        return believer.says(body)

    return Script(says)


@pytest.mark.parametrize(
    "settings, reason",
    [
        ({}, "prompts of 12 questions with it are too long for scripted"),
        ({"validate": 4}, "prompts of 4 questions with it are too long for scripted"),
    ],
)
def test_a_candidate_that_is_too_long_for_the_model_is_rejected_and_the_run_goes_on(
    task, cache, settings, reason
):
    script = short_sighted()
    result = asyncio.run(descend(task, language(script, cache), steps=2, **settings))
    assert [step.accepted for step in result.steps] == [True, False, False]
    assert result.steps[1].scores is None and set(result.steps[1].kept.values()) == {reason}
    calls = len(script.asked)
    cache.mode = "replay"
    again = asyncio.run(descend(task, language(script, cache), steps=2, **settings))
    assert again.to_dict()["steps"] == result.to_dict()["steps"] and len(script.asked) == calls


def test_after_a_larger_window_the_prompt_is_sent_again_and_its_reply_is_what_counts(task, cache):
    asyncio.run(descend(task, language(short_sighted(), cache), steps=1))
    refused = sum(
        entry["reply"]["finish_reason"] == "request_refused" for _, entry, _ in cache.rows()
    )
    assert refused > 0
    result = asyncio.run(descend(task, language(world(carries), cache), steps=1))
    assert result.steps[1].accepted
    assert not any(
        entry["reply"]["finish_reason"] == "request_refused" for _, entry, _ in cache.rows()
    )


def test_a_prompt_of_the_start_graph_that_is_too_long_is_an_error(task, cache):
    script = short_sighted()
    graph = task.graph.with_instructions({"hint_1": "Carry the one."})
    for _ in range(2):
        with pytest.raises(PromptTooLong, match="longer than the model's window"):
            asyncio.run(descend(replace(task, graph=graph), language(script, cache), steps=1))


@pytest.mark.parametrize("status, stays", [(422, "were refused by scripted"), (401, None)])
def test_other_refusals_of_a_candidate(task, status, stays):
    script = short_sighted(status, "The content policy refuses this.")
    if stays:
        result = run(task, script, steps=1)
        assert stays in result.steps[1].kept["hint_1"]
    else:
        with pytest.raises(ModelError, match="401"):
            run(task, script, steps=1)
