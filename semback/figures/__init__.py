"""Every figure of the paper's story, drawn from result records: `sb.figures.methods(sb.results.load("my_batch"))`.

Each function returns a Plot: a matplotlib Figure and the DataFrame of what it shows, which shows itself in a notebook.
Accuracies are shares from 0 to 1 in the data and percent on the axes; each model, coach and data set has a panel of its
own, and panels with a simulated result have the word "simulated" across them.
"""

from pathlib import Path

from .. import results
from ..plot import save
from .experiments import NothingToDraw, bbh_files, learning_curve, learning_curves, liar_ablation, methods
from .speed import speed
from .studies import credit, growth

__all__ = ["all_figures", "bbh_files", "credit", "growth", "learning_curve", "learning_curves", "liar_ablation", "methods", "save", "speed"]


def all_figures(name: str) -> list[Path]:
    """Draw every figure for which the batch `runs/<name>` has results, into `runs/<name>/figures/`; returns the paths.

    DataError where there are no results at all.
    """
    records, paths = results.load(name), []
    for draw in (learning_curves, methods, bbh_files, liar_ablation):
        try:
            plot = draw(records)
        except NothingToDraw:
            continue
        paths += save(*plot, results.folder(name) / "figures" / draw.__name__)
    return paths
