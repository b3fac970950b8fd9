"""Pieces of HTML that show.py is made of: folded texts, tables, and graphs whose nodes can be read.

Looks are attributes, drawings are images, and what stands under a graph is `details` and tables: a copy that keeps neither
styles nor scripts, like a notebook that is not trusted yet, can still be read. (An SVG element would not do: where it is
not allowed, its texts run into one another.) There are no ids, so any number of these may stand on one page.
"""

from base64 import b64encode
from html import escape

from ..graph import Graph
from .drawing import Drawing, graph_drawing

LONG, TIP, FEW = (
    400,
    300,
    12,
)  # characters of a text that is not folded, of a tip that is not cut; rows that are not folded
_CELL = "text-align:left;vertical-align:top;white-space:pre-wrap;padding:3px 8px;border-bottom:1px solid #8886"

# On a click on a node: show its text below and hide the others'; on a click beside the nodes: show all of them, closed.
_READ = " ".join(
    """
const node = event.target.closest('[data-node]'), list = this.nextElementSibling;
if (node) list.open = true;
list.querySelectorAll('details[data-node]').forEach(text => {
  text.open = !!node && text.dataset.node === node.dataset.node;
  text.style.display = node && !text.open ? 'none' : '';
});
this.querySelectorAll('[data-node]').forEach(each => {
  each.style.boxShadow = each === node ? '0 0 0 3px #d55e00' : '';
});""".split()
)
_KEY = "if (event.key === 'Enter' || event.key === ' ') { event.preventDefault(); this.onclick(event); }"


def text(value) -> str:
    """The text, escaped; if it is long, its beginning, which unfolds to all of it."""
    value = said(value)
    if len(value) <= LONG:
        return escape(value)
    return fold(
        f"{escape(cut(value, 100))} ({len(value):,} characters)",
        f'<div style="white-space:pre-wrap">{escape(value)}</div>',
    )


def said(value) -> str:
    """The value as text; None is what was not said."""
    return "(nothing)" if value is None else str(value)


def cut(value, length: int) -> str:
    """The beginning of a text on one line, with … where something is left out."""
    line = " ".join(said(value).split())
    return line if len(line) <= length else line[: length - 1].rstrip() + "…"


def fold(summary: str, inside: str, attributes: str = "") -> str:
    """HTML that unfolds under a line of HTML."""
    return f'<details{attributes}><summary style="cursor:pointer">{summary}</summary>{inside}</details>'


def table(head, rows, name: str, few: int = FEW) -> str:
    """A table of plain texts, nothing where there are no rows; more than a few rows are folded under its name."""
    cells = [[f'<td style="{_CELL}">{text(cell)}</td>' for cell in row] for row in rows]
    made = (
        _table([[f'<th style="{_CELL}">{escape(cell)}</th>' for cell in head], *cells])
        if cells
        else ""
    )
    return made if len(cells) <= few else fold(f"{escape(name)} ({len(cells)} rows)", made)


def entries(rows) -> str:
    """Texts with a label each, as a table."""
    label = _CELL.replace("pre-wrap", "nowrap")
    return _table(
        [
            [f'<td style="{label}">{escape(name)}</td>', f'<td style="{_CELL}">{text(value)}</td>']
            for name, value in rows
        ]
    )


def _table(lines):
    body = "".join(f"<tr>{''.join(line)}</tr>" for line in lines)
    return f'<div style="overflow-x:auto"><table style="border-collapse:collapse;margin:4px 0">{body}</table></div>'


def image(drawing: Drawing, alt: str, nodes: str = "", attributes: str = "") -> str:
    """A drawing at its own size; what is wider than the page scrolls. nodes: HTML that is laid over it."""
    source = b64encode(drawing.svg.encode()).decode()
    return (
        f'<div style="overflow-x:auto"{attributes}><div style="position:relative;width:{drawing.width}px">'
        f'<img alt="{escape(alt)}" src="data:image/svg+xml;base64,{source}" width="{drawing.width}" height="{drawing.height}" '
        f'style="max-width:none;display:block">{nodes}</div></div>'
    )


def readable_graph(
    graph: Graph, line: dict[str, object], rows: dict[str, list[tuple]], name: str, few: int = FEW
) -> str:
    """The graph, and a text for each node under it; a click on a node shows its text alone, one beside the nodes all of them.

    Parameters
    ----------
    line: {node: what is said about it in short}, next to its name and when the pointer rests on it.
    rows: {node: (label, text) pairs}, what is read when it is unfolded.
    name, few: the texts of more than a few nodes are folded under this name.
    """
    drawing, nodes, texts = graph_drawing(graph), "", ""
    for number, node in enumerate(graph.order):
        left, top, width, height = drawing.boxes[node]
        nodes += (
            f'<span data-node="{number}" title="{escape(cut(f"{node}: {said(line[node])}", TIP))}" role="button" tabindex="0" '
            f'data-lm-suppress-shortcuts="true" style="position:absolute;left:{left}px;top:{top}px;width:{width}px;'
            f'height:{height}px;border-radius:6px;cursor:pointer"></span>'
        )
        texts += fold(
            f"<b>{escape(node)}</b> {escape(cut(line[node], 90))}",
            entries(rows[node]),
            f' data-node="{number}"',
        )
    alt = (
        "; ".join(
            f"{' + '.join(graph[node].inputs)} → {node}"
            for node in graph.order
            if graph[node].inputs
        )
        or graph.answer
    )
    return image(
        drawing,
        alt,
        nodes,
        f' onclick="{escape(_READ, quote=False)}" onkeydown="{escape(_KEY, quote=False)}"',
    ) + (f"<div>{texts}</div>" if len(graph.order) <= few else fold(escape(name), texts))
