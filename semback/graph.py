"""A language-model system as data: nodes that name their inputs, and the graph they make.

A node's value is computed from the question, its own instruction (the text that is optimised) and the values of its
inputs. A Graph is frozen and hashable, is checked once when it is made, and knows nothing of models: what a node
*does* is given to `propagate` as functions.
"""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from graphlib import CycleError, TopologicalSorter

from .errors import GraphError


def _some(names: Iterable) -> str:
    """Names for a message: the first five, and how many more there are."""
    names = list(map(repr, names))
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")


@dataclass(frozen=True)
class Node:
    """One step of a system.

    Parameters
    ----------
    name: how other nodes, prompts and figures call it; printable, without quotes or backticks.
    instruction: what the node is told to do; the parameter of the system.
    inputs: names of the nodes whose values it is given, in this order.
    trainable: whether its instruction may be changed.
    form: how its answer should look, e.g. "At most two sentences."; never changed by training.

    Errors
    ------
    GraphError: a name that is not such text, an input named twice, inputs that are one text, or another thing that is not what it takes.
    """

    name: str
    instruction: str
    inputs: tuple[str, ...] = ()
    trainable: bool = True
    form: str = ""

    def __post_init__(self):
        if isinstance(self.inputs, str):
            raise GraphError(
                f"node {self.name!r}: inputs is the text {self.inputs!r}; it takes a tuple of names, ({self.inputs!r},)"
            )
        for what, kind, says in (
            ("instruction", str, "a text"),
            ("form", str, "a text"),
            ("trainable", bool, "True or False"),
            ("inputs", Iterable, "a tuple of names"),
        ):
            if not isinstance(getattr(self, what), kind):
                raise GraphError(
                    f"node {self.name!r}: {what} is {getattr(self, what)!r}; it takes {says}"
                )
        object.__setattr__(self, "inputs", tuple(self.inputs))
        if not all(isinstance(name, str) for name in self.inputs):
            raise GraphError(
                f"node {self.name!r}: inputs is {self.inputs!r}; it takes a tuple of names"
            )
        if (
            not isinstance(self.name, str)
            or not self.name.strip()
            or not self.name.isprintable()
            or set(self.name) & set("\"'`<>")
        ):
            raise GraphError(
                f"a node is called {self.name!r}; a name is printable text on one line, without quotes, backticks, < or >"
            )
        if len(set(self.inputs)) < len(self.inputs):
            raise GraphError(f"node {self.name!r} names an input twice: {self.inputs}")


@dataclass(frozen=True)
class Graph:
    """A directed acyclic graph of nodes in which every node leads to one answer.

    Parameters
    ----------
    nodes: the nodes, in any order.
    answer: the node whose value is scored; without it, the only node that is nobody's input.

    Errors
    ------
    GraphError: a name used twice, an unknown input or answer, a cycle, or nodes whose value never reaches the answer
        (they would cost calls and could receive no gradient); it names the nodes.
    """

    nodes: tuple[Node, ...]
    answer: str | None = None

    def __post_init__(self):
        nodes = tuple(self.nodes) if isinstance(self.nodes, Iterable) else ()
        if not nodes or not all(isinstance(node, Node) for node in nodes):
            raise GraphError(
                f"a graph needs at least one node: it takes a tuple of them, not {repr(self.nodes)[:80]}"
            )
        object.__setattr__(self, "nodes", nodes)
        names = [node.name for node in self.nodes]
        known = set(names)
        if len(known) < len(names):
            raise GraphError(
                f"two nodes have the same name: {_some(name for name, times in Counter(names).items() if times > 1)}"
            )
        for node in self.nodes:
            if unknown := [name for name in node.inputs if name not in known]:
                raise GraphError(
                    f"node {node.name!r} takes input from {_some(unknown)}, which is not in the graph"
                )
        self.order  # noqa: B018 - a cycle is an error of the graph, met when it is made
        ends = [name for name in names if not self.successors(name)]
        if self.answer is None:
            if len(ends) > 1:
                raise GraphError(
                    f"which node answers? {_some(ends)} are nobody's input; name one with answer="
                )
            object.__setattr__(self, "answer", ends[0])
        if not isinstance(self.answer, str) or self.answer not in known:
            raise GraphError(f"the answer node {self.answer!r} is not in the graph")
        useful = {self.answer}
        for name in reversed(self.order):
            useful |= set(self[name].inputs) if name in useful else set()
        if lost := [name for name in names if name not in useful]:
            raise GraphError(f"nothing leads from {_some(lost)} to the answer node {self.answer!r}")

    @cached_property
    def _by_name(self) -> dict[str, Node]:
        return {node.name: node for node in self.nodes}

    def __getitem__(self, name: str) -> Node:
        try:
            return self._by_name[name]
        except (KeyError, TypeError):
            raise GraphError(f"no node is called {name!r}; there are {_some(self.order)}") from None

    @cached_property
    def order(self) -> tuple[str, ...]:
        """Names in topological order: every node after its inputs, otherwise in the order given."""
        sorter = TopologicalSorter({node.name: node.inputs for node in self.nodes})
        try:
            sorter.prepare()
        except CycleError as error:
            raise GraphError(
                f"these nodes feed each other in a circle: {' -> '.join(error.args[1])}"
            ) from None
        order, place = [], {node.name: i for i, node in enumerate(self.nodes)}
        while ready := sorter.get_ready():
            order += sorted(ready, key=place.get)
            sorter.done(*ready)
        return tuple(order)

    @cached_property
    def _successors(self) -> dict[str, tuple[str, ...]]:
        users: dict[str, list[str]] = {name: [] for name in self.order}
        for user in self.order:
            for name in self[user].inputs:
                users[name].append(user)
        return {name: tuple(each) for name, each in users.items()}

    @cached_property
    def depth(self) -> dict[str, int]:
        """{name: edges of the longest path that leads to it}; 0 for a node without inputs."""
        depth: dict[str, int] = {}
        for name in self.order:
            depth[name] = 1 + max((depth[source] for source in self[name].inputs), default=-1)
        return depth

    def successors(self, name: str) -> tuple[str, ...]:
        """The nodes that take the value of `name` as input, in topological order. GraphError for a name that no node has."""
        return self._successors[self[name].name]

    def with_instructions(self, instructions: Mapping[str, str]) -> "Graph":
        """The same graph with other instructions for the nodes named, {name: text}. GraphError for an unknown name, or no such mapping."""
        if not isinstance(instructions, Mapping):
            raise GraphError(
                f"with_instructions takes {{name: text}}, not {repr(instructions)[:80]}"
            )
        if unknown := sorted((name for name in instructions if name not in self._by_name), key=str):
            raise GraphError(f"no node is called {_some(unknown)}")
        nodes = (
            replace(node, instruction=instructions.get(node.name, node.instruction))
            for node in self.nodes
        )
        return replace(self, nodes=tuple(nodes))

    def to_dict(self) -> dict:
        """Plain data for JSON; `from_dict` is its inverse."""
        return {
            "nodes": [asdict(node) | {"inputs": list(node.inputs)} for node in self.nodes],
            "answer": self.answer,
        }

    @classmethod
    def from_dict(cls, data: Mapping) -> "Graph":
        """The graph that `to_dict` described. GraphError where the data is not such a description."""
        try:
            return cls(tuple(Node(**node) for node in data["nodes"]), data.get("answer"))
        except (KeyError, TypeError, AttributeError) as error:
            raise GraphError(f"this does not describe a graph: {error}") from None

    @classmethod
    def layered(
        cls,
        widths,
        skips: bool = False,
        instruction: str = "Work out an intermediate step that helps to answer the question.",
        answer: str = "Answer the question with the help of what others worked out.",
    ) -> "Graph":
        """Layers of nodes, each node fed by the whole layer before it; ``layered([2, 1])`` has the shape of the paper's for GSM8K and BBH.

        Parameters
        ----------
        widths: nodes in each layer, first layer first; the last must be 1, the answer node.
        skips: whether each node is fed by all earlier layers, not only by the one before.
        instruction, answer: the start instruction of the inner nodes and of the answer node.

        Errors: GraphError where the widths are not such numbers.
        """
        given, widths = widths, list(widths) if isinstance(widths, Iterable) else []
        if not widths or widths[-1] != 1 or any(type(w) is not int or w < 1 for w in widths):
            raise GraphError(
                f"widths are whole numbers from 1, the last of them 1 (the answer node), not {given}"
            )
        layers = [
            [f"step_{i}_{j}" for j in range(1, width + 1)] for i, width in enumerate(widths[:-1], 1)
        ] + [["answer"]]
        nodes = []
        for i, layer in enumerate(layers):
            before = layers[:i] if skips else layers[max(0, i - 1) : i]
            inputs = tuple(name for names in before for name in names)
            nodes += [
                Node(name, answer if name == "answer" else instruction, inputs) for name in layer
            ]
        return cls(tuple(nodes), "answer")
