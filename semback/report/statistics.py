"""How certain an accuracy or a difference between two is: 95 % intervals and paired tests.

`detectable` tells before a run which difference it can find.

With one seed, or seeds whose values do not differ, the test questions are the sample: Wilson's
interval; for two methods on the same questions, Newcombe's interval and McNemar's exact test. With
several seeds, their values are the sample: Student's t interval and the paired t test. Such an
interval covers what another seed would change on these questions; with two seeds it is very wide.
Graded scores have bootstrap intervals and a permutation test.

Functions take rows of `results.frame`.
"""

from collections.abc import Sequence
from statistics import mean
from typing import Any, NamedTuple

from pandas import DataFrame

from ..run import bootstrap, interval, wilson

CHANGED = 0.2  # of the answers, from one method to another; an assumption, used by default


class Estimate(NamedTuple):
    """A mean score with its 95 % interval, and the kind of that interval in words."""

    accuracy: float
    low: float
    high: float
    interval: str


def over_seeds(values: Sequence[float], least: float = 0.0) -> Estimate:
    """The mean of two or more seeds' values with Student's t interval, clipped to [least, 1]."""
    from scipy.stats import ttest_1samp

    low, high = ttest_1samp(values, 0).confidence_interval(0.95)
    limits = max(float(low), least), min(float(high), 1.0)
    return Estimate(mean(values), *limits, f"t over {len(values)} seeds")


def pooled(rows: DataFrame) -> Estimate:
    """The accuracy over all questions of a seed, averaged over seeds."""
    seeds = [_scores(seed) for _, seed in rows.groupby("seed")]
    values = [mean(scores) for scores in seeds]
    if len(set(values)) > 1:
        return over_seeds(values)
    return Estimate(values[0], *interval(seeds[0]))


def paired(one: DataFrame, other: DataFrame) -> dict[str, Any]:
    """Compare two methods on the questions that both answered with the same seed.

    Parameters
    ----------
    one, other : DataFrame
        Rows of one variant and stage each. Seeds that lack files are left out.

    Returns
    -------
    dict
        seeds; questions (of one seed); both, only_variant, only_against, neither: answers that
        both, one or neither gave correctly, over the seeds that the test uses; difference of the
        accuracies with low, high and the kind of `interval`; p and the `test` it comes from. For
        graded scores, `only_variant` and `only_against` count higher scores, and `both` full marks.
        Empty if the methods share no question.
    """
    from scipy.stats import ttest_1samp

    shared = one.merge(other, on=["seed", "task"], suffixes=("", "_other"))
    seeds = [_pairs(seed) for _, seed in complete(shared).groupby("seed")]
    seeds = [pairs for pairs in seeds if pairs]
    if not seeds:
        return {}
    found: dict[str, Any] = {"seeds": len(seeds), "questions": max(map(len, seeds))}
    differences = [mean(first - second for first, second in pairs) for pairs in seeds]
    several = len(set(differences)) > 1
    pairs = [pair for seed in seeds for pair in seed] if several else seeds[0]
    higher, lower = (sum(a > b for a, b in pairs), sum(a < b for a, b in pairs))
    counts = [pairs.count((1, 1)), higher, lower]
    counts.append(len(pairs) - sum(counts))
    found |= zip(("both", "only_variant", "only_against", "neither"), counts)
    if several:
        _, low, high, kind = over_seeds(differences, least=-1.0)
        p, test = ttest_1samp(differences, 0).pvalue, "paired t test"
    else:
        p, test = over_questions(pairs)
        if test == "McNemar":
            (low, high), kind = newcombe(*counts), "Newcombe over questions"
        else:
            changes = [first - second for first, second in pairs]
            (low, high), kind = bootstrap(changes), "bootstrap over questions"
    found |= {"difference": mean(differences), "low": low, "high": high}
    return found | {"interval": kind, "p": float(p), "test": test}


def over_questions(pairs: Sequence[tuple[float, float]]) -> tuple[float, str]:
    """The two-sided p value of two methods' scores on the same questions, and its test."""
    from numpy import mean as average
    from scipy.stats import permutation_test

    if {score for pair in pairs for score in pair} <= {0.0, 1.0}:
        return mcnemar(pairs.count((1, 0)), pairs.count((0, 1))), "McNemar"
    changes = [first - second for first, second in pairs]
    test = permutation_test((changes,), average, permutation_type="samples", rng=0)
    return float(test.pvalue), "permutation"


def mcnemar(first: int, second: int) -> float:
    """The two-sided p value of McNemar's exact test, from the numbers of questions that only the
    first or only the second of two methods answered correctly."""
    from scipy.stats import binomtest

    return float(binomtest(first, first + second).pvalue) if first + second else 1.0


def detectable(questions: int, changed: float = CHANGED) -> float:
    """The smallest difference between two accuracies that McNemar's test finds with 80 % power.

    Parameters
    ----------
    questions : int
        Answered by both methods.
    changed : float
        The proportion of questions that exactly one of them answers correctly, from 0 to 1, or the
        difference itself if that is larger.

    Returns
    -------
    float
        From 0 to 1, at the two-sided level of 5 %; NaN if no difference can be found with so few
        questions.

    References
    ----------
    R. J. Connor, Biometrics 43 (1987), 207, for the asymptotic test; the exact test, which we use,
    has slightly less power.
    """
    from scipy.optimize import brentq
    from scipy.stats import norm

    level, power = float(norm.ppf(0.975)), float(norm.ppf(0.8))

    def excess(difference: float) -> float:
        """How many more questions than there are would be needed to find the difference."""
        share = max(changed, difference)
        root = level * share**0.5 + power * (share - difference**2) ** 0.5
        return (root / difference) ** 2 - questions

    return float("nan") if excess(1.0) > 0 else float(brentq(excess, 1e-9, 1.0))


def newcombe(both: int, first: int, second: int, neither: int) -> tuple[float, float]:
    """The 95 % interval of the difference between two proportions of the same questions.

    Parameters
    ----------
    both, first, second, neither : int
        Questions that both methods, only the first, only the second and neither answered correctly.

    Returns
    -------
    (float, float)
        Limits of the first proportion minus the second.

    References
    ----------
    Newcombe, Statistics in Medicine 17 (1998), 2635, method 10.
    """
    n, one, two = both + first + second + neither, both + first, both + second
    excess = both * neither - first * second
    if excess > 0:
        excess = max(excess - n / 2, 0)
    margins = one * (n - one) * two * (n - two)
    phi = excess / margins**0.5 if margins else 0.0
    (low_1, high_1), (low_2, high_2) = wilson(one, n), wilson(two, n)
    down, up = (one / n - low_1, high_2 - two / n), (high_1 - one / n, two / n - low_2)
    below, above = ((a * a - 2 * phi * a * b + b * b) ** 0.5 for a, b in (down, up))
    return (first - second) / n - below, (first - second) / n + above


def complete(rows: DataFrame) -> DataFrame:
    """The rows of the seeds that ran the most files, so that all seeds score the same files."""
    files = {seed: frozenset(tasks) for seed, tasks in rows.groupby("seed")["task"]}
    most = max(files.values(), key=len, default=frozenset())
    return rows[rows["seed"].isin([seed for seed, tasks in files.items() if tasks == most])]


def _scores(rows: DataFrame) -> list[float]:
    return [score for scores in rows["scores"] for score in scores.values()]


def _pairs(rows: DataFrame) -> list[tuple[float, float]]:
    columns = zip(rows["scores"], rows["scores_other"])
    return [(one[id], other[id]) for one, other in columns for id in one if id in other]
