"""The noise floor: a null control is saved, shown in tables, figures and words; graded results."""

import asyncio
import json
import random
import re
from dataclasses import replace
from itertools import count

import pytest
from conftest import adder

from semback import Language, comparisons, control, descend, evaluate, figures, results
from semback.report.statistics import paired, pooled
from semback.report.summary import Summary


def answering(right):
    """A model that adds rightly where right(first number, number of the answer)."""
    numbers = count()
    return adder(lambda system, a: right(a, next(numbers)))


def saved(task, script, name="noisy"):
    async def run():
        model = script.llm(in_flight=1)
        lang = Language(model, model)
        before = await evaluate(task.graph, task.test, task, lang)
        done = await descend(task, lang, steps=1)
        after = await evaluate(done.graph, task.test, task, lang)
        null = await control(done, task, lang)
        path = results.save(name, "gsm8k", "full", "full", task, done, before, after, control=null)
        return json.loads(path.read_text(encoding="utf-8")), null

    return asyncio.run(run())


@pytest.fixture
def noisy(task):
    dice = random.Random(2)
    return saved(task, answering(lambda a, call: (a % 2 == 0) != (dice.random() < 0.15)))


def test_a_null_control_is_in_the_record_and_its_calls_are_counted(noisy):
    record, null = noisy
    (loaded,) = results.load("noisy")
    assert loaded["control"]["test"]["correct"] == null.test.correct
    assert loaded["control"]["accepted"] is null.accepted and loaded["control"]["p"] == null.seen.p
    assert {row["stage"] for row in record["usage"]} >= {"control"}


def test_tables_and_words_have_the_noise_floor(noisy):
    record, null = noisy
    (row,) = results.table([record]).to_dict("records")
    assert row["again"] == null.test.accuracy
    (compared,) = comparisons.table([record]).to_dict("records")
    floor = abs(row["again"] - row["before"])
    assert floor > 0 and compared["floor"] == pytest.approx(floor)
    assert f"the start graph differ by {100 * floor:.1f} points" in compared["words"]
    not_more = "not more than that" in compared["words"]
    assert not_more is (abs(compared["difference"]) < floor + 1e-9)
    assert re.search(r"\bagain\b", repr(Summary([record])))


def test_without_a_control_nothing_is_said_of_it(noisy):
    record, _ = noisy
    del record["control"]
    assert "two evaluations" not in comparisons.table([record])["words"][0]
    assert not re.search(r"\bagain\b", repr(Summary([record])))


def test_figures_draw_the_floor_around_the_start_graph(noisy):
    record, null = noisy
    data = figures.methods([record]).data
    before = results.table([record])["before"][0]
    assert data["floor"].dropna().tolist() == [pytest.approx(abs(null.test.accuracy - before))]
    assert set(data["variant"]) == {"start", "full"}


def test_graded_results_have_bootstrap_intervals_and_a_permutation_test(task):
    def score(answer, example):
        return 1.0 if answer == example.answer else 0.25

    graded = replace(task, score=score)
    record, _ = saved(graded, answering(lambda a, call: a % 2 == 0 or call > 60), "graded")
    assert json.loads(json.dumps(results.load("graded"))) == [record]
    rows = results.frame([record])
    before, after = (rows[rows["stage"] == stage] for stage in ("before", "after"))
    assert pooled(before).interval == "bootstrap over questions"
    assert pooled(before).accuracy == pytest.approx(0.625)
    found = paired(after, before)
    assert found["test"] == "permutation" and found["only_variant"] == 6 and found["p"] < 0.05
    assert found["low"] <= found["difference"] <= found["high"]
    (row,) = results.table([record]).to_dict("records")
    assert row["low"] < row["after"] <= row["high"]
