"""Every figure of the paper's story, drawn from result records: `sb.figures.methods(sb.results.load("my_batch"))`.

Each function returns a Plot, which shows itself in a notebook: a matplotlib Figure, the DataFrame of what it shows, and the runs behind it.
Accuracies are shares from 0 to 1 in the data and percent on the axes; each model, coach and data set has a panel of its
own, and panels with a simulated result have the word "simulated" across them.
"""

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from .. import results
from ..plot import Plot, save
from .costs import costs
from .experiments import bbh_files, learning_curve, learning_curves, liar_ablation, methods
from .gradients import backward_pass, gradients
from .points import NothingToDraw
from .speed import speed
from .studies import credit, growth

__all__ = [
    "all_figures",
    "backward_pass",
    "bbh_files",
    "costs",
    "credit",
    "drawn",
    "gradients",
    "growth",
    "learning_curve",
    "learning_curves",
    "liar_ablation",
    "methods",
    "save",
    "speed",
]


def all_figures(name: str) -> list[Path]:
    """Draw every figure for which the batch `runs/<name>` has results, into `runs/<name>/figures/`; returns the paths.

    Each is there as PNG and PDF, with its data as CSV and, in `<figure>.runs.txt`, the runs that it rests on: the keys of the responses
    of each are in `runs/<name>/responses/`. DataError where there are no results at all.
    """
    return [
        path
        for stem, plot in drawn(name)
        for path in save(*plot, results.folder(name) / "figures" / stem)
    ]


def drawn(name: str) -> Iterator[tuple[str, Plot]]:
    """Every figure for which the batch of this name has results: (the name of its function, the Plot). Errors: as `all_figures`."""
    records = results.load(name)
    for draw, shown in (
        (learning_curves, records),
        (methods, records),
        (bbh_files, records),
        (liar_ablation, records),
        (costs, records),
        (gradients, name),
    ):
        with suppress(NothingToDraw):
            yield draw.__name__, draw(shown)
