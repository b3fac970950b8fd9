"""The record of a finished run: what it holds, how it is read, and its configuration.

A record is the JSON file that tables and figures are made from. It holds only what follows from the
run's parameters and the recorded replies, so a rerun writes the same bytes; its fields are in the
order of their declaration here. pydantic checks types and consistency.

The configuration of a run is its model, coach and data, and every setting beside them. Results of
different configurations are never pooled or compared. So that tables stay readable, only the
settings that differ between comparable runs are spelt out, in the column `settings`.
"""

import json
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, NotRequired

from pydantic import AfterValidator, Field, TypeAdapter, ValidationError
from typing_extensions import TypedDict  # pydantic takes typing's only from Python 3.12 on

from ..errors import DataError
from ..variants import VARIANTS, Variant

CONFIGURATION = ["model", "coach", "data", "settings"]  # results are pooled within these only
CONTAMINATED = "contaminated test"  # training questions are among the test questions
Count = Annotated[int, Field(ge=0, lt=2**53)]  # what JSON and floats hold exactly
Sum = Count | Annotated[float, Field(ge=0)]  # of correct answers, or of graded ones


class TrainingStep(TypedDict):
    """One step of the descent: step 0 is the start graph.

    `correct` is None where the candidate was not evaluated; `calls` counts those of the run up to
    the end of the step, without repeats; `kept` says why nodes kept their instruction.
    """

    step: Count
    questions: Count
    correct: Sum | None
    accepted: bool
    calls: NotRequired[Count]
    kept: dict[str, str]


class TestScores(TypedDict):
    """The scores of one graph on the test questions.

    An answer is (question id, answer or None if it was unreadable, whether it is correct or, if it
    is graded, its score); `correct` is the sum of the latter.
    """

    questions: Count
    correct: Sum
    unreadable: Count
    answers: list[tuple[str, str | None, bool | float]]


class UsageRow(TypedDict):
    """Calls, tokens and US dollars of one phase with one model, in one stage of the run.

    `stage` is "train", "test before" or "test after"; `cost` is None where a price is unknown.
    """

    stage: str
    phase: str
    model: str
    calls: Count
    repeated: Count
    cut: Count
    refused: Count
    truncated: NotRequired[Count]
    prompt_tokens: Count
    completion_tokens: Count
    cost: Annotated[float, Field(ge=0, allow_inf_nan=False)] | None
    answered_by: dict[str, Count]


def _evaluated(steps: list[TrainingStep]) -> list[TrainingStep]:
    if not steps or not steps[0]["accepted"]:
        raise ValueError("there is no step 0, the start graph")
    for step in steps:
        if step["correct"] is None and step["accepted"]:
            raise ValueError(f"step {step['step']} was accepted without being evaluated")
        correct, questions = step["correct"] or 0, step["questions"]
        if correct > questions or not questions:
            raise ValueError(f"step {step['step']}: {correct} of {questions} are correct")
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
    """Test scores of the start graph and of the graph that the descent ended with."""

    before: Annotated[TestScores, AfterValidator(_consistent)]
    after: Annotated[TestScores, AfterValidator(_consistent)]


class NullControl(TypedDict):
    """The start graph, evaluated once more: `test` on the test questions; the other fields are what
    the gate saw of an update that changed nothing, and whether it accepted it."""

    test: Annotated[TestScores, AfterValidator(_consistent)]
    gains: Count
    losses: Count
    ties: Count
    p: Annotated[float, Field(ge=0, le=1)]
    accepted: bool


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
    control: NotRequired[NullControl]
    instructions: dict[str, tuple[str, str]]
    usage: list[UsageRow]


RECORD = TypeAdapter(Record)


@contextmanager
def reading(path: Path, what: str) -> Iterator[None]:
    """Around the reading of a file of a batch: any failure becomes a DataError that names it."""
    try:
        if not path.is_file():  # a folder; or a pipe, on which reading would block
            raise ValueError("it is not a file")
        yield
    except DataError:
        raise
    except Exception as error:  # a damaged file may raise anything
        problem = str(error).partition("\n")[0][:200]
        if isinstance(error, ValidationError):
            first = error.errors(include_url=False)[0]
            problem = f"{'.'.join(map(str, first['loc'])) or 'the file'}: {first['msg']}"
        advice = "move it away, or run that notebook again"
        raise DataError(f"{path} is not {what}: {problem}; {advice}", file=path) from None


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Around the writing of a file or folder of a batch: a DataError names it if that fails."""
    try:
        yield
    except OSError as error:
        raise DataError(f"{path} cannot be written: {error.strerror or error}", file=path) from None


def read(path: Path) -> Record:
    """Read one record.

    Raises
    ------
    DataError
        The file is damaged or does not describe a possible run; the message names file and place.
    """
    with reading(path, "the record of a run"):
        return RECORD.validate_json(path.read_bytes(), strict=True)


def settings_of(record: Record) -> dict[str, object]:
    """Every setting of a run by name: training questions, the arguments of `descend` and `Language`
    (custom prompts as a digest), and the fields sent to the model and the coach."""
    settings = {name: value for name, value in record["settings"].items() if name != "seed"}
    for role, fields in record["params"].items():
        settings |= {f"{role} {field}": value for field, value in fields.items()}
    return {"training questions": record["train"][0]["questions"], **settings}


def labels(records: Sequence[Record]) -> list[str]:
    """The settings of each record that differ between it and comparable ones, as text.

    Runs of the same task, or of BBH, with the same model, coach and data are comparable. Settings
    that define a variant count only where they differ within it; in a user's own variant, and in
    another library's method, these may be any settings. A contaminated test is always named.
    """
    settings = [settings_of(record) for record in records]
    names = dict.fromkeys(name for own in settings for name in own)
    values: dict[tuple, set[str]] = defaultdict(set)
    for record, own in zip(records, settings):
        variant = record["variant"]
        about = names
        if variant in VARIANTS or variant.startswith("only_"):
            changed = VARIANTS.get(variant, Variant("", {}, {"trainable": None}))
            about = {**changed.language, **changed.descend}
        for name in names:
            scope = variant if name in about else "any"
            values[_comparable(record), name, scope].add(_text(own.get(name)))
    differing = {(group, name) for (group, name, _), texts in values.items() if len(texts) > 1}
    found = []
    for record, own in zip(records, settings):
        shown = [name for name in names if (_comparable(record), name) in differing]
        contaminated = [CONTAMINATED] if record["overlap"] else []
        found.append(", ".join([*contaminated, *(f"{n} {_text(own.get(n))}" for n in shown)]))
    return found


def _comparable(record: Record) -> tuple[str, ...]:
    benchmark = "bbh" if record["experiment"] == "bbh" else record["task"]
    return record["experiment"], benchmark, record["model"], record["coach"], record["data"]


def _text(value: object) -> str:
    if value is None:
        return "not set"
    return value if isinstance(value, str) else json.dumps(value)
