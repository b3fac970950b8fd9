"""The simulated student: always the same, plainly named, and better taught with the whole method than with a part of it."""

import asyncio
import math
import re
from dataclasses import replace

import pytest

from semback import (
    LLM,
    Example,
    Language,
    ModelError,
    ParameterError,
    backward,
    descend,
    evaluate,
    forward,
    model,
)
from semback.llm.simulated import SKILLS


def language(task, **settings):
    student = LLM.simulated(task)
    return Language(student, student, **settings)


def test_the_same_prompt_has_the_same_reply_from_any_student_of_the_name_and_task(task):
    def values(**settings):
        lang = Language(LLM.simulated(task, **settings), LLM.simulated(task))
        return [asyncio.run(forward(task.graph, example, lang)).values for example in task.test]

    assert values() == values() == values(in_flight=1) and values() != values(name="simulated-2")


def test_its_name_begins_with_simulated_and_model_takes_other_names_for_real_ones(task):
    with pytest.raises(ParameterError, match="'simulated'.*'gpt-4'"):
        LLM.simulated(task, name="gpt-4")
    with pytest.raises(ModelError, match="gpt-4.*OPENAI_API_KEY"):
        asyncio.run(model("gpt-4", task).chat([{"role": "user", "content": "Hello."}]))
    reply = asyncio.run(model("simulated-b", task).chat([{"role": "user", "content": "Hello."}]))
    assert reply.model == "simulated-b" and reply.text and reply.usage["prompt_tokens"] > 0


@pytest.mark.parametrize(
    "wrong",
    [
        {"delay": -1},
        {"delay": math.nan},
        {"delay": math.inf},
        {"failing": 1.1},
        {"failing": -0.1},
        {"failing": math.nan},
        {"unreadable": 2},
        {"delay": "long"},
        {"delay": None},
        {"failing": []},
    ],
)
def test_a_rate_that_cannot_be_is_a_parameter_error(task, wrong):
    with pytest.raises(
        ParameterError,
        match=f"{[*wrong][0]}.*(it takes a number|{re.escape(str([*wrong.values()][0]))})",
    ):
        LLM.simulated(task, **wrong)


def test_another_thing_than_a_task_or_a_name_is_a_parameter_error(task):
    for wrong in (None, "x", task.graph):
        with pytest.raises(ParameterError, match="it takes a Task"):
            LLM.simulated(wrong)
    for make in (
        lambda: LLM.simulated(task, name=None),
        lambda: model(None, task),
        lambda: model(5, task),
    ):
        with pytest.raises(ParameterError, match="None|5"):
            make()


def skills(text):
    return frozenset(words for words in SKILLS.values() if words in text)


@pytest.mark.parametrize("neighbourhood", [True, False])
def test_inputs_judged_together_are_told_different_skills_and_alone_the_same(task, neighbourhood):
    async def told():
        lang = language(task, neighbourhood=neighbourhood)
        traces = [await forward(task.graph, example, lang) for example in (*task.train, *task.test)]
        return [await backward(trace, task.feedback(task.train[0]), lang) for trace in traces]

    same = [skills(each["hint_1"]) == skills(each["hint_2"]) for each in asyncio.run(told())]
    assert (
        (sum(same) < len(same) / 3) if neighbourhood else (sum(same) > len(same) / 2)
    )  # the student misjudges now and then


def test_feedback_that_asks_for_nothing_else_names_no_skill(task):
    async def told(feedback):
        lang = language(task)
        traces = [await forward(task.graph, example, lang) for example in (*task.train, *task.test)]
        gradients = [await backward(trace, feedback, lang) for trace in traces]
        return [skills(each[name]) for each in gradients for name in ("hint_1", "hint_2")]

    named, unnamed = (
        sum(map(bool, asyncio.run(told(feedback))))
        for feedback in ("It should have been: 7", "It was right, all of it.")
    )
    assert named > 30 and unnamed < 12  # of 36; it misjudges now and then


def test_a_failing_endpoint_is_tried_again_and_changes_no_score(task):
    steady, shaky = LLM.simulated(task), LLM.simulated(task, failing=0.05)
    scores = [
        asyncio.run(evaluate(task.graph, task.train, task, Language(llm, llm)))
        for llm in (steady, shaky)
    ]
    assert scores[0] == scores[1]


def test_a_model_that_never_answers_readably_ends_in_counted_failures_and_accuracy_0(task):
    student = LLM.simulated(task, unreadable=1.0)
    run = asyncio.run(descend(task, Language(student, student), steps=2))
    assert run.graph == task.graph and [step.accepted for step in run.steps] == [True, False, False]
    assert run.steps[0].scores.accuracy == 0 and run.steps[0].scores.unreadable == 12
    assert {failure["phase"] for failure in run.usage.failures} == {"forward", "backward", "update"}
    assert set(run.steps[1].kept) == set(task.graph.order)


def test_a_model_that_now_and_then_is_unreadable_still_gives_a_run(task):
    student = LLM.simulated(task, unreadable=0.2)
    run = asyncio.run(descend(task, Language(student, student), steps=2, gate=False))
    assert 0 < len(run.usage.failures) and 0 < run.steps[0].scores.correct < 12


def test_the_whole_method_beats_what_is_left_of_it_without_gradients_or_neighbourhood(task, cache):
    """On average over four students; the dice are fixed, so this is a statement about them and not about chance."""
    examples = [
        Example(f"sum/{i}", f"What is {i} + {i * 7 % 11}?", str(i + i * 7 % 11)) for i in range(40)
    ]
    larger = replace(task, train=examples, test=())

    async def right(number, **settings):
        student = LLM.simulated(larger, cache, name=f"simulated-{number}")
        run = await descend(larger, Language(student, student, **settings), steps=4, seed=number)
        return max(step.scores.correct for step in run.steps if step.accepted)

    async def average(**settings):
        return sum([await right(number, **settings) for number in range(4)]) / 4

    full, alone, blind = (
        asyncio.run(average(**settings))
        for settings in ({}, {"neighbourhood": False}, {"gradient": False})
    )
    assert full > alone and full > blind
