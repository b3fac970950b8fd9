"""Where the nodes of a graph stand, on screen and in print.

A node's column is its depth, so every edge leads to the right; its row is its place among the nodes
of the column, in the order of the graph. Shorter columns are centred beside the longest one.
"""

from typing import NamedTuple

from ..graph import Graph


class Place(NamedTuple):
    """Where a node stands: its column, from 0 at the left, and its row, from 0 at the top."""

    column: int
    row: float


def places(graph: Graph) -> dict[str, Place]:
    """The place of every node, in topological order; rows may be halves.

    Parameters
    ----------
    graph : Graph

    Returns
    -------
    dict of str to Place
    """
    columns: dict[int, list[str]] = {}
    for name in graph.order:
        columns.setdefault(graph.depth[name], []).append(name)
    longest = max(len(names) for names in columns.values())
    found = {}
    for column, names in columns.items():
        top = (longest - len(names)) / 2
        for row, name in enumerate(names):
            found[name] = Place(column, top + row)
    return {name: found[name] for name in graph.order}
