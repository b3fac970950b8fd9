"""Estimates, compared with the published counts, and with what runs then really request."""

import asyncio
import itertools
import math
import re
from dataclasses import replace
from pathlib import Path

import pytest

from semback import Language, ParameterError, descend, evaluate, variant_settings
from semback.batch import estimate
from semback.batch.jobs import Job
from semback.report.statistics import detectable

NOTEBOOKS = Path(__file__).parents[2] / "notebooks"


PAPER = {"gsm8k": {"train": 128}, "liar": {"train": 50, "steps": 8}}  # its sizes


def job(experiment, **parameters):
    parameters = PAPER.get(experiment, {}) | parameters
    stem = {"bbh": "02_bbh", "gsm8k": "03_gsm8k", "liar": "04_liar_ablation"}[experiment]
    category = {"category": "boolean_expressions"} if experiment == "bbh" else {}
    return Job(
        NOTEBOOKS / f"{stem}.ipynb", {"data": "sample", "variant": "full", **category, **parameters}
    )


def calls(*jobs):
    return estimate.plan(jobs).groupby("phase")["calls"].sum().to_dict()


@pytest.mark.parametrize(
    "experiment, files, training, coach",
    [("gsm8k", 1, 1920, 20), ("bbh", 27, 8100, 540), ("liar", 1, 2700, 64)],
)
def test_calls_are_those_of_the_paper(experiment, files, training, coach):
    """facts.md, from the released code: answering calls in training, and calls of the coach."""
    found = calls(job(experiment))
    assert files * found["training"] == training
    assert files * (found["backward"] + found["update"]) == coach


def test_the_test_set_is_answered_before_and_after_by_every_node():
    found, task = calls(job("liar")), job("liar").task()
    assert found["test before"] == found["test after"] == 6 * len(task.test)


@pytest.mark.parametrize(
    "variant, backward, update",
    [
        ("full", 16, 48),
        ("no_gate", 16, 48),
        ("no_neighbourhood", 80, 48),
        ("no_gradient", 0, 48),
        ("only_State", 16, 8),
    ],
)
def test_variants_request_what_they_request(variant, backward, update):
    found = calls(job("liar", variant=variant))
    assert (found.get("backward", 0), found["update"], found["training"]) == (
        backward,
        update,
        2700,
    )


@pytest.mark.parametrize(
    "variant", ["full", "no_gate", "no_neighbourhood", "no_gradient", "only_hint_1"]
)
def test_a_run_that_takes_every_step_makes_the_planned_calls_with_about_the_planned_tokens(
    variant, script
):
    """The model is always wrong, never repeats itself, and its replies have the expected length."""
    this = job("bbh", variant=variant, train=5, steps=3, model="who", coach="coach")
    number = itertools.count()

    def says(body):
        prompt = body["messages"][1]["content"]
        tags = re.findall(r'^<(gradient to="[^"]*"|instruction)>$', prompt, re.MULTILINE)
        text = str(next(number))
        if not tags:
            return text.ljust(4 * estimate.REPLY, "x")
        length = estimate.INSTRUCTION if "instruction" in tags else estimate.GRADIENT
        return "\n".join(
            f"<{tag}>\n{text.ljust(4 * length, 'y')}\n</{tag.split()[0]}>" for tag in tags
        )

    answering, coaching = script(says), script(says)
    task, (for_language, for_descend) = this.task(), variant_settings(variant, this.task().graph)
    task = replace(task, read=lambda reply: "nothing")
    lang = Language(answering.llm("who"), coaching.llm("coach"), **for_language)

    async def everything():
        await evaluate(task.graph, task.test, task, lang)
        run = await descend(task, lang, steps=3, **for_descend)
        await evaluate(run.steps[1].candidate, task.test, task, lang)

    asyncio.run(everything())
    planned = estimate.plan([this]).groupby("model").sum()
    for who, asked in (("who", answering.asked), ("coach", coaching.asked)):
        characters = sum(len(message["content"]) for body in asked for message in body["messages"])
        assert len(asked) == planned.loc[who, "calls"]
        assert planned.loc[who, "input_tokens"] == pytest.approx(characters / 4, rel=0.25)


def test_replies_are_as_long_as_expected_or_their_token_limit_and_reasoning_adds_to_them():
    def output(**settings):
        table = estimate.plan([job("gsm8k", **settings)])
        row = table[table["phase"] == "test before"].iloc[0]
        return row["output_tokens"] / row["calls"]

    assert output(model="gpt-4o-mini") == 200
    assert output(model="gpt-4o-mini", model_params={"max_tokens": 50}) == 50
    assert output(model="gpt-4o-mini", model_params={"max_tokens": None}) == 200
    assert output(model="o3-mini") == 700


def test_the_simulation_is_free_a_known_model_has_a_price_and_an_unknown_one_is_called_unknown():
    models = ("simulated", "gpt-4o-mini-2024-07-18", "mine")
    table = estimate.plan(
        [job("gsm8k", steps=1, model=model, coach="gpt-4-turbo-2024-04-09") for model in models]
    )
    training = table[table["phase"] == "training"].set_index("model")
    assert training.loc["simulated", "dollars"] == 0
    assert math.isnan(training.loc["mine", "dollars"])
    row = training.loc["gpt-4o-mini-2024-07-18"]
    dollars = (row["input_tokens"] * 0.15 + row["output_tokens"] * 0.6) / 1e6
    assert row["dollars"] == pytest.approx(dollars, rel=1e-3)
    assert "unknown" in estimate.as_text(table)
    assert estimate.total(table).endswith(" calls, price unknown")


def test_a_plan_is_a_table_for_each_model_with_one_total_and_names_what_it_assumes():
    paid = job("gsm8k", model="gpt-4o-mini", coach="gpt-4-turbo-2024-04-09")
    text = estimate.as_text(estimate.plan([paid]))
    model, header, *lines = text.splitlines()
    assert model == "gpt-4o-mini" and "gpt-4-turbo-2024-04-09" in lines
    assert header.split() == [*estimate.KEYS[:2], *estimate.COUNTS, "dollars"]
    assert max(map(len, lines)) <= 78
    assert len(
        re.findall(r"^Upper bound if nothing is recorded: 2,324 calls, about \$", text, re.M)
    )
    assert estimate.ASSUMPTIONS in text


def test_a_plan_says_which_difference_the_test_questions_can_find():
    jobs = [
        job("bbh", category=category, seed=seed, test=20)
        for category in ("boolean_expressions", "object_counting")
        for seed in (0, 1)
    ]
    text = estimate.differences([*jobs, job("gsm8k")])
    bbh, gsm8k = text.splitlines()
    points = [f"{100 * detectable(number):.1f}" for number in (40, 80, 64)]
    assert bbh == (
        f"bbh: 40 test questions can find a difference of {points[0]} points; "
        f"2 seeds, were they independent, a difference of {points[1]} points"
    )
    assert gsm8k == f"gsm8k: 64 test questions can find a difference of {points[2]} points"
    assert "\n80 % power when 20% of the answers change" in estimate.ASSUMPTIONS
    assert estimate.differences([]) == ""
    assert estimate.differences([job("liar", test=3)]).endswith("can find no difference")


def test_fewer_test_questions_are_planned_and_paid_for():
    assert calls(job("liar", test=10))["test after"] == 6 * 10


def test_what_another_library_requests_in_training_is_named_and_not_counted():
    peer, start = job("bbh", method="copro"), job("bbh", method="start")
    task = peer.task()
    both = {"test before": 3 * len(task.test), "test after": 3 * len(task.test)}
    assert calls(peer) == both
    assert calls(start) == both | {"training": 3 * len(task.train)}
    total = estimate.total(estimate.plan([peer, start]))
    assert total.endswith("and the training of copro")
    assert "the training of" not in estimate.total(estimate.plan([start]))


def test_a_plan_can_be_made_in_a_notebook():
    async def cell():
        return estimate.plan([job("gsm8k")])

    assert asyncio.run(cell())["calls"].sum() == 2324


@pytest.mark.parametrize("name", [None, [], "only_nobody", "full "], ids=str)
def test_a_variant_that_there_is_not_is_a_parameter_error_that_lists_them(task, name):
    with pytest.raises(
        ParameterError, match="there is no variant .*; there are full, no_gradient, .*, only_answer"
    ):
        variant_settings(name, task.graph)
