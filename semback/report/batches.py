"""The list of batches, and a comparison of two of them, question by question."""

import os
import time
from collections.abc import Sequence

from pandas import DataFrame

from ..cache import ResponseCache
from ..language import CUT
from ..paths import home
from ..run import Run
from ..usage import SIMULATED
from . import results
from .records import settings_of


def listing() -> str:
    """One line for each batch in `runs/`, and below it the real models.

    Raises
    ------
    DataError
        A record is damaged.
    """
    lines = []
    for folder in sorted({path.parent for path in home().glob("runs/*/results/*.json")}):
        name, page = folder.parent.name, os.path.relpath(folder.parent / "index.html")
        records = results.load(name)
        kinds = {"simulated" if record["simulated"] else "real" for record in records}
        models = {record[role] for record in records for role in ("model", "coach")} - {SIMULATED}
        when = time.strftime("%Y-%m-%d %H:%M", time.localtime(folder.stat().st_mtime))
        facts = [f"{name:12} {len(records):4} runs", f"{' and '.join(sorted(kinds)):9}", when, page]
        lines += ["  ".join(facts), *(f"    {model}" for model in sorted(models))]
    return "\n".join(lines)


def side_by_side(one: str, other: str) -> str:
    """Compare two batches, as text: for each run that both have, how many answers agree, which
    questions only one answered correctly, which settings differ, and the first reply that differs.

    Raises
    ------
    DataError
        A batch has no results, or one of its files is damaged.
    """
    names, columns = (one, other), ["id", "answer", "correct"]
    batches = [{results.run_of(each): each for each in results.load(name)} for name in names]
    keys = [results.responses(name) for name in names]
    shared = sorted(batches[0].keys() & batches[1].keys())
    lines = [f"{len(shared)} of {len(batches[0])} runs of {one} are also in {other}"]
    for run in shared:
        records = [batch[run] for batch in batches]
        answers = [DataFrame(each["test"]["after"]["answers"], columns=columns) for each in records]
        both = answers[0].merge(answers[1], on="id").fillna("unreadable")
        same = (both["answer_x"] == both["answer_y"]).sum()
        first, second = both["correct_x"] * 1, both["correct_y"] * 1  # True is 1
        right = (first + second == 2).sum()
        lines += [run, f"  {same} of {len(both)} answers are the same; {right} correct in both"]
        for name, ids in ((one, both["id"][first > second]), (other, both["id"][first < second])):
            if len(ids):
                lines.append(f"  {len(ids)} correct only in {name}: {', '.join(ids)}")
        settings = [{**settings_of(each), "data": each["data"]} for each in records]
        for key in {**settings[0], **settings[1]}:
            values = [each.get(key) for each in settings]
            if values[0] != values[1]:
                lines.append(f"  {key}: {values[0]} in {one}, {values[1]} in {other}")
        runs = [results.history(name, record) for name, record in zip(names, records)]
        lines.append(f"  {_divergence(runs, [set(own.get(run, ())) for own in keys])}")
    return "\n".join(lines)


def _divergence(runs: Sequence[Run | None], keys: Sequence[set[str]]) -> str:
    """The first training reply that differs, and how to look at its recording."""
    texts = [_texts(run) for run in runs]
    for place in {**texts[0], **texts[1]}:
        if texts[0].get(place) != texts[1].get(place):
            side, rest = (0, 1) if place in texts[0] else (1, 0)
            text = (texts[side][place] or "").removesuffix(CUT)
            entries = ResponseCache().entries(keys[side] - keys[rest])
            found = [key[:12] for key, entry in entries if text in entry["reply"]["text"]]
            look = f"semback cache show {found[0]}" if found else "not in the cache"
            return f"they first differ in {place} ({look})"
    return f"no training reply differs; {len(keys[0] ^ keys[1])} recordings belong to one only"


def _texts(run: Run | None) -> dict[str, str | None]:
    """What the replies in training contained, in order."""
    texts = {}
    for number, step in enumerate(run.steps if run else ()):
        for example, messages in step.messages.items():
            for source, target, text in messages:
                texts[f"step {number}, the gradient of {target} from {source}, {example}"] = text
        for node in step.candidate:
            texts[f"step {number}, the instruction of {node.name}"] = node.instruction
        for row in step.scores.rows if step.scores else ():
            texts[f"step {number}, the reply to {row.id}"] = row.reply
    return texts
