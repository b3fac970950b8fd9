"""How figures look and how they are shown and saved, whatever the user's matplotlib settings are.

Nothing here touches pyplot's global state, so a figure is the same in a notebook, a test and a
worker without a screen.
"""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

import matplotlib.style
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter
from numpy.typing import ArrayLike
from pandas import DataFrame

COLUMN, PAGE = 3.4, 7.0  # widths of a paper's column and page, inches
# Okabe and Ito's colours, for all kinds of colour vision; shapes tell series apart in grey.
BLUE, VERMILLION, GREEN, PURPLE, GREY = "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#777777"


@dataclass(frozen=True)
class Plot:
    """A figure with what it shows; a notebook displays it, whatever matplotlib's backend is.

    Parameters
    ----------
    figure : matplotlib.figure.Figure
        Laid out already; after changes, `figure.set_layout_engine("constrained")` does it anew.
    data : DataFrame
        The numbers or texts in the figure.
    runs : tuple of str
        The ids of the runs that it rests on; the keys of their replies are in
        `runs/<batch>/responses/<run>.txt`.
    """

    figure: Figure
    data: DataFrame
    runs: tuple[str, ...] = ()

    def __repr__(self) -> str:
        rows = self.data.to_string(index=False, max_rows=12, max_colwidth=30)
        return f"Plot of {len(self.data)} rows of data\n{rows}"

    def _repr_png_(self) -> tuple[bytes, dict[str, int]]:
        image, (width, height) = BytesIO(), self.figure.get_size_inches()
        with style():
            self.figure.savefig(image, format="png", dpi=200)
        return image.getvalue(), {"width": round(110 * width), "height": round(110 * height)}


def save(plot: Plot, path: str | Path) -> list[Path]:
    """Write a plot as PNG and PDF, its data as CSV and its runs, one a line, as text.

    The same plot gives the same bytes.

    Parameters
    ----------
    plot : Plot
    path : path
        Of the files, without ending.

    Returns
    -------
    list of Path
        The four paths.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    endings = (".png", ".pdf", ".csv", ".runs.txt")
    png, pdf, csv, runs = paths = [path.with_name(path.name + ending) for ending in endings]
    with style():
        plot.figure.savefig(png)
        plot.figure.savefig(pdf, metadata={"CreationDate": None})
    csv.write_bytes(plot.data.to_csv(index=False, lineterminator="\n").encode())
    runs.write_bytes("".join(f"{run}\n" for run in plot.runs).encode())
    return paths


def style() -> AbstractContextManager[None]:
    """The package's style on matplotlib's defaults; the user's settings are back afterwards."""
    return matplotlib.style.context(Path(__file__).with_name("paper.mplstyle"), after_reset=True)


def panels(
    parts: Sequence[tuple[str, DataFrame]],
    draw: Callable[[Axes, DataFrame], None],
    width: float,
    heights: Sequence[float],
    columns: int = 1,
    legend: int = 3,
    title: str = "",
    ylabel: str = "",
    **settings: Any,
) -> Figure:
    """A figure with a panel for each part of the data.

    Parameters
    ----------
    parts : sequence of (str, rows)
        The title of each panel and its data. A panel with simulated rows has a tag that says so,
        and the legend names the kinds of `interval` in the rows.
    draw : callable
        Draws one part: (axes, rows).
    width : float
        Of the figure, in inches.
    heights : sequence of float
        Of each line of panels without its title and labels, in inches.
    columns : int
        Panels in a line.
    legend : int
        Columns of the legend.
    title, ylabel : str
        For all panels together.
    **settings
        As `Figure.subplots` takes them.
    """
    handles, kinds = {}, set()
    with style():
        figure = Figure(
            (width, 0.8 + sum(height + 0.6 for height in heights)), layout="constrained"
        )
        grid = figure.subplots(
            len(heights), columns, squeeze=False, height_ratios=heights, **settings
        )
        for ax in grid.flat[len(parts) :]:
            ax.remove()
        for ax, (name, rows) in zip(grid.flat, parts):
            draw(ax, rows)
            ax.set_title(name)
            if rows["simulated"].any():
                tag_simulated(ax)
            handles |= {text: handle for handle, text in zip(*ax.get_legend_handles_labels())}
            if "interval" in rows:
                kinds |= set(rows["interval"].dropna())
        figure.suptitle(title)
        figure.supylabel(ylabel)
        bars = "bars: 95 % intervals, " + " or\n".join(sorted(kinds)) if kinds else None
        place = {"loc": "outside lower center", "ncols": legend, "title": bars}
        key = figure.legend(handles.values(), handles.keys(), **place)
        key.get_title().set_multialignment("center")
        figure.draw_without_rendering()
        figure.set_layout_engine("none")  # laid out once for all files, which takes longest
    return figure


def tag_simulated(ax: Axes) -> None:
    """Write "simulated" along the upper right edge of a panel, where no data is."""
    look = {"size": 6, "style": "italic", "color": GREY, "va": "top", "rotation": 270}
    place = {"xycoords": "axes fraction", "textcoords": "offset points"}
    ax.annotate("simulated", (1, 1), (3, 0), **place, **look)


def points(ax: Axes, places: ArrayLike, rows: DataFrame, across: bool = False, **look: Any) -> None:
    """Draw accuracies with their intervals, upright or, if `across`, lying.

    Parameters
    ----------
    ax : Axes
    places : array of float
        Where they stand along the other axis.
    rows : DataFrame
        With the columns accuracy, low and high.
    across : bool
    **look
        As `Axes.errorbar` takes it.
    """
    values = rows["accuracy"]
    reach = [(values - rows["low"]).clip(lower=0), (rows["high"] - values).clip(lower=0)]
    look |= {"linestyle": "none", "elinewidth": 0.7}
    if across:
        ax.errorbar(values, places, xerr=reach, **look)
    else:
        ax.errorbar(places, values, yerr=reach, **look)
    axis = ax.xaxis if across else ax.yaxis
    axis.set_major_formatter(PercentFormatter(1, decimals=0))
