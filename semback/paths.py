"""Where a checkout's own folders are, whatever folder a notebook or a command was started in; and how files are written there."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


def home() -> Path:
    """The folder that holds `cache/`, `notebooks/` and `runs/`.

    `SEMBACK_HOME` if it is set; else the nearest folder, from the working directory upwards, that has both `notebooks`
    and `cache`; else the working directory.
    """
    if folder := os.environ.get("SEMBACK_HOME"):
        return Path(folder).resolve()
    here = Path.cwd()
    return next(
        (f for f in (here, *here.parents) if (f / "notebooks").is_dir() and (f / "cache").is_dir()),
        here,
    )


@contextmanager
def whole(path: Path) -> Iterator[Path]:
    """The path to write a file at, which then appears at `path`, whole or not at all, whoever else writes it; its folders are made."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{os.urandom(8).hex()}")
    try:
        yield part
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def put(path: Path, text: str) -> Path:
    """Write a text file, its folders too; it appears whole or not at all. Returns the path."""
    with whole(path) as part:
        part.write_text(text, encoding="utf-8", newline="\n")
    return path
