"""The report of a batch: `runs/<name>/index.html`, one page that holds all and loads nothing.

It shows what notebooks show: tables, figures, and each run with its steps. The same files give the
same bytes with the same libraries, whose versions the page names. Executed notebooks stand in
frames of their own; no script runs but the click on a drawn graph, and nothing is loaded.
"""

import hashlib
from collections.abc import Collection, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from platform import python_version
from typing import Any, NamedTuple

import nbformat
from nbconvert import HTMLExporter

from ..cache import ResponseCache, recording
from ..paths import write_text
from ..run import Run
from . import figures, results, show
from .configuration import settings_of
from .html import CLICK, render
from .records import Record
from .statistics import tested
from .summary import Summary

FIGURES = "06_figures"  # the notebook whose figures are those of the page
LIBRARIES = ("semback", "jinja2", "matplotlib", "nbconvert", "openai", "pandas", "scipy")


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
    return render(
        "page.html.j2",
        name=name,
        show=show,
        settings_of=settings_of,
        records=records,
        summary=Summary(records),
        figures=drawn,
        runs=_runs(name, records),
        notebooks=_notebooks(results.folder(name)),
        recorded=recordings(groups),
        versions={"Python": python_version()} | {each: version(each) for each in LIBRARIES},
        click_hash=hashlib.sha256(CLICK.encode()).digest(),
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


def _runs(name: str, records: Sequence[Record]) -> list[tuple[dict, dict, Record, Run | None]]:
    """The scores before and after of each run, in the order of the tables; its record and Run."""
    records_by_run = {results.run_of(record): record for record in records}
    before, after = tested(results.frame(records))
    runs = []
    for start, end in zip(before.to_dict("records"), after.to_dict("records")):
        record = records_by_run[end["run"]]
        runs.append((start, end, record, results.history(name, record)))
    return runs


def _notebooks(folder: Path) -> dict[str, str]:
    """The executed notebooks as fragments of HTML."""
    exporter = HTMLExporter(
        template_name="basic", exclude_input_prompt=True, exclude_output_prompt=True
    )
    shown = {}
    for path in sorted((folder / "notebooks").glob("*.ipynb")):
        if path.stem != FIGURES:
            notebook = nbformat.read(path, as_version=4)
            for number, cell in enumerate(notebook.cells):
                cell["id"] = str(number)  # papermill draws a new one for the cell that it inserts
            shown[path.stem] = exporter.from_notebook_node(notebook)[0]
    return shown
