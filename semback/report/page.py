"""The report of a batch: `runs/<name>/index.html`, one page that holds all and loads nothing.

It shows what notebooks show: tables, figures, and each run with its steps. The same files give the
same bytes with the same libraries, whose versions the page names. Executed notebooks stand in
frames of their own; no script runs but the click on a drawn graph, and nothing is loaded.
"""

import hashlib
from importlib.metadata import version
from pathlib import Path
from platform import python_version

import nbformat
from nbconvert import HTMLExporter

from ..cache import ResponseCache, recording
from ..paths import write_text
from . import figures, results
from .records import Record, reading, settings_of, writing
from .show import CLICK, as_html, render, usage_table
from .summary import Summary

FIGURES = "06_figures"  # the notebook whose figures are those of the page
LIBRARIES = ("semback", "jinja2", "matplotlib", "nbconvert", "openai", "pandas", "scipy")


def write(name: str) -> Path:
    """Write the report of the batch `runs/<name>`.

    Returns
    -------
    Path
        Of the page.

    Raises
    ------
    DataError
        There are no results, or a file of the batch is damaged.
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
    runs = []  # in the order of the tables
    for row in results.frame(records).query("stage == 'after'").to_dict("records"):
        record = by_run[row["run"]]
        usage = as_html("Training and test:", usage_table(record["usage"]))
        runs.append((row, record, settings_of(record), usage, _training(name, record)))
    drawn = []
    for stem, plot in figures.drawn(name):
        caption = getattr(figures, stem).__doc__.split("\n\n")[0]
        drawn.append((stem, plot, plot._repr_png_(), caption))
    page = render(
        "page.html.j2",
        name=name,
        records=records,
        summary=Summary(records),
        figures=drawn,
        runs=runs,
        keys=keys,
        recorded=recorded(set().union(*keys.values())),
        notebooks=_notebooks(results.folder(name)),
        versions={"Python": python_version()} | {each: version(each) for each in LIBRARIES},
        click_hash=hashlib.sha256(CLICK.encode()).digest(),
    )
    return page.encode(errors="replace").decode()  # a notebook may hold half a surrogate pair


def _training(name: str, record: Record) -> str:
    """The steps of a run as HTML; nothing where its file was removed."""
    run = results.history(name, record)
    if run is None:
        return ""
    with reading(results.history_file(name, record), "a saved run"):
        return render("run.html.j2", run=run)


def recorded(keys: set[str]) -> tuple[int, int, str]:
    """How many replies these are, how many of them the cache holds, and the SHA-256 of the lines
    that `semback cache export` writes for those."""
    found, digest = 0, hashlib.sha256()
    for key, entry in ResponseCache().entries(keys):
        digest.update(recording.line(key, entry))
        found += 1
    return len(keys), found, digest.hexdigest()


def _notebooks(folder: Path) -> dict[str, str]:
    """The executed notebooks as fragments of HTML."""
    exporter = HTMLExporter(
        template_name="basic", exclude_input_prompt=True, exclude_output_prompt=True
    )
    shown, problems = {}, {}
    for path in sorted((folder / "notebooks").glob("*.ipynb")):
        if path.stem == FIGURES:
            continue
        with reading(path, "a notebook"):
            notebook = nbformat.read(path, as_version=4, capture_validation_error=problems)
            if problems:
                raise problems["ValidationError"]
            for number, cell in enumerate(notebook.cells):
                cell["id"] = str(number)  # papermill draws a new one for the cell that it inserts
            shown[path.stem] = exporter.from_notebook_node(notebook)[0]
    return shown
