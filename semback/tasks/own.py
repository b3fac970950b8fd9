"""Questions of your own, from a CSV file as spreadsheets write it."""

import csv
import io
from collections.abc import Iterator
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
        semicolons or tabs, whatever the first line has most of. White space around them is removed
        and empty rows are skipped. Without ids, the id is the file's name and the 0-based row, e.g.
        ``"questions/3"``; it changes when rows are inserted before it.

    Returns
    -------
    tuple of Example

    Raises
    ------
    DataError
        With file and line: no such file, no UTF-8, no such columns or two of one name, no rows; a
        row with an empty cell, with too many or too few cells, or with an id that is taken.
    """
    try:
        file = Path(path)
        text = file.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = error.object[: error.start].count(b"\n") + 1
        raise _problem(Path(path), line, "it is not UTF-8; save it as “CSV UTF-8”") from None
    except (OSError, TypeError, ValueError) as error:  # a folder, no path at all, a zero byte in it
        reason = f"cannot be read: {getattr(error, 'strerror', error)}"
        raise DataError(f"{path} {reason}. Give the path of a CSV file", file=path) from None
    header = text.lstrip().partition("\n")[0]
    delimiter = max(",;\t", key=header.count)
    rows = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    found: dict[str, Example] = {}
    try:
        for row in _rows(file, rows):
            name = row.get("id", f"{file.stem}/{len(found)}")
            if name in found:
                problem = f"the id {name!r} was there before; ids tell examples apart"
                raise _problem(path, rows.line_num, problem)
            found[name] = Example(name, row["question"], row["answer"])
    except csv.Error as error:
        raise _problem(path, rows.line_num, str(error)) from None
    if not found:
        raise DataError(f"{path} has no rows under its first line", file=path)
    return tuple(found.values())


def _rows(path: Path, rows) -> Iterator[dict[str, str]]:
    """The rows that are not empty, as {column: cell}, checked."""
    filled = ([cell.strip() for cell in row] for row in rows if any(map(str.strip, row)))
    head = [name.lower() for name in next(filled, [])]
    for name in COLUMNS:
        if head.count(name) > 1:
            problem = f"there is more than one column called {name}; rename the others"
            raise _problem(path, rows.line_num, problem)
    missing = sorted({"question", "answer"} - set(head))
    if missing:
        there = f"the first line has {', '.join(head)}" if head else "the file is empty"
        problem = f"there is no column called {' or '.join(missing)}; {there}"
        raise _problem(path, max(rows.line_num, 1), problem)
    for cells in filled:
        if len(cells) != len(head):
            problem = f"{len(cells)} cells, and the first line has {len(head)}"
            quotes = "a text with a comma in it needs quotes"
            raise _problem(path, rows.line_num, f"{problem}; {quotes}")
        row = dict(zip(head, cells))
        for name in COLUMNS:
            if row.get(name) == "":
                raise _problem(path, rows.line_num, f"the {name} is empty")
        yield row


def _problem(path: str | Path, line: int, problem: str) -> DataError:
    return DataError(f"{path}, line {line}: {problem}", file=path, line=line)
