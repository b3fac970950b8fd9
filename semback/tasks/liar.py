"""LIAR: is a politician's statement a lie? (Wang, ACL 2017.) The paper's ablations run on it.

The settings are those of the authors' released code: only the labels true and false, only rows with a job title, a state, a party
and a context, and of each row what the five nodes look at, and not who speaks. They score on the training rows; here the upstream
test file is held out for that.
"""

from functools import partial

from ..errors import DataError
from ..graph import Graph, Node
from ..task import Example, Task, shuffled
from . import answers as reading
from . import data as files

HINTS = {
    "Statement": "Analyse the statement itself: is what it claims likely to be true?",
    "Party": "How does the speaker's party feel about what the statement is about?",
    "Job title": "Is the statement consistent with the speaker's job?",
    "Source": "Why might this source say it?",
    "State": "How does the speaker's state feel about what the statement is about?",
}
FINAL = "Decide, from the context and the answers to the five questions about it, whether the statement is a lie (Yes) or not (No)."
SHOWN = {
    "Statement": 2,
    "Job title": 5,
    "State": 6,
    "Party": 7,
    "Source": 13,
}  # column, the upstream context being the source
NEEDED = (5, 6, 7, 13)


def liar(seed: int = 0, train: int = 50, data: str = "sample") -> Task:
    """LIAR as a task: five nodes that look at one field each, and a final one. "Yes" means that it is a lie.

    Parameters
    ----------
    seed: of the draw of training rows.
    train: training rows, the paper's 50, drawn from the usable rows of ``train.tsv`` (2,343); the test set is all usable
        rows of ``test.tsv`` (296). Some statements are there more than once, with other labels too; all are kept.
    data: "sample" (our own, bundled) or "full" (see `semback.tasks.files`).

    Errors
    ------
    ParameterError: a data set that does not exist, or more training rows than there are.
    DataError: a file that is missing, altered or malformed.
    """
    order, _ = shuffled(_examples("train", data), train, seed)
    nodes = [
        Node(name, instruction, form="At most two sentences.")
        for name, instruction in HINTS.items()
    ]
    final = Node(
        "Final",
        FINAL,
        tuple(HINTS),
        form="The last line is the word Answer, a colon and Yes or No, for instance: Answer: Yes",
    )
    return Task(
        "liar",
        order[:train],
        _examples("test", data),
        Graph((*nodes, final)),
        partial(reading.choice, words=("Yes", "No")),
    )


def _examples(part: str, data: str) -> list[Example]:
    path, examples = f"liar/{part}.tsv", []
    for i, line in enumerate(files.lines(path, data)):
        row = line.split(
            "\t"
        )  # the file has no quoting: a csv reader's default would join or alter rows
        if len(row) != 14:
            raise DataError(
                f"{path} ({data} data), line {i + 1} has {len(row)} columns; a LIAR row has 14, separated by tabs"
            )
        if row[1] in ("true", "false") and not any(
            row[column].strip().lower() in ("", "none") for column in NEEDED
        ):
            question = "\n".join(f"{name}: {row[column]}" for name, column in SHOWN.items())
            examples.append(
                Example(f"liar/{part}/{i}", question, "Yes" if row[1] == "false" else "No")
            )
    return examples
