"""Graphs: what they promise when they are right, and what they say when they are wrong."""

import dataclasses
import json
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from semback import Graph, GraphError, Node


def diamond(**settings):
    """Given in an order that is not topological: d is the answer, fed by b and c, which share a."""
    return Graph(
        (
            Node("d", "Decide.", ("c", "b")),
            Node("c", "Say.", ("a",)),
            Node("a", "Start.", trainable=False),
            Node("b", "Talk.", ("a",), form="One word."),
        ),
        **settings,
    )


def test_order_puts_every_node_after_its_inputs_and_keeps_the_given_order_otherwise():
    assert diamond().order == ("a", "c", "b", "d")


def test_successors_are_all_users_of_a_value():
    graph = diamond()
    assert {name: graph.successors(name) for name in graph.order} == {
        "a": ("c", "b"),
        "b": ("d",),
        "c": ("d",),
        "d": (),
    }


def test_the_only_node_that_is_nobodys_input_answers():
    assert diamond().answer == "d" and diamond() == diamond(answer="d")


def test_a_graph_of_one_node_is_a_graph():
    graph = Graph([Node("only", "Answer.")])
    assert (graph.order, graph.answer, graph.successors("only")) == (("only",), "only", ())


def test_an_answer_node_may_be_named_where_it_feeds_nobody_but_not_where_others_lead_past_it():
    with pytest.raises(GraphError, match="'d'.*'b'"):
        diamond(answer="b")


def test_with_instructions_gives_a_new_graph_and_changes_nothing_else():
    graph = diamond()
    other = graph.with_instructions({"b": "Whisper."})
    assert (other["b"].instruction, graph["b"].instruction) == ("Whisper.", "Talk.")
    assert other.with_instructions({"b": "Talk."}) == graph and graph.with_instructions({}) == graph
    assert other["b"].form == "One word." and not other["a"].trainable


def test_with_instructions_names_the_nodes_it_does_not_know():
    for wrong in (None, ["a"], "a", 5):
        with pytest.raises(GraphError, match="takes {name: text}, not"):
            diamond().with_instructions(wrong)
    with pytest.raises(GraphError, match="'x', 'y'"):
        diamond().with_instructions({"y": "", "x": "", "a": ""})


def test_a_graph_is_frozen_and_can_be_a_key():
    graph = diamond()
    with pytest.raises(dataclasses.FrozenInstanceError):
        graph.answer = "a"
    with pytest.raises(dataclasses.FrozenInstanceError):
        graph["a"].instruction = "Other."
    assert {graph: 1}[diamond()] == 1 and len(
        {graph, graph.with_instructions({"a": "Other."})}
    ) == 2
    assert Node("n", "", ["a"]).inputs == ("a",)


def test_a_graph_goes_through_json_and_comes_back_the_same():
    graph = diamond()
    assert Graph.from_dict(json.loads(json.dumps(graph.to_dict()))) == graph


@given(st.text(), st.text(), st.booleans())
def test_any_instruction_and_form_go_through_json_to_the_letter(instruction, form, trainable):
    graph = Graph((Node("Job title", instruction, (), trainable, form),))
    assert Graph.from_dict(json.loads(json.dumps(graph.to_dict()))) == graph


@pytest.mark.parametrize(
    "data",
    [
        {},
        [],
        None,
        {"nodes": [{"name": "a"}]},
        {"nodes": 3},
        {"nodes": ["a"]},
        {"nodes": []},
        {"nodes": [{"name": "a", "instruction": "", "colour": 1}]},
    ],
)
def test_data_that_describes_no_graph_is_a_graph_error(data):
    with pytest.raises(GraphError):
        Graph.from_dict(data)


def test_layered_feeds_each_layer_with_the_whole_layer_before():
    graph = Graph.layered([2, 1])
    assert [(node.name, node.inputs) for node in graph.nodes] == [
        ("step_1_1", ()),
        ("step_1_2", ()),
        ("answer", ("step_1_1", "step_1_2")),
    ]
    deep = Graph.layered([2, 3, 1], instruction="Step.", answer="End.")
    assert deep["step_2_3"].inputs == ("step_1_1", "step_1_2") and deep["answer"].inputs == (
        "step_2_1",
        "step_2_2",
        "step_2_3",
    )
    assert {node.instruction for node in deep.nodes if node.name != "answer"} == {"Step."} and deep[
        "answer"
    ].instruction == "End."


def test_layered_with_skips_feeds_each_layer_with_all_layers_before():
    graph = Graph.layered([1, 2, 1], skips=True)
    assert graph["step_2_1"].inputs == ("step_1_1",) and graph["answer"].inputs == (
        "step_1_1",
        "step_2_1",
        "step_2_2",
    )


def test_layered_of_one_layer_is_the_answer_alone():
    assert [node.name for node in Graph.layered([1]).nodes] == ["answer"]


@pytest.mark.parametrize("name", ["zz", None, 1, ["a"]])
def test_a_name_that_no_node_has_is_a_graph_error(name):
    for look in (diamond().__getitem__, diamond().successors):
        with pytest.raises(GraphError, match="no node is called .*; there are 'a', "):
            look(name)


@pytest.mark.parametrize(
    "widths", [None, 5, [True], [], [2], [0, 1], [1, 2], [-1, 1], [1.5, 1], ["2", 1]]
)
def test_layered_refuses_widths_that_make_no_graph(widths):
    with pytest.raises(GraphError, match="widths"):
        Graph.layered(widths)


@pytest.mark.parametrize(
    "nodes, answer, named",
    [
        pytest.param(
            [
                Node("a", "", ("c",)),
                Node("b", "", ("a",)),
                Node("c", "", ("b",)),
                Node("d", "", ("c",)),
            ],
            None,
            ["cycle", "a", "b", "c"],
            id="cycle",
        ),
        pytest.param([Node("a", "", ("a",))], None, ["cycle", "a -> a"], id="own input"),
        pytest.param(
            [Node("a", "", ("x", "y")), Node("b", "", ("a",))],
            None,
            ["'a'", "'x', 'y'"],
            id="unknown inputs",
        ),
        pytest.param(
            [Node("a", ""), Node("b", "", ("a",)), Node("a", "")],
            None,
            ["same name", "a"],
            id="duplicate name",
        ),
        pytest.param(
            [Node("a", ""), Node("lost", "", ("a",)), Node("b", "", ("a",))],
            "b",
            ["'lost'", "'b'"],
            id="dead node",
        ),
        pytest.param(
            [Node("a", ""), Node("p", "", ("a",)), Node("q", "", ("a",))],
            None,
            ["'p', 'q'", "answer="],
            id="several answers",
        ),
        pytest.param(
            [Node(f"n{i // 2}", "") for i in range(20_000)],
            None,
            ["'n0', 'n1', 'n2', 'n3', 'n4' and 9995 more"],
            id="many",
        ),
        pytest.param([Node("a", "")], ["a"], ["['a']", "not in the graph"], id="no answer's name"),
        pytest.param([Node("a", "")], "z", ["'z'", "not in the graph"], id="unknown answer"),
        pytest.param([], None, ["at least one node"], id="no nodes"),
    ],
)
def test_a_wrong_graph_is_an_error_that_names_the_nodes(nodes, answer, named):
    with pytest.raises(GraphError) as error:
        Graph(tuple(nodes), answer)
    assert all(part in str(error.value) for part in named), str(error.value)


def test_an_input_named_twice_is_an_error():
    with pytest.raises(GraphError, match="'n'.*twice.*'a', 'b', 'a'"):
        Node("n", "", ("a", "b", "a"))


def test_inputs_given_as_one_text_are_an_error_that_shows_the_tuple():
    with pytest.raises(GraphError, match=r"'n'.*\('hint',\)"):
        Node("n", "", "hint")


@pytest.mark.parametrize(
    "name", ["", "  ", "a\nb", "a\tb", 'say "x"', "it's", "`a`", "<a>", "a\u2028b", "\x00", 7, None]
)
def test_a_name_that_cannot_stand_in_a_prompt_is_an_error(name):
    with pytest.raises(GraphError, match="name is printable text"):
        Node(name, "")


@pytest.mark.parametrize(
    "wrong",
    [
        {"instruction": None},
        {"form": 3},
        {"trainable": "no"},
        {"inputs": None},
        {"inputs": (1,)},
        {"inputs": (["b"],)},
    ],
    ids=str,
)
def test_a_node_of_other_things_is_an_error_that_names_them(wrong):
    with pytest.raises(
        GraphError, match=f"'n': {[*wrong][0]} is {re.escape(repr([*wrong.values()][0]))}; it takes"
    ):
        Node(**{"name": "n", "instruction": "Do it.", **wrong})


@pytest.mark.parametrize("nodes", [Node("a", ""), ["a"], (), 3, None], ids=str)
def test_what_is_no_tuple_of_nodes_makes_no_graph(nodes):
    with pytest.raises(GraphError, match="at least one node"):
        Graph(nodes)


@pytest.mark.parametrize("name", ["hint_1", "Job title", "Schluß", "第一", "a.b-c:d", "50 %"])
def test_an_ordinary_name_is_a_name(name):
    assert Graph((Node(name, ""),)).answer == name
