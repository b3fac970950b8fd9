"""Semantic backpropagation: the whole algorithm, for any graph and any kind of value.

`forward` computes every node's value from its inputs' values. `backward` goes the other way: the answer node's
gradient is given, and each node turns its own gradient into one for *each of its inputs, all together in one call*.
Because that call sees all the inputs of the node, it can tell which of them is at fault. Where several nodes use one
value, that value's gradient is the aggregate of what they all said.

What the values are is up to the three functions that are passed in as `functions`:

    async forward(node, question, inputs) -> value                                   inputs: {name: value}
    async backward(node, question, inputs, output, gradient) -> {name: gradient}     one for each of its inputs
    aggregate(gradients) -> gradient                                                 of one or more

With text, they are calls to language models (`language.Language`). With numbers, where `backward` is the
vector-Jacobian product and `aggregate` is the sum, this same file is reverse-mode automatic differentiation
(tests/test_propagate.py holds it against PyTorch).
"""

import asyncio
from collections.abc import Callable, Coroutine, Iterable, Mapping
from dataclasses import dataclass
from graphlib import TopologicalSorter
from typing import Any, NamedTuple

from .errors import GraphError
from .graph import Graph


@dataclass(frozen=True)
class Trace:
    """What a forward pass computed: the value of every node, by name, for one question."""

    graph: Graph
    question: Any
    values: Mapping[str, Any]

    @property
    def answer(self):
        """The value of the answer node."""
        return self.values[self.graph.answer]

    def inputs(self, name: str) -> dict[str, Any]:
        """The values that node `name` was given."""
        return {source: self.values[source] for source in self.graph[name].inputs}


class Message(NamedTuple):
    """One node's word to one of its inputs; `gradient` is None where the node had nothing it could say."""

    source: str
    target: str
    gradient: Any


class Gradients(Mapping):
    """What a backward pass computed: `gradients[name]` says how the value of node `name` should change.

    A node is missing from the mapping when nobody that uses its value could say anything about it (see `missing`).
    `messages` holds every single (from, to, gradient) that the gradients were aggregated from, in the order of the
    graph; `trace` is the forward pass it belongs to.
    """

    def __init__(self, trace: Trace, gradients: Mapping[str, Any], messages: Iterable[Message]):
        self.trace, self._gradients, self.messages = trace, dict(gradients), tuple(messages)

    def __getitem__(self, name):
        return self._gradients[name]

    def __iter__(self):
        return iter(self._gradients)

    def __len__(self):
        return len(self._gradients)

    @property
    def missing(self) -> tuple[str, ...]:
        """The nodes that no gradient reached."""
        return tuple(name for name in self.trace.graph.order if name not in self._gradients)


async def forward(graph: Graph, question, functions) -> Trace:
    """Compute every node's value. A node starts the moment the last of its inputs is there.

    Parameters
    ----------
    graph: the system.
    question: an Example, or the plain question that every node is shown.
    functions: has `forward`, see the top of this file.
    """
    question = getattr(question, "question", question)

    async def value(name, values):
        node = graph[name]
        return await functions.forward(
            node, question, {source: values[source] for source in node.inputs}
        )

    values = await _in_order({name: graph[name].inputs for name in graph.order}, value)
    return Trace(graph, question, values)


async def backward(trace: Trace, gradient, functions) -> Gradients:
    """Tell every node how its value should change, given how the answer should. A node starts when its last user is done.

    Parameters
    ----------
    trace: what `forward` returned.
    gradient: how the answer node's value should change, e.g. `task.feedback(example)`.
    functions: has `backward` and `aggregate`, see the top of this file. `backward` may give None for an input it can
        say nothing about: that is no gradient, and is never aggregated or passed on.

    Errors
    ------
    GraphError: a backward function whose answer is not exactly one gradient, or None, for each input.
    """
    graph = trace.graph

    async def gradient_and_messages(name, done):
        node = graph[name]
        if name == graph.answer:
            own = gradient
        else:
            said = [done[user][1][name] for user in graph.successors(name)]
            heard = [each for each in said if each is not None]
            own = functions.aggregate(heard) if heard else None
        if own is None or not node.inputs:
            return own, dict.fromkeys(node.inputs)
        messages = await functions.backward(
            node, trace.question, trace.inputs(name), trace.values[name], own
        )
        if not isinstance(messages, Mapping) or set(messages) != set(node.inputs):
            said = list(messages) if isinstance(messages, Mapping) else messages
            raise GraphError(
                f"backward of node {name!r} answered for {said!r}; its inputs are {sorted(node.inputs)}"
            )
        return own, messages

    done = await _in_order(
        {name: graph.successors(name) for name in graph.order[::-1]}, gradient_and_messages
    )
    gradients = {name: done[name][0] for name in graph.order if done[name][0] is not None}
    messages = (
        Message(name, target, done[name][1][target])
        for name in graph.order[::-1]
        for target in graph[name].inputs
    )
    return Gradients(trace, gradients, messages)


async def _in_order(before: Mapping[Any, Iterable], work: Callable) -> dict[Any, Any]:
    """Run `work(name, results)` for every name, as a task that starts the moment the last of the names `before` it has its result.

    The first error ends them all and is raised as it is, and not inside the handler of the group of all of them: IPython
    shows an error with a group in its context as if nothing had happened.
    """
    results, waiting, finished = {}, TopologicalSorter(before), asyncio.Queue()
    waiting.prepare()

    async def run(name):
        results[name] = await work(name, results)
        finished.put_nowait(name)

    try:
        async with asyncio.TaskGroup() as group:
            while waiting.is_active():
                for place, name in enumerate(waiting.get_ready()):
                    group.create_task(run(name))
                    if place:  # of many, the first requests are on their way while others are made
                        await asyncio.sleep(0)
                waiting.done(await finished.get())
    except BaseExceptionGroup as errors:
        first = errors.exceptions[0]
    else:
        return {name: results[name] for name in before}
    raise first


async def together(calls: Iterable[Coroutine]) -> list:
    """Await several calls at one time. The first error ends them all and is raised as it is."""
    calls = list(calls)
    if len(calls) == 1:  # which needs no task of its own
        return [await calls[0]]
    try:
        return list(
            (
                await _in_order(
                    dict.fromkeys(range(len(calls)), ()), lambda number, _: calls[number]
                )
            ).values()
        )
    finally:
        for call in calls:
            call.close()  # which is for those that an error left unbegun
