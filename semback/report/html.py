"""Pieces of HTML: texts that unfold, tables, and graphs whose nodes can be clicked.

Everything is escaped. Looks are attributes and drawings are images, since JupyterLab removes
styles, scripts and inline SVG from a notebook that it does not trust; what is left can be read.
Drawings have no ground, and colours that stand out on white and on black.
"""

import re
import textwrap
from base64 import b64encode
from collections.abc import Iterable, Sequence
from html import escape

from ..graph import Graph
from .layout import places

LONG = 400  # characters of a text that is shown unfolded
LABEL = 16  # characters of a node's name that are drawn
WIDTH, HEIGHT, COLUMN, ROW = 130, 28, 186, 44  # pixels: of a node, to the next column and row
EDGE, TOP, BEND = 10, 22, 28  # pixels around the drawing, above it, and of bent edges
NUMBER = r"[$\[]?[+-]?\d[\d.,% \]]*"  # a cell with a number, a share or an interval

# A click on a node hides the rows of the others, a click beside the nodes shows all of them.
CLICK = (
    "const node = event.target.dataset.node, texts = this.nextElementSibling; texts.open = true;"
    " [...texts.querySelectorAll('tr')].slice(1).forEach("
    "(row, place) => { row.hidden = node && place !== +node })"
)
_CELL = "vertical-align:top;padding:2px 8px;border-bottom:1px solid #8886;"
_LEFT = _CELL + "text-align:left;white-space:pre-wrap"
_RIGHT = _CELL + "text-align:right;white-space:nowrap"


def plain(value: object) -> str:
    """The value as text."""
    return "(none)" if value is None else str(value)


def short(value: object, length: int) -> str:
    """The value on one line, cut at a word, with … where something is left out."""
    return textwrap.shorten(plain(value), length, placeholder=" …")


def text(value: object) -> str:
    """The value as escaped text; of a long one the beginning, which unfolds to all of it."""
    whole = plain(value)
    if len(whole) <= LONG:
        return escape(whole)
    summary = f"{escape(short(whole, 100))} ({len(whole):,} characters)"
    return fold(summary, f'<div style="white-space:pre-wrap">{escape(whole)}</div>')


def fold(summary: str, inside: str, opened: bool = False) -> str:
    """HTML that unfolds under a line of HTML."""
    return f"<details{' open' if opened else ''}><summary>{summary}</summary>{inside}</details>"


def table(head: Iterable[str], rows: Sequence[Sequence[object]]) -> str:
    """A table of plain values; columns of numbers are aligned at the right."""
    looks = [_RIGHT if re.fullmatch(NUMBER, plain(cell)) else _LEFT for cell in rows[0]]
    body = ""
    for tag, cells in [("th", head), *(("td", row) for row in rows)]:
        inside = (f'<{tag} style="{look}">{text(cell)}</{tag}>' for look, cell in zip(looks, cells))
        body += f"<tr>{''.join(inside)}</tr>"
    return f'<div style="overflow-x:auto"><table>{body}</table></div>'


def clickable(graph: Graph, tips: Iterable[object]) -> str:
    """A drawing of the graph. A click on a node picks its row out of the table that follows.

    Parameters
    ----------
    graph : Graph
    tips : iterable
        What is shown when the pointer rests on a node, in the order of the graph.
    """
    svg, corners, (width, height) = drawing(graph)
    source = b64encode(svg.encode()).decode()
    buttons = ""
    for place, (name, tip) in enumerate(zip(graph.order, tips)):
        left, top = corners[name]
        buttons += (
            f'<button data-node="{place}" title="{escape(short(f"{name}: {plain(tip)}", 300))}"'
            f' style="position:absolute;left:{left}px;top:{top}px;width:{WIDTH}px;'
            f'height:{HEIGHT}px;border:none;background:transparent;cursor:pointer"></button>'
        )
    alt = "; ".join(f"{each} → {name}" for name in graph.order for each in graph[name].inputs)
    return (
        f'<div style="overflow-x:auto" data-lm-suppress-shortcuts="true" onclick="{CLICK}">'
        f'<div style="position:relative;width:{width}px">'
        f'<img alt="{escape(alt)}" width="{width}" height="{height}"'
        f' style="max-width:none;display:block" src="data:image/svg+xml;base64,{source}">'
        f"{buttons}</div></div>"
    )


def drawing(graph: Graph) -> tuple[str, dict[str, tuple[int, int]], tuple[int, int]]:
    """The graph as SVG: trainable nodes are blue, fixed ones dashed, the answer node is bold.

    An edge that skips columns is bent upwards, past the nodes that it skips.

    Returns
    -------
    svg : str
    corners : dict of str to (int, int)
        The left and top of each node, in pixels; all are `WIDTH` by `HEIGHT`.
    size : (int, int)
        Width and height of the drawing, in pixels.
    """
    corners = {
        name: (EDGE + place.column * COLUMN, round(TOP + place.row * ROW))
        for name, place in places(graph).items()
    }
    edges, nodes = "", ""
    for name, (left, top) in corners.items():
        y = top + HEIGHT // 2
        for source in graph[name].inputs:
            x0, y0 = corners[source][0] + WIDTH, corners[source][1] + HEIGHT // 2
            bend = 0 if left - x0 < COLUMN else BEND
            controls = f"{x0 + 28} {y0 - bend} {left - 28} {y - bend}"
            edges += f'<path d="M{x0} {y0}C{controls} {left} {y}" marker-end="url(#tip)"/>'
        look = 'fill="#dbe9f6"' if graph[name].trainable else 'fill="#eee" stroke-dasharray="4 3"'
        outline = 2.5 if name == graph.answer else 1
        label = name if len(name) <= LABEL else name[: LABEL - 1].rstrip() + "…"
        nodes += (
            f'<g><title>{escape(name)}</title><rect x="{left}" y="{top}" width="{WIDTH}"'
            f' height="{HEIGHT}" rx="6" {look} stroke="#0072b2" stroke-width="{outline}"/>'
            f'<text x="{left + WIDTH // 2}" y="{y + 4}">{escape(label)}</text></g>'
        )
    width = max(left for left, _ in corners.values()) + WIDTH + EDGE
    height = max(top for _, top in corners.values()) + HEIGHT + EDGE
    svg = (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}"'
        ' font-family="DejaVu Sans,Verdana,sans-serif" font-size="12" text-anchor="middle">'
        '<marker id="tip" viewBox="0 0 8 8" refX="8" refY="4" markerWidth="7" markerHeight="7"'
        ' orient="auto"><path d="M0 0L8 4L0 8z" fill="#888"/></marker>'
        f'<g fill="none" stroke="#888">{edges}</g>{nodes}</svg>'
    )
    return svg, corners, (width, height)
