"""Example and Task: what every task is made of."""

import random
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from .errors import DataError, ParameterError
from .graph import Graph


@dataclass(frozen=True)
class Example:
    """One question with its answer. The id, never the text, tells examples apart: data sets repeat questions.

    Parameters
    ----------
    id: unique within its task, stable between versions of the data, e.g. ``"snarks/17"`` (file and 0-based row).
    question: what every node of the graph is shown.
    answer: what is right, in the form that `Task.read` returns.
    """

    id: str
    question: str
    answer: str


def checked(example) -> Example:
    """The example; DataError where it is none, or one with a question or an answer that is no text."""
    if not isinstance(example, Example):
        raise DataError(f"{repr(example)[:80]} is no Example")
    for what in ("id", "question", "answer"):
        if not isinstance(getattr(example, what), str):
            raise DataError(
                f"example {example.id!r}: the {what} is {getattr(example, what)!r}, which is no text; answers are compared as "
                "text, so write it as Task.read gives it"
            )
    return example


def shuffled(examples: list, train: int, seed: int, spare: int = 0) -> tuple[list, random.Random]:
    """The examples in a seeded random order, and the generator that made it. ParameterError unless `train` of them can be
    taken with `spare` left over."""
    if type(seed) is not int or seed < 0:  # random.Random does not tell -1 from 1
        raise ParameterError(f"seed={seed!r}: it is a whole number, 0 or more")
    if type(train) is not int or not 1 <= train <= len(examples) - spare:
        left = f", of which {spare} must be left to test on" if spare else ""
        raise ParameterError(
            f"train={train!r}: it is a whole number from 1 to {len(examples) - spare}; "
            f"the data has {len(examples)} usable rows{left}"
        )
    examples, rng = list(examples), random.Random(seed)
    rng.shuffle(examples)
    return examples, rng


def whole_reply(reply: str) -> str | None:
    """Take the whole reply, without surrounding white space, as the answer; None where it is empty."""
    return reply.strip() or None


def same_text(answer: str, example: Example) -> bool:
    """Right if it is the expected answer to the letter."""
    return answer == example.answer


def expected_answer(example: Example) -> str:
    """What the answer node is told about a wrong answer: the gradient that backpropagation starts from."""
    return f"The answer should have been: {example.answer}"


@dataclass(frozen=True)
class Task:
    """Questions, a start graph, and the scoring.

    Parameters
    ----------
    name: how results and figures call it.
    train: examples that gradients and the gate use.
    test: examples that are scored once, at the end; none of them is in `train`, unless `overlap` says otherwise.
    graph: the graph with its start instructions.
    read: (reply of the answer node) -> the answer in it, or None where it holds none that can be read; without it, the whole reply.
    correct: (answer, example) -> whether it is right; without it, whether it is the example's, to the letter.
    feedback: (example) -> what the answer should have been, in words.
    overlap: whether test examples may be training examples too: only to measure what such a split does to a score.

    Errors
    ------
    DataError: no training example, an id used twice, an example both in train and test without `overlap`, a question or an answer that
    is no text. ParameterError: another thing than a parameter takes, such as no graph, or a `feedback` that gives no text.
    """

    name: str
    train: tuple[Example, ...]
    test: tuple[Example, ...]
    graph: Graph
    read: Callable[[str], str | None] = whole_reply
    correct: Callable[[str, Example], bool] = same_text
    feedback: Callable[[Example], str] = expected_answer
    overlap: bool = False

    def __post_init__(self):
        several, function = (
            (Iterable, "Examples, as tasks.examples(path) gives"),
            (Callable, "a function"),
        )
        taken = {
            "name": (str, "a text"),
            "train": several,
            "test": several,
            "graph": (Graph, "a Graph"),
            "read": function,
            "correct": function,
            "feedback": function,
            "overlap": (bool, "True or False"),
        }
        for what, (kind, takes) in taken.items():
            if not isinstance(said := getattr(self, what), kind) or not self.name:
                raise ParameterError(
                    f"task {self.name!r}: {what} is {repr(said)[:80]}; it takes {takes}"
                )
        object.__setattr__(self, "train", tuple(self.train))
        object.__setattr__(self, "test", tuple(self.test))
        for example in (*self.train, *self.test):
            checked(example)
        if not self.train:
            raise DataError(f"task {self.name!r} has no training examples")
        for part in ("train", "test"):
            if twice := [
                id
                for id, times in Counter(example.id for example in getattr(self, part)).items()
                if times > 1
            ]:
                raise DataError(
                    f"task {self.name!r}: two examples of {part} have the id {twice[0]!r}; ids tell examples apart"
                )
        both = {example.id for example in self.train} & {example.id for example in self.test}
        if both and not self.overlap:
            raise DataError(
                f"task {self.name!r}: {len(both)} examples are both in train and test, among them {min(both)!r}; "
                "take them out of one, or say overlap=True"
            )
        told = self.feedback(self.train[0])
        if not isinstance(told, str) or not told.strip():
            raise ParameterError(
                f"task {self.name!r}: feedback gave {told!r} for {self.train[0].id!r}; it gives text"
            )
