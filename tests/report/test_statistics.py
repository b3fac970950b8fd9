"""Intervals and tests: against published examples, scipy, and truths known by construction."""

import numpy as np
import pandas
import pytest
from scipy import stats
from statsmodels.stats.contingency_tables import mcnemar as mcnemar_of_statsmodels

from semback.report import statistics
from semback.run import wilson


def rows(*seeds, task="sums"):
    """Rows as in `results.frame`, one for each seed: correct (1), wrong (0), not asked (None)."""
    found = []
    for seed, answers in enumerate(seeds):
        scores = {id: float(each) for id, each in enumerate(answers) if each is not None}
        low, high = wilson(sum(scores.values()), len(scores))
        score = {"accuracy": sum(scores.values()) / len(scores), "low": low, "high": high}
        found.append({"seed": seed, "task": task, "scores": scores, **score})
    return pandas.DataFrame(found)


def test_wilson_is_the_interval_of_scipy_and_the_published_one():
    low, high = wilson(8, 10)  # Newcombe, Statistics in Medicine 1998
    assert (round(low, 3), round(high, 3)) == (0.490, 0.943)
    for correct, questions in ((0, 10), (3, 7), (81, 263), (10, 10)):
        of_scipy = stats.binomtest(correct, questions).proportion_ci(method="wilson")
        assert wilson(correct, questions) == pytest.approx(of_scipy)


def test_one_seed_has_the_interval_of_its_questions():
    estimate = statistics.pooled(rows([1, 1, 0, 1]))
    assert estimate == (0.75, *wilson(3, 4), "Wilson over questions")


@pytest.mark.parametrize("other", [[1, 1, 0, 1], [0, 1, 1, 1]], ids=["same", "same accuracy"])
def test_seeds_that_do_not_differ_have_the_interval_of_the_questions_of_one(other):
    assert statistics.pooled(rows([1, 1, 0, 1], other)) == statistics.pooled(rows([1, 1, 0, 1]))


def test_several_seeds_have_the_t_interval_of_their_values():
    value, low, high, interval = statistics.pooled(rows([1, 1, 0, 0], [1, 0, 0, 0], [1, 1, 1, 0]))
    expected = stats.ttest_1samp([0.5, 0.25, 0.75], 0).confidence_interval(0.95)
    assert (value, interval) == (0.5, "t over 3 seeds")
    assert (low, high) == pytest.approx((max(expected.low, 0), min(expected.high, 1)))


def test_seeds_with_questions_of_their_own_have_the_mean_of_their_accuracies():
    apart = rows([1, 1, 0, 1, None, None], [None, None, 0, 1, 0, 0])  # 75 and 25 %
    assert statistics.pooled(apart).accuracy == 0.5


def test_intervals_stay_within_what_an_accuracy_can_be():
    value, low, high, _ = statistics.pooled(rows([1] * 10, [0] + [1] * 9, [1] * 10))
    assert 0 <= low < value < high == 1


def test_intervals_over_seeds_hold_the_truth_as_often_as_they_say():
    chance, held, times = np.random.default_rng(1), 0, 1000
    for _ in range(times):
        _, low, high, _ = statistics.over_seeds(list(chance.normal(0.6, 0.05, 3)))
        held += low <= 0.6 <= high
    assert 0.93 <= held / times <= 0.97


@pytest.mark.parametrize(
    "table, published",
    [
        # Bentur et al. 2009, in Fagerland, Lydersen and Laake, Statistics in Medicine 2014
        ((1, 1, 7, 12), (-0.507, -0.026)),
        # Altman et al., Statistics with Confidence, 2000, table 6.2
        ((14, 5, 0, 22), (0.011, 0.226)),
    ],
)
def test_newcombe_is_the_published_interval(table, published):
    assert tuple(round(limit, 3) for limit in statistics.newcombe(*table)) == published


def test_newcombe_is_reversed_with_its_methods_and_never_empty():
    low, high = statistics.newcombe(30, 5, 2, 9)
    assert statistics.newcombe(30, 2, 5, 9) == pytest.approx((-high, -low))
    for table in ((10, 0, 0, 0), (0, 0, 0, 10), (5, 0, 0, 5)):
        low, high = statistics.newcombe(*table)
        assert low < 0 < high and low == pytest.approx(-high)


@pytest.mark.parametrize("first, second", [(0, 0), (3, 0), (5, 2), (4, 4), (1, 7)])
def test_mcnemar_is_the_exact_test_of_statsmodels(first, second):
    expected = mcnemar_of_statsmodels([[1, first], [second, 1]], exact=True).pvalue
    assert statistics.mcnemar(first, second) == pytest.approx(min(expected, 1))


def test_the_detectable_difference_is_that_of_the_published_formula():
    """Connor, Biometrics 1987: n = (z_a √d + z_b √(d - δ²))² / δ²."""
    for questions in (50, 250, 1319):
        difference = statistics.detectable(questions)
        root = 1.959964 * 0.2**0.5 + 0.841621 * (0.2 - difference**2) ** 0.5
        assert (root / difference) ** 2 == pytest.approx(questions, rel=1e-4)
    few = statistics.detectable(10)  # then more than 20 % of the answers have to change
    root = 1.959964 * few**0.5 + 0.841621 * (few - few**2) ** 0.5
    assert few > 0.2 and (root / few) ** 2 == pytest.approx(10, rel=1e-4)
    assert np.isnan(statistics.detectable(3)) and statistics.detectable(100, 0.05) < 0.1


@pytest.mark.parametrize("questions", [150, 230, 1319])
def test_the_detectable_difference_is_found_four_times_in_five(questions):
    chance, difference, times = np.random.default_rng(2), statistics.detectable(questions), 4000
    gained = (0.2 + difference) / 2
    gains, losses, _ = chance.multinomial(questions, (gained, 0.2 - gained, 0.8), times).T
    of_scores = np.abs(gains - losses) / np.maximum(gains + losses, 1) ** 0.5
    assert np.mean(of_scores > 1.959964) == pytest.approx(0.8, abs=0.03)
    exact = [statistics.mcnemar(*map(int, pair)) < 0.05 for pair in zip(gains[:400], losses[:400])]
    assert 0.65 < np.mean(exact) < 0.84


def test_one_seed_is_compared_by_mcnemar_and_newcombe():
    one, other = rows([1] + [1] + [0] * 7 + [0] * 12), rows([1] + [0] + [1] * 7 + [0] * 12)
    found = statistics.paired(one, other)
    counts = [found[name] for name in ("both", "only_variant", "only_against", "neither")]
    assert counts == [1, 1, 7, 12] and found["questions"] == 21 and found["seeds"] == 1
    # Bentur et al. 2009: the exact conditional test, in Fagerland et al. 2014
    assert found["p"] == pytest.approx(0.0703, abs=5e-5) and found["test"] == "McNemar"
    assert found["difference"] == pytest.approx(-6 / 21)
    assert (found["low"], found["high"]) == statistics.newcombe(*counts)
    assert found["interval"] == "Newcombe over questions"


def test_several_seeds_are_compared_by_the_paired_t_test_of_scipy():
    chance = np.random.default_rng(0)
    one, other = (chance.random((4, 50)) < p for p in (0.8, 0.6))
    found = statistics.paired(rows(*one.tolist()), rows(*other.tolist()))
    expected = stats.ttest_rel(one.mean(axis=1), other.mean(axis=1))
    assert found["test"] == "paired t test" and found["interval"] == "t over 4 seeds"
    assert found["p"] == pytest.approx(expected.pvalue)
    assert (found["low"], found["high"]) == pytest.approx(expected.confidence_interval())
    assert found["difference"] == pytest.approx(one.mean() - other.mean())
    assert sum(found[name] for name in ("both", "only_variant", "only_against", "neither")) == 200


def test_several_seeds_are_compared_on_what_both_methods_answered():
    one = rows([1, 1, 1, 0, None], [1, 1, 0, 1, 1])
    other = rows([1, 0, 0, 1, 1], [0, 1, 0, 0, None])
    found = statistics.paired(one, other)
    assert found["seeds"] == 2 and found["questions"] == 4
    counts = [found[name] for name in ("both", "only_variant", "only_against", "neither")]
    assert counts == [2, 4, 1, 1] and found["difference"] == pytest.approx((0.25 + 0.5) / 2)


def test_methods_with_the_same_answers_are_not_certainly_alike():
    one = rows([1, 1, 0, 0, 1, 0], [1, 0, 0, 1, 0, 1])
    found = statistics.paired(one, one)
    assert found["difference"] == 0 and found["p"] == 1 and found["low"] < 0 < found["high"]
    assert (found["low"], found["high"]) == statistics.newcombe(3, 0, 0, 3)


def test_methods_that_share_no_question_are_not_compared():
    assert statistics.paired(rows([1, 0]), rows([None, None, 1])) == {}
    assert statistics.paired(rows([1, 0], task="a"), rows([1, 0], task="b")) == {}


def test_seeds_that_lack_files_are_left_out():
    whole = pandas.concat([rows([1, 0], [1, 1], task="a"), rows([0, 0], task="b")])
    assert list(statistics.complete(whole)["seed"]) == [0, 0]
    assert statistics.paired(whole, whole)["seeds"] == 1


def test_the_order_of_rows_changes_nothing():
    table = rows([1, 1, 0, 1, 1, 0], [1, 0, 0, 1, 1, 0])
    assert statistics.pooled(table) == statistics.pooled(table.iloc[::-1])
