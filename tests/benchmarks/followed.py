"""`python -m benchmarks.followed BATCH…`: how coaches followed the prompts in recorded runs.

Replies whose blocks can be read, and gradients that are no copy of the value that they are about,
are counted in the recordings: first tries only, and each reply once in a run. Instructions that are
new, and those of them that do not leak, are counted in the saved runs. A sealed recording has no
requests, so nothing is counted in it. The results are in docs/real.md.
"""

import re
import sys
from itertools import chain

import pandas
from rapidfuzz.fuzz import ratio

import semback as sb
from benchmarks.coaching import COPY
from semback.prompts import fenced, outside
from semback.replies import named_blocks
from semback.report import results
from semback.variants import METHODS

COUNTED = ("read at first try", "gradient is no copy", "new instruction", "without leak")
ASKED = re.compile(r'^<(gradient|critique|instruction)(?: to="(.*)")?>$', re.MULTILINE)


def replies(entries: dict) -> dict[str, list[bool]]:
    """What the coach's first replies of a run are like, from its recording."""
    found: dict[str, list[bool]] = {what: [] for what in COUNTED[:2]}
    for entry in entries.values():
        messages = entry.get("request", {}).get("messages", [])
        asked = ASKED.findall(outside(messages[1]["content"])) if len(messages) == 2 else []
        if asked:
            prompt, text = messages[1]["content"], entry["reply"]["text"]
            (tag, *_), names = zip(*asked)
            blocks, problem = named_blocks(text, tag, names)
            found["read at first try"].append(problem is None)
            values = dict(fenced(prompt))
            for name, gradient in blocks.items():
                if gradient and name:
                    copied = ratio(gradient, values.get(f"from {name}", "")) >= COPY
                    found["gradient is no copy"].append(not copied)
    return found


def updates(run: sb.Run) -> dict[str, list[bool]]:
    """What the instructions of a run's steps are like."""
    found: dict[str, list[bool]] = {what: [] for what in COUNTED[2:]}
    graph = run.steps[0].candidate
    for step in run.steps[1:]:
        for node in step.candidate:
            if node.trainable and step.kept.get(node.name) != "no gradient reached it":
                new = node.instruction != graph[node.name].instruction
                found["new instruction"].append(new)
                if new:
                    found["without leak"].append(node.name not in step.leaks)
        if step.accepted:
            graph = step.candidate
    return found


def main(names: list[str]) -> None:
    cache = sb.ResponseCache()
    rows: dict[str, dict[str, list[bool]]] = {}
    for name in names:
        used = results.responses(name)
        for record in results.load(name):
            if record["variant"] in METHODS:
                continue
            run = results.history(name, record)
            if run is None:
                sys.exit(f"runs/{name} has no history of {record['variant']}: run it again")
            keys = set(used[results.run_of(record)])
            entries = dict(cache.entries(keys))
            rows[f"{run.task} {record['variant']}"] = replies(entries) | updates(run)
    total = {what: list(chain(*(row[what] for row in rows.values()))) for what in COUNTED}
    counts = {
        row: {what: f"{sum(each)} of {len(each)}" for what, each in found.items()}
        for row, found in {**rows, "all": total}.items()
    }
    print(pandas.DataFrame(counts).T.to_string())


if __name__ == "__main__":
    main(sys.argv[1:])
