"""The figures of the paper's story: `sb.figures.methods(sb.results.load("demo"))`.

Each function returns a Plot: a matplotlib Figure, the DataFrame of what it shows, and the runs that
it rests on. Accuracies are proportions in the data and percent on the axes. Results of different
configurations stand in different panels; panels with simulated results say so in a corner.
"""

import math
import textwrap
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy
from matplotlib.axes import Axes
from matplotlib.ticker import EngFormatter, LogLocator, MaxNLocator, NullFormatter
from pandas import DataFrame, concat, read_csv

from ..errors import DataError
from ..run import Run
from . import gradients_figure, results
from .configuration import CONFIGURATION
from .plot import BLUE, COLUMN, GREEN, GREY, PAGE, PURPLE, VERMILLION, Plot, panels, points, save
from .records import Record
from .statistics import complete, tested

LOOKS = {  # marker and colour of variants; all others train one instruction only
    "full": ("o", BLUE),
    "no_neighbourhood": ("^", VERMILLION),
    "no_gradient": ("v", GREEN),
    "start": ("s", GREY),
    "no_gate": ("D", PURPLE),
}
REPORTED = Path(__file__).with_name("reported.csv")  # accuracies in arXiv 2412.03624
SERIES = list(LOOKS.values())  # of the studies: marker and colour by place
CANDIDATES = {  # of learning curves
    "the start graph": ("s", GREY),
    "candidate, accepted": ("o", BLUE),
    "candidate, rejected": ("x", VERMILLION),
}
MEASURES = {
    "found": "the faulty node gets\nthe right number",
    "blamed": "innocent nodes get\na wrong number",
    "only": "the faulty node gets it,\nand no innocent node does",
}
GROWTH = {
    "calls": "backward: calls",
    "prompt_tokens": "backward: tokens sent",
    "largest": "backward: longest prompt, tokens",
    "rounds": "forward, backward and update:\nrounds of calls that wait for each other",
}
NothingToDraw = gradients_figure.NothingToDraw
backward_pass = gradients_figure.backward_pass
gradients = gradients_figure.gradients


def drawn(name: str) -> Iterator[tuple[str, Plot]]:
    """Every figure for which a batch has results, as (name of its function, Plot).

    Raises
    ------
    DataError
        There are no results at all, or a file is not a record.
    """
    records = results.load(name)
    for draw in (learning_curves, methods, bbh_files, liar_ablation, costs):
        with suppress(NothingToDraw):
            yield draw.__name__, draw(records)
    with suppress(NothingToDraw):
        yield "gradients", gradients(name)


def all_figures(name: str) -> list[Path]:
    """Save every figure for which a batch has results in `runs/<name>/figures/`.

    Returns
    -------
    list of Path
        PNG, PDF, CSV and list of runs of each. Errors are those of `drawn`.
    """
    target = results.folder(name) / "figures"
    return [path for stem, plot in drawn(name) for path in save(plot, target / stem)]


def learning_curves(records: Iterable[Record], variant: str = "full") -> Plot:
    """Accuracy on the training examples, step by step, for each task.

    The line is the accuracy of the graph, one for each seed; markers are candidates.

    Parameters
    ----------
    records : iterable of Record
    variant : str
        The variant that is shown.

    Raises
    ------
    NothingToDraw
        A DataError: there are no such results. Every figure raises it.
    """
    return _curves(results.steps(_chosen(records, variant=variant)))


def learning_curve(run: Run) -> Plot:
    """Accuracy on the training examples, step by step, of one Run."""
    names = dict.fromkeys(("group", "variant", "data"), "")
    record: Any = {**results.facts(run), **names, "overlap": False}
    record["experiment"] = run.task.partition("/")[0]
    return replace(_curves(results.steps([record])), runs=())


def _curves(data: DataFrame) -> Plot:
    data = data.assign(runs=[(run,) for run in data["run"]], interval="Wilson over questions")
    kinds = data["accepted"].map({True: "candidate, accepted", False: "candidate, rejected"})
    data["candidate"] = kinds.mask(data["step"] == 0, "the start graph")

    def draw(ax: Axes, rows: DataFrame) -> None:
        for seed, (_, run) in enumerate(rows.groupby("run")):
            edges = [*run["step"], run["step"].max() + 1]
            ax.stairs(run["current"], edges, baseline=None, color=BLUE, label="the graph")
            evaluated = run.dropna(subset="accuracy")
            for kind, some in evaluated.groupby("candidate", sort=False):
                marker, colour = CANDIDATES[kind]
                points(ax, some["step"] + 0.1 * seed, some, marker=marker, color=colour, label=kind)
        ax.set(xlabel="step", xlim=(-0.3, rows["step"].max() + 0.6))
        ax.xaxis.set_major_locator(MaxNLocator(10, integer=True))

    width = COLUMN if data["result"].nunique() == 1 else PAGE
    texts = {"ylabel": "accuracy on training questions", "legend": 4 if width == PAGE else 2}
    return _plot(data, draw, lambda rows: 1.3, width, ("result",), sharey=True, **texts)


def methods(records: Iterable[Record]) -> Plot:
    """The start graph and the methods side by side on GSM8K and both groups of BBH.

    BBH is pooled over the questions of the files that all variants ran. What the paper reports is
    drawn only beside real models on the full data, never beside simulated ones; the column `source`
    tells them apart.
    """
    shown = ["start", "full", "no_neighbourhood", "no_gradient"]
    rows = results.frame(_chosen(records))
    benchmark = (rows["experiment"] == "gsm8k") | rows["group"].isin(results.GROUPS)
    rows = _by_group(rows[benchmark & rows["variant"].isin(shown)])
    data = _scored(rows, "result")
    data["source"] = data["simulated"].map({True: "simulated", False: "measured"})
    reported = read_csv(REPORTED, comment="#")
    for configuration, rows in data.groupby(CONFIGURATION):
        if rows["source"].iloc[0] == "measured" and rows["data"].iloc[0] == "full":
            beside = reported[reported["result"].isin(rows["result"])]
            names = dict(zip(CONFIGURATION, configuration))
            data = concat([data, beside.assign(**names, simulated=False)], ignore_index=True)

    def draw(ax: Axes, rows: DataFrame) -> None:
        questions = rows.groupby("result", sort=False)["questions"].max()
        places = {result: place for place, result in enumerate(questions.index)}
        for (variant, source), some in rows.groupby(["variant", "source"], sort=False):
            marker, colour = LOOKS[variant]
            shift = 0.18 * (shown.index(variant) - 1.5)
            look = {"marker": marker, "color": colour, "label": some["method"].iloc[0]}
            if source.startswith("reported"):
                shift += 0.07
                look |= {"markerfacecolor": "white", "label": f"{look['label']}, {source}"}
            if source.endswith("not verified"):
                look["marker"] = "X"
            points(ax, some["result"].map(places) + shift, some, **look)
        ax.set_xticks(range(len(places)), [f"{name}\nn = {n:.0f}" for name, n in questions.items()])
        ax.set(xlim=(-0.5, len(places) - 0.5), ylabel="accuracy on test questions")
        ax.grid(axis="x", visible=False)

    return _plot(data, draw, lambda rows: 1.9, COLUMN, legend=1, sharey=True)


def bbh_files(records: Iterable[Record], variant: str = "full") -> Plot:
    """Test accuracy on each BBH file, and pooled over groups of files, before and after descent.

    Parameters
    ----------
    records : iterable of Record
    variant : str
        The variant that is shown.
    """
    chosen = _chosen(records, experiment="bbh", variant=variant)
    rows = results.with_groups(results.frame(chosen))
    data = _scored(rows[rows["result"] != "BBH all"], "group", "result")
    data["file"] = ~data["result"].isin(results.GROUPS.values())  # groups come first
    data = data.sort_values([*CONFIGURATION, "group", "file"], kind="stable")

    def draw(ax: Axes, rows: DataFrame) -> None:
        start, after = rows[rows["variant"] == "start"], rows[rows["variant"] == variant]
        places = _down_the_side(ax, after["result"] + ", n = " + after["questions"].astype(str))
        points(ax, places - 0.13, start, True, marker="s", color=GREY, label="the start graph")
        points(ax, places + 0.13, after, True, marker="o", color=BLUE, label="after the descent")

    return _plot(data, draw, _lines, PAGE, sharex=True)


def liar_ablation(records: Iterable[Record]) -> Plot:
    """Test accuracy of the variants on LIAR; line and band are the start graph and its interval."""
    chosen = _chosen(records, experiment="liar")
    data = _scored(results.frame(chosen), "result")
    data = data.sort_values("accuracy", ascending=False, kind="stable")
    data = data.sort_values(CONFIGURATION, kind="stable")

    def draw(ax: Axes, rows: DataFrame) -> None:
        start, after = rows[rows["variant"] == "start"].iloc[0], rows[rows["variant"] != "start"]
        ax.axvline(start["accuracy"], color=GREY, linestyle="--", label="the start graph")
        ax.axvspan(start["low"], start["high"], color=GREY, alpha=0.15, linewidth=0)
        places = _down_the_side(ax, after["method"])
        points(ax, places, after, True, marker="o", color=BLUE, label="after the descent")

    return _plot(data, draw, _lines, COLUMN, sharex=True)


def costs(records: Iterable[Record]) -> Plot:
    """Test accuracy against cost: lines lead from the start graph to each variant.

    The cost of a variant is that of its training and test, recorded or live, the mean over the
    seeds; that of the start graph is its test. It is in dollars where every price is known, else in
    tokens sent and received. BBH is pooled over the questions of the files that all variants ran.
    """
    rows = _by_group(results.frame(_chosen(records)))
    data = _scored(rows, "result")
    unit = "dollars" if rows["dollars"].notna().all() and rows["dollars"].sum() > 0 else "tokens"
    spent = rows.groupby(["run", "stage"])[unit].sum()
    data["cost"] = [
        sum(spent[run, point.stage] for run in point.runs) / point.seeds
        for point in data.itertuples()
    ]
    data["unit"] = unit

    def draw(ax: Axes, rows: DataFrame) -> None:
        for variant, point in rows.groupby("variant", sort=False):
            marker, colour = LOOKS.get(variant, ("x", GREY))
            label = point["method"].iloc[0] if variant in LOOKS else "one instruction only"
            line = concat([rows.iloc[:1], point])  # the start graph comes first
            ax.plot(line["cost"], line["accuracy"], color=colour, linewidth=0.5, alpha=0.6)
            points(ax, point["cost"], point, marker=marker, color=colour, label=label)
        ax.margins(x=0.1)
        ax.set(xscale="log", xlabel=f"{unit}, training and test")
        ax.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        ax.xaxis.set_major_formatter(EngFormatter(sep="") if unit == "tokens" else "{x:g}")
        ax.xaxis.set_minor_formatter(NullFormatter())

    texts = {"ylabel": "accuracy on test questions", "legend": 4}
    return _plot(data, draw, lambda rows: 1.3, PAGE, ("result",), sharey=True, **texts)


def credit(data: DataFrame) -> Plot:
    """Which nodes gradients reach, by depth and by width of the graph, as `sb.credit` measured it.

    Points are measured, dashed lines are the theory (of a simulated clerk).

    Parameters
    ----------
    data : DataFrame
        What `credit.credit` returned for one coach. Shown by depth are the graphs of the width
        that has the most depths, and the other way round.

    Raises
    ------
    DataError
        No rows, or several coaches.
    """
    coaches = data["coach"].nunique() if len(data) else 0
    if coaches != 1:
        raise DataError(f"this figure shows one coach; the data has {coaches}")
    names = list(dict.fromkeys(data["method"]))
    parts = []
    for along, fixed in (("depth", "width"), ("width", "depth")):
        most = data.groupby(fixed)[along].nunique().idxmax()
        rows = data[data[fixed] == most].sort_values(along)
        rows = rows.assign(size=rows[along], label=f"{along}, with {fixed} {most}")
        for measure, title in MEASURES.items():
            parts_of = {"accuracy": "", "low": "_low", "high": "_high", "expected": "_expected"}
            values = {name: rows[f"{measure}{end}"] for name, end in parts_of.items()}
            parts.append((title, rows.assign(**values)))

    def draw(ax: Axes, rows: DataFrame) -> None:
        sizes = sorted(set(rows["size"]))
        for number, (method, some) in enumerate(rows.groupby("method", sort=False)):
            at, (marker, colour) = some["size"].map(sizes.index), SERIES[number]
            if some["expected"].notna().any():
                dashes = 4 * number, (4, 4 * len(names) - 4)  # in turns, where lines coincide
                ax.plot(at, some["expected"].astype(float), color=colour, linestyle=dashes)
                ax.plot([], [], "--", color=GREY, label="theory of the clerk")
            at = at + 0.12 * (number - (len(names) - 1) / 2)
            look = {"marker": marker, "color": colour, "label": method}
            measured = some["accuracy"].notna()  # without innocent nodes none can be blamed
            points(ax, at[measured], some[measured], **look)
        ax.set_xticks(range(len(sizes)), sizes)
        ax.set(xlabel=rows["label"].iloc[0], xlim=(-0.5, len(sizes) - 0.5), ylim=(-0.04, 1.04))
        ax.grid(axis="x", visible=False)

    return Plot(panels(parts, draw, PAGE, [1.2, 1.2], 3, 4, ylabel="proportion", sharey=True), data)


def growth(data: DataFrame) -> Plot:
    """What a graph costs by its number of nodes, as `sb.growth` measured it, on log scales.

    Points are measured: filled with the neighbourhood, open without. Lines are the formulas where
    there are some, else they join the points.

    Raises
    ------
    DataError
        No rows.
    """
    if not len(data):
        raise DataError("there is nothing to draw; `await semback.growth.grow()` measures it")
    keys = ["shape", "method", "nodes"]
    backward = data[data["phase"] == "backward"].drop(columns=["rounds", "rounds_expected"])
    rounds = data.groupby(keys, as_index=False)[["rounds", "rounds_expected"]].sum()
    shown = backward.merge(rounds, on=keys)
    shapes, names = list(dict.fromkeys(shown["shape"])), list(dict.fromkeys(shown["method"]))
    parts = []
    for cost, title in GROWTH.items():
        values = {"cost": shown[cost], "expected": shown.get(f"{cost}_expected", shown[cost])}
        parts.append((title, shown.assign(**values)))

    def draw(ax: Axes, rows: DataFrame) -> None:
        for (shape, method), some in rows.groupby(["shape", "method"], sort=False):
            place, first = shapes.index(shape), method == names[0]
            marker, colour = SERIES[place]
            line = "-" if first else "--"
            ax.plot(some["nodes"], some["expected"], line, color=colour, linewidth=0.8)
            look: dict[str, Any] = {"marker": marker, "linestyle": "none", "color": colour}
            look["markersize"] = 8 - place  # smaller on larger, where they meet
            look |= {"label": shape} if first else {"markerfacecolor": "white"}
            ax.plot(some["nodes"], some["cost"], **look)
        for method, face in zip(names, (GREY, "white")):
            ax.plot([], [], "o", color=GREY, markerfacecolor=face, label=method)
        ax.set(xscale="log", yscale="log", xlabel="nodes")
        ax.set_xticks(sorted(set(rows["nodes"])), sorted(set(rows["nodes"])))
        ax.yaxis.set_major_formatter("{x:,.0f}")
        ax.minorticks_off()

    return Plot(panels(parts, draw, PAGE, [1.5, 1.5], 2, legend=7, sharex=True), shown)


def _chosen(records: Iterable[Record], **wanted: str) -> list[Record]:
    chosen = results.checked(records)
    for key, value in wanted.items():
        chosen = [record for record in chosen if record[key] == value]
    if not chosen:
        what = ", ".join(wanted.values()) or "any experiment"
        raise NothingToDraw(f"there are no results of {what} to draw; `semback run` makes some")
    return chosen


def _scored(rows: DataFrame, *by: str) -> DataFrame:
    """The test accuracy of the start graph and of each variant, by configuration and `by`."""
    before, after = tested(rows)
    start = before.drop_duplicates([*CONFIGURATION, "result", "task", "seed"])
    start = start.assign(variant="start", method="the start graph")
    keys = [*CONFIGURATION, *by, "variant", "method", "stage"]
    found = [
        {**dict(zip(keys, key)), **results.score(complete(runs))}
        for key, runs in concat([start, after]).groupby(keys, sort=False)
    ]
    return DataFrame(found).sort_values(keys[:-3], kind="stable", ignore_index=True)


def _by_group(rows: DataFrame) -> DataFrame:
    """Rows of `frame` with BBH's groups as results, of the files that all variants there ran."""
    groups = rows["group"].map(results.GROUPS).fillna("BBH")
    rows = rows.assign(result=rows["result"].where(rows["experiment"] != "bbh", groups))
    keys = [*CONFIGURATION, "result"]
    variants = rows.groupby(keys)["variant"].transform("nunique")
    rows = rows[rows.groupby([*keys, "task"])["variant"].transform("nunique") == variants]
    if rows.empty:
        raise NothingToDraw("there are no results to draw: no file was run with all variants")
    return rows


def _plot(
    data: DataFrame,
    draw: Callable[[Axes, DataFrame], None],
    height: Callable[[DataFrame], float],
    width: float = PAGE,
    by: tuple[str, ...] = (),
    **settings: Any,
) -> Plot:
    """A panel for each configuration in a column or, with `by`, up to four in a line."""
    parts = list(data.groupby([*CONFIGURATION, *by], sort=False))
    columns = math.ceil(len(parts) / math.ceil(len(parts) / 4)) if by else 1
    one, titled = len({key[:4] for key, _ in parts}) == 1, []
    for key, rows in parts:
        configuration = [] if one else [_title(key, width / columns)]
        titled.append(("\n".join([*key[4:], *configuration]), rows))
    settings["title"] = _title(parts[0][0], width) if one else ""
    heights = [height(rows) for _, rows in parts[::columns]]
    figure = panels(titled, draw, width, heights, columns, **settings)
    runs = sorted({run for some in data["runs"].dropna() for run in some})
    return Plot(figure, data.drop(columns="runs"), tuple(runs))


def _lines(rows: DataFrame) -> float:
    """The height of a panel with a line for each variant or file."""
    return 0.21 * (rows["variant"] != "start").sum()


def _title(configuration: Sequence[str], width: float) -> str:
    """A configuration as the title of a panel of this width in inches."""
    model, coach, data, settings = configuration[:4]
    coached = "" if coach == model else f"coach {coach}"
    parts = [model, coached, f"{data} data" if data else "", settings]
    text = ", ".join(part for part in parts if part)
    wide = round(13 * width)
    return textwrap.fill(text, wide, break_on_hyphens=False, break_long_words=False)


def _down_the_side(ax: Axes, names: Iterable[str]) -> Any:
    """Name the lines of a panel; returns their places."""
    names = list(names)
    ax.set_yticks(range(len(names)), names)
    ax.set(ylim=(len(names) - 0.4, -0.6), xlabel="accuracy on test questions")
    ax.label_outer()
    ax.grid(axis="y", visible=False)
    return numpy.arange(len(names))
