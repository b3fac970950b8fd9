"""The figure of a benchmark: the work W beside its bound and its peers, what else has a bound, and
what could grow."""

from matplotlib.figure import Figure
from pandas import DataFrame

from semback.errors import DataError
from semback.report.plot import BLUE, GREEN, GREY, PAGE, VERMILLION, Plot, style

COLUMNS = [
    "group",
    "name",
    "size",
    "unit",
    "median",
    "low",
    "high",
    "bound",
    "ratio",
    "target",
    "more",
    "met",
    "quoted",
]
LINE = 0.155  # inches of height for each line of text
SHAPES = [(marker, colour) for marker in "os^v" for colour in (BLUE, VERMILLION, GREEN)]


def spread(rows: DataFrame) -> list:
    """How far the measurements reach from their median, as matplotlib's error bars take it."""
    return [rows["median"] - rows["low"], rows["high"] - rows["median"]]


def speed(results: dict) -> Plot:
    """The results of `make bench`, as they stand in runs/bench/results.json.

    Above: seconds of the work W, ours in blue, others measured in the same run in grey, others
    quoted in white; the line is the bound, which no program can beat. In the middle: whatever else
    has a bound and a target, as times its bound; the tick is the target. Below: the series, by what
    they are counted in; what does not grow is level. A marker is a median, a bar goes from the
    lowest to the highest. DataError where there are no such results.
    """
    data = DataFrame(results["measurements"], columns=COLUMNS)
    whole = data["group"].isin(["work W", "work W, beside peers"])
    work, aimed = data[whole], data[data["target"].notna() & data["ratio"].notna() & ~whole]
    grown = data[(data["group"] == "growth") & data["size"].notna()]
    parts = [
        (draw, rows, lines)
        for draw, rows, lines in (
            (_work, work, len(work)),
            (_bounds, aimed, len(aimed)),
            (_series, grown, 13),
        )
        if len(rows)
    ]
    if not parts:
        raise DataError("there are no results of a benchmark to draw")
    heights, on = [0.5 + LINE * lines for _, _, lines in parts], results["machine"]
    with style():
        figure = Figure((PAGE, sum(heights) + 0.3), layout="constrained")
        for part, (draw, rows, _) in zip(
            figure.subfigures(len(parts), squeeze=False, height_ratios=heights).flat, parts
        ):
            draw(part, rows)
        figure.suptitle(
            f"{results['when'][:10]}, {on['cores']} cores ({on['cpu']}), "
            f"Python {on['python']}, openai {on['openai']}"
        )
        return Plot(figure, data)


def _work(figure, rows):
    ax, rows = figure.subplots(), rows.sort_values("median", ascending=False)
    ours, quoted = rows["name"].str.startswith("semback"), rows["quoted"].notna()
    colours = [BLUE if mine else "white" if told else GREY for mine, told in zip(ours, quoted)]
    ax.barh(
        range(len(rows)),
        rows["median"],
        0.7,
        color=colours,
        edgecolor=[BLUE if mine else GREY for mine in ours],
        linewidth=0.8,
    )
    ax.errorbar(
        rows["median"],
        range(len(rows)),
        xerr=spread(rows),
        fmt="none",
        ecolor="black",
        elinewidth=0.8,
    )
    for place, (median, high) in enumerate(zip(rows["median"], rows["high"])):
        ax.annotate(
            f"{median:.2g} s",
            (high, place),
            (4, 0),
            textcoords="offset points",
            va="center",
            size=7,
        )
    ax.axvline(rows["bound"].max(), color=VERMILLION, label=f"bound, {rows['bound'].max():g} s")
    labels = [
        f"{name} ({told})" if isinstance(told, str) else name
        for name, told in zip(rows["name"], rows["quoted"])
    ]
    ax.set(
        yticks=range(len(rows)),
        yticklabels=labels,
        xlabel="seconds of the work W (white: quoted, not measured in this run)",
        xlim=(0, 1.1 * rows["high"].max()),
    )
    ax.grid(axis="y", visible=False)
    ax.legend(loc="center right")


def _bounds(figure, rows):
    ax, rows = figure.subplots(), rows.iloc[::-1]
    times = rows[["low", "median", "high"]].div(rows["bound"], axis=0)
    ax.errorbar(
        times["median"],
        range(len(rows)),
        xerr=spread(times),
        fmt="o",
        color=BLUE,
        elinewidth=0.8,
        label="measured",
    )
    ax.plot(
        rows["target"],
        range(len(rows)),
        "|",
        color=VERMILLION,
        markersize=9,
        markeredgewidth=1.5,
        label="target: at most this",
    )
    ax.set(
        yticks=range(len(rows)),
        yticklabels=rows["group"] + ": " + rows["name"],
        xlim=(0.95, None),
        ylim=(-0.7, len(rows) + 0.9),
        xlabel="times the bound (of a notebook: times an empty one)",
    )
    ax.legend(loc="upper right", ncols=2)


def _series(figure, rows):
    units = list(dict.fromkeys(rows["unit"]))
    for ax, unit in zip(figure.subplots(1, len(units), squeeze=False).flat, units):
        mine = rows[rows["unit"] == unit]
        for (name, points), (marker, colour) in zip(mine.groupby("name", sort=False), SHAPES):
            points = points.sort_values("size")
            ax.errorbar(
                points["size"],
                points["median"],
                yerr=spread(points),
                fmt=f"{marker}-",
                color=colour,
                markersize=3,
                label=name,
            )
        ax.set(
            xscale="log",
            yscale="log",
            xlabel=unit.rpartition(" ")[2].replace("entry", "entrie") + "s",
            ylabel=unit,
            ylim=(mine["low"].min() / 3, mine["high"].max() * 2),
        )
        for axis in (ax.xaxis, ax.yaxis):
            axis.set_major_formatter("{x:,g}")
            axis.set_minor_formatter("")
        columns = 2 if mine["name"].nunique() > 4 else 1
        ax.legend(
            fontsize=6,
            loc="lower left",
            ncols=columns,
            columnspacing=0.8,
            handlelength=1.2,
            borderaxespad=0.1,
        )
