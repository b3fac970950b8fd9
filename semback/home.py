"""Where a checkout's own folders are, whatever folder a notebook or a command was started in; and how files are written there."""

import os
from pathlib import Path


def home() -> Path:
    """The folder that holds `cache/`, `notebooks/` and `runs/`.

    `SEMBACK_HOME` if it is set; else the nearest folder, from the working directory upwards, that has both `notebooks`
    and `cache`; else the working directory.
    """
    if folder := os.environ.get("SEMBACK_HOME"):
        return Path(folder).resolve()
    here = Path.cwd()
    return next((f for f in (here, *here.parents) if (f / "notebooks").is_dir() and (f / "cache").is_dir()), here)


def put(path: Path, text: str) -> Path:
    """Write a text file, its folders too; it appears whole or not at all. Returns the path."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        part.write_text(text, encoding="utf-8", newline="\n")
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)
    return path
