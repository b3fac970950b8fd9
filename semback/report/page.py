"""The report of a batch: `runs/<name>/index.html`, one page that holds all and loads nothing.

It shows what notebooks show: tables, figures, and each run with its steps. The same files give the
same bytes with the same libraries, whose versions the page names. Executed notebooks stand in
frames of their own; no script runs but the click on a drawn graph, and nothing is loaded.
"""

import base64
import hashlib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from platform import python_version
from typing import Any, NamedTuple

import jinja2
import nbformat
from nbconvert import HTMLExporter

from ..cache import ResponseCache, recording
from ..paths import write_text
from ..run import Run
from . import comparisons, figures, results, show
from .configuration import CONFIGURATION, heading, settings_of
from .html import CLICK
from .records import Record
from .statistics import tested

FIGURES = "06_figures"  # the notebook whose figures are those of the page
LIBRARIES = ("semback", "jinja2", "matplotlib", "nbconvert", "openai", "pandas", "scipy")


@dataclass(frozen=True)
class Summary:
    """The results of a batch and their comparisons, shown as two tables for each configuration."""

    records: Sequence[Record]


@show.shows(Summary)
def summary_view(summary: Summary) -> show.View:
    """The tables; unknown prices are question marks."""
    table, compared = results.table(summary.records), comparisons.table(summary.records)
    formats = dict.fromkeys(("before", "after", "low", "high"), show.percent)
    formats |= {"calls": "{:,.0f}".format, "tokens": "{:,.0f}".format, "dollars": "{:.2f}".format}
    for column, form in formats.items():
        table[column] = table[column].map(form, na_action="ignore").fillna("?")
    names = "result method questions before after low high interval seeds calls tokens dollars"
    pairs = "result method both only_variant only_against neither words"
    against = ("result", "against", "both correct", "only it", "only the other", "neither", "it is")
    tables = []
    for _, rows in table.groupby(CONFIGURATION):
        key = rows[CONFIGURATION].values.tolist()[0]
        shown = rows[names.split()].values.tolist()
        tables.append(show.Table(f"results, {heading(*key)}", names.split(), shown))
        if len(compared):
            same = compared.loc[(compared[CONFIGURATION] == key).all(axis="columns"), pairs.split()]
            title = f"semantic gradient descent against others, {heading(*key)}"
            tables.append(show.Table(title, against, same.values.tolist()))
    return f"Runs: {len(summary.records)}", *tables


class Recorded(NamedTuple):
    """The recorded replies that something rests on.

    count and found: how many there are, and how many of them the cache holds. sha256: of the lines
    that `semback cache export` writes for those that it holds.
    """

    count: int
    found: int
    sha256: str


def write(name: str) -> Path:
    """Write the report of the batch `runs/<name>`.

    Returns
    -------
    Path
        Of the page.

    Raises
    ------
    DataError
        There are no results, or one is not a record.
    CacheError
        A recorded reply was altered.
    """
    return write_text(results.folder(name) / "index.html", html(name))


def html(name: str) -> str:
    """The report of the batch `runs/<name>` as a page of HTML. Raises: as `write`."""
    records, keys = results.load(name), results.responses(name)
    groups = {("run", run): set(keys.get(run, ())) for run in map(results.run_of, records)}
    groups["batch", name] = set().union(*keys.values())
    drawn = []
    for stem, plot in figures.drawn(name):
        groups["figure", stem] = set().union(*(keys.get(run, ()) for run in plot.runs))
        caption = getattr(figures, stem).__doc__.split("\n\n")[0]
        drawn.append((stem, plot, plot._repr_png_(), caption))
    source = Path(__file__).with_name("page.html.j2").read_text(encoding="utf-8")
    template = jinja2.Template(source, autoescape=True, undefined=jinja2.StrictUndefined)
    return template.render(
        name=name,
        show=show,
        settings_of=settings_of,
        records=records,
        summary=Summary(records),
        figures=drawn,
        runs=_runs(results.folder(name), records),
        notebooks=_notebooks(results.folder(name)),
        recorded=recordings(groups),
        versions={"Python": python_version()} | {each: version(each) for each in LIBRARIES},
        click=hashlib.sha256(CLICK.encode()).digest(),
        base64=lambda data: base64.b64encode(data).decode(),
    )


def recordings(groups: Mapping[Any, Collection[str]]) -> dict[Any, Recorded]:
    """What the cache holds of each group of keys."""
    digests = {group: hashlib.sha256() for group in groups}
    found = dict.fromkeys(groups, 0)
    for key, entry in ResponseCache().entries(set().union(*groups.values())):
        line = recording.line(key, entry)
        for group in [group for group, keys in groups.items() if key in keys]:
            digests[group].update(line)
            found[group] += 1
    return {
        group: Recorded(len(keys), found[group], digests[group].hexdigest())
        for group, keys in groups.items()
    }


def _runs(folder: Path, records: Sequence[Record]) -> list[tuple[dict, dict, Record, Run | None]]:
    """The scores before and after of each run, in the order of the tables; its record and Run."""
    records_by_run = {results.run_of(record): record for record in records}
    before, after = tested(results.frame(records))
    runs = []
    for start, end in zip(before.to_dict("records"), after.to_dict("records")):
        path = folder / "history" / f"{end['run']}.json"
        history = Run.load(path) if path.is_file() else None
        runs.append((start, end, records_by_run[end["run"]], history))
    return runs


def _notebooks(folder: Path) -> dict[str, str]:
    """The executed notebooks as fragments of HTML."""
    exporter = HTMLExporter(
        template_name="basic", exclude_input_prompt=True, exclude_output_prompt=True
    )
    shown = {}
    for path in sorted((folder / "notebooks").glob("*.ipynb")):
        if path.stem != FIGURES and not path.stem.endswith(".running"):
            notebook = nbformat.read(path, as_version=4)
            for number, cell in enumerate(notebook.cells):
                cell["id"] = str(number)  # papermill draws a new one for the cell that it inserts
            shown[path.stem] = exporter.from_notebook_node(notebook)[0]
    return shown
