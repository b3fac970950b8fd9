"""The figures of the paper's story: `sb.figures.methods(sb.results.load("demo"))`.

Each function returns a Plot: a matplotlib Figure, the DataFrame of what it shows, and the runs that
it rests on. Accuracies are proportions in the data and percent on the axes. Results of different
configurations stand in different panels; panels with simulated results say so in a corner. Nothing
here touches pyplot's global state or the user's settings, so a figure is the same in a notebook, a
test and a worker without a screen.
"""

import math
import textwrap
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass, replace
from io import BytesIO
from pathlib import Path
from typing import Any

import matplotlib.style
import numpy
from matplotlib import ticker
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.font_manager import findfont, get_font
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch
from numpy.typing import ArrayLike
from pandas import DataFrame, concat, read_csv

from ..errors import DataError
from ..graph import Graph
from ..run import Run
from ..variants import METHODS, VARIANTS
from . import results
from .records import CONFIGURATION, Record, writing
from .show import places
from .statistics import complete

COLUMN, PAGE = 3.4, 7.0  # widths of a paper's column and page, inches
# Okabe and Ito's colours, for all kinds of colour vision; shapes tell series apart in grey.
BLUE, VERMILLION, GREEN, PURPLE, GREY = "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#777777"
LOOKS: dict[str, dict[str, Any]] = {  # of variants; all others train one instruction only
    "full": {"marker": "o", "color": BLUE},
    "no_neighbourhood": {"marker": "^", "color": VERMILLION},
    "no_gradient": {"marker": "v", "color": GREEN},
    "start": {"marker": "s", "color": GREY},
    "no_gate": {"marker": "D", "color": PURPLE},
}
SERIES = list(LOOKS.values())  # of the studies, by place
OPEN = {"markerfacecolor": "white"}
CANDIDATES: dict[str, dict[str, Any]] = {  # of learning curves
    "the start graph": LOOKS["start"],
    "candidate, accepted": LOOKS["full"],
    "candidate, rejected": {"marker": "x", "color": VERMILLION},
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
LEVEL = "level of a gate: the largest share of useless updates that it accepts"
REPORTED = Path(__file__).with_name("reported.csv")  # accuracies in arXiv 2412.03624
SCORE = "score"  # a card right of the answer node, where the first gradient comes from
CARD, PITCH, GAP, EDGE, LINE = 1.9, 2.8, 0.15, 0.1, 0.11  # inches; pitch: to the next column
BROWN = "#7a3300"
LETTERS, LINES = 38, 3  # of a text on a card: letters in a line, and lines


Draw = Callable[[Axes, DataFrame], None]


class NothingToDraw(DataError):
    """None of the results is of what a figure shows."""


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
    with writing(target):
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
    return _curves(_chosen(results.steps(records), variant=variant))


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
                points(ax, some["step"] + 0.1 * seed, some, label=kind, **CANDIDATES[kind])
        ax.set(xlabel="step", xlim=(-0.3, rows["step"].max() + 0.6))
        ax.xaxis.set_major_locator(ticker.MaxNLocator(10, integer=True))

    width, legend = (COLUMN, 2) if data["result"].nunique() == 1 else (PAGE, 4)
    kinds = set(data["judged_on"].fillna("training")) if "judged_on" in data else {"training"}
    texts = {"ylabel": f"accuracy on {' or '.join(sorted(kinds))} questions", "legend": legend}
    return _plot(data, draw, width, 1.3, ("result",), sharey=True, **texts)


def methods(records: Iterable[Record]) -> Plot:
    """The variants and the methods of other libraries on GSM8K and both groups of BBH.

    Line and band are the start graph and its interval. BBH is pooled over the questions of the
    files that all methods ran. What the paper reports is drawn only beside real models on the full
    data, never beside simulated ones; the column `source` tells them apart.
    """
    rows = results.frame(records)
    benchmark = (rows["experiment"] == "gsm8k") | rows["group"].isin(results.GROUPS)
    known = rows["variant"].isin([*VARIANTS, *METHODS])
    data = _scored(_by_group(_chosen(rows[benchmark & known])), "result")
    data["source"] = data["simulated"].map({True: "simulated", False: "real model"})
    beside = data[(data["source"] == "real model") & (data["data"] == "full")]
    if len(beside):
        results_there = beside[[*CONFIGURATION, "result", "simulated"]].drop_duplicates()
        reported = read_csv(REPORTED, comment="#").merge(results_there, on="result")
        methods_here = data.drop_duplicates("variant").set_index("variant")["method"]
        reported["method"] = reported["variant"].map(methods_here).fillna(reported["method"])
        data = concat([data, reported], ignore_index=True)
    place = {name: number for number, name in enumerate([*VARIANTS, *METHODS])}
    names = list(data.sort_values("variant", key=lambda names: names.map(place))["method"].unique())
    names = [name for name in names if name != results.START]

    def draw(ax: Axes, rows: DataFrame) -> None:
        lines = dict(zip(names, _down_the_side(ax, names)))
        _draw_start(ax, rows)
        for source, some in rows[rows["variant"] != "start"].groupby("source", sort=False):
            look, shift = LOOKS["full"] | {"label": "after training"}, 0.0
            if source.startswith("reported"):
                look, shift = LOOKS["no_neighbourhood"] | OPEN | {"label": f"{source} (paper)"}, 0.3
            if source.endswith("not verified"):
                look["marker"] = "X"
            points(ax, some["method"].map(lines) + shift, some, True, **look)
        ax.set_xlabel(f"accuracy on {rows['questions'].max():.0f} test questions")

    return _plot(data, draw, PAGE, 0.21 * len(names), ("result",), sharex=True, sharey=True)


def bbh_files(records: Iterable[Record], variant: str = "full") -> Plot:
    """Test accuracy on each BBH file, and pooled over groups of files, before and after descent.

    Parameters
    ----------
    records : iterable of Record
    variant : str
        The variant that is shown.
    """
    chosen = _chosen(results.frame(records), experiment="bbh", variant=variant)
    rows = results.with_groups(chosen)
    data = _scored(rows[rows["result"] != "BBH all"], "group", "result")
    data["file"] = ~data["result"].isin(results.GROUPS.values())  # groups come first
    data = data.sort_values([*CONFIGURATION, "group", "file"], kind="stable")

    def draw(ax: Axes, rows: DataFrame) -> None:
        start, after = rows[rows["variant"] == "start"], rows[rows["variant"] == variant]
        lines = _down_the_side(ax, after["result"] + ", n = " + after["questions"].astype(str))
        points(ax, lines - 0.13, start, True, label="the start graph", **LOOKS["start"])
        points(ax, lines + 0.13, after, True, label="after the descent", **LOOKS["full"])

    return _plot(data, draw, PAGE, _tall(data), sharex=True)


def liar_ablation(records: Iterable[Record]) -> Plot:
    """Test accuracy of the variants on LIAR; line and band are the start graph and its interval."""
    data = _scored(_chosen(results.frame(records), experiment="liar"), "result")
    upwards = [True, True, True, True, False]
    data = data.sort_values([*CONFIGURATION, "accuracy"], ascending=upwards)

    def draw(ax: Axes, rows: DataFrame) -> None:
        after = rows[rows["variant"] != "start"]
        _draw_start(ax, rows)
        lines = _down_the_side(ax, after["method"])
        points(ax, lines, after, True, label="after the descent", **LOOKS["full"])

    return _plot(data, draw, COLUMN, _tall(data), sharex=True)


def costs(records: Iterable[Record]) -> Plot:
    """Test accuracy against cost: lines lead from the start graph to each variant.

    The cost of a variant is that of its training and test, recorded or live, the mean over the
    seeds; that of the start graph is its test. It is in dollars where every price is known, else in
    tokens sent and received. BBH is pooled over the questions of the files that all variants ran.
    """
    rows = _by_group(results.frame(records))
    data = _scored(rows, "result")
    unit = "dollars" if rows["dollars"].notna().all() and rows["dollars"].sum() > 0 else "tokens"
    spent = rows.groupby(["run", "stage"])[unit].sum()
    sums = [sum(spent[run, row.stage] for run in row.runs) for row in data.itertuples()]
    data = data.assign(cost=sums / data["seeds"], unit=unit)

    def draw(ax: Axes, rows: DataFrame) -> None:
        for variant, point in rows.groupby("variant", sort=False):
            look = LOOKS.get(variant, {"marker": "x", "color": GREY})
            label = point["method"].iloc[0] if variant in LOOKS else "one instruction only"
            line = concat([rows.iloc[:1], point])  # the start graph comes first
            ax.plot(line["cost"], line["accuracy"], color=look["color"], linewidth=0.5, alpha=0.6)
            points(ax, point["cost"], point, label=label, **look)
        ax.margins(x=0.1)
        ax.set(xscale="log", xlabel=f"{unit}, training and test")
        ax.xaxis.set_major_locator(ticker.LogLocator(subs=(1, 2, 5)))
        ax.xaxis.set_major_formatter(ticker.EngFormatter(sep="") if unit == "tokens" else "{x:g}")
        ax.xaxis.set_minor_formatter(ticker.NullFormatter())

    texts = {"ylabel": "accuracy on test questions", "legend": 4}
    return _plot(data, draw, PAGE, 1.3, ("result",), sharey=True, **texts)


def credit(data: DataFrame) -> Plot:
    """Which nodes gradients reach, by depth and by width of the graph, as `sb.credit` measured it.

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
    middle = (data["method"].nunique() - 1) / 2
    parts = []
    for along, fixed in (("depth", "width"), ("width", "depth")):
        most = data.groupby(fixed)[along].nunique().idxmax()
        rows = data[data[fixed] == most].sort_values(along)
        rows = rows.assign(label=f"{along}, with {fixed} {most}")
        for measure, title in MEASURES.items():
            names_of = {along: "size", measure: "accuracy"}
            names_of |= {f"{measure}_{end}": end for end in ("low", "high")}
            parts.append((title, rows.rename(columns=names_of)))

    def draw(ax: Axes, rows: DataFrame) -> None:
        sizes = sorted(set(rows["size"]))
        for number, (method, some) in enumerate(rows.groupby("method", sort=False)):
            some = some.dropna(subset="accuracy")  # without innocent nodes none can be blamed
            at = some["size"].map(sizes.index) + 0.12 * (number - middle)
            points(ax, at, some, label=method, **SERIES[number])
        ax.set_xticks(range(len(sizes)), sizes)
        ax.set(xlabel=rows["label"].iloc[0], xlim=(-0.5, len(sizes) - 0.5), ylim=(-0.04, 1.04))
        ax.grid(axis="x", visible=False)

    return Plot(panels(parts, draw, PAGE, 1.2, 3, 4, ylabel="proportion", sharey=True), data)


def growth(data: DataFrame) -> Plot:
    """What a graph costs by its number of nodes, as `sb.growth` measured it, on log scales.

    Points are filled with the neighbourhood, open without.

    Raises
    ------
    DataError
        No rows.
    """
    if not len(data):
        raise DataError("there is nothing to draw; `await semback.growth.grow()` measures it")
    keys = ["shape", "method", "nodes"]
    backward = data[data["phase"] == "backward"].drop(columns="rounds")
    shown = backward.merge(data.groupby(keys, as_index=False)["rounds"].sum(), on=keys)
    shapes, names = list(dict.fromkeys(shown["shape"])), list(dict.fromkeys(shown["method"]))
    parts = [(title, shown.assign(cost=shown[cost])) for cost, title in GROWTH.items()]

    def draw(ax: Axes, rows: DataFrame) -> None:
        for (shape, method), some in rows.groupby(["shape", "method"], sort=False):
            place = shapes.index(shape)
            line, own = ("-", {"label": shape}) if method == names[0] else ("--", OPEN)
            look: dict[str, Any] = SERIES[place] | {"linewidth": 0.8} | own
            size = 8 - place  # smaller on larger, where they meet
            ax.plot(some["nodes"], some["cost"], line, markersize=size, **look)
        for method, face in zip(names, (GREY, "white")):
            ax.plot([], [], "o", color=GREY, markerfacecolor=face, label=method)
        ax.set(xscale="log", yscale="log", xlabel="nodes")
        ax.set_xticks(sorted(set(rows["nodes"])), sorted(set(rows["nodes"])))
        ax.yaxis.set_major_formatter("{x:,.0f}")
        ax.minorticks_off()

    return Plot(panels(parts, draw, PAGE, 1.5, 2, 7, sharex=True), shown)


def gates(data: DataFrame, churn: float = 0.2) -> Plot:
    """How often gates accept an update, by what it is worth, as `sb.gates` measured it.

    A panel for each number of questions. Dotted lines are the levels of the gates in their colour:
    at most so many useless updates (gain 0) pass, however few the questions.

    Parameters
    ----------
    data : DataFrame
        What `gates.gates` returned.
    churn : float
        The rows that are shown: those with this share of questions whose answers are drawn anew.

    Raises
    ------
    DataError
        No rows with this churn.
    """
    shown = data[data["churn"] == churn].assign(simulated=True, interval="Wilson over updates")
    if shown.empty:
        there = ", ".join(map(str, data["churn"].unique())) or "nothing"
        raise DataError(
            f"there are no rows with churn {churn} to draw; there are some with {there}"
        )
    fewest, last = shown["questions"].min(), shown["gain"].max()
    parts = [
        (f"{number} questions", rows.rename(columns={"accepted": "accuracy"}))
        for number, rows in shown.groupby("questions")
    ]

    def draw(ax: Axes, rows: DataFrame) -> None:
        labelled = rows["questions"].iloc[0] == fewest  # there the lines are furthest apart
        height = 1.1  # of a label; each gate accepts less than the one before
        for look, (gate, line) in zip(SERIES, rows.groupby("gate", sort=False)):
            points(ax, 100 * line["gain"], line, **look)
            ax.plot(100 * line["gain"], line["accuracy"], color=look["color"])
            level = line["level"].iloc[0]  # of "strict" NaN, which draws nothing
            ax.axhline(level, color=look["color"], linestyle=":")
            if labelled:
                height = min(height - 0.12, line["accuracy"].iloc[-1])
                text: dict[str, Any] = {"color": look["color"], "size": 7, "va": "center"}
                place = (100 * last, height), (5, 0), "data", "offset points"
                ax.annotate(gate.replace(", ", ",\n"), *place, **text)
        ax.plot([], [], ":", color=GREY, label=LEVEL)
        ax.set(xlim=(-1, 100 * last * (1.5 if labelled else 1.05)), ylim=(-0.04, 1.04))
        ax.set(xlabel="true gain, points (0: useless)", xticks=100 * rows["gain"].unique())

    settings = {"sharey": True, "width_ratios": [1.5] + [1.05] * (len(parts) - 1)}
    texts = {"title": f"{churn:.0%} of the answers drawn anew", "ylabel": "updates accepted"}
    figure = panels(parts, draw, PAGE, 1.6, len(parts), 1, **texts, **settings)
    return Plot(figure, shown.drop(columns="interval"))


def gradients(name: str) -> Plot:
    """A graph with the gradients of one example: solid arrows carry values, dashed ones gradients.

    Of the batch's runs it is the one with the largest graph, of the full method before others and
    of a real model before a simulated one.

    Raises
    ------
    NothingToDraw
        No run has accepted a step that gradients led to.
    """

    def rank(record: results.Record) -> tuple:
        nodes, run = len(record["instructions"]), results.run_of(record)
        return record["variant"] != "full", record["simulated"], -nodes, run

    for record in sorted(results.load(name), key=rank):
        run = results.history(name, record)
        if run and any(step.accepted and step.messages for step in run.steps):
            return replace(backward_pass(run), runs=(results.run_of(record),))
    raise NothingToDraw(f"no run of {name} has accepted a step that gradients led to")


def backward_pass(run: Run, step: int | None = None, example: str | None = None) -> Plot:
    """A graph with the gradients of one example of a run; the Plot's data has them in full.

    Parameters
    ----------
    run : Run
    step : int, optional
        Its number; by default the first that was accepted, or else the first with gradients.
    example : str, optional
        The id of one of the step's examples; by default the first.

    Raises
    ------
    DataError
        The step has no gradients of that example.
    """
    steps = {number: each for number, each in enumerate(run.steps) if each.messages}
    if step is None:
        step = min(steps, key=lambda number: (not steps[number].accepted, number), default=0)
    if step not in steps or example not in (None, *steps[step].messages):
        raise DataError(
            f"step {step} of the run on {run.task} has no gradients of {example or 'any example'}; "
            f"steps that have some: {', '.join(map(str, steps)) or 'none'}"
        )
    here = steps[step]
    before = next(each for each in reversed(run.steps[:step]) if each.accepted)
    graph, example = before.candidate, example or here.examples[0]
    first = (SCORE, graph.answer, here.gradients[example].get(graph.answer))
    data = DataFrame([first, *here.messages[example]], columns=["from", "to", "gradient"])
    same = {"task": run.task, "model": run.model, "coach": run.coach, "step": step}
    data = data.assign(**same, example=example, simulated=run.simulated)
    rows = before.scores.rows if before.scores else ()
    answer = {score.id: score.answer for score in rows}.get(example)
    outcome = "accepted" if here.accepted else "rejected"
    title = f"{run.task}, model {run.model}, coach {run.coach}: {example}, step {step} ({outcome})"
    return Plot(_drawing(graph, data, answer or "unreadable", title), data)


def _drawing(graph: Graph, data: DataFrame, answer: str, title: str) -> Figure:
    """Cards in columns, in inches from the top left corner: a node's name, its instruction, and
    the gradients that it received. Arrows that skip a column are bent."""
    at = places(graph)
    last, row = at[graph.answer]
    at[SCORE] = last + 1, row
    lines = {name: _abridged(graph[name].instruction, "black") for name in graph.order}
    lines[SCORE] = _abridged(f"answer: {answer}", "black")
    for source, target, text in data[["from", "to", "gradient"]].itertuples(index=False):
        shown = text if isinstance(text, str) else "(nothing)"
        lines[target] += _abridged(f"{source}: {shown}", BROWN)
    tall = 0.3 + LINE * max(map(len, lines.values()))
    wide = EDGE * 2 + PITCH * (last + 1) + CARD
    high = 0.6 + (tall + GAP) * (1 + max(row for _, row in at.values()))
    with style():
        figure = Figure((wide + 0.15, high))  # a tag stands to the right of the axes
        ax = figure.add_axes((0, 0, wide / (wide + 0.15), 0.98), xlim=(0, wide), ylim=(high, 0))
        ax.axis("off")
        ax.text(EDGE, 0.15, _drawable(title), size=7, va="center")
        corners = {}
        for name, (column, row) in at.items():
            x, y = corners[name] = EDGE + PITCH * column, 0.3 + (tall + GAP) * row
            colour = "#dbe9f6" if name != SCORE and graph[name].trainable else "white"
            box = FancyBboxPatch((x, y), CARD, tall, "round,pad=0,rounding_size=0.05")
            ax.add_patch(box).set(facecolor=colour, edgecolor=BLUE, linewidth=0.6)
            ax.text(x + 0.06, y + 0.14, _drawable(name[:30]), size=7, weight="bold", va="center")
            for number, (line, colour) in enumerate(lines[name]):
                ax.text(x + 0.06, y + 0.3 + LINE * number, line, size=6, va="center", color=colour)
        edges = [(name, user) for name in graph.order for user in graph.successors(name)]
        for name, user in [*edges, (graph.answer, SCORE)]:
            (x, y), (end, end_y) = corners[name], corners[user]
            bend = 0.0 if at[user][0] == at[name][0] + 1 else -0.3
            look = {"connectionstyle": f"arc3,rad={bend}", "shrinkA": 0, "shrinkB": 0}
            for shift, head, line, colour in (0, "-|>", "-", GREY), (0.1, "<|-", "--", VERMILLION):
                there = (x + CARD, y + tall / 2 + shift), (end, end_y + tall / 2 + shift)
                arrow = FancyArrowPatch(*there, arrowstyle=head, mutation_scale=6, **look)
                ax.add_patch(arrow).set(linestyle=line, color=colour, linewidth=0.8, zorder=0.5)
        ax.text(EDGE, high - 0.1, "→ forward: values", size=7, color=GREY)
        ax.text(1.6, high - 0.1, "⇠ backward: gradients, abridged", size=7, color=VERMILLION)
        if data["simulated"].any():
            tag_simulated(ax)
    return figure


def _abridged(text: str, colour: str) -> list[tuple[str, str]]:
    """The start of a text, in a few lines of this colour."""
    short = _drawable(" ".join(text.split()))
    lines = textwrap.wrap(short, LETTERS, max_lines=LINES, placeholder=" …")
    return [(line, colour) for line in lines]


def _drawable(text: str) -> str:
    """The text with a box for each letter that the font lacks, which matplotlib warns about."""
    font = get_font(findfont("DejaVu Sans"))
    known = (font.get_char_index(ord(letter)) for letter in text)
    return "".join(letter if index else "\N{WHITE SQUARE}" for letter, index in zip(text, known))


def _chosen(rows: DataFrame, **wanted: str) -> DataFrame:
    """The rows with these values."""
    for column, value in wanted.items():
        rows = rows[rows[column] == value]
    if rows.empty:
        what = ", ".join(wanted.values()) or "all variants on the same files"
        raise NothingToDraw(f"there are no results of {what} to draw; `semback run` makes some")
    return rows


def _scored(rows: DataFrame, *by: str) -> DataFrame:
    """The test accuracy of the start graph and of each variant, by configuration and `by`.

    Where there were null controls, `floor` is by how much the start graph's accuracy differed.
    """
    keys = [*CONFIGURATION, *by, "variant", "method", "stage"]
    found = [
        {**dict(zip(keys, key)), **results.score(complete(runs))}
        for key, runs in results.with_start(rows).groupby(keys, sort=False)
    ]
    data = DataFrame(found).sort_values(keys[:-3], kind="stable", ignore_index=True)
    again = data["variant"] == "again"
    if again.any():
        control = data.loc[again, [*keys[:-3], "accuracy"]].rename(columns={"accuracy": "floor"})
        data = data[~again].merge(control, how="left")
        data["floor"] = (data["accuracy"] - data["floor"]).abs().where(data["variant"] == "start")
    return data


def _by_group(rows: DataFrame) -> DataFrame:
    """Rows of `frame` with BBH's groups as results, of the files that all variants there ran."""
    groups = rows["group"].map(results.GROUPS).fillna("BBH")
    rows = rows.assign(result=rows["result"].where(rows["experiment"] != "bbh", groups))
    keys = [*CONFIGURATION, "result"]
    variants = rows.groupby(keys)["variant"].transform("nunique")
    return _chosen(rows[rows.groupby([*keys, "task"])["variant"].transform("nunique") == variants])


def _plot(
    data: DataFrame, draw: Draw, width: float, height: float, by: Sequence = (), **settings: Any
) -> Plot:
    """A panel for each configuration in a column or, with `by`, up to four in a line."""
    parts = list(data.groupby([*CONFIGURATION, *by], sort=False))
    columns = math.ceil(len(parts) / math.ceil(len(parts) / 4)) if by else 1
    one, titled = data.groupby(CONFIGURATION).ngroups == 1, []
    for key, rows in parts:
        configuration = [] if one else [_title(key, width / columns)]
        titled.append(("\n".join([*key[4:], *configuration]), rows))
    settings["title"] = _title(parts[0][0], width) if one else ""
    runs = sorted({run for some in data["runs"].dropna() for run in some})
    figure = panels(titled, draw, width, height, columns, **settings)
    return Plot(figure, data.drop(columns="runs"), tuple(runs))


def _title(configuration: Sequence[str], width: float) -> str:
    """A configuration as the title of a panel of this width in inches."""
    model, coach, data, settings = configuration[:4]
    coached = "" if coach == model else f"coach {coach}"
    parts = [model, coached, f"{data} data" if data else "", settings]
    text, wide = ", ".join(filter(None, parts)), round(13 * width)
    return textwrap.fill(text, wide, break_on_hyphens=False, break_long_words=False)


def _tall(data: DataFrame) -> float:
    """The height of panels with a line for each variant or file, in inches."""
    return 0.21 * data[data["variant"] != "start"].groupby(CONFIGURATION).size().max()


def _draw_start(ax: Axes, rows: DataFrame) -> None:
    """Draw the start graph among rows of test accuracies: a line, and its interval as a band."""
    start = rows[rows["variant"] == "start"].iloc[0]
    ax.axvline(start["accuracy"], color=GREY, linestyle="--", label=results.START)
    ax.axvspan(start["low"], start["high"], color=GREY, alpha=0.15, linewidth=0)
    if start.get("floor", 0) > 0:
        limits = start["accuracy"] - start["floor"], start["accuracy"] + start["floor"]
        ax.axvspan(*limits, color=GREY, alpha=0.4, linewidth=0, label="the same, once more")


def _down_the_side(ax: Axes, names: Iterable[str]) -> Any:
    """Name the lines of a panel; returns their places."""
    names = list(names)
    ax.set_yticks(range(len(names)), names)
    ax.set(ylim=(len(names) - 0.4, -0.6), xlabel="accuracy on test questions")
    ax.label_outer()
    ax.grid(axis="y", visible=False)
    return numpy.arange(len(names))


def panels(
    parts: Sequence[tuple[str, DataFrame]],
    draw: Draw,
    width: float,
    height: float,
    columns: int,
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
    width, height : float
        Of the figure, and of each panel without its title and labels, in inches.
    columns : int
        Panels in a line.
    legend : int
        Columns of the legend.
    title, ylabel : str
        For all panels together.
    **settings
        As `Figure.subplots` takes them.
    """
    handles, kinds, lines = {}, set(), math.ceil(len(parts) / columns)
    with style():
        figure = Figure((width, 0.8 + lines * (height + 0.6)), layout="constrained")
        grid = figure.subplots(lines, columns, squeeze=False, **settings)
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

    Notes
    -----
    A broad bar around the start graph is its null control: how far a second evaluation was away.
    """
    values = rows["accuracy"]
    if "floor" in rows and rows["floor"].notna().any():
        bar = {"xerr" if across else "yerr": rows["floor"], "elinewidth": 5, "alpha": 0.3}
        at = (values, places) if across else (places, values)
        ax.errorbar(*at, **bar, color=look["color"], linestyle="none")
    reach = [(values - rows["low"]).clip(lower=0), (rows["high"] - values).clip(lower=0)]
    look |= {"linestyle": "none", "elinewidth": 0.7, "xerr" if across else "yerr": reach}
    x, y, axis = (values, places, ax.xaxis) if across else (places, values, ax.yaxis)
    ax.errorbar(x, y, **look)
    axis.set_major_formatter(ticker.PercentFormatter(1, decimals=0))


def style() -> AbstractContextManager[None]:
    """The package's style on matplotlib's defaults; the user's settings are back afterwards."""
    return matplotlib.style.context(Path(__file__).with_name("paper.mplstyle"), after_reset=True)
