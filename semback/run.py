"""What an evaluation and a descent leave behind: Scores, and the Run with all that happened."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .diff import Diff, texts_diff
from .errors import DataError, SembackError
from .graph import Graph
from .paths import write_text
from .propagate import Message, Trace
from .task import Example
from .usage import SIMULATED, Usage

if TYPE_CHECKING:
    from pandas import DataFrame

    from .gate import Comparison

# Of a question; one whose answer was unreadable, before or after, also has one of the others.
OUTCOMES = ("got better", "got worse", "still wrong", "still right", "unreadable")
Z = 1.959963984540054  # the 97.5 % quantile of the normal distribution


def wilson(correct: float, questions: float) -> tuple[float, float]:
    """Wilson's 95 % interval of a share, the questions being a sample of all such questions.

    Parameters
    ----------
    correct, questions : number
        Questions may be any number above 0.

    Returns
    -------
    low, high : float
        From 0 to 1.

    References
    ----------
    E. B. Wilson, J. Am. Stat. Assoc. 22 (1927), 209. In closed form, since scipy takes half a
    second to import; the tests compare it with scipy's.
    """
    z2 = Z**2 / questions
    share = correct / questions
    middle = (share + z2 / 2) / (1 + z2)
    reach = (z2 * (share * (1 - share) + z2 / 4)) ** 0.5 / (1 + z2)
    low = middle - reach if correct else 0.0
    high = middle + reach if correct < questions else 1.0
    return low, high


def bootstrap(scores: Sequence[float]) -> tuple[float, float]:
    """The BCa bootstrap's 95 % interval of a mean score, over questions.

    Parameters
    ----------
    scores : sequence of float
        One for each question. If all are the same, the interval is that one point.

    Returns
    -------
    low, high : float

    References
    ----------
    B. Efron, J. Am. Stat. Assoc. 82 (1987), 171; computed by scipy.
    """
    if len(set(scores)) == 1:
        return scores[0], scores[0]
    from numpy import mean
    from scipy.stats import bootstrap as resampled

    low, high = resampled((scores,), mean, method="BCa", rng=0).confidence_interval
    return float(low), float(high)


def interval(scores: Sequence[float]) -> tuple[float, float, str]:
    """The limits of the 95 % interval of a mean score over questions, and its kind in words.

    Wilson's if all scores are 0 or 1; for graded answers, that of `bootstrap`.
    """
    if set(scores) <= {0.0, 1.0}:
        return *wilson(sum(scores), len(scores)), "Wilson over questions"
    return *bootstrap(scores), "bootstrap over questions"


@dataclass(frozen=True)
class Score:
    """How one example went.

    Parameters
    ----------
    id : str
        Of the example.
    reply : str or None
        Of the answer node.
    answer : str or None
        What was read from the reply; None if it was unreadable.
    correct : bool or float
        True or False; for a task with graded answers, the score from 0 to 1.
    """

    id: str
    reply: str | None
    answer: str | None
    correct: bool | float


@dataclass(frozen=True)
class Scores:
    """How a graph did on examples.

    Parameters
    ----------
    rows : tuple of Score
        One for each example, in their order.
    usage : Usage
        The calls of the evaluation. Not saved.
    traces : dict of str to Trace
        {example id: Trace}. Not saved.
    examples : dict of str to Example
        {example id: Example}. Not saved.
    """

    rows: tuple[Score, ...]
    usage: Usage = field(default_factory=Usage, compare=False, repr=False)
    traces: dict[str, Trace] = field(default_factory=dict, compare=False, repr=False)
    examples: dict[str, Example] = field(default_factory=dict, compare=False, repr=False)

    @property
    def graded(self) -> bool:
        """Whether there are scores between 0 and 1."""
        return any(row.correct not in (0, 1) for row in self.rows)

    @property
    def correct(self) -> int | float:
        """The number of correct answers; for graded ones, the sum of their scores."""
        return sum(row.correct for row in self.rows)

    @property
    def unreadable(self) -> int:
        """The number of replies in which no answer could be read; they count as wrong."""
        return sum(row.answer is None for row in self.rows)

    @property
    def accuracy(self) -> float:
        """The share of correct answers, from 0 to 1; for graded ones, their mean score."""
        return self.correct / len(self.rows)

    @property
    def interval(self) -> tuple[float, float]:
        """The 95 % interval of the accuracy, the questions being a sample of all such questions."""
        return interval([float(row.correct) for row in self.rows])[:2]


@dataclass(frozen=True)
class Questions:
    """Test questions before and after a descent.

    Parameters
    ----------
    before, after : Scores
        Of the start graph and of the graph that the descent led to, on the same examples.
    """

    before: Scores
    after: Scores

    @property
    def rows(self) -> list[tuple[Score, Score, tuple[str, ...]]]:
        """(score before, score after, outcomes) of each question; see `OUTCOMES`."""
        found = []
        earlier = {row.id: row for row in self.before.rows}
        for after in self.after.rows:
            if before := earlier.get(after.id):
                kind = "still right" if after.correct == 1 else "still wrong"
                if after.correct != before.correct:
                    kind = "got better" if after.correct > before.correct else "got worse"
                unreadable = ("unreadable",) if None in (before.answer, after.answer) else ()
                found.append((before, after, (kind, *unreadable)))
        return found


@dataclass(frozen=True)
class Step:
    """One step of a run. Step 0 is the start graph; it has a graph and scores only.

    Parameters
    ----------
    candidate : Graph
        The graph that was tried.
    scores : Scores or None
        On the training examples; None if it was not evaluated, for instance because nothing in it
        is new.
    accepted : bool
        Whether it replaced the graph before it.
    examples : tuple of str
        Ids of the examples that the gradients came from.
    gradients : dict
        {example id: {node: text}}
    messages : dict
        {example id: (Message, …)}
    kept : dict of str to str
        {trainable node: why it kept its instruction}
    leaks : dict of str to str
        {node: what does not belong in its new instruction}; see `leaks`
    validation : Scores or None
        On the validation examples, if there are any; the gate saw these, and `scores` is None
        unless the candidate was accepted.
    calls : int
        The calls of the run up to the end of the step, repeats left out.
    """

    candidate: Graph
    scores: Scores | None
    accepted: bool
    examples: tuple[str, ...] = ()
    gradients: dict[str, dict[str, str]] = field(default_factory=dict)
    messages: dict[str, tuple[Message, ...]] = field(default_factory=dict)
    kept: dict[str, str] = field(default_factory=dict)
    leaks: dict[str, str] = field(default_factory=dict)
    validation: Scores | None = None
    calls: int = 0

    def __post_init__(self) -> None:
        if self.accepted and not (self.scores and self.scores.rows):
            raise DataError("it was accepted, and has no scores")

    @property
    def judged(self) -> Scores | None:
        """What the gate saw: the scores on the validation examples, or on the training examples."""
        return self.validation or self.scores

    def to_dict(self) -> dict:
        """Plain data for JSON; what few runs have is left out if it is empty."""
        data = {**vars(self), "candidate": self.candidate.to_dict()}
        for name in ("scores", "validation"):
            scores = getattr(self, name)
            data[name] = [vars(row) for row in scores.rows] if scores else None
        for name in ("leaks", "validation"):
            if not data[name]:
                del data[name]
        return data


@dataclass(frozen=True)
class Run:
    """Everything that happened in a descent.

    Parameters
    ----------
    task, model, coach : str
        Names.
    settings : dict
        The arguments of `descend` and `Language`.
    steps : tuple of Step
        The start graph and every step.
    stopped : str
        Why it ended.
    usage : Usage
        Calls, tokens and failures by phase: "forward", "backward", "update".
    params : dict
        What was sent besides messages: {"model" or "coach": {field: value}}.
    """

    task: str
    model: str
    coach: str
    settings: dict[str, Any]
    steps: tuple[Step, ...]
    stopped: str
    usage: Usage = field(default_factory=Usage, compare=False, repr=False)
    params: dict[str, dict[str, Any]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not self.steps or not self.steps[0].accepted:
            raise DataError("there is no step 0, the start graph")

    @property
    def graph(self) -> Graph:
        """The graph that was accepted last."""
        return [step.candidate for step in self.steps if step.accepted][-1]

    @property
    def best(self) -> Graph:
        """The graph, accepted or not, with the best score the gate saw; the first of equals."""
        judged = [(step.judged.accuracy, step.candidate) for step in self.steps if step.judged]
        return max(judged, key=lambda pair: pair[0])[1]

    @property
    def leaks(self) -> int:
        """How many new instructions held words that do not belong there."""
        return sum(len(step.leaks) for step in self.steps)

    @property
    def comparisons(self) -> "tuple[Comparison | None, ...]":
        """What the gate saw at each step: the candidate beside the graph accepted before it.

        None for the start graph, and for a candidate that was not evaluated.
        """
        from .gate import compare

        found: list[Comparison | None] = []
        current: Scores | None = None
        for step in self.steps:
            new = step.judged
            found.append(compare(current, new) if current and new else None)
            if step.accepted:
                current = new
        return tuple(found)

    @property
    def simulated(self) -> bool:
        """Whether one of its models is simulated."""
        return self.model.startswith(SIMULATED) or self.coach.startswith(SIMULATED)

    @property
    def training(self) -> list[dict]:
        """One plain dict per step: step, questions, correct (None: not evaluated), accepted, calls,
        kept.

        The questions are those that the gate saw: the validation questions, if there are any.
        """
        start = self.steps[0].judged
        return [
            {
                "step": number,
                "questions": len(start.rows) if start else 0,
                "correct": step.judged.correct if step.judged else None,
                "accepted": step.accepted,
                "calls": step.calls,
                "kept": step.kept,
            }
            for number, step in enumerate(self.steps)
        ]

    def to_frame(self) -> "DataFrame":
        """One row per step, indexed by step.

        Columns: correct, questions, accuracy (of the candidate, on the questions that the gate
        saw), gains, losses, ties, p (see `gate.Comparison`), accepted, leaks (their number), kept.
        """
        import pandas

        columns = ["step", "correct", "questions", "accuracy", "gains", "losses", "ties", "p"]
        rows = []
        for row, step, seen in zip(self.training, self.steps, self.comparisons):
            kept = "; ".join(f"{node}: {reason}" for node, reason in step.kept.items())
            accuracy = step.judged.accuracy if step.judged else None
            own = {"accuracy": accuracy, "leaks": len(step.leaks), "kept": kept}
            rows.append({**row, **(vars(seen) if seen else {}), **own})
        columns += ["accepted", "leaks", "kept"]
        return pandas.DataFrame(rows, columns=columns).set_index("step")

    def diff(self) -> Diff:
        """The instructions before and after, word by word; empty where none changed."""
        before = {node.name: node.instruction for node in self.steps[0].candidate}
        after = {node.name: node.instruction for node in self.graph}
        return texts_diff(before, after)

    def to_dict(self) -> dict:
        """Plain data for JSON; `from_dict` is its inverse."""
        failures = sorted(self.usage.failures, key=lambda each: json.dumps(each, sort_keys=True))
        usage = {"counts": self.usage.rows(), "failures": failures}
        return {**vars(self), "steps": [step.to_dict() for step in self.steps], "usage": usage}

    @classmethod
    def from_dict(cls, data: Any) -> "Run":
        """The run that `to_dict` described. DataError, which says where, for other data."""
        from pydantic import TypeAdapter, ValidationError  # takes a tenth of a second

        try:
            steps = []
            for step in data["steps"]:
                saved = {name: step.get(name) for name in ("scores", "validation")}
                scores = {name: {"rows": rows} for name, rows in saved.items() if rows is not None}
                steps.append({**step, **scores})
            counts = {(row["phase"], row["model"]): row for row in data["usage"]["counts"]}
            usage = {**data["usage"], "counts": counts}
            return TypeAdapter(cls).validate_python({**data, "steps": steps, "usage": usage})
        except ValidationError as error:
            first = error.errors()[0]
            reason = f"{'.'.join(map(str, first['loc']))}: {first['msg']}"
        except (LookupError, TypeError, AttributeError, SembackError) as error:
            reason = str(error) if isinstance(error, SembackError) else repr(error)
        raise DataError(reason)

    def save(self, path: str | Path) -> None:
        """Write the run to a JSON file; missing folders are made."""
        write_text(Path(path), json.dumps(self.to_dict(), indent=1, ensure_ascii=False) + "\n")

    @classmethod
    def load(cls, path: str | Path) -> "Run":
        """Read a run that `save` wrote.

        Raises
        ------
        DataError
            If the file cannot be read or holds something else; it names file and place.
        """
        try:
            return cls.from_dict(json.loads(Path(path).read_text(encoding="utf-8")))
        except (OSError, ValueError, RecursionError, DataError) as error:
            reason = error if isinstance(error, SembackError) else repr(error)
            raise DataError(f"{path} does not hold a saved run: {reason}", file=path) from None
