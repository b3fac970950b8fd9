"""What a graph costs: the formulas, held against what is asked, against a clock, and against the plan of a run."""

import asyncio
import selectors

import pytest
from hypothesis import given, settings
from test_plan import calls, job
from test_propagate import graphs

from semback import Graph, Node, ParameterError, backward, forward, growth
from semback.studies.growth import expected, measure, shape


@pytest.mark.parametrize("neighbourhood", [True, False])
@settings(max_examples=15)
@given(graphs())
def test_calls_and_rounds_are_those_of_the_formulas_on_any_graph(neighbourhood, graph):
    found, theory = (
        asyncio.run(measure(graph, neighbourhood)),
        {row["phase"]: row for row in expected(graph, neighbourhood)},
    )
    for row in found:
        assert (row["calls"], row["rounds"]) == (
            theory[row["phase"]]["calls"],
            theory[row["phase"]]["rounds"],
        )
    asked = {row["phase"] for row in found}
    assert {phase for phase, row in theory.items() if row["calls"]} == asked


@pytest.mark.parametrize("neighbourhood", [True, False])
@pytest.mark.parametrize(
    "graph",
    [shape("chain", 5), shape("tree", 9), shape("layers", 8), shape("skips", 6), shape("wide", 5)],
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


@pytest.mark.parametrize(
    "experiment, variant", [("gsm8k", "full"), ("liar", "full"), ("liar", "no_neighbourhood")]
)
def test_the_formulas_are_those_of_the_plan(experiment, variant):
    this = job(experiment, variant=variant)
    task, steps, planned = this.task(), this.settings["steps"], calls(this)
    each = {
        row["phase"]: row["calls"] for row in expected(task.graph, variant != "no_neighbourhood")
    }
    assert planned["training"] == each["forward"] * len(task.train) * (1 + steps)
    assert planned["backward"] == each["backward"] * 2 * steps  # from two wrong answers each
    assert planned["update"] == each["update"] * steps


def test_the_shapes_have_the_edges_they_are_known_for():
    for nodes in (2, 3, 4, 11):
        edges = {
            name: sum(len(node.inputs) for node in shape(name, nodes).nodes)
            for name in growth.SHAPES
        }
        assert all(len(shape(name, nodes).nodes) == nodes for name in growth.SHAPES)
        assert (edges["chain"], edges["tree"], edges["wide"], edges["skips"]) == (
            nodes - 1,
        ) * 3 + (nodes * (nodes - 1) // 2,)
    assert [
        len(shape("layers", 11)[name].inputs) for name in ("step_2_1", "step_3_1", "answer")
    ] == [4, 3, 3]
    assert (
        expected(shape("tree", 15))[0]["rounds"] == 4
        and expected(shape("wide", 15))[0]["rounds"] == 2
    )


def test_a_node_that_is_not_trained_is_not_updated():
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
    with pytest.raises(ParameterError, match="chain, tree"):
        shape(name, nodes)
