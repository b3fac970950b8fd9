"""A graph with its gradients, as in the paper's main figure: what one example of one step of a run sent forward and backward."""

import textwrap

from matplotlib.font_manager import findfont, get_font
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch
from matplotlib.path import Path
from pandas import DataFrame

from ...errors import DataError
from ...run import Run
from .. import results
from ..plot import BLUE, GREY, PAGE, VERMILLION, Plot, across, canvas
from .points import NothingToDraw

FAN, SCORE, EDGE, GAP, CARD, NARROW = (
    0.5,
    0.55,
    0.06,
    0.14,
    1.35,
    0.8,
)  # inches: where arrows fan out, the score, margins, cards
LETTER, LINE, LINES = (
    0.047,
    0.1,
    4,
)  # of texts in size 6: inches a letter, inches a line, and the most lines


def gradients(name: str) -> Plot:
    """A graph with its gradients, for one example of a step that was accepted: solid arrows carry values, dashed ones gradients, abridged.

    Of the batch's runs it is one of the full method if there is one, of a real model before a simulated one, with the largest graph.
    """
    runs = [
        (
            record["variant"] != "full",
            record["simulated"],
            -len(record["instructions"]),
            results.run_of(record),
        )
        for record in results.load(name)
        if any(step["accepted"] for step in record["train"][1:])
    ]
    for *_, run in sorted(runs):
        path = results.folder(name) / "history" / f"{run}.json"
        if path.is_file():
            with_messages = Run.load(path)
            if any(step.messages for step in with_messages.steps):
                return backward_pass(with_messages)._replace(runs=(run,))
    raise NothingToDraw(
        f"no run in {results.folder(name) / 'history'} has accepted a step that gradients led to"
    )


def backward_pass(run: Run, step: int | None = None, example: str | None = None) -> Plot:
    """A graph with the gradients of one example: solid arrows carry values, dashed ones gradients; the data has them in full.

    Parameters
    ----------
    run: what `descend` returned, or `Run.load` read.
    step: its number; without it, the first that was accepted, or else the first that has gradients.
    example: the id of one of `run.steps[step].examples`; without it, the first.

    Errors: DataError where that step has no gradients of that example.
    """
    told = [number for number, each in enumerate(run.steps) if each.messages]
    if step is None:
        step = next((number for number in told if run.steps[number].accepted), next(iter(told), 0))
    if step not in told or example not in (None, *run.steps[step].messages):
        raise DataError(
            f"step {step} of the run on {run.task} has no gradients{f' of {example}' if example else ''}; "
            f"steps that have some: {', '.join(map(str, told)) or 'none'}"
        )
    example = example or run.steps[step].examples[0]
    before = next(each for each in reversed(run.steps[:step]) if each.accepted)
    answer = next((score.answer for score in before.scores.rows if score.id == example), None)
    graph, here = before.candidate, run.steps[step]
    messages = [
        ("the score", graph.answer, here.gradients[example].get(graph.answer)),
        *map(tuple, here.messages[example]),
    ]
    data = DataFrame(
        [
            {
                "task": run.task,
                "model": run.model,
                "coach": run.coach,
                "step": step,
                "example": example,
                "from": source,
                "to": target,
                "gradient": said,
                "simulated": run.simulated,
            }
            for source, target, said in messages
        ]
    )
    outcome = "accepted" if here.accepted else "rejected"
    models = f"{run.model}{f', coach {run.coach}' if run.coach != run.model else ''}"
    title = f"{run.task}, {models}: example {example} in step {step}, whose new instructions were {outcome}"
    figure = _drawing(graph, messages, answer, title)
    across(figure, [run.simulated])
    return Plot(figure, data)


def _drawing(graph, messages, answer, title):
    """The figure. Positions are in inches, downwards from the top left corner.

    A node stands right of its inputs and has a lane of its own: its card, then above the arrow that leads back to it what it was told.
    Right of all lanes of a column the arrows fan out to the nodes that they belong to.
    """
    column, last = graph.depth, max(graph.depth.values())
    wide = max(NARROW, min(CARD, (PAGE - 2 * EDGE - SCORE - last * FAN) / (2.3 * last + 2)))
    room = {
        node: wide * (1.3 if place < last else 1) for node, place in column.items()
    }  # for what the node was told
    asked = {node: _lines(graph[node].instruction, wide - 0.1) for node in graph.order}
    told = {
        node: [
            (source, _lines(said, room[node] - 0.1)) for source, to, said in messages if to == node
        ]
        for node in graph.order
    }
    tall = {
        node: max(
            0.24 + LINE * len(asked[node]),
            0.2 + sum(0.12 + LINE * len(lines) for _, lines in told[node]),
        )
        for node in graph.order
    }
    columns = [[node for node in graph.order if column[node] == place] for place in range(last + 1)]
    total = max(sum(tall[node] + GAP for node in names) for names in columns)
    x, y = {}, {}
    for place, names in enumerate(columns):
        down = 0.3 + (total - sum(tall[node] + GAP for node in names)) / 2
        for node in names:
            x[node], y[node], down = (
                EDGE + place * (2.3 * wide + FAN),
                down,
                down + tall[node] + GAP,
            )
    middle = {node: y[node] + tall[node] / 2 for node in graph.order}
    x["the score"], middle["the score"] = (
        x[graph.answer] + wide + room[graph.answer],
        middle[graph.answer],
    )
    width, height = x["the score"] + SCORE + EDGE, total + 0.55
    with canvas(width, height, 1) as (figure, (ax,)):
        ax.set(xlim=(0, width), ylim=(height, 0))
        ax.axis("off")
        ax.text(EDGE, 0.12, _drawable(title), size=7, va="center")
        for node in graph.order:
            colour, outline = (
                "#dbe9f6" if graph[node].trainable else "white",
                1.8 if node == graph.answer else 0.6,
            )
            _card(ax, x[node], y[node], wide, tall[node], node, asked[node], colour, outline)
            start, end = x[node] + wide, x[node] + wide + room[node]
            for user in graph.successors(node) or ["the score"]:
                _arrow(ax, start, end, y[node] + 0.07, x[user], middle[user] - 0.06, "-", GREY)
            down = y[node] + 0.12
            for source, lines in told[node]:
                ax.text(
                    start + 0.08,
                    down,
                    "\n".join(lines),
                    size=6,
                    va="top",
                    linespacing=1.15,
                    color="#7a3300",
                    bbox={"facecolor": "white", "alpha": 0.7, "edgecolor": "none", "pad": 0.5},
                )  # over arrows that pass by
                down += 0.06 + LINE * len(lines)
                _arrow(ax, start, end, down, x[source], middle[source] + 0.06, "--", VERMILLION)
                down += 0.06
        said = _lines("unreadable" if answer is None else f"of: {answer}", SCORE)
        _card(
            ax,
            x["the score"],
            middle["the score"] - 0.2,
            SCORE,
            0.24 + LINE * len(said),
            "score",
            said,
            "white",
            0.6,
        )
        for at, style, colour, name in (
            (EDGE, "-", GREY, "forward: values"),
            (1.6, "--", VERMILLION, "backward: gradients, abridged"),
        ):
            ax.plot([at, at + 0.35], [height - 0.1] * 2, style, color=colour)
            ax.text(at + 0.42, height - 0.1, name, size=7, va="center")
    return figure


def _lines(text: str | None, wide: float) -> list[str]:
    """The start of a text, in lines that fit so many inches."""
    text = "(nothing)" if text is None else " ".join(text.split())
    return textwrap.wrap(
        _drawable(text), max(int(wide / LETTER), 5), max_lines=LINES, placeholder=" …"
    )


def _drawable(text: str) -> str:
    """The text with a box for each letter that the font does not have, about which matplotlib would warn."""
    font = get_font(findfont("DejaVu Sans"))
    return "".join(
        letter if font.get_char_index(ord(letter)) else "\N{WHITE SQUARE}" for letter in text
    )


def _card(ax, x, y, wide, tall, name, lines, colour, outline) -> None:
    ax.add_patch(
        FancyBboxPatch(
            (x, y),
            wide,
            tall,
            boxstyle="round,pad=0,rounding_size=0.05",
            facecolor=colour,
            edgecolor=BLUE,
            linewidth=outline,
            zorder=2,
        )
    )
    ax.text(
        x + wide / 2,
        y + 0.11,
        _lines(name, wide)[0],
        size=7,
        weight="bold",
        ha="center",
        va="center",
        zorder=3,
    )
    ax.text(x + 0.05, y + 0.2, "\n".join(lines), size=6, va="top", linespacing=1.15, zorder=3)


def _arrow(ax, start, end, y, to_x, to_y, style, colour) -> None:
    """Straight from a card at `start` to the `end` of its lane, and in a curve to another card: there if solid, back if dashed."""
    end = min(end, to_x - 0.2)
    bend = (to_x - end) / 2
    path = Path(
        [(start, y), (end, y), (end + bend, y), (to_x - bend, to_y), (to_x, to_y)], [1, 2, 4, 4, 4]
    )
    ax.add_patch(
        FancyArrowPatch(
            path=path,
            arrowstyle="-|>" if style == "-" else "<|-",
            mutation_scale=6,
            shrinkA=0,
            shrinkB=0,
            linestyle=style,
            color=colour,
            linewidth=0.8,
            zorder=1,
        )
    )
