"""What an evaluation and a descent leave behind: Scores, and the Run that holds everything that happened."""

import json
from dataclasses import dataclass, field
from pathlib import Path

from .diff import Diff, texts_diff
from .graph import Graph
from .paths import write_text
from .propagate import Trace
from .usage import SIMULATED, Usage

Z = 1.959963984540054  # the 97.5 % quantile of the normal distribution


def wilson(correct: float, questions: float) -> tuple[float, float]:
    """Wilson's 95 % interval of a share, the questions being a sample of all such questions (Wilson, JASA 1927)."""
    z2 = Z**2 / questions  # in closed form, since scipy takes half a second to import
    share = correct / questions
    middle, reach = (
        (share + z2 / 2) / (1 + z2),
        (z2 * (share * (1 - share) + z2 / 4)) ** 0.5 / (1 + z2),
    )
    return middle - reach if correct else 0.0, middle + reach if correct < questions else 1.0


@dataclass(frozen=True)
class Score:
    """How one example went: the answer node's reply, the answer read from it (None: unreadable), and whether it is right."""

    id: str
    reply: str | None
    answer: str | None
    correct: bool


@dataclass(frozen=True)
class Scores:
    """How a graph did on examples.

    rows: one Score for each, in their order. usage: what was asked for. traces: {example id: Trace} if they were to be kept, else empty.
    """

    rows: tuple[Score, ...]
    usage: Usage = field(default_factory=Usage, compare=False, repr=False)
    traces: dict[str, Trace] = field(default_factory=dict, compare=False, repr=False)  # not saved

    @property
    def correct(self) -> int:
        """The number of right answers."""
        return sum(row.correct for row in self.rows)

    @property
    def unreadable(self) -> int:
        """The number of replies in which no answer could be read; they count as wrong."""
        return sum(row.answer is None for row in self.rows)

    @property
    def accuracy(self) -> float:
        """The share of right answers, from 0 to 1."""
        return self.correct / len(self.rows)

    @property
    def interval(self) -> tuple[float, float]:
        """Wilson's 95 % interval of the accuracy, the questions being a sample of all such questions."""
        return wilson(self.correct, len(self.rows))


@dataclass(frozen=True)
class Step:
    """One step of a run. Step 0 is the start graph; it has a graph and scores only.

    candidate: the graph that was tried. scores: its scores on the training examples, None where it was not evaluated,
    because nothing in it is new. accepted: whether it became the graph. examples: ids of the examples that the
    gradients came from. gradients: {example id: {node: text}}. messages: {example id: [[from, to, text or None]]}.
    kept: why a trainable node kept its instruction, {node: reason}.
    """

    candidate: Graph
    scores: Scores | None
    accepted: bool
    examples: tuple[str, ...] = ()
    gradients: dict = field(default_factory=dict)
    messages: dict = field(default_factory=dict)
    kept: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Run:
    """Everything that happened in a descent.

    task, model, coach: names. settings: descend's and Language's. steps: the start graph and every step. stopped: why
    it ended. usage: calls, tokens and failures by phase: forward, backward, update. params: what was sent beside messages, {"model" or
    "coach": {field: value}}.
    """

    task: str
    model: str
    coach: str
    settings: dict
    steps: tuple[Step, ...]
    stopped: str
    usage: Usage = field(default_factory=Usage, compare=False, repr=False)
    params: dict[str, dict] = field(default_factory=dict)

    @property
    def graph(self) -> Graph:
        """The graph that was accepted last."""
        return next(step.candidate for step in reversed(self.steps) if step.accepted)

    @property
    def simulated(self) -> bool:
        """Whether one of its models is simulated."""
        return any(model.startswith(SIMULATED) for model in (self.model, self.coach))

    @property
    def training(self) -> list[dict]:
        """What a record of results keeps of the steps: scores are numbers, `correct` None where a candidate was not evaluated."""
        return [
            {
                "step": number,
                "questions": len(self.steps[0].scores.rows),
                "correct": step.scores and step.scores.correct,
                "accepted": step.accepted,
                "kept": step.kept,
            }
            for number, step in enumerate(self.steps)
        ]

    def to_frame(self):
        """One row a step, as a DataFrame: step, correct, questions, accuracy (of the candidate, on training examples), accepted, kept."""
        import pandas

        rows = [
            {
                **row,
                "accuracy": step.scores and step.scores.accuracy,
                "kept": "; ".join(map(": ".join, step.kept.items())),
            }
            for row, step in zip(self.training, self.steps)
        ]
        return pandas.DataFrame(
            rows, columns=["step", "correct", "questions", "accuracy", "accepted", "kept"]
        ).set_index("step")

    def diff(self) -> Diff:
        """The instructions before and after, word by word; empty where none changed."""
        before, after = (
            {node.name: node.instruction for node in graph.nodes}
            for graph in (self.steps[0].candidate, self.graph)
        )
        return texts_diff(before, after)

    def to_dict(self) -> dict:
        """Plain data for JSON; `from_dict` is its inverse."""
        steps = [
            {
                **vars(step),
                "candidate": step.candidate.to_dict(),
                "scores": step.scores and [vars(row) for row in step.scores.rows],
            }
            for step in self.steps
        ]
        failures = sorted(
            self.usage.failures, key=lambda failure: json.dumps(failure, sort_keys=True)
        )
        return {
            **vars(self),
            "steps": steps,
            "usage": {"counts": self.usage.rows(), "failures": failures},
        }

    def save(self, path: str | Path) -> None:
        """Write the run to a JSON file, and the folders that it lies in."""
        write_text(Path(path), json.dumps(self.to_dict(), indent=1, ensure_ascii=False) + "\n")

    @classmethod
    def load(cls, path: str | Path) -> "Run":
        """Read a run that `save` wrote. DataError where the file holds something else."""
        from .report import kept

        def build(data):
            steps = tuple(
                Step(
                    **{
                        **step,
                        "candidate": Graph.from_dict(step["candidate"]),
                        "examples": tuple(step["examples"]),
                        "scores": step["scores"]
                        and Scores(tuple(Score(**row) for row in step["scores"])),
                    }
                )
                for step in kept.run(data)["steps"]
            )
            return cls(**{**data, "steps": steps, "usage": Usage.from_rows(**data["usage"])})

        return kept.read(path, build, "does not hold a saved run")
