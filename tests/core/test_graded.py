"""Graded scores: means, intervals and gates follow the kind of score; feedback sees the reply."""

import asyncio
from dataclasses import replace

import numpy
import pytest
import scipy.stats
from conftest import Script

from semback import Example, Language, ParameterError, Task, backward, descend, evaluate, forward
from semback.run import Score, Scores, wilson


def share(answer, example):
    """The share of the expected words that an answer has."""
    expected = example.answer.split()
    return sum(word in answer.split() for word in expected) / len(expected)


@pytest.fixture
def graded(task):
    examples = [Example(f"q/{i}", f"Question {i}", "red green blue") for i in range(8)]
    return Task("colours", examples[:5], examples[5:], task.graph, score=share)


def says(body):
    system, user = (message["content"] for message in body["messages"][:2])
    if '<gradient to="hint_1">' in user:
        return '<gradient to="hint_1">\nA\n</gradient>\n<gradient to="hint_2">\nB\n</gradient>'
    if "<instruction>" in user:
        return "<instruction>\nName all colours.\n</instruction>"
    odd = int(user.split("Question ")[1][0]) % 2
    return "red green" + " blue" * ("all" in system) if odd else "red"


def scored(task, script):
    model = script.llm()
    return asyncio.run(evaluate(task.graph, task.train, task, Language(model)))


def test_scores_are_means_with_a_bootstrap_interval(graded):
    found = scored(graded, Script(says))
    values = [row.correct for row in found.rows]
    assert values == pytest.approx([1 / 3, 2 / 3, 1 / 3, 2 / 3, 1 / 3])
    assert found.graded and found.accuracy == pytest.approx(numpy.mean(values))
    expected = scipy.stats.bootstrap((values,), numpy.mean, method="BCa", rng=0)
    assert found.interval == pytest.approx(tuple(expected.confidence_interval))
    assert "46.7 %" in repr(found) or "46.7%" in repr(found)


def test_zeros_and_ones_are_still_yes_and_no():
    found = Scores(tuple(Score(str(i), "", "", float(i < 3)) for i in range(5)))
    assert not found.graded and found.interval == wilson(3, 5) and found.accuracy == 0.6


def test_equal_scores_have_an_interval_of_one_point():
    found = Scores(tuple(Score(str(i), "", "", 0.5) for i in range(5)))
    assert found.interval == (0.5, 0.5)


def test_a_descent_improves_a_graded_score(graded):
    model = Script(says).llm()
    result = asyncio.run(descend(graded, Language(model, model), steps=1))
    assert result.steps[1].accepted and result.steps[1].scores.accuracy == pytest.approx(3 / 5)
    assert set(result.steps[1].examples) <= {example.id for example in graded.train}
    assert result.comparisons[1].gains == 2


def test_the_score_of_a_task_that_says_right_or_wrong_is_that(task):
    example = task.train[0]
    assert task.grade(example.answer, example) is True and task.grade("no", example) is False
    never = replace(task, correct=lambda answer, example: False)
    assert never.grade(example.answer, example) is False


@pytest.mark.parametrize("wrong", [1.5, -0.1, float("nan"), None, "0.5"])
def test_a_score_that_is_none_is_refused_with_the_example(graded, wrong):
    task = replace(graded, score=lambda answer, example: wrong)
    with pytest.raises(ParameterError, match="score function of 'colours' returned"):
        scored(task, Script(says))


def test_feedback_may_see_the_trace(graded):
    def feedback(example, trace):
        missing = set(example.answer.split()) - set(trace.answer.split())
        return f"It should also name {' and '.join(sorted(missing))}."

    task, script = replace(graded, feedback=feedback), Script(says)
    model = script.llm()
    asyncio.run(descend(task, Language(model, model), steps=1, errors=1))
    told = [str(body) for body in script.asked if '<gradient to="hint_1">' in str(body)]
    assert told and all("It should also name blue" in text for text in told)

    async def by_hand():
        lang = Language(model, model)
        trace = await forward(task.graph, task.train[0], lang)
        return await backward(trace, task.feedback(task.train[0], trace), lang)

    assert dict(asyncio.run(by_hand()))["answer"] == "It should also name blue and green."


@pytest.mark.parametrize("wrong", [lambda example: None, lambda example, trace: " "])
def test_feedback_without_text_is_refused(graded, wrong):
    model = Script(says).llm()
    with pytest.raises(ParameterError, match="feedback returned"):
        asyncio.run(descend(replace(graded, feedback=wrong), Language(model, model), steps=1))
