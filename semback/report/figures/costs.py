"""What each accuracy cost: the figure that sets the methods' test accuracy against all that was asked for to get it."""

import math

from matplotlib.ticker import EngFormatter, LogLocator, NullFormatter, StrMethodFormatter
from pandas import DataFrame

from .. import results
from ..plot import BLUE, GREEN, GREY, PAGE, PURPLE, VERMILLION, Plot, canvas, finished
from .points import (
    NothingToDraw,
    by_result,
    choose,
    score,
    setting_text,
    spread,
    start_and_variants,
)

SERIES = {  # variant: marker, colour; any other variant trains one instruction only
    "start": ("s", GREY),
    "full": ("o", BLUE),
    "no_neighbourhood": ("^", VERMILLION),
    "no_gradient": ("v", GREEN),
    "no_gate": ("D", PURPLE),
}
OPEN = {
    "no_gate": {"markerfacecolor": "none", "markersize": 8}
}  # it often costs and achieves what another does, which is seen inside it


def costs(records) -> Plot:
    """Test accuracy against what it cost, for every method: lines lead from the start graph to what the descent made of it.

    The cost of a method is all that was asked for in its training and its test, recorded or not, the mean over the seeds; that of the
    start graph is its test. It is in dollars where the price of every model is known, else in tokens sent and received. Each task has a
    panel, and each group of BBH, pooled over the questions of the files that all methods ran.
    """
    rows, data = results.frame(choose(records, "of any experiment", lambda record: True)), []
    priced = {
        setting: spent.notna().all() and spent.sum() > 0
        for setting, spent in rows.groupby(results.SETTING)["dollars"]
    }
    for setting, result, mine in by_result(rows):
        unit = "dollars" if priced[setting] else "tokens"
        for variant, test in start_and_variants(mine):
            point = score(
                test, setting, result=result, variant=variant, method=test["method"].iloc[0]
            )
            spent = (
                test
                if variant == "start"
                else mine[(mine["variant"] == variant) & (mine["stage"] == "after")]
            )
            spent = spent[spent["run"].isin(point["runs"])]
            data.append(point | {"cost": spent[unit].sum() / point["seeds"], "unit": unit})
    if not data:
        raise NothingToDraw(
            "there are no results to draw costs of: no file was run with all methods"
        )
    panels = list((data := DataFrame(data)).groupby([*results.SETTING, "result"], sort=False))
    settings, columns = data.groupby(results.SETTING).ngroups, min(len(panels), 4)
    lines = math.ceil(len(panels) / columns)
    with canvas(PAGE, 1.1 + 2 * lines, lines, columns, sharey=True) as (figure, axes):
        for ax, ((*setting, result), mine) in zip(axes, panels):
            start = mine[mine["variant"] == "start"].iloc[0]
            for variant, point in zip(mine["variant"], mine.to_dict("records")):
                marker, colour = SERIES.get(variant, ("x", GREY))
                name = point["method"] if variant in SERIES else "one instruction only"
                ax.plot(
                    [start["cost"], point["cost"]],
                    [start["accuracy"], point["accuracy"]],
                    color=colour,
                    linewidth=0.5,
                    alpha=0.6,
                )
                one = DataFrame([point])
                ax.errorbar(
                    one["cost"],
                    one["accuracy"],
                    yerr=spread(one),
                    fmt=marker,
                    color=colour,
                    elinewidth=0.6,
                    label=name,
                    alpha=1 if variant in SERIES else 0.6,
                    **OPEN.get(variant, {}),
                )
            title = result + (f"\n{setting_text(setting, 30)}" if settings > 1 else "")
            ax.margins(x=0.1)
            ax.set(title=title, xscale="log", xlabel=f"{start['unit']}, training and test")
            ax.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
            ax.xaxis.set_major_formatter(
                EngFormatter(sep="") if start["unit"] == "tokens" else StrMethodFormatter("{x:g}")
            )
            ax.xaxis.set_minor_formatter(NullFormatter())
        figure.suptitle(setting_text(panels[0][0][:-1], 120) if settings == 1 else None)
        figure.supylabel("accuracy on test questions")
        return finished(figure, data, panels, columns=3)
