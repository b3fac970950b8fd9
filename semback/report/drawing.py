"""Graphs and runs as SVG, with the standard library alone.

A graph is drawn in columns from left to right, after Sugiyama, Tagawa and Toda (1981): what skips columns has a lane of
its own through each of them, so that no edge runs through a node; the order within a column is the one with the fewest
crossings among some barycentre sweeps; heights follow the neighbours as closely as order and room allow.
"""

import unicodedata
from bisect import bisect_right, insort
from html import escape
from typing import NamedTuple

from ..graph import Graph
from ..run import Run

INK, GREY, BLUE, PALE, VERMILLION = "#444", "#888", "#0072b2", "#dbe9f6", "#d55e00"
HIGH, ROOM, LANE, LABEL = (
    28,
    40,
    16,
    150,
)  # pixels: a node's height, its height with room, a lane's, the widest label
SWEEPS = 12


class Drawing(NamedTuple):
    """An SVG of so many pixels, and where in it the nodes are: {name: (left, top, width, height)}."""

    svg: str
    width: int
    height: int
    boxes: dict[str, tuple[int, int, int, int]]


def graph_drawing(graph: Graph) -> Drawing:
    """The graph: trainable nodes are blue, fixed ones dashed, the answer node has a thick outline."""
    column = _columns(graph)
    columns, links = _lanes(graph, column)
    columns = _ordered(columns, links)
    y = _heights(columns, links, column)
    top = min(y.values()) - ROOM / 2
    y = {place: round(height - top) for place, height in y.items()}
    left, wide, x = [], [], 10
    for i, places in enumerate(columns):
        left.append(x)
        wide.append(
            round(max(_width(_short(name)) for name, at in places if column[name] == at)) + 20
        )
        steepest = max((abs(y[a] - y[b]) for a, b in (*links, ())[i]), default=0)
        x += wide[-1] + min(max(40, steepest // 3), 110)
    edges = []
    for i, pairs in enumerate(links):
        for a, b in pairs:
            x0, x1, lane = left[i] + wide[i], left[i + 1], b[0] == a[0]
            end = f"H{x1 + wide[i + 1]}" if lane else ""  # on through the next column
            middle, x1 = (x0 + x1) // 2, x1 if lane else x1 - 4
            edges.append(f"M{x0} {y[a]}C{middle} {y[a]} {middle} {y[b]} {x1} {y[b]}{end}")
    boxes = {name: (left[i], y[name, i] - HIGH // 2, wide[i], HIGH) for name, i in column.items()}
    parts = [f'<path d="{"".join(edges)}" fill="none" stroke="{GREY}"/>'] if edges else []
    for name in graph.order:
        x, top, width, _ = boxes[name]
        look = f'fill="{PALE}"' if graph[name].trainable else 'fill="#fff" stroke-dasharray="4 3"'
        look += (
            f' stroke="{BLUE}" stroke-width="2.5"' if name == graph.answer else f' stroke="{INK}"'
        )
        arrow = (
            f'<path d="M{x - 7} {top + HIGH / 2 - 3.5}l7 3.5l-7 3.5z" fill="{INK}"/>'
            if graph[name].inputs
            else ""
        )
        label = f'<text x="{x + width // 2}" y="{top + HIGH // 2 + 4}" text-anchor="middle" fill="#111">{escape(_short(name))}</text>'
        parts.append(
            f'<g><title>{escape(name)}</title>{arrow}<rect x="{x}" y="{top}" width="{width}" height="{HIGH}" rx="6" {look}/>'
            f"{label}</g>"
        )
    return _drawing(left[-1] + wide[-1] + 10, max(y.values()) + ROOM // 2, parts, boxes)


def run_drawing(run: Run) -> Drawing:
    """The accuracy on the training examples, step by step: a line for the graph, dots for accepted and crosses for rejected candidates,
    with Wilson's intervals."""
    steps = max(1, len(run.steps) - 1)
    gap = max(18, min(480, max(266, 60 * steps)) // steps)
    left, right, top, bottom = 44, 44 + gap * steps, 30, 150
    width = right + 20

    def at(share):
        return bottom - share * (bottom - top)

    parts = [
        f'<path d="M{left} {at(share):.1f}H{right:.1f}" stroke="#ddd"/><text x="{left - 8}" y="{at(share) + 4:.1f}" '
        f'text-anchor="end" fill="{INK}">{share:.0%}</text>'
        for share in (0, 0.25, 0.5, 0.75, 1)
    ]
    every, line, marks = -(-len(run.steps) // 16), "", ""
    for number, step in enumerate(run.steps):
        x = left + gap * number
        if number % every == 0:
            parts.append(
                f'<text x="{x:.1f}" y="{bottom + 18}" text-anchor="middle" fill="{INK}">{number}</text>'
            )
        if step.scores is not None:
            y, low, high = map(at, (step.scores.accuracy, *step.scores.interval))
            tip = f"<title>step {number}: {step.scores.correct} of {len(step.scores.rows)} right</title>"
            bar = f'<path d="M{x:.1f} {low:.1f}V{high:.1f}" stroke="{BLUE if step.accepted else VERMILLION}"/>'
            marks += f"<g>{tip}{bar}{_accepted(x, y) if step.accepted else _rejected(x, y)}</g>"
        if step.accepted:
            line += f"{'H' if line else 'M'}{x:.1f}{'V' if line else ' '}{y:.1f}"
    parts.append(
        f'<path d="{line}H{right:.1f}" fill="none" stroke="{BLUE}" stroke-width="1.5"/>{marks}'
    )
    parts.append(
        f'<g fill="{INK}">{_accepted(left + 3, 186)}<text x="{left + 12}" y="190">accepted</text>'
        f'{_rejected(left + 83, 186)}<text x="{left + 93}" y="190">rejected</text>'
        f'<text x="{left + 158}" y="190">bars: 95 % interval</text>'
        f'<text x="10" y="14">accuracy on training questions, by step</text></g>'
    )
    if run.simulated:
        parts.insert(
            0,
            f'<text x="{(left + right) / 2:.1f}" y="104" text-anchor="middle" font-size="36" fill="#e4e4e4">simulated</text>',
        )
    return _drawing(width, 200, parts, {})


def _accepted(x, y):
    return f'<circle cx="{x:.1f}" cy="{y:.1f}" r="4" fill="{BLUE}"/>'


def _rejected(x, y):
    return (
        f'<path d="M{x - 4:.1f} {y - 4:.1f}l8 8m0 -8l-8 8" stroke="{VERMILLION}" stroke-width="2"/>'
    )


def _drawing(width, height, parts, boxes):
    return Drawing(
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" viewBox="0 0 {width} {height}" '
        'font-family="DejaVu Sans,Verdana,sans-serif" font-size="12">'
        f'<rect width="100%" height="100%" fill="#fff"/>{"".join(parts)}</svg>',
        width,
        height,
        boxes,
    )


# The columns of a graph. A place is (name, column): the node where the column is its own, and its lane in those after it.


def _columns(graph: Graph) -> dict[str, int]:
    """Each node's column: right of all its inputs; a node without inputs stands as near to its first user as can be."""
    near = {
        name: min(graph.depth[user] for user in graph.successors(name)) - 1
        for name in graph.order
        if not graph[name].inputs and graph.successors(name)
    }
    return graph.depth | near


def _lanes(graph: Graph, column: dict[str, int]):
    """The places of each column, and between each two columns the pairs of places that a line joins."""
    columns = [[] for _ in range(max(column.values()) + 1)]
    links = [[] for _ in columns[1:]]
    for name in graph.order:
        users = graph.successors(name)
        for i in range(
            column[name], max((column[user] for user in users), default=column[name] + 1)
        ):
            columns[i].append((name, i))
            if i > column[name]:
                links[i - 1].append(((name, i - 1), (name, i)))
        for user in users:
            links[column[user] - 1].append(((name, column[user] - 1), (user, column[user])))
    return columns, links


def _ordered(columns, links):
    """The columns, each sorted, with the fewest crossings of lines that the sweeps came by."""
    before, after = _neighbours(links)
    best, fewest = columns, _crossings(columns, links)
    columns = [list(places) for places in columns]
    for sweep in range(SWEEPS):
        if not fewest:
            break
        near = after if sweep % 2 else before
        for i in reversed(range(len(columns))) if sweep % 2 else range(len(columns)):
            row = _rows(columns)
            columns[i].sort(
                key=lambda place: (
                    _mean([row[other] for other in near[place]]) if near.get(place) else row[place]
                )
            )
        if (crossings := _crossings(columns, links)) < fewest:
            best, fewest = [list(places) for places in columns], crossings
    return best


def _heights(columns, links, column):
    """The height of each place: as near to the mean of its neighbours as the order and the room of others allow."""
    before, after = _neighbours(links)
    y = {place: ROOM * row for place, row in _rows(columns).items()}
    for sweep in range(2 * SWEEPS):
        for places in columns[::-1] if sweep % 2 else columns:
            room = [ROOM if column[name] == i else LANE for name, i in places]
            offsets = [sum(room[:n]) + room[n] / 2 for n in range(len(room))]
            near = (
                [y[other] for other in before.get(place, []) + after.get(place, [])]
                for place in places
            )
            wanted = [_mean(heights or [y[place]]) for heights, place in zip(near, places)]
            y |= zip(places, _spread(wanted, offsets))
    return y


def _spread(wanted, offsets):
    """The numbers nearest to `wanted`, in least squares, that lie at least as far apart as `offsets`: isotonic regression."""
    blocks = []
    for value, offset in zip(wanted, offsets):
        blocks.append([value - offset, 1])
        while len(blocks) > 1 and blocks[-2][0] / blocks[-2][1] > blocks[-1][0] / blocks[-1][1]:
            total, count = blocks.pop()
            blocks[-1] = [blocks[-1][0] + total, blocks[-1][1] + count]
    level = [total / count for total, count in blocks for _ in range(count)]
    return [value + offset for value, offset in zip(level, offsets)]


def _neighbours(links):
    before, after = {}, {}
    for pairs in links:
        for a, b in pairs:
            after.setdefault(a, []).append(b)
            before.setdefault(b, []).append(a)
    return before, after


def _mean(numbers):
    return sum(numbers) / len(numbers)


def _rows(columns):
    return {
        place: row - (len(places) - 1) / 2 for places in columns for row, place in enumerate(places)
    }


def _crossings(columns, links):
    row = _rows(columns)
    total = 0
    for pairs in links:
        ends = [end for _, end in sorted((row[a], row[b]) for a, b in pairs)]
        above = []
        for end in ends:
            total += len(above) - bisect_right(above, end)
            insort(above, end)
    return total


# Labels


def _width(text: str) -> float:
    """About how wide the text is, in pixels, in a 12 pixel sans-serif."""
    return sum(
        12.5
        if unicodedata.east_asian_width(c) in "WF"
        else 9.5
        if c.isupper() or c in "mw@%"
        else 7.4
        for c in text
    )


def _short(name: str) -> str:
    """The name, cut with … where it is wider than a node may be."""
    if _width(name) <= LABEL:
        return name
    return next(
        name[:n].rstrip() + "…" for n in range(len(name), 0, -1) if _width(name[:n] + "…") <= LABEL
    )
