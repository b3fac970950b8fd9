"""How figures look, and how they are shown and saved: in our style, whatever the user's own settings are.

Nothing here touches pyplot's global state, so a figure is the same in a notebook, a test and a worker without a screen.
"""

import math
import textwrap
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from typing import NamedTuple

import matplotlib
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter
from pandas import DataFrame

COLUMN, PAGE = 3.4, 7.0  # widths of a paper's column and page, inches
BLUE, VERMILLION, GREEN, PURPLE, GREY = (
    "#0072B2",
    "#D55E00",
    "#009E73",
    "#CC79A7",
    "#777777",
)  # Okabe and Ito's; shapes tell in grey
STYLE = {
    "font.family": "DejaVu Sans",
    "font.size": 8,
    "axes.titlesize": 8,
    "figure.titlesize": 8,
    "figure.labelsize": 8,
    "legend.fontsize": 7,
    "legend.title_fontsize": 7,
    "legend.frameon": False,
    "text.parse_math": False,
    "xtick.labelsize": 7,
    "ytick.labelsize": 7,
    "axes.facecolor": "none",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.6,
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "lines.linewidth": 1,
    "lines.markersize": 4.5,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#dddddd",
    "grid.linewidth": 0.5,
    "savefig.dpi": 300,
    "pdf.fonttype": 42,
}  # TrueType, which publishers ask for


class Plot(NamedTuple):
    """A matplotlib Figure, the DataFrame of what it shows, and the runs that it rests on, by the file names of their records: the keys
    of their responses are in `runs/<batch>/responses/<run>.txt`. A notebook shows the figure, whatever matplotlib's backend. It is laid
    out; after changes of yours, `figure.set_layout_engine("constrained")` does it anew."""

    figure: Figure
    data: DataFrame
    runs: tuple[str, ...] = ()

    def __repr__(self):
        rows = self.data.to_string(
            index=False, max_rows=12, max_colwidth=30, float_format="{:.4g}".format
        )
        return f"Plot of {len(self.data)} rows of data\n{rows}"

    def _repr_png_(self):
        image, (width, height) = BytesIO(), self.figure.get_size_inches()
        with style():
            self.figure.savefig(image, format="png", dpi=200)
        return image.getvalue(), {
            "width": round(110 * width),
            "height": round(110 * height),
        }  # CSS pixels


def save(figure, data, runs, path) -> list[Path]:
    """Write a figure as PNG and PDF, its data as CSV, and the runs that it rests on, one a line; the same figure gives the same bytes.
    `save(*plot, path)` saves a Plot.

    path: of the files, without ending. Returns the four paths.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    png, pdf, csv, txt = (
        path.with_name(path.name + ending) for ending in (".png", ".pdf", ".csv", ".runs.txt")
    )
    with style():
        figure.savefig(png)
        figure.savefig(pdf, metadata={"CreationDate": None})
    csv.write_bytes(data.to_csv(index=False, lineterminator="\n").encode())
    txt.write_bytes("".join(f"{run}\n" for run in runs).encode())
    return [png, pdf, csv, txt]


@contextmanager
def style():
    """Our style on matplotlib's defaults, whatever the user's own settings are; those are back afterwards."""
    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(STYLE)
        yield


@contextmanager
def canvas(width: float, height: float, lines: int, columns: int = 1, **settings):
    """A figure, sizes in inches, and the list of its axes, while our style holds."""
    with style():
        figure = Figure((width, height), layout="constrained")
        yield figure, list(figure.subplots(lines, columns, squeeze=False, **settings).flat)


def finished(figure, data, panels, columns: int, percent: bool = True) -> Plot:
    """Percent, one legend of so many columns that also says what the intervals are, and "simulated" across a panel that needs it.

    data: what the figure shows; a column `runs`, of tuples, becomes the Plot's `runs`.
    panels: (key, the rows of data that it shows) for each of the figure's axes; those that are left over go. percent: whether what they
        show are shares.
    """
    for ax in figure.axes[len(panels) :]:
        ax.remove()
    handles = {
        label: handle
        for ax in figure.axes
        for handle, label in zip(*ax.get_legend_handles_labels())
    }
    kinds = sorted(set(data["interval"].dropna())) if "interval" in data else []
    title = (
        textwrap.fill(
            "bars: 95 % " + " or ".join(kind.replace(" over", " interval over") for kind in kinds),
            55,
        )
        if kinds
        else None
    )
    legend = figure.legend(
        handles.values(), handles.keys(), loc="outside lower center", ncols=columns, title=title
    )
    legend.get_title().set_multialignment("center")
    for ax in figure.axes if percent else ():
        (ax.yaxis if ax.get_ylabel() or figure.get_supylabel() else ax.xaxis).set_major_formatter(
            PercentFormatter(1, decimals=0)
        )
    across(figure, [shown["simulated"].any() for _, shown in panels])
    runs = sorted({run for each in data["runs"].dropna() for run in each}) if "runs" in data else []
    return Plot(figure, data.drop(columns="runs", errors="ignore"), tuple(runs))


def across(figure, simulated) -> None:
    """Write "simulated" across those of the figure's axes for which it is true, as large as they are: so the layout is fixed here."""
    figure.get_layout_engine().execute(figure)
    figure.set_layout_engine(
        "none"
    )  # the same for each file that it is written to; to find it takes longer than to draw
    for ax in (ax for ax, each in zip(figure.axes, simulated) if each):
        width, height = ax.get_window_extent().size * 72 / figure.dpi
        diagonal = math.hypot(
            width, height
        )  # the word, 5 times as long as its letters are high, fits the panel along it
        size = 0.9 * min(width / (5.2 * width + height), height / (5.2 * height + width)) * diagonal
        ax.text(
            0.5,
            0.5,
            "simulated",
            size=size,
            rotation=math.degrees(math.atan2(height, width)),
            color="#dcdcdc",
            ha="center",
            va="center",
            transform=ax.transAxes,
            zorder=-1,
            in_layout=False,
            clip_on=True,
        )
