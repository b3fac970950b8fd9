"""The clerk concludes what follows from its prompt, and nothing else."""

import asyncio

import pytest

from semback import Graph, Language, Node, ParameterError, backward, clerk, forward
from semback.language import Case
from semback.studies.clerk import DIFFERENT, STAY, corrections


def gradients(formula, values, target, neighbourhood=True, question="How much is it?", error=0.0):
    """The gradients of the inputs of a node with this formula, for a target of its result."""
    model = clerk.clerk(error)
    lang = Language(model, model, neighbourhood=neighbourhood)
    nodes = [Node(name, f"It is {value}.") for name, value in values.items()]
    graph = Graph((*nodes, Node("all", f"Work out: {formula}", tuple(values))))

    async def both():
        found = await backward(await forward(graph, question, lang), target, lang)
        return {name: found[name] for name in values}

    return asyncio.run(both())


def test_a_product_needs_the_other_inputs_and_a_sum_does_not():
    values, target = {"a": 10, "b": 5, "c": 7}, "It should have been 67."
    assert gradients("a * b + c", values, target) == {
        "a": "It should have been 12.",
        "b": "It should have been 6.",
        "c": "It should have been 17.",
    }
    assert gradients("a * b + c", values, target, neighbourhood=False) == {
        "a": DIFFERENT,
        "b": DIFFERENT,
        "c": "It should have been 17.",
    }
    assert gradients("a - b - c", values, "It should have been 0.", neighbourhood=False) == {
        "a": "It should have been 12.",  # the result was -2
        "b": "It should have been 3.",
        "c": "It should have been 5.",
    }


def test_a_list_is_right_and_clears_the_inputs_that_it_explains():
    values, question = {"a": 10, "b": 5, "c": 7}, "How much is it?\n\na: 12"
    for neighbourhood, c in ((True, STAY), (False, "It should have been 17.")):
        found = gradients("a * b + c", values, "It should have been 67.", neighbourhood, question)
        assert found["a"] == "It should have been 12." and found["c"] == c
    assert gradients("a * b + c", values, STAY) == dict.fromkeys(values, STAY)


def test_without_a_whole_number_or_without_influence_it_says_only_that_something_is_wrong():
    found = gradients("a * b", {"a": 10, "b": 4}, "It should have been 42.")
    assert found == {"a": DIFFERENT, "b": DIFFERENT}
    found = gradients("a + b * c", {"a": 1, "b": 4, "c": 0}, "It should have been 5.")
    assert found["b"] == DIFFERENT


@pytest.mark.parametrize(
    "instruction, output, gradient, new",
    [
        ("A piece costs 10 euros.", "10", "It should have been 12.", "A piece costs 12 euros."),
        ("Work out: a + b", "7", "It should have been 5.", "Work out: a + b - 2"),
        ("Work out: a + c", "7", "It should have been 9.", "Work out: a + c"),
        ("A piece costs 10 euros.", "10", STAY, "A piece costs 10 euros."),
        ("A piece costs 10 euros.", "10", DIFFERENT, "A piece costs 10 euros."),
        ("A piece costs 10 euros.", "10", None, "A piece costs 10 euros."),
    ],
)
def test_an_update_corrects_the_number_unless_right_inputs_suffice(
    instruction, output, gradient, new
):
    cases = [
        Case("How much?", {"a": "3", "b": "4"}, "7", STAY),
        Case("How much?\n\nc: 6", {"a": "3", "b": "4", "c": "4"}, output, gradient),
    ]
    lang = Language(clerk.clerk(), clerk.clerk())
    assert asyncio.run(lang.update(Node("a", instruction), cases)) == new


@pytest.mark.parametrize(
    "text, numbers",
    [
        ("It should have been 41, not 38.", [41]),
        ("The answer should have been: -7", [-7]),
        ("It should have been **41**.", [41]),
        ("- It should have been 4.\n- It should stay as it is.\n- It should have been 5.", [4, 5]),
        ("It should have been 4.5", []),
        ("It should have been better by 4.", []),
        ("It should have provided the number of boxes on shelf_2, which is 87.", [87]),
        ("The count of shelf 3 should be new. It is 46, but should be 50 of 99.", [50]),
        ("The list should have the boxes on shelf 3.", []),
    ],
)
def test_corrections_are_the_whole_numbers_that_should_have_been(text, numbers):
    assert corrections(text) == numbers


def test_an_error_reverses_a_judgement():
    values, question = {"a": 10, "b": 5}, "How much is it?\n\na: 12"
    found = gradients("a + b", values, "It should have been 17.", True, question, error=1)
    assert found == {"a": STAY, "b": "It should have been 7."}


def test_an_error_that_is_not_a_share_is_a_parameter_error():
    with pytest.raises(ParameterError, match="from 0 to 1, not 2"):
        clerk.clerk(2)
