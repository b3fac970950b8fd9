"""How sure an accuracy is: 95 % intervals of one task, of tasks pooled, and of the mean of tasks.

With one seed the questions are the sample: Wilson's interval. With several the seeds are: a bootstrap over them. That is
too narrow where they are few (with three it is their range), and tells nothing of the choice of questions. The functions
take rows of `results.frame`, of one variant, split and stage, and name the kind of interval they return.
"""

from statistics import NormalDist


def wilson(correct: int, questions: int) -> tuple[float, float]:
    """Wilson's 95 % interval of a share, the questions being a sample of all such questions (Wilson, JASA 1927)."""
    z2 = NormalDist().inv_cdf(0.975) ** 2 / questions  # in closed form, since scipy takes half a second to import
    share = correct / questions
    middle, reach = (share + z2 / 2) / (1 + z2), (z2 * (share * (1 - share) + z2 / 4)) ** 0.5 / (1 + z2)
    return middle - reach if correct else 0.0, middle + reach if correct < questions else 1.0


def pooled(rows) -> tuple[float, float, float, str]:
    """Accuracy over all questions of some rows of `frame` of one split and stage: accuracy, low, high, kind of interval."""
    sums = rows.groupby("seed")[["correct", "questions"]].sum()
    if (shares := sums["correct"] / sums["questions"]).nunique() > 1:
        return _over_seeds(shares)
    correct, questions = map(int, sums.iloc[0])  # seeds that all agree tell nothing of the spread: it is one seed's questions that do
    return correct / questions, *wilson(correct, questions), "Wilson over questions"


def mean_over_files(rows) -> tuple[float, float, float, str]:
    """Like `pooled`, but the mean of the tasks' accuracies, whatever their number of questions.

    With one seed, its interval is made of the tasks' Wilson intervals (Zou, Huang and Zhang, Comput. Stat. Data Anal. 2009).
    """
    if (means := rows.groupby("seed")["accuracy"].mean()).nunique() > 1:
        return _over_seeds(means)
    one, mean = rows[rows["seed"] == means.index[0]], float(means.iloc[0])
    below, above = (float(((one["accuracy"] - one[limit]) ** 2).sum() ** 0.5 / len(one)) for limit in ("low", "high"))
    return mean, mean - below, mean + above, "Wilson, files combined"


def _over_seeds(values) -> tuple[float, float, float, str]:
    from scipy.stats import bootstrap

    interval = bootstrap((values.to_numpy(),), lambda sample, axis: sample.mean(axis), method="percentile", rng=0).confidence_interval
    return float(values.mean()), float(interval.low), float(interval.high), f"bootstrap over {len(values)} seeds"


def complete(rows):
    """The rows of the seeds that ran the most files, so that every seed's score of a group is of the same files."""
    files = rows.groupby("seed")["task"].agg(lambda tasks: tuple(sorted(set(tasks))))
    return rows[rows["seed"].isin(files[files == max(files, key=len)].index)]
