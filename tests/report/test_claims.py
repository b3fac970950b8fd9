"""The claims of the abstract: only real models count, and few questions tell nothing."""

import json

import pytest
from test_comparisons import started
from test_results import changed, record_of

from semback import results
from semback.report import claims


@pytest.fixture
def record(task):
    return record_of("trial", task)


def real(record, correct, questions, start, **parts):
    """A record of GSM8K with a real model: right answers of the start graph, and after training."""
    whole = {"experiment": "gsm8k", "task": "gsm8k", "model": "qwen", "coach": "large"}
    record = changed(record, correct, questions, **whole, simulated=False, **parts)
    return started(record, start)


def verdicts(*records):
    """The verdicts by claim."""
    table = claims.table(records)
    return dict(zip(table["claim"], table["verdict"]))


IMPROVES, BETTER, *_ = (each.text for each in claims.CLAIMS if each.experiment == "gsm8k")


def test_a_claim_that_was_not_run_with_a_real_model_cannot_be_told(record):
    none = "cannot be told: not run with a real model"
    found = verdicts(changed(record, experiment="gsm8k", task="gsm8k"))
    assert set(found.values()) == {none} and len(found) == len(claims.CLAIMS)


def test_many_questions_confirm_and_few_cannot_tell(record):
    assert verdicts(real(record, 280, 300, 200))[IMPROVES] == "confirmed with this seed"
    few = verdicts(real(record, 7, 10, 5))[IMPROVES]
    assert few.startswith("cannot be told: 10 questions are too few")


def test_a_start_graph_that_stayed_is_not_compared_with_itself(record):
    same = {name: (old, old) for name, (old, _) in record["instructions"].items()}
    stayed = real(record, 5, 10, 5, instructions=same)
    assert verdicts(stayed)[IMPROVES] == claims.STAYED


def test_every_model_has_its_own_calls_and_verdict(record):
    same = {name: (old, old) for name, (old, _) in record["instructions"].items()}
    one = real(record, 280, 300, 200)
    other = real(record, 5, 10, 5, instructions=same) | {"model": "llama", "usage": []}
    rows = claims.table([one, other]).set_index(["claim", "model"])
    calls = sum(row["calls"] for row in record["usage"])
    assert rows.loc[(IMPROVES, "qwen"), ["calls", "verdict"]].tolist() == [
        calls,
        "confirmed with this seed",
    ]
    assert rows.loc[(IMPROVES, "llama"), ["calls", "verdict"]].tolist() == [0, claims.STAYED]


def test_a_result_that_is_worse_is_not_confirmed(record):
    assert verdicts(real(record, 200, 300, 280))[IMPROVES].startswith("not confirmed")


def test_better_than_all_others_wants_every_comparison(record):
    full = real(record, 280, 300, 200)
    worse, same = (
        real(record, correct, 300, 200, variant=peer, settings={"method": peer})
        for peer, correct in (("textgrad", 200), ("copro", 279))
    )
    assert verdicts(full, worse)[BETTER] == "confirmed with this seed"
    assert verdicts(full, worse, same)[BETTER] == "cannot be told for all of them"


def test_the_page_of_claims_names_what_the_paper_reported_and_no_simulated_number(record):
    path = results.folder("other") / "results" / "gsm8k.json"
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps(real(record, 280, 300, 200)))
    text = claims.markdown("trial", "other")
    rows = [line for line in text.splitlines() if line.startswith("| ")]
    assert len(rows) == 1 + len(claims.CLAIMS)
    assert "`semback claims trial other`" in text and "confirmed with this seed" in text
    assert "(not verified)" in text and "simulated" not in text.replace("No simulated number", "")
