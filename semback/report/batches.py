"""Batches beside each other: those that there are, and two of them question by question."""

import os
import time
from itertools import zip_longest

from ..cache import ResponseCache
from ..language import CUT
from ..paths import home
from ..run import Step
from . import results
from .records import settings_of


def listing() -> str:
    """A line for each batch in `runs/`. DataError: a record is damaged."""
    lines = []
    for folder in sorted({path.parent for path in home().glob("runs/*/results/*.json")}):
        name, page = folder.parent.name, os.path.relpath(folder.parent / "index.html")
        records = results.load(name)
        kinds = {"simulated" if record["simulated"] else "real" for record in records}
        models = dict.fromkeys(record[role] for record in records for role in ("model", "coach"))
        when = time.strftime("%Y-%m-%d %H:%M", time.localtime(folder.stat().st_mtime))
        kind = " and ".join(sorted(kinds))
        lines.append(f"{name:12} {len(records):4} runs  {kind:9}  {when}  {page}  ")
        lines[-1] += ", ".join(models.keys() - {"simulated"})
    return "\n".join(map(str.rstrip, lines))


def side_by_side(one: str, other: str) -> str:
    """Two batches as text: for each run that both have, how many answers agree, which questions
    only one answered correctly, which settings differ, and the first reply in which they part.

    Raises
    ------
    DataError
        A batch has no results, or a file of it is damaged.
    """
    names = one, other
    batches = [{results.run_of(each): each for each in results.load(name)} for name in names]
    shared = sorted(batches[0].keys() & batches[1].keys())
    lines = [f"{len(shared)} of {len(batches[0])} runs of {one} are in {other} too"]
    for run in shared:
        records = [batch[run] for batch in batches]
        given, again = (
            {id: rest for id, *rest in record["test"]["after"]["answers"]} for record in records
        )
        pairs = {id: (given[id], again[id]) for id in given if id in again}
        same = sum(first[0] == second[0] for first, second in pairs.values())
        right = sum(first[1] == second[1] == 1 for first, second in pairs.values())
        lines += [run, f"  {same} of {len(pairs)} answers are the same; {right} correct in both"]
        more = [id for id, (first, second) in pairs.items() if first[1] > second[1]]
        less = [id for id, (first, second) in pairs.items() if first[1] < second[1]]
        for name, ids in ((one, more), (other, less)):
            lines.append(f"  {len(ids)} only in {name}: {', '.join(ids)}".rstrip(": "))
        mine, theirs = ({**settings_of(each), "data": each["data"]} for each in records)
        for key in {**mine, **theirs}:
            if mine.get(key) != theirs.get(key):
                lines.append(f"  {key}: {mine.get(key)} in {one}, {theirs.get(key)} in {other}")
        steps = [getattr(results.history(*pair), "steps", ()) for pair in zip(names, records)]
        keys = [set(results.responses(name).get(run, ())) for name in names]
        lines.append(f"  {_parting(names, steps, keys)}")
    return "\n".join(lines)


def _parting(names: tuple[str, str], steps: list[tuple[Step, ...]], keys: list[set[str]]) -> str:
    """The first reply of the training that differs, and how to see its recording."""
    for number, pair in enumerate(zip_longest(*steps)):
        mine, theirs = (_texts(step) if step else {} for step in pair)
        for place in {**mine, **theirs}:
            if mine.get(place) == theirs.get(place):
                continue
            side = 0 if mine.get(place) else 1
            text = ((mine, theirs)[side][place] or "").removesuffix(CUT)
            found = [
                (key in keys[1 - side], entry["source"].get("time", ""), key)
                for key, entry in ResponseCache().entries(keys[side])
                if text in entry["reply"]["text"]
            ]
            seen = f"`semback cache show {min(found)[2][:12]}`" if found else "no recording here"
            return f"they part in step {number}, {place}; of {names[side]}: {seen}"
    return f"no reply in training differs; {len(keys[0] ^ keys[1])} recordings are of one only"


def _texts(step: Step) -> dict[str, str | None]:
    """What replies brought to a step, in the order in which it came."""
    texts = {}
    for example, messages in step.messages.items():
        for source, target, text in messages:
            texts[f"the gradient from {source} to {target} in {example}"] = text
    for node in step.candidate:
        texts[f"the instruction of {node.name}"] = node.instruction
    for row in step.scores.rows if step.scores else ():
        texts[f"the reply to {row.id}"] = row.reply
    return texts
