"""What the record of a finished run holds, and reading one: pydantic checks types and consistency.

A record is the JSON file that tables and figures are made from. It holds only what follows from the
run's parameters and the recorded replies, so a rerun writes the same bytes; its parts stand in the
order in which they are declared here.
"""

from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, NonNegativeFloat, NonNegativeInt, TypeAdapter, ValidationError
from typing_extensions import TypedDict  # pydantic takes typing's only from Python 3.12 on

from ..errors import DataError


class TrainingStep(TypedDict):
    """One step of the descent: step 0 is the start graph.

    `correct` is None where the candidate was not evaluated; `kept` says why nodes kept their
    instruction.
    """

    step: NonNegativeInt
    questions: int
    correct: NonNegativeInt | NonNegativeFloat | None
    accepted: bool
    kept: dict[str, str]


class TestScores(TypedDict):
    """The scores of one graph on the test questions.

    An answer is (question id, answer or None where it was unreadable, whether it is correct or, of
    a graded answer, its score); `correct` is their sum.
    """

    questions: int
    correct: int | float
    unreadable: int
    answers: list[tuple[str, str | None, bool | float]]


class UsageRow(TypedDict):
    """Calls, tokens and US dollars of one phase with one model, in one stage of the run.

    `stage` is "train", "test before" or "test after"; `cost` is None where a price is unknown.
    """

    stage: str
    phase: str
    model: str
    calls: int
    repeated: int
    cut: int
    refused: int
    prompt_tokens: int
    completion_tokens: int
    cost: float | None
    answered_by: dict[str, int]


def _evaluated(steps: list[TrainingStep]) -> list[TrainingStep]:
    if not steps or not steps[0]["accepted"]:
        raise ValueError("there is no step 0, the start graph")
    for step in steps:
        if step["correct"] is None and step["accepted"]:
            raise ValueError(f"step {step['step']} was accepted without being evaluated")
        if not (step["correct"] or 0) <= step["questions"] or step["questions"] < 1:
            problem = f"{step['correct']} of {step['questions']} are correct"
            raise ValueError(f"step {step['step']}: {problem}")
    return steps


def _consistent(scores: TestScores) -> TestScores:
    ids = {question for question, _, _ in scores["answers"]}
    if not len(ids) == len(scores["answers"]) == scores["questions"] > 0:
        raise ValueError(f"{scores['questions']} questions, but answers to {len(ids)}")
    correct = sum(correct for _, _, correct in scores["answers"])
    if correct != scores["correct"]:
        raise ValueError(f"{scores['correct']} correct, but {correct} of its answers are")
    return scores


class BeforeAndAfter(TypedDict):
    """Test scores of the start graph and of the graph that the descent led to."""

    before: Annotated[TestScores, AfterValidator(_consistent)]
    after: Annotated[TestScores, AfterValidator(_consistent)]


class Record(TypedDict):
    """The record of one run; `instructions` holds (before, after) of each node."""

    experiment: str
    task: str
    group: str
    variant: str
    data: str
    seed: int
    model: str
    coach: str
    simulated: bool
    settings: dict[str, Any]
    stopped: str
    overlap: bool
    params: dict[str, dict[str, Any]]
    train: Annotated[list[TrainingStep], AfterValidator(_evaluated)]
    test: BeforeAndAfter
    instructions: dict[str, tuple[str, str]]
    usage: list[UsageRow]


RECORD = TypeAdapter(Record)


def read(path: Path) -> Record:
    """Read one record.

    Raises
    ------
    DataError
        The file is damaged or does not describe a possible run; the message names file and place.
    """
    try:
        return RECORD.validate_json(path.read_bytes(), strict=True)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        place = ".".join(map(str, first["loc"])) or "the file"
        problem = f"{place}: {first['msg']}; move it away, or run that notebook again"
        raise DataError(f"{path} is not the record of a run: {problem}", file=path) from None
