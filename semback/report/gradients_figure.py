"""A graph with its gradients, as in the paper's main figure: one example of one step of a run."""

import textwrap
from dataclasses import replace

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.font_manager import findfont, get_font
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch
from matplotlib.path import Path
from pandas import DataFrame

from ..errors import DataError
from ..graph import Graph
from ..run import Run
from . import results
from .layout import Place, places
from .plot import BLUE, GREY, PAGE, VERMILLION, Plot, style, tag_simulated

SCORE = "score"  # a card right of the answer node, where the first gradient comes from
CARD, END = 1.35, 0.75  # inches: the width of a card, and of that of the score
FAN, GAP = 0.4, 0.15  # inches: room for arrows to fan out, and between cards
LINE, LETTER = 0.1, 0.047  # inches: height of a line and width of a letter of small text
Messages = list[tuple[str, str, str | None]]
Point = tuple[float, float]


class NothingToDraw(DataError):
    """None of the results is of what a figure shows."""


def gradients(name: str) -> Plot:
    """A graph with the gradients of one example: solid arrows carry values, dashed ones gradients.

    Of the batch's runs it is the one with the largest graph, of the full method before others and
    of a real model before a simulated one.

    Raises
    ------
    NothingToDraw
        No run has accepted a step that gradients led to.
    """
    candidates = []
    for record in results.load(name):
        run = results.run_of(record)
        path = results.folder(name) / "history" / f"{run}.json"
        if path.is_file() and any(step["accepted"] for step in record["train"][1:]):
            nodes = len(record["instructions"])
            rank = record["variant"] != "full", record["simulated"], -nodes, run
            candidates.append((*rank, path))
    for *_, identity, path in sorted(candidates):
        run = Run.load(path)
        if any(step.messages for step in run.steps):
            return replace(backward_pass(run), runs=(identity,))
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
    steps = [number for number, each in enumerate(run.steps) if each.messages]
    if step is None:
        accepted = [number for number in steps if run.steps[number].accepted]
        step = next(iter(accepted + steps), 0)
    if step not in steps or example not in (None, *run.steps[step].messages):
        raise DataError(
            f"step {step} of the run on {run.task} has no gradients of {example or 'any example'}; "
            f"steps that have some: {', '.join(map(str, steps)) or 'none'}"
        )
    here = run.steps[step]
    before = next(each for each in reversed(run.steps[:step]) if each.accepted)
    graph, example = before.candidate, example or here.examples[0]
    messages: Messages = [(SCORE, graph.answer, here.gradients[example].get(graph.answer))]
    messages += [(source, target, text) for source, target, text in here.messages[example]]
    data = DataFrame(messages, columns=["from", "to", "gradient"]).assign(
        task=run.task,
        model=run.model,
        coach=run.coach,
        step=step,
        example=example,
        simulated=run.simulated,
    )
    rows = before.scores.rows if before.scores else ()
    answers = {score.id: score.answer for score in rows}
    figure = _drawing(graph, messages, answers.get(example))
    (ax,) = figure.axes
    outcome = "accepted" if here.accepted else "rejected"
    title = f"{run.task}, model {run.model}, coach {run.coach}: {example}, step {step} ({outcome})"
    ax.text(0.05, 0.15, _drawable(title), size=7, va="center")
    if run.simulated:
        tag_simulated(ax)
    return Plot(figure, data)


def _drawing(graph: Graph, messages: Messages, answer: str | None) -> Figure:
    """The figure, in inches from the top left corner: cards in columns, arrows in between.

    Right of each card, under the arrow that carries its value, are the gradients that it received,
    each above the arrow that brings it.
    """
    at = places(graph)
    columns = at[graph.answer].column + 1
    at[SCORE] = Place(columns, at[graph.answer].row)
    pitch = max(2.75, (PAGE - END - 0.2) / columns)
    lane = pitch - CARD - FAN
    received = {name: [] for name in at}
    for source, target, text in messages:
        received[target].append((source, _lines(text, lane)))
    texts = {name: graph[name].instruction for name in graph.order}
    texts[SCORE] = "unreadable" if answer is None else f"of: {answer}"
    tall = {
        name: max(0.7, 0.12 + sum(0.14 + LINE * len(lines) for _, lines in some))
        for name, some in received.items()
    }
    row = max(tall.values()) + GAP
    corners = {
        name: (0.05 + place.column * pitch, 0.3 + (place.row + 0.5) * row - tall[name] / 2)
        for name, place in at.items()
    }
    rows = 1 + max(place.row for place in at.values())
    wide, high = columns * pitch + END + 0.2, rows * row + 0.5
    with style():
        figure = Figure((wide + 0.15, high + 0.05))  # a tag stands to the right of the axes
        rect = 0, 0, wide / (wide + 0.15), high / (high + 0.05)
        ax = figure.add_axes(rect, xlim=(0, wide), ylim=(high, 0))
        ax.axis("off")
        for name, (x, y) in corners.items():
            card = END if name == SCORE else CARD
            trained = name != SCORE and graph[name].trainable
            box = FancyBboxPatch(
                (x, y), card, tall[name], "round,pad=0,rounding_size=0.05", ec=BLUE
            )
            ax.add_patch(box).set(facecolor="#dbe9f6" if trained else "white", linewidth=0.6)
            ax.text(x + 0.05, y + 0.12, _lines(name, card)[0], size=7, weight="bold", va="center")
            ax.text(x + 0.05, y + 0.22, "\n".join(_lines(texts[name], card)), size=6, va="top")
        for name in graph.order:
            x, y = corners[name][0] + CARD, corners[name][1] + 0.06
            for user in graph.successors(name) or [SCORE]:
                end = corners[user][0], corners[user][1] + tall[user] / 2 - 0.06
                _arrow(ax, (x, y), lane, end, "-|>", "-")
            for source, lines in received[name]:
                ax.text(x + 0.06, y + 0.05, "\n".join(lines), size=6, va="top", color="#7a3300")
                y += 0.14 + LINE * len(lines)
                end = corners[source][0], corners[source][1] + tall[source] / 2 + 0.06
                _arrow(ax, (x, y), lane, end, "<|-", "--")
        for x, line, colour, label in (
            (0.05, "-", GREY, "forward: values"),
            (1.6, "--", VERMILLION, "backward: gradients, abridged"),
        ):
            ax.plot([x, x + 0.35], [high - 0.1] * 2, line, color=colour)
            ax.text(x + 0.42, high - 0.1, label, size=7, va="center")
    return figure


def _arrow(ax: Axes, start: Point, lane: float, end: Point, head: str, line: str) -> None:
    """Straight from a card to where its lane ends, then in a curve to another card."""
    turn, bend = start[0] + lane, (start[0] + lane + end[0]) / 2
    path = [start, (turn, start[1]), (bend, start[1]), (bend, end[1]), end]
    codes = [Path.MOVETO, Path.LINETO, Path.CURVE4, Path.CURVE4, Path.CURVE4]
    arrow = FancyArrowPatch(path=Path(path, codes), arrowstyle=head, mutation_scale=6, zorder=0.5)
    arrow.set(linestyle=line, color=GREY if line == "-" else VERMILLION, linewidth=0.8)
    ax.add_patch(arrow)


def _lines(text: str | None, wide: float) -> list[str]:
    """The start of a text, in at most four lines of that many inches."""
    text = "(nothing)" if text is None else " ".join(text.split())
    letters = max(int((wide - 0.1) / LETTER), 5)
    return textwrap.wrap(_drawable(text), letters, max_lines=4, placeholder=" …")


def _drawable(text: str) -> str:
    """The text with a box for each letter that the font lacks, which matplotlib warns about."""
    font = get_font(findfont("DejaVu Sans"))
    known = (font.get_char_index(ord(letter)) for letter in text)
    return "".join(letter if index else "\N{WHITE SQUARE}" for letter, index in zip(text, known))
