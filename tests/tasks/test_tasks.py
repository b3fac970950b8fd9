"""The three tasks: what they hold, how they are split, and their errors."""

import os
from dataclasses import replace
from functools import partial

import pytest

from semback import tasks
from semback.errors import DataError, ParameterError
from semback.graph import Graph, Node
from semback.tasks import Example, Task
from semback.tasks import data as files

SAMPLE = ("boolean_expressions", "date_understanding", "object_counting")
GRAPH = Graph((Node("answer", "Answer."),))
full_data = pytest.mark.skipif(
    not os.environ.get("SEMBACK_DATA_DIR"),
    reason="SEMBACK_DATA_DIR is not set: the full data is not here",
)


def ids(examples):
    return [example.id for example in examples]


def test_the_names_are_functions():
    assert callable(tasks.bbh) and callable(tasks.gsm8k) and callable(tasks.liar)
    assert (
        len(tasks.NLP) == 12
        and len(tasks.ALGORITHMIC) == 15
        and len({*tasks.NLP, *tasks.ALGORITHMIC}) == 27
    )


@pytest.mark.parametrize(
    "make",
    [*(lambda c=c: tasks.bbh(c) for c in SAMPLE), tasks.gsm8k, tasks.liar],
    ids=[*SAMPLE, "gsm8k", "liar"],
)
def test_a_sample_task_reads_its_own_answers(make):
    task = make()
    assert task.train and task.test and make().train == task.train
    for example in task.train + task.test:
        for reply in (
            f"Answer: {example.answer}",
            f"I thought about it. So the answer is {example.answer}.",
        ):
            assert task.correct(task.read(reply), example), example.id
        assert example.answer in task.feedback(example)
    assert task.read("I do not know.") is None


def test_bbh_has_the_papers_graph_and_ids_of_file_and_row():
    task = tasks.bbh("boolean_expressions")
    assert task.name == "bbh/boolean_expressions"
    assert task.graph.order == ("hint_1", "hint_2", "answer") and task.graph["answer"].inputs == (
        "hint_1",
        "hint_2",
    )
    assert "True or False" in task.graph["answer"].form
    assert sorted(ids(task.train + task.test)) == sorted(
        f"boolean_expressions/{i}" for i in range(len(task.train + task.test))
    )


def test_the_split_is_by_seed_and_disjoint():
    task = tasks.bbh("object_counting", seed=3, train=5)
    assert len(task.train) == 5 and not set(ids(task.train)) & set(ids(task.test))
    assert ids(tasks.bbh("object_counting", seed=4, train=5).train) != ids(task.train)


def test_the_released_split_trains_on_the_same_rows_and_tests_on_some_of_them():
    clean, released = tasks.bbh("object_counting"), tasks.bbh("object_counting", split="released")
    assert (
        released.train == clean.train and len(released.test) == len(clean.test) and released.overlap
    )
    assert set(ids(released.train)) & set(ids(released.test))


@pytest.mark.parametrize(
    "make", [partial(tasks.bbh, "object_counting", seed=3), tasks.gsm8k, tasks.liar]
)
def test_a_cheap_trial_takes_the_first_test_questions_and_trains_on_the_same(make):
    whole, trial = make(train=5), make(train=5, test=4)
    assert trial.test == whole.test[:4] and trial.train == whole.train
    assert (trial.only, whole.only) == (4, None)
    assert make(train=5, test=len(whole.test)).test == whole.test
    assert replace(trial, train=whole.train[:2]).test == trial.test


def test_liar_shows_what_its_nodes_look_at_and_neither_speaker_nor_label_nor_past_counts():
    task = tasks.liar()
    assert task.graph.order == ("Statement", "Party", "Job title", "Source", "State", "Final")
    assert {task.graph[name].form for name in task.graph.order[:-1]} == {"At most two sentences."}
    for example in task.test:
        names = [line.split(":")[0] for line in example.question.split("\n")]
        assert names == ["Statement", "Job title", "State", "Party", "Source"]
    assert task.read("Yes") == "Yes" and task.read("Yesterday it was so") is None


@pytest.mark.parametrize(
    "call, message",
    [
        (lambda: tasks.bbh("snark"), "category='snark' does not exist; did you mean snarks"),
        (lambda: tasks.bbh("xyz"), "it is one of causal_judgement, "),
        (lambda: tasks.bbh("object_counting", split="dirty"), "it is one of clean, released"),
        (lambda: tasks.bbh("object_counting", data="web"), "data='web' does not exist"),
        (
            lambda: tasks.bbh("object_counting", train=10**6),
            r"a whole number from 1 to \d+; the data has \d+ usable rows",
        ),
        (lambda: tasks.gsm8k(train=0), "train is 0"),
        (lambda: tasks.gsm8k(train=True), "train is True"),
        (lambda: tasks.liar(train=10**6), r"the data has \d+ usable rows"),
        (lambda: tasks.liar(seed="1"), "seed is '1'; it takes a whole number"),
        (
            lambda: tasks.liar(test=0),
            r"'liar': only is 0; it takes a number of test questions from 1 to \d+",
        ),
        (lambda: tasks.gsm8k(test=10**6), r"'gsm8k': only is 1000000; it takes a number"),
        (
            lambda: tasks.bbh("object_counting", test=True),
            "only is True; it takes a number of test",
        ),
    ],
)
def test_a_bad_argument_is_one_clear_error(call, message):
    with pytest.raises(ParameterError, match=message):
        call()


def test_quotes_are_characters_and_hidden_rows_are_left_out(monkeypatch):
    def row(label, statement, party="none"):
        return "\t".join(
            [
                "1.json",
                label,
                statement,
                "topic",
                "who",
                "Mayor",
                "Ohio",
                party,
                "1",
                "2",
                "3",
                "4",
                "5",
                "a speech",
            ]
        )

    rows = [
        row("false", '"Half a quote', "democrat"),
        row("true", 'He said "so"', "green"),
        row("half-true", "x", "red"),
        row("true", "x"),
    ]
    monkeypatch.setattr(files, "text", lambda path, data: "\n".join(rows) + "\n")
    task = tasks.liar(train=2)
    assert {(e.id, e.question.split("\n")[0], e.answer) for e in task.train} == {
        ("liar/train/0", 'Statement: "Half a quote', "Yes"),
        ("liar/train/1", 'Statement: He said "so"', "No"),
    }


def test_an_id_is_used_once_unless_the_task_says_that_train_and_test_overlap():
    a, b = Example("a", "q", "1"), Example("b", "q", "2")
    with pytest.raises(DataError, match="train: two examples have the id 'a'"):
        Task("t", (a, a), (b,), GRAPH)
    with pytest.raises(DataError, match="1 examples are both in train and test, among them 'a'"):
        Task("t", (a,), (a, b), GRAPH)
    assert Task("t", (a,), (a, b), GRAPH, overlap=True).test == (a, b)
    with pytest.raises(DataError, match="test: two examples have the id 'b'"):
        Task("t", (a,), (b, b), GRAPH, overlap=True)


@pytest.mark.parametrize(
    "wrong, error, said",
    [
        (
            {"train": [Example("a", "1 + 1?", 2)]},
            DataError,
            "'a': the answer is 2, which is not text",
        ),
        ({"train": ["1 + 1?"]}, DataError, "not an Example"),
        ({"graph": None}, ParameterError, "graph is of type NoneType; it takes a Graph"),
        *(
            (
                {"feedback": lambda example, *, told=told: told},
                ParameterError,
                "feedback returned .* for 'a'; it must return text",
            )
            for told in (None, " ")
        ),
        ({"name": 5}, ParameterError, "name is of type int; it takes a text"),
        ({"name": ""}, ParameterError, "the name of a task is empty"),
        *(
            ({part: None}, ParameterError, f"{part} is of type NoneType; it takes Examples")
            for part in ("train", "test")
        ),
        (
            {"train": Example("a", "q", "1")},
            ParameterError,
            "train is of type Example; it takes Examples",
        ),
        (
            {"train": [Example(f"{i % 20_000}", "q", "1") for i in range(20_001)]},
            DataError,
            "train: two examples have the id '0'",
        ),
        ({"overlap": 5}, ParameterError, "overlap is of type int; it takes True or False"),
        ({"read": "number"}, ParameterError, "read is of type str; it takes a function"),
    ],
    ids=lambda given: str(given).split(" at 0x")[0][:60],
)
def test_a_task_of_other_things_is_an_error_that_names_them(wrong, error, said):
    with pytest.raises(error, match=said):
        Task(
            **{"name": "t", "train": [Example("a", "q", "1")], "test": [], "graph": GRAPH, **wrong}
        )


def test_a_task_says_how_many_test_questions_are_asked_in_training_too():
    task = Task(
        "t",
        [Example("a", "Same?", "1")],
        [Example("b", "Same?", "1"), Example("c", "Other?", "1")],
        GRAPH,
    )
    assert "test questions that are also in training: 1" in repr(task)


@full_data
def test_all_of_bbh_is_read_and_split_as_published():
    rows = overlap = 0
    for category in tasks.NLP + tasks.ALGORITHMIC:
        task, released = (
            tasks.bbh(category, data="full"),
            tasks.bbh(category, data="full", split="released"),
        )
        assert len(task.train) == 20
        rows += len(task.test)
        overlap += len(set(ids(released.train)) & set(ids(released.test)))
        for example in task.train + task.test:
            for reply in (
                "Answer: {}",
                "{}",
                "So the answer is {}.",
                "I see.\n\n**Answer:** {}",
                "The answer is {}.\n\nQ: Next?\nA: (C)",
            ):
                assert task.read(reply.format(example.answer)) == example.answer, (
                    example.id,
                    reply,
                )
    assert (rows, overlap) == (5_971, 489)


@full_data
def test_bbh_keeps_what_is_odd_in_it():
    task = tasks.bbh("causal_judgement", data="full")
    by_id = {example.id: example for example in task.train + task.test}
    for one, other in ((32, 119), (36, 104)):  # the same question with opposite answers
        one, other = by_id[f"causal_judgement/{one}"], by_id[f"causal_judgement/{other}"]
        assert one.question == other.question and one.answer != other.answer
    task = tasks.bbh("movie_recommendation", data="full")
    odd = next(e for e in task.train + task.test if e.id == "movie_recommendation/163")
    assert odd.answer == "Monsters, Inc"
    assert task.correct(task.read("The answer is Monsters, Inc."), odd) and not task.correct(
        task.read("The answer is (A)."), odd
    )


@full_data
def test_all_of_gsm8k_is_read():
    task = tasks.gsm8k(train=7_473, data="full")
    assert len(task.test) == 1_319 and len(tasks.gsm8k(data="full").train) == 128
    assert (
        any("\u2028" in e.question + e.answer for e in task.train)
        or "\u2028" in files.lines("gsm8k/train.jsonl", "full")[2381]
    )
    for example in task.train + task.test:
        assert (
            "," not in example.answer
            and task.read(f"So she has ${int(example.answer):,}.00 left.") == example.answer
        ), example.id


@full_data
def test_liar_has_the_published_counts():
    task = tasks.liar(train=2_343, data="full")
    assert (len(task.train), len(task.test)) == (2_343, 296)
    assert [sum(e.answer == "Yes" for e in part) for part in (task.train, task.test)] == [
        1_242,
        154,
    ]
    assert len(tasks.liar(data="full").train) == 50
