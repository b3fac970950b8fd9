"""Words that do not belong in an instruction: they help with its training questions, or with none.

A coach that was shown gradients and examples sometimes writes about them ("use the feedback on
example 2"), or copies an answer or a question. The model that follows the instruction sees none of
that, and a copied answer makes the score on training questions worthless.
"""

import re
from collections import Counter
from collections.abc import Iterator

from .task import Task

RUN = 8  # so many words in a row are a quotation
LABEL = 0.1  # answers to a larger share of the questions are labels, like "Yes", and may be named
_LONG = re.compile(r"\b\d{4,}\b")  # shorter numbers, like 100, have other uses too
_SPEAKS = re.compile(
    r"(?i)\b(?:gradients?|feedback|backpropagat\w+|critiques?"
    r"|(?:the|these|those|this|both|previous|earlier|above|given|provided|training)\s+examples?"
    r"|examples?\s+\d+|(?:training|optimi[sz]ation|update|previous|last)\s+steps?"
    r"|(?:instruction|gradient|critique|exactly one|tagged)\s+blocks?)\b"
    r"|</?(?:gradient|instruction|critique|input|output|question)\b[^<>]*>"
)


class Leaks:
    """Finds what does not belong in new instructions of a task.

    Parameters
    ----------
    task : Task
        What its start graph says is never a leak.
    reject : bool
        Whether instructions that leak are rejected.
    """

    def __init__(self, task: Task, reject: bool = False):
        self.reject = reject
        self._start = "\n".join(node.instruction + "\n" + node.form for node in task.graph).lower()
        counts = Counter(example.answer for example in task.train)
        most = max(1, LABEL * len(task.train))
        self._answers = [
            text for text, count in counts.items() if count <= most and len(text.strip()) > 1
        ]
        questions = [_words(example.question) for example in task.train]
        self._quotations = {run for words in questions for run in _runs(words)}
        self._numbers = {word for words in questions for word in words if _LONG.fullmatch(word)}

    def find(self, instruction: str) -> str | None:
        """What does not belong in a new instruction, in words; None if all of it does."""
        for found in _SPEAKS.finditer(instruction):
            if found[0].lower() not in self._start:
                return f"it speaks of {found[0]!r}"
        for answer in self._answers:
            whole = rf"(?<![\w.,]){re.escape(answer)}(?![\w%]|[.,]\d)"
            if answer.lower() not in self._start and re.search(whole, instruction):
                return f"it names {answer[:40]!r}, the answer to a training question"
        for words in _runs(_words(instruction)):
            if words in self._quotations and " ".join(words) not in self._start:
                return f"it quotes a training question: {' '.join(words)!r}"
        for number in _LONG.findall(instruction):
            if number in self._numbers and number not in self._start:
                return f"it has {number}, a number of a training question"
        return None


def _words(text: str) -> list[str]:
    return re.findall(r"\w+", text.lower())


def _runs(words: list[str]) -> Iterator[tuple[str, ...]]:
    """Every RUN words in a row."""
    return zip(*(words[start:] for start in range(RUN)))
