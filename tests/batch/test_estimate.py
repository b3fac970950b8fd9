"""Estimates, compared with the published counts, and with what runs then really request."""

import asyncio
import itertools
import math
import re
from pathlib import Path

import pytest

from semback import Language, ParameterError, descend, evaluate, variant_settings
from semback.batch import estimate
from semback.batch.jobs import Job

NOTEBOOKS = Path(__file__).parents[2] / "notebooks"


def job(experiment, **parameters):
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
def test_no_run_requests_more_than_its_plan(variant, script):
    """The model is always wrong, never repeats itself, and fills its token limit with code marks.

    A token is a byte here.
    """
    this, limit, number = (
        job("bbh", variant=variant, train=5, steps=3, model="who", coach="coach"),
        400,
        itertools.count(),
    )

    def says(body):
        prompt = body["messages"][1]["content"]
        tags = re.findall(r'^<(gradient to="[^"]*"|instruction)>$', prompt, re.MULTILINE)
        if not tags:
            return f"{next(number)} ```` ".ljust(limit - 13, "x") + "\nAnswer: None"
        each = limit // len(tags) - 40
        return "\n".join(
            f"<{tag}>\n{str(next(number)).ljust(each, 'y')}\n</{tag.split()[0]}>" for tag in tags
        )

    answering, coaching = script(says), script(says)
    task, (for_language, for_descend) = this.task(), variant_settings(variant, this.task().graph)
    task = type(task)(**{**vars(task), "read": lambda reply: "nothing"})
    params = {"max_tokens": limit}
    lang = Language(
        answering.llm("who", params=params), coaching.llm("coach", params=params), **for_language
    )

    async def everything():
        await evaluate(task.graph, task.test, task, lang)
        run = await descend(task, lang, steps=3, **for_descend)
        await evaluate(run.graph, task.test, task, lang)

    asyncio.run(everything())
    planned = (
        estimate.plan(
            [
                Job(
                    this.notebook,
                    {**this.parameters, "model_params": params, "coach_params": params},
                )
            ]
        )
        .groupby("model")
        .sum()
    )
    for who, asked in (("who", answering.asked), ("coach", coaching.asked)):
        bytes_sent = sum(
            len(message["content"].encode()) for body in asked for message in body["messages"]
        )
        assert len(asked) == planned.loc[who, "calls"]
        assert planned.loc[who, "input_most"] / 2 < bytes_sent <= planned.loc[who, "input_most"]
        assert planned.loc[who, "output_most"] == limit * len(asked)
        assert planned.loc[who, "input_expected"] < planned.loc[who, "input_most"]


def test_the_simulation_is_free_a_known_model_has_a_price_and_an_unknown_one_is_called_unknown():
    models = ("simulated", "gpt-4o-mini-2024-07-18", "mine")
    table = estimate.plan(
        [job("gsm8k", steps=1, model=model, coach="gpt-4-turbo-2024-04-09") for model in models]
    )
    dollars = table[table["phase"] == "training"].set_index("model")["dollars_most"]
    assert dollars["simulated"] == 0 and math.isnan(dollars["mine"])
    asked = table[
        (table["phase"] == "training") & (table["model"] == "gpt-4o-mini-2024-07-18")
    ].iloc[0]
    assert dollars["gpt-4o-mini-2024-07-18"] == pytest.approx(
        (asked["input_most"] * 0.15 + asked["output_most"] * 0.6) / 1e6, rel=1e-3
    )
    assert "unknown" in estimate.as_text(table)
    assert estimate.total(table).endswith(" calls, price unknown (expected: price unknown)")


def test_a_model_without_a_token_limit_has_no_upper_bound():
    table = estimate.plan([job("gsm8k", model="gpt-4o-mini", model_params={"max_tokens": None})])
    row = table[table["phase"] == "test after"].iloc[0]
    assert (
        row["input_most"] == row["output_most"] == row["dollars_most"] == math.inf
        and 0 < row["dollars_expected"] < math.inf
    )
    assert "no limit" in estimate.as_text(table)


def test_a_plan_has_a_block_with_a_total_for_each_model_and_names_what_it_assumes():
    paid = job("gsm8k", model="gpt-4o-mini", coach="gpt-4-turbo-2024-04-09")
    text = estimate.as_text(estimate.plan([paid]))
    assert text.startswith("gpt-4o-mini\n") and "\n\ngpt-4-turbo-2024-04-09\n" in text
    assert re.findall(r"^at most ([\d,]+) calls", text, re.MULTILINE) == ["2,304", "20"]
    assert "Upper bound if nothing is recorded: 2,324 calls, $" in text
    assert estimate.ASSUMPTIONS in text


@pytest.mark.parametrize("name", [None, [], "only_nobody", "full "], ids=str)
def test_a_variant_that_there_is_not_is_a_parameter_error_that_lists_them(task, name):
    with pytest.raises(
        ParameterError, match="there is no variant .*; there are full, no_gradient, .*, only_answer"
    ):
        variant_settings(name, task.graph)
