"""A task: questions with known answers, the graph to start from, and how a reply is read and scored.

`bbh`, `gsm8k` and `liar` are the paper's three. Your own is a `Task` made in a few lines: only the examples and the
graph are needed.
"""

from ..task import Example, Task, expected_answer, same_text, whole_reply
from .bbh import ALGORITHMIC, NLP, bbh
from .gsm8k import gsm8k
from .liar import liar
from .own import examples

__all__ = [
    "ALGORITHMIC",
    "Example",
    "NLP",
    "Task",
    "bbh",
    "examples",
    "expected_answer",
    "gsm8k",
    "liar",
    "same_text",
    "whole_reply",
]
