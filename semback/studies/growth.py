"""What a graph costs: calls, tokens, rounds and the size of prompts, as nodes and edges grow; the formulas, and their measurement.

For one example on a graph of V nodes and E edges, of which I nodes have inputs and T are trained:

    calls    forward V; backward I, without the neighbourhood E; update T for each step (with a critique 2 T).
    rounds   the longest chain of calls that wait for one another: forward the nodes on the longest path, backward one less (its
             first node has no inputs to judge), update 1. A pass takes rounds times the time of a call, as long as no more calls are
             ready at once than `LLM.in_flight` allows.
    prompts  values of nodes stand in them: forward E times, backward E + I times, without the neighbourhood 2 E times. The longest
             backward prompt holds all inputs of the node that has the most; without the neighbourhood it holds one. Either way it
             holds what each user of the node's value said, so it grows with the users too.

`plan` says what a whole run asks, in calls and dollars; this is about how that grows.
"""

import json
import re
from collections.abc import Iterable

from ..batch.plan import FORWARD, GRADIENT, INSTRUCTION
from ..errors import ParameterError, check
from ..graph import Graph, Node
from ..language import Case, Language
from ..llm.simulated import dice, prompt_parts, scripted
from ..propagate import backward, forward, together
from ..usage import SIMULATED

SHAPES = ("chain", "tree", "layers", "skips", "wide")
SIZES = (3, 8, 20, 60)


def shape(name: str, nodes: int) -> Graph:
    """A graph of so many nodes, from 2.

    "chain": one after the other. "tree": a node has two inputs. "layers": three layers, as equal as can be, each of which feeds the
    whole next one, then the answer. "skips": a node is fed by all nodes before it. "wide": all others feed the answer.
    """
    if name not in SHAPES or type(nodes) is not int or nodes < 2:
        raise ParameterError(
            f"a shape is one of {', '.join(SHAPES)}, with 2 nodes or more; not {name!r} with {nodes!r}"
        )
    if name == "tree":
        called = {1: "answer"} | {i: f"step_{i}" for i in range(2, nodes + 1)}
        below = {i: tuple(called[j] for j in (2 * i, 2 * i + 1) if j <= nodes) for i in called}
        return Graph(
            tuple(
                Node(called[i], "Work out a step, with what others worked out.", below[i])
                for i in called
            ),
            "answer",
        )
    inner, parts = nodes - 1, min(3, nodes - 1)
    widths = {
        "chain": [1] * inner,
        "skips": [1] * inner,
        "wide": [inner],
        "layers": [inner // parts + (layer < inner % parts) for layer in range(parts)],
    }[name]
    return Graph.layered([*widths, 1], skips=name == "skips")


def expected(graph: Graph, neighbourhood: bool = True) -> list[dict]:
    """The formulas above for one example and one step: a row for each phase, with calls, rounds, and shown: how many values of nodes
    stand in the prompts of the phase together, and at most in one of them."""
    check(Graph, "a Graph", graph=graph)
    judging, edges = (
        [node for node in graph.nodes if node.inputs],
        sum(len(node.inputs) for node in graph.nodes),
    )
    widest = max(len(node.inputs) for node in graph.nodes)
    path, trained = 1 + graph.depth[graph.answer], [node for node in graph.nodes if node.trainable]
    calls = len(judging) if neighbourhood else edges
    shown = (
        sum(len(node.inputs) + 1 for node in trained),
        max((len(node.inputs) + 1 for node in trained), default=0),
    )
    return [
        {
            "phase": "forward",
            "calls": len(graph.nodes),
            "rounds": path,
            "shown": edges,
            "shown_most": widest,
        },
        {
            "phase": "backward",
            "calls": calls,
            "rounds": path - 1,
            "shown": edges + calls,
            "shown_most": 1 + (widest if neighbourhood else min(widest, 1)),
        },
        {
            "phase": "update",
            "calls": len(trained),
            "rounds": min(1, len(trained)),
            "shown": shown[0],
            "shown_most": shown[1],
        },
    ]


async def measure(graph: Graph, neighbourhood: bool = True, reply: int = FORWARD) -> list[dict]:
    """Send one example forward, backward and into an update of every trained node, and count.

    Parameters
    ----------
    graph: its instructions are sent as they are.
    neighbourhood: as in Language.
    reply: tokens of each node's value, four characters each; a gradient has `plan.GRADIENT`, an instruction `plan.INSTRUCTION`.

    Returns a row for each phase: calls, prompt_tokens, completion_tokens, largest (tokens of the longest prompt), and rounds. The model
    is simulated and writes filler, and the time on a clock: one more than the latest time in its prompt. So rounds are measured as the
    longest chain of replies that each needed the one before.
    """
    check(Graph, "a Graph", graph=graph)
    check(int, "a whole number", reply=reply)
    seen = []

    async def says(messages, attempt):
        _, _, wanted = prompt_parts(messages)
        sent = json.dumps(messages)
        now = 1 + max(map(int, re.findall(r"clock (\d+)\b", sent)), default=0)
        tags = re.findall(r'^<(gradient to=".*"|instruction)>$', wanted, re.MULTILINE)
        phase = "forward" if not tags else "update" if tags == ["instruction"] else "backward"
        seen.append((phase, now, len(sent) // 4))
        size = {"forward": reply, "backward": GRADIENT, "update": INSTRUCTION}[phase]
        texts = [f"clock {now}, {dice(sent, tag)} ".ljust(4 * size, "x") for tag in tags or [""]]
        return (
            "\n".join(f"<{tag}>\n{text}\n</{tag.split()[0]}>" for tag, text in zip(tags, texts))
            if tags
            else texts[0]
        )

    model = scripted(f"{SIMULATED}-filler", says)
    lang = Language(model, model, neighbourhood=neighbourhood)
    trace = await forward(graph, "How much is it?", lang)
    gradients = await backward(trace, "The answer should have been another.", lang)
    await together(
        lang.update(
            node,
            [
                Case(
                    trace.question,
                    trace.inputs(node.name),
                    trace.values[node.name],
                    gradients[node.name],
                )
            ],
        )
        for node in graph.nodes
        if node.trainable
    )
    rows, before = [], 0
    for (phase, _), count in lang.usage.counts.items():
        mine = [(now, size) for each, now, size in seen if each == phase]
        last = max(now for now, _ in mine)
        rows.append(
            {
                "phase": phase,
                "calls": count.calls,
                "prompt_tokens": count.prompt_tokens,
                "completion_tokens": count.completion_tokens,
                "largest": max(size for _, size in mine),
                "rounds": last - before,
            }
        )
        before = last
    return rows


async def grow(sizes: Iterable[int] = SIZES, shapes: Iterable[str] = SHAPES):
    """`measure` graphs of several shapes and sizes, with and without the neighbourhood.

    sizes: numbers of nodes. Returns a DataFrame, a row for each shape, size, method and phase: what was measured, and calls_expected and
    rounds_expected from the formulas.
    """
    import pandas

    check(Iterable, "several, as in (3, 8) and SHAPES", sizes=sizes, shapes=shapes)
    rows = []
    for name in shapes:
        for nodes in sizes:
            graph = shape(name, nodes)
            for neighbourhood in (True, False):
                method = "all inputs together" if neighbourhood else "each input alone"
                for found, theory in zip(
                    await measure(graph, neighbourhood), expected(graph, neighbourhood)
                ):
                    rows.append(
                        {
                            "shape": name,
                            "nodes": nodes,
                            "edges": sum(len(node.inputs) for node in graph.nodes),
                            "method": method,
                            **found,
                            "calls_expected": theory["calls"],
                            "rounds_expected": theory["rounds"],
                            "simulated": True,
                        }
                    )
    return pandas.DataFrame(rows)
