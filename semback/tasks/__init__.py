"""A task: questions with known answers, the graph to start from, how a reply is read and scored.

`bbh`, `gsm8k` and `liar` are the paper's three. Your own is a `Task` made in a few lines: only the
examples and the graph are needed; `answers` has readers for its replies.
"""

from ..task import Example as Example
from ..task import Task as Task
from ..task import expected_answer as expected_answer
from ..task import same_text as same_text
from ..task import whole_reply as whole_reply
from . import answers as answers
from .bbh import ALGORITHMIC as ALGORITHMIC
from .bbh import NLP as NLP
from .bbh import bbh as bbh
from .gsm8k import gsm8k as gsm8k
from .liar import liar as liar
from .own import examples as examples
