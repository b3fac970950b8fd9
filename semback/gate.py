"""The gate: whether a new graph takes the place of the old one, given how both did.

The paper's gate, "strict", accepts a graph that scores higher on the questions by any amount. On 20
questions that is one lucky answer: with a model whose replies vary, a candidate that is no better
passes it in up to half of all cases. "significant" asks for evidence: an exact test that pairs each
question with itself.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

from .errors import ParameterError, known
from .run import Scores

Gate = Callable[[Scores, Scores], bool]  # (old, new) -> whether the new graph is accepted
RESAMPLES = 9999  # of the permutation test for graded scores


@dataclass(frozen=True)
class Comparison:
    """Two graphs on the same questions.

    Attributes
    ----------
    gains, losses, ties : int
        Questions on which the new graph scores higher, lower, the same.
    p : float
        How likely a gain of at least this size in the sum of scores is if the two graphs are
        equally good; from 0 to 1, one-sided.
    """

    gains: int
    losses: int
    ties: int
    p: float

    def __str__(self) -> str:
        return f"+{self.gains} −{self.losses} ={self.ties}, p = {self.p:.2g}"


def compare(old: Scores, new: Scores) -> Comparison:
    """Compare two graphs question by question.

    If all scores are 0 or 1, the test is the sign test on the questions whose scores differ
    (McNemar's exact test, one-sided); else a permutation test, which swaps the two scores of
    questions at random.

    Parameters
    ----------
    old, new : Scores
        On the same questions.

    References
    ----------
    Q. McNemar, Psychometrika 12 (1947), 153; E. J. G. Pitman, Suppl. J. R. Stat. Soc. 4 (1937),
    119.
    """
    before = {row.id: float(row.correct) for row in old.rows}
    changes = [float(row.correct) - before[row.id] for row in new.rows]
    gains, losses = sum(change > 0 for change in changes), sum(change < 0 for change in changes)
    changed = gains + losses
    if set(map(abs, changes)) <= {0.0, 1.0}:
        as_many = sum(math.comb(changed, n) for n in range(gains, changed + 1))
        p = as_many / 2**changed
    else:
        from numpy import mean
        from scipy.stats import permutation_test  # takes half a second

        test = permutation_test(
            (changes,),
            mean,
            permutation_type="samples",
            alternative="greater",
            n_resamples=RESAMPLES,
            rng=0,
        )
        p = float(test.pvalue)
    return Comparison(gains, losses, len(changes) - changed, p)


def strict(old: Scores, new: Scores) -> bool:
    """The paper's gate: a higher score, by any amount."""
    return new.correct > old.correct


def off(old: Scores, new: Scores) -> bool:
    """No gate: every new graph is accepted."""
    return True


def significant(level: float) -> Gate:
    """A gate that accepts a graph if `compare` finds p ≤ `level`.

    A useless update passes it with at most this probability. A useful one has to be large to pass:
    at level 0.2, where a fifth of the answers is drawn again (churn 0.2 in `studies.gates`), 20, 50
    and 128 questions let a true gain of 10 points pass in 37, 72 and 96 % of cases, one of 20
    points in 74, 98 and 100 %, and a useless update in 4, 10 and 13 %.
    """

    return lambda old, new: compare(old, new).p <= level


def gate_function(gate: bool | str | Gate, level: float = 0.2) -> Gate:
    """The function that a value of the argument `gate` stands for, as in `descend`.

    Raises
    ------
    ParameterError
        For any other value, or a level that is not a probability.
    """
    if isinstance(level, bool) or not isinstance(level, int | float) or not 0 < level < 1:
        raise ParameterError(f"level is {level!r}; it takes a probability between 0 and 1")
    if callable(gate):
        return gate
    gates = {True: strict, False: off, "strict": strict, "off": off}
    if isinstance(gate, bool | str) and gate in gates:
        return gates[gate]
    known("gate", gate, ("strict", "off", "significant"))
    return significant(level)
