"""Whether the notebook that a job left is still what the job would give.

A fingerprint is a hash of everything that a job's result follows from. The finished notebook
carries it, together with the hash of the record that it wrote.
"""

import hashlib
import json
from collections.abc import Iterable
from functools import cache
from pathlib import Path

import nbformat

from ..cache.recording import canonical
from .jobs import LAST, Job


def of_job(job: Job, folder: Path) -> str:
    """The fingerprint of a job: of its cells and parameters, of semback, and for `LAST` of records.

    Parameters
    ----------
    job : Job
    folder : Path
        Of the batch.
    """
    book = nbformat.read(job.notebook, as_version=4)
    cells = [[cell.cell_type, cell.source] for cell in book.cells]
    parameters = dict(job.parameters)
    parameters.pop("dollars", None)  # a limit does not change the result
    records = (folder / "results").glob("*.json") if job.notebook.stem == LAST else []
    text = canonical([cells, parameters, _code(), _hashes(records)])
    return hashlib.sha256(text.encode()).hexdigest()


def of_notebook(notebook: Path, record: Path) -> str | None:
    """The fingerprint in a finished notebook; None without one, or if the record is another now."""
    try:
        left = json.loads(notebook.read_text(encoding="utf-8"))["metadata"]["semback"]
        return left["fingerprint"] if left["record"] == file_hash(record) else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def file_hash(path: Path) -> str | None:
    """The SHA-256 of a file; None where there is none."""
    return hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else None


@cache
def _code() -> list[str]:
    files = Path(__file__).parents[1].rglob("*")
    return _hashes(path for path in files if path.is_file() and path.suffix != ".pyc")


def _hashes(paths: Iterable[Path]) -> list[str]:
    return [f"{path.name} {file_hash(path)}" for path in sorted(paths)]
