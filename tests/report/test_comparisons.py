"""Comparisons of methods: on the same questions, with several counted as several, and in words that claim no more than the numbers."""

import pandas
import pytest
from test_results import changed, record_of

from semback import DataError, comparisons, results


@pytest.fixture
def record(task):
    return changed(record_of("trial", task), 24, 30)


def row(table, against, result="sums"):
    found = table[(table["result"] == result) & (table["against"] == against)]
    assert len(found) == 1
    return found.iloc[0]


def started(record, correct):
    """The record with another score of the start graph, on the questions of the test."""
    answers = [
        [id, "", place < correct]
        for place, (id, *_) in enumerate(record["test"]["after"]["answers"])
    ]
    record["test"]["before"] = {**record["test"]["after"], "correct": correct, "answers": answers}
    return record


def test_every_variant_and_the_start_graph_are_compared_with_the_full_method(record):
    others = [
        changed(record, right, 30, variant=variant)
        for variant, right in (("no_gradient", 10), ("no_gate", 24), ("only_answer", 27))
    ]
    table = comparisons.table([started(record, 4), *others])
    assert list(table["against"]) == ["start", "no_gradient", "no_gate", "only_answer"]
    assert list(table["method"]) == [
        "the start graph",
        "without gradients",
        "without the gate",
        "only answer",
    ]
    assert list(table["difference"] * 30) == pytest.approx([20, 14, 0, -3]) and set(
        table["questions"]
    ) == {30}
    assert list(table["only_variant"]) == [20, 14, 0, 0] and list(table["only_against"]) == [
        0,
        0,
        0,
        3,
    ]
    assert (
        table["both"] + table["only_variant"] + table["only_against"] + table["neither"] == 30
    ).all()
    assert row(table, "start")["p"] == pytest.approx(2 / 2**20) and row(table, "no_gate")["p"] == 1


def test_words_say_what_is_better_and_what_cannot_be_told(record):
    others = [
        changed(record, right, 30, variant=variant)
        for variant, right in (("no_gradient", 10), ("no_gate", 22), ("only_answer", 30))
    ]
    table = comparisons.table([started(record, 4), *others])
    assert row(table, "no_gradient")["words"] == (
        "better with this seed: 46.7 points (95 % interval 25.3 to 61.9; McNemar p < 0.001, Holm's of 4 < 0.001; 30 questions)"
    )
    assert row(table, "no_gate")["words"].startswith(
        "not distinguishable at this sample size: 6.7 points ("
    )
    assert "McNemar p = 0.500, Holm's of 4 = 0.500" in row(table, "no_gate")["words"]
    assert row(table, "only_answer")["p"] == pytest.approx(2 / 2**6)  # 0.03 alone, but one of four
    assert row(table, "only_answer")["words"].startswith(
        "not distinguishable among 4 comparisons: -20.0 points ("
    )
    only = comparisons.table([started(record, 4), changed(record, 30, 30, variant="no_gate")])
    assert "Holm's of 2" in row(only, "no_gate")["words"]


def test_one_comparison_alone_is_not_adjusted(record):
    (words,) = comparisons.table([started(changed(record, 24, 30), 30)])["words"]
    assert (
        words.startswith("worse with this seed: -20.0 points (")
        and "McNemar p = 0.031; 30 questions)" in words
    )


def test_holm_is_the_published_procedure():
    adjusted = comparisons.holm(
        pandas.Series([0.01, 0.04, 0.03, 0.005])
    )  # R: p.adjust(c(0.01, 0.04, 0.03, 0.005), "holm")
    assert list(adjusted) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert list(comparisons.holm(pandas.Series([0.6, 0.5]))) == [1, 1]


def test_seeds_count_with_their_questions(record):
    seeds = [
        started(changed(record, right, 30, seed=seed), 8 + seed)
        for seed, right in enumerate((22, 24, 27))
    ]
    found = comparisons.table(seeds).iloc[0]
    assert (
        found["seeds"] == 3
        and found["test"] == "t test"
        and found["interval"] == "t over 3 seeds and their questions"
    )
    assert (
        found["difference"] == pytest.approx((14 + 15 + 17) / 90)
        and found["low"] < found["difference"] < found["high"]
    )
    assert found["words"].endswith("t test p = 0.003; 30 questions, 3 seeds)")
    assert comparisons.table(seeds[::-1]).equals(comparisons.table(seeds))


def of_its_own(record, seed, start, correct):
    """The record of a seed whose questions are from `seed` on: a third of those of the next seed are others."""
    record = started(changed(record, correct, 30, seed=seed), start)
    for stage in ("before", "after"):
        record["test"][stage]["answers"] = [
            [f"sum/{place + 10 * seed}", *said]
            for place, (_, *said) in enumerate(record["test"][stage]["answers"])
        ]
    return record


@pytest.mark.parametrize("spread", [0, 3])
def test_seeds_with_other_test_questions_have_one_mean_everywhere(record, spread):
    seeds = [of_its_own(record, seed, 10 - spread * seed, 20 + spread * seed) for seed in range(3)]
    before, after = (
        [record["test"][stage]["correct"] / 30 for record in seeds] for stage in ("before", "after")
    )
    shown, found = results.table(seeds).iloc[0], comparisons.table(seeds).iloc[0]
    assert shown["before"] == pytest.approx(sum(before) / 3) and shown["after"] == pytest.approx(
        sum(after) / 3
    )
    assert found["difference"] == pytest.approx(shown["after"] - shown["before"])
    assert (
        shown["interval"] == found["interval"] == "t over 3 seeds and their questions"
        and found["test"] == "t test"
    )
    assert (
        found["words"].endswith("; 30 questions a seed, 50 different ones, 3 seeds)")
        and shown["questions"] == 30
    )


def test_only_seeds_that_both_methods_ran_are_compared(record):
    seeds = [changed(record, 20 + seed, 30, seed=seed) for seed in range(3)]
    table = comparisons.table([*seeds, changed(record, 10, 30, seed=1, variant="no_gate")])
    assert row(table, "no_gate")["seeds"] == 1 and row(table, "no_gate")[
        "difference"
    ] == pytest.approx(11 / 30)


def test_groups_are_compared_on_the_files_that_both_methods_ran(record):
    files = [
        changed(
            record, right, 30, experiment="bbh", task=f"bbh/{name}", group=group, variant=variant
        )
        for variant, right, names in (
            ("full", 20, ("snarks", "hyperbaton", "navigate")),
            ("no_gate", 10, ("snarks", "navigate")),
        )
        for name, group in (("snarks", "nlp"), ("hyperbaton", "nlp"), ("navigate", "algorithmic"))
        if name in names
    ]
    table = comparisons.table(files)
    assert row(table, "no_gate", "BBH NLP, pooled over questions")["questions"] == 30
    assert row(table, "no_gate", "BBH all, pooled over questions")["questions"] == 60
    assert dict(table.groupby("family")["comparisons"].first()) == {"BBH files": 5, "BBH groups": 4}


def test_a_contaminated_test_is_compared_with_no_clean_one(record):
    table = comparisons.table([record, changed(record, 10, 30, variant="no_gate", overlap=True)])
    assert set(table["against"]) == {"start"}
    alone = comparisons.table(
        [changed(record, variant=variant, overlap=True) for variant in ("full", "no_gate")]
    )
    assert set(alone["conditions"]) == {"contaminated test"} and "no_gate" in set(alone["against"])
    assert comparisons.as_text(alone).startswith(
        "model simulated, coach simulated, sample data, contaminated test: right answers"
    )


def test_models_and_data_are_never_compared_with_each_other(record):
    table = comparisons.table(
        [
            record,
            changed(record, 2, 30, variant="no_gate", model="gpt-x"),
            changed(record, 3, 30, data="full"),
        ]
    )
    assert set(table["against"]) == {"start"} and set(table["comparisons"]) == {1}


def test_without_the_full_method_nothing_is_compared(record):
    table = comparisons.table([changed(record, variant="no_gate")])
    assert table.empty and comparisons.as_text(table) == ""
    assert comparisons.summary([changed(record, variant="no_gate")]).endswith(
        "these numbers say nothing about real models"
    )
    with pytest.raises(DataError, match="no results to show"):
        comparisons.table([])


def test_methods_that_met_other_questions_are_left_out(record):
    other = changed(record, variant="no_gate")
    other["test"]["after"]["answers"] = [
        [f"other/{id}", answer, right] for id, answer, right in other["test"]["after"]["answers"]
    ]
    assert "no_gate" not in set(comparisons.table([record, other])["against"])


def test_the_summary_is_the_table_and_what_can_be_told_from_it(record):
    records = [started(record, 4), changed(record, 22, 30, variant="no_gate")]
    text = comparisons.summary(records)
    assert text.startswith(results.as_text(results.table(records)))
    lines = text.split("\n")[-3:]
    assert (
        lines[0].split() == "result full against both only full only other neither full is".split()
    )
    assert lines[1].split()[:7] == ["sums", "start", "4", "20", "0", "6", "better"]
    assert "not distinguishable at this sample size: 6.7 points" in lines[2]
