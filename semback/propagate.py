"""Semantic backpropagation: the whole algorithm, for any graph and any kind of value.

Forward, in topological order, every node computes its value from the values of its inputs:

    value[w] = functions.forward(w, question, {u: value[u] for each input u of w})

Backward, in the reverse order, every node turns *its own* gradient (how its value should change)
into one gradient for *each of its inputs, all in one call*:

    gradient[answer] = what the score says
    {u: message[w, u]} = functions.backward(w, question, inputs, value[w], gradient[w])
    gradient[u] = functions.aggregate([message[w, u] for each successor w of u])

Because one call sees all the inputs of `w` (the *neighbourhood*: nodes with a common successor), it
can tell which of them is at fault. A value that several nodes use gets a message from each of them,
and its gradient is the aggregate.

With text, the three functions are calls to language models (`language.Language`). With numbers,
where `backward` is the vector-Jacobian product and `aggregate` the sum, this same file is
reverse-mode automatic differentiation (tests/core/test_propagate.py compares it with PyTorch).
"""

import asyncio
from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

from .errors import GraphError
from .graph import Graph, Node


class Functions(Protocol):
    """What the nodes of a system do. Values and gradients may be of any type.

    `forward` returns the node's value, given {name of an input: its value}. `backward` returns
    {input: its gradient}, for every input; None for one that nothing can be said about. `aggregate`
    combines the messages of a node's successors, at least one, into one gradient.
    """

    async def forward(self, node: Node, question: Any, inputs: dict[str, Any]) -> Any: ...

    async def backward(
        self, node: Node, question: Any, inputs: dict[str, Any], output: Any, gradient: Any
    ) -> Mapping[str, Any]: ...

    def aggregate(self, gradients: Sequence[Any]) -> Any: ...


@dataclass(frozen=True)
class Trace:
    """What a forward pass computed: the value of every node, by name, for one question."""

    graph: Graph
    question: Any
    values: Mapping[str, Any]

    @property
    def answer(self) -> Any:
        """The value of the answer node."""
        return self.values[self.graph.answer]

    def inputs(self, name: str) -> dict[str, Any]:
        """{input: value}: what node `name` was given."""
        return {source: self.values[source] for source in self.graph[name].inputs}


class Message(NamedTuple):
    """What one node says to one of its inputs; `gradient` is None where that is nothing."""

    source: str
    target: str
    gradient: Any


class Gradients(dict[str, Any]):
    """What a backward pass computed: `gradients[name]` says how that node's value should change.

    Nodes that no gradient reached, because no successor had anything to say about them, are
    left out.

    Attributes
    ----------
    trace : Trace
        The forward pass that it belongs to.
    messages : tuple of Message
        Every (from, to, gradient) that the gradients were aggregated from, in the order of the
        backward pass.
    """

    def __init__(self, trace: Trace, gradients: Mapping[str, Any], messages: Iterable[Message]):
        super().__init__(gradients)
        self.trace = trace
        self.messages = tuple(messages)


async def forward(graph: Graph, question: Any, functions: Functions) -> Trace:
    """Compute every node's value. A node starts as soon as all its inputs have their values.

    Parameters
    ----------
    graph : Graph
        The system.
    question : Example or any
        An Example, or the plain question that every node is shown.
    functions : Functions
        Their `forward` is called once for each node.

    Returns
    -------
    Trace
    """
    question = getattr(question, "question", question)

    async def value(name: str, values: Mapping[str, Any]) -> Any:
        node = graph[name]
        inputs = {source: values[source] for source in node.inputs}
        return await functions.forward(node, question, inputs)

    inputs = {name: graph[name].inputs for name in graph.order}
    values = await _in_order(inputs, graph.successors, value)
    return Trace(graph, question, values)


async def backward(trace: Trace, gradient: Any, functions: Functions) -> Gradients:
    """Compute how every node's value should change, given how the answer should.

    A node starts as soon as all its successors are done.

    Parameters
    ----------
    trace : Trace
        What `forward` returned.
    gradient : any
        How the answer node's value should change, e.g. `task.feedback(example, trace)`.
    functions : Functions
        Their `backward` is called once for each node that has inputs and a gradient. A message that
        is None is no gradient: it is never aggregated or passed on.

    Returns
    -------
    Gradients

    Raises
    ------
    GraphError
        If `functions.backward` does not return exactly one gradient, or None, for each input.
    """
    graph = trace.graph
    gradients: dict[str, Any] = {}

    async def messages_of(name: str, messages: Mapping[str, Mapping[str, Any]]) -> Mapping:
        node = graph[name]
        if name == graph.answer:
            own = gradient
        else:
            received = [messages[successor][name] for successor in graph.successors(name)]
            received = [message for message in received if message is not None]
            own = functions.aggregate(received) if received else None
        if own is not None:
            gradients[name] = own
        if own is None or not node.inputs:
            return dict.fromkeys(node.inputs)
        inputs, output = trace.inputs(name), trace.values[name]
        answer = await functions.backward(node, trace.question, inputs, output, own)
        if not isinstance(answer, Mapping) or set(answer) != set(node.inputs):
            found = list(answer) if isinstance(answer, Mapping) else answer
            raise GraphError(
                f"backward of node {name!r} returned gradients for {found!r}; "
                f"its inputs are {sorted(node.inputs)}"
            )
        return answer

    order = graph.order[::-1]
    successors = {name: graph.successors(name) for name in order}
    messages = await _in_order(successors, lambda name: graph[name].inputs, messages_of)
    return Gradients(
        trace,
        {name: gradients[name] for name in graph.order if name in gradients},
        [
            Message(source, target, messages[source][target])
            for source in order
            for target in graph[source].inputs
        ],
    )


async def together(calls: Iterable[Coroutine]) -> list:
    """Await several coroutines concurrently and return their results in order.

    The first error cancels the others and is raised itself, not in an exception group.
    """
    async with _TaskGroup() as group:
        tasks = [group.create_task(call) for call in calls]
    return [task.result() for task in tasks]


async def _in_order(before: Mapping[str, Sequence[str]], after: Callable, work: Callable) -> dict:
    """{name: await work(name, results)}; each starts when all the names `before` it have results.

    `after` returns the names that wait for a name: the inverse of `before`.
    """
    results: dict[str, Any] = {}
    waiting = {name: len(names) for name, names in before.items()}

    async def run(name: str) -> None:
        results[name] = await work(name, results)
        for each in after(name):
            waiting[each] -= 1
            if not waiting[each]:
                group.create_task(run(each))

    async with _TaskGroup() as group:
        for name, names in before.items():
            if not names:
                group.create_task(run(name))
    return results


class _TaskGroup(asyncio.TaskGroup):
    """A TaskGroup that raises its first error itself."""

    async def __aexit__(self, *error: Any) -> None:
        try:
            return await super().__aexit__(*error)
        except BaseExceptionGroup as errors:
            first = errors.exceptions[0]
        raise first  # outside the handler: IPython hides an error that has a group in its context
