"""LIAR: is a politician's statement a lie? (Wang, ACL 2017.) The paper's ablations run on it.

The settings are those of the authors' released code: only the labels true and false; only rows with
a job title, a state, a party and a context; and of each row what the five nodes look at, without
the speaker. They score on the training rows; here the upstream test file is held out for that.
"""

from functools import partial

from ..errors import DataError
from ..graph import Graph, Node
from ..task import Example, Task, shuffled
from . import answers
from . import data as files

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


def liar(seed: int = 0, train: int = 50, data: str = "sample") -> Task:
    """Make a task of LIAR: five nodes that look at one field each, and a final one.

    The answer "Yes" means that the statement is a lie.

    Parameters
    ----------
    seed : int
        Of the draw of training rows.
    train : int
        The number of training rows, 50 in the paper, drawn from the 2,343 usable rows of
        ``train.tsv``. The test set is all 296 usable rows of ``test.tsv``. Some statements occur
        more than once, a few with different labels; all are used.
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
    short = "At most two sentences."
    nodes = [Node(name, instruction, form=short) for name, (_, instruction) in FIELDS.items()]
    graph = Graph((*nodes, Node("Final", FINAL, tuple(FIELDS), form=FORM)))
    read = partial(answers.choice, words=("Yes", "No"))
    return Task("liar", order[:train], _examples("test", data), graph, read)


def _examples(part: str, data: str) -> list[Example]:
    path, examples = f"liar/{part}.tsv", []
    columns = sorted((column, name) for name, (column, _) in FIELDS.items())
    for i, line in enumerate(files.lines(path, data)):
        row = line.split("\t")  # no quoting: the csv module would join or alter rows
        if len(row) != 14:
            problem = f"has {len(row)} columns; a LIAR row has 14, separated by tabs"
            where = f"{path} ({data} data), line {i + 1}"
            raise DataError(f"{where} {problem}", file=path, line=i + 1)
        complete = all(row[at].strip().lower() not in ("", "none") for at, _ in columns[1:])
        if row[1] in ("true", "false") and complete:
            question = "\n".join(f"{name}: {row[at]}" for at, name in columns)
            answer = "Yes" if row[1] == "false" else "No"
            examples.append(Example(f"liar/{part}/{i}", question, answer))
    return examples
