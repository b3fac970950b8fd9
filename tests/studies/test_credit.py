"""Credit assignment: the fault is where it should be, and the prompts decide what can be found."""

import asyncio
import itertools
from functools import partial
from statistics import mean

import pytest
from scipy.stats import binomtest

from semback import Language, ParameterError, backward, clerk, credit, forward

TOGETHER, ALONE, CONTROL = credit.METHODS


def expected(depth, width, error, clear):
    """What `credit` should measure of the clerk, if a share e of its judgements is reversed.

    `clear`: whether the prompts contain what clears the innocent nodes.

    A chain of `depth` independent judgements leads to the faulty node: found = (1 - e)^depth. The
    width - 1 innocent nodes of a level are judged if the chain has held so far, and each is blamed
    with probability b = e if the prompts clear it, else b = 1 - e. So blamed is the mean of
    b (1 - e)^level over the levels from 0, and only = ((1 - e) (1 - b)^(width - 1))^depth.
    """
    right = 1 - error
    b = error if clear else right
    blamed = b * mean(right**level for level in range(depth)) if width > 1 else None
    only = (right * (1 - b) ** (width - 1)) ** depth
    return {"found": right**depth, "blamed": blamed, "only": only}


def measured(coach=None, **settings):
    return asyncio.run(credit.credit(coach, **settings)).set_index("method")


@pytest.mark.parametrize(
    "depth, width, listed",
    [(1, 1, "input"), (1, 4, "question"), (3, 2, "input"), (4, 3, "question")],
)
def test_the_planted_trace_is_what_the_graph_computes_and_one_instruction_is_wrong(
    depth, width, listed
):
    planted = credit.plant(depth, width, 7, listed)
    lang = Language(clerk.clerk(), clerk.clerk())
    assert asyncio.run(forward(planted.trace.graph, planted.example, lang)) == planted.trace
    mended = f"There are {planted.right[planted.faulty]} boxes on {planted.faulty}. Say how many."
    right = asyncio.run(
        forward(
            planted.trace.graph.with_instructions({planted.faulty: mended}), planted.example, lang
        )
    )
    assert {name: int(right.values[name]) for name in planted.right} == planted.right
    assert right.answer == planted.example.answer != planted.trace.answer
    edges, name = 0, planted.faulty
    while name != "answer":
        (name,), edges = planted.trace.graph.successors(name), edges + 1
    assert edges == depth
    for node in planted.trace.graph.nodes:
        assert len(set(node.inputs) - {"stock_list"}) in (0, width)


@pytest.mark.parametrize("number", range(3))
def test_alone_the_prompts_are_the_same_to_the_letter_whichever_input_is_at_fault(number):
    """So no coach can tell the faults apart; with all inputs or the list in the question it can."""

    def prompts(method, faulty):
        neighbourhood, listed = credit.METHODS[method]
        planted, requests = credit.plant(1, 4, number, listed, faulty), []
        coach = clerk.clerk(prompts=requests)
        target = f"The answer should have been: {planted.example.answer}"
        lang = Language(coach, coach, neighbourhood=neighbourhood)
        asyncio.run(backward(planted.trace, target, lang))
        texts = [messages[1]["content"] for messages in requests]
        return tuple(sorted(text for text in texts if '<gradient to="shelf' in text))

    different = {
        method: len({prompts(method, faulty) for faulty in range(4)}) for method in credit.METHODS
    }
    assert different == {TOGETHER: 4, ALONE: 1, CONTROL: 4}


@pytest.mark.slow
def test_a_clerk_that_never_errs_finds_the_fault_alone_if_its_prompts_clear_the_others():
    for size in [(1, 2), (2, 3), (4, 2)]:
        found = measured(sizes=[size], faults=5, error=0.0)
        assert list(found["found"]) == [1, 1, 1]
        assert list(found["blamed"]) == [0, 1, 0]
        assert list(found["only"]) == [1, 0, 1]
        assert not found["unclear"].any()
        theory = [expected(*size, 0.0, clear) for clear in (True, False, True)]
        assert found[["found", "blamed", "only"]].to_dict("records") == theory


def test_with_one_input_no_node_is_innocent():
    found = measured(sizes=[(3, 1)], faults=5, error=0.0)
    assert found["only"].all() and found["blamed"].isna().all()
    assert list(found["calls"]) == [3, 6, 3]


@pytest.mark.slow
def test_measurements_of_a_clerk_that_errs_agree_with_the_theory():
    found = measured(sizes=[(2, 2)], faults=80, error=0.2, methods=[TOGETHER, ALONE])
    for clear, (_, row) in zip((True, False), found.iterrows()):
        theory = expected(2, 2, 0.2, clear)
        for measure in ("found", "only"):
            test = binomtest(round(row[measure] * 80), 80, theory[measure])
            assert test.pvalue > 0.01
            interval = row[f"{measure}_low"], row[f"{measure}_high"]
            assert interval == pytest.approx(test.proportion_ci(method="wilson"))
        assert row["blamed"] == pytest.approx(theory["blamed"], abs=0.1)


@pytest.mark.parametrize(
    "depth, width, clear", [(1, 3, True), (2, 2, False), (3, 2, True), (2, 3, True)]
)
def test_the_theory_is_the_average_over_all_ways_to_err(depth, width, clear):
    error, totals = 0.3, {"found": 0.0, "blamed": 0.0, "only": 0.0}
    for errors in itertools.product((False, True), repeat=depth * width):
        chance = (error ** sum(errors)) * (1 - error) ** (len(errors) - sum(errors))
        chain_holds, blamed = True, 0
        for level in range(depth):
            on_the_way, *others = errors[level * width : (level + 1) * width]
            if chain_holds:  # an innocent node is blamed by an error, or if nothing clears it
                blamed += sum(other == clear for other in others)
            chain_holds = chain_holds and not on_the_way
        totals["found"] += chance * chain_holds
        totals["blamed"] += chance * blamed / (depth * (width - 1))
        totals["only"] += chance * (chain_holds and not blamed)
    assert expected(depth, width, error, clear) == pytest.approx(totals)


def test_any_model_can_be_the_coach(script):
    def blocks(text, body):
        prompt = body["messages"][1]["content"]
        lines = [line for line in prompt.splitlines() if line.startswith("<gradient to=")]
        return "\n".join(f"{line}\n{text}\n</gradient>" for line in lines)

    def one(reply, faults=2):
        coach = script(reply).llm()
        return measured(coach, sizes=[(1, 3)], faults=faults, methods=[TOGETHER]).iloc[0]

    found = one(partial(blocks, "It should have been 7."))
    assert (found["found"], found["blamed"], found["only"]) == (0, 1, 0)
    assert (found["coach"], found["simulated"]) == ("scripted", False)
    found = one(partial(blocks, "I like this number very much."))
    assert (found["found"], found["blamed"]) == (0, 0)
    assert found["unclear"] == 2 * 3  # not the answer, whose gradient is the score's
    found = one("no", faults=1)
    assert found["unclear"] == 3 and found["calls"] == 2


@pytest.mark.parametrize(
    "wrong",
    [
        {"depth": 0, "width": 1},
        {"depth": 1, "width": 0},
        {"depth": 1, "width": 1, "listed": "nowhere"},
        {"depth": "a", "width": 1},
    ],
)
def test_a_graph_that_cannot_be_is_a_parameter_error(wrong):
    with pytest.raises(ParameterError, match="from 1|whole number|listed"):
        credit.plant(**wrong)


@pytest.mark.parametrize(
    "wrong",
    [
        {"faults": 0},
        {"methods": ["alone"]},
        {"methods": [["alone"]]},
        {"faults": "a"},
        {"faults": 1.5},
        {"sizes": [("a", 3)]},
        {"sizes": [(1.5, 2)]},
        {"error": "x"},
        {"coach": "x"},
    ],
    ids=str,
)
def test_a_study_that_cannot_be_is_a_parameter_error(wrong):
    words = "all inputs together|it takes|a depth and a width from 1|share from 0 to 1"
    with pytest.raises(ParameterError, match=words):
        measured(**wrong)
