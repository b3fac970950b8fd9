"""Where the nodes of a graph stand, on screen and in print.

A node's column is its depth, so every edge leads to the right; its row is its place among the nodes
of the column, in the order of the graph. Shorter columns are centred beside the longest one.
"""

from collections import defaultdict
from typing import NamedTuple

from ..graph import Graph


class Place(NamedTuple):
    """Where a node stands: its column, from 0 at the left, and its row, from 0 at the top."""

    column: int
    row: float


def places(graph: Graph) -> dict[str, Place]:
    """The place of every node, in topological order; rows may be halves."""
    columns = defaultdict(list)
    for name in graph.order:
        columns[graph.depth[name]].append(name)
    longest = max(map(len, columns.values()))
    found = {}
    for name in graph.order:
        column = columns[graph.depth[name]]
        top = (longest - len(column)) / 2
        found[name] = Place(graph.depth[name], top + column.index(name))
    return found
