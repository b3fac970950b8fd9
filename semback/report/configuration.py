"""The configuration of a run: its model, coach and data, and every setting beside them.

Results of different configurations are never pooled or compared. So that tables stay readable, only
the settings that differ between comparable runs are spelt out, in the column `settings`.
"""

import json
from collections.abc import Sequence

from ..variants import VARIANTS
from .records import Record

CONFIGURATION = ["model", "coach", "data", "settings"]  # results are pooled within these only
CONTAMINATED = "contaminated test"  # training questions are among the test questions
ABLATED = {"trainable"} | {
    setting for variant in VARIANTS.values() for setting in {**variant.language, **variant.descend}
}


def settings_of(record: Record) -> dict[str, object]:
    """Every setting of a run by name: training questions, the arguments of `descend` and `Language`
    (prompts of one's own as a digest), and the fields sent to the model and the coach."""
    settings = {name: value for name, value in record["settings"].items() if name != "seed"}
    for role, fields in record["params"].items():
        settings |= {f"{role} {field}": value for field, value in fields.items()}
    return {"training questions": record["train"][0]["questions"], **settings}


def labels(records: Sequence[Record]) -> list[str]:
    """The settings of each record that differ between it and comparable ones, as text.

    Comparable are runs of one task, or of BBH, with the same model, coach and data. What a variant
    is about (the settings in `ABLATED`; in a variant of one's own that may be any) counts only
    where it differs within that variant. A contaminated test is always named.
    """
    groups: dict[tuple, list[Record]] = {}
    for record in records:
        groups.setdefault(_comparable(record), []).append(record)
    differing = {group: _differing(members) for group, members in groups.items()}
    return [_label(record, differing[_comparable(record)]) for record in records]


def _comparable(record: Record) -> tuple:
    benchmark = "bbh" if record["experiment"] == "bbh" else record["task"]
    return record["experiment"], benchmark, record["model"], record["coach"], record["data"]


def _differing(records: list[Record]) -> list[str]:
    settings = [settings_of(record) for record in records]
    names = dict.fromkeys(name for each in settings for name in each)
    return [name for name in names if _differs(name, records, settings)]


def _differs(name: str, records: list[Record], settings: list[dict[str, object]]) -> bool:
    values: dict[str, set[str]] = {}
    for record, each in zip(records, settings):
        variant = record["variant"]
        ours = variant in VARIANTS or variant.startswith("only_")
        scope = "" if ours and name not in ABLATED else variant
        values.setdefault(scope, set()).add(_text(each.get(name)))
    return any(len(found) > 1 for found in values.values())


def _label(record: Record, differing: list[str]) -> str:
    settings = settings_of(record)
    parts = [f"{name} {_text(settings.get(name))}" for name in differing]
    if record["overlap"]:
        parts.insert(0, CONTAMINATED)
    return ", ".join(parts)


def _text(value: object) -> str:
    if value is None:
        return "not set"
    return value if isinstance(value, str) else json.dumps(value)


def heading(model: str, coach: str, data: str, settings: str) -> str:
    """A configuration as the heading of a table."""
    text = f"model {model}, coach {coach}, {data} data"
    return f"{text}, {settings}" if settings else text
