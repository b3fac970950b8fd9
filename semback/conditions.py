"""Under what conditions a result came about, beside its model, coach and data: two results that differ in them are never put together."""

import json
from collections.abc import Sequence

CONTAMINATED = "contaminated test"  # training questions are among the test questions, so the accuracy is too high


def of(record: dict) -> dict:
    """The conditions of a record, by name: training questions, steps, wrong answers a step; what was sent to the model and the coach beside
    messages; whether the test is contaminated. Records of before semback kept the last two do not tell them."""
    settings = record["settings"]
    sent = {f"{role} {field}": value for role, fields in record.get("params", {}).items() for field, value in fields.items()}
    return {"training questions": record["train"][0]["questions"], "steps": settings.get("steps"), "errors": settings.get("errors"),
            **sent, CONTAMINATED: record.get("overlap", False)}


def labelled(records: Sequence[dict]) -> list[dict]:
    """The records, each with a text `conditions`: whether its test is contaminated, and what it does not share with all that a table could
    put it together with (those of its task, or of BBH, with its model, coach and data). "" where there is nothing to tell."""
    found, groups = [of(record) for record in records], {}
    for record, mine in zip(records, found):
        groups.setdefault(_group(record), []).append(mine)
    return [record | {"conditions": _label(mine, groups[_group(record)])} for record, mine in zip(records, found)]


def _group(record):
    whole = "bbh" if record["experiment"] == "bbh" else record["task"]
    return record["experiment"], whole, record["model"], record["coach"], record["data"]


def _label(mine, group):
    names = dict.fromkeys(name for each in group for name in each if name != CONTAMINATED)
    differ = [f"{name} {_said(mine.get(name))}" for name in names if any(each.get(name) != mine.get(name) for each in group)]
    return ", ".join([CONTAMINATED] * mine[CONTAMINATED] + differ)


def _said(value) -> str:
    return "not set" if value is None else value if isinstance(value, str) else json.dumps(value)


def heading(model: str, coach: str, data: str, conditions: str) -> str:
    """A setting as the head of a table."""
    return f"model {model}, coach {coach}, {data} data" + (conditions and f", {conditions}")
