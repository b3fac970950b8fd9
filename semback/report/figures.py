"""The figures of the paper's story: `sb.figures.methods(sb.results.load("demo"))`.

Each function returns a Plot: a matplotlib Figure, the DataFrame of what it shows, and the runs that
it rests on. Accuracies are proportions in the data and percent on the axes. Results of different
configurations stand in different panels; panels with simulated results say so in a corner.
"""

import math
import textwrap
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter, LogLocator, NullFormatter, PercentFormatter
from pandas import DataFrame, concat

from ..errors import DataError, ParameterError
from ..run import Run
from . import gradients_figure, results
from .configuration import CONFIGURATION
from .plot import BLUE, COLUMN, GREEN, GREY, PAGE, PURPLE, VERMILLION, Plot, panels, points, save
from .records import Record
from .statistics import complete, tested

PERCENT = PercentFormatter(1, decimals=0)
LOOKS = {  # marker and colour of variants; all others train one instruction only
    "full": ("o", BLUE),
    "no_neighbourhood": ("^", VERMILLION),
    "no_gradient": ("v", GREEN),
    "start": ("s", GREY),
    "no_gate": ("D", PURPLE),
}
SERIES = list(LOOKS.values())  # of the studies: marker and colour by place
# Reported in arXiv 2412.03624 for gpt-4o-mini-2024-07-18, coached by gpt-4-turbo-2024-04-09. No
# public text confirms TextGrad's two values on BBH.
REPORTED = [
    ("GSM8K", "full", 0.932, "reported"),
    ("BBH NLP", "full", 0.825, "reported"),
    ("BBH algorithmic", "full", 0.856, "reported"),
    ("GSM8K", "no_neighbourhood", 0.782, "reported"),
    ("BBH NLP", "no_neighbourhood", 0.487, "reported, not verified"),
    ("BBH algorithmic", "no_neighbourhood", 0.669, "reported, not verified"),
]
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
    chosen = _chosen(records, f"of variant {variant!r}", lambda each: each["variant"] == variant)
    return _curves(results.steps(chosen))


def learning_curve(run: Run) -> Plot:
    """Accuracy on the training examples, step by step, of one Run."""
    record: Any = {
        **{name: getattr(run, name) for name in ("task", "model", "coach", "settings", "params")},
        **dict.fromkeys(("group", "variant", "data"), ""),
        "experiment": run.task.partition("/")[0],
        "seed": run.settings["seed"],
        "overlap": False,
        "simulated": run.simulated,
        "train": run.training,
    }
    return replace(_curves(results.steps([record])), runs=())


def _curves(data: DataFrame) -> Plot:
    data = data.sort_values(CONFIGURATION, kind="stable", ignore_index=True)
    data = data.assign(runs=[(run,) for run in data["run"]], interval="Wilson over questions")
    parts, titles, title = _parts(data, "result")

    def draw(ax: Axes, key: tuple, rows: DataFrame) -> None:
        last = rows["step"].max()
        for seed, (_, run) in enumerate(rows.groupby("run")):
            edges = [*run["step"], run["step"].max() + 1]
            ax.stairs(run["current"], edges, baseline=None, color=BLUE, label="the graph")
            tried = run[run["accuracy"].notna()]
            start = tried["step"] == 0
            for some, look, colour, label in (
                (tried[start], "s", GREY, "the start graph"),
                (tried[tried["accepted"] & ~start], "o", BLUE, "candidate, accepted"),
                (tried[~tried["accepted"]], "x", VERMILLION, "candidate, rejected"),
            ):
                if len(some):
                    at = some["step"] + 0.1 * seed
                    points(ax, at, some, marker=look, color=colour, label=label)
        ax.set(title=titles[key], xlabel="step", xlim=(-0.3, last + 0.6))
        ax.set_xticks(range(0, last + 1, math.ceil(last / 10) or 1))
        ax.yaxis.set_major_formatter(PERCENT)

    columns = math.ceil(len(parts) / math.ceil(len(parts) / 4))
    size = COLUMN if columns == 1 else PAGE, 1 + 1.9 * math.ceil(len(parts) / columns)
    label = "accuracy on training questions"
    figure = panels(
        parts, draw, size, columns, min(columns + 1, 4), title=title, ylabel=label, sharey=True
    )
    return _plot(figure, data.drop(columns="run"))


def methods(records: Iterable[Record]) -> Plot:
    """The start graph and the methods side by side on GSM8K and both groups of BBH.

    BBH is pooled over the questions of the files that all variants ran. What the paper reports is
    drawn only beside real models on the full data, never beside simulated ones; the column `source`
    tells them apart.
    """
    shown = ["start", "full", "no_neighbourhood", "no_gradient"]
    chosen = _chosen(
        records,
        "of GSM8K or a group of BBH",
        lambda record: (
            record["variant"] in shown
            and (record["experiment"] == "gsm8k" or record["group"] in results.GROUPS)
        ),
    )
    data = _scored(_by_group(results.frame(chosen)), "result")
    data["source"] = data["simulated"].map({True: "simulated", False: "measured"})
    reported = DataFrame(REPORTED, columns=["result", "variant", "accuracy", "source"])
    for configuration, rows in data.groupby(CONFIGURATION):
        if rows["source"].iloc[0] == "measured" and rows["data"].iloc[0] == "full":
            beside = reported[reported["result"].isin(rows["result"])]
            names = dict(zip(CONFIGURATION, configuration))
            data = concat([data, beside.assign(**names, simulated=False)], ignore_index=True)
    places = [name for name in ("GSM8K", *results.GROUPS.values()) if name in set(data["result"])]

    def draw(ax: Axes, configuration: tuple, rows: DataFrame) -> None:
        for (variant, source), some in rows.groupby(["variant", "source"], sort=False):
            marker, colour = LOOKS[variant]
            label, face, shift = some["method"].iloc[0], colour, shown.index(variant) - 1.5
            if source.startswith("reported"):
                name = "TextGrad" if variant == "no_neighbourhood" else "semantic gradient descent"
                label, face, shift = f"{name}, {source}", "white", shift + 0.4
            if source.endswith("not verified"):
                marker = "X"
            at = [places.index(result) + 0.18 * shift for result in some["result"]]
            points(ax, at, some, marker=marker, color=colour, markerfacecolor=face, label=label)
        files = rows.groupby("result")["files"].max()
        ticks = [_with_files(name, files[name]) if name in files else name for name in places]
        ax.set_xticks(range(len(places)), ticks)
        ax.set(title=_title(configuration, 40), xlim=(-0.5, len(places) - 0.5))
        ax.set_ylabel("accuracy on test questions")
        ax.grid(axis="x", visible=False)
        ax.yaxis.set_major_formatter(PERCENT)

    parts = list(data.groupby(CONFIGURATION))
    size = COLUMN, 1.2 + 2.1 * len(parts)
    return _plot(panels(parts, draw, size, legend=1, sharey=True), data)


def bbh_files(records: Iterable[Record], variant: str = "full") -> Plot:
    """Test accuracy on each BBH file, and pooled over groups of files, before and after descent.

    Parameters
    ----------
    records : iterable of Record
    variant : str
        The variant that is shown.
    """
    chosen = _chosen(
        records,
        f"of BBH and variant {variant!r}",
        lambda record: (record["experiment"], record["variant"]) == ("bbh", variant),
    )
    rows = results.with_groups(results.frame(chosen))
    data = _scored(rows[rows["result"] != "BBH all"], "group", "result")
    data["file"] = ~data["result"].isin(results.GROUPS.values())  # groups come first
    data = data.sort_values([*CONFIGURATION, "group", "file"], kind="stable")

    def draw(ax: Axes, configuration: tuple, rows: DataFrame) -> None:
        start, after = rows[rows["variant"] == "start"], rows[rows["variant"] == variant]
        names = [
            name.removeprefix("BBH ").replace("_", " ") if file else f"{name}, {files} files"
            for name, file, files in zip(after["result"], after["file"], after["files"])
        ]
        places = _down_the_side(ax, names, configuration)
        points(
            ax, places - 0.13, start, across=True, marker="s", color=GREY, label="the start graph"
        )
        points(
            ax, places + 0.13, after, across=True, marker="o", color=BLUE, label="after the descent"
        )

    return _one_above_another(data, draw, PAGE)


def liar_ablation(records: Iterable[Record]) -> Plot:
    """Test accuracy of the variants on LIAR; line and band are the start graph and its interval."""
    chosen = _chosen(records, "of LIAR", lambda record: record["experiment"] == "liar")
    data = _scored(results.frame(chosen), "result")
    data = data.sort_values("accuracy", ascending=False, kind="stable")

    def draw(ax: Axes, configuration: tuple, rows: DataFrame) -> None:
        start, after = rows[rows["variant"] == "start"].iloc[0], rows[rows["variant"] != "start"]
        places = _down_the_side(ax, after["method"], configuration)
        ax.axvline(start["accuracy"], color=GREY, linestyle="--", label="the start graph")
        ax.axvspan(start["low"], start["high"], color=GREY, alpha=0.15, linewidth=0)
        points(ax, places, after, across=True, marker="o", color=BLUE, label="after the descent")

    return _one_above_another(data, draw, COLUMN)


def costs(records: Iterable[Record]) -> Plot:
    """Test accuracy against cost: lines lead from the start graph to each variant.

    The cost of a variant is that of its training and test, recorded or live, the mean over the
    seeds; that of the start graph is its test. It is in dollars where every price is known, else in
    tokens sent and received. BBH is pooled over the questions of the files that all variants ran.
    """
    rows = _by_group(results.frame(_chosen(records, "of any experiment", lambda record: True)))
    data = _scored(rows, "result")
    data[["cost", "unit"]] = [_cost(rows, point) for _, point in data.iterrows()]
    parts, titles, title = _parts(data, "result")

    def draw(ax: Axes, key: tuple, shown: DataFrame) -> None:
        start, unit = shown[["cost", "accuracy"]].iloc[0], shown["unit"].iloc[0]
        for variant, point in shown.groupby("variant", sort=False):
            marker, colour = LOOKS.get(variant, ("x", GREY))
            label = point["method"].iloc[0] if variant in LOOKS else "one instruction only"
            line = DataFrame([start, point[["cost", "accuracy"]].iloc[0]])
            ax.plot(line["cost"], line["accuracy"], color=colour, linewidth=0.5, alpha=0.6)
            points(ax, point["cost"], point, marker=marker, color=colour, label=label)
        ax.margins(x=0.1)
        ax.set(title=titles[key], xscale="log", xlabel=f"{unit}, training and test")
        ax.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        ax.xaxis.set_major_formatter(EngFormatter(sep="") if unit == "tokens" else "{x:g}")
        ax.xaxis.set_minor_formatter(NullFormatter())
        ax.yaxis.set_major_formatter(PERCENT)

    columns = min(len(parts), 4)
    size = PAGE, 1 + 2 * math.ceil(len(parts) / columns)
    label = "accuracy on test questions"
    return _plot(panels(parts, draw, size, columns, title=title, ylabel=label, sharey=True), data)


def _cost(rows: DataFrame, point: Any) -> tuple[float, str]:
    """What the runs behind a point cost, per seed, and in which unit."""
    same = rows[(rows[CONFIGURATION] == point[CONFIGURATION]).all(axis=1)]
    unit = "dollars" if same["dollars"].notna().all() and same["dollars"].sum() > 0 else "tokens"
    stage = "before" if point["variant"] == "start" else "after"
    spent = same[same["run"].isin(point["runs"]) & (same["stage"] == stage)]
    return spent[unit].sum() / point["seeds"], unit


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
        parts += [((along, f"{along}, with {fixed} {most}", measure), rows) for measure in MEASURES]

    def draw(ax: Axes, key: tuple, rows: DataFrame) -> None:
        along, label, measure = key
        sizes = sorted(set(rows[along]))
        columns = {f"{measure}_low": "low", f"{measure}_high": "high", measure: "accuracy"}
        for number, method in enumerate(names):
            some = rows[(rows["method"] == method) & rows[measure].notna()].rename(columns=columns)
            at, (marker, colour) = some[along].map(sizes.index), SERIES[number]
            theory = some[f"{measure}_expected"].astype(float)
            if theory.notna().any():
                dashes = (4 * number, (4, 4 * len(names) - 4))  # in turns, where lines coincide
                ax.plot(at, theory, color=colour, linestyle=dashes)
                ax.plot([], [], "--", color=GREY, label="theory of the clerk")
            at = at + 0.12 * (number - (len(names) - 1) / 2)
            points(ax, at, some, marker=marker, color=colour, label=method)
        ax.set_xticks(range(len(sizes)), sizes)
        ax.set(xlabel=label, xlim=(-0.5, len(sizes) - 0.5), ylim=(-0.04, 1.04))
        ax.set_title(MEASURES[measure] if along == "depth" else "")
        ax.grid(axis="x", visible=False)
        ax.yaxis.set_major_formatter(PERCENT)

    return Plot(panels(parts, draw, (PAGE, 4.4), 3, 4, ylabel="proportion", sharey=True), data)


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

    def draw(ax: Axes, cost: Any, rows: DataFrame) -> None:
        for (shape, method), some in rows.groupby(["shape", "method"], sort=False):
            place, first = shapes.index(shape), method == names[0]
            marker, colour = SERIES[place]
            look = {"markersize": 8 - place, "label": shape}  # smaller on larger, where they meet
            if not first:
                look = {"markersize": 8 - place, "markerfacecolor": "white"}
            line = some.get(f"{cost}_expected", some[cost])
            ax.plot(some["nodes"], line, "-" if first else "--", color=colour, linewidth=0.8)
            ax.plot(some["nodes"], some[cost], marker, color=colour, **look)
        for method, face in zip(names, (GREY, "white")):
            ax.plot([], [], "o", color=GREY, markerfacecolor=face, label=method)
        ax.set(xscale="log", yscale="log", title=GROWTH[cost], xlabel="nodes")
        ax.set_xticks(sorted(set(rows["nodes"])), sorted(set(rows["nodes"])))
        ax.yaxis.set_major_formatter("{x:,.0f}")
        ax.minorticks_off()

    parts = [(cost, shown) for cost in GROWTH]
    return Plot(panels(parts, draw, (PAGE, 4.8), 2, legend=7, sharex=True), shown)


def _chosen(records: Iterable[Record], what: str, wanted: Callable[[Record], bool]) -> list[Record]:
    if isinstance(records, str):
        raise ParameterError(
            f"records is the text {records!r}; it takes records: sb.results.load({records!r})"
        )
    if chosen := [record for record in records if wanted(record)]:
        return chosen
    raise NothingToDraw(f"there are no results {what} to draw; `semback run` makes some")


def _scored(rows: DataFrame, *by: str) -> DataFrame:
    """The test accuracy of the start graph and of each variant, by configuration and `by`."""
    before, after = tested(rows)
    start = before.drop_duplicates([*CONFIGURATION, "result", "task", "seed"])
    start = start.assign(variant="start", method="the start graph")
    keys = [*CONFIGURATION, *by, "variant"]
    found = []
    for key, runs in concat([start, after]).groupby(keys, sort=False):
        runs = complete(runs)
        found.append({**dict(zip(keys, key)), "method": runs["method"].iloc[0]})
        found[-1] |= results.score(runs)
    return DataFrame(found).sort_values(keys[:-1], kind="stable", ignore_index=True)


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


def _parts(data: DataFrame, by: str) -> tuple[list[tuple[Any, DataFrame]], dict[Any, str], str]:
    """The rows by configuration and `by`, the title of each part, and that of the whole figure."""
    parts = list(data.groupby([*CONFIGURATION, by], sort=False))
    titles = {key: key[-1] for key, _ in parts}
    if len({key[:-1] for key in titles}) == 1:
        return parts, titles, _title(parts[0][0][:-1], 100)
    return parts, {key: f"{key[-1]}\n{_title(key[:-1], 24)}" for key in titles}, ""


def _title(configuration: Iterable[str], width: int) -> str:
    model, coach, data, settings = configuration
    coached = "" if coach == model else f"coach {coach}"
    parts = [model, coached, f"{data} data" if data else "", settings]
    text = ", ".join(part for part in parts if part)
    return textwrap.fill(text, width, break_on_hyphens=False, break_long_words=False)


def _with_files(name: str, files: float) -> str:
    return f"{name}\n{files:.0f} file{'s' if files > 1 else ''}" if "BBH" in name else name


def _down_the_side(ax: Axes, names: Iterable[str], configuration: tuple) -> numpy.ndarray:
    """Name the lines of a panel; returns their places."""
    names = list(names)
    ax.set_yticks(range(len(names)), names)
    ax.set(ylim=(len(names) - 0.4, -0.6), xlabel="accuracy on test questions")
    ax.set_title(_title(configuration, 40))
    ax.label_outer()
    ax.grid(axis="y", visible=False)
    ax.xaxis.set_major_formatter(PERCENT)
    return numpy.arange(len(names))


def _one_above_another(
    data: DataFrame, draw: Callable[[Axes, Any, DataFrame], None], width: float
) -> Plot:
    parts = list(data.groupby(CONFIGURATION))
    heights = [(rows["variant"] != "start").sum() for _, rows in parts]
    size = width, 0.5 + sum(0.7 + 0.21 * lines for lines in heights)
    return _plot(panels(parts, draw, size, sharex=True, height_ratios=heights), data)


def _plot(figure: Figure, data: DataFrame) -> Plot:
    runs = sorted({run for some in data["runs"].dropna() for run in some})
    return Plot(figure, data.drop(columns="runs"), tuple(runs))
