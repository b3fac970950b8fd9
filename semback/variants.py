"""The variants of the method by name, as arguments of Language and descend; and other methods."""

from typing import Any, NamedTuple

from .errors import ParameterError
from .graph import Graph


class Variant(NamedTuple):
    """What tables call a variant, and its arguments for `Language` and for `descend`."""

    label: str
    language: dict[str, Any]
    descend: dict[str, Any]


VARIANTS = {
    "full": Variant("semantic gradient descent", {}, {}),
    "no_gradient": Variant("without gradients", {"gradient": False}, {}),
    "no_neighbourhood": Variant("without the neighbourhood", {"neighbourhood": False}, {}),
    "no_gate": Variant("without the gate", {}, {"gate": False}),
    "comment": Variant("gradients are comments", {"feedback": "comment"}, {}),
    "critique": Variant("critique before update", {"critique": True}, {}),
}
METHODS = {  # other than semback's own, and what tables call them
    "start": "the start graph",
    "textgrad": "TextGrad 0.1.8",
    "optoprime": "OptoPrime (Trace 0.1.3.8)",
    "copro": "COPRO (DSPy 3.4.1)",
    "gepa": "GEPA 0.1.4",
}
PEERS = tuple(name for name in METHODS if name != "start")  # other libraries


def variant_settings(name: str, graph: Graph) -> tuple[dict[str, Any], dict[str, Any]]:
    """The arguments for Language and for descend that make a variant.

    Parameters
    ----------
    name : str
        One of `VARIANTS`, or "only_<node>": only that node's instruction is trained.
    graph : Graph
        The task's graph, for the names of its nodes.

    Raises
    ------
    ParameterError
        For a name that is none of these; it lists them.
    """
    names = variant_names(graph)
    if name not in names:
        raise ParameterError(f"there is no variant {name!r}; there are {', '.join(names)}")
    if name in VARIANTS:
        return VARIANTS[name].language, VARIANTS[name].descend
    return {}, {"trainable": [name.removeprefix("only_")]}


def variant_names(graph: Graph) -> list[str]:
    """Every variant of a graph; for LIAR's, the paper's ten runs."""
    return [*VARIANTS, *(f"only_{node.name}" for node in graph if node.trainable)]
