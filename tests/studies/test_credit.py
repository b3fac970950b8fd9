"""The test bed for credit assignment: the fault is where it is said to be, and what a coach is shown decides what it can find."""

import asyncio
import itertools
from functools import partial

import pytest
from scipy.stats import binomtest

from semback import Graph, Language, Node, ParameterError, backward, credit, forward
from semback.language import Case
from semback.studies.clerk import DIFFERENT, STAY, clerk, numbers_told

TOGETHER, ALONE, CONTROL = credit.METHODS


def measured(coach=None, **settings):
    return asyncio.run(credit.credit(coach, **settings)).set_index("method")


@pytest.mark.parametrize(
    "depth, width, listed",
    [(1, 1, "input"), (1, 4, "question"), (3, 2, "input"), (4, 3, "question")],
)
def test_the_planted_trace_is_what_the_graph_computes_and_one_instruction_is_all_that_is_wrong(
    depth, width, listed
):
    planted = credit.plant(depth, width, 7, listed)
    lang = Language(clerk(), clerk())
    assert asyncio.run(forward(planted.graph, planted.example, lang)) == planted.trace
    mended = f"There are {planted.right[planted.faulty]} boxes on {planted.faulty}. Say how many."
    right = asyncio.run(
        forward(planted.graph.with_instructions({planted.faulty: mended}), planted.example, lang)
    )
    assert {name: int(right.values[name]) for name in planted.right} == planted.right
    assert right.answer == planted.example.answer != planted.trace.answer
    edges, name = 0, planted.faulty
    while name != "answer":
        (name,), edges = planted.graph.successors(name), edges + 1
    assert edges == depth and all(
        len(set(node.inputs) - {"stock_list"}) in (0, width) for node in planted.graph.nodes
    )


@pytest.mark.parametrize("number", range(3))
def test_alone_the_prompts_are_the_same_to_the_letter_whichever_input_is_at_fault(number):
    """So no coach at all can tell them apart; while the inputs together, or the list in the question, differ."""

    def prompts(method, faulty):
        asked, (neighbourhood, listed) = [], credit.METHODS[method]
        planted, coach = credit.plant(1, 4, number, listed, faulty), clerk(asked=asked)
        told = f"The answer should have been: {planted.example.answer}"
        asyncio.run(
            backward(planted.trace, told, Language(coach, coach, neighbourhood=neighbourhood))
        )
        return sorted(
            messages[1]["content"]
            for messages in asked
            if '<gradient to="shelf' in messages[1]["content"]
        )

    seen = {
        method: {tuple(prompts(method, faulty)) for faulty in range(4)} for method in credit.METHODS
    }
    assert {method: len(different) for method, different in seen.items()} == {
        TOGETHER: 4,
        ALONE: 1,
        CONTROL: 4,
    }


def test_a_clerk_that_never_errs_finds_the_fault_and_only_it_if_its_prompt_holds_what_clears_the_others():
    for size in [(1, 2), (2, 3), (4, 2)]:
        found = measured(sizes=[size], faults=5, error=0.0)
        assert (
            list(found["found"]) == [1, 1, 1]
            and list(found["blamed"]) == [0, 1, 0]
            and list(found["only"]) == [1, 0, 1]
        )
        assert not found["unclear"].any()
        for measure in ("found", "blamed", "only"):
            assert list(found[measure]) == list(found[f"{measure}_expected"])


def test_with_one_input_there_is_nothing_to_tell_apart():
    found = measured(sizes=[(3, 1)], faults=5, error=0.0)
    assert (
        found["only"].all() and found["blamed"].isna().all() and list(found["calls"]) == [3, 6, 3]
    )


def test_what_is_measured_of_a_clerk_that_errs_agrees_with_the_theory():
    found = measured(sizes=[(2, 2)], faults=120, error=0.2)
    for method, row in found.iterrows():
        for measure in ("found", "only"):
            assert (
                binomtest(round(row[measure] * 120), 120, row[f"{measure}_expected"]).pvalue > 0.01
            ), (method, measure)
            low, high = row[f"{measure}_low"], row[f"{measure}_high"]
            assert low <= row[measure] <= high and (low, high) == pytest.approx(
                binomtest(round(row[measure] * 120), 120).proportion_ci(method="wilson")
            )
        assert row["blamed"] == pytest.approx(row["blamed_expected"], abs=0.1)


@pytest.mark.parametrize(
    "depth, width, clear", [(1, 3, True), (2, 2, False), (3, 2, True), (2, 3, True)]
)
def test_the_theory_is_the_average_over_all_ways_to_err(depth, width, clear):
    error, totals = 0.3, {"found": 0.0, "blamed": 0.0, "only": 0.0}
    for errs in itertools.product((False, True), repeat=depth * width):
        chance = (error ** sum(errs)) * (1 - error) ** (len(errs) - sum(errs))
        levels, held, told = [errs[i * width : (i + 1) * width] for i in range(depth)], True, 0
        for on_the_way, *others in levels:
            told += held * sum(
                other == clear for other in others
            )  # an innocent is told if the coach errs, or cannot know
            held = held and not on_the_way
        totals["found"] += chance * held
        totals["blamed"] += chance * told / (depth * (width - 1))
        totals["only"] += chance * (held and not told)
    assert credit.expected(depth, width, error, clear) == pytest.approx(totals)


def test_any_model_can_be_the_coach(script):
    def blocks(text, body):
        prompt = body["messages"][1]["content"]
        names = [
            line.split('"')[1] for line in prompt.splitlines() if line.startswith("<gradient to=")
        ]
        return "\n".join(f'<gradient to="{name}">\n{text}\n</gradient>' for name in names)

    blames, vague = (
        script(partial(blocks, text)).llm()
        for text in ("It should have been 7.", "I like this number very much.")
    )
    found = measured(blames, sizes=[(1, 3)], faults=2, methods=[TOGETHER]).iloc[0]
    assert (found["found"], found["blamed"], found["only"], found["coach"], found["simulated"]) == (
        0,
        1,
        0,
        "scripted",
        False,
    )
    assert found["found_expected"] is None
    found = measured(vague, sizes=[(1, 3)], faults=2, methods=[TOGETHER]).iloc[0]
    assert (found["found"], found["blamed"], found["unclear"]) == (
        0,
        0,
        2 * 3,
    )  # the answer's gradient comes from the score
    mute = measured(script("no").llm(), sizes=[(1, 3)], faults=1, methods=[TOGETHER]).iloc[0]
    assert mute["unclear"] == 3 and mute["calls"] == 2


@pytest.mark.parametrize(
    "wrong",
    [
        {"depth": 0, "width": 1},
        {"depth": 1, "width": 0},
        {"depth": 1, "width": 1, "listed": "nowhere"},
        {"depth": 1, "width": 2, "faulty": 2},
        {"depth": "a", "width": 1},
    ],
)
def test_a_graph_that_cannot_be_is_a_parameter_error(wrong):
    with pytest.raises(ParameterError, match="from 1|depth .* whole number"):
        credit.plant(**wrong)


@pytest.mark.parametrize(
    "wrong",
    [
        {"faults": 0},
        {"methods": ["alone"]},
        {"methods": [["alone"]]},
        {"methods": 5},
        {"faults": "a"},
        {"faults": 1.5},
        {"sizes": 5},
        {"sizes": [(1,)]},
        {"sizes": [("a", 3)]},
        {"sizes": [(1.5, 2)]},
        {"error": "x"},
        {"coach": "x"},
    ],
    ids=str,
)
def test_a_study_that_cannot_be_is_a_parameter_error(wrong):
    with pytest.raises(
        ParameterError,
        match="all inputs together|it takes|pairs of a depth and a width|share from 0 to 1",
    ):
        measured(**wrong)


@pytest.mark.parametrize(
    "text, numbers",
    [
        ("It should have been 41, not 38.", [41]),
        ("The answer should have been: -7", [-7]),
        ("It should have been **41**.", [41]),
        ("- It should have been 4.\n- It should stay as it is.\n- It should have been 5.", [4, 5]),
        ("It should have been 4.5", []),
        ("It should have been better by 4.", []),
    ],
)
def test_a_number_is_read_where_a_gradient_says_what_should_have_been(text, numbers):
    assert numbers_told(text) == numbers


def test_an_error_that_is_no_share_is_a_parameter_error():
    with pytest.raises(ParameterError, match="from 0 to 1, not 2"):
        clerk(2)


# The clerk


def judged(formula, values, told, neighbourhood=True, question="How much is it?"):
    graph = Graph(
        (
            *(Node(name, f"It is {value}.") for name, value in values.items()),
            Node("all", f"Work out: {formula}", tuple(values)),
        )
    )
    lang = Language(clerk(), clerk(), neighbourhood=neighbourhood)

    async def both():
        gradients = await backward(await forward(graph, question, lang), told, lang)
        return {name: gradients[name] for name in values}

    return asyncio.run(both())


def test_for_a_product_the_clerk_needs_the_other_inputs_and_for_a_sum_it_does_not():
    values, told = {"a": 10, "b": 5, "c": 7}, "It should have been 67."
    assert judged("a * b + c", values, told) == {
        "a": "It should have been 12.",
        "b": "It should have been 6.",
        "c": "It should have been 17.",
    }
    assert judged("a * b + c", values, told, False) == {
        "a": DIFFERENT,
        "b": DIFFERENT,
        "c": "It should have been 17.",
    }
    assert judged("a - b - c", values, "It should have been 0.", False) == {  # it was -2
        "a": "It should have been 12.",
        "b": "It should have been 3.",
        "c": "It should have been 5.",
    }


def test_what_a_list_in_the_question_says_is_right_and_what_that_explains_clears_the_others():
    values, question = {"a": 10, "b": 5, "c": 7}, "How much is it?\n\na: 12"
    for neighbourhood, c in ((True, STAY), (False, "It should have been 17.")):
        told = judged("a * b + c", values, "It should have been 67.", neighbourhood, question)
        assert told["a"] == "It should have been 12." and told["c"] == c
    assert judged("a * b + c", values, STAY) == dict.fromkeys(values, STAY)


def test_no_whole_number_and_no_influence_mean_that_it_cannot_say_how():
    assert judged("a * b", {"a": 10, "b": 4}, "It should have been 42.") == {
        "a": DIFFERENT,
        "b": DIFFERENT,
    }
    assert judged("a + b * c", {"a": 1, "b": 4, "c": 0}, "It should have been 5.")["b"] == DIFFERENT


@pytest.mark.parametrize(
    "instruction, output, gradient, new",
    [
        ("A piece costs 10 euros.", "10", "It should have been 12.", "A piece costs 12 euros."),
        ("Work out: a + b", "7", "It should have been 5.", "Work out: a + b - 2"),
        ("Work out: a + c", "7", "It should have been 9.", "Work out: a + c"),
        ("A piece costs 10 euros.", "10", STAY, "A piece costs 10 euros."),
        ("A piece costs 10 euros.", "10", DIFFERENT, "A piece costs 10 euros."),
    ],
)
def test_the_clerk_mends_what_a_gradient_names_unless_right_inputs_would(
    instruction, output, gradient, new
):
    update = Language(clerk(), clerk()).update(
        Node("a", instruction),
        [
            Case("How much?", {"a": "3", "b": "4"}, "7", STAY),
            Case("How much?\n\nc: 6", {"a": "3", "b": "4", "c": "4"}, output, gradient),
        ],
    )
    assert asyncio.run(update) == new
