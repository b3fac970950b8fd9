"""Intervals: against published examples and closed forms, and as often right as they say where the truth is known."""

import numpy as np
import pandas
import pytest
from scipy.stats import norm, t

from semback import intervals


def rows(*seeds, task="sums"):
    """Rows as `results.frame` has them: one for each seed, whose answers are right (1), wrong (0) or not there (None)."""
    return pandas.DataFrame([{"seed": number, "task": task, "right": {i: bool(each) for i, each in enumerate(right) if each is not None}}
                             for number, right in enumerate(seeds)])


def simulated(chance, seeds, questions, spread, ease=0.0):
    """Answers of a Rasch model, seeds × questions: the log odds of each are a seed's ability and a question's ease."""
    ability = chance.normal(1, spread, (seeds, 1))
    return (chance.random((seeds, questions)) < 1 / (1 + np.exp(-ability - ease))).astype(float)


def test_wilson_is_the_published_interval():
    low, high = intervals.wilson(8, 10)  # Newcombe, Statistics in Medicine 1998, and statsmodels' proportion_confint
    assert (round(low, 3), round(high, 3)) == (0.490, 0.943)
    assert intervals.wilson(0, 10)[0] == 0 and intervals.wilson(10, 10)[1] == 1


@pytest.mark.parametrize("table, published", [
    ((1, 1, 7, 12), (-0.507, -0.026)),  # Bentur et al. 2009, in Fagerland, Lydersen and Laake, Statistics in Medicine 2014
    ((14, 5, 0, 22), (0.011, 0.226)),  # Altman et al., Statistics with Confidence, 2000, table 6.2
])
def test_newcombe_is_the_published_interval(table, published):
    assert tuple(round(limit, 3) for limit in intervals.newcombe(*table)) == published


def test_newcombe_turns_round_with_its_methods_and_is_never_empty():
    low, high = intervals.newcombe(30, 5, 2, 9)
    assert intervals.newcombe(30, 2, 5, 9) == pytest.approx((-high, -low))
    for table in ((10, 0, 0, 0), (0, 0, 0, 10), (5, 0, 0, 5)):
        low, high = intervals.newcombe(*table)
        assert low < 0 < high and low == pytest.approx(-high)


def test_the_bootstrap_over_questions_alone_is_the_binomial_distribution():
    values = intervals.redrawn([np.array([[1.0] * 30 + [0.0] * 20])])  # one seed: shares of Binomial(50, 0.6)
    assert values.mean() == pytest.approx(0.6, abs=0.002)
    assert values.std() == pytest.approx((0.6 * 0.4 / 50) ** 0.5, rel=0.03)


def test_the_bootstrap_over_seeds_alone_has_the_standard_error_of_their_mean():
    shares = np.array([[0.5], [0.6], [0.8], [0.9]])  # one question, so that nothing but the seeds varies
    student = t.ppf(0.975, 3) / norm.ppf(0.975)  # with four seeds
    assert intervals.redrawn([shares]).std() == pytest.approx(student * shares.std(ddof=1) / 4**0.5, rel=0.03)


def test_the_two_levels_add_up():
    table = simulated(np.random.default_rng(0), 5, 80, 0.6)
    parts = table.mean(axis=0), table.mean(axis=1), table
    questions, seeds, whole = (part.var() for part in parts)  # Owen 2007: what the draw of each adds, and of both together
    both = seeds / 5 + questions / 80 + (whole - seeds - questions) / (5 * 80)
    by_seeds = (both - questions / 80) * 5 / 4
    widened = questions / 80 + by_seeds
    student = t.ppf(0.975, 4 / (by_seeds / widened) ** 2) / norm.ppf(0.975)  # Satterthwaite
    assert intervals.redrawn([table]).var() == pytest.approx(student**2 * widened, rel=0.05)


def test_files_are_drawn_apart_and_count_alike():
    small, large = np.array([[1.0] * 5 + [0.0] * 5]), np.array([[1.0] * 100])
    values = intervals.redrawn([small, large])
    assert values.mean() == pytest.approx(0.75, abs=0.005) and values.std() == pytest.approx((0.25 / 10) ** 0.5 / 2, rel=0.03)


def test_intervals_over_seeds_hold_the_truth_as_often_as_they_say(monkeypatch):
    monkeypatch.setattr(intervals, "DRAWS", 999)
    chance, held, held_by_seeds, times = np.random.default_rng(1), 0, 0, 300
    truth = simulated(np.random.default_rng(0), 1000, 1000, 0.25, np.random.default_rng(1).normal(0, 1.5, 1000)).mean()
    for _ in range(times):
        table = simulated(chance, 3, 120, 0.25, chance.normal(0, 1.5, 120))
        low, high = intervals.limits(intervals.redrawn([table]))
        held += low <= truth <= high
        held_by_seeds += min(table.mean(axis=1)) <= truth <= max(table.mean(axis=1))  # what a bootstrap over three seeds alone spans
    assert 0.93 <= held / times <= 1
    assert held_by_seeds / times < 0.8


def test_equal_methods_are_seldom_told_apart(monkeypatch):
    monkeypatch.setattr(intervals, "DRAWS", 999)
    chance, alarms, times = np.random.default_rng(2), 0, 100
    for _ in range(times):
        ease = chance.normal(0, 1.5, 200)
        one, other = (simulated(chance, 3, 200, 0.4, ease) for _ in range(2))
        alarms += intervals.paired(rows(*one.tolist()), rows(*other.tolist()))["p"] < 0.05
    assert alarms / times <= 0.08


@pytest.mark.parametrize("agreed, right", [([[1, 1, 0, 1]] * 3, 3), ([[1, 1, None], [None, 1, 1]], 3), ([[0, None], [None, 0]], 0)])
def test_seeds_that_agree_have_the_interval_of_their_questions(agreed, right):
    accuracy, low, high, kind = intervals.pooled(rows(*agreed))
    asked = len(agreed[0])
    assert kind == "Wilson over questions" and (accuracy, low, high) == (right / asked, *intervals.wilson(right, asked))


def test_seeds_with_questions_of_their_own_have_the_mean_of_their_accuracies():
    apart = rows([1, 1, 0, 1, None, None], [None, None, 0, 1, 0, 0])  # alike where they meet: 75 and 25 %, and 50 % of the six
    for score in (intervals.pooled, intervals.mean_over_files):
        accuracy, low, high, kind = score(apart)
        assert kind == "bootstrap over 2 seeds and their questions" and accuracy == pytest.approx(0.5) and low < 0.5 < high
    uneven = rows([1, 1, 0, 1, None, None], [None, None, 0, 1, 0, 1])  # 75 and 50 %, and 67 % of the six
    assert intervals.pooled(uneven)[0] == pytest.approx(0.625)


def test_the_difference_of_two_accuracies_is_that_of_the_comparison():
    chance = np.random.default_rng(3)
    for _ in range(50):
        asked = np.where(chance.random((3, 12)) < 0.7, 1, None)
        one, other = (np.where(asked == 1, chance.integers(0, 2, (1, 12)), None) for _ in range(2))
        one, other = rows(*one.tolist()), rows(*other.tolist())
        apart = intervals.pooled(one)[0] - intervals.pooled(other)[0]
        assert intervals.paired(one, other)["difference"] == pytest.approx(apart)


def test_methods_with_the_same_answers_are_not_surely_alike():
    one = rows([1, 1, 0, 0, 1], [1, 0, 0, 1, 0])
    found = intervals.paired(one, one)
    assert found["difference"] == 0 and found["p"] == 1 and found["low"] < 0 < found["high"]
    assert (found["low"], found["high"]) == intervals.newcombe(2.5, 0, 0, 2.5)


def test_seeds_that_differ_have_an_interval_of_both_levels():
    accuracy, low, high, kind = intervals.pooled(rows([1, 1, 0, 1, 1, 0], [1, 0, 0, 1, 1, 0]))
    assert kind == "bootstrap over 2 seeds and their questions" and accuracy == pytest.approx(7 / 12) and low < 7 / 12 < high
    assert low < 3 / 6 and high > 4 / 6  # wider than the seeds' range


def test_intervals_stay_within_what_an_accuracy_can_be():
    _, low, high, _ = intervals.pooled(rows([1] * 5, [1] * 4 + [0], [1] * 5))
    assert 0 <= low < high <= 1


def test_one_seed_is_compared_by_mcnemar_and_newcombe():
    one, other = rows([1] + [1] + [0] * 7 + [0] * 12), rows([1] + [0] + [1] * 7 + [0] * 12)
    found = intervals.paired(one, other)
    assert [found[name] for name in ("both", "only_variant", "only_against", "neither")] == [1, 1, 7, 12]
    assert found["p"] == pytest.approx(0.0703, abs=5e-5)  # Bentur et al. 2009: the exact conditional test, in Fagerland et al. 2014
    assert found["test"] == "McNemar" and found["questions"] == 21 and found["difference"] == pytest.approx(-6 / 21)
    assert (found["low"], found["high"]) == intervals.newcombe(1, 1, 7, 12)


@pytest.mark.parametrize("first, second", [(0, 0), (3, 0), (5, 2), (4, 4)])
def test_mcnemar_is_the_share_of_coin_throws_that_are_as_uneven(first, second):
    n = first + second
    heads = [bin(throws).count("1") for throws in range(2**n)]  # every way the questions could have fallen
    uneven = sum(abs(each - n / 2) >= abs(first - n / 2) for each in heads) / 2**n
    one, other = rows([1] * first + [0] * second + [1]), rows([0] * first + [1] * second + [1])
    assert intervals.paired(one, other)["p"] == pytest.approx(uneven)


def test_several_seeds_are_compared_on_what_both_methods_were_asked():
    one, other = rows([1, 1, 1, 0, None], [1, 1, 0, 1, 1]), rows([1, 0, 0, 0, 1], [0, 1, 0, 0, None])
    found = intervals.paired(one, other)
    assert found["seeds"] == 2 and found["questions"] == 4 == found["different"] and found["test"] == "bootstrap"
    assert [found[name] for name in ("both", "only_variant", "only_against", "neither")] == [2, 4, 0, 2]
    assert found["difference"] == pytest.approx(0.5) and found["low"] < 0.5 < found["high"] <= 1


def test_a_difference_over_seeds_is_paired():
    chance = np.random.default_rng(0)
    hard = chance.normal(0, 3, 200)
    one = simulated(chance, 3, 200, 0.1, hard)
    other = np.where(chance.random(one.shape) < 0.05, 0, one)  # the same answers, but for a few
    found = intervals.paired(rows(*one.tolist()), rows(*other.tolist()))
    apart = [intervals.pooled(rows(*each.tolist())) for each in (one, other)]
    assert found["high"] - found["low"] < 0.7 * min(high - low for _, low, high, _ in apart)
    assert found["p"] < 0.05


def test_methods_that_share_no_question_are_not_compared():
    assert intervals.paired(rows([1, 0]), rows([None, None, 1])) == {}


def test_intervals_are_the_same_every_time_and_in_any_order():
    table = rows([1, 1, 0, 1, 1, 0], [1, 0, 0, 1, 1, 0])
    assert intervals.pooled(table) == intervals.pooled(table) == intervals.pooled(table.iloc[::-1])
