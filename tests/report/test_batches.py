"""The list of batches, and the comparison of two."""

import json

import pytest
from test_results import record_of

from semback import DataError, ResponseCache, results
from semback.report import batches


@pytest.fixture
def two(task, own_home):
    """A batch, and another with the same run, in which the coach wrote another gradient."""
    record = record_of("first", task, cache=ResponseCache())
    record_of("second", task, cache=ResponseCache())
    folder, run = results.folder("second"), results.run_of(record)
    history = json.loads((folder / "history" / f"{run}.json").read_text())
    (example, messages), *_ = history["steps"][1]["messages"].items()
    (key, entry), *_ = [
        pair for pair in ResponseCache().entries() if messages[0][2] in pair[1]["reply"]["text"]
    ]
    messages[0][2] = "Say more."
    (folder / "history" / f"{run}.json").write_text(json.dumps(history))
    responses = folder / "responses" / f"{run}.txt"
    responses.write_text(responses.read_text().replace(f"{key}\n", ""))
    record["settings"]["steps"] = 9
    answer = record["test"]["after"]["answers"][0]
    record["test"]["after"]["correct"] += 1 - 2 * answer[2]
    answer[1:] = "none", not answer[2]
    (folder / "results" / f"{run}.json").write_text(json.dumps(record))
    return run, key, example, messages[0], answer


def test_two_batches_are_compared_question_by_question_up_to_the_recording_that_differs(two):
    run, key, example, (source, target, _), (question, _, right) = two
    first, name, same, only, settings, last = batches.side_by_side("first", "second").split("\n")
    assert first == "1 of 1 runs of first are also in second" and name == run
    (record,) = results.load("first")
    count = record["test"]["after"]["questions"]
    assert same.startswith(f"  {count - 1} of {count} answers are the same; ")
    assert only == f"  1 correct only in {'second' if right else 'first'}: {question}"
    assert settings == "  steps: 2 in first, 9 in second"
    where = f"step 1, the gradient of {target} from {source}, {example}"
    assert last == f"  they first differ in {where} (semback cache show {key[:12]})"


def test_a_batch_does_not_differ_from_itself(two):
    *_, same, last = batches.side_by_side("first", "first").split("\n")
    assert "answers are the same" in same
    assert last == "  no training reply differs; 0 recordings belong to one only"
    with pytest.raises(DataError, match="there are no results in"):
        batches.side_by_side("first", "third")


def test_each_batch_is_a_line(two, monkeypatch, own_home):
    monkeypatch.chdir(own_home)
    first, second = batches.listing().split("\n")
    assert first.split()[:4] == ["first", "1", "runs", "simulated"] and "second" in second
    assert first.endswith("runs/first/index.html")
