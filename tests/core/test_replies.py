"""Replies: thoughts are taken off, wherever a model or its chat template opened them."""

import pytest

from semback.replies import without_thoughts


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
    ],
)
def test_thoughts_are_removed_and_tags_that_a_text_speaks_of_stay(text, rest):
    assert without_thoughts(text) == rest
