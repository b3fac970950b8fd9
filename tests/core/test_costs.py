"""What a graph costs: the formulas, held against counted requests, a clock, and a descent."""

import asyncio
import selectors

import pytest
from conftest import Script, gradients
from hypothesis import given, settings
from hypothesis import strategies as st

from semback import LLM, Graph, Language, Node, backward, descend, forward
from semback.language import Case


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
        ("backward", calls, longest - 1, edges + calls, 1 + judged if calls else 0),
        ("update", len(trained), min(1, len(trained)), sum(trained), max(trained, default=0)),
    ]
    return [dict(zip(("phase", "calls", "rounds", "shown", "shown_most"), row)) for row in rows]


def sent(graph, neighbourhood, value="A value."):
    """{phase: the prompts that are sent} of one example and an update of every trainable node."""
    prompts = {"forward": [], "backward": [], "update": []}

    def says(body):
        prompt = "".join(message["content"] for message in body["messages"])
        if reply := gradients(prompt, "It should have been another."):
            prompts["backward"].append(prompt)
        elif "<instruction>" in prompt:
            prompts["update"].append(prompt)
            return "<instruction>\nDo more.\n</instruction>"
        else:
            prompts["forward"].append(prompt)
        return reply or value

    async def step():
        model = Script(says).llm()
        lang = Language(model, model, neighbourhood=neighbourhood)
        trace = await forward(graph, "How much is it?", lang)
        found = await backward(trace, "The answer should have been another.", lang)
        for node in (node for node in graph if node.trainable):
            case = Case("", trace.inputs(node.name), trace.values[node.name], found[node.name])
            await lang.update(node, [case])

    asyncio.run(step())
    return prompts


@pytest.mark.parametrize("neighbourhood", [True, False])
@settings(max_examples=10, deadline=None)
@given(graphs())
def test_calls_and_prompts_are_those_of_the_formulas_on_any_graph(neighbourhood, graph):
    word = "extraordinarily"
    prompts = sent(graph, neighbourhood, word)
    for row in expected(graph, neighbourhood):
        shown = [prompt.count(word) for prompt in prompts[row["phase"]]]
        assert len(shown) == row["calls"] and sum(shown) == row["shown"]
        assert max(shown, default=0) == row["shown_most"]


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


def test_a_node_that_is_not_trainable_is_not_updated():
    graph = Graph(
        (
            Node("list", "Repeat the list.", trainable=False),
            Node("answer", "Answer.", ("list",), trainable=False),
        )
    )
    assert [row["calls"] for row in expected(graph)] == [2, 1, 0]
    assert not sent(graph, True)["update"]
