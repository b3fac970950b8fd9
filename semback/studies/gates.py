"""Gates: how often each accepts an update that is useless, and one that is useful.

The truth is known, since the answers are drawn. Any update, even a useless one, changes the answers
to some questions (`churn`), as a paraphrase does, or a served model between two calls; a useful one
also corrects some wrong answers (`gain`). No model is asked.
"""

import random
from collections.abc import Iterable, Sequence
from itertools import product
from typing import TYPE_CHECKING, Any

from ..gate import gate_function
from ..run import Score, Scores, wilson

if TYPE_CHECKING:
    from pandas import DataFrame

GATES: dict[str, dict[str, Any]] = {  # name in tables: arguments of `gate_function`
    "strict": {"gate": "strict"},
    "significant, level 0.2": {"gate": "significant", "level": 0.2},
    "significant, level 0.05": {"gate": "significant", "level": 0.05},
}
ACCURACY = 0.5  # of the old graph


def gates(
    questions: Iterable[int] = (20, 50, 128),
    gains: Sequence[float] = (0.0, 0.05, 0.1, 0.2),
    churns: Sequence[float] = (0.05, 0.2, 0.5),
    trials: int = 1000,
    seed: int = 0,
) -> "DataFrame":
    """Measure how often gates accept an update.

    Parameters
    ----------
    questions : iterable of int
        Numbers of questions that a gate sees.
    gains : sequence of float
        By how much the true accuracy rises, from 0 to 1; 0 is a useless update.
    churns : sequence of float
        Shares of the questions whose answer is drawn again, whatever the update is worth.
    trials : int
        Updates for each row.
    seed : int
        Seed of everything that is drawn.

    Returns
    -------
    DataFrame
        A row for each gate (with its level), number of questions, churn and gain: `accepted`, the
        share of updates that the gate accepts, with low and high (Wilson, 95 %).
    """
    import pandas

    generator, rows = random.Random(seed), []
    functions = {name: gate_function(**arguments) for name, arguments in GATES.items()}
    for number, churn, gain in product(questions, churns, gains):
        pairs = [_drawn(generator, number, churn, gain) for _ in range(trials)]
        for name, accepts in functions.items():
            count = sum(accepts(*pair) for pair in pairs)
            low, high = wilson(count, trials)
            row = {"gate": name, "level": GATES[name].get("level"), "questions": number}
            row |= {"churn": churn, "gain": gain}
            rows.append(row | {"accepted": count / trials, "low": low, "high": high})
    return pandas.DataFrame(rows)


def _drawn(
    generator: random.Random, questions: int, churn: float, gain: float
) -> tuple[Scores, Scores]:
    """The scores of an old and of a new graph whose true accuracies differ by `gain`."""
    old = [generator.random() < ACCURACY for _ in range(questions)]
    new = [generator.random() < ACCURACY if generator.random() < churn else row for row in old]
    new = [row or generator.random() < gain / (1 - ACCURACY) for row in new]
    return _scores(old), _scores(new)


def _scores(values: Sequence[Any]) -> Scores:
    return Scores(tuple(Score(str(i), "", "", bool(value)) for i, value in enumerate(values)))
