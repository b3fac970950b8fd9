"""The simulated student: the same everywhere, called simulated, taught best by the whole method."""

import asyncio
import io
import json
from dataclasses import replace
from itertools import islice
from pathlib import Path

import pytest
import zstandard

from semback import (
    LLM,
    Example,
    Language,
    ModelError,
    ParameterError,
    backward,
    descend,
    evaluate,
    forward,
    model,
    models,
    tasks,
)
from semback.llm.simulated import SKILLS, Prompt, Student, dice, scripted

RECORDING = Path(__file__).parents[2] / "cache" / "recordings" / "demo.jsonl.zst"


def language(task, **settings):
    student = LLM.simulated(task)
    return Language(student, student, **settings)


def test_the_same_prompt_has_the_same_reply_from_any_student_of_the_name_and_task(task):
    def values(**settings):
        lang = Language(LLM.simulated(task, **settings), LLM.simulated(task))
        return [asyncio.run(forward(task.graph, example, lang)).values for example in task.test]

    assert values() == values() == values(in_flight=1) and values() != values(name="simulated-2")


def test_replies_are_those_of_the_recording_that_ships():
    files = ("boolean_expressions", "date_understanding", "object_counting")
    students, owners = {}, {}
    made = [tasks.gsm8k(train=20), tasks.liar(train=20), *map(tasks.bbh, files)]
    for task in made:
        students[task.name] = LLM.simulated(task)
        owners |= {example.question: task.name for example in (*task.train, *task.test)}

    async def same(entry):
        questions = Prompt.of(entry["request"]["messages"]).texts("question")
        if not questions:  # from the optimiser of another library
            return
        student = students[owners[questions[0]]]
        reply = await student.chat(entry["request"]["messages"])
        assert reply.text == entry["reply"]["text"]
        assert reply.usage == entry["reply"]["usage"]

    async def all_same(lines):
        await asyncio.gather(*(same(json.loads(line)) for line in lines))

    with RECORDING.open("rb") as file:
        text = io.TextIOWrapper(zstandard.ZstdDecompressor().stream_reader(file), "utf-8")
        asyncio.run(all_same(islice(text, 0, None, 40)))


def test_its_name_begins_with_simulated_and_model_takes_other_names_for_real_ones(task):
    with pytest.raises(ParameterError, match="'simulated'.*'gpt-4'"):
        LLM.simulated(task, name="gpt-4")
    with pytest.raises(ModelError, match="gpt-4.*OPENAI_API_KEY"):
        asyncio.run(model("gpt-4", task).chat([{"role": "user", "content": "Hello."}]))
    reply = asyncio.run(model("simulated-b", task).chat([{"role": "user", "content": "Hello."}]))
    assert reply.model == "simulated-b" and reply.text and reply.usage["prompt_tokens"] > 0


def test_it_answers_also_where_instructions_are_in_the_user_s_message():
    task = tasks.bbh("boolean_expressions")
    answering, coach = models("simulated", "simulated", task, system="user")
    scores = asyncio.run(evaluate(task.graph, task.test, task, Language(answering, coach)))
    assert scores.unreadable == 0 and 0 < scores.accuracy < 1


@pytest.mark.parametrize("wrong", [None, "x", 5], ids=str)
def test_what_is_not_a_task_is_a_parameter_error(wrong):
    with pytest.raises(ParameterError, match="it takes a Task"):
        LLM.simulated(wrong)


@pytest.mark.parametrize("wrong", [None, 5], ids=str)
def test_what_is_not_a_name_is_a_parameter_error(wrong, task):
    for make in (lambda: LLM.simulated(task, name=wrong), lambda: model(wrong, task)):
        with pytest.raises(ParameterError, match=str(wrong)):
            make()


def skills(text):
    return frozenset(words for words in SKILLS.values() if words in text)


@pytest.mark.parametrize("neighbourhood", [True, False])
def test_inputs_judged_together_get_different_skills_and_alone_the_same(task, neighbourhood):
    async def judged():
        lang = language(task, neighbourhood=neighbourhood)
        traces = [await forward(task.graph, example, lang) for example in (*task.train, *task.test)]
        return [await backward(trace, task.feedback(task.train[0]), lang) for trace in traces]

    found = asyncio.run(judged())
    same = sum(skills(each["hint_1"]) == skills(each["hint_2"]) for each in found)
    if neighbourhood:  # the student misjudges now and then
        assert same < len(found) / 3
    else:
        assert same > len(found) / 2


def test_feedback_that_asks_for_no_change_names_no_skill(task):
    async def named(feedback):
        lang = language(task)
        traces = [await forward(task.graph, example, lang) for example in (*task.train, *task.test)]
        gradients = [await backward(trace, feedback, lang) for trace in traces]
        hints = [each[name] for each in gradients for name in ("hint_1", "hint_2")]
        return sum(1 for hint in hints if skills(hint))

    assert asyncio.run(named("It should have been: 7")) > 30  # of 36
    assert asyncio.run(named("It was right, all of it.")) < 12  # it misjudges now and then


def test_a_model_that_is_never_readable_ends_in_counted_failures_and_accuracy_0(task):
    mute = scripted("simulated-mute", lambda messages: "I would rather not commit myself.")
    run = asyncio.run(descend(task, Language(mute, mute), steps=2))
    assert run.graph == task.graph and [step.accepted for step in run.steps] == [True, False, False]
    assert run.steps[0].scores.accuracy == 0 and run.steps[0].scores.unreadable == 12
    assert {failure["phase"] for failure in run.usage.failures} == {"forward", "backward", "update"}
    assert set(run.steps[1].kept) == set(task.graph.order)


def test_a_model_that_is_unreadable_now_and_then_still_gives_a_run(task):
    student = Student(task, "simulated")

    def shaky(messages):
        return student.reply(messages) if dice(messages) > 0.2 else "I would rather not."

    llm = scripted("simulated", shaky)
    run = asyncio.run(descend(task, Language(llm, llm), steps=2, gate=False))
    assert 0 < len(run.usage.failures) and 0 < run.steps[0].scores.correct < 12


@pytest.mark.slow
def test_the_whole_method_beats_what_is_left_without_gradients_or_neighbourhood(task, cache):
    """Over four students; the dice are fixed, so this holds for them alone."""
    examples = [
        Example(f"sum/{i}", f"What is {i} + {i * 7 % 11}?", str(i + i * 7 % 11)) for i in range(24)
    ]
    larger = replace(task, train=examples, test=())

    async def correct(number, **settings):
        student = LLM.simulated(larger, cache, name=f"simulated-{number}")
        run = await descend(larger, Language(student, student, **settings), steps=3, seed=number)
        return max(step.scores.correct for step in run.steps if step.accepted)

    async def total(**settings):
        return sum([await correct(number, **settings) for number in range(4)])

    full, alone, blind = (
        asyncio.run(total(**settings))
        for settings in ({}, {"neighbourhood": False}, {"gradient": False})
    )
    assert full > alone and full > blind
