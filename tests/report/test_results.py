"""Records and tables: saved and read exactly, damage named, and nothing pooled that differs."""

import asyncio
import copy
import json
import re
from dataclasses import replace

import pytest
from pydantic import ValidationError

from semback import LLM, DataError, Language, ParameterError, descend, evaluate, results
from semback.prompts import digest
from semback.report import records
from semback.run import Run, Score, Scores, Step, wilson
from semback.tasks import gsm8k


def record_of(
    name, task, experiment="sums", variant="full", group="", seed=0, data="sample", **model
):
    """Run a small descent with the simulated model, save its record and return it."""

    async def run():
        llm = LLM.simulated(task, **model)
        lang = Language(llm, llm)
        done = await descend(task, lang, steps=2, seed=seed)
        before, after = (
            await evaluate(task.graph, task.test, task, lang),
            await evaluate(done.graph, task.test, task, lang),
        )
        return results.save(name, experiment, variant, data, task, done, before, after, group)

    return json.loads(asyncio.run(run()).read_text(encoding="utf-8"))


def changed(record, correct=None, questions=None, trained=None, **parts):
    """A copy of a record with another test score after the descent (the first `correct` answers are
    correct), another number of training questions, or other parts."""
    record = (
        copy.deepcopy(record) | parts | {"settings": record["settings"] | parts.get("settings", {})}
    )
    if trained is not None:
        record["train"][0]["questions"] = trained
    if correct is not None:
        questions = questions or record["test"]["after"]["questions"]
        ids = [id for id, *_ in record["test"]["before"]["answers"]] + [
            f"more/{number}" for number in range(questions)
        ]
        answers = [[id, "", number < correct] for number, id in enumerate(ids[:questions])]
        record["test"]["after"] |= {"questions": questions, "correct": correct, "answers": answers}
    return record


def row(table, result, variant="full"):
    found = table[(table["result"] == result) & (table["variant"] == variant)]
    assert len(found) == 1
    return found.iloc[0]


@pytest.fixture
def record(task):
    return record_of("trial", task)


def test_what_is_saved_is_loaded(record):
    assert json.loads(json.dumps(results.load("trial"))) == [record]


def test_the_responses_of_each_run_are_known(record):
    ((run, keys),) = results.responses("trial").items()
    assert run == results.run_of(record) == "sums-full-seed0-simulated"
    assert (
        keys == sorted(set(keys))
        and len(keys) <= sum(row["calls"] for row in record["usage"])
        and len(keys[0]) == 64
    )
    assert results.responses("nothing") == {}


def test_a_batch_without_results_is_one_clear_error():
    with pytest.raises(DataError, match="semback run --name nothing"):
        results.load("nothing")
    for make in (results.frame, results.steps, results.table):
        with pytest.raises(DataError, match="no results to show"):
            make([])


def test_a_file_that_is_no_record_is_named(record):
    (results.folder("trial") / "results" / "other.json").write_text('{"test": {}}')
    with pytest.raises(
        DataError, match="other.json is not the record of a run: experiment: Field required"
    ):
        results.load("trial")


def damaged(data):
    """(path of keys, data) for each way to remove a part of plain data or to replace it; of lists
    the first two."""
    for key in list(data) if isinstance(data, dict) else range(len(data))[:2]:
        yield (
            [key],
            [part for place, part in enumerate(data) if place != key]
            if isinstance(data, list)
            else {other: part for other, part in data.items() if other != key},
        )
        for other in (None, "zz", -1):
            whole = copy.copy(data)
            whole[key] = other
            yield [key, other], whole
        if isinstance(data[key], dict | list):
            for path, part in damaged(data[key]):
                whole = copy.copy(data)
                whole[key] = part
                yield [key, *path], whole


@pytest.mark.slow
def test_every_kind_of_damage_is_found_when_a_record_is_read(record):
    ways, refused = list(damaged(record | {"instructions": {}, "usage": record["usage"][:1]})), 0
    for path, data in ways:
        try:
            records.RECORD.validate_json(json.dumps(data), strict=True)
        except ValidationError:
            refused += 1
        else:
            assert results.table([data])["after"].notna().all() and len(results.steps([data])), path
    assert 100 < refused < len(ways)


@pytest.mark.parametrize(
    "change, problem",
    [
        (
            lambda data: data["test"]["after"].update(correct=999),
            r"test\.after: .*999 correct, but \d+ of its answers are",
        ),
        (
            lambda data: data["test"]["before"]["answers"].pop(),
            r"test\.before: .*12 questions, but answers to 11",
        ),
        (lambda data: data["train"][0].update(accepted=False), r"train: .*no step 0"),
        (lambda data: data["train"].clear(), r"train: .*no step 0"),
        (lambda data: data["train"][0].update(correct=999), r"step 0: 999 of 12 are correct"),
        (lambda data: data["train"][0].update(correct=None), r"without being evaluated"),
        (lambda data: data.pop("seed"), r"seed: Field required"),
        (lambda data: data["usage"][1].update(calls="1"), r"usage\.1\.calls: .*integer"),
    ],
)
def test_a_record_that_no_run_can_have_is_an_error_that_names_file_and_place(
    record, change, problem
):
    (path,) = (results.folder("trial") / "results").iterdir()
    change(record)
    path.write_text(json.dumps(record))
    message = rf"{re.escape(str(path))} is not the record of a run: .*{problem}.*move it away"
    with pytest.raises(DataError, match=message) as error:
        results.load("trial")
    assert error.value.file == path


@pytest.mark.parametrize("text", ["", '{"experiment":', "[" * 100_000, "\xff"], ids=[*"abcd"])
def test_a_damaged_record_is_an_error_that_names_file_and_line(record, text):
    (path,) = (results.folder("trial") / "results").iterdir()
    path.write_bytes(text.encode("latin-1"))
    with pytest.raises(DataError, match="full-seed0-simulated.json is .*Invalid JSON.* line 1"):
        results.load("trial")


@pytest.mark.parametrize("make", [results.frame, results.steps, results.table])
def test_the_name_of_a_batch_is_no_records(make):
    with pytest.raises(ParameterError, match=r"of type str; .* sb.results.load\(name\) reads"):
        make("trial")


@pytest.mark.parametrize(
    "wrong, said",
    [
        ({"task": None}, "task is of type NoneType; it takes a Task"),
        ({"variant": 5}, "variant is of type int; it takes a text"),
        ({"run": 5}, "it takes a Run"),
        ({"after": None}, "after .* it takes Scores"),
        ({"name": "n" * 300}, "a batch cannot be called"),
        ({"task": gsm8k(train=2)}, "did not start from the graph of the task 'gsm8k'"),
    ],
    ids=[*"abcdef"],
)
def test_another_thing_to_save_is_a_parameter_error(task, wrong, said):
    step = Step(task.graph, scores := Scores((Score("a", "1", "1", True),)), accepted=True)
    given = {
        "name": "trial",
        "experiment": "sums",
        "variant": "full",
        "data": "sample",
        "task": task,
        "before": scores,
        "after": scores,
        "run": Run("sums", "simulated", "simulated", {"seed": 0}, (step,), "done"),
    }
    assert results.save(**given).is_file()
    with pytest.raises(ParameterError, match=said):
        results.save(**given | wrong)


def test_a_long_name_has_a_file_and_another_long_name_another(task):
    for end in "ab":
        record_of("trial", replace(task, name="ü" * 200 + end))
    assert len(results.load("trial")) == 2


def test_frame_has_a_row_for_each_stage(record):
    frame = results.frame([record])
    assert list(frame["stage"]) == ["before", "after"]
    assert list(frame["correct"]) == [record["test"][stage]["correct"] for stage in frame["stage"]]
    assert (frame["accuracy"] == frame["correct"] / frame["questions"]).all()
    assert ((frame["low"] <= frame["accuracy"]) & (frame["accuracy"] <= frame["high"])).all()
    assert set(frame["method"]) == {"semantic gradient descent"} and frame["simulated"].all()


def test_frame_counts_every_call_once(record):
    assert results.frame([record])["calls"].sum() == sum(row["calls"] for row in record["usage"])


def test_the_same_run_twice_is_an_error(record):
    with pytest.raises(DataError, match="same run.*variant full.*seed 0"):
        results.frame([record, copy.deepcopy(record)])


def test_steps_follow_the_accepted_graph(record):
    train = [
        {"step": 0, "questions": 10, "correct": 4, "accepted": True, "kept": {}},
        {"step": 1, "questions": 10, "correct": 3, "accepted": False, "kept": {}},
        {
            "step": 2,
            "questions": 10,
            "correct": None,
            "accepted": False,
            "kept": {"answer": "the new one could not be read"},
        },
        {"step": 3, "questions": 10, "correct": 7, "accepted": True, "kept": {}},
    ]
    steps = results.steps([changed(record, train=train)])
    assert list(steps["current"]) == [0.4, 0.4, 0.4, 0.7]
    assert list(steps["accuracy"].isna()) == [False, False, True, False]
    assert steps["kept"][2] == "answer: the new one could not be read"


def test_groups_are_pooled_over_the_questions_of_their_files(record):
    files = [
        changed(record, 9, 10, experiment="bbh", task="bbh/snarks", group="nlp"),
        changed(record, 10, 100, experiment="bbh", task="bbh/hyperbaton", group="nlp"),
        changed(record, 50, 50, experiment="bbh", task="bbh/navigate", group="algorithmic"),
    ]
    table = results.table(files)
    pooled = row(table, "BBH NLP")
    assert pooled["after"] == 19 / 110 and (pooled["low"], pooled["high"]) == wilson(19, 110)
    assert pooled["files"] == 2 and pooled["questions"] == 110
    assert row(table, "BBH all")["after"] == 69 / 160
    assert row(table, "BBH snarks")["questions"] == 10


def test_no_result_stands_in_a_table_twice(record):
    snarks, hyperbaton, navigate = (
        changed(record, 9, 10, experiment="bbh", task=f"bbh/{name}", group=group)
        for name, group in (("snarks", "nlp"), ("hyperbaton", "nlp"), ("navigate", "algorithmic"))
    )
    for ran, names in (
        ([snarks], ["BBH snarks"]),
        ([snarks, hyperbaton], ["BBH hyperbaton", "BBH snarks", "BBH NLP"]),
        ([snarks, navigate], ["BBH snarks", "BBH navigate", "BBH all"]),
    ):
        assert list(results.table(ran)["result"]) == names


SENT = {"temperature": 0, "top_p": 1, "max_tokens": 1024}
OTHER = [
    ({"overlap": True}, "", "contaminated test"),
    ({"settings": {"steps": 9}}, "steps 2", "steps 9"),
    (
        {"settings": {"prompts": "1a2b3c4d", "short": True}},
        "short false, prompts " + digest(),
        "short true, prompts 1a2b3c4d",
    ),
    ({"settings": {"test questions": 5}}, "test questions not set", "test questions 5"),
    ({"trained": 5}, "training questions 12", "training questions 5"),
    (
        {"params": {"model": SENT, "coach": {"temperature": 0.5, "max_tokens": 1024}}},
        "coach temperature 0, coach top_p 1",
        "coach temperature 0.5, coach top_p not set",
    ),
]


@pytest.mark.parametrize(
    "other, label, other_label",
    OTHER,
    ids=["split", "steps", "prompts", "test", "training", "requests"],
)
def test_results_with_other_settings_are_never_pooled(record, other, label, other_label):
    one = changed(record, 9, 10, experiment="bbh", task="bbh/snarks", group="nlp")
    two = changed(record, 5, 10, experiment="bbh", task="bbh/hyperbaton", group="nlp", **other)
    table = results.table([one, two])
    assert (
        set(table["result"]) == {"BBH snarks", "BBH hyperbaton"}
        and table["settings"].nunique() == 2
    )
    assert dict(zip(table["result"], table["settings"])) == {
        "BBH snarks": label,
        "BBH hyperbaton": other_label,
    }
    again = changed(
        record, 5, 10, experiment="bbh", task="bbh/snarks", group="nlp", seed=1, **other
    )
    assert list(results.table([one, again])["seeds"]) == [1, 1]
    assert results.table([one, one | {"task": "bbh/hyperbaton"}])["settings"].unique().tolist() == [
        ""
    ]


def test_what_a_variant_is_about_is_no_other_configuration(record):
    one, other = (
        changed(record, 9, 10),
        changed(record, 5, 10, variant="comments", settings={"feedback": "comment"}),
    )
    assert results.table([one, other])["settings"].tolist() == ["", ""]
    third = changed(record, 5, 10, variant="comments", seed=1, settings={"feedback": "target"})
    assert set(results.table([one, other, third])["settings"]) == {
        "feedback target",
        "feedback comment",
    }
    ours = changed(
        record, 5, 10, variant="no_gate", settings={"feedback": "comment", "gate": False}
    )
    assert set(results.table([one, ours])["settings"]) == {
        "feedback target",
        "feedback comment",
    }, "no_gate is about the gate only"


def test_a_record_says_how_its_run_was_made(record):
    assert (
        record["overlap"] is False
        and record["params"] == {"model": SENT, "coach": SENT}
        and record["settings"]["steps"] == 2
    )
    assert record["settings"]["prompts"] == digest()


def test_prompts_of_ones_own_are_told_by_what_they_say(tmp_path):
    digests = [digest(None), digest(tmp_path)]
    for text in ("one", "two", "one"):
        (tmp_path / "forward.j2").write_text(text)
        digests.append(digest(tmp_path))
    assert digests[0] == digests[1], "a folder without templates replaces none"
    assert len(set(digests)) == 3 and digests[2] == digests[4]


def test_a_rerun_with_other_settings_replaces_its_record(task):
    record_of("trial", task)
    released = record_of("trial", replace(task, overlap=True))
    assert json.loads(json.dumps(results.load("trial"))) == [released] and results.table(
        [released]
    )["settings"].tolist() == ["contaminated test"]


def test_only_a_trial_on_some_test_questions_has_their_number_in_its_record(record, task):
    trial = record_of("trial", replace(task, only=5))
    assert trial["settings"] == record["settings"] | {"test questions": 5}
    assert "test questions" not in record["settings"]
    assert trial["test"]["after"]["questions"] == 5


def test_several_seeds_have_an_interval_over_seeds(record):
    seeds = [
        changed(record, correct, 10, seed=seed) for seed, correct in enumerate((5, 6, 7, 8, 9))
    ]
    found = row(results.table(seeds), "sums")
    assert (
        found["interval"] == "t over 5 seeds" and found["seeds"] == 5 and found["questions"] == 10
    )
    assert (
        found["after"] == pytest.approx(0.7)
        and found["low"] == pytest.approx(0.7 - 2.776 * 0.0707, abs=1e-4)
        and found["high"] == pytest.approx(0.7 + 2.776 * 0.0707, abs=1e-4)
    )
    assert results.table(seeds[::-1]).equals(results.table(seeds))


def test_seeds_that_agree_have_the_interval_of_the_questions(record):
    found = row(results.table([changed(record, 8, 10, seed=seed) for seed in range(3)]), "sums")
    assert found["interval"] == "Wilson over questions" and (found["low"], found["high"]) == wilson(
        8, 10
    )


def test_a_group_compares_the_same_files_in_every_seed(record):
    files = [
        changed(record, 8, 10, experiment="bbh", task=f"bbh/{name}", group="nlp", seed=seed)
        for name, seed in (("snarks", 0), ("hyperbaton", 0), ("snarks", 1))
    ]
    found = row(results.table(files), "BBH NLP")
    assert found["files"] == 2 and found["seeds"] == 1 and found["questions"] == 20


def test_models_data_and_variants_are_never_pooled(record):
    others = [
        changed(record),
        changed(record, model="gpt-x"),
        changed(record, coach="gpt-y"),
        changed(record, data="full"),
        changed(record, variant="no_gate"),
        changed(record, variant="only_hint_2"),
    ]
    table = results.table(others)
    assert len(table) == 6 and set(table["seeds"]) == {1}
    assert "only hint_2" in set(table["method"])


def test_the_papers_experiments_and_variants_come_in_their_order(record):
    records = [
        changed(record, experiment=experiment, task=experiment, variant=variant)
        for experiment in ("other", "liar", "gsm8k")
        for variant in ("only_answer", "only_hint_1", "no_gate", "no_gradient", "full")
    ]
    table = results.table(records)
    assert list(dict.fromkeys(table["result"])) == ["GSM8K", "LIAR", "other"]
    assert list(table["variant"][:5]) == [
        "full",
        "no_gradient",
        "no_gate",
        "only_answer",
        "only_hint_1",
    ]


def test_a_rerun_writes_the_same_bytes(task):
    record_of("one", task)
    record_of("two", task)
    one, two = (
        next((results.folder(name) / "results").iterdir()).read_bytes() for name in ("one", "two")
    )
    assert one == two


def test_tasks_with_other_names_have_their_own_rows(task):
    records = [
        record_of("trial", replace(task, name=name), experiment="mine")
        for name in ("mine/first", "mine/second")
    ]
    assert list(results.table(records)["result"]) == ["mine first", "mine second"]
