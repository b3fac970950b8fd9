"""Where a checkout's folders are, and files that appear whole or not at all."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


def home() -> Path:
    """The folder that holds `cache/`, `notebooks/` and `runs/`.

    `SEMBACK_HOME` if it is set; else the nearest folder, from the working directory upwards, that
    has both `notebooks` and `cache`; else the working directory.
    """
    if folder := os.environ.get("SEMBACK_HOME"):
        return Path(folder).resolve()
    here = Path.cwd()
    for folder in (here, *here.parents):
        if (folder / "notebooks").is_dir() and (folder / "cache").is_dir():
            return folder
    return here


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A temporary path to write at; at the end the file moves to `path`, whole or not at all.

    Folders are made. Whoever else writes `path` at the same time does the same; the last one stays.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{os.urandom(8).hex()}")
    try:
        yield temporary
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> Path:
    """Write a text file, and its folders; it appears whole or not at all. Returns the path."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8", newline="\n")
    return path
