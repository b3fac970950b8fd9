"""A task: questions with known answers, the graph to start from, how a reply is read and scored.

`bbh`, `gsm8k` and `liar` are the paper's three. Your own is a `Task` made in a few lines: only the
examples and the graph are needed; `answers` has readers for its replies.
"""

from ..task import Example, Task, expected_answer, same_text, whole_reply
from . import answers
from .own import examples
from .paper import ALGORITHMIC, NLP, bbh, gsm8k, liar

__all__ = ["ALGORITHMIC", "NLP", "Example", "Task", "answers", "bbh", "examples", "expected_answer"]
__all__ += ["gsm8k", "liar", "same_text", "whole_reply"]
