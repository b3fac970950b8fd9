"""Intervals: against published examples and closed forms, and as often right as they say where the truth is known."""

import numpy as np
import pandas
import pytest
from scipy.stats import norm, t

from semback.report import statistics as intervals


def rows(*seeds, task="sums"):
    """Rows as `results.frame` has them: one for each seed, whose answers are right (1), wrong (0) or not there (None)."""
    return pandas.DataFrame(
        [
            {
                "seed": number,
                "task": task,
                "right": {i: bool(each) for i, each in enumerate(right) if each is not None},
            }
            for number, right in enumerate(seeds)
        ]
    )


def simulated(chance, seeds, questions, spread, ease=0.0):
    """Answers of a Rasch model, seeds × questions: the log odds of each are a seed's ability and a question's ease."""
    ability = chance.normal(1, spread, (seeds, 1))
    return (chance.random((seeds, questions)) < 1 / (1 + np.exp(-ability - ease))).astype(float)


def test_wilson_is_the_published_interval():
    low, high = intervals.wilson(
        8, 10
    )  # Newcombe, Statistics in Medicine 1998, and statsmodels' proportion_confint
    assert (round(low, 3), round(high, 3)) == (0.490, 0.943)
    assert intervals.wilson(0, 10)[0] == 0 and intervals.wilson(10, 10)[1] == 1


@pytest.mark.parametrize(
    "table, published",
    [
        (
            (1, 1, 7, 12),
            (-0.507, -0.026),
        ),  # Bentur et al. 2009, in Fagerland, Lydersen and Laake, Statistics in Medicine 2014
        (
            (14, 5, 0, 22),
            (0.011, 0.226),
        ),  # Altman et al., Statistics with Confidence, 2000, table 6.2
    ],
)
def test_newcombe_is_the_published_interval(table, published):
    assert tuple(round(limit, 3) for limit in intervals.newcombe(*table)) == published


def test_newcombe_turns_round_with_its_methods_and_is_never_empty():
    low, high = intervals.newcombe(30, 5, 2, 9)
    assert intervals.newcombe(30, 2, 5, 9) == pytest.approx((-high, -low))
    for table in ((10, 0, 0, 0), (0, 0, 0, 10), (5, 0, 0, 5)):
        low, high = intervals.newcombe(*table)
        assert low < 0 < high and low == pytest.approx(-high)


def test_the_variances_are_those_of_the_mean_squares():
    table = simulated(
        np.random.default_rng(0), 5, 80, 0.6, np.random.default_rng(1).normal(0, 1.5, 80)
    )
    shares, by_questions, noise = intervals.variances([table])
    left = table - table.mean(axis=0) - shares[:, None] + table.mean()
    assert list(shares) == pytest.approx(list(table.mean(axis=1)))
    assert by_questions - 0.25 / 80**2 == pytest.approx(
        table.mean(axis=0).var(ddof=1) / 80
    )  # mean square of questions / (5 * 80)
    assert noise == pytest.approx(
        (left**2).sum() / (4 * 79) / (5 * 80)
    )  # mean square of the interaction / (5 * 80)


def test_questions_that_no_other_seed_had_are_noise():
    apart = np.full((2, 8), np.nan)
    apart[0, :4], apart[1, 4:] = (1, 1, 0, 1), (0, 1, 0, 1)
    _, by_questions, noise = intervals.variances([apart])
    assert noise == pytest.approx(8 / 7 * (3 * 0.25**2 + 0.75**2 + 4 * 0.5**2) / 4**2 / 2**2)
    assert by_questions == pytest.approx(noise + 0.25 / 8**2)


def test_files_are_drawn_apart_and_count_alike():
    small, large = (
        simulated(np.random.default_rng(0), 3, 10, 0.6),
        simulated(np.random.default_rng(1), 3, 100, 0.6),
    )
    both, apart = (
        intervals.variances([small, large]),
        [intervals.variances([table]) for table in (small, large)],
    )
    assert list(both[0]) == pytest.approx(list((small.mean(axis=1) + large.mean(axis=1)) / 2))
    coins = 0.25 / 10**2, 0.25 / 100**2, 0.25 / 110**2
    assert both[1] - coins[2] == pytest.approx(
        (apart[0][1] - coins[0] + apart[1][1] - coins[1]) / 4
    )
    assert both[2] == pytest.approx((apart[0][2] + apart[1][2]) / 4)


def test_seeds_count_by_student_and_questions_by_the_normal_distribution():
    shares = np.array([0.5, 0.6, 0.8, 0.9])
    far = t.ppf(0.975, 3) * shares.std(ddof=1) / 2
    assert intervals.over_runs(shares) == pytest.approx((0.7 - far, min(0.7 + far, 1)))
    assert intervals.reach(shares, 0.01, 0) == pytest.approx(
        (far**2 + norm.ppf(0.975) ** 2 * 0.01) ** 0.5
    )  # Howe 1974
    assert intervals.reach(np.full(4, 0.7), 0.01, 0.004) == pytest.approx(norm.ppf(0.975) * 0.1)


def test_an_interval_of_seeds_is_wilsons_of_as_many_questions():
    table = simulated(
        np.random.default_rng(0), 3, 4000, 0.0
    )  # as good as no seed, no question harder than others: 12,000 answers
    accuracy, low, high, _ = intervals.pooled(rows(*table.tolist()))
    assert (low, high) == pytest.approx(intervals.wilson(accuracy * 12_000, 12_000), abs=0.002)
    accuracy, low, high, _ = intervals.pooled(rows([1] * 63 + [0], [1] * 64, [1] * 64))
    assert accuracy - low > 2 * (high - accuracy) > 0 and high < 1


@pytest.mark.parametrize("questions, spread", [(60, 0.0), (200, 0.4)])
def test_intervals_over_seeds_hold_the_truth_as_often_as_they_say(questions, spread):
    chance, held, held_by_seeds, times = np.random.default_rng(1), 0, 0, 250
    truth = simulated(
        np.random.default_rng(0),
        1000,
        1000,
        spread,
        np.random.default_rng(2).normal(0, 1.5, (1000, 1000)),
    ).mean()
    for _ in range(times):
        table = simulated(chance, 3, questions, spread, chance.normal(0, 1.5, questions))
        accuracy, low, high, _ = intervals.pooled(rows(*table.tolist()))
        held += low <= truth <= high
        held_by_seeds += (
            min(table.mean(axis=1)) <= truth <= max(table.mean(axis=1))
        )  # what three seeds alone span
    assert 0.93 <= held / times <= 0.99
    assert held_by_seeds / times < 0.8


def test_seeds_with_questions_of_their_own_hold_it_as_often():
    chance, held, times = np.random.default_rng(5), 0, 200
    truth = simulated(
        np.random.default_rng(0),
        1000,
        1000,
        0.2,
        np.random.default_rng(2).normal(0, 1.5, (1000, 1000)),
    ).mean()
    for _ in range(times):
        table = simulated(chance, 3, 62, 0.2, chance.normal(0, 1.5, 62))
        for mine in table:
            mine[chance.permutation(62)[44:]] = np.nan
        _, low, high, _ = intervals.pooled(rows(*np.where(np.isnan(table), None, table).tolist()))
        held += low <= truth <= high
    assert 0.93 <= held / times


def test_equal_methods_are_seldom_told_apart_and_others_more_often_than_with_one_seed():
    chance, alarms, found, by_one, times = np.random.default_rng(2), 0, 0, 0, 60
    for _ in range(times):
        ease = chance.normal(0, 1.5, 64)
        one, other, worse = (
            rows(*simulated(chance, 5, 64, 0.1, ease - less).tolist()) for less in (0, 0, 0.9)
        )
        alarms += intervals.paired(one, other)["p"] < 0.05
        found += intervals.paired(one, worse)["p"] < 0.05
        by_one += intervals.paired(one[:1], worse[:1])["p"] < 0.05
    assert alarms / times <= 0.08 and found > 1.3 * by_one > 0


def test_p_is_below_5_percent_where_the_interval_excludes_0():
    chance, below = np.random.default_rng(3), 0
    for seeds in (2, 3, 5) * 15:
        one, other = (rows(*simulated(chance, seeds, 30, 0.3, less).tolist()) for less in (0, -0.8))
        found = intervals.paired(one, other)
        below += found["p"] < 0.05
        assert (found["p"] < 0.05) == (not found["low"] <= 0 <= found["high"]) and 0 < found[
            "p"
        ] <= 1
    assert 5 < below < 40


@pytest.mark.parametrize(
    "agreed, right",
    [([[1, 1, 0, 1]] * 3, 3), ([[1, 1, None], [None, 1, 1]], 3), ([[0, None], [None, 0]], 0)],
)
def test_seeds_that_agree_have_the_interval_of_their_questions(agreed, right):
    accuracy, low, high, kind = intervals.pooled(rows(*agreed))
    asked = len(agreed[0])
    assert kind == "Wilson over questions" and (accuracy, low, high) == (
        right / asked,
        *intervals.wilson(right, asked),
    )


def test_seeds_with_questions_of_their_own_have_the_mean_of_their_accuracies():
    apart = rows(
        [1, 1, 0, 1, None, None], [None, None, 0, 1, 0, 0]
    )  # alike where they meet: 75 and 25 %, and 50 % of the six
    for score in (intervals.pooled, intervals.mean_over_files):
        accuracy, low, high, kind = score(apart)
        assert (
            kind == "t over 2 seeds and their questions"
            and accuracy == pytest.approx(0.5)
            and low < 0.5 < high
        )
    uneven = rows(
        [1, 1, 0, 1, None, None], [None, None, 0, 1, 0, 1]
    )  # 75 and 50 %, and 67 % of the six
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
    assert (
        kind == "t over 2 seeds and their questions"
        and accuracy == pytest.approx(7 / 12)
        and low < 7 / 12 < high
    )
    assert low < 3 / 6 and high > 4 / 6  # wider than the seeds' range


@pytest.mark.parametrize(
    "answers",
    [([1] * 5, [1] * 4 + [0], [1] * 5), ([1, 0], [0, 1]), ([1, 1], [0, 0]), ([1, 0], [0, 1]) * 2],
)
def test_intervals_stay_within_what_an_accuracy_can_be_and_are_never_empty(answers):
    accuracy, low, high, _ = intervals.pooled(rows(*answers))
    assert 0 <= low < accuracy < high <= 1
    found = intervals.paired(rows(*answers), rows(*([0] * len(answers[0]) for _ in answers)))
    assert -1 <= found["low"] < found["difference"] and found["low"] < found["high"] <= 1


def test_one_seed_is_compared_by_mcnemar_and_newcombe():
    one, other = rows([1] + [1] + [0] * 7 + [0] * 12), rows([1] + [0] + [1] * 7 + [0] * 12)
    found = intervals.paired(one, other)
    assert [found[name] for name in ("both", "only_variant", "only_against", "neither")] == [
        1,
        1,
        7,
        12,
    ]
    assert found["p"] == pytest.approx(
        0.0703, abs=5e-5
    )  # Bentur et al. 2009: the exact conditional test, in Fagerland et al. 2014
    assert (
        found["test"] == "McNemar"
        and found["questions"] == 21
        and found["difference"] == pytest.approx(-6 / 21)
    )
    assert (found["low"], found["high"]) == intervals.newcombe(1, 1, 7, 12)


@pytest.mark.parametrize("first, second", [(0, 0), (3, 0), (5, 2), (4, 4)])
def test_mcnemar_is_the_share_of_coin_throws_that_are_as_uneven(first, second):
    n = first + second
    heads = [
        bin(throws).count("1") for throws in range(2**n)
    ]  # every way the questions could have fallen
    uneven = sum(abs(each - n / 2) >= abs(first - n / 2) for each in heads) / 2**n
    one, other = rows([1] * first + [0] * second + [1]), rows([0] * first + [1] * second + [1])
    assert intervals.paired(one, other)["p"] == pytest.approx(uneven)


def test_several_seeds_are_compared_on_what_both_methods_were_asked():
    one, other = (
        rows([1, 1, 1, 0, None], [1, 1, 0, 1, 1]),
        rows([1, 0, 0, 0, 1], [0, 1, 0, 0, None]),
    )
    found = intervals.paired(one, other)
    assert (
        found["seeds"] == 2
        and found["questions"] == 4 == found["different"]
        and found["test"] == "t test"
    )
    assert [found[name] for name in ("both", "only_variant", "only_against", "neither")] == [
        2,
        4,
        0,
        2,
    ]
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
