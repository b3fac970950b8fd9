"""Comparisons of methods: on the same questions, in words that go no further than the numbers."""

import re

import pandas
import pytest
from test_results import changed, record_of

from semback import DataError, comparisons, results
from semback.report import page
from semback.report.summary import Summary


@pytest.fixture
def record(task):
    return changed(record_of("trial", task), 24, 30)


def row(table, against, result="sums"):
    found = table[(table["result"] == result) & (table["against"] == against)]
    assert len(found) == 1
    return found.iloc[0]


def started(record, correct):
    """The record with another score of the start graph, on the questions of the test."""
    after = record["test"]["after"]
    answers = [[id, "", place < correct] for place, (id, *_) in enumerate(after["answers"])]
    record["test"]["before"] = {**after, "correct": correct, "answers": answers}
    return record


def variants(record, **correct):
    return [changed(record, right, 30, variant=variant) for variant, right in correct.items()]


def test_every_variant_and_the_start_graph_are_compared_with_the_full_method(record):
    others = variants(record, no_gradient=10, no_gate=24, only_answer=27)
    table = comparisons.table([started(record, 4), *others])
    assert list(table["against"]) == ["start", "no_gradient", "no_gate", "only_answer"]
    labels = ["the start graph", "without gradients", "without the gate", "only answer"]
    assert list(table["method"]) == labels
    assert list(table["difference"] * 30) == pytest.approx([20, 14, 0, -3])
    assert set(table["questions"]) == {30}
    assert list(table["only_variant"]) == [20, 14, 0, 0]
    assert list(table["only_against"]) == [0, 0, 0, 3]
    total = table[["both", "only_variant", "only_against", "neither"]].sum(axis=1)
    assert (total == 30).all()
    assert row(table, "start")["p"] == pytest.approx(2 / 2**20) and row(table, "no_gate")["p"] == 1


def test_words_say_what_is_better_and_what_cannot_be_told(record):
    others = variants(record, no_gradient=10, no_gate=22, only_answer=30)
    table = comparisons.table([started(record, 4), *others])
    assert row(table, "no_gradient")["words"] == (
        "better with this seed: 46.7 points (95 % interval 25.3 to 61.9; McNemar p < 0.001, "
        "Holm-adjusted over 4 comparisons < 0.001; 30 questions)"
    )
    same = row(table, "no_gate")["words"]
    assert same.startswith("not distinguishable at this sample size: 6.7 points (")
    assert "McNemar p = 0.500, Holm-adjusted over 4 comparisons = 0.500" in same
    assert row(table, "only_answer")["p"] == pytest.approx(2 / 2**6)  # 0.03 alone, but one of four
    assert row(table, "only_answer")["words"].startswith(
        "not distinguishable after adjusting for 4 comparisons: -20.0 points ("
    )


def test_a_start_graph_that_stayed_is_not_compared_with_itself(record):
    """Of two evaluations of one graph no difference is told: they are the same replies."""
    same = {name: (old, old) for name, (old, _) in record["instructions"].items()}
    stayed = started(changed(record, instructions=same), 24)
    others = variants(stayed, no_gradient=24), variants(record, no_gate=20)
    table = comparisons.table([stayed, *others[0], *others[1]])
    said = "no candidate was accepted, so the start graph stayed (30 questions)"
    assert row(table, "start")["words"] == row(table, "no_gradient")["words"] == said
    assert row(table, "no_gate")["words"].startswith(
        "not distinguishable at this sample size: 13.3"
    )
    lines = repr(Summary([stayed, *others[0], *others[1]])).split("\n")
    assert [line.endswith("  start graph kept") for line in lines[-4:-1]] == [True, True, False]
    (sentence,) = page.sentences([stayed])
    assert sentence.endswith(", no candidate accepted: the start graph stayed, simulated")


def test_one_comparison_alone_is_not_adjusted(record):
    (words,) = comparisons.table([started(changed(record, 24, 30), 30)])["words"]
    assert words.startswith("worse with this seed: -20.0 points (")
    assert "McNemar p = 0.031; 30 questions)" in words


def test_holm_is_the_published_procedure():
    p = pandas.Series([0.01, 0.04, 0.03, 0.005])
    assert list(comparisons.holm(p)) == pytest.approx([0.03, 0.06, 0.06, 0.02])  # R's p.adjust
    assert list(comparisons.holm(pandas.Series([0.6, 0.5]))) == [1, 1]


def test_several_seeds_are_compared_by_their_differences(record):
    seeds = [
        started(changed(record, right, 30, seed=seed), 8 + seed)
        for seed, right in enumerate((22, 24, 27))
    ]
    found = comparisons.table(seeds).iloc[0]
    assert found["seeds"] == 3 and found["test"] == "paired t test"
    assert found["interval"] == "t over 3 seeds"
    assert found["difference"] == pytest.approx((14 + 15 + 17) / 90)
    assert found["low"] < found["difference"] < found["high"]
    assert found["words"].startswith("better: 51.1 points (")
    assert found["words"].endswith("paired t test p = 0.003; 30 questions, 3 seeds)")
    assert comparisons.table(seeds[::-1]).equals(comparisons.table(seeds))


def of_its_own(record, seed, start, correct):
    """The record of a seed a third of whose questions are not those of the seed before."""
    record = started(changed(record, correct, 30, seed=seed), start)
    for stage in ("before", "after"):
        record["test"][stage]["answers"] = [
            [f"sum/{place + 10 * seed}", *rest]
            for place, (_, *rest) in enumerate(record["test"][stage]["answers"])
        ]
    return record


def test_tables_and_comparisons_have_one_mean_of_seeds_with_different_questions(record):
    seeds = [of_its_own(record, seed, 10 - 3 * seed, 20 + 2 * seed) for seed in range(3)]
    shown, found = results.table(seeds).iloc[0], comparisons.table(seeds).iloc[0]
    assert shown["before"] == pytest.approx(7 / 30) and shown["after"] == pytest.approx(22 / 30)
    assert found["difference"] == pytest.approx(shown["after"] - shown["before"])
    assert shown["interval"] == found["interval"] == "t over 3 seeds"
    assert shown["questions"] == found["questions"] == 30


def test_only_seeds_that_both_methods_ran_are_compared(record):
    seeds = [changed(record, 20 + seed, 30, seed=seed) for seed in range(3)]
    table = comparisons.table([*seeds, changed(record, 10, 30, seed=1, variant="no_gate")])
    found = row(table, "no_gate")
    assert found["seeds"] == 1 and found["difference"] == pytest.approx(11 / 30)


def test_groups_are_compared_on_the_files_that_both_methods_ran(record):
    groups = {"snarks": "nlp", "hyperbaton": "nlp", "navigate": "algorithmic"}
    ran = [("full", 20, name) for name in groups]
    ran += [("no_gate", 10, name) for name in ("snarks", "navigate")]
    files = [
        changed(record, right, 30, experiment="bbh", task=f"bbh/{name}", variant=variant)
        | {"group": groups[name]}
        for variant, right, name in ran
    ]
    table = comparisons.table(files)
    assert row(table, "no_gate", "BBH NLP")["questions"] == 30
    assert row(table, "no_gate", "BBH all")["questions"] == 60
    families = table.groupby("family")["comparisons"].first()
    assert dict(families) == {"BBH files": 5, "BBH groups": 4}


def test_a_contaminated_test_is_compared_with_no_clean_one(record):
    table = comparisons.table([record, changed(record, 10, 30, variant="no_gate", overlap=True)])
    assert set(table["against"]) == {"start"}
    both = [changed(record, variant=variant, overlap=True) for variant in ("full", "no_gate")]
    alone = comparisons.table(both)
    assert set(alone["settings"]) == {"contaminated test"} and "no_gate" in set(alone["against"])


def test_models_and_data_are_never_compared_with_each_other(record):
    other = changed(record, 2, 30, variant="no_gate", model="gpt-x")
    table = comparisons.table([record, other, changed(record, 3, 30, data="full")])
    assert set(table["against"]) == {"start"} and set(table["comparisons"]) == {1}


def test_without_the_full_method_nothing_is_compared(record):
    table = comparisons.table([changed(record, variant="no_gate")])
    text = repr(Summary([changed(record, variant="no_gate")]))
    assert table.empty and "Holm" not in text and re.search(r"\+\d+\.\d vs start$", text)
    with pytest.raises(DataError, match="no results to show"):
        comparisons.table([])


def test_methods_that_met_other_questions_are_left_out(record):
    other = changed(record, variant="no_gate")
    answers = other["test"]["after"]["answers"]
    other["test"]["after"]["answers"] = [[f"other/{id}", *rest] for id, *rest in answers]
    assert "no_gate" not in set(comparisons.table([record, other])["against"])


def test_the_summary_has_a_line_for_each_result_and_fits_into_a_terminal(record):
    text = repr(Summary([started(record, 4), changed(record, 22, 30, variant="no_gate")]))
    *_, configuration, heading, full, other, note = text.split("\n")
    assert configuration == "model simulated, sample data"
    assert heading == "sums: 30 questions"
    found = "  semantic gradient descent  13.3 → 80.0   [62.7, 90.5]  +66.7 vs start p<.001"
    assert full == found and len(found) == 78
    assert other.startswith("  without the gate ") and other.endswith(" -6.7 vs full  p=.500")
    assert "Holm" in note and max(map(len, text.split("\n"))) <= 78
    wide = Summary([record]).text(120)
    assert re.search(r"p<\.001 +\d+ calls +[\d,]+ tokens +\$0\.0000\n", wide)
    assert max(map(len, wide.split("\n"))) <= 120


def test_real_models_come_before_simulated_ones(record):
    real = changed(record, 24, 30, model="zeta", coach="zeta", simulated=False)
    text = repr(Summary([record, real]))
    assert text.index("\nmodel zeta, ") < text.index("\nmodel simulated, ")


def test_what_does_not_fit_on_a_screen_is_pooled(record):
    """Of 20 files in two groups the groups are shown; of many ways, all files together."""
    names = [f"file_{number}" for number in range(20)]
    files = [
        changed(record, 9, 10, experiment="bbh", task=f"bbh/{name}", group=group)
        for name, group in zip(names, ["nlp", "algorithmic"] * 10)
    ]
    shown = re.findall(r"^(.+): \d+ questions", repr(Summary(files)), re.MULTILINE)
    assert shown == ["BBH NLP", "BBH algorithmic", "BBH all"]
    several = [changed(each, variant=f"way {number}") for each in files for number in range(10)]
    assert re.findall(r"^(.+): \d+ questions", repr(Summary(several)), re.MULTILINE) == ["BBH all"]
    few = repr(Summary(files[:4]))
    assert "BBH file_0: 10 questions\n" in few and "BBH all: 40 questions in 4 files\n" in few


def test_the_summary_says_simulated_and_contaminated_and_shows_unknown_prices(record):
    simulated = "simulated model: these numbers say nothing about real models"
    assert simulated in repr(Summary([record])).split("\n")
    usage = [{**row, "cost": None} for row in record["usage"]]
    real = changed(record, model="gpt-x", coach="gpt-x", simulated=False, usage=usage)
    text = Summary([real]).text(120)
    assert "simulated" not in text and "price ?" in text and "contaminated" not in text
    text = repr(Summary([changed(record, overlap=True)]))
    assert "\nmodel simulated, sample data, contaminated test\n" in text
    assert "contaminated test: its accuracies are too high" in text
