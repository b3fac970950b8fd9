"""The method and what can be taken out of it, by name: what Language and descend are told for each."""

from .errors import ParameterError
from .graph import Graph

METHODS = {  # name: (what figures call it, arguments of Language, arguments of descend)
    "full": ("semantic gradient descent", {}, {}),
    "no_gradient": ("without gradients", {"gradient": False}, {}),
    "no_neighbourhood": ("without the neighbourhood", {"neighbourhood": False}, {}),
    "no_gate": ("without the gate", {}, {"gate": False}),
}


def variant_settings(name: str, graph: Graph) -> tuple[dict, dict]:
    """The arguments of Language and of descend for an ablation.

    Parameters
    ----------
    name: one of `METHODS`, or "only_<node>": only that node's instruction is trained ("only_Job title").
    graph: the task's graph, for the names of its nodes.

    Errors
    ------
    ParameterError: a name that is none of these; it lists them.
    """
    if name not in (names := variant_names(graph)):
        raise ParameterError(f"there is no variant {name!r}; there are {', '.join(names)}")
    return (
        METHODS[name][1:] if name in METHODS else ({}, {"trainable": [name.removeprefix("only_")]})
    )


def variant_names(graph: Graph) -> list[str]:
    """Every ablation of a graph: the paper's ten runs, for the graph of LIAR."""
    return [*METHODS, *(f"only_{node.name}" for node in graph.nodes if node.trainable)]
