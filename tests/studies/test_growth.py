"""What a graph costs: the formulas, held against counted requests, a clock, and a descent."""

import asyncio
import selectors

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from semback import LLM, Graph, Language, Node, ParameterError, backward, descend, forward, growth
from semback.studies.growth import measure, shape


@st.composite
def graphs(draw):
    """Up to nine nodes; each takes some of those before it, the answer all that nobody takes."""
    nodes, unused = [], set()
    for number in range(draw(st.integers(0, 8))):
        names = [node.name for node in nodes]
        inputs = draw(st.sets(st.sampled_from(names), max_size=4)) if names else set()
        nodes.append(Node(f"n{number}", f"Do {number}.", tuple(sorted(inputs))))
        unused = (unused | {f"n{number}"}) - inputs
    return Graph((*nodes, Node("answer", "Answer.", tuple(sorted(unused)))))


def expected(graph, neighbourhood=True):
    """The cost of an example and a step: calls, rounds, and values in all prompts and the longest.

    With V nodes and E edges, of which I nodes have inputs and T are trainable:

    - Calls: V forward; I backward, or E without the neighbourhood; T update.
    - Rounds: forward, the nodes on the longest path; backward, one less, since the first node of
      the path has no inputs; update, 1.
    - Values in prompts: E forward; E + I backward, or 2 E without the neighbourhood. The longest
      backward prompt has all inputs of the node with the most, or one without the neighbourhood.
    """
    inputs = [len(node.inputs) for node in graph.nodes]
    trained = [len(node.inputs) + 1 for node in graph.nodes if node.trainable]
    edges, widest, longest = sum(inputs), max(inputs), 1 + graph.depth[graph.answer]
    calls, judged = edges, min(widest, 1)
    if neighbourhood:
        calls, judged = sum(number > 0 for number in inputs), widest
    rows = [
        ("forward", len(inputs), longest, edges, widest),
        ("backward", calls, longest - 1, edges + calls, 1 + judged),
        ("update", len(trained), min(1, len(trained)), sum(trained), max(trained, default=0)),
    ]
    return [dict(zip(("phase", "calls", "rounds", "shown", "shown_most"), row)) for row in rows]


@pytest.mark.slow
@pytest.mark.parametrize("neighbourhood", [True, False])
@settings(max_examples=15)
@given(graphs())
def test_calls_and_rounds_are_those_of_the_formulas_on_any_graph(neighbourhood, graph):
    found = asyncio.run(measure(graph, neighbourhood))
    theory = {row["phase"]: row for row in expected(graph, neighbourhood)}
    for row in found:
        for cost in ("calls", "rounds"):
            assert row[cost] == theory[row["phase"]][cost]
    phases = {row["phase"] for row in found}
    assert {phase for phase, row in theory.items() if row["calls"]} == phases


@pytest.mark.parametrize("neighbourhood", [True, False])
@pytest.mark.parametrize(
    "graph",
    [shape("chain", 5), shape("layers", 8), shape("skips", 6), shape("wide", 5)],
)
def test_prompts_grow_by_as_many_values_as_the_formulas_say(graph, neighbourhood):
    short, long = (asyncio.run(measure(graph, neighbourhood, reply=reply)) for reply in (100, 150))
    for one, other, theory in zip(short, long, expected(graph, neighbourhood)):
        assert other["prompt_tokens"] - one["prompt_tokens"] == 50 * theory["shown"]
        assert other["completion_tokens"] - one["completion_tokens"] == (
            50 * len(graph.nodes) if one["phase"] == "forward" else 0
        )
    backwards = (short[1], long[1], expected(graph, neighbourhood)[1])
    assert backwards[1]["largest"] - backwards[0]["largest"] == 50 * backwards[2]["shown_most"]


class Clock(selectors.DefaultSelector):
    """An event loop on it never waits: its time leaps to the next timer."""

    def __init__(self):
        super().__init__()
        self.now = 0.0

    def select(self, timeout=None):
        self.now += timeout or 0
        return super().select(0)


@settings(max_examples=30)
@given(graphs())
def test_a_pass_takes_as_long_as_its_rounds(graph):
    clock = Clock()
    loop = asyncio.SelectorEventLoop(clock)
    loop.time = lambda: clock.now

    class Slow:
        async def forward(self, node, question, inputs):
            await asyncio.sleep(1)
            return ""

        async def backward(self, node, question, inputs, output, gradient):
            await asyncio.sleep(1)
            return dict.fromkeys(inputs, "")

        def aggregate(self, gradients):
            return ""

    async def passes():
        trace = await forward(graph, "", Slow())
        between = clock.now
        await backward(trace, "", Slow())
        return between, clock.now - between

    with asyncio.Runner(loop_factory=lambda: loop) as runner:
        taken = runner.run(passes())
    assert taken == pytest.approx([row["rounds"] for row in expected(graph)[:2]])


@pytest.mark.parametrize("neighbourhood", [True, False])
def test_a_descent_makes_the_calls_of_the_formulas_at_most(task, neighbourhood):
    llm, steps, errors = LLM.simulated(task), 2, 2
    lang = Language(llm, llm, neighbourhood=neighbourhood)
    run = asyncio.run(descend(task, lang, steps=steps, errors=errors))
    made = {phase: count.calls for (phase, _), count in run.usage.counts.items()}
    calls = {row["phase"]: row["calls"] for row in expected(task.graph, neighbourhood)}
    assert made["forward"] == calls["forward"] * len(task.train) * (1 + steps)
    assert made["backward"] == calls["backward"] * errors * steps
    assert made["update"] == calls["update"] * steps


@pytest.mark.parametrize("nodes", [2, 3, 4, 11])
def test_the_shapes_have_the_edges_they_are_known_for(nodes):
    graphs = {name: shape(name, nodes) for name in growth.SHAPES}
    assert {len(graph.nodes) for graph in graphs.values()} == {nodes}
    edges = {name: sum(len(node.inputs) for node in graph.nodes) for name, graph in graphs.items()}
    assert edges["chain"] == edges["wide"] == nodes - 1
    assert edges["skips"] == nodes * (nodes - 1) // 2


def test_the_shapes_have_the_depth_they_are_known_for():
    layers, names = shape("layers", 11), ("step_2_1", "step_3_1", "answer")
    assert [len(layers[name].inputs) for name in names] == [4, 3, 3]
    assert expected(shape("wide", 15))[0]["rounds"] == 2


def test_a_node_that_is_not_trainable_is_not_updated():
    graph = Graph(
        (
            Node("list", "Repeat the list.", trainable=False),
            Node("answer", "Answer.", ("list",), trainable=False),
        )
    )
    assert [row["calls"] for row in expected(graph)] == [2, 1, 0]
    assert [row["phase"] for row in asyncio.run(measure(graph))] == ["forward", "backward"]


@pytest.mark.parametrize(
    "name, nodes", [("ring", 4), ("chain", 1), (None, 3), ("chain", "x"), ("chain", 2.5)]
)
def test_a_shape_that_does_not_exist_is_a_parameter_error(name, nodes):
    with pytest.raises(ParameterError, match="shape=.* does not exist|whole number from 2"):
        shape(name, nodes)
