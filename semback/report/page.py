"""The report of a batch: `runs/<name>/index.html`, one page that holds everything and loads nothing.

It is made from what the batch left in its folder, and from the cache that the batch rests on. The same files give the same
bytes with the same libraries, whose versions it names. No script runs in it but the clicks on a drawn graph, and notebooks
stand in frames of their own, so what a notebook shows can reach neither the page nor the network.
"""

import base64
import hashlib
import platform
from collections.abc import Iterable, Mapping
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import NamedTuple

import jinja2
import nbformat
from nbconvert import HTMLExporter

from ..batch.jobs import LAST
from ..cache import recording
from ..cache.responses import ResponseCache
from ..paths import write_text
from ..run import Run
from . import comparisons, conditions, figures, results
from .statistics import tested

LIBRARIES = (
    "diskcache",
    "jinja2",
    "matplotlib",
    "nbconvert",
    "numpy",
    "openai",
    "pandas",
    "papermill",
    "scipy",
)


class Recorded(NamedTuple):
    """The responses that something rests on: how many, how many of them the cache holds, and the SHA-256 of their lines, which are what
    `semback cache export` writes for them. The hash is "" where a response is not in the cache, or none is known."""

    count: int
    found: int
    sha256: str


def write(name: str) -> Path:
    """Write the report of the batch `runs/<name>`; returns its path.

    Errors: DataError where there are no results, or one is not a record; CacheError where a response was altered.
    """
    return write_text(results.folder(name) / "index.html", html(name))


def html(name: str) -> str:
    """The report of the batch `runs/<name>` as a whole HTML page. Errors: as `write`."""
    records = results.load(name)
    runs, plots, keys = _runs(name, records), list(figures.drawn(name)), results.responses(name)
    groups = {
        **{("run", run["id"]): keys.get(run["id"], ()) for run in runs},
        **{("figure", stem): _union(keys, plot.runs) for stem, plot in plots},
        "batch": _union(keys, keys),
    }
    recorded = recordings(groups)
    drawn = [_figure(stem, plot, recorded["figure", stem]) for stem, plot in plots]
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    environment.filters["percent"] = "{:.1%}".format
    environment.filters["many"] = "{:,.0f}".format
    table, compared = results.table(records), comparisons.table(records)
    compared = dict(list(compared.groupby(results.SETTING))) if len(compared) else {}
    return environment.get_template("report.html.j2").render(
        name=name,
        settings=[
            (
                dict(zip(results.SETTING, setting)),
                rows.to_dict("records"),
                compared[setting].to_dict("records") if setting in compared else [],
            )
            for setting, rows in table.groupby(results.SETTING)
        ],
        compared=compared,
        contaminated=table["conditions"].str.contains(conditions.CONTAMINATED).any(),
        simulated=table["simulated"].any(),
        real=not table["simulated"].all(),
        figures=drawn,
        batch=recorded["batch"],
        runs=[run | {"recorded": recorded["run", run["id"]]} for run in runs],
        others=_others(name, runs),
        versions=versions(),
        shown=_shown(runs),
    )


def recordings(groups: Mapping[object, Iterable[str]]) -> dict[object, Recorded]:
    """What the checkout's cache holds of each group of keys."""
    members: dict[str, list] = {}
    for group, keys in groups.items():
        for key in set(keys):
            members.setdefault(key, []).append(group)
    sums, found = {group: hashlib.sha256() for group in groups}, dict.fromkeys(groups, 0)
    for key, entry in ResponseCache().entries(set(members)):
        line = recording.line(key, entry)
        for group in members[key]:
            sums[group].update(line)
            found[group] += 1
    counts = {group: len(set(keys)) for group, keys in groups.items()}
    return {
        group: Recorded(
            count, found[group], sums[group].hexdigest() if count and found[group] == count else ""
        )
        for group, count in counts.items()
    }


def versions() -> list[tuple[str, str]]:
    """(name, version) of semback, Python, and the libraries that results and figures pass through."""
    from .. import __version__

    return [
        ("Python", platform.python_version()),
        ("semback", __version__),
        *((library, version(library)) for library in LIBRARIES),
    ]


def _runs(name: str, records) -> list[dict]:
    """What the page says of each run, in the order of the tables."""
    folder, by_id = results.folder(name), {results.run_of(record): record for record in records}
    frame, runs = results.frame(records).set_index("run"), []
    before, after = tested(frame)
    for identity, row in after.iterrows():
        record = by_id[identity]
        origin = {key: row[key] for key in results.RUN if row[key] != ""}
        history, book = (
            folder / "history" / f"{identity}.json",
            folder / "notebooks" / f"{identity}.ipynb",
        )
        page, parameters = _notebook(book) if book.is_file() else ("", {})
        runs.append(
            {
                "id": identity,
                **origin,
                **row[["result", "method", "conditions", "simulated", "low", "high"]],
                "before": before.loc[identity, "accuracy"],
                "after": row["accuracy"],
                "parameters": {
                    **origin,
                    **record["settings"],
                    **conditions.of(record),
                    **parameters,
                },
                "usage": record["usage"],
                "history": Run.load(history) if history.is_file() else None,
                "notebook": page,
            }
        )
    return runs


def _shown(runs) -> tuple[dict, int] | None:
    """A run and the number of its step whose gradients are shown at the top: one that was accepted, if there is one."""
    steps = [
        (not step.accepted, place, number)
        for place, run in enumerate(runs)
        if run["history"]
        for number, step in enumerate(run["history"].steps)
        if step.messages
    ]
    if not steps:
        return None
    _, place, number = min(steps)
    return runs[place], number


def _others(name: str, runs) -> list[dict]:
    """The notebooks that belong to no run, those that failed first; not the last one, whose figures are this page's own."""
    known = {LAST, f"{LAST}.failed", *(run["id"] for run in runs)}
    paths = [
        path
        for path in sorted((results.folder(name) / "notebooks").glob("*.ipynb"))
        if path.stem not in known and not path.stem.endswith(".running")
    ]
    return [
        {
            "name": path.stem.removesuffix(".failed"),
            "failed": path.stem.endswith(".failed"),
            "notebook": _notebook(path)[0],
        }
        for path in sorted(paths, key=lambda path: not path.stem.endswith(".failed"))
    ]


def _notebook(path: Path) -> tuple[str, dict]:
    """An executed notebook as a fragment of HTML, and the parameters that it was given."""
    book = nbformat.read(path, as_version=4)
    for number, cell in enumerate(book.cells):
        cell["id"] = str(number)  # papermill draws a new id for the cell that it puts in
    return _exporter().from_notebook_node(book)[0], book.metadata.get("papermill", {}).get(
        "parameters", {}
    )


@cache
def _exporter():
    return HTMLExporter(
        template_name="basic",
        exclude_input_prompt=True,
        exclude_output_prompt=True,
        exclude_anchor_links=True,
        filters={"clean_html": lambda html: html},
    )  # slow, and the page lets nothing run or load anyway


def _figure(stem: str, plot, recorded: Recorded) -> dict:
    image, size = plot._repr_png_()
    said = " ".join(getattr(figures, stem).__doc__.split("\n\n")[0].split())
    kinds = sorted(set(plot.data["interval"].dropna())) if "interval" in plot.data else []
    return {
        "name": stem,
        "caption": said,
        "intervals": kinds,
        "recorded": recorded,
        "runs": plot.runs,
        "width": size["width"],
        "image": base64.b64encode(image).decode(),
        "csv": plot.data.to_csv(index=False, lineterminator="\n"),
    }


def _union(keys: Mapping[str, Iterable[str]], runs: Iterable[str]) -> set[str]:
    return {key for run in runs for key in keys.get(run, ())}
