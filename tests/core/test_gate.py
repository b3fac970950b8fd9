"""Gates: what they accept, how often they are wrong, and what a Run says of them."""

import asyncio
import random
import re
from dataclasses import replace

import numpy
import pytest
import scipy.stats
from conftest import Script, adder

from semback import Language, ParameterError, Run, control, descend, evaluate, figures
from semback.gate import compare, gate_function
from semback.run import Score, Scores


def scores(values):
    return Scores(tuple(Score(str(i), "", "", value) for i, value in enumerate(values)))


def drawn(generator, questions, share):
    return scores([generator.random() < share for _ in range(questions)])


@pytest.mark.parametrize(
    "old, new, strict, p",
    [
        ([False] * 4, [True, False, False, False], True, 0.5),
        ([True, False, False], [False, True, True], True, 0.5),
        ([True, False], [False, True], False, 0.75),
        ([False] * 6, [True] * 6, True, 1 / 64),
        ([True] * 3, [True] * 3, False, 1.0),
    ],
)
def test_a_gate_of_yes_and_no_is_mcnemars_exact_test(old, new, strict, p):
    old, new = scores(old), scores(new)
    seen = compare(old, new)
    assert gate_function("strict")(old, new) is strict and gate_function("off")(old, new)
    assert seen.p == pytest.approx(p)
    if changed := seen.gains + seen.losses:
        exact = scipy.stats.binomtest(seen.gains, changed, alternative="greater").pvalue
        assert seen.p == pytest.approx(exact)
    assert seen.gains + seen.losses + seen.ties == len(old.rows)
    assert gate_function("significant", 0.2)(old, new) is (p <= 0.2)


def test_graded_scores_are_compared_by_a_permutation_test():
    generator = numpy.random.default_rng(0)
    old = generator.random(9)
    new = numpy.clip(old + generator.normal(0.1, 0.2, 9), 0, 1)
    seen = compare(scores(map(float, old)), scores(map(float, new)))
    signs = numpy.array(numpy.meshgrid(*[[1, -1]] * 9)).reshape(9, -1)
    every = signs.T @ (new - old)
    assert seen.p == pytest.approx(numpy.mean(every >= (new - old).sum() - 1e-12), abs=0.005)
    assert seen.gains == (new > old).sum()


@pytest.mark.slow
@pytest.mark.parametrize("questions", [20, 50, 128])
def test_a_useless_update_passes_the_gate_at_most_as_often_as_its_level_says(questions):
    generator, trials, level = random.Random(questions), 2000, 0.2
    gate = gate_function("significant", level)
    luck = gate_function("strict")
    pairs = [
        (drawn(generator, questions, 0.5), drawn(generator, questions, 0.5)) for _ in range(trials)
    ]
    accepted = sum(gate(*pair) for pair in pairs)
    assert accepted <= scipy.stats.binom.ppf(0.999, trials, level)
    assert sum(luck(*pair) for pair in pairs) / trials > 0.4
    better = [(old, drawn(generator, questions, 0.8)) for old, _ in pairs[:200]]
    assert sum(gate(*pair) for pair in better) > 150


@pytest.mark.parametrize("gate", ["Strict", "yes", 1, None, 0.2])
def test_another_gate_is_refused(gate):
    with pytest.raises(ParameterError, match="gate"):
        gate_function(gate)


@pytest.mark.parametrize("level", [0, 1, -0.1, "0.2", True, float("nan")])
def test_a_level_is_a_probability(level):
    with pytest.raises(ParameterError, match="level"):
        gate_function("significant", level)


# In a descent


def run(task, script, **settings):
    model = script.llm()
    return asyncio.run(descend(task, Language(model, model), steps=1, **settings))


def test_the_gate_may_be_a_function_and_the_run_says_what_it_saw(task):
    seen = []

    def most(old, new):
        seen.append((old.correct, new.correct))
        return new.correct >= 7

    result = run(task, adder(lambda system, a: a < (8 if "Carry" in system else 6)), gate=most)
    assert seen == [(6, 8)] and result.steps[1].accepted and result.settings["gate"] == "most"
    start, step = result.comparisons
    assert start is None and (step.gains, step.losses, step.ties, step.p) == (2, 0, 10, 0.25)
    row = result.to_frame().loc[1]
    assert (row.gains, row.losses, row.ties, row.p) == (2, 0, 10, 0.25)


@pytest.mark.parametrize("gate, settings", [("strict", {"gate": True}), ("off", {"gate": False})])
def test_the_old_spellings_of_a_gate_mean_the_same(task, gate, settings):
    right = adder(lambda system, a: a % 2 == 0)
    old, new = run(task, right, **settings), run(task, right, gate=gate)
    assert old == new and old.to_dict() == new.to_dict()


def test_two_lucky_answers_are_not_significant(task):
    two_more = adder(lambda system, a: a < (8 if "Carry" in system else 6))
    assert run(task, two_more, gate="strict").steps[1].accepted
    result = run(task, two_more, gate="significant")
    assert not result.steps[1].accepted
    assert run(task, two_more, gate="significant", level=0.25).steps[1].accepted


def test_validation_questions_are_for_the_gate_alone(task, tmp_path):
    script = adder(lambda system, a: a % 2 == 0 or ("Carry" in system and a == 11))
    result = run(task, script, validate=4)
    held_out = {example.id for example in task.train[-4:]}
    step = result.steps[1]
    assert (
        {row.id for row in step.validation.rows}
        == held_out
        == {"sum/8", "sum/9", "sum/10", "sum/11"}
    )
    assert {row.id for row in step.scores.rows} == {example.id for example in task.train[:-4]}
    assert not held_out & set(step.examples) and step.accepted
    assert [row["correct"] for row in result.training] == [2, 3]
    assert result.settings["validate"] == 4
    backward = [body for body in script.asked if "<gradient" in str(body)]
    assert backward and not any(f"What is {n} +" in str(body) for n in (9, 11) for body in backward)
    result.save(tmp_path / "run.json")
    assert Run.load(tmp_path / "run.json") == result
    figure = figures.learning_curve(result).figure
    assert figure.get_supylabel() == "accuracy on validation questions"
    assert "validation questions" in repr(result)


def test_what_validation_rejects_is_not_evaluated_on_the_training_questions(task):
    result = run(
        task, adder(lambda system, a: a % 2 == 0 or ("Carry" in system and a < 4)), validate=4
    )
    assert not result.steps[1].accepted and result.steps[1].scores is None
    assert result.steps[1].validation.correct == 2


@pytest.mark.parametrize("validate", [-1, 12, 13, 2.0, True])
def test_validation_leaves_a_question_for_gradients(task, validate):
    with pytest.raises(ParameterError, match="validate"):
        run(task, adder(lambda system, a: True), validate=validate)


def test_the_best_graph_may_be_another_than_the_last(task):
    worse = adder(lambda system, a: a < (2 if "Carry" in system else 6))
    result = run(task, worse, gate="off")
    assert result.graph != task.graph and result.best == task.graph


# Null control


def noisy(rate):
    """A model that answers half correctly, and flips a share `rate` of its answers at each draw."""
    count = iter(range(10**9))

    def says(body):
        user = body["messages"][1]["content"]
        a, b = map(int, re.search(r"(\d+) \+ (\d+)", user).groups())
        flip = random.Random(f"{next(count)}").random() < rate
        return f"Answer: {a + b if (a % 2 == 0) != flip else 999}"

    return Script(says)


def test_a_control_asks_anew_at_temperature_0_and_shows_the_noise(task, cache):
    script = noisy(0.3)
    model = script.llm(cache=cache)
    lang = Language(model, model)
    result = asyncio.run(descend(task, lang, steps=0))
    before = asyncio.run(evaluate(task.graph, task.test, task, lang))
    calls = len(script.asked)
    found = asyncio.run(control(result, task, lang))
    assert len(script.asked) == 2 * calls  # no reply came from a recording of the run
    changed = [one.correct != other.correct for one, other in zip(before.rows, found.test.rows)]
    assert any(changed) and found.accepted is (
        found.update.correct > result.steps[0].scores.correct
    )
    assert found.seen == compare(result.steps[0].scores, found.update)
    assert asyncio.run(control(result, task, lang)).test.rows == found.test.rows  # it is recorded
    assert len(script.asked) == 2 * calls


def test_a_control_is_of_the_runs_own_task(task):
    result = run(task, adder(lambda system, a: True))
    model = adder(lambda system, a: True).llm()
    with pytest.raises(ParameterError, match="another task"):
        asyncio.run(control(result, replace(task, name="other"), Language(model, model)))


def test_draws_of_a_seed_are_its_own_at_temperature_0_if_that_is_wanted(task, cache):
    script = noisy(0.0)
    for draws, calls in (("sampling", 36), ("seed", 72)):
        for seed in (0, 1):
            model = script.llm(cache=cache)
            lang = Language(model, model, draws=draws)
            result = asyncio.run(descend(task, lang, steps=0, seed=seed))
            assert result.settings.get("draws", "sampling") == draws
        assert len({str(body) for body in script.asked}) == len(script.asked) or draws == "seed"
        assert len(script.asked) == calls
