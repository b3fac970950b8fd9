"""The configuration of a run: its model, coach and data, and every setting beside them.

Results of different configurations are never pooled or compared. So that tables stay readable, only
the settings that differ between comparable runs are spelt out, in the column `settings`.
"""

import json
from collections import defaultdict
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
    settings = [settings_of(record) for record in records]
    names = dict.fromkeys(name for own in settings for name in own)
    values: dict[tuple, set[str]] = defaultdict(set)
    for record, own in zip(records, settings):
        variant = record["variant"]
        ours = variant in VARIANTS or variant.startswith("only_")
        for name in names:
            scope = "any" if ours and name not in ABLATED else variant
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
