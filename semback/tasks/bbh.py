"""BIG-Bench Hard: 23 tasks in 27 files, each file a task of its own here.

Suzgun et al., arXiv 2210.09261. The paper reports two groups of files, `NLP` and `ALGORITHMIC`.
"""

import json
from collections.abc import Callable
from functools import partial

from ..errors import DataError, known
from ..graph import Graph, Node
from ..task import Example, Task, shuffled
from . import answers
from . import data as files

Reader = Callable[[str], str | None]
NLP = tuple(
    "causal_judgement date_understanding disambiguation_qa formal_fallacies hyperbaton "
    "movie_recommendation penguins_in_a_table reasoning_about_colored_objects ruin_names "
    "salient_translation_error_detection snarks sports_understanding".split()
)
ALGORITHMIC = tuple(
    "boolean_expressions dyck_languages geometric_shapes logical_deduction_five_objects "
    "logical_deduction_seven_objects logical_deduction_three_objects multistep_arithmetic_two "
    "navigate object_counting temporal_sequences tracking_shuffled_objects_five_objects "
    "tracking_shuffled_objects_seven_objects tracking_shuffled_objects_three_objects "
    "web_of_lies word_sorting".split()
)


def _pair(*words: str) -> tuple[Reader, str, str]:
    return partial(answers.choice, words=words), " or ".join(words), words[0]


CLOSING = "only the missing closing brackets, separated by blanks"
FORMS: dict[str, tuple[Reader, str, str]] = {  # of answers that are no letter, as in `two_hints`
    "boolean_expressions": _pair("True", "False"),
    "causal_judgement": _pair("Yes", "No"),
    "dyck_languages": (answers.brackets, CLOSING, "] } >"),
    "formal_fallacies": _pair("valid", "invalid"),
    "multistep_arithmetic_two": (answers.number, "a whole number", "-42"),
    "navigate": _pair("Yes", "No"),
    "object_counting": (answers.number, "a whole number", "8"),
    "sports_understanding": _pair("yes", "no"),
    "web_of_lies": _pair("Yes", "No"),
    "word_sorting": (answers.words, "the sorted words, separated by blanks", "apple bread cedar"),
}


def bbh(
    category: str, seed: int = 0, train: int = 20, split: str = "clean", data: str = "sample"
) -> Task:
    """Make a task of one file of BIG-Bench Hard, with the paper's graph: two hints and an answer.

    Parameters
    ----------
    category : str
        The name of the file, one of `NLP` or `ALGORITHMIC`. The sample data has three of them.
    seed : int
        Of the shuffle that decides which rows are trained on.
    train : int
        The number of training rows, 20 in the paper. The rest is the test set.
    split : {"clean", "released"}
        "clean": one shuffle, so that train and test are disjoint. "released": the rows are shuffled
        again, with the same generator, before the test set is taken, as in the authors' code. With
        seed 0, 489 of the 540 training questions of the 27 files are then test questions too. It is
        there to measure what that does to a score.
    data : {"sample", "full"}
        Our own sample, which is bundled, or the data set itself (see `semback.tasks.data`).

    Returns
    -------
    Task

    Raises
    ------
    ParameterError
        For a category, split or data that does not exist, or more training rows than there can be.
    DataError
        For a file that is missing, altered or malformed.
    """
    known("category", category, NLP + ALGORITHMIC)
    known("split", split, ("clean", "released"))
    examples = _examples(category, data)
    order, rng = shuffled(examples, train, seed, spare=1)
    test = order[train:]
    if split == "released":
        rng.shuffle(examples)
        test = examples[train:]
    if category in FORMS:
        read, holds, instance = FORMS[category]
    else:  # three rows have the text of an answer for a letter: their options were cut at a comma
        texts = sorted({row.answer for row in examples if not row.answer.startswith("(")})
        read = partial(answers.letter, texts=tuple(texts))
        holds, instance = "the letter of one option", "(B)"
    graph = two_hints(holds, instance)
    overlap = split == "released"
    return Task(f"bbh/{category}", order[:train], test, graph, read, overlap=overlap)


def two_hints(holds: str, instance: str) -> Graph:
    """The paper's graph for BBH and GSM8K: two hints, and an answer node.

    Parameters
    ----------
    holds : str
        What the last line of the answer node's reply should hold after "Answer:".
    instance : str
        An instance of it.
    """
    hint = "Work out an intermediate step that helps to solve the problem."
    form = (
        f"The last line is the word Answer, a colon and {holds}, for instance: Answer: {instance}"
    )
    answer = Node("answer", "Solve the problem.", ("hint_1", "hint_2"), form=form)
    return Graph((Node("hint_1", hint), Node("hint_2", hint), answer))


def _examples(category: str, data: str) -> list[Example]:
    path, examples = f"bbh/{category}.json", []
    text = files.text(path, data)
    try:
        for i, row in enumerate(json.loads(text)["examples"]):
            question, answer = row["input"], row["target"]
            if not isinstance(question, str) or not isinstance(answer, str):
                raise TypeError(f"input and target of row {category}/{i} should be text")
            examples.append(Example(f"{category}/{i}", question, answer))
    except (ValueError, KeyError, TypeError) as error:
        line = error.lineno if isinstance(error, json.JSONDecodeError) else None
        problem = f"is not a BIG-Bench Hard file: {type(error).__name__}: {error}"
        raise DataError(f"{path} ({data} data) {problem}", file=path, line=line) from None
    return examples
