"""GSM8K: grade-school arithmetic in words (Cobbe et al., arXiv 2110.14168).

The answer is one number.
"""

import json

from ..errors import DataError
from ..task import Example, Task, shuffled
from . import answers
from . import data as files
from .bbh import two_hints


def gsm8k(seed: int = 0, train: int = 128, data: str = "sample") -> Task:
    """Make a task of GSM8K, with the paper's graph: two hints and an answer.

    Parameters
    ----------
    seed : int
        Of the draw of training rows.
    train : int
        The number of training rows drawn from ``train.jsonl``, 128 in the paper. The test set is
        all of ``test.jsonl``.
    data : {"sample", "full"}
        Our own sample, which is bundled, or the data set itself (see `semback.tasks.data`).

    Returns
    -------
    Task

    Raises
    ------
    ParameterError
        For data that does not exist, or more training rows than there are.
    DataError
        For a file that is missing, altered or malformed.
    """
    order, _ = shuffled(_examples("train", data), train, seed)
    graph = two_hints("only a number", "18")
    return Task("gsm8k", order[:train], _examples("test", data), graph, answers.number)


def _examples(part: str, data: str) -> list[Example]:
    path, examples = f"gsm8k/{part}.jsonl", []
    for i, line in enumerate(files.lines(path, data)):
        try:
            row = json.loads(line)
            answer = answers.number(row["answer"].rpartition("#### ")[2])
            if answer is None or not isinstance(row["question"], str):
                raise ValueError("no question, or no number after ####")
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            problem = f"is not a GSM8K row: {type(error).__name__}: {error}"
            where = f"{path} ({data} data), line {i + 1}"
            raise DataError(f"{where} {problem}", file=path, line=i + 1) from None
        examples.append(Example(f"gsm8k/{part}/{i}", row["question"], answer))
    return examples
