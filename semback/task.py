"""A task: questions with known answers, the graph to start from, and how a reply is scored."""

import inspect
import random
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from types import NoneType
from typing import Any

from .errors import DataError, ParameterError, check
from .graph import Graph


@dataclass(frozen=True)
class Example:
    """One question with its answer. The id, never the text, tells examples apart.

    Parameters
    ----------
    id : str
        Unique within its task and stable between versions of the data, e.g. ``"snarks/17"`` (file
        and 0-based row). Data sets repeat questions.
    question : str
        What every node of the graph is shown.
    answer : str
        The correct answer, in the form that `Task.read` returns.
    """

    id: str
    question: str
    answer: str


def checked(example: object) -> Example:
    """The example; DataError for anything else, or for a field that is not text."""
    if not isinstance(example, Example):
        raise DataError(f"{repr(example)[:80]} is not an Example")
    for field in ("id", "question", "answer"):
        value = getattr(example, field)
        if not isinstance(value, str):
            raise DataError(
                f"example {example.id!r}: the {field} is {value!r}, which is not text; answers are "
                "compared as text, so write it as Task.read returns it"
            )
    return example


def distinct(examples: Iterable[object], where: str) -> tuple[Example, ...]:
    """The examples, each `checked`. DataError, which says where, for an id used twice."""
    found = tuple(checked(example) for example in examples)
    counts = Counter(example.id for example in found)
    if twice := [id for id, count in counts.items() if count > 1]:
        raise DataError(f"{where}: two examples have the id {twice[0]!r}; ids tell examples apart")
    return found


def shuffled(
    examples: Sequence[Example], train: int, seed: int, spare: int = 0
) -> tuple[list[Example], random.Random]:
    """The examples in a seeded random order, and the generator that made it.

    Raises
    ------
    ParameterError
        For a seed that is not a whole number from 0, or unless `train` examples can be taken with
        `spare` left over.
    """
    if type(seed) is not int or seed < 0:  # random.Random does not tell -1 from 1
        raise ParameterError(f"seed is {seed!r}; it takes a whole number from 0")
    most = len(examples) - spare
    if type(train) is not int or not 1 <= train <= most:
        left = f", of which {spare} must be left to test on" if spare else ""
        raise ParameterError(
            f"train is {train!r}; it takes a whole number from 1 to {most}; "
            f"the data has {len(examples)} usable rows{left}"
        )
    order, generator = list(examples), random.Random(seed)
    generator.shuffle(order)
    return order, generator


def whole_reply(reply: str) -> str | None:
    """The whole reply, without surrounding white space, as the answer; None if it is empty."""
    return reply.strip() or None


def same_text(answer: str, example: Example) -> bool:
    """Correct if it is the expected answer to the letter."""
    return answer == example.answer


def expected_answer(example: Example, trace: Any = None) -> str:
    """The gradient that backpropagation starts from: what the answer should have been."""
    return f"The answer should have been: {example.answer}"


@dataclass(frozen=True)
class Task:
    """Questions, a start graph, and the scoring.

    Parameters
    ----------
    name : str
        What results and figures call it.
    train : iterable of Example
        What gradients and the gate use.
    test : iterable of Example
        What is scored once, at the end; none of it may be in `train`, except with `overlap`.
    graph : Graph
        With its start instructions.
    read : callable
        (reply of the answer node) -> the answer in it, or None if none can be read. By default the
        whole reply is the answer.
    correct : callable
        (answer, example) -> bool. By default, whether the answer is the example's, to the letter.
    score : callable
        (answer, example) -> a number from 0 to 1, in place of `correct` if answers are graded.
        Gradients are made from examples with less than 1.
    feedback : callable
        (example) or (example, trace) -> what the answer should have been, in words. The Trace has
        the answer node's reply and the values of all nodes.
    overlap : bool
        Whether test examples may be training examples too: only to measure how that changes a
        score.
    only : int, optional
        For a cheap trial: how many of the test examples to use, the first ones. Records say so,
        since results on different test examples are never pooled.

    Raises
    ------
    DataError
        For no training example, an id used twice, an example both in train and test without
        `overlap`, or anything that is not an Example.
    ParameterError
        For a value of the wrong type, or `only` above the number of test examples.
    """

    name: str
    train: Sequence[Example]
    test: Sequence[Example]
    graph: Graph
    read: Callable[[str], str | None] = whole_reply
    correct: Callable[[str, Example], bool] = same_text
    feedback: Callable[..., str] = expected_answer
    overlap: bool = False
    score: Callable[[str, Example], float] | None = None
    only: int | None = None

    def __post_init__(self) -> None:
        check(str, "a text", name=self.name)
        if not self.name:
            raise ParameterError("the name of a task is empty")
        several = "Examples, as tasks.examples(path) gives"
        check(Iterable, several, train=self.train, test=self.test)
        check(Graph, "a Graph", graph=self.graph)
        check(Callable, "a function", read=self.read, correct=self.correct, feedback=self.feedback)
        check((Callable, NoneType), "a function", score=self.score)
        check(bool, "True or False", overlap=self.overlap)
        train = distinct(self.train, f"task {self.name!r}, train")
        test = distinct(self.test, f"task {self.name!r}, test")
        most = len(test)
        if self.only is not None and not (type(self.only) is int and 1 <= self.only <= most):
            takes = f"a number of test questions from 1 to {most}, or None for all"
            raise ParameterError(f"task {self.name!r}: only is {self.only!r}; it takes {takes}")
        object.__setattr__(self, "train", train)
        object.__setattr__(self, "test", test[: self.only])
        self._check_split()
        object.__setattr__(self, "feedback", _with_trace(self.feedback, train[0]))

    def grade(self, answer: str, example: Example) -> bool | float:
        """The score of an answer: True or False, or, where answers are graded, from 0 to 1.

        Raises
        ------
        ParameterError
            `score` returns something else.
        """
        if self.score is None:
            return bool(self.correct(answer, example))
        score = self.score(answer, example)
        if not isinstance(score, bool | int | float) or not 0 <= score <= 1:
            raise ParameterError(
                f"the score function of {self.name!r} returned {score!r}; "
                "it must return a number from 0 to 1"
            )
        return score if isinstance(score, bool) else float(score)

    def _check_split(self) -> None:
        if not self.train:
            raise DataError(f"task {self.name!r} has no training examples")
        both = {example.id for example in self.train} & {example.id for example in self.test}
        if both and not self.overlap:
            raise DataError(
                f"task {self.name!r}: {len(both)} examples are both in train and test, among them "
                f"{min(both)!r}; take them out of one, or set overlap=True"
            )


def _with_trace(function: Callable[..., str], first: Example) -> Callable[..., str]:
    """A feedback function of (example) or (example, trace), as one of (example, trace).

    It must return text; if it takes no trace, this is checked on the first example.
    """
    try:
        inspect.signature(function).bind(first, None)
        arguments = 2
    except TypeError:
        arguments = 1

    def feedback(example: Example, trace: Any = None) -> str:
        text = function(*(example, trace)[:arguments])
        if not isinstance(text, str) or not text.strip():
            raise ParameterError(
                f"feedback returned {text!r} for {example.id!r}; it must return text"
            )
        return text

    if arguments == 1:
        feedback(first)
    return feedback
