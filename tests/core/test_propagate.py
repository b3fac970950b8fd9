"""Propagation: with numbers it is reverse-mode automatic differentiation, whatever the graph."""

import asyncio
import gc
from collections import Counter
from math import prod

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from semback import Example, Graph, GraphError, Node, Trace, backward, forward
from semback.propagate import together


def trace_of(graph, **values):
    return Trace(graph, "", {name: f"value of {name}" for name in graph.order} | values)


class Numeric:
    """Vectors as values: tanh(sum W_i x_i + bias), or bias times the product; `calls` counts."""

    def __init__(self, graph, size, seed, maths=np):
        random = np.random.default_rng(seed)
        self.maths, self.calls, self.neighbourhood = maths, Counter(), True
        self.product = {name: bool(random.random() < 0.4) for name in graph.order}
        self.bias = {
            name: random.uniform(0.5, 1.5, size) * random.choice([-1, 1], size)
            for name in graph.order
        }
        self.weight = {
            (name, source): random.uniform(-1, 1, (size, size))
            for name in graph.order
            for source in graph[name].inputs
        }

    def value(self, name, inputs):
        if self.product[name]:
            return prod(inputs.values(), start=self.bias[name])
        return self.maths.tanh(
            sum((self.weight[name, source] @ x for source, x in inputs.items()), self.bias[name])
        )

    async def forward(self, node, question, inputs):
        self.calls["forward", node.name] += 1
        return self.value(node.name, inputs)

    async def backward(self, node, question, inputs, output, gradient):
        self.calls["backward", node.name] += 1
        if not self.product[node.name]:
            return {
                source: self.weight[node.name, source].T @ (gradient * (1 - output**2))
                for source in inputs
            }
        seen = {
            source: inputs if self.neighbourhood else {source: inputs[source]} for source in inputs
        }
        others = {
            source: np.prod([x for name, x in seen[source].items() if name != source], axis=0)
            for source in inputs
        }
        return {source: gradient * self.bias[node.name] * others[source] for source in inputs}

    def aggregate(self, gradients):
        return sum(gradients)


@st.composite
def graphs(draw):
    """Graphs up to 8 deep, with up to 6 inputs per node, with skip connections and shared nodes."""
    layers, inputs = [["answer"]], {"answer": []}
    for depth in range(draw(st.integers(0, 7))):
        layer = []
        for place in range(draw(st.integers(1, 4))):
            name, free = f"n{depth}_{place}", [user for user in layers[-1] if len(inputs[user]) < 6]
            if not free:
                break
            later = [user for users in layers for user in users if len(inputs[user]) < 6]
            users = {
                draw(st.sampled_from(free)),
                *draw(st.lists(st.sampled_from(later), max_size=6)),
            }
            inputs |= {name: []} | {user: [*inputs[user], name] for user in users}
            layer.append(name)
        layers += [layer]
    return Graph(tuple(Node(name, "", tuple(sources)) for name, sources in inputs.items()))


def passes(start, functions, gradient):
    """Backward from a trace, or from what forward makes of a graph."""

    async def both():
        return await backward(
            start if isinstance(start, Trace) else await forward(start, "", functions),
            gradient,
            functions,
        )

    return asyncio.run(both())


def complex_step(graph, functions, loss):
    """d(loss . answer) / d(each component of each value): Im f(x + ih) / h, exact."""
    size, gradients = len(loss), {name: np.zeros(len(loss)) for name in graph.order}
    for name in graph.order:
        for component in range(size):
            values = {}
            for each in graph.order:
                values[each] = functions.value(
                    each, {source: values[source] for source in graph[each].inputs}
                ).astype(complex)
                if each == name:
                    values[each][component] += 1e-30j
            gradients[name][component] = (loss @ values[graph.answer]).imag / 1e-30
    return gradients


def pytorch(graph, functions, loss):
    torch = pytest.importorskip(
        "torch", reason="PyTorch is not installed; the complex step says the same"
    )
    theirs, values = Numeric(graph, len(loss), 0, torch), {}
    theirs.product = functions.product
    theirs.bias = {
        name: torch.tensor(bias, requires_grad=True) for name, bias in functions.bias.items()
    }
    theirs.weight = {edge: torch.tensor(weight) for edge, weight in functions.weight.items()}
    for name in graph.order:
        values[name] = theirs.value(name, {source: values[source] for source in graph[name].inputs})
        values[name].retain_grad()
    (torch.tensor(loss) @ values[graph.answer]).backward()
    return {name: value.grad.numpy() for name, value in values.items()}


@pytest.mark.parametrize("derivatives", [complex_step, pytorch])
@given(graph=graphs(), size=st.integers(1, 3), seed=st.integers(0, 2**32 - 1))
@example(graph=Graph.layered([6, 6, 6, 6, 6, 6, 6, 1]), size=2, seed=0)
def test_numeric_backpropagation_equals_the_derivatives_of_others(derivatives, graph, size, seed):
    functions, loss = Numeric(graph, size, seed), np.linspace(1, 2, size)
    gradients, truth = passes(graph, functions, loss), derivatives(graph, functions, loss)
    assert set(gradients) == set(graph.order)
    for name in graph.order:
        np.testing.assert_allclose(
            gradients[name], truth[name], rtol=1e-9, atol=1e-13, err_msg=name
        )


@given(graphs())
def test_each_function_is_called_exactly_once_for_each_node(graph):
    functions = Numeric(graph, 1, 0)
    passes(graph, functions, np.ones(1))
    assert functions.calls == {("forward", name): 1 for name in graph.order} | {
        ("backward", n.name): 1 for n in graph.nodes if n.inputs
    }


def test_for_a_product_the_neighbourhood_gives_the_derivative_and_one_input_alone_cannot():
    graph = Graph((Node("a", ""), Node("b", ""), Node("c", "", ("a", "b"))))

    def dc_da(neighbourhood, b):
        functions = Numeric(graph, 1, 0)
        functions.product["c"], functions.bias["c"], functions.neighbourhood = (
            True,
            np.ones(1),
            neighbourhood,
        )
        return passes(trace_of(graph, a=np.array([3.0]), b=np.array([b])), functions, np.ones(1))[
            "a"
        ]

    assert (dc_da(True, 5.0), dc_da(True, 7.0)) == (5.0, 7.0)
    assert dc_da(False, 5.0) == dc_da(False, 7.0)  # blind to b


SPLIT = Graph(
    (
        Node("x", ""),
        Node("y", ""),
        Node("a", "", ("x",)),
        Node("b", "", ("y",)),
        Node("end", "", ("a", "b")),
    )
)


class Gated:
    """Functions that log when they start and end on command; those in `fails` raise instead."""

    def __init__(self, fails=()):
        self.log, self.may_end, self.fails = [], {}, fails

    async def work(self, name):
        self.log.append(name)
        await self.may_end.setdefault(name, asyncio.Event()).wait()
        if name in self.fails:
            raise ZeroDivisionError(name)
        return name

    async def forward(self, node, question, inputs):
        return await self.work(node.name)

    async def backward(self, node, question, inputs, output, gradient):
        await self.work(node.name)
        return dict.fromkeys(inputs, f"by {node.name}")

    def aggregate(self, gradients):
        return "; ".join(gradients)

    async def end(self, *names):
        """Let nodes end; returns what started before the event loop had nothing left to do."""
        self.log.clear()
        for name in names:
            self.may_end[name].set()
        for _ in range(50):
            await asyncio.sleep(0)
        return self.log


def told(steps, work):
    """Play (nodes that end, nodes that start then) against a pass; returns its result."""

    async def story():
        gated = Gated()
        task = asyncio.create_task(work(gated))
        for ends, starts in steps:
            assert sorted(await gated.end(*ends)) == sorted(starts), f"after {ends} ended"
        return await task

    return asyncio.run(story())


def test_forward_starts_a_node_the_moment_its_last_input_is_there():
    graph = Graph((Node("a", ""), Node("b", ""), Node("c", "", ("a",)), Node("d", "", ("b", "c"))))
    steps = [
        ("", "ab"),
        ("a", "c"),
        ("c", ""),
        ("b", "d"),
        ("d", ""),
    ]  # c need not wait for b, of the same layer as a
    assert told(steps, lambda gated: forward(graph, "", gated)).values == {
        name: name for name in "abcd"
    }


def test_backward_starts_a_node_the_moment_its_last_user_is_done():
    graph = Graph(
        (
            Node("x", ""),
            Node("a", "", ("x",)),
            Node("b", "", ("x",)),
            Node("c", "", ("a",)),
            Node("d", "", ("a",)),
            Node("e", "", ("b",)),
            Node("f", "", ("c", "d", "e")),
        )
    )
    steps = [
        ("", "f"),
        ("f", "cde"),
        ("e", "b"),
        ("c", ""),
        ("d", "a"),
        ("ab", ""),
    ]  # a waits for c and d, b for e alone
    gradients = told(steps, lambda gated: backward(trace_of(graph), "go", gated))
    assert (gradients["a"], gradients["x"]) == ("by c; by d", "by a; by b")


@pytest.mark.parametrize(
    "before, work",
    [
        ("xy", lambda gated: forward(SPLIT, "", gated)),
        (["end"], lambda gated: backward(trace_of(SPLIT), "go", gated)),
    ],
    ids=["forward", "backward"],
)
def test_the_first_error_is_raised_as_itself_and_leaves_no_task_running(before, work):
    async def story():
        gated = Gated(fails="a")
        task = asyncio.create_task(work(gated))
        await gated.end()
        await gated.end(*before)
        await gated.end("a")  # b, still at work, is cancelled
        assert type(task.exception()) is ZeroDivisionError and asyncio.all_tasks() == {
            asyncio.current_task()
        }
        assert (
            task.exception().__context__ is None
        )  # an exception group there would make notebooks show nothing

    asyncio.run(story())


class Says:
    """Backward returns the {node: {input: gradient}} given, and records its arguments."""

    def __init__(self, **says):
        self.says, self.told = says, {}

    async def forward(self, node, question, inputs):
        self.told[node.name] = list(inputs)
        return question

    async def backward(self, node, question, inputs, output, gradient):
        self.told[node.name] = (question, inputs, output, gradient)
        return self.says[node.name]

    def aggregate(self, gradients):
        assert gradients and None not in gradients
        return " + ".join(gradients)


SHARED = Graph(
    (Node("x", ""), Node("y", "", ("x",)), Node("z", "", ("x",)), Node("end", "", ("z", "y")))
)


def test_none_is_no_gradient_it_is_neither_aggregated_nor_passed_on():
    says = Says(end={"y": None, "z": "better z"}, z={"x": "better x"})
    gradients = passes(trace_of(SHARED), says, "go")
    assert dict(gradients) == {
        "end": "go",
        "z": "better z",
        "x": "better x",
    }
    assert (
        says.told["z"] == ("", {"x": "value of x"}, "value of z", "better z")
        and "y" not in says.told
    )
    assert gradients.messages == (
        ("end", "z", "better z"),
        ("end", "y", None),
        ("z", "x", "better x"),
        ("y", "x", None),
    )

    gradients = passes(trace_of(SHARED), Says(end={"y": None, "z": None}), "go")
    assert dict(gradients) == {"end": "go"}
    assert not passes(trace_of(SHARED), Says(), None)


@pytest.mark.parametrize(
    "said", [{}, {"y": ""}, {"y": "", "z": "", "x": ""}, {"y": "", "q": ""}, None, ["y", "z"]]
)
def test_a_backward_that_answers_for_the_wrong_inputs_is_a_graph_error_that_names_the_node(said):
    with pytest.raises(GraphError, match="'end'.*'y', 'z'"):
        passes(trace_of(SHARED), Says(end=said), "go")


@pytest.mark.parametrize("question", ["What?", Example("t/1", "What?", "That.")])
def test_a_question_is_an_example_or_the_plain_question(question):
    trace = asyncio.run(forward(SHARED, question, says := Says()))
    assert trace.question == trace.answer == "What?" and says.told["end"] == list(
        trace.inputs("end")
    ) == ["z", "y"]


@pytest.mark.parametrize("ends", ["cancelled", "failed"])
def test_a_graph_deeper_than_the_stack_can_be_cancelled_and_tells_its_error(ends, caplog):
    last = 3000
    graph = Graph([Node(f"n{i}", "", (f"n{i - 1}",) if i else ()) for i in range(last)])

    class Fails:
        async def forward(self, node, question, inputs):
            await asyncio.sleep(60 if ends == "cancelled" else 0)
            raise ValueError("boom")

    async def run():
        task = asyncio.create_task(forward(graph, "", Fails()))
        await asyncio.sleep(0.1)
        task.cancel()
        await task

    with pytest.raises(asyncio.CancelledError if ends == "cancelled" else ValueError):
        asyncio.run(run())
    assert not caplog.records


def test_of_several_calls_those_that_an_error_leaves_unbegun_are_no_warning():
    begun = []

    async def call(number):
        begun.append(number)
        raise ValueError("boom")

    with pytest.raises(ValueError, match="boom"):
        asyncio.run(together(call(number) for number in range(9)))
    gc.collect()  # when Python would warn of calls never awaited
    assert begun
