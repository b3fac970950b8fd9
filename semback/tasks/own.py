"""Questions of your own, from a CSV file as spreadsheets write it."""

import csv
import io
from pathlib import Path

from ..errors import DataError
from ..task import Example


def examples(path: str | Path) -> tuple[Example, ...]:
    """Examples from a CSV file with the columns ``question`` and ``answer``, and ``id`` if you have one; others are passed over.

    Parameters
    ----------
    path: of the file, in UTF-8 with or without a byte order mark. Cells are separated by commas, semicolons or tabs, as its first line
        is; white space around them is taken off, rows without anything in them are left out. Without a column ``id``, an id is the
        file's name and the 0-based row, e.g. ``"questions/3"``; it changes when rows are put in between.

    Errors
    ------
    DataError: no file, no UTF-8, no such columns or two of one name, no rows; a row with an empty cell, with cells that are too many
    or too few, or with an id that was there before. It names the file and the line.
    """
    try:
        path = Path(path)
        text = path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(
            f"{path}, line {error.object[: error.start].count(10) + 1}: it is not UTF-8; save it as “CSV UTF-8”"
        ) from None
    except (
        OSError,
        TypeError,
        ValueError,
    ) as error:  # of the latter, one is about what is no path, the other about zero bytes in it
        raise DataError(
            f"{path} cannot be read: {getattr(error, 'strerror', error)}. Give the path of a CSV file"
        ) from None
    first = text.lstrip().split("\n", 1)[0]
    rows = csv.reader(
        io.StringIO(text, newline=""), delimiter=max(",;\t", key=first.count), strict=True
    )
    try:
        return _examples(path, rows)
    except csv.Error as error:
        raise DataError(f"{path}, line {rows.line_num}: {error}") from None


def _examples(path: Path, rows) -> tuple[Example, ...]:
    head = [
        name.strip().lower() for name in next((row for row in rows if any(map(str.strip, row))), [])
    ]
    top = f"{path}, line {max(rows.line_num, 1)}"
    if missing := {"question", "answer"} - set(head):
        there = f"the first line has {', '.join(head)}" if head else "the file is empty"
        raise DataError(f"{top}: there is no column called {' or '.join(sorted(missing))}; {there}")
    if twice := sorted(name for name in {"id", "question", "answer"} if head.count(name) > 1):
        raise DataError(
            f"{top}: there is more than one column called {' or '.join(twice)}; call the others something else"
        )
    found: dict[str, Example] = {}
    for row in rows:
        cells = [cell.strip() for cell in row]
        if not any(cells):
            continue
        where = f"{path}, line {rows.line_num}"
        if len(cells) != len(head):
            raise DataError(
                f"{where}: {len(cells)} cells, and the first line has {len(head)}; a text with a comma in it needs quotes"
            )
        named = dict(zip(head, cells))
        for name in {"id", "question", "answer"} & set(head):
            if not named[name]:
                raise DataError(f"{where}: the {name} is empty")
        example = Example(
            named.get("id", f"{path.stem}/{len(found)}"), named["question"], named["answer"]
        )
        if example.id in found:
            raise DataError(
                f"{where}: the id {example.id!r} was there before; ids tell examples apart"
            )
        found[example.id] = example
    if not found:
        raise DataError(f"{path} has no rows under its first line")
    return tuple(found.values())
