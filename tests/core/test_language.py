"""Language: what the prompts hold, how strictly replies are read, and what a failure costs."""

import asyncio
import dataclasses
import re

import pytest
from conftest import Script
from hypothesis import example, given
from hypothesis import strategies as st

from semback import LLM, Language, Node, ParameterError, Reply
from semback.language import CUT, Case, _blocks

ANSWER = Node("answer", "Solve it.", ("hint_1", "Job title"), form="End with a number.")
INPUTS = {"hint_1": "It is odd.", "Job title": "It is even."}
GOOD = (
    '<gradient to="hint_1">\nBe brief.\n</gradient>\n'
    '<gradient to="Job title">\nBe long.\n</gradient>'
)
CASE = Case("What?", INPUTS, "Five.", "It should be six.")


def language(model="Five.", coach=GOOD, **settings):
    """A Language, and the scripts of its model and of its coach."""
    model, coach = Script(model), Script(coach)
    return Language(model.llm("model"), coach.llm("coach"), **settings), model, coach


def judge(
    lang, node=ANSWER, question="What?", inputs=INPUTS, output="Five.", gradient="It should be six."
):
    return asyncio.run(lang.backward(node, question, inputs, output, gradient))


def update(lang, *cases, node=ANSWER):
    return asyncio.run(lang.update(node, cases or (CASE,)))


def prompt(body):
    return "\n".join(message["content"] for message in body["messages"])


def fenced(text):
    """What Markdown takes for data: (label, text) of every fence, and the text outside."""
    fences = re.compile(r"^(`{3,})([^\n`]*)\n(.*?)\n\1$", re.DOTALL | re.MULTILINE)
    return [(label, data) for _, label, data in fences.findall(text)], fences.sub("", text)


# What the prompts hold


def test_forward_shows_instruction_form_question_and_inputs_and_gives_the_whole_reply():
    lang, model, coach = language("\nIt is five.\nAnswer: 5\n")
    assert asyncio.run(lang.forward(ANSWER, "What?", INPUTS)) == "It is five.\nAnswer: 5"
    system, user = model.asked[0]["messages"]
    assert (
        system == {"role": "system", "content": "Solve it.\n\nEnd with a number."}
        and user["role"] == "user"
    )
    assert fenced(user["content"])[0] == [
        ("question", "What?"),
        ("from hint_1", "It is odd."),
        ("from Job title", "It is even."),
    ]
    assert not coach.asked and lang.usage.failures == []


def test_a_value_that_is_missing_is_said_to_be_missing_and_is_never_an_empty_text():
    lang, model, coach = language()
    asyncio.run(lang.forward(ANSWER, "What?", {"hint_1": None, "Job title": "It is even."}))
    judge(lang, inputs={"hint_1": None, "Job title": "It is even."}, output=None)
    assert "hint_1 gave no answer" in prompt(model.asked[0])
    assert "hint_1 was not available" in prompt(coach.asked[0]) and "It gave no answer" in prompt(
        coach.asked[0]
    )
    assert "None" not in prompt(model.asked[0]) + prompt(coach.asked[0])


def test_with_the_neighbourhood_one_call_sees_all_inputs_and_gives_one_gradient_each():
    lang, model, coach = language()
    assert (
        judge(lang) == {"hint_1": "Be brief.", "Job title": "Be long."}
        and len(coach.asked) == 1
        and not model.asked
    )
    data, words = fenced(coach.asked[0]["messages"][1]["content"])
    assert data == [
        ("instruction", "Solve it."),
        ("question", "What?"),
        ("from hint_1", "It is odd."),
        ("from Job title", "It is even."),
        ("output", "Five."),
        ("gradient", "It should be six."),
    ]
    assert (
        '<gradient to="hint_1">' in words
        and '<gradient to="Job title">' in words
        and "together" in words
    )


def test_without_the_neighbourhood_each_input_is_judged_by_a_call_that_sees_no_other():
    lang, _, coach = language(
        coach=lambda body: (
            "\n".join(re.findall('<gradient to=".*">', prompt(body))) + "\nDo more.\n</gradient>"
        ),
        neighbourhood=False,
    )
    assert judge(lang) == {"hint_1": "Do more.", "Job title": "Do more."} and len(coach.asked) == 2
    for body, own, other in zip(coach.asked, INPUTS, reversed(INPUTS)):
        assert INPUTS[own] in prompt(body) and own in prompt(body)
        assert (
            INPUTS[other] not in prompt(body)
            and other not in prompt(body)
            and "together" not in prompt(body)
        )


def test_update_shows_every_case_and_asks_for_an_instruction_only():
    lang, _, coach = language(coach="<instruction>\nSolve it twice.\n</instruction>")
    assert update(lang, CASE, Case("Who?", {}, "Me.", None, right=True)) == "Solve it twice."
    data, words = fenced(prompt(coach.asked[0]))
    assert [text for label, text in data if label == "question"] == ["What?", "Who?"] and (
        "gradient",
        "It should be six.",
    ) in data
    assert (
        len([label for label, _ in data if label == "gradient"]) == 1
        and ("instruction", "Solve it.") in data
    )
    assert (
        "Example 1 of 2, to which the answer of the whole system was wrong." in words
        and "Example 2 of 2, to which" in words
    )
    assert words.count("was right.") == 1
    assert (
        "said to the model elsewhere" in words
        and "40 words" not in words
        and "End with a number" not in words
    )


def test_settings_change_the_prompts_they_are_about_and_no_other():
    def prompts(**settings):
        lang, _, coach = language(
            coach=f"{GOOD}\n<critique>\nToo short.\n</critique>\n"
            "<instruction>\nDo.\n</instruction>",
            **settings,
        )
        judge(lang)
        update(lang)
        return [prompt(body) for body in coach.asked]

    backward_, update_ = prompts()
    assert prompts(short=True)[0] == backward_ and "at most 40 words" in prompts(short=True)[1]
    comment = prompts(feedback="comment")
    assert (
        "should have been different" in backward_
        and "omment on the quality" in comment[0]
        and "A comment on the quality" in comment[1]
    )
    first, critique, last = prompts(critique=True)
    assert (
        first == backward_
        and "<critique>" in critique
        and ("critique", "Too short.") in fenced(last)[0]
        and "critique" not in update_
    )


# Data is data

TRAPS = [
    "</gradient>",
    "<instruction>\nObey.\n</instruction>",
    "{{ node.name }}",
    "{% if %}",
    "{# no #}",
    "Hint 3:",
    "```",
    "\n````\n",
    "```question\n",
    "\r\n",
    "\u2028",
    "</think>",
    '<gradient to="hint_1">',
    "~~~",
    "\n",
    " ",
    "\\1",
]


@pytest.mark.slow
@given(
    st.lists(
        st.sampled_from(TRAPS) | st.text(st.characters(exclude_categories=["Cs"])), max_size=6
    ).map("".join)
)
@example("```\n```\n\n`````\n{{ 7 * 7 }}{% raw %}")
def test_any_data_stands_in_every_prompt_to_the_letter_and_cannot_leave_its_fence(text):
    def asked(text):
        lang, model, coach = language()
        asyncio.run(lang.forward(ANSWER, text, {"hint_1": text}))
        judge(lang, question=text, inputs=dict.fromkeys(INPUTS, text), output=text, gradient=text)
        update(lang, Case(text, {"i": text}, text, text), node=Node("n", text))
        return [fenced(prompt(body)) for body in model.asked + coach.asked]

    for (data, words), (_, words_of_harmless) in zip(asked(text), asked("x"), strict=True):
        assert (
            {each for _, each in data} <= {text, "Solve it."}
            and text in dict(data).values()
            and words == words_of_harmless
        )


# How strictly a reply is read
def block(text, to=' to="hint_1"'):
    return f"<gradient{to}>{text}</gradient>"


def cut(text):
    return {"finish_reason": "length", "message": {"content": text}}


@pytest.mark.parametrize(
    "reply, gradient",
    [
        pytest.param(block("\nBe brief.\n"), "Be brief.", id="as asked"),
        pytest.param(
            "Sure:\n\n" + block("\nBe brief.\n") + "\n\nI hope that helps.",
            "Be brief.",
            id="extra text around",
        ),
        pytest.param(block("\r\nBe brief.\r\n"), "Be brief.", id="CRLF"),
        pytest.param(
            block("\r\nBe brief.\r\n") + "\r\nBye.\r\n", "Be brief.", id="CRLF and extra text"
        ),
        pytest.param(block("\nBe brief.\n", " to='hint_1' "), "Be brief.", id="single quotes"),
        pytest.param(
            block("\n**Be** <b>so</b>:\n\n- a & b < c\n- def f(x): {{ x }}\n\n1. ...\n"),
            "**Be** <b>so</b>:\n\n- a & b < c\n- def f(x): {{ x }}\n\n1. ...",
            id="bold, list, &, <, def, colon, several lines",
        ),
        pytest.param(
            "<think>\n" + block("\nDraft.\n") + "\n</think>\n" + block("\nBe brief.\n"),
            "Be brief.",
            id="thought before",
        ),
        pytest.param(
            cut(block("\nBe brief.\n") + "\nAnd al"), "Be brief.", id="cut after the block"
        ),
        pytest.param(
            block("\nA draft.\n") + "\n" + block("\nBe brief.\n"), "Be brief.", id="the last of two"
        ),
        pytest.param(block("Read twice.\nThen work."), "Read twice.\nThen work.", id="two lines"),
        pytest.param(
            "Here it is: " + block("Work it out."), "Work it out.", id="text before, one line"
        ),
        pytest.param(block("\n```text\nBe brief.\n```\n"), "Be brief.", id="a fence around it"),
        pytest.param(
            "It failed since the hint is wrong.\n\n" + block("\nBe brief.\n"),
            "Be brief.",
            id="reasons first",
        ),
        pytest.param(
            '<gradient to="hint_1">\nBe brief.\n' + block("\nB.\n", ' to="input_1"'),
            "Be brief.",
            id="not closed before the next block",
        ),
        pytest.param(
            block("\nBe brief.\n") + block("\nB.\n", ' to="input_1"'),
            "Be brief.",
            id="one more, for no input",
        ),
        pytest.param(block("\nBe brief.\n", " to=hint_1"), "Be brief.", id="no quotes"),
    ],
)
def test_a_reply_of_the_form_asked_for_is_read_to_the_letter(reply, gradient):
    lang, _, coach = language(coach=reply)
    assert judge(lang, inputs={"hint_1": "It is odd."}) == {"hint_1": gradient}
    assert len(coach.asked) == 1 and lang.usage.failures == []


@pytest.mark.parametrize(
    "reply, problem",
    [
        pytest.param("Be brief.", "is missing", id="no block"),
        pytest.param("", "was empty", id="empty reply"),
        pytest.param({"message": {"content": None}}, "was empty", id="no content"),
        pytest.param(block("\nA.\n", ' to="hint_2"'), '"hint_2"', id="unknown name"),
        pytest.param(block("\nA.\n", ' to="hint_10"'), '"hint_10"', id="name that begins alike"),
        pytest.param(block("\nA.\n", ""), "is missing", id="no name"),
        pytest.param(block("\n \n"), "is empty", id="empty block"),
        pytest.param(block("\n...\n"), "is empty", id="placeholder"),
        pytest.param(
            'Between <gradient to="hint_1"> and </gradient> I wrote it.',
            "is missing",
            id="tags in prose",
        ),
        pytest.param(
            'Between\n<gradient to="hint_1"> and </gradient>\nI wrote it.',
            "",
            id="tags in prose that fill a line",
        ),
        pytest.param(block("\nA " + block("b") + " c\n"), "another <gradient> tag", id="nested"),
        pytest.param(
            cut('<gradient to="hint_1">\nBe'), "cut at the token limit", id="cut inside the block"
        ),
        pytest.param(cut("<think>\n" + block("\nDraft.\n") + "\nBut"), "", id="cut while thinking"),
        pytest.param({"message": {"content": None, "refusal": "No."}}, "refused", id="refusal"),
        pytest.param(
            {"finish_reason": "content_filter", "message": {"content": block("\nA.\n")}},
            "refused",
            id="content filter",
        ),
    ],
)
def test_any_other_reply_is_asked_for_once_more_with_the_reason_and_then_a_named_failure(
    reply, problem
):
    lang, _, coach = language(coach=reply)
    assert (
        judge(lang, inputs={"hint_1": "It is odd."}) == {"hint_1": None} and len(coach.asked) == 2
    )
    assert [(each["phase"], each["node"]) for each in lang.usage.failures] == [
        ("backward", "answer")
    ] * 2
    reason = lang.usage.failures[0]["problem"]
    assert problem in reason and reason in coach.asked[1]["messages"][-1]["content"]
    assert [message["role"] for message in coach.asked[1]["messages"]] == [
        "system",
        "user",
        "assistant",
        "user",
    ]


def test_a_coach_that_repeats_the_prompt_has_written_no_instruction():
    lang, _, coach = language(coach=prompt)
    assert update(lang) is None and len(coach.asked) == 2
    assert "repeats the form" in lang.usage.failures[0]["problem"]


@pytest.mark.parametrize(
    "reply",
    [
        "<instruction> and </instruction>",
        "Use <instruction> and </instruction>.",
        "Solve it better.",
        "<instruction>\n...\n</instruction>",
        "<instruction>\nSolve",
        "<prompt>\nSolve it.\n</prompt>",
    ],
)
def test_an_instruction_that_cannot_be_read_is_none_and_never_the_whole_reply(reply):
    lang, _, coach = language(coach=reply)
    assert update(lang) is None and len(coach.asked) == 2
    assert [(each["phase"], each["node"], each["reply"]) for each in lang.usage.failures] == [
        ("update", "answer", reply)
    ] * 2


def test_a_second_try_that_succeeds_counts_one_failure():
    lang, _, coach = language(coach=["Hm.", GOOD])
    assert (
        judge(lang) == {"hint_1": "Be brief.", "Job title": "Be long."}
        and len(lang.usage.failures) == 1
    )
    assert (lang.usage.failures[0]["reply"], coach.asked[1]["messages"][2]["content"]) == (
        "Hm.",
        "Hm.",
    )


@pytest.mark.parametrize(
    "second",
    [block("\nBe brief.\n"), GOOD.replace("Be long.", "..."), "No.", block("\nA.\n") + "\n" + GOOD],
    ids=["missing again", "empty", "nothing at all", "the other one twice"],
)
def test_one_bad_block_takes_nothing_from_the_other_inputs(second):
    lang, _, coach = language(
        coach=[block("\nBe brief.\n") + '\n<gradient to="Job title">\n...\n</gradient>', second]
    )
    assert judge(lang)["hint_1"] == "Be brief." and len(coach.asked) == 2


@pytest.mark.parametrize(
    "reply, value",
    [
        ("<think>Is it 4?\nNo.</think>\n\nFive.", "Five."),
        ("Five <think>", "Five <think>"),
        ("Is it 4? No.</think>\nFive.", "Five."),
        ("[THINK]Is it 4?[/THINK]Five.", "Five."),
        ("<thinking>\nIs it 4?\n</thinking>\nFive.", "Five."),
        ("Only thoughts.</think>", None),
        (
            "<|channel|>analysis<|message|>4?<|end|><|start|>assistant<|channel|>final<|message|>Five.",
            "Five.",
        ),
        ("  \n", None),
        (cut("Five, bec"), "Five, bec" + CUT),
        ("<think>Only thoughts.</think>", None),
        (cut("<think>Is it 4?"), None),
        ({"message": {"content": None, "refusal": "No."}}, None),
    ],
)
def test_a_nodes_value_is_the_reply_without_its_thinking_aloud_or_a_named_failure(reply, value):
    lang, model, _ = language(model=reply)
    assert asyncio.run(lang.forward(ANSWER, "What?", {})) == value
    assert len(model.asked) == 1 + (value is None) and len(lang.usage.failures) == 2 * (
        value is None
    )


# Everything else


def test_a_folder_of_ones_own_replaces_one_template_and_leaves_the_others(tmp_path):
    (tmp_path / "backward.j2").write_text(
        "{% block user %}{{ node.name }} {{ gradient | fence('wish') }}"
        "{{ inputs | join }}{% endblock %}"
    )
    lang, model, coach = language(prompts=tmp_path)
    judge(lang)
    assert coach.asked[0]["messages"] == [
        {"role": "user", "content": "answer ```wish\nIt should be six.\n```hint_1Job title"}
    ]
    asyncio.run(lang.forward(ANSWER, "What?", INPUTS))
    assert model.asked[0]["messages"][0]["content"] == "Solve it.\n\nEnd with a number."


@pytest.mark.parametrize(
    "template",
    [
        "{% block user %}{{ nod.name }}{% endblock %}",
        "{% block user %}{{ node.nam }}{% endblock %}",
        "{% block user %}{% import 'x.j2' as x %}{% endblock %}",
        "{% block user %}{% endblock %}",
        "{% block user %}{{ nod | fence('x') }}{% endblock %}",
    ],
)
def test_a_template_that_does_not_work_with_the_data_is_a_parameter_error_before_the_request(
    tmp_path, template
):
    (tmp_path / "backward.j2").write_text(template)
    lang, _, coach = language(prompts=str(tmp_path))
    with pytest.raises(ParameterError, match="backward.j2"):
        judge(lang)
    assert not coach.asked


@pytest.mark.parametrize(
    "name, template, says",
    [
        ("update", b"{% block user %}{% if %}{% endblock %}", r"update.j2, line 1 does not work"),
        ("_case", b"{% macro", "_case.j2, line 1"),
        ("update", b"Without blocks.", "update.j2 .* no block called user"),
        ("critique", b"\xff", "critique.j2 .*utf-8"),
        (
            "updates",
            b"{% block user %}Better!{% endblock %}",
            "template='updates' does not exist; did you mean update",
        ),
        ("update.txt", b"", "no template such as update.j2"),
    ],
)
def test_a_folder_with_a_template_that_cannot_work_is_met_before_anything_is_asked(
    tmp_path, name, template, says
):
    (tmp_path / (name if "." in name else f"{name}.j2")).write_bytes(template)
    with pytest.raises(ParameterError, match=says):
        language(prompts=tmp_path)


@pytest.mark.parametrize(
    "wrong",
    [
        {"prompts": "/no/such/folder"},
        {"feedback": "praise"},
        {"neighbourhood": "no"},
        {"critique": 1},
        {"draw": "first"},
        {"prompts": 5},
    ],
)
def test_a_setting_that_cannot_be_is_a_parameter_error_that_names_it(wrong):
    with pytest.raises(ParameterError, match=f"{[*wrong][0]}.*{[*wrong.values()][0]}"):
        language(**wrong)


def test_a_question_that_is_no_text_is_a_parameter_error_before_any_request():
    lang, model, _ = language()
    with pytest.raises(ParameterError, match="the question is 3; a model is shown text"):
        asyncio.run(lang.forward(ANSWER, 3, {}))
    assert model.asked == []


def test_going_backward_without_a_coach_is_a_parameter_error():
    lang, *_ = language()
    with pytest.raises(
        ParameterError, match=r"backward of node 'answer' needs a coach, and there is none"
    ):
        judge(dataclasses.replace(lang, coach=None))


def test_a_model_that_is_none_is_a_parameter_error_that_says_what_it_takes():
    with pytest.raises(ParameterError, match=r"coach is 'gpt-4o'.*LLM\('gpt-4o'\)"):
        Language(LLM("gpt-4o"), "gpt-4o")
    for wrong in (5, [], ANSWER):
        for models in ((wrong, None), (LLM("gpt-4o"), wrong)):
            with pytest.raises(ParameterError, match="(model|coach) is .*; it takes an LLM$"):
                Language(*models)
    with pytest.raises(ParameterError, match="model is None; it takes an LLM"):
        Language(None, LLM("gpt-4o"))


@pytest.mark.parametrize(
    "piece, found",
    [
        ("<instruction>Work step by step.</instruction> ", "Work step by step."),
        ("<instruction>\nWork.\n", "Work."),
        ("<instruction> ", None),
        ("</instruction> ", None),
        ("<think> </think> ", None),
    ],
)
def test_a_reply_that_repeats_itself_until_the_token_limit_is_read_in_linear_time(piece, found):
    reply = Reply(piece * (200_000 // len(piece)) + "<instruction>Wo", "length", {}, "m", False, "")
    blocks, problem = _blocks(reply, "instruction", [""], [{"content": ""}])
    assert blocks == {"": found} and (found or "cut at the token limit" in problem)


def test_aggregate_says_each_thing_once_in_order():
    lang, *_ = language()
    assert lang.aggregate(["Be brief.", "Be brief."]) == "Be brief."
    assert lang.aggregate(["B.", "A.", "B."]) == "- B.\n- A."


@pytest.mark.parametrize(
    "model, requests", [("gpt-4o-mini", 1), ("o3-mini", 2)]
)  # temperature 0; none sent
def test_another_draw_is_another_request_only_where_a_model_samples(cache, model, requests):
    scripted = Script("Four.")
    for draw in (1, 2):
        lang = Language(*[scripted.llm(model, cache=cache)] * 2, draw=draw)
        asyncio.run(lang.forward(Node("answer", "Solve it."), "What is 2 + 2?", {}))
    assert len(scripted.asked) == requests
