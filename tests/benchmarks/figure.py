"""The figure of a benchmark: the work W beside its bound and others, and what has a target."""

from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure

BLUE, RED, GREY = "#0072B2", "#D55E00", "#777777"  # Okabe and Ito's
LINE = 0.18  # inches of height for each row


def draw(results: dict, path: Path) -> None:
    """Draw the results of `make bench`, as they stand in runs/bench/results.json; PNG.

    Above: seconds of the work W; blue is semback, grey was measured in the same run, white is
    quoted, and the line is the bound. Below: what else has a bound and a target, as a ratio to the
    bound; the tick is the target. A bar or point is a median, a line goes from the lowest to the
    highest value. Nothing is drawn where there is nothing of either.
    """
    rows = results["measurements"]
    work = [row for row in rows if row["group"] in ("work W", "work W, beside peers")]
    others = [row for row in rows if row["target"] and row["ratio"] and row not in work]
    parts = [(part, rows) for part, rows in ((_work, work), (_ratios, others)) if rows]
    if not parts:
        return
    heights = [0.7 + LINE * len(rows) for _, rows in parts]
    figure = Figure((7, sum(heights) + 0.4), layout="constrained")
    axes = figure.subplots(len(parts), squeeze=False, height_ratios=heights).flat
    for ax, (part, rows) in zip(axes, parts):
        part(ax, rows)
        ax.tick_params(labelsize=7)
        ax.spines[["top", "right"]].set_visible(False)
        ax.grid(axis="x", color="#dddddd", linewidth=0.5)
        ax.set_axisbelow(True)
    machine = results["machine"]
    title = f"{results['when'][:10]}, {machine['cores']} cores ({machine['cpu']}), "
    title += f"Python {machine['python']}, openai {machine['openai']}"
    figure.suptitle(title, size=8)
    figure.savefig(path, dpi=200, metadata={"Software": None})


def _work(ax: Axes, rows: list[dict]) -> None:
    rows = sorted(rows, key=lambda row: -row["median"])
    for place, row in enumerate(rows):
        edge = BLUE if row["name"].startswith("semback") else GREY
        face = "white" if row["quoted"] else edge
        ax.barh(place, row["median"], 0.7, color=face, edgecolor=edge, linewidth=0.8)
        ax.hlines(place, row["low"], row["high"], color="black", linewidth=0.8)
        ax.text(row["high"], place, f" {row['median']:.2g} s", va="center", size=7)
    bound = max(row["bound"] for row in rows)
    ax.axvline(bound, color=RED, linewidth=1, label=f"bound, {bound:g} s")
    names = [f"{row['name']} ({row['quoted']})" if row["quoted"] else row["name"] for row in rows]
    ax.set_yticks(range(len(rows)), names)
    ax.set_xlabel("seconds of the work W (white: quoted, not measured in this run)", size=8)
    ax.set_xlim(0, 1.1 * max(row["high"] for row in rows))
    ax.legend(loc="center right", fontsize=7, frameon=False)


def _ratios(ax: Axes, rows: list[dict]) -> None:
    rows, places = rows[::-1], range(len(rows))
    lows = [row["low"] / row["bound"] for row in rows]
    highs = [row["high"] / row["bound"] for row in rows]
    ax.hlines(places, lows, highs, color=BLUE, linewidth=0.8)
    ax.plot([row["ratio"] for row in rows], places, "o", color=BLUE, markersize=4, label="measured")
    targets = [row["target"] for row in rows]
    ax.plot(targets, places, "|", color=RED, markersize=9, label="target: at most this")
    ax.set_yticks(places, [f"{row['group']}: {row['name']}" for row in rows])
    ax.set_xlabel("times the bound", size=8)
    ax.set_xlim(left=0.95)
    ax.legend(loc="upper right", ncols=2, fontsize=7, frameon=False)
