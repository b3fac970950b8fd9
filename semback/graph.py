"""A language-model system as data: nodes that name their inputs, and the graph they make.

A node's value is computed from the question, its own instruction (the text that is optimised) and
the values of its inputs. A Graph is frozen and hashable, is checked once when it is made, and knows
nothing of models: what a node *does* is given to `propagate` as functions.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from graphlib import CycleError, TopologicalSorter

from .errors import GraphError


@dataclass(frozen=True)
class Node:
    """One step of a system.

    Parameters
    ----------
    name : str
        What other nodes, prompts and figures call it: printable, without quotes, backticks, < or >.
    instruction : str
        What the node is told to do; the parameter of the system.
    inputs : tuple of str
        Names of the nodes whose values it is given, in this order.
    trainable : bool
        Whether its instruction may be changed.
    form : str
        How its value should look, e.g. "At most two sentences."; never changed by training.

    Raises
    ------
    GraphError
        For a value of the wrong type, a name that is not allowed, or an input named twice.
    """

    name: str
    instruction: str
    inputs: tuple[str, ...] = ()
    trainable: bool = True
    form: str = ""

    def __post_init__(self) -> None:
        for field, kind in {"instruction": str, "form": str, "trainable": bool}.items():
            if not isinstance(value := getattr(self, field), kind):
                takes = f"it takes a value of type {kind.__name__}"
                raise GraphError(f"node {self.name!r}: {field} is {value!r}; {takes}")
        several = isinstance(self.inputs, Iterable) and not isinstance(self.inputs, str)
        inputs = tuple(self.inputs) if several else (None,)
        if not all(isinstance(name, str) for name in inputs):
            takes = f"it takes a tuple of names, as in ({str(self.inputs)[:40]!r},)"
            raise GraphError(f"node {self.name!r}: inputs is {self.inputs!r}; {takes}")
        object.__setattr__(self, "inputs", inputs)
        if not _is_name(self.name):
            raise GraphError(
                f"a node is called {self.name!r}; a name is printable text on one line, "
                "without quotes, backticks, < or >"
            )
        if len(set(self.inputs)) < len(self.inputs):
            raise GraphError(f"node {self.name!r} names an input twice: {self.inputs}")


@dataclass(frozen=True)
class Graph:
    """A directed acyclic graph of nodes in which every node leads to one answer.

    Iterating over it gives its nodes, in the order given; ``len(graph)``, ``name in graph`` and
    ``graph[name]`` work too.

    Parameters
    ----------
    nodes : tuple of Node
        In any order.
    answer : str, optional
        The node whose value is scored; by default, the only node that is not an input of another.

    Raises
    ------
    GraphError
        For a name used twice, an unknown input or answer, a cycle, or nodes whose values never
        reach the answer: they would cost calls and could receive no gradient.
    """

    nodes: tuple[Node, ...]
    answer: str = None  # pyright: ignore[reportAssignmentType] - found if not given

    def __post_init__(self) -> None:
        nodes = tuple(self.nodes) if isinstance(self.nodes, Iterable) else ()
        if not nodes or not all(isinstance(node, Node) for node in nodes):
            raise GraphError(
                "a graph needs at least one node: it takes a tuple of them, "
                f"not {repr(self.nodes)[:80]}"
            )
        object.__setattr__(self, "nodes", nodes)
        counts = Counter(node.name for node in nodes)
        if twice := [name for name, count in counts.items() if count > 1]:
            raise GraphError(f"two nodes have the same name: {_some(twice)}")
        for node in nodes:
            if unknown := [name for name in node.inputs if name not in counts]:
                raise GraphError(
                    f"node {node.name!r} takes input from {_some(unknown)}, "
                    "which is not in the graph"
                )
        self.order  # noqa: B018 - a cycle is found when the graph is made
        self._set_answer()
        reaching = {self.answer}
        for name in reversed(self.order):
            if name in reaching:
                reaching.update(self[name].inputs)
        if lost := [node.name for node in nodes if node.name not in reaching]:
            raise GraphError(f"nothing leads from {_some(lost)} to the answer node {self.answer!r}")

    def _set_answer(self) -> None:
        if self.answer is None:
            ends = [node.name for node in self.nodes if not self.successors(node.name)]
            if len(ends) > 1:
                raise GraphError(
                    f"which node gives the answer? {_some(ends)} are not inputs of any other; "
                    "name one with answer="
                )
            object.__setattr__(self, "answer", ends[0])
        if self.answer not in self:
            raise GraphError(f"the answer node {self.answer!r} is not in the graph")

    @cached_property
    def _by_name(self) -> dict[str, Node]:
        return {node.name: node for node in self.nodes}

    def __getitem__(self, name: str) -> Node:
        if name not in self:
            raise GraphError(f"no node is called {name!r}; there are {_some(self.order)}")
        return self._by_name[name]

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and name in self._by_name

    def __iter__(self) -> Iterator[Node]:
        return iter(self.nodes)

    def __len__(self) -> int:
        return len(self.nodes)

    @cached_property
    def order(self) -> tuple[str, ...]:
        """Names in topological order: every node after its inputs, otherwise in the order given."""
        sorter = TopologicalSorter({node.name: node.inputs for node in self.nodes})
        try:
            sorter.prepare()
        except CycleError as error:
            cycle = " -> ".join(error.args[1])
            raise GraphError(f"these nodes form a cycle: {cycle}") from None
        place = {node.name: i for i, node in enumerate(self.nodes)}
        order: list[str] = []
        while ready := sorter.get_ready():
            order += sorted(ready, key=place.__getitem__)
            sorter.done(*ready)
        return tuple(order)

    @cached_property
    def _successors(self) -> dict[str, tuple[str, ...]]:
        successors: dict[str, list[str]] = {name: [] for name in self.order}
        for name in self.order:
            for source in self._by_name[name].inputs:
                successors[source].append(name)
        return {name: tuple(users) for name, users in successors.items()}

    def successors(self, name: str) -> tuple[str, ...]:
        """The nodes that take the value of `name` as input, in topological order."""
        return self._successors[self[name].name]

    @cached_property
    def depth(self) -> dict[str, int]:
        """{name: edges of the longest path that leads to it}; 0 for a node without inputs."""
        depth: dict[str, int] = {}
        for name in self.order:
            depth[name] = 1 + max((depth[source] for source in self[name].inputs), default=-1)
        return depth

    def with_instructions(self, instructions: Mapping[str, str]) -> "Graph":
        """The same graph with other instructions for the nodes named.

        Parameters
        ----------
        instructions : mapping of str to str
            {node name: new instruction}

        Raises
        ------
        GraphError
            For a name that no node has.
        """
        if not isinstance(instructions, Mapping):
            raise GraphError(
                f"with_instructions takes {{name: text}}, not {repr(instructions)[:80]}"
            )
        if unknown := sorted((name for name in instructions if name not in self), key=str):
            raise GraphError(f"no node is called {_some(unknown)}")
        nodes = [
            replace(node, instruction=instructions.get(node.name, node.instruction))
            for node in self.nodes
        ]
        return replace(self, nodes=tuple(nodes))

    def to_dict(self) -> dict:
        """Plain data for JSON; `from_dict` is its inverse."""
        nodes = [asdict(node) | {"inputs": list(node.inputs)} for node in self.nodes]
        return {"nodes": nodes, "answer": self.answer}

    @classmethod
    def from_dict(cls, data: Mapping) -> "Graph":
        """The graph that `to_dict` described. GraphError for other data."""
        try:
            nodes = tuple(Node(**node) for node in data["nodes"])
            return cls(**{**data, "nodes": nodes})
        except (KeyError, TypeError, AttributeError) as error:
            raise GraphError(f"this does not describe a graph: {error!r}") from None

    @classmethod
    def layered(
        cls,
        widths: Iterable[int],
        skips: bool = False,
        instruction: str = "Work out an intermediate step that helps to answer the question.",
        answer: str = "Answer the question with the help of what others worked out.",
    ) -> "Graph":
        """Layers of nodes, each node fed by the whole layer before it.

        ``layered([2, 1])`` has the shape of the paper's graph for GSM8K and BBH.

        Parameters
        ----------
        widths : iterable of int
            Nodes in each layer, first layer first; the last must be 1, the answer node.
        skips : bool
            Whether each node is fed by all earlier layers, not only by the one before.
        instruction, answer : str
            The start instruction of the inner nodes, and of the answer node.

        Raises
        ------
        GraphError
            If the widths are anything else.
        """
        sizes = list(widths) if isinstance(widths, Iterable) else []
        if not sizes or sizes[-1] != 1 or any(type(n) is not int or n < 1 for n in sizes):
            raise GraphError(
                "widths are whole numbers from 1, the last of them 1 (the answer node), "
                f"not {widths}"
            )
        nodes: list[Node] = []
        earlier: list[str] = []  # names of the layers that feed the next one
        for i, size in enumerate(sizes[:-1], 1):
            layer = [f"step_{i}_{j}" for j in range(1, size + 1)]
            nodes += [Node(name, instruction, tuple(earlier)) for name in layer]
            earlier = earlier + layer if skips else layer
        return cls((*nodes, Node("answer", answer, tuple(earlier))), "answer")


def _is_name(name: object) -> bool:
    """Whether it is printable text on one line, with nothing that ends a tag or quotation."""
    return (
        isinstance(name, str)
        and bool(name.strip())
        and name.isprintable()
        and not set(name) & set("\"'`<>")
    )


def _some(names: Iterable) -> str:
    """Names for a message: the first five, and how many more there are."""
    quoted = [repr(name) for name in names]
    more = f" and {len(quoted) - 5} more" if len(quoted) > 5 else ""
    return ", ".join(quoted[:5]) + more
