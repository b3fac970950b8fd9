"""What JSON files of finished runs hold, and reading them: whatever is wrong in one is one DataError that names the file and the place."""

import hashlib
import json
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from ..errors import DataError, SembackError
from ..usage import Count

# Shapes: a type; [of each item]; [of the first, of the second, …]; {key: of its value}; {str: of each value}; (what may stand in its place,
# shape), where ... is nothing at all.
SCORE = {"id": str, "reply": str | None, "answer": str | None, "correct": bool}
RUN = {
    **dict.fromkeys(("task", "model", "coach", "stopped"), str),
    "settings": dict,
    "params": (..., {str: dict}),
    "steps": [
        {
            "candidate": dict,
            "scores": (None, [SCORE]),
            "accepted": bool,
            "examples": [str],
            "kept": (..., {str: str}),
            "gradients": (..., {str: {str: str | None}}),
            "messages": (..., {str: [[str, str, str | None]]}),
        }
    ],
    "usage": {
        "failures": [{"phase": str, "node": str, "problem": str, "reply": str | None}],
        "counts": [
            {
                "phase": str,
                "model": str,
                "answered_by": (..., {str: int}),
                **dict.fromkeys(Count.__dataclass_fields__.keys() - {"answered_by"}, (..., int)),
            }
        ],
    },
}
TESTED = {"questions": int, "correct": int, "answers": [[str, str | None, bool]]}
RECORD = {
    **dict.fromkeys(("experiment", "task", "group", "variant", "data", "model", "coach"), str),
    "seed": int,
    "simulated": bool,
    "settings": dict,
    "overlap": (..., bool),
    "params": (..., {str: dict}),
    "instructions": dict,
    "train": [
        {"step": int, "questions": int, "correct": int | None, "accepted": bool, "kept": {str: str}}
    ],
    "test": {"before": TESTED, "after": TESTED},
    "usage": [
        {
            "stage": str,
            "cost": int | float | None,
            **dict.fromkeys(("calls", "prompt_tokens", "completion_tokens"), int),
        }
    ],
}


def file_name(text: str) -> str:
    """The text, or the beginning of a long one and its hash: the name of a file has at most 255 bytes, endings included."""
    whole = text.encode()
    return (
        text
        if len(whole) <= 200
        else f"{whole[:180].decode(errors='ignore')}-{hashlib.sha256(whole).hexdigest()[:16]}"
    )


def read(path: str | Path, build: Callable[[Any], Any], says: str):
    """What `build` makes of the data in a JSON file. DataError, with the path and what it `says` in front, where that cannot be done."""
    try:
        return build(json.loads(Path(path).read_text(encoding="utf-8")))
    except (
        OSError,
        ValueError,
        LookupError,
        TypeError,
        AttributeError,
        RecursionError,
        SembackError,
    ) as error:
        raise DataError(
            f"{path} {says}: {error if isinstance(error, SembackError) else repr(error)}"
        ) from None


def refuse_another(path: Path, names: dict) -> None:
    """DataError where a file holds the record of a run with other `names`, {key: value}."""
    with suppress(OSError, ValueError, LookupError, TypeError):  # there is nobody's record
        there = json.loads(path.read_text(encoding="utf-8"))
        if differ := {key: (there[key], name) for key, name in names.items() if there[key] != name}:
            raise DataError(
                f"{path} holds the results of another run, with the same file name: {differ}. Take another name for the batch"
            )


def fits(data, shape, *where) -> None:
    """DataError, which says where, for data of another shape."""
    if isinstance(shape, tuple):
        instead, shape = shape
        if data is instead:
            return
    if not isinstance(data, type(shape) if isinstance(shape, dict | list) else shape):
        raise DataError(
            f"{', '.join(map(str, where))} is {'missing' if data is ... else repr(data)[:80]}"
        )
    if isinstance(shape, dict):
        for key, part in dict.fromkeys(data, shape[str]).items() if str in shape else shape.items():
            fits(data.get(key, ...), part, *where, key)
    elif isinstance(shape, list):
        if len(data) != len(shape) > 1:
            raise DataError(
                f"{', '.join(map(str, where))} is {repr(data)[:80]}, which has not {len(shape)} parts"
            )
        for place, value in enumerate(data):
            fits(value, shape[place % len(shape)], *where, place)


def record(data) -> dict:
    """The record of a run (see `results`). DataError where it is none, or has numbers that no run can have."""
    fits(data, RECORD, "the record")
    _possible([(step["correct"], step["questions"], step["accepted"]) for step in data["train"]])
    for stage in ("before", "after"):
        tested = data["test"][stage]
        right = {id: right for id, _, right in tested["answers"]}
        if (
            not len(right) == len(tested["answers"]) == tested["questions"] > 0
            or sum(right.values()) != tested["correct"]
        ):
            raise DataError(
                f"test, {stage}: {tested['correct']} right of {tested['questions']} is not what its answers say"
            )
    return data


def run(data) -> dict:
    """The data of a Run. DataError where it is none, or has steps that no run can have."""
    fits(data, RUN, "the run")
    scored = [
        (step["scores"] and [row["correct"] for row in step["scores"]], step["accepted"])
        for step in data["steps"]
    ]
    _possible(
        [
            (None if right is None else sum(right), len(right or ()), accepted)
            for right, accepted in scored
        ]
    )
    return data


def _possible(steps: list[tuple[int | None, int, bool]]) -> None:
    """DataError for (correct, questions, accepted) of steps that no run can have: the first is accepted, and so has scores."""
    if not steps or not steps[0][2]:
        raise DataError("there is no step 0, the start graph")
    for number, (correct, questions, accepted) in enumerate(steps):
        if accepted if correct is None else not 0 <= correct <= questions > 0:
            raise DataError(
                f"step {number}: {correct} right of {questions}, {'accepted' if accepted else 'rejected'}, cannot be"
            )
