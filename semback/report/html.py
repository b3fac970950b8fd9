"""HTML of what show.py makes, from the templates beside this file, in which everything is escaped.

Looks are attributes and drawings are images, since JupyterLab removes styles, scripts and inline
SVG from a notebook that it does not trust; what is left can be read. Drawings have no ground, and
colours that stand out on white and on black.
"""

import re
import textwrap
from base64 import b64encode
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..graph import Graph
from .layout import places

if TYPE_CHECKING:
    from jinja2 import Environment

WIDTH, HEIGHT, COLUMN, ROW = 130, 28, 186, 44  # pixels: of a node, to the next column and row
EDGE, TOP, BEND = 10, 22, 28  # pixels around the drawing, above it, and of bent edges
NUMBER = r"[$\[]?[+-]?\d[\d.,% \]]*"  # a cell with a number, a share or an interval

# A click on a node hides the rows of the others, a click beside the nodes shows all of them.
CLICK = (
    "const node = event.target.dataset.node, texts = this.nextElementSibling; texts.open = true;"
    " [...texts.querySelectorAll('tr')].slice(1).forEach("
    "(row, place) => { row.hidden = node && place !== +node })"
)


def plain(value: object) -> str:
    """The value as text."""
    return "(none)" if value is None else str(value)


def short(value: object, length: int) -> str:
    """The value on one line, cut at a word, with … where something is left out."""
    return textwrap.shorten(plain(value), length, placeholder=" …")


def base64(data: str | bytes) -> str:
    """Data as it stands in a page."""
    return b64encode(data.encode() if isinstance(data, str) else data).decode()


def render(template: str, **values: Any) -> str:
    """A template of this folder with values, which are escaped."""
    return _templates().get_template(template).render(values)


@lru_cache
def _templates() -> "Environment":
    import jinja2

    loader, undefined = jinja2.FileSystemLoader(Path(__file__).parent), jinja2.StrictUndefined
    templates = jinja2.Environment(
        loader=loader, autoescape=True, undefined=undefined, trim_blocks=True, lstrip_blocks=True
    )
    templates.globals |= {"plain": plain, "short": short, "base64": base64, "click": CLICK}
    templates.globals |= {"drawing": drawing, "is_number": is_number}
    return templates


def is_number(cell: object) -> bool:
    """Whether a cell stands at the right of its column."""
    return re.fullmatch(NUMBER, plain(cell)) is not None


def drawing(graph: Graph) -> tuple[str, dict[str, tuple[int, int]], tuple[int, int]]:
    """The graph as SVG. An edge that skips columns is bent upwards, past the nodes that it skips.

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
    edges = []
    for name, (left, top) in corners.items():
        for source in graph[name].inputs:
            x, y = corners[source][0] + WIDTH, corners[source][1] + HEIGHT // 2
            edges.append((x, y, BEND if left - x >= COLUMN else 0, left, top + HEIGHT // 2))
    right, bottom = (max(values) for values in zip(*corners.values()))
    size = right + WIDTH + EDGE, bottom + HEIGHT + EDGE
    shown = {"graph": graph, "corners": corners, "edges": edges, "size": size}
    return render("graph.svg.j2", **shown, width=WIDTH, height=HEIGHT), corners, size
