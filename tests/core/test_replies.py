"""Replies: thoughts are removed, and a coach's blocks are found in the forms models write."""

import pytest

from semback.replies import named_blocks, without_thoughts


@pytest.mark.parametrize(
    "text, rest",
    [
        ("no thoughts", "no thoughts"),
        ("<think>draft</think>\n\nvalue", "value"),
        ("draft</think>value", "value"),
        ("[THINK]draft[/THINK]value", "value"),
        ("<thinking>draft</thinking>value", "value"),
        ("<think>a</think><think>b</think>value", "value"),
        ("<think>tags like <think></think></think>value", "value"),
        ("<think>a <think> tag</think>value", "value"),
        ("<think>it never ends", ""),
        ("draft</think>", ""),
        ("<think></think>Think in <think></think> tags.", "Think in <think></think> tags."),
        ("Reason between <think> and </think>.", "Reason between <think> and </think>."),
        ("draft</think>Use <think>tags</think>.", "Use <think>tags</think>."),
        ("<think>draft</think>\r\nvalue\r\n", "value"),
        ("<seed:think>draft</seed:think>value", "value"),
        ("<inner_monologue>draft</inner_monologue>value", "value"),
        ("<scratchpad>draft</scratchpad>value", "value"),
        ("<reflection>draft</reflection>value", "value"),
        ("<|START_THINKING|>draft<|END_THINKING|>value", "value"),
        ("<|channel|>analysis<|message|>draft<|channel|>final<|message|>value", "value"),
        ("18\n<reasoning>why</reasoning>", "18\n<reasoning>why</reasoning>"),
        ("<analysis>It is a lie.</analysis>", "<analysis>It is a lie.</analysis>"),
    ],
)
def test_thoughts_are_removed_and_tags_that_a_text_speaks_of_stay(text, rest):
    assert without_thoughts(text) == rest


BOTH = '<gradient to="a">\nBe A now.\n</gradient>\n<gradient to="b">\nBe B now.\n</gradient>'


@pytest.mark.parametrize(
    "text",
    [
        BOTH,
        "The hints are short.\n\n" + BOTH + "\n\nI hope that helps.",
        '<gradient to="a">Be A now.</gradient> and <gradient to="b">Be B now.</gradient>',
        "Here they are: " + BOTH.replace("\n", ""),
        f"```xml\n{BOTH}\n```",
        BOTH.replace("Be A now.", "~~~\nBe A now.\n~~~"),
        BOTH.replace("Be A now.", "  ```text\n  Be A now.\n  ```"),
        BOTH.replace("\n", "\r\n"),
        BOTH.replace("\n", "\n    "),
        BOTH.replace('"', "'"),
        BOTH.replace('"', ""),
        BOTH.replace('"a"', "“a”").replace('"b"', "‘b’"),
        BOTH.replace('"a"', "`a`").replace('"b"', '\\"b\\"'),
        BOTH.replace('to="a"', 'to = " a " type="text"').replace('to="b"', 'id="2" TO="B"'),
        BOTH.replace('to="a"', 'to: "a"').replace('to="b"', '"b"'),
        BOTH.replace("gradient", "GRADIENT"),
        BOTH.replace("</gradient>", "</gradient >").replace("<gradient", "< gradient"),
        BOTH.replace("</gradient>", '</gradient to="a">'),
        BOTH.replace("</gradient>", "<gradient/>"),
        BOTH.replace("<", "&lt;").replace(">", "&gt;").replace('"', "&quot;"),
        BOTH.replace('<gradient to="a">', '**<gradient to="a">**').replace(
            "</gradient>", "**</gradient>**"
        ),
        BOTH.replace("now.\n</gradient>\n<", "now.\n\n<"),
        BOTH + '\n<gradient to="a">\nBe A th',
        BOTH + '\n<gradient to="c"/>\n<gradient to="input_1">\nBe X.\n</gradient>',
        BOTH.replace("now", "then") + "\n" + BOTH,
        BOTH + '\n<gradient to="a">...</gradient>',
        'I write <gradient to="a"> and </gradient>.\n' + BOTH + "\nThe tag <gradient> ends it.",
        '`<gradient to="a">your text</gradient>` is the form.\n' + BOTH,
        "<think>" + BOTH.replace("now", "draft") + "</think>" + BOTH,
        "Sure.\n<think>" + BOTH.replace("now", "draft") + "</think>\n" + BOTH,
    ],
)
def test_a_block_is_found_in_every_form_that_models_write(text):
    found, problem = named_blocks(without_thoughts(text), "gradient", ("a", "b"))
    assert (found, problem) == ({"a": "Be A now.", "b": "Be B now."}, None)


@pytest.mark.parametrize(
    "text, content",
    [
        ("Here it is: <instruction>Read twice.</instruction>", "Read twice."),
        ("<instruction>Read twice</instruction>", "Read twice"),
        ("<instruction>Read twice.\nThen work.</instruction>", "Read twice.\nThen work."),
        ('<instruction to="hint_1">\nRead twice.\n</instruction>', "Read twice."),
        ("<instruction>\nBe <b> & < 5.\n</instruction>", "Be <b> & < 5."),
        ("&lt;instruction&gt;\nBe &lt;b&gt;.\n&lt;/instruction&gt;", "Be <b>."),
        ("<instruction>\nThink in <think></think>.\n</instruction>", "Think in <think></think>."),
        ("<instruction>Old one here.\n<instruction>\nNew.\n</instruction>", "New."),
        ("<instruction>\n**Read twice.**\n</instruction>", "**Read twice.**"),
        ("<instruction>**Read twice.**</instruction>", "**Read twice.**"),
        ("<instruction> and </instruction>", None),
        ("It goes between <instruction> and </instruction>.", None),
        ("<instruction/>", None),
        ("<instruction-set>\nRead twice.\n</instruction-set>", None),
    ],
)
def test_a_block_without_a_name_is_read_and_tags_that_a_reply_speaks_of_are_not(text, content):
    found, problem = named_blocks(text, "instruction")
    assert found == {"": content} and (problem is None) == (content is not None)


@pytest.mark.parametrize(
    "text, b, problem",
    [
        (
            '<gradient to="a">It is. <gradient to="b">Be B now.</gradient>',
            "Be B now.",
            "not closed",
        ),
        ('<gradient to="a"/>\n<gradient to="b">Be B now.</gradient>', "Be B now.", '"a" is empty'),
        (
            "".join(f'<gradient to="input_{i}">\nBe it.\n</gradient>\n' for i in range(1, 12)),
            None,
            'there are <gradient> blocks for "input_1", "input_2" and 9 more in place of it',
        ),
    ],
)
def test_what_is_wrong_is_said_in_one_line(text, b, problem):
    found, said = named_blocks(text, "gradient", ("a", "b"))
    assert found == {"a": None, "b": b} and problem in said and "\n" not in said


def test_names_that_differ_in_case_only_are_told_apart():
    text = '<gradient to="a">Be A now.</gradient>\n<gradient to="A">Be B now.</gradient>'
    found, problem = named_blocks(text, "gradient", ("a", "A"))
    assert (found, problem) == ({"a": "Be A now.", "A": "Be B now."}, None)
