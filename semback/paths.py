"""Where a checkout's folders are, and files that appear whole or not at all."""

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from .errors import ParameterError


def home() -> Path:
    """The folder that holds `cache/`, `notebooks/` and `runs/`.

    `SEMBACK_HOME` if it is set; else the nearest folder, from the working directory upwards, that
    has both `notebooks` and `cache`; else the working directory.
    """
    if folder := os.environ.get("SEMBACK_HOME"):
        return user_path(folder).resolve()
    here = Path.cwd()
    for folder in (here, *here.parents):
        if (folder / "notebooks").is_dir() and (folder / "cache").is_dir():
            return folder
    return here


def user_path(path: str | os.PathLike) -> Path:
    """A path as a user wrote it, with `~`, `~name` and `$NAME` expanded.

    Raises
    ------
    ParameterError
        There can be no such path: an unknown user, a NUL character, links in a circle.
    """
    try:
        expanded = Path(os.path.expandvars(path)).expanduser()
        with suppress(OSError):  # such as no permission: opening the file will tell
            expanded.resolve()
    except (RuntimeError, TypeError, ValueError) as error:
        raise ParameterError(f"{path!r} cannot be a path: {error}") from None
    return expanded


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A temporary path to write at; at the end the file moves to `path`, whole or not at all.

    Missing folders are made. If several processes write `path` at the same time, the last one wins.
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
