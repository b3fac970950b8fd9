"""What an evaluation and a descent leave behind: Scores, and the Run with all that happened."""

import json
from dataclasses import dataclass, field
from pathlib import Path
from types import NoneType
from typing import TYPE_CHECKING, Any

from .diff import Diff, texts_diff
from .errors import DataError, SembackError, check
from .graph import Graph
from .paths import write_text
from .propagate import Message, Trace
from .usage import SIMULATED, Usage

if TYPE_CHECKING:
    from pandas import DataFrame


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
        What was read from the reply; None where it was unreadable.
    correct : bool
    """

    id: str
    reply: str | None
    answer: str | None
    correct: bool

    def __post_init__(self) -> None:
        check(str, "a text", id=self.id)
        check((str, NoneType), "a text or None", reply=self.reply, answer=self.answer)
        check(bool, "True or False", correct=self.correct)


@dataclass(frozen=True)
class Scores:
    """How a graph did on examples.

    Parameters
    ----------
    rows : tuple of Score
        One for each example, in their order.
    usage : Usage
        What the evaluation asked of the models. Not saved.
    traces : dict of str to Trace
        {example id: Trace} if they were to be kept, else empty. Not saved.
    """

    rows: tuple[Score, ...]
    usage: Usage = field(default_factory=Usage, compare=False, repr=False)
    traces: dict[str, Trace] = field(default_factory=dict, compare=False, repr=False)

    @property
    def correct(self) -> int:
        """The number of correct answers."""
        return sum(row.correct for row in self.rows)

    @property
    def unreadable(self) -> int:
        """The number of replies in which no answer could be read; they count as wrong."""
        return sum(row.answer is None for row in self.rows)

    @property
    def accuracy(self) -> float:
        """The share of correct answers, from 0 to 1."""
        return self.correct / len(self.rows)

    @property
    def interval(self) -> tuple[float, float]:
        """Wilson's 95 % interval of the accuracy (see `wilson`)."""
        return wilson(self.correct, len(self.rows))


@dataclass(frozen=True)
class Step:
    """One step of a run. Step 0 is the start graph; it has a graph and scores only.

    Parameters
    ----------
    candidate : Graph
        The graph that was tried.
    scores : Scores or None
        On the training examples; None where it was not evaluated, because nothing in it is new.
    accepted : bool
        Whether it became the graph.
    examples : tuple of str
        Ids of the examples that the gradients came from.
    gradients : dict
        {example id: {node: text}}
    messages : dict
        {example id: (Message, …)}
    kept : dict of str to str
        {trainable node: why it kept its instruction}
    """

    candidate: Graph
    scores: Scores | None
    accepted: bool
    examples: tuple[str, ...] = ()
    gradients: dict[str, dict[str, str]] = field(default_factory=dict)
    messages: dict[str, tuple[Message, ...]] = field(default_factory=dict)
    kept: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        check(Graph, "a Graph", candidate=self.candidate)
        check((Scores, NoneType), "Scores or None", scores=self.scores)
        check(bool, "True or False", accepted=self.accepted)
        check(dict, "a dict", gradients=self.gradients, messages=self.messages, kept=self.kept)
        check(str, "a text", **{f"kept of {node}": reason for node, reason in self.kept.items()})
        if self.accepted and not (self.scores and self.scores.rows):
            raise DataError("it was accepted, and has no scores")


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
        What was sent beside messages: {"model" or "coach": {field: value}}.
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
        check(str, "a text", task=self.task, model=self.model, coach=self.coach)
        check(str, "a text", stopped=self.stopped)
        check(dict, "a dict", settings=self.settings, params=self.params)
        if not self.steps or not self.steps[0].accepted:
            raise DataError("there is no step 0, the start graph")

    @property
    def graph(self) -> Graph:
        """The graph that was accepted last."""
        return [step.candidate for step in self.steps if step.accepted][-1]

    @property
    def simulated(self) -> bool:
        """Whether one of its models is simulated."""
        return self.model.startswith(SIMULATED) or self.coach.startswith(SIMULATED)

    @property
    def training(self) -> list[dict]:
        """One plain dict a step: step, questions, correct (None: not evaluated), accepted, kept."""
        questions = len(self.steps[0].scores.rows) if self.steps[0].scores else 0
        return [
            {
                "step": number,
                "questions": questions,
                "correct": step.scores.correct if step.scores else None,
                "accepted": step.accepted,
                "kept": step.kept,
            }
            for number, step in enumerate(self.steps)
        ]

    def to_frame(self) -> "DataFrame":
        """One row a step, indexed by step.

        Columns: correct, questions, accuracy (of the candidate, on training examples), accepted,
        kept.
        """
        import pandas

        columns = ["step", "correct", "questions", "accuracy", "accepted", "kept"]
        rows = []
        for row, step in zip(self.training, self.steps):
            kept = "; ".join(f"{node}: {reason}" for node, reason in step.kept.items())
            accuracy = step.scores.accuracy if step.scores else None
            rows.append({**row, "accuracy": accuracy, "kept": kept})
        return pandas.DataFrame(rows, columns=columns).set_index("step")

    def diff(self) -> Diff:
        """The instructions before and after, word by word; empty where none changed."""
        before = {node.name: node.instruction for node in self.steps[0].candidate}
        after = {node.name: node.instruction for node in self.graph}
        return texts_diff(before, after)

    def to_dict(self) -> dict:
        """Plain data for JSON; `from_dict` is its inverse."""
        steps = [
            {
                **vars(step),
                "candidate": step.candidate.to_dict(),
                "scores": [vars(row) for row in step.scores.rows] if step.scores else None,
            }
            for step in self.steps
        ]
        failures = sorted(self.usage.failures, key=lambda each: json.dumps(each, sort_keys=True))
        usage = {"counts": self.usage.rows(), "failures": failures}
        return {**vars(self), "steps": steps, "usage": usage}

    @classmethod
    def from_dict(cls, data: Any) -> "Run":
        """The run that `to_dict` described. DataError, which says where, for other data."""
        where = "the run"
        try:
            steps = []
            for number, step in enumerate(data["steps"]):
                where = f"step {number}"
                steps.append(_step(step))
            where = "the run"
            usage = Usage.from_rows(**data["usage"])
            run = cls(**{**data, "steps": tuple(steps), "usage": usage})
        except (LookupError, TypeError, AttributeError, SembackError) as error:
            reason = error if isinstance(error, SembackError) else repr(error)
            raise DataError(f"{where}: {reason}") from None
        return run

    def save(self, path: str | Path) -> None:
        """Write the run to a JSON file, and the folders that it lies in."""
        text = json.dumps(self.to_dict(), indent=1, ensure_ascii=False)
        write_text(Path(path), text + "\n")

    @classmethod
    def load(cls, path: str | Path) -> "Run":
        """Read a run that `save` wrote.

        Raises
        ------
        DataError
            Where the file cannot be read, or holds something else; it names file and place.
        """
        try:
            return cls.from_dict(json.loads(Path(path).read_text(encoding="utf-8")))
        except (OSError, ValueError, RecursionError, DataError) as error:
            reason = error if isinstance(error, SembackError) else repr(error)
            raise DataError(f"{path} does not hold a saved run: {reason}", file=path) from None


def _step(data: dict) -> Step:
    rows = data["scores"]
    messages = {
        example: tuple(Message(*message) for message in each)
        for example, each in data["messages"].items()
    }
    return Step(
        **{
            **data,
            "candidate": Graph.from_dict(data["candidate"]),
            "scores": None if rows is None else Scores(tuple(Score(**row) for row in rows)),
            "examples": tuple(data["examples"]),
            "messages": messages,
        }
    )
