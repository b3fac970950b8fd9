"""What a graph costs: calls, rounds, tokens and the longest prompt, as nodes and edges grow.

`measure` counts the requests that are really sent. How much a whole run costs, in calls and
dollars, `semback plan` says; this is about how that grows.
"""

import json
import re
from collections.abc import Iterable
from itertools import product

import pandas

from ..errors import ParameterError, check, known
from ..graph import Graph
from ..language import Case, Language
from ..llm.simulated import Prompt, block, dice, scripted
from ..propagate import backward, forward

FORWARD, GRADIENT, INSTRUCTION = 200, 60, 100  # tokens of a value, a gradient, an instruction
SHAPES = ("chain", "layers", "skips", "wide")
SIZES = (3, 8, 20, 60)


def shape(name: str, nodes: int) -> Graph:
    """A graph of one of four shapes.

    Parameters
    ----------
    name : {"chain", "layers", "skips", "wide"}
        "chain": one node after the other. "layers": three layers, as equal as possible, each of
        which feeds all nodes of the next one. "skips": all nodes before a node feed it. "wide": all
        other nodes feed the answer.
    nodes : int
        From 2.

    Raises
    ------
    ParameterError
        Another name, or fewer nodes.
    """
    known("shape", name, SHAPES)
    if type(nodes) is not int or nodes < 2:
        raise ParameterError(f"nodes is {nodes!r}; it takes a whole number from 2")
    inner = nodes - 1
    layers = {"wide": 1, "layers": min(3, inner)}.get(name, inner)
    widths = [inner // layers + (layer < inner % layers) for layer in range(layers)]
    return Graph.layered([*widths, 1], skips=name == "skips")


async def measure(graph: Graph, neighbourhood: bool = True, reply: int = FORWARD) -> list[dict]:
    """Send one example forward, backward and into an update of every trainable node, and count.

    Parameters
    ----------
    graph : Graph
        Its instructions are sent as they are.
    neighbourhood : bool
        As of `Language`.
    reply : int
        Tokens of each node's value, of four characters each. A gradient has `GRADIENT` tokens, an
        instruction `INSTRUCTION`.

    Returns
    -------
    list of dict
        One for each phase: calls, prompt_tokens, completion_tokens, largest (tokens of the longest
        prompt) and rounds.

    Notes
    -----
    The model is simulated. It writes filler and the time on a clock: one more than the latest time
    in its prompt. So rounds are measured as the longest chain of replies of which each needed the
    one before. A pass takes rounds times the latency of a call, unless more calls are ready at once
    than `LLM.in_flight`.
    """
    check(Graph, "a Graph", graph=graph)
    lengths = {"forward": reply, "backward": GRADIENT, "update": INSTRUCTION}
    seen = []  # (phase, clock, tokens of the prompt) of each request

    def filler(messages: list[dict]) -> str:
        prompt, sent = Prompt.of(messages), json.dumps(messages)
        clock = 1 + max(map(int, re.findall(r"clock (\d+)\b", sent)), default=0)
        update = not prompt.targets and "<instruction>" in prompt.wording
        phase = "backward" if prompt.targets else "update" if update else "forward"
        seen.append((phase, clock, len(sent) // 4))
        text = f"clock {clock}, {dice(sent)} ".ljust(4 * lengths[phase], "x")
        if update:
            return block("instruction", text)
        return "\n".join(block("gradient", text, to) for to in prompt.targets) or text

    model = scripted("simulated-filler", filler)
    lang = Language(model, model, neighbourhood=neighbourhood)
    trace = await forward(graph, "How much is it?", lang)
    gradients = await backward(trace, "The answer should have been another.", lang)
    for name in graph.order:
        if graph[name].trainable:
            case = Case(trace.question, trace.inputs(name), trace.values[name], gradients[name])
            await lang.update(graph[name], [case])
    rows, before = [], 0
    for (phase, _), count in lang.usage.counts.items():
        clocks, sizes = zip(*(request[1:] for request in seen if request[0] == phase))
        row = {"phase": phase, "calls": count.calls, "prompt_tokens": count.prompt_tokens}
        row |= {"completion_tokens": count.completion_tokens, "largest": max(sizes)}
        rows.append(row | {"rounds": max(clocks) - before})
        before = max(clocks)
    return rows


async def grow(sizes: Iterable[int] = SIZES, shapes: Iterable[str] = SHAPES) -> pandas.DataFrame:
    """`measure` graphs of several shapes and sizes, with and without the neighbourhood.

    Parameters
    ----------
    sizes : iterable of int
        Numbers of nodes.
    shapes : iterable of str
        As of `shape`.

    Returns
    -------
    DataFrame
        One row for each shape, size, method and phase, with what `measure` counts.
    """
    rows = []
    for name, nodes, neighbourhood in product(shapes, sizes, (True, False)):
        graph = shape(name, nodes)
        edges = sum(len(node.inputs) for node in graph.nodes)
        method = "all inputs together" if neighbourhood else "each input alone"
        head = {"shape": name, "nodes": nodes, "edges": edges, "method": method}
        for found in await measure(graph, neighbourhood):
            rows.append(head | found | {"simulated": True})
    return pandas.DataFrame(rows)
