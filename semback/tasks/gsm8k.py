"""GSM8K: grade-school arithmetic in words (Cobbe et al., arXiv 2110.14168); the answer is one number."""

import json

from ..errors import DataError
from ..task import Example, Task, shuffled
from . import answers as reading
from . import data as files
from .bbh import two_hints


def gsm8k(seed: int = 0, train: int = 128, data: str = "sample") -> Task:
    """GSM8K as a task, with the paper's graph: two hints and an answer.

    Parameters
    ----------
    seed: of the draw of training rows.
    train: training rows, the paper's 128, drawn from ``train.jsonl``; the test set is all of ``test.jsonl``.
    data: "sample" (our own, bundled) or "full" (see `semback.tasks.files`).

    Errors
    ------
    ParameterError: a data set that does not exist, or more training rows than there are.
    DataError: a file that is missing, altered or malformed.
    """
    order, _ = shuffled(_examples("train", data), train, seed)
    graph = two_hints("only a number", "18")
    return Task("gsm8k", order[:train], _examples("test", data), graph, reading.number)


def _examples(part: str, data: str) -> list[Example]:
    path, examples = f"gsm8k/{part}.jsonl", []
    for i, line in enumerate(files.lines(path, data)):
        try:
            row = json.loads(line)
            answer = reading.number(row["answer"].rpartition("#### ")[2])
            if answer is None or not isinstance(row["question"], str):
                raise ValueError("no question, or no number after ####")
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise DataError(
                f"{path} ({data} data), line {i + 1} is not a GSM8K row: {type(error).__name__}: {error}"
            ) from None
        examples.append(Example(f"gsm8k/{part}/{i}", row["question"], answer))
    return examples
