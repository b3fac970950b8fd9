"""BIG-Bench Hard: 27 files of questions (23 tasks, two of them in three sizes), each a task of its own here.

Suzgun et al., arXiv 2210.09261. The paper reports two groups of files, `NLP` and `ALGORITHMIC`.
"""

import json
from functools import partial

from ..errors import DataError, known
from ..graph import Graph, Node
from ..task import Example, Task, shuffled
from . import answers as reading
from . import data as files

NLP = (
    "causal_judgement",
    "date_understanding",
    "disambiguation_qa",
    "formal_fallacies",
    "hyperbaton",
    "movie_recommendation",
    "penguins_in_a_table",
    "reasoning_about_colored_objects",
    "ruin_names",
    "salient_translation_error_detection",
    "snarks",
    "sports_understanding",
)
ALGORITHMIC = (
    "boolean_expressions",
    "dyck_languages",
    "geometric_shapes",
    "logical_deduction_five_objects",
    "logical_deduction_seven_objects",
    "logical_deduction_three_objects",
    "multistep_arithmetic_two",
    "navigate",
    "object_counting",
    "temporal_sequences",
    "tracking_shuffled_objects_five_objects",
    "tracking_shuffled_objects_seven_objects",
    "tracking_shuffled_objects_three_objects",
    "web_of_lies",
    "word_sorting",
)
WORDS = {
    "boolean_expressions": ("True", "False"),
    "causal_judgement": ("Yes", "No"),
    "formal_fallacies": ("valid", "invalid"),
    "navigate": ("Yes", "No"),
    "sports_understanding": ("yes", "no"),
    "web_of_lies": ("Yes", "No"),
}
OTHER = {  # reading, what the last line should hold, an example of it
    "dyck_languages": (
        reading.brackets,
        "only the missing closing brackets, separated by blanks",
        "] } >",
    ),
    "multistep_arithmetic_two": (reading.number, "a whole number", "-42"),
    "object_counting": (reading.number, "a whole number", "8"),
    "word_sorting": (reading.words, "the sorted words, separated by blanks", "apple bread cedar"),
}


def bbh(
    category: str, seed: int = 0, train: int = 20, split: str = "clean", data: str = "sample"
) -> Task:
    """One file of BIG-Bench Hard as a task, with the paper's graph: two hints and an answer.

    Parameters
    ----------
    category: name of the file, one of `NLP` or `ALGORITHMIC`; the sample data has three of them.
    seed: of the shuffle that decides which rows are trained on.
    train: training rows, the paper's 20; the rest is the test set.
    split: "clean": one shuffle, train and test are disjoint. "released": the rows are shuffled again, with the same
        generator, before the test set is taken, as in the authors' code: with seed 0, 489 of the 540 training
        questions of the 27 files are then test questions too. It is there to measure what that does.
    data: "sample" (our own, bundled) or "full" (see `semback.tasks.files`).

    Errors
    ------
    ParameterError: a category, split or data that does not exist, or more training rows than there can be.
    DataError: a file that is missing, altered or malformed.
    """
    known("category", category, NLP + ALGORITHMIC)
    known("split", split, ("clean", "released"))
    examples = _examples(category, data)
    order, rng = shuffled(examples, train, seed, spare=1)
    test = order[train:]
    if split == "released":
        rng.shuffle(examples)
        test = examples[train:]
    if category in WORDS:
        pair = WORDS[category]
        read, holds, sample = (
            partial(reading.choice, words=pair),
            f"{pair[0]} or {pair[1]}",
            pair[0],
        )
    elif category in OTHER:
        read, holds, sample = OTHER[category]
    else:  # three rows of the data have the text of an answer for a letter: their options were cut at a comma
        texts = tuple(
            sorted({example.answer for example in examples if not example.answer.startswith("(")})
        )
        read, holds, sample = (
            partial(reading.letter, texts=texts),
            "the letter of one option",
            "(B)",
        )
    return Task(
        f"bbh/{category}",
        order[:train],
        test,
        two_hints(holds, sample),
        read,
        overlap=split == "released",
    )


def two_hints(holds: str, sample: str) -> Graph:
    """The paper's graph for BBH and GSM8K: two hints and an answer, whose last line holds what is said, as in a sample of it."""
    hint = "Work out an intermediate step that helps to solve the problem."
    form = f"The last line is the word Answer, a colon and {holds}, for instance: Answer: {sample}"
    return Graph(
        (
            Node("hint_1", hint),
            Node("hint_2", hint),
            Node("answer", "Solve the problem.", ("hint_1", "hint_2"), form=form),
        )
    )


def _examples(category: str, data: str) -> list[Example]:
    path = f"bbh/{category}.json"
    try:
        rows = json.loads(files.text(path, data))["examples"]
        examples = [
            Example(f"{category}/{i}", row["input"], row["target"]) for i, row in enumerate(rows)
        ]
    except (ValueError, KeyError, TypeError) as error:
        raise DataError(
            f"{path} ({data} data) is not a BIG-Bench Hard file: {type(error).__name__}: {error}"
        ) from None
    for example in examples:
        if not isinstance(example.question, str) or not isinstance(example.answer, str):
            raise DataError(
                f"{path} ({data} data): input and target of row {example.id} should be text"
            )
    return examples
