"""Does it pay to optimise? Two questions that are cheap to answer beforehand.

*Headroom*: do other words for the same instructions move the score by more than a second evaluation
of the same words does? *Coupling*: do the instructions of two nodes interact, so that the best
words of one depend on those of the other? Without headroom there is nothing to gain; and without
coupling each node could be optimised alone.

References
----------
arXiv 2604.14585, where 49 % of 72 optimised systems were worse than the start, and no interaction
between two agents' prompts was significant.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product

import numpy
from pandas import DataFrame

from ..control import DRAW
from ..errors import ParameterError
from ..evaluate import evaluate
from ..language import Language
from ..report.statistics import over_questions
from ..task import Example, Task

START, AGAIN = "start", "start, once more"
LEVEL = 0.05  # of the test for an interaction
EFFECT = 0.05  # of an interaction: how far a cell is from the sum of its row and column, typically


async def headroom(
    task: Task,
    lang: Language,
    paraphrases: Sequence[Mapping[str, str]],
    examples: Iterable[Example] | None = None,
) -> DataFrame:
    """Evaluate the start graph twice, and with other words for its instructions.

    Parameters
    ----------
    task : Task
    lang : Language
    paraphrases : sequence of {node name: instruction}
        Nodes that are not named keep theirs.
    examples : iterable of Example, optional
        By default the training examples: test examples must not decide what is optimised.

    Returns
    -------
    DataFrame
        A row for each graph: accuracy, low, high; and, against the start, `difference` (of
        accuracies, from -1 to 1), `changed` (the share of questions whose score differs) and p
        (two-sided, from `statistics.over_questions`). The second row is the null control, whose
        requests have a draw of their own.
    """
    questions = list(task.train if examples is None else examples)
    start = await evaluate(task.graph, questions, task, lang)
    again = replace(lang, draw=lang.draw + DRAW, draws="seed")
    found = {START: start, AGAIN: await evaluate(task.graph, questions, task, again)}
    for number, instructions in enumerate(paraphrases, 1):
        graph = task.graph.with_instructions(instructions)
        found[f"paraphrase {number}"] = await evaluate(graph, questions, task, lang)
    before, rows = [float(row.correct) for row in start.rows], []
    for name, scores in found.items():
        pairs = [(float(row.correct), old) for row, old in zip(scores.rows, before)]
        low, high = scores.interval
        row = {"graph": name, "accuracy": scores.accuracy, "low": low, "high": high}
        difference = scores.accuracy - start.accuracy
        changed = sum(one != other for one, other in pairs) / len(pairs)
        p, _ = over_questions(pairs)
        rows.append(row | {"difference": difference, "changed": changed, "p": p})
    return DataFrame(rows).set_index("graph")


@dataclass(frozen=True)
class Coupling:
    """How the instructions of two nodes act together.

    Attributes
    ----------
    accuracy : DataFrame
        Of each pair: a row for each instruction of the first node, a column for each of the second.
    anova : DataFrame
        Analysis of variance over questions (repeated measures): a row for each node and for their
        interaction, with F, both degrees of freedom, and p.
    power : float
        How likely the test (level 0.05) is to find an interaction in which a pair is typically 5
        points above or below what its two instructions give alone.
    """

    accuracy: DataFrame
    anova: DataFrame
    power: float

    @property
    def p(self) -> float:
        """The p value of the interaction."""
        return float(self.anova["p"].iloc[-1])


async def coupling(
    task: Task,
    lang: Language,
    instructions: Mapping[str, Sequence[str]],
    examples: Iterable[Example] | None = None,
) -> Coupling:
    """Evaluate all pairs of the instructions of two nodes, and test whether they interact.

    Parameters
    ----------
    task : Task
    lang : Language
    instructions : {node name: its instructions}
        Two nodes, with at least two instructions each.
    examples : iterable of Example, optional
        By default the training examples.

    Raises
    ------
    ParameterError
        Unless there are two nodes, with at least two instructions each.
    """
    if len(instructions) != 2 or min(map(len, instructions.values())) < 2:
        raise ParameterError("coupling takes two nodes, with at least two instructions each")
    questions = list(task.train if examples is None else examples)
    (first, ones), (second, others) = instructions.items()
    found = []
    for one, other in product(ones, others):
        graph = task.graph.with_instructions({first: one, second: other})
        scores = await evaluate(graph, questions, task, lang)
        found.append([float(row.correct) for row in scores.rows])
    return _analysed(numpy.reshape(found, (len(ones), len(others), -1)), first, second)


def _analysed(scores: numpy.ndarray, first: str, second: str) -> Coupling:
    """The Coupling in scores[instruction of the first, instruction of the second, question]."""
    from scipy.stats import f, ncf

    mean = scores.mean(axis=(0, 1), keepdims=True)  # of each question, which is a block
    one = scores.mean(axis=1, keepdims=True) - mean
    other = scores.mean(axis=0, keepdims=True) - mean
    effects = {first: one, second: other, "interaction": scores - mean - one - other}
    levels = {first: len(one) - 1, second: other.shape[1] - 1}
    rows, error = {}, 0.0
    for name, effect in effects.items():
        df = levels.get(name, levels[first] * levels[second])
        df_error = df * (scores.shape[2] - 1)
        average = effect.mean(axis=2, keepdims=True)
        cells = scores[..., 0].size / effect[..., 0].size  # that share a level
        between = cells * scores.shape[2] * (average**2).sum() / df
        error = cells * ((effect - average) ** 2).sum() / df_error
        with numpy.errstate(divide="ignore", invalid="ignore"):
            F = numpy.float64(between) / error
        rows[name] = {"F": F, "df": df, "df_error": df_error, "p": f.sf(F, df, df_error)}
    anova = DataFrame(rows).T
    df, df_error = anova.loc["interaction", ["df", "df_error"]]
    strength = scores.size * EFFECT**2 / error if error else float("inf")
    power = float(ncf.sf(f.isf(LEVEL, df, df_error), df, df_error, strength)) if error else 1.0
    accuracy = DataFrame(scores.mean(axis=2))
    return Coupling(accuracy.rename_axis(first).rename_axis(second, axis=1), anova, power)
