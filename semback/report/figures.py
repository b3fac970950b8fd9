"""The figures of the paper's story: `sb.figures.methods(sb.results.load("demo"))`.

Each function returns a Plot: a matplotlib Figure, the DataFrame of what it shows, the runs that it
rests on, and its caption, which begins with the first paragraph of the function's docstring.
Accuracies are proportions in the data and percent on the axes. Results of different configurations
are in different panels; panels with simulated results say so in a corner. Nothing here touches
pyplot's global state or the user's settings, so a figure is the same in a notebook, in a test and
without a screen; `paper` changes its width, font and title.
"""

import math
import re
import textwrap
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from contextvars import ContextVar
from dataclasses import dataclass, replace
from io import BytesIO
from itertools import chain, cycle
from pathlib import Path
from typing import Any

import matplotlib.style
from matplotlib import ticker
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.font_manager import findfont, get_font
from matplotlib.patches import FancyBboxPatch
from numpy.typing import ArrayLike
from pandas import DataFrame, Series, concat, read_csv

from ..errors import DataError
from ..graph import Graph
from ..run import Run
from . import results
from .records import CONFIGURATION, Record, writing
from .show import places

COLUMN, NARROW, PAGE = 3.4, 5.5, 7.0  # widths of a paper's column and pages, inches
FONT = "DejaVu Sans"  # comes with matplotlib
PAPER = ContextVar[tuple[float, list[str], str]]("paper", default=(0.0, [FONT], ""))
# Okabe and Ito's colours, for all kinds of colour vision; in grey, shapes tell series apart.
BLUE, VERMILLION, GREEN, PURPLE, GREY = "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#777777"
ORANGE, SKY, BROWN = "#E69F00", "#56B4E9", "#7A3300"
OPEN = {"markerfacecolor": "white"}
COLOURS = (BLUE, VERMILLION, GREEN, PURPLE, ORANGE, SKY)
SERIES: list[dict[str, Any]] = [
    {"marker": marker, "color": colour} for marker, colour in zip("o^vD<>", COLOURS)
]
FULL: dict[str, Any] = SERIES[0]
START: dict[str, Any] = {"marker": "s", "color": GREY}
CANDIDATES: dict[str, dict[str, Any]] = {  # of learning curves
    "the start graph": START,
    "candidate, accepted": FULL,
    "candidate, rejected": {"marker": "x", "color": VERMILLION},
}
MEASURES = {
    "found": "the faulty node gets\nthe right number",
    "blamed": "innocent nodes get\na wrong number",
    "only": "the faulty node gets it,\nand no innocent node does",
}
REPORTED = Path(__file__).with_name("reported.csv")  # accuracies in arXiv 2412.03624
SCORE = "score"  # a card to the right of the answer node, where the first gradient comes from
CARD, APART, GAP, EDGE, HEAD = 1.2, 0.45, 0.15, 0.2, 0.3  # inches; CARD is the least width
ON_TEST = "accuracy on test questions"
LINE, LETTER = 0.11, 0.05  # inches, of a text on a card
SMALL: Any = {"size": 6, "va": "center"}
LINES, MOST = 3, 12  # of a text on a card: whole sentences in three lines, or one in twelve


Draw = Callable[[Axes, DataFrame], None]
Parts = Sequence[tuple[str, DataFrame]]  # panels: title and rows of each
Size = tuple[float, float, float]  # a figure's width, a panel's height and least width, inches
Labels = tuple[str, str]  # below and left of all panels


class NothingToDraw(DataError):
    """There are no results that a figure could show."""


@dataclass(frozen=True)
class Plot:
    """A figure with its data; a notebook displays it, whatever matplotlib's backend is.

    Parameters
    ----------
    figure : matplotlib.figure.Figure
        Already laid out; after changes, `figure.set_layout_engine("constrained")` does it again.
    data : DataFrame
        The numbers or texts in the figure.
    caption : str
        What is drawn, from which data, with which intervals.
    runs : tuple of str
        The ids of the runs that it rests on; the keys of their replies are in
        `runs/<batch>/responses/<run>.txt`.
    """

    figure: Figure
    data: DataFrame
    caption: str
    runs: tuple[str, ...] = ()

    def __repr__(self) -> str:
        return f"{self.caption}\n{self.data.to_string(index=False, max_rows=12, max_colwidth=30)}"

    def _repr_png_(self) -> tuple[bytes, dict[str, int]]:
        image, (width, height) = BytesIO(), self.figure.get_size_inches()
        with style():
            self.figure.savefig(image, format="png", dpi=200)
        return image.getvalue(), {"width": round(110 * width), "height": round(110 * height)}


@contextmanager
def paper(width: float = 0.0, font: str = FONT, title: str = "") -> Iterator[None]:
    """Draw figures for a paper: `with sb.figures.paper(3.25, "STIXGeneral"): ...`.

    Parameters
    ----------
    width : float
        Of figures, inches: 5.5 for NeurIPS, 3.25 or, across the page, 6.75 for ICML. By default
        each figure has its own. A drawn graph is wider where its cards need it.
    font : str
        A family that matplotlib finds; letters that it lacks come from DejaVu Sans.
    title : str
        Of the figure, above the panels.

    Raises
    ------
    ValueError
        There is no such font.
    """
    findfont(font, fallback_to_default=False)
    token = PAPER.set((width, [font, FONT], title))
    try:
        yield
    finally:
        PAPER.reset(token)


def save(plot: Plot, path: str | Path) -> list[Path]:
    """Write a plot as PNG and PDF, its data as CSV, a LaTeX figure with the PDF and the caption,
    and its runs as text, one per line.

    The same plot gives the same bytes.

    Parameters
    ----------
    plot : Plot
    path : path
        Of the files, without their extension.

    Returns
    -------
    list of Path
        The five paths.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    endings = (".png", ".pdf", ".csv", ".tex", ".runs.txt")
    png, pdf, csv, tex, runs = paths = [path.with_name(path.name + ending) for ending in endings]
    with style():
        plot.figure.savefig(png)
        plot.figure.savefig(pdf, metadata={"CreationDate": None})
    wide = plot.figure.get_figwidth() > NARROW
    csv.write_bytes(plot.data.to_csv(index=False, lineterminator="\n").encode())
    tex.write_bytes(results.latex_figure(path.name, plot.caption, wide).encode())
    runs.write_bytes("".join(f"{run}\n" for run in plot.runs).encode())
    return paths


def drawn(name: str) -> Iterator[tuple[str, Plot]]:
    """Every figure for which a batch has results, as (name of its function, Plot).

    Raises
    ------
    DataError
        There are no results at all, or a file is damaged.
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
        The files of each, as `save` writes them.

    Raises
    ------
    DataError
        As in `drawn`, or a file cannot be written.
    """
    target = results.folder(name) / "figures"
    with writing(target):
        return [path for stem, plot in drawn(name) for path in save(plot, target / stem)]


def learning_curves(records: Iterable[Record], variant: str = "full") -> Plot:
    """Accuracy on the questions that the gate decides by, step by step. The line is the accuracy of
    the graph, one line for each seed; markers are the start graph and its candidates.

    Parameters
    ----------
    records : iterable of Record
    variant : str
        The variant to show.

    Raises
    ------
    NothingToDraw
        A DataError: there are no such results. All figures of results raise it.
    """
    return _curves(learning_curves, _chosen(results.steps(records), variant=variant))


def learning_curve(run: Run) -> Plot:
    """Accuracy on the questions that the gate decides by, step by step, of one run. The line is the
    accuracy of the graph; markers are the start graph and its candidates.
    """
    names = dict.fromkeys(("group", "variant", "data"), "")
    experiment = run.task.partition("/")[0]
    record: Any = {**results.facts(run), **names, "experiment": experiment, "overlap": False}
    return replace(_curves(learning_curve, results.steps([record])), runs=())


def _curves(about: Callable, data: DataFrame) -> Plot:
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
        ax.set_xlim(-0.3, rows["step"].max() + 0.6)
        ax.xaxis.set_major_locator(ticker.MaxNLocator(10, integer=True))

    width = COLUMN if data["result"].nunique() == 1 else PAGE
    labels = "step", f"accuracy on {' or '.join(sorted(data['judged_on'].unique()))} questions"
    return _plot(about, data, draw, (width, 1.3, 1.6), labels, sharey=True)


def methods(records: Iterable[Record]) -> Plot:
    """Test accuracy of the start graph (square; line and band continue it) and after training by
    each method, on GSM8K and the groups of BBH. Groups are pooled over the questions of the files
    that all methods ran.

    The paper's accuracies are drawn beside those of real models on the full data, and never in a
    figure with simulated numbers; the column `source` tells them apart.
    """
    rows = results.frame(records)
    benchmark = (rows["experiment"] == "gsm8k") | rows["group"].isin(results.GROUPS)
    known = rows["variant"].isin(results.LABELS)
    data = results.scored(_chosen(results.shared(_chosen(rows[benchmark & known]))), "result")
    data["source"] = data["simulated"].map({True: "simulated", False: "real model"})
    beside, note = data[data["data"] == "full"], ""
    if len(beside) and not data["simulated"].any():
        results_there = beside[[*CONFIGURATION, "result", "simulated"]].drop_duplicates()
        reported = read_csv(REPORTED, comment="#").merge(results_there, on="result")
        data = concat([data, reported], ignore_index=True)
        note = " Open markers are accuracies that the paper reports for its models."
    names = data.drop_duplicates("variant").set_index("variant")["method"]
    names = names.loc[sorted(names.index, key=["start", *results.LABELS].index)]

    def draw(ax: Axes, rows: DataFrame) -> None:
        reported = rows["source"].str.startswith("reported")
        lines = _draw_methods(ax, rows[~reported], names)
        for source, some in rows[reported].groupby("source"):
            marker = "X" if source.endswith("not verified") else "^"
            look = {"marker": marker, "color": VERMILLION, "label": f"{source} (paper)", **OPEN}
            points(ax, some["variant"].map(lines) + 0.3, some, True, **look)

    size = PAGE, 0.2 * len(names), 1.75
    plot = _plot(methods, data, draw, size, (ON_TEST, ""), sharex=True, sharey=True)
    return replace(plot, caption=plot.caption + note)


def bbh_files(records: Iterable[Record], variant: str = "full") -> Plot:
    """Test accuracy before training (square) and after it (circle, with its interval), on each file
    of BBH and pooled over the questions of groups of files.

    Parameters
    ----------
    records : iterable of Record
    variant : str
        The variant to show.
    """
    rows = results.with_groups(_chosen(results.frame(records), experiment="bbh", variant=variant))
    data = results.scored(rows[rows["result"] != "BBH all"], "group", "result")
    data["file"] = ~data["result"].isin(results.GROUPS.values())  # groups come first
    data = data.sort_values([*CONFIGURATION, "group", "file"], kind="stable")

    def draw(ax: Axes, rows: DataFrame) -> None:
        start, after = rows[rows["variant"] == "start"], rows[rows["variant"] == variant]
        names = after["result"].str.removeprefix("BBH ")
        lines = _down_the_side(ax, names + ", n = " + after["questions"].astype(str))
        ax.hlines(lines, start["accuracy"], after["accuracy"], color=BLUE, alpha=0.3, linewidth=3)
        points(ax, lines, start.assign(low=results.MISSING), True, **START)
        points(ax, lines, after, True, **FULL)
        first, last = start["accuracy"].iloc[0], after["accuracy"].iloc[0]
        ends = [(first, "before", GREY), (last, "after", BLUE)]
        ends = ends if first <= last else ends[::-1]
        for (x, text, colour), side, shift in zip(ends, ("right", "left"), (-2, 2)):
            look = {"color": colour, "size": 7, "ha": side, "textcoords": "offset points"}
            ax.annotate(text, (x, -0.3), (shift, 0), **look)
        ax.set_ylim(top=-1)
        ax.margins(x=0.12)

    tall = data[data["variant"] == variant].groupby(CONFIGURATION).size().max() + 0.5
    return _plot(bbh_files, data, draw, (PAGE, 0.2 * tall, 0), (ON_TEST, ""), sharex=True)


def liar_ablation(records: Iterable[Record]) -> Plot:
    """Test accuracy on LIAR of the start graph (square; line and band continue it) and after
    training by each variant, sorted.
    """
    data = results.scored(_chosen(results.frame(records), experiment="liar"), "result")
    upwards = [True, True, True, True, False]
    data = data.sort_values([*CONFIGURATION, "accuracy"], ascending=upwards)

    def draw(ax: Axes, rows: DataFrame) -> None:
        _draw_methods(ax, rows, rows.set_index("variant")["method"])

    tall = data.groupby(CONFIGURATION).size().max()
    return _plot(liar_ablation, data, draw, (COLUMN, 0.2 * tall, 0), (ON_TEST, ""), sharex=True)


def costs(records: Iterable[Record]) -> Plot:
    """Test accuracy against the cost of training and testing, recorded or live, on a log scale,
    averaged over seeds; for the start graph it is the cost of testing. BBH is pooled over the
    questions of the files that all methods ran.

    The cost is in dollars if every price is known, else in tokens sent and received.
    """
    rows = _chosen(results.shared(results.frame(records)))
    data = results.scored(rows, "result")
    unit = "dollars" if rows["dollars"].sum(skipna=False) > 0 else "tokens"
    spent = rows.groupby(["run", "stage"])[unit].sum()
    sums = [sum(spent[run, row.stage] for run in row.runs) for row in data.itertuples()]
    data = data.assign(cost=sums / data["seeds"], unit=unit)
    single = data["variant"].str.startswith("only_")
    data["method"] = data["method"].mask(single, "one instruction only")
    series = cycle([*SERIES, *(look | OPEN for look in SERIES)])
    looks = dict(zip(data["method"].unique(), chain([START], series)))

    def draw(ax: Axes, rows: DataFrame) -> None:
        for method, some in rows.groupby("method", sort=False):
            points(ax, some["cost"], some, label=method, **looks[method])
        ax.margins(x=0.1)
        ax.set_xscale("log")
        ax.xaxis.set_major_locator(ticker.LogLocator(subs=(1, 2, 5)))
        ax.xaxis.set_major_formatter(ticker.EngFormatter(sep="") if unit == "tokens" else "{x:g}")
        ax.xaxis.set_minor_formatter(ticker.NullFormatter())

    labels = f"{unit}, training and test", ON_TEST
    return _plot(costs, data, draw, (PAGE, 1.3, 1.6), labels, sharey=True)


def credit(data: DataFrame) -> Plot:
    """Which nodes gradients reach, by depth and by width of the graph, for each method.

    Parameters
    ----------
    data : DataFrame
        What `sb.credit` returned for one coach. The graphs shown by depth are those of the width
        that has the most depths, and vice versa.

    Raises
    ------
    DataError
        No rows, or several coaches.
    """
    coaches = data["coach"].nunique() if len(data) else 0
    if coaches != 1:
        raise DataError(f"this figure shows one coach, but the data has {coaches}")
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
            some = some.dropna(subset="accuracy")  # a graph may have no innocent node to blame
            at = some["size"].map(sizes.index) + 0.12 * (number - middle)
            points(ax, at, some, label=method, **SERIES[number])
        ax.set_xticks(range(len(sizes)), sizes)
        ax.set(xlabel=rows["label"].iloc[0], xlim=(-0.5, len(sizes) - 0.5), ylim=(-0.04, 1.04))
        ax.grid(axis="x", visible=False)

    figure = panels(parts, draw, (PAGE, 1.2, 1.8), ("", "proportion"), sharey=True)
    return Plot(figure, data, _caption(credit, data))


def gates(data: DataFrame, churn: float = 0.2) -> Plot:
    """How often gates accept an update, by its true gain; a panel for each number of questions.
    Dotted lines are the levels of the gates: the most useless updates (gain 0) that may pass,
    however few the questions.

    Parameters
    ----------
    data : DataFrame
        What `sb.gates` returned.
    churn : float
        The share of questions whose answers an update draws anew, in the rows to show.

    Raises
    ------
    DataError
        There are no rows with this churn.
    """
    shown = data[data["churn"] == churn].assign(simulated=True, interval="Wilson over updates")
    if shown.empty:
        there = ", ".join(map(str, data["churn"].unique())) or "none"
        raise DataError(f"there are no rows with churn {churn} to draw; there is {there}")
    parts = [(f"{number} questions", rows) for number, rows in shown.groupby("questions")]

    def draw(ax: Axes, rows: DataFrame) -> None:
        for look, (gate, line) in zip(SERIES, rows.groupby("gate", sort=False)):
            line = line.rename(columns={"accepted": "accuracy"})
            points(ax, 100 * line["gain"], line, label=gate, **look)
            ax.plot(100 * line["gain"], line["accuracy"], color=look["color"])
            level = line["level"].iloc[0]  # NaN for "strict", which draws nothing
            ax.axhline(level, color=look["color"], linestyle=":")
        ax.set_ylim(-0.04, 1.04)
        ax.set_xticks(100 * rows["gain"].unique())

    labels = "true gain, points (0: useless)", "updates accepted"
    figure = panels(parts, draw, (PAGE, 1.6, 1.6), labels, sharey=True)
    caption = _caption(gates, shown, f"An update draws {churn:.0%} of the answers anew.")
    return Plot(figure, shown.drop(columns="interval"), caption)


def gradients(name: str) -> Plot:
    """A graph with the gradients of one question. Solid arrows carry values, dashed ones gradients;
    cards hold instructions and, in brown, the gradients for them, abridged.

    The run is chosen from the batch: if possible one of the full method, of a real model, with an
    accepted step, and with the largest graph, in this order. See `backward_pass`.

    Raises
    ------
    NothingToDraw
        No run has a step with gradients.
    """
    runs = [(record, results.history(name, record)) for record in results.load(name)]

    def rank(pair: tuple[results.Record, Run]) -> tuple:
        record, run = pair
        nodes, accepted = len(record["instructions"]), any(each.accepted for each in run.steps[1:])
        kind = record["variant"] != "full", record["simulated"]
        return *kind, not accepted, -nodes, results.run_of(record)

    led = [
        (record, run) for record, run in runs if run and any(each.messages for each in run.steps)
    ]
    if not led:
        raise NothingToDraw(f"no run of {name} has a step with gradients")
    record, run = min(led, key=rank)
    return replace(backward_pass(run), runs=(results.run_of(record),))


def backward_pass(run: Run) -> Plot:
    """A graph with the gradients of one question. Solid arrows carry values, dashed ones gradients;
    cards hold instructions and, in brown, the gradients for them, abridged.

    The question is the first of the first accepted step, or else of the first step with gradients.
    The Plot's data has the texts in full.

    Raises
    ------
    NothingToDraw
        No step has gradients.
    """
    steps = [number for number, each in enumerate(run.steps) if each.messages]
    if not steps:
        raise NothingToDraw(f"no step of the run on {run.task} has gradients")
    step = min(steps, key=lambda number: not run.steps[number].accepted)
    here = run.steps[step]
    before = next(each for each in reversed(run.steps[:step]) if each.accepted)
    graph, example = before.candidate, here.examples[0]
    first = (SCORE, graph.answer, here.gradients[example].get(graph.answer))
    data = DataFrame([first, *here.messages[example]], columns=["from", "to", "gradient"])
    same = {"task": run.task, "model": run.model, "coach": run.coach, "step": step}
    data = data.assign(**same, example=example, simulated=run.simulated)
    rows = before.scores.rows if before.scores else ()
    answer = {score.id: score.answer for score in rows}.get(example)
    outcome = "accepted" if here.accepted else "rejected"
    note = f"Task {run.task}, question {example}; step {step}, {outcome}; model {run.model}, "
    caption = _caption(backward_pass, data, f"{note}coach {run.coach}.")
    return Plot(_drawing(graph, data, answer or "unreadable"), data, caption)


def _drawing(graph: Graph, data: DataFrame, answer: str) -> Figure:
    """Cards in columns, placed in inches from the top left corner: a node's name, its instruction,
    and the gradients that it received. Arrows that skip a column are bent."""
    at = places(graph)
    last, row = at[graph.answer]
    at[SCORE] = last + 1, row
    width = max(PAPER.get()[0] or PAGE, (CARD + APART) * (last + 2))
    card = (width - 2 * EDGE + APART) / (last + 2) - APART
    texts = [(name, graph[name].instruction, "black") for name in graph.order]
    texts.append((SCORE, f"answer: {answer}", "black"))
    for message in data.fillna("(nothing)").itertuples(index=False):
        texts.append((message.to, f"{message[0]}: {message.gradient}", BROWN))
    lines: dict[str, list[tuple[str, str]]] = {name: [] for name in at}
    with style():
        for name, text, colour in texts:
            short = _abridged(_drawable(text), int(card / LETTER))
            lines[name] += [(line, colour) for line in short]
        slot = HEAD + LINE * max(map(len, lines.values())) + GAP
        height = slot * (1 + max(row for _, row in at.values()))
        figure = Figure((width, height))
        right = 1 - EDGE / width  # the tag is to the right of it
        ax = figure.add_axes((0, 0, right, 1), xlim=(0, width * right), ylim=(height, 0))
        ax.axis("off")
        spots = {
            name: ((card + APART) * column + EDGE / 2, slot * (row + 0.5))
            for name, (column, row) in at.items()
        }
        for name, (x, y) in spots.items():
            top = y - (HEAD + LINE * len(lines[name])) / 2
            colour = "#dbe9f6" if name != SCORE and graph[name].trainable else "white"
            box = (x, top), card, 2 * (y - top), "round,pad=0,rounding_size=0.05"
            ax.add_patch(FancyBboxPatch(*box, facecolor=colour, edgecolor=BLUE, linewidth=0.6))
            ax.text(x + 0.06, top + 0.14, _drawable(name[:30]), size=7, weight="bold", va="center")
            for number, (line, colour) in enumerate(lines[name]):
                ax.text(x + 0.06, top + HEAD + LINE * number, line, **SMALL, color=colour)
        edges = [(source, name) for name in graph.order for source in graph[name].inputs]
        for source, user in [*edges, (graph.answer, SCORE)]:
            (x, y), (end, end_y) = spots[source], spots[user]
            bend = 0.0 if at[user][0] == at[source][0] + 1 else -0.3
            look = {"connectionstyle": f"arc3,rad={bend}", "shrinkA": 0, "shrinkB": 0, "lw": 0.8}
            for shift, head, line, colour in (0, "-|>", "-", GREY), (0.1, "<|-", "--", VERMILLION):
                arrow = look | {"arrowstyle": head, "linestyle": line, "color": colour}
                ends = (end, end_y + shift), (x + card, y + shift)
                ax.annotate("", *ends, arrowprops=arrow, zorder=0.5)  # behind cards
        if data["simulated"].any():
            tag_simulated(ax)
    return figure


def _abridged(text: str, letters: int) -> list[str]:
    """The first sentences of a text, at least one, in lines of so many letters."""
    text = " ".join(text.split())
    ends = [*(end.end() for end in re.finditer(r"[.!?](?=\s+[^a-z])", text)), len(text)]
    end = max([end for end in ends if end <= LINES * letters], default=ends[0])
    more = " …" if end < len(text) else ""
    return textwrap.wrap(text[:end] + more, letters, max_lines=MOST, placeholder=" …")


def _drawable(text: str) -> str:
    """The text with a box for each letter that the fonts lack; matplotlib would warn about it."""
    fonts = [get_font(findfont(name)) for name in matplotlib.rcParams["font.family"]]
    known = (any(font.get_char_index(ord(letter)) for font in fonts) for letter in text)
    return "".join(letter if there else "\N{WHITE SQUARE}" for letter, there in zip(text, known))


def _chosen(rows: DataFrame, **wanted: str) -> DataFrame:
    """The rows with these values in their columns."""
    for column, value in wanted.items():
        rows = rows[rows[column] == value]
    if rows.empty:
        what = ", ".join(wanted.values()) or "all variants on the same files"
        raise NothingToDraw(f"there are no results of {what} to draw; `semback run` makes some")
    return rows


def _caption(about: Callable, data: DataFrame, note: str = "") -> str:
    """The first paragraph of a figure's docstring, a note, and remarks on the data."""
    first = " ".join((about.__doc__ or "").split("\n\n")[0].split())
    return " ".join(filter(None, [first, note, results.remarks(data)]))


def _plot(
    about: Callable, data: DataFrame, draw: Draw, size: Size, labels: Labels, **settings: Any
) -> Plot:
    """A panel for each configuration or, if panels have a least width, for each of its results."""
    by = [*CONFIGURATION, "result"] if size[2] else CONFIGURATION
    several, titled = data.groupby(CONFIGURATION).ngroups > 1, []
    for key, rows in data.groupby(by, sort=False):
        names = [f"{name}, n\xa0=\xa0{rows['questions'].max():.0f}" for name in key[4:]]
        names += [results.configuration(key[:4])] if several else []
        titled.append(("\n".join(names), rows))
    runs = sorted({run for some in data["runs"].dropna() for run in some})
    figure = panels(titled, draw, size, labels, **settings)
    return Plot(figure, data.drop(columns="runs"), _caption(about, data), tuple(runs))


def _draw_methods(ax: Axes, rows: DataFrame, names: Series) -> dict[str, int]:
    """Draw test accuracies, one variant per line; a line and a band continue the start graph."""
    lines = dict(zip(names.index, _down_the_side(ax, names)))
    for start, some in rows.groupby(rows["variant"] == "start"):
        look = START if start else FULL | {"label": "measured here"}
        points(ax, some["variant"].map(lines), some, True, **look)
    start = rows[rows["variant"] == "start"].iloc[0]
    ax.axvline(start["accuracy"], color=GREY, linestyle="--", linewidth=0.7)
    ax.axvspan(start["low"], start["high"], color=GREY, alpha=0.12, linewidth=0)
    return lines


def _down_the_side(ax: Axes, names: Series) -> range:
    """Name the lines of a panel. Returns their places."""
    ax.set_yticks(range(len(names)), names)
    ax.set_ylim(len(names) - 0.4, -0.6)
    ax.label_outer()
    ax.grid(axis="y", visible=False)
    return range(len(names))


def panels(parts: Parts, draw: Draw, size: Size, labels: Labels, **settings: Any) -> Figure:
    """A figure with a panel for each part of the data.

    Parameters
    ----------
    parts : sequence of (str, rows)
        The title of each panel and its data. A panel with simulated rows has a tag that says so.
    draw : callable
        Draws one part: (axes, rows).
    size : (float, float, float)
        The width of the figure, the height of each panel without its title, and the least width
        of panels side by side, in inches; 0: one below the other.
    labels : (str, str)
        Below and to the left of all panels together.
    **settings
        Passed to `Figure.subplots`.
    """
    width, _, title = PAPER.get()
    width, height = width or size[0], size[1]
    lines = math.ceil(len(parts) / max(1, int(width / (size[2] or width))))
    columns = math.ceil(len(parts) / lines)
    letters, handles, heads, above = round(13 * width / columns), {}, 0, 0.2 * bool(title)
    with style():
        figure = Figure((width, height), layout="constrained")
        grid = figure.subplots(lines, columns, squeeze=False, **settings)
        for ax in grid.flat[len(parts) :]:
            ax.remove()
        for ax, (name, rows) in zip(grid.flat, parts):
            draw(ax, rows)
            ax.set_title("\n".join(textwrap.fill(line, letters) for line in name.split("\n")))
            heads = max(heads, ax.get_title().count("\n") + bool(name))
            if rows["simulated"].any():
                tag_simulated(ax)
            handles |= {text: handle for handle, text in zip(*ax.get_legend_handles_labels())}
        figure.supxlabel(labels[0])
        figure.supylabel(labels[1])
        if len(handles) > 1:  # the caption says what markers of one kind are
            across = max(1, int(width / (0.4 + 0.06 * max(map(len, handles)))))
            above += 0.16 * math.ceil(len(handles) / across)
            key = {"loc": "outside upper center", "ncols": across, "title": title}
            figure.legend(handles.values(), handles.keys(), **key)
        figure.suptitle("" if len(handles) > 1 else title)
        figure.set_figheight(lines * (height + 0.3 + 0.13 * heads) + 0.2 + above)
        figure.draw_without_rendering()
        figure.set_layout_engine("none")  # the slowest part: laid out once for all files
    return figure


def tag_simulated(ax: Axes) -> None:
    """Write "simulated" along the upper right edge of a panel, where no data is."""
    look = {"size": 6, "style": "italic", "color": GREY, "va": "top", "rotation": 270}
    ax.annotate("simulated", (1, 1), (3, 0), "axes fraction", "offset points", **look)


def points(ax: Axes, places: ArrayLike, rows: DataFrame, across: bool = False, **look: Any) -> None:
    """Draw accuracies with their intervals, vertically or, if `across`, horizontally.

    Parameters
    ----------
    ax : Axes
    places : array of float
        Positions along the other axis.
    rows : DataFrame
        With the columns accuracy, low and high.
    across : bool
    **look
        Passed to `Axes.errorbar`.

    Notes
    -----
    A broad bar around the start graph is its null control: how far off a second evaluation was.
    """
    values = rows["accuracy"]
    x, y, axis = (values, places, ax.xaxis) if across else (places, values, ax.yaxis)
    error = "xerr" if across else "yerr"
    if "floor" in rows and rows["floor"].notna().any():
        bar = {error: rows["floor"], "elinewidth": 5, "alpha": 0.3, "color": look["color"]}
        ax.errorbar(x, y, **bar, linestyle="none")
    reach = [(values - rows["low"]).clip(lower=0), (rows["high"] - values).clip(lower=0)]
    look |= {error: reach, "linestyle": "none", "elinewidth": 0.7}
    ax.errorbar(x, y, **look)
    axis.set_major_formatter(ticker.PercentFormatter(1, decimals=0))


def style() -> AbstractContextManager[None]:
    """The package's style on top of matplotlib's defaults; restores the user's settings at exit."""
    sheet = Path(__file__).with_name("paper.mplstyle")
    return matplotlib.style.context([sheet, {"font.family": PAPER.get()[1]}], after_reset=True)
