"""A graph with its gradients, as in the paper's main figure: one example of one step of a run."""

import textwrap
from dataclasses import replace

from matplotlib.figure import Figure
from matplotlib.font_manager import findfont, get_font
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch
from pandas import DataFrame

from ..errors import DataError
from ..graph import Graph
from ..run import Run
from . import results
from .layout import Place, places
from .plot import BLUE, GREY, VERMILLION, Plot, style, tag_simulated

SCORE = "score"  # a card right of the answer node, where the first gradient comes from
CARD, PITCH, GAP, EDGE, LINE = 1.9, 2.8, 0.15, 0.1, 0.11  # inches; pitch: to the next column
BROWN = "#7a3300"
LETTERS, LINES = 38, 3  # of a text that is drawn: letters in a line, and lines


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
    at[SCORE] = Place(at[graph.answer].column + 1, at[graph.answer].row)
    lines = {name: _lines(graph[name].instruction, "black") for name in graph.order}
    lines[SCORE] = _lines(f"answer: {answer}", "black")
    for source, target, text in data[["from", "to", "gradient"]].itertuples(index=False):
        shown = text if isinstance(text, str) else "(nothing)"
        lines[target] += _lines(f"{source}: {shown}", BROWN)
    tall = 0.3 + LINE * max(map(len, lines.values()))
    wide = EDGE * 2 + PITCH * at[SCORE].column + CARD
    high = 0.6 + (tall + GAP) * (1 + max(place.row for place in at.values()))
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
            bend = 0.0 if at[user].column == at[name].column + 1 else -0.3
            look = {"mutation_scale": 6, "shrinkA": 0, "shrinkB": 0, "zorder": 0.5}
            look["connectionstyle"] = f"arc3,rad={bend}"
            for shift, head, line, colour in (0, "-|>", "-", GREY), (0.1, "<|-", "--", VERMILLION):
                there = (x + CARD, y + tall / 2 + shift), (end, end_y + tall / 2 + shift)
                look |= {"arrowstyle": head, "linestyle": line, "color": colour}
                ax.add_patch(FancyArrowPatch(*there, linewidth=0.8, **look))
        ax.text(EDGE, high - 0.1, "→ forward: values", size=7, color=GREY)
        ax.text(1.6, high - 0.1, "⇠ backward: gradients, abridged", size=7, color=VERMILLION)
        if data["simulated"].any():
            tag_simulated(ax)
    return figure


def _lines(text: str, colour: str) -> list[tuple[str, str]]:
    """The start of a text, in a few lines of this colour."""
    short = _drawable(" ".join(text.split()))
    lines = textwrap.wrap(short, LETTERS, max_lines=LINES, placeholder=" …")
    return [(line, colour) for line in lines]


def _drawable(text: str) -> str:
    """The text with a box for each letter that the font lacks, which matplotlib warns about."""
    font = get_font(findfont("DejaVu Sans"))
    known = (font.get_char_index(ord(letter)) for letter in text)
    return "".join(letter if index else "\N{WHITE SQUARE}" for letter, index in zip(text, known))
