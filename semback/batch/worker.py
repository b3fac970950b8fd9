"""One job of a batch, executed by papermill in a kernel of its own.

This may happen in a worker of Dask, so `execute` is passed everything that it needs. The notebook
is called <id>.failed.ipynb until it has succeeded, then <id>.ipynb. It carries a fingerprint then,
a hash of everything that its result follows from, and the hash of its record.
"""

import hashlib
import json
import logging
import os
import tempfile
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from subprocess import DEVNULL
from typing import Any, cast

import nbformat
import papermill
from jupyter_client.kernelspec import KernelSpecManager
from jupyter_client.manager import AsyncKernelManager
from jupyter_core.utils import ensure_event_loop

from ..cache.recording import canonical
from .jobs import LAST, Job

# A folder with a short path: that of a socket has at most 108 bytes (unix(7)), some TMPDIR more.
_SHORT = None if os.name == "nt" else "/tmp"
_kernels: dict[Any, str] = {}  # processes (Popen), and their batch
_stopped: set[str] = set()  # batches


@dataclass(frozen=True)
class Outcome:
    """What became of a job.

    Parameters
    ----------
    job : Job
    state : {"ok", "failed", "skipped"}
        "skipped": it was complete before.
    path : Path
        Of the executed notebook.
    seconds : float
    error : str
        The message of the error; "" where there was none.
    """

    job: Job
    state: str
    path: Path
    seconds: float = 0.0
    error: str = ""

    def __str__(self) -> str:
        line = f"{self.state:7} {self.seconds:6.1f} s  {self.job.id}  {self.error}"
        return line.partition("\n")[0].rstrip()


def execute(job: Job, folder: Path, again: bool, environment: Mapping[str, str]) -> Outcome:
    """Execute a job, unless it is complete.

    Parameters
    ----------
    job : Job
    folder : Path
        Of the batch.
    again : bool
        Execute it even if it is complete.
    environment : Mapping
        Variables for the kernel, beside those of this process. SEMBACK_BATCH tells `send_signal`
        which batch it is.
    """
    _refuse_if_stopped(environment)
    path, record = _files(job, folder)
    if not again and complete(job, folder):
        return Outcome(job, "skipped", path)
    started, fingerprint = time.perf_counter(), _fingerprint(job, folder)
    failed = path.with_suffix(".failed.ipynb")
    path.unlink(missing_ok=True)  # so that it never stands beside a newer record than its own
    state, left, error = "ok", path, ""
    with tempfile.TemporaryDirectory(dir=_SHORT, ignore_cleanup_errors=True) as scratch:
        try:
            book = _executed(job, failed, Path(scratch), environment)
            book.metadata["semback"] = {"fingerprint": fingerprint, "record": _hash(record)}
            _write(book, job, failed, path)
        except Exception as problem:
            state, left, error = "failed", failed, _message(problem)
            if environment["SEMBACK_BATCH"] in _stopped:
                failed.unlink(missing_ok=True)
            else:
                record.unlink(missing_ok=True)  # or tables would show an earlier result
                _finish_failed(job, failed, problem)
    return Outcome(job, state, left, time.perf_counter() - started, error)


def complete(job: Job, folder: Path) -> bool:
    """Whether a job succeeded before with the same parameters, cells and semback.

    Parameters
    ----------
    job : Job
    folder : Path
        Of the batch.
    """
    path, record = _files(job, folder)
    try:
        left = json.loads(path.read_text(encoding="utf-8"))["metadata"]["semback"]
    except (OSError, ValueError, KeyError, TypeError):
        return False
    return left == {"fingerprint": _fingerprint(job, folder), "record": _hash(record)}


def send_signal(batch: str, number: int) -> None:
    """Stop a batch: send a signal to its kernels in this process; they execute no further cell."""
    _stopped.add(batch)
    for process, its_batch in list(_kernels.items()):
        if its_batch == batch:
            process.send_signal(number)


def _refuse_if_stopped(environment: Mapping[str, str], **_: object) -> None:
    if environment["SEMBACK_BATCH"] in _stopped:
        raise RuntimeError("the batch was stopped: nothing more is executed")


def _executed(
    job: Job, output: Path, scratch: Path, environment: Mapping[str, str]
) -> nbformat.NotebookNode:
    logging.getLogger("papermill").setLevel(logging.CRITICAL)  # the outcome has what it would log
    try:
        return papermill.execute_notebook(
            str(job.notebook),
            str(output),
            dict(job.parameters),
            kernel_name="python3",
            progress_bar=False,
            kernel_manager_class=_kernel_class(scratch, {**os.environ, **environment}),
            resources={"metadata": {"path": str(job.notebook.parent)}},  # cwd= moves this process
            on_cell_execute=partial(_refuse_if_stopped, environment),
        )
    finally:
        ensure_event_loop().close()  # nbclient leaves that of this thread open


def _kernel_class(scratch: Path, environment: Mapping[str, str]) -> type[AsyncKernelManager]:
    """Kernels of this very Python.

    They are reached through sockets in a folder of their own: of TCP ports, kernels that start at
    the same time may choose the same ones (papermill#511).
    """

    class Kernel(AsyncKernelManager):
        def __init__(self, **settings: Any):
            super().__init__(**settings, connection_file=str(scratch / "kernel.json"))
            self.transport = "tcp" if os.name == "nt" else "ipc"
            self.kernel_spec_manager = KernelSpecManager(kernel_dirs=[])  # none of the user's

        async def start_kernel(self, **launch: Any) -> None:
            await super().start_kernel(**launch, env=environment, stdout=DEVNULL, stderr=DEVNULL)
            _kernels[cast(Any, self.provisioner).process] = environment["SEMBACK_BATCH"]

    return Kernel


def _files(job: Job, folder: Path) -> tuple[Path, Path]:
    """The finished notebook of a job, and its record."""
    return folder / "notebooks" / f"{job.id}.ipynb", folder / "results" / f"{job.id}.json"


def _fingerprint(job: Job, folder: Path) -> str:
    """A hash of a job's cells and parameters, of semback, and for `LAST` of all records."""
    book = nbformat.read(job.notebook, as_version=4)
    cells = [[cell.cell_type, cell.source] for cell in book.cells]
    # A limit does not change the result.
    parameters = {key: value for key, value in job.parameters.items() if key != "dollars"}
    records = (folder / "results").glob("*.json") if job.notebook.stem == LAST else []
    text = canonical([cells, parameters, _code(), _hashes(records)])
    return hashlib.sha256(text.encode()).hexdigest()


@cache
def _code() -> list[str]:
    files = Path(__file__).parents[1].rglob("*")
    return _hashes(path for path in files if path.is_file() and path.suffix != ".pyc")


def _hashes(paths: Iterable[Path]) -> list[str]:
    return [f"{path.name} {_hash(path)}" for path in sorted(paths)]


def _hash(path: Path) -> str | None:
    return hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else None


def _message(problem: Exception) -> str:
    name = getattr(problem, "ename", type(problem).__name__)  # that of an error in a cell
    return f"{name}: {getattr(problem, 'evalue', problem)}".strip(": \n")


def _finish_failed(job: Job, failed: Path, problem: Exception) -> None:
    """Add the reason of a failure to the notebook, where no cell shows it."""
    book = nbformat.read(failed, as_version=4)
    if not isinstance(problem, papermill.PapermillExecutionError):
        book.cells.append(nbformat.v4.new_markdown_cell(_message(problem)))
    _write(book, job, failed, failed)


def _write(book: nbformat.NotebookNode, job: Job, written: Path, path: Path) -> None:
    """Give an executed notebook its final name, without the folders of this computer."""
    book.metadata["papermill"].update(input_path=job.notebook.name, output_path=path.name)
    nbformat.write(book, written)
    written.replace(path)
