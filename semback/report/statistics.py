"""How sure an accuracy, or a difference of two, is: 95 % intervals of one task, of tasks pooled, and of the mean of tasks.

With one seed the questions are a sample of all such questions: Wilson's interval, and for two methods on the same questions
Newcombe's. With several, the seeds are a sample too (`variances`, `reach`). A seed may have test questions of its own, so an accuracy
is always the mean of the seeds' accuracies, and a difference the mean of theirs. `pooled` and `mean_over_files` take test rows of
`results.frame`, of one variant and stage, and name the kind of interval they return.

How many seeds? Simulated with 2 to 10 that differ by 0 to 6 points, 20 to 1,319 questions, alike or as uneven as can be, and accuracies
of 30 to 97 %, the intervals of several seeds held the truth in 93 % or more (92 to 93 % at 97 %, where seeds differ by 2 points): half of
the settings in more than 98 % with 2 seeds, 97 % with 3 and 96 % with 5. They are wider than need be with 2 seeds or 20 questions. Equal
methods were told apart in 2 to 4 %, at most 7. A difference of 13 points on 64 questions was found with 2 seeds in 21 %, with 3 in 49 %
(55 % if seeds do not differ), with 5 in 84 % and with 10 in 99 %; with one by McNemar's test in 38 %, which says nothing of other
seeds. So three at least, and five where they can be paid.
"""

from ..run import Z, wilson

LEAST = 1e-12  # the least p that is told from 0


def newcombe(both: int, first: int, second: int, neither: int) -> tuple[float, float]:
    """The 95 % interval of the difference of two shares of the same questions (Newcombe, Stat. Med. 1998, 17:2635, method 10).

    both, first, second, neither: questions that both methods, only the first, only the second, and none answered rightly. The
    difference is the first's share less the second's.
    """
    n, one, two = both + first + second + neither, both + first, both + second
    excess, margins = both * neither - first * second, one * (n - one) * two * (n - two)
    correlation = (
        (max(excess - n / 2, 0) if excess > 0 else excess) / margins**0.5 if margins else 0.0
    )

    def reach(a, b):
        return (a * a - 2 * correlation * a * b + b * b) ** 0.5

    (low_1, high_1), (low_2, high_2) = wilson(one, n), wilson(two, n)
    difference, one, two = (first - second) / n, one / n, two / n
    return difference - reach(one - low_1, high_2 - two), difference + reach(
        high_1 - one, two - low_2
    )


def answers(rows):
    """A DataFrame of seeds × (task, question): 1.0 where rows of `frame` have a right answer, 0.0 a wrong one, NaN none."""
    import pandas

    return pandas.DataFrame(
        {
            seed: {
                (task, question): float(right)
                for task, mine in zip(runs["task"], runs["right"])
                for question, right in mine.items()
            }
            for seed, runs in rows.groupby("seed")
        }
    ).T


def alike(table) -> bool:
    """Whether the seeds in a table of `answers` tell no more than one of them: they met the same questions and answered each alike, or
    every answer is right, or every one wrong. Then each seed's accuracy is also that over the questions of all of them."""
    return bool(
        table.notna().all(axis=None)
        and (table.min() == table.max()).all()
        or table.min(axis=None) == table.max(axis=None)
    )


def variances(tables):
    """What the mean of seeds × questions varies by: the seeds' shares, the variance of their mean by the questions, the noise in it.

    An analysis of variance of two crossed random effects. The variance by the questions is that of the mean if all seeds were alike. The
    noise is the part of it that sets seeds apart too: that each answers some questions otherwise, without being better for it. A
    question that few seeds had counts with the noise as far as they do not share it. Since a few questions hardly show how uneven such
    questions are, one more counts: a coin that falls alike for all seeds.

    tables: arrays seeds × questions, NaN where a seed has no answer. The questions of each were drawn apart; their means count alike.
    """
    import numpy as np

    shares, by_questions, noise = (
        np.zeros(len(tables[0])),
        0.25 / sum(table.shape[1] for table in tables) ** 2,
        0.0,
    )
    for table in tables:
        there, mine, more = (
            ~np.isnan(table),
            np.nanmean(table, axis=1),
            table.shape[1] / max(table.shape[1] - 1, 1) / len(tables) ** 2,
        )
        gaps = (
            np.where(there, table - mine[:, None], 0) / there.sum(axis=1)[:, None]
        )  # what each answer adds to its seed's share
        shares += mine / len(tables)
        by_questions += more * float((gaps.mean(axis=0) ** 2).sum())
        noise += more * float(gaps.var(axis=0, ddof=1).sum()) / len(table)
    return shares, by_questions, noise


def reach(shares, by_questions: float, noise: float, level: float = 0.05) -> float:
    """How far the interval of 1 - level reaches from the mean of the shares of two seeds or more. The others are of `variances`, too.

    Each part has its own quantile (Howe, JASA 1974): the normal distribution's for the questions, and Student's, which is far larger, for
    the few seeds. But what seeds differ by is in part noise, of which the questions tell enough: all but 1.8 / seeds of it keeps the
    normal quantile, and no interval is narrower than if seeds were alike. With all of it there, intervals of 3 seeds would hold the truth
    in 90 % at worst; with none, they would be wider by up to a sixth. The 1.8 was found by simulation.
    """
    import numpy as np
    from scipy.special import stdtrit

    normal, student = stdtrit((np.inf, len(shares) - 1), level / 2) ** 2
    stays = (1 - 1.8 / len(shares)) * noise
    apart = max(shares.var(ddof=1) / len(shares) - stays, 0)
    return (
        float(
            max(
                normal * by_questions,
                normal * max(by_questions - noise + stays, 0) + student * apart,
            )
        )
        ** 0.5
    )


def pooled(rows) -> tuple[float, float, float, str]:
    """The mean over seeds of the accuracy over all questions of each, of test rows of `frame`: accuracy, low, high, kind of interval."""
    table = answers(rows)
    if alike(table):
        correct, questions = int(table.max().sum()), table.shape[1]
        return correct / questions, *wilson(correct, questions), "Wilson over questions"
    return _over_seeds([table])


def mean_over_files(rows) -> tuple[float, float, float, str]:
    """Like `pooled`, but the mean of the tasks' accuracies, whatever their number of questions.

    With one seed, its interval is made of the tasks' Wilson intervals (Zou, Huang and Zhang, Comput. Stat. Data Anal. 2009).
    """
    files = [answers(mine) for _, mine in rows.groupby("task")]
    if not all(map(alike, files)):
        return _over_seeds(files)
    scores = [pooled(mine)[:3] for _, mine in rows.groupby("task")]
    mean = sum(accuracy for accuracy, _, _ in scores) / len(scores)
    below, above = (
        sum((score[0] - score[limit]) ** 2 for score in scores) ** 0.5 / len(scores)
        for limit in (1, 2)
    )
    return mean, mean - below, mean + above, "Wilson, files combined"


def _over_seeds(files) -> tuple[float, float, float, str]:
    """Wilson's interval of as many questions as would reach so far: an accuracy near 0 or 1 can be further off on one side (Dean and
    Pagano, J. Surv. Stat. Methodol. 2015)."""
    shares, *spread = variances([table.to_numpy() for table in files])
    mean = float(shares.mean())
    questions = Z**2 * mean * (1 - mean) / reach(shares, *spread) ** 2
    return mean, *wilson(mean * questions, questions), _crossed(len(shares))


def over_runs(shares) -> tuple[float, float]:
    """Student's 95 % interval of the mean of runs, an array of at least two shares: the runs are the sample, whatever they were asked."""
    mean, far = float(shares.mean()), reach(shares, 0, 0)
    return max(mean - far, 0.0), min(mean + far, 1.0)


def _crossed(seeds: int) -> str:
    return f"t over {seeds} seeds and their questions"


def paired(one, other) -> dict:
    """Two methods on the questions that both were asked in the same seed.

    one, other: test rows of `frame`, of one variant and stage each. Returns seeds; questions of one seed (the most that one has), and
    how many `different` ones the seeds have together; both, only_variant, only_against, neither: how often both, only one, only the
    other and none was right, over all seeds, unless these are all alike; difference of the accuracies (the mean over the seeds), low,
    high and their `interval`; p and the `test` it is of. Empty where they share no question.
    """
    from scipy.optimize import brentq
    from scipy.stats import binomtest

    first, second = answers(one).align(answers(other), join="inner")
    asked = first.notna() & second.notna()
    first, second = (
        table.where(asked).loc[asked.any(axis=1), asked.any()] for table in (first, second)
    )
    if first.empty:
        return {}
    seeds, questions, different = len(first), int(first.notna().sum(axis=1).max()), first.shape[1]
    if certain := alike(first) and alike(second):
        first, second = (table.max().to_frame().T for table in (first, second))
    counts = [int((a * b).sum().sum()) for a in (first, 1 - first) for b in (second, 1 - second)]
    found = {
        "seeds": seeds,
        "questions": questions,
        "different": different,
        **dict(zip(("both", "only_variant", "only_against", "neither"), counts)),
    }
    _, a, b, _ = counts
    if (
        certain or not a + b
    ):  # differences that are all 0 vary by nothing; the questions are a sample all the same
        low, high = newcombe(*(count / len(first) for count in counts))
        return found | {
            "difference": (a - b) / different,
            "low": low,
            "high": high,
            "interval": "Newcombe over questions",
            "p": float(binomtest(a, a + b).pvalue) if a + b else 1.0,
            "test": "McNemar",
        }
    spread = variances([(first - second).to_numpy()])
    difference, far = float(spread[0].mean()), reach(*spread)
    p = (
        brentq(lambda level: reach(*spread, level) - abs(difference), LEAST, 1)
        if reach(*spread, LEAST) > abs(difference)
        else LEAST
    )
    return found | {
        "difference": difference,
        "low": max(difference - far, -1.0),
        "high": min(difference + far, 1.0),
        "interval": _crossed(seeds),
        "p": p,
        "test": "t test",
    }


def tested(rows):
    """The test rows among rows of `frame`: (those before the descent, those after it)."""
    test = rows[rows["split"] == "test"]
    return test[test["stage"] == "before"], test[test["stage"] == "after"]


def complete(rows):
    """The rows of the seeds that ran the most files, so that every seed's score of a group is of the same files."""
    files = rows.groupby("seed")["task"].agg(lambda tasks: tuple(sorted(set(tasks))))
    return rows[rows["seed"].isin(files[files == max(files, key=len)].index)]
