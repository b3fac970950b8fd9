"""The report of a batch: `runs/<name>/index.html`, one self-contained page that loads nothing.

It shows what notebooks show: a sentence for each result, figures, tables, and each run with its
test questions and steps. Real models come before simulated ones. The same files give the same bytes
with the same commit and libraries, which the page names. It links to the executed notebooks beside
it. Its only script handles clicks on a drawn graph.
"""

import hashlib
import subprocess
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import suppress
from importlib.metadata import version
from pathlib import Path
from platform import python_version
from typing import Any

from ..paths import home, write_text
from ..run import OUTCOMES, Questions
from . import claims, comparisons, figures, results
from .records import CONFIGURATION, Record, settings_of, writing
from .show import CLICK, Table, as_html, interval, percent, render, usage_table
from .summary import Summary

LINES, TRACES = 9000, 250  # test questions on a page, and those that open into their traces
CLAIM = ["claim", "verdict", "result", "found"]  # columns of the claims
LIBRARIES = ("semback", "jinja2", "matplotlib", "openai", "pandas", "scipy")


def write(name: str) -> Path:
    """Write the report of the batch `runs/<name>`.

    Returns
    -------
    Path
        Of the page.

    Raises
    ------
    DataError
        There are no results, or a file of the batch is damaged or cannot be written.
    CacheError
        A recorded reply was altered.
    """
    path, page = results.folder(name) / "index.html", html(name)
    with writing(path):
        return write_text(path, page)


def html(name: str) -> str:
    """The report of the batch `runs/<name>` as a page of HTML. Raises: as `write`."""
    records, keys = results.load(name), results.responses(name)
    by_run = {results.run_of(record): record for record in records}
    kinds = [[each for each in records if each["simulated"] is kind] for kind in (False, True)]
    rows = results.frame(records).query("stage == 'after'")
    runs = []  # in the order of the tables
    for row in rows.sort_values("simulated", kind="stable").to_dict("records"):
        record = by_run[row["run"]]
        usage = as_html("Training and test:", usage_table(record["usage"]))
        run = results.history(name, record)
        training = render("run.html.j2", run=run) if run else ""
        questions = _questions(results.questions(name, record), row["run"], len(records))
        runs.append((row, record, settings_of(record), usage, training, questions))
    page = render(
        "page.html.j2",
        name=name,
        records=records,
        sentences=[text for some in kinds if some for text in sentences(some)],
        summaries=[Summary(some) for some in kinds if some],
        claims=_claims(kinds[0]) if kinds[0] else "",
        figures=[(stem, plot, plot._repr_png_()) for stem, plot in figures.drawn(name)],
        runs=runs,
        keys=keys,
        outcomes=[outcome.replace(" ", "-") for outcome in OUTCOMES],
        recorded=results.recorded(set().union(*keys.values())),
        notebooks=sorted(path.stem for path in results.folder(name).glob("notebooks/*.ipynb")),
        versions={"commit": commit(), "Python": python_version()}
        | {each: version(each) for each in LIBRARIES},
        click_hash=hashlib.sha256(CLICK.encode()).digest(),
    )
    return page.encode(errors="replace").decode()  # a reply may hold half a surrogate pair


def sentences(records: Sequence[Record]) -> Iterator[str]:
    """A sentence for each result of the full method or, where it was not run, of all others.

    BBH files that belong to a group are left out. The p value is adjusted; see `comparisons`.
    """
    table, keys = results.table(records), [*CONFIGURATION, "result"]
    compared = comparisons.table(records).to_dict("records")
    pairs = {tuple(map(row.get, keys)): row for row in compared if row["against"] == "start"}
    grouped = (table["files"] > 1).any()
    for key, rows in table.groupby(keys, sort=False):
        full = rows[rows["variant"] == comparisons.FULL]
        for row in (rows if full.empty else full).to_dict("records"):
            if grouped and row["files"] == 1 and row["result"].startswith("BBH "):
                continue
            gain = 100 * (row["after"] - row["before"])
            share = f"{100 * row['before']:.1f} → {percent(row['after'])}"
            text = f"{row['result']}: {row['method']} {share} {interval(row['low'], row['high'])}"
            if (pair := pairs.get(key)) and pair["stayed"]:
                text += ", no candidate accepted: the start graph stayed"
            else:
                text += f", {gain:+.1f} points"
                text += f", p {comparisons.equals(pair['holm'])}" if pair else ""
            yield text + (", simulated" if row["simulated"] else f" ({row['model']})")


def _claims(records: Sequence[Record]) -> str:
    """What records of real models say about the claims of the paper."""
    cells = claims.table(records)[CLAIM].astype(object).fillna("").values.tolist()
    return as_html("", Table("the claims of the paper", CLAIM, cells))


def _questions(questions: Questions, run: str, runs: int) -> str:
    """The test questions of a run, which is one of `runs` on the page."""
    rows, opened, most = questions.rows, Counter(), max(1, TRACES // len(OUTCOMES) // runs)
    shown: list[Any] = []
    for before, after, outcomes in rows[: LINES // runs]:
        opens = after.id in questions.after.traces and min(opened[each] for each in outcomes) < most
        opened.update(outcomes if opens else ())
        shown.append((before, after, outcomes, opens))
    counts = Counter(outcome for *_, outcomes in rows for outcome in outcomes)
    values = {"questions": questions, "rows": shown, "counts": counts, "most": most, "run": run}
    return render("questions.html.j2", outcomes=OUTCOMES, **values)


def commit() -> str:
    """The commit of the folder that holds `runs/`, with "-dirty" where files differ from it."""
    command = ["git", "-C", str(home()), "describe", "--always", "--dirty"]
    with suppress(OSError):
        return subprocess.run(command, capture_output=True, text=True).stdout.strip()
    return ""  # there is no git
