"""The report of a batch: `runs/<name>/index.html`, one page that holds all and loads nothing.

It shows what notebooks show: tables, figures, and each run with its steps. The same files give the
same bytes with the same libraries, whose versions the page names. The executed notebooks beside it
are linked. No script runs but the click on a drawn graph, and nothing is loaded.
"""

import hashlib
from importlib.metadata import version
from pathlib import Path
from platform import python_version

from ..cache import ResponseCache, recording
from ..paths import write_text
from . import figures, results
from .records import settings_of, writing
from .show import CLICK, as_html, render, usage_table
from .summary import Summary

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
        run = results.history(name, record)
        training = render("run.html.j2", run=run) if run else ""
        runs.append((row, record, settings_of(record), usage, training))
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
        notebooks=sorted(path.stem for path in results.folder(name).glob("notebooks/*.ipynb")),
        versions={"Python": python_version()} | {each: version(each) for each in LIBRARIES},
        click_hash=hashlib.sha256(CLICK.encode()).digest(),
    )
    return page.encode(errors="replace").decode()  # a reply may hold half a surrogate pair


def recorded(keys: set[str]) -> tuple[int, int, str]:
    """How many replies these are, how many of them the cache holds, and the SHA-256 of the lines
    that `semback cache export` writes for those."""
    found, digest = 0, hashlib.sha256()
    for key, entry in ResponseCache().entries(keys):
        digest.update(recording.line(key, entry))
        found += 1
    return len(keys), found, digest.hexdigest()
