"""Under what conditions a result came about, beside its model, coach and data: two results that differ in them are never put together."""

import json
from collections.abc import Sequence

from ..variants import VARIANTS

CONTAMINATED = "contaminated test"  # training questions are among the test questions, so the accuracy is too high
VARIED = (
    "gate",
    "trainable",
    "neighbourhood",
    "gradient",
    "draw_between",
    "among",
    "feedback",
    "critique",
    "short",
    "prompts",
)
ABLATED = (
    "trainable",
    *(name for _, *arguments in VARIANTS.values() for each in arguments for name in each),
)  # by our own variants


def of(record: dict) -> dict:
    """The conditions of a record, by name: training questions; the settings of `descend` and `Language`, such as steps, wrong answers a
    step, and the digest of prompts of one's own; what was sent to the model and the coach beside messages; whether the test is
    contaminated. Records of before semback kept one of them do not tell it."""
    settings = {name: value for name, value in record["settings"].items() if name != "seed"}
    sent = {
        f"{role} {field}": value
        for role, fields in record.get("params", {}).items()
        for field, value in fields.items()
    }
    return {
        "training questions": record["train"][0]["questions"],
        **settings,
        **sent,
        CONTAMINATED: record.get("overlap", False),
    }


def labelled(records: Sequence[dict]) -> list[dict]:
    """The records, each with a text `conditions`: whether its test is contaminated, and what is not the same in all that a table could
    put it together with (those of its task, or of BBH, with its model, coach and data). "" where there is nothing to tell.

    What variants are about (`ABLATED`, and of those that are not ours `VARIED`) may differ from one variant to another, and is told
    only where it differs within one.
    """
    found, groups = [of(record) for record in records], {}
    for record, mine in zip(records, found):
        groups.setdefault(_group(record), []).append((record["variant"], mine))
    differ = {group: _differing(members) for group, members in groups.items()}
    return [
        record | {"conditions": _label(mine, differ[_group(record)])}
        for record, mine in zip(records, found)
    ]


def _group(record):
    whole = "bbh" if record["experiment"] == "bbh" else record["task"]
    return record["experiment"], whole, record["model"], record["coach"], record["data"]


def _differing(members):
    def differs(name):
        values = {
            (variant if name in _varied(variant) else "", _said(mine.get(name)))
            for variant, mine in members
        }
        return len(values) > len({variant for variant, _ in values})

    names = dict.fromkeys(name for _, mine in members for name in mine if name != CONTAMINATED)
    return [name for name in names if differs(name)]


def _varied(variant: str) -> tuple[str, ...]:
    return ABLATED if variant in VARIANTS or variant.startswith("only_") else VARIED


def _label(mine, differ):
    return ", ".join(
        [CONTAMINATED] * mine[CONTAMINATED] + [f"{name} {_said(mine.get(name))}" for name in differ]
    )


def _said(value) -> str:
    return "not set" if value is None else value if isinstance(value, str) else json.dumps(value)


def heading(model: str, coach: str, data: str, conditions: str) -> str:
    """A setting as the head of a table."""
    return f"model {model}, coach {coach}, {data} data" + (conditions and f", {conditions}")
