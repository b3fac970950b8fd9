"""The paper's three data sets as tasks: BIG-Bench Hard, GSM8K and LIAR.

- BIG-Bench Hard (Suzgun et al., arXiv 2210.09261): 23 tasks in 27 files, each file a task of its
  own here. The paper reports two groups of files, `NLP` and `ALGORITHMIC`.
- GSM8K (Cobbe et al., arXiv 2110.14168): grade-school arithmetic in words, one number to answer.
- LIAR (Wang, ACL 2017): is a politician's statement a lie? The paper's ablations run on it. The
  settings are those of the authors' released code: only the labels true and false; only rows with a
  job title, a state, a party and a context; and from each row what the five nodes look at, without
  the speaker. They score on the training rows; here the upstream test file is held out for that.
"""

import json
from collections.abc import Callable
from functools import partial

from ..errors import known
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
# Answers that are not letters: their reader, and `holds` and `instance` of `two_hints`
FORMS: dict[str, tuple[Reader, str, str]] = {
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
    category: str,
    seed: int = 0,
    train: int = 20,
    split: str = "clean",
    data: str = "sample",
    test: int | None = None,
    hint_form: str = "",
) -> Task:
    """Make a task of one file of BIG-Bench Hard, with the paper's graph: two hints and an answer.

    Parameters
    ----------
    category : str
        The name of the file, one of `NLP` or `ALGORITHMIC`. The sample data has three of them.
    seed : int
        Seed of the shuffle that decides which rows are trained on.
    train : int
        The number of training rows, 20 in the paper. The rest is the test set.
    split : {"clean", "released"}
        "clean": one shuffle, so that train and test are disjoint. "released": the rows are shuffled
        again, with the same generator, before the test set is taken, as in the authors' code. With
        seed 0, 489 of the 540 training questions of the 27 files are then test questions too. It
        serves to measure how that changes a score.
    data : {"sample", "full"}
        Our own sample, which is bundled, or the data set itself (see `semback.tasks.data`).
    test : int, optional
        For a cheap trial: how many of the test questions to use, the first in the seed's order.
    hint_form : str
        How hints should look, e.g. "At most two sentences." for models that are slow or ramble.

    Returns
    -------
    Task

    Raises
    ------
    ParameterError
        For a category, split or data that does not exist, or more rows than there are.
    DataError
        For a file that is missing or altered.
    """
    known("category", category, NLP + ALGORITHMIC)
    known("split", split, ("clean", "released"))
    examples = _bbh_examples(category, data)
    order, rng = shuffled(examples, train, seed, spare=1)
    others = order[train:]
    if split == "released":
        rng.shuffle(examples)
        others = examples[train:]
    if category in FORMS:
        read, holds, instance = FORMS[category]
    else:  # the answers of three rows are text, no letter: their options were cut at a comma
        texts = sorted({row.answer for row in examples if not row.answer.startswith("(")})
        read = partial(answers.letter, texts=tuple(texts))
        holds, instance = "the letter of one option", "(B)"
    graph = two_hints(holds, instance, hint_form)
    overlap = split == "released"
    return Task(f"bbh/{category}", order[:train], others, graph, read, overlap=overlap, only=test)


def two_hints(holds: str, instance: str, hint_form: str = "") -> Graph:
    """The paper's graph for BBH and GSM8K: two hints, and an answer node.

    Parameters
    ----------
    holds : str
        What the last line of the answer node's reply should hold after "Answer:".
    instance : str
        An example of it.
    hint_form : str
        The form of both hint nodes.
    """
    hint = "Work out an intermediate step that helps to solve the problem."
    form = (
        f"The last line is the word Answer, a colon and {holds}, for instance: Answer: {instance}"
    )
    answer = Node("answer", "Solve the problem.", ("hint_1", "hint_2"), form=form)
    hints = [Node(name, hint, form=hint_form) for name in answer.inputs]
    return Graph((*hints, answer))


def _bbh_examples(category: str, data: str) -> list[Example]:
    rows = json.loads(files.text(f"bbh/{category}.json", data))["examples"]
    return [Example(f"{category}/{i}", row["input"], row["target"]) for i, row in enumerate(rows)]


def gsm8k(
    seed: int = 0,
    train: int = 128,
    data: str = "sample",
    test: int | None = None,
    hint_form: str = "",
) -> Task:
    """Make a task of GSM8K, with the paper's graph: two hints and an answer.

    Parameters
    ----------
    seed : int
        Seed of the draw of training rows.
    train : int
        The number of training rows drawn from ``train.jsonl``, 128 in the paper. The test set is
        all of ``test.jsonl``.
    data : {"sample", "full"}
        Our own sample, which is bundled, or the data set itself (see `semback.tasks.data`).
    test : int, optional
        For a cheap trial: how many of the test questions to use, the first in the file's order.
    hint_form : str
        How hints should look, as in `bbh`.

    Returns
    -------
    Task

    Raises
    ------
    ParameterError
        For data that does not exist, or more rows than there are.
    DataError
        For a file that is missing or altered.
    """
    order, _ = shuffled(_gsm8k_examples("train", data), train, seed)
    graph = two_hints("only a number", "18", hint_form)
    others = _gsm8k_examples("test", data)
    return Task("gsm8k", order[:train], others, graph, answers.number, only=test)


def _gsm8k_examples(part: str, data: str) -> list[Example]:
    examples = []
    for i, line in enumerate(files.lines(f"gsm8k/{part}.jsonl", data)):
        row = json.loads(line)
        answer = answers.number(row["answer"].rpartition("#### ")[2])
        examples.append(Example(f"gsm8k/{part}/{i}", row["question"], str(answer)))
    return examples


FIELDS = {  # name: 0-based column, and the instruction of its node; the source is their "context"
    "Statement": (2, "Analyse the statement itself: is what it claims likely to be true?"),
    "Party": (7, "How does the speaker's party feel about what the statement is about?"),
    "Job title": (5, "Is the statement consistent with the speaker's job?"),
    "Source": (13, "Why might this source say it?"),
    "State": (6, "How does the speaker's state feel about what the statement is about?"),
}
FINAL = (
    "Decide, from the context and the answers to the five questions about it, whether the "
    "statement is a lie (Yes) or not (No)."
)
FORM = "The last line is the word Answer, a colon and Yes or No, for instance: Answer: Yes"


def liar(seed: int = 0, train: int = 50, data: str = "sample", test: int | None = None) -> Task:
    """Make a task of LIAR: five nodes that look at one field each, and a final one.

    The answer "Yes" means that the statement is a lie.

    Parameters
    ----------
    seed : int
        Seed of the draw of training rows.
    train : int
        The number of training rows, 50 in the paper, drawn from the 2,343 usable rows of
        ``train.tsv``. The test set is all 296 usable rows of ``test.tsv``. Some statements occur
        more than once, a few with different labels; all are used.
    data : {"sample", "full"}
        Our own sample, which is bundled, or the data set itself (see `semback.tasks.data`).
    test : int, optional
        For a cheap trial: how many of the test questions to use, the first in the file's order.

    Returns
    -------
    Task

    Raises
    ------
    ParameterError
        For data that does not exist, or more rows than there are.
    DataError
        For a file that is missing or altered.
    """
    order, _ = shuffled(_liar_examples("train", data), train, seed)
    short = "At most two sentences."
    nodes = [Node(name, instruction, form=short) for name, (_, instruction) in FIELDS.items()]
    graph = Graph((*nodes, Node("Final", FINAL, tuple(FIELDS), form=FORM)))
    read = partial(answers.choice, words=("Yes", "No"))
    return Task("liar", order[:train], _liar_examples("test", data), graph, read, only=test)


def _liar_examples(part: str, data: str) -> list[Example]:
    examples = []
    columns = sorted((column, name) for name, (column, _) in FIELDS.items())
    for i, line in enumerate(files.lines(f"liar/{part}.tsv", data)):
        row = line.split("\t")  # no quoting: the csv module would join or alter rows
        complete = all(row[at].strip().lower() not in ("", "none") for at, _ in columns[1:])
        if row[1] in ("true", "false") and complete:
            question = "\n".join(f"{name}: {row[at]}" for at, name in columns)
            answer = "Yes" if row[1] == "false" else "No"
            examples.append(Example(f"liar/{part}/{i}", question, answer))
    return examples
