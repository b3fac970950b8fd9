"""Questions of your own, from a CSV file as spreadsheets write it."""

import csv
import io
from collections.abc import Iterable, Iterator
from pathlib import Path

from ..errors import DataError
from ..task import Example

COLUMNS = ("id", "question", "answer")


def examples(path: str | Path) -> tuple[Example, ...]:
    """Read examples from a CSV file.

    Parameters
    ----------
    path : str or Path
        A file in UTF-8, with or without a byte order mark. Its first line names the columns:
        ``question``, ``answer``, perhaps ``id``; others are ignored. Cells are separated by commas,
        semicolons or tabs, whichever the first line has most of. White space around them is removed
        and empty rows are skipped. Without ids, the id is the file's name and the 0-based row, e.g.
        ``"questions/3"``; it changes when rows are inserted before it.

    Returns
    -------
    tuple of Example

    Raises
    ------
    DataError
        With file and line: for a file that does not exist, is not UTF-8, lacks a column, has two of
        one name or no rows; for a row with an empty cell, too many or too few cells, or a used id.
    """
    try:
        file = Path(path)
        text = file.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = error.object[: error.start].count(b"\n") + 1
        problem = f"{path}, line {line}: it is not UTF-8; save it as “CSV UTF-8”"
        raise DataError(problem, file=path, line=line) from None
    except (OSError, TypeError, ValueError) as error:  # a folder, not a path, a zero byte in it
        reason = f"cannot be read: {getattr(error, 'strerror', error)}"
        raise DataError(f"{path} {reason}. Give the path of a CSV file", file=path) from None
    delimiter = max(",;\t", key=text.lstrip().partition("\n")[0].count)
    lines = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    found: dict[str, Example] = {}
    try:
        for row in _rows(lines):
            name = row.get("id", f"{file.stem}/{len(found)}")
            if name in found:
                raise ValueError(f"the id {name!r} was used before; ids tell examples apart")
            found[name] = Example(name, row["question"], row["answer"])
    except (csv.Error, ValueError) as problem:
        line = max(lines.line_num, 1)
        raise DataError(f"{path}, line {line}: {problem}", file=path, line=line) from None
    if not found:
        raise DataError(f"{path} has no rows below its first line", file=path)
    return tuple(found.values())


def _rows(lines: Iterable[list[str]]) -> Iterator[dict[str, str]]:
    """The rows that are not empty, as {column: cell}; ValueError, which says why, for a bad one."""
    filled = ([cell.strip() for cell in line] for line in lines if any(map(str.strip, line)))
    head = [name.lower() for name in next(filled, [])]
    if twice := [name for name in COLUMNS if head.count(name) > 1]:
        raise ValueError(f"there is more than one column called {twice[0]}; rename the others")
    if missing := sorted({"question", "answer"} - set(head)):
        there = f"the first line has {', '.join(head)}" if head else "the file is empty"
        raise ValueError(f"there is no column called {' or '.join(missing)}; {there}")
    for cells in filled:
        if len(cells) != len(head):
            problem = f"{len(cells)} cells, and the first line has {len(head)}"
            raise ValueError(f"{problem}; a text with a comma in it needs quotes")
        row = dict(zip(head, cells))
        if empty := [name for name in COLUMNS if row.get(name) == ""]:
            raise ValueError(f"the {empty[0]} is empty")
        yield row
