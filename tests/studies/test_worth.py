"""Headroom and coupling, on models whose truth is known."""

import asyncio
import random
import re

import numpy
import pandas
import pytest
from conftest import Script
from scipy.stats import binom
from statsmodels.stats.anova import AnovaRM

from semback import Language, ParameterError, worth
from semback.gate import significant
from semback.studies.gates import gates
from semback.studies.worth import coupling, headroom


def adder(right):
    """A model that adds correctly where right(hints, answer node's instruction, first number)."""

    def says(body):
        system, user = (message["content"] for message in body["messages"])
        if "End with" not in system:
            return "careful" if "careful" in system else "plain"
        a, b = map(int, re.search(r"(\d+) \+ (\d+)", user).groups())
        return f"Answer: {a + b if right(user, system, a) else 999}"

    return Script(says)


def language(right, cache=None):
    return Language(adder(right).llm(cache=cache))


def test_headroom_is_what_other_words_change_beyond_a_second_evaluation(task):
    lang = language(lambda user, system, a: a % 2 == 0 or "careful" in user)
    words = [{"hint_1": "Be careful."}, {"hint_2": "Give a step."}]
    found = asyncio.run(headroom(task, lang, words))
    assert found["accuracy"].tolist() == [0.5, 0.5, 1.0, 0.5]
    assert found["changed"].tolist() == [0, 0, 0.5, 0]
    assert found.loc["paraphrase 1", "p"] == pytest.approx(2 / 2**6)
    assert found.loc["start, once more", "p"] == 1


def test_a_noisy_model_shows_in_the_null_control(task):
    dice = random.Random(0)
    found = asyncio.run(headroom(task, language(lambda *_: dice.random() < 0.5), []))
    assert found.loc["start, once more", "changed"] > 0


def noisy(probability):
    """Whether an answer is right, drawn by the probability that its prompt has."""
    dice = random.Random(1)

    def right(user, system, a):
        return dice.random() < probability("careful" in user, "slow" in system)

    return right


WORDS = {"hint_1": ["Give a step.", "Be careful."], "answer": ["Solve it.", "Be slow."]}


@pytest.mark.parametrize(
    "probability, coupled",
    [
        (lambda careful, slow: 0.1 + 0.4 * careful + 0.4 * slow, False),
        (lambda careful, slow: 0.9 if careful == slow else 0.1, True),
        (lambda careful, slow: 0.9 if careful and slow else 0.1, True),
    ],
)
def test_coupling_tells_sums_from_interactions(task, probability, coupled):
    model = language(noisy(probability))
    found = asyncio.run(coupling(task, model, WORDS, [*task.train, *task.test]))
    assert found.accuracy.shape == (2, 2) and list(found.anova.index) == [*WORDS, "interaction"]
    assert (found.p < 0.05) is coupled and 0 < found.power < 1


def test_the_analysis_of_variance_is_that_of_statsmodels(task, monkeypatch):
    seen = []
    monkeypatch.setattr(worth, "_analysed", lambda *given: seen.append(given))
    words = {"hint_1": ["Give a step.", "Be careful.", "Try."], "answer": ["Solve it.", "Be slow."]}
    right = noisy(lambda careful, slow: 0.3 + 0.3 * careful + 0.2 * slow)
    asyncio.run(coupling(task, language(right), words))
    ((scores, *names),) = seen
    monkeypatch.undo()
    rows = [
        {"first": i, "second": j, "question": k, "score": score}
        for (i, j, k), score in numpy.ndenumerate(scores)
    ]
    model = AnovaRM(pandas.DataFrame(rows), "score", "question", within=["first", "second"])
    expected = model.fit().anova_table.to_numpy()
    assert worth._analysed(scores, *names).anova.to_numpy() == pytest.approx(expected)


def test_without_any_noise_an_interaction_is_certain(task):
    found = asyncio.run(coupling(task, language(lambda user, *_: "careful" in user), WORDS))
    assert found.power == 1 and found.anova.loc["hint_1", "F"] > 1e9


def test_coupling_is_that_of_two_nodes(task):
    with pytest.raises(ParameterError, match="two nodes"):
        asyncio.run(coupling(task, language(lambda *_: True), {"hint_1": ["a", "b"]}))


@pytest.mark.slow
def test_gates_accept_useless_updates_at_most_at_their_level():
    found = gates(questions=[20, 50], trials=300).set_index(["gate", "churn", "gain"])
    for level in (0.2, 0.05):
        useless = found.xs((f"significant, level {level}", 0.0), level=["gate", "gain"])
        assert (useless["low"] <= level).all()
    strict, careful = found.loc["strict"], found.loc["significant, level 0.2"]
    assert (strict["accepted"] >= careful["accepted"]).all()
    assert (strict.xs(0.0, level="gain")["accepted"] > 0.1).all()


@pytest.mark.slow
@pytest.mark.parametrize(
    "gain, percent", [(0.0, (4, 10, 13)), (0.1, (37, 72, 96)), (0.2, (74, 98, 100))]
)
def test_the_power_of_the_gate_is_what_its_documentation_says(gain, percent):
    questions = 20, 50, 128
    found = gates(questions, [gain], churns=[0.2], trials=400).set_index(["gate", "questions"])
    for number, share, row in zip(
        questions, percent, found.loc["significant, level 0.2"].itertuples()
    ):
        exact = passes(number, gain, churn=0.2, level=0.2)
        assert round(100 * exact) == share and row.low <= exact <= row.high
    words = " ".join((significant.__doc__ or "").split())
    assert "{}, {} and {} %".format(*percent) in words


def passes(questions, gain, churn, level):
    """How likely an exact sign test passes, half of the answers being right before the update."""
    better = (1 - churn / 2) * gain + churn / 4
    worse = churn / 4 * (1 - 2 * gain)
    changed = numpy.arange(questions + 1)[:, None]
    gains = numpy.arange(questions + 1)
    p = binom.sf(gains - 1, changed, 0.5)
    weight = binom.pmf(changed, questions, better + worse)
    weight = weight * binom.pmf(gains, changed, better / (better + worse))
    return weight[(gains <= changed) & (p <= level)].sum()
