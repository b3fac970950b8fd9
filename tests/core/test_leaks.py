"""Leaks: what does not belong in an instruction is found, and little else."""

import asyncio
from dataclasses import replace

import pytest
from conftest import Script, gradients

from semback import Example, Language, ParameterError, Run, descend
from semback.leaks import Leaks

STORY = "Janet's ducks lay sixteen eggs per day and she eats three for breakfast every morning."


@pytest.fixture
def stories(task):
    answers = ["2125", "Yes", "Yes", "7", "the red falcon"]
    train = [Example(f"q/{i}", f"{STORY} Item {i}?", text) for i, text in enumerate(answers)]
    return replace(task, train=train)


@pytest.mark.parametrize(
    "instruction, found",
    [
        ("Follow the gradient of the answer.", "gradient"),
        ("Take the Feedback into account.", "Feedback"),
        ("Do as in example 2.", "example 2"),
        ("Avoid the mistakes of the examples above.", "the examples"),
        ("Avoid the mistakes of these two questions and previous examples.", "previous examples"),
        ("Improve on the last step.", "last step"),
        ("Write it in an instruction block.", "instruction block"),
        ("<instruction>Work it out.", "<instruction>"),
        ('Say more. </gradient to="a">', "</gradient"),
        ("The total is often 2125, so check it.", "2125"),
        ("Say that the red falcon won.", "the red falcon"),
        ("Remember: ducks lay sixteen eggs per day, and she eats some.", "ducks lay sixteen eggs"),
    ],
)
def test_a_leak_is_found_and_shown(stories, instruction, found):
    assert found in (Leaks(stories).find(instruction) or "")


@pytest.mark.parametrize(
    "instruction",
    [
        "Think step by step, and show each step.",
        "First list what is given. For example, units and prices.",
        "Answer Yes or No.",  # labels of many questions
        "Use at most 7 lines.",  # an answer of one character says nothing
        "Round to 21250.5 or 2,125 units; 12125 is not 2125.5 either.",
        "Count the ducks and the eggs that are left every morning.",
        "Solve the problem with the hints.",
        "Check the blocks of the tower from top to bottom. This step comes last.",
        "",
    ],
)
def test_what_belongs_in_an_instruction_is_no_leak(stories, instruction):
    assert Leaks(stories).find(instruction) is None


def test_a_long_number_of_a_training_question_is_a_leak(stories):
    train = [*stories.train, Example("q/5", "Today is January 28, 1954. Which day was it?", "(A)")]
    leaks = Leaks(replace(stories, train=train))
    assert "1954" in (leaks.find("One week before January 28, 1954 is January 21.") or "")
    assert leaks.find("Count back 28 days from the date, and mind leap years such as 1956.") is None


def test_what_the_start_graph_says_is_no_leak(stories):
    graph = stories.graph.with_instructions({"hint_1": "Use the feedback of the user, 2125 times."})
    leaks = Leaks(replace(stories, graph=graph))
    assert leaks.find("Use the feedback of the user, and 2125.") is None
    assert leaks.find("Use the gradient.")


def coach(instructions):
    """A model that answers nothing correctly and proposes these instructions one by one."""
    left = list(instructions)

    def says(body):
        user = body["messages"][1]["content"]
        if reply := gradients(user, "More care."):
            return reply
        if "<instruction>" in user:
            text = left.pop(0) if len(left) > 1 else left[0]
            return f"<instruction>\n{text}\n</instruction>"
        return "Answer: 999"

    return Script(says)


def run(task, script, **settings):
    model = script.llm(in_flight=1)
    lang = Language(model, model)
    return asyncio.run(descend(task, lang, steps=1, trainable=["hint_1"], **settings))


def test_leaks_are_counted_in_the_run_and_taken(task, tmp_path):
    result = run(task, coach(["Mind the feedback."]))
    assert "feedback" in result.steps[1].leaks["hint_1"]
    assert result.steps[1].candidate["hint_1"].instruction == "Mind the feedback."
    assert result.leaks == result.to_frame().loc[1].leaks == 1
    result.save(tmp_path / "run.json")
    assert Run.load(tmp_path / "run.json") == result
    assert "leaks" not in run(task, coach(["Mind the sum."])).to_dict()["steps"][1]


def test_a_leak_is_asked_about_once_more_where_it_is_to_be_rejected(task):
    script = coach(["Mind the feedback.", "Mind the sum."])
    result = run(task, script, leaks="reject")
    assert result.steps[1].candidate["hint_1"].instruction == "Mind the sum."
    assert not result.to_frame()["leaks"].any()
    (objection,) = [body for body in script.asked if "speaks of 'feedback'" in str(body)]
    assert objection["messages"][-2]["role"] == "assistant"
    assert result.settings["leaks"] == "reject"


def test_a_second_leak_keeps_the_old_instruction(task):
    result = run(task, coach(["Mind the feedback.", "Mind the gradient."]), leaks="reject")
    step = result.steps[1]
    assert step.candidate == task.graph and step.scores is None
    assert "leaks" in step.kept["hint_1"] and "gradient" in step.leaks["hint_1"]


def test_another_word_for_leaks_is_refused(task):
    with pytest.raises(ParameterError, match="leaks='drop'"):
        run(task, coach(["Mind the sum."]), leaks="drop")
