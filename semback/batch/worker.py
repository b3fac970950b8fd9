"""One job of a batch, executed by papermill in a kernel of its own.

This may happen in a worker of Dask, so `execute` is passed everything that it needs. While it runs,
the notebook is called <id>.running.ipynb; then <id>.ipynb, or <id>.failed.ipynb.
"""

import json
import logging
import os
import tempfile
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from subprocess import Popen
from typing import Any, cast

import nbformat
import papermill
from jupyter_client.kernelspec import KernelSpecManager
from jupyter_client.manager import AsyncKernelManager
from jupyter_client.provisioning.local_provisioner import LocalProvisioner
from jupyter_core.utils import ensure_event_loop

from ..prompts import fence
from . import fingerprint
from .jobs import Job

# A folder with a short path: that of a socket has at most 108 bytes (unix(7)), some TMPDIR more.
_SHORT = None if os.name == "nt" else "/tmp"
_kernels: dict[Popen, str] = {}  # processes, and their batch
_stopped: set[str] = set()  # batches


class Stopped(Exception):
    """The batch was stopped: nothing more is executed."""


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
    record : dict, optional
        What the job recorded, if it is an experiment that succeeded.
    """

    job: Job
    state: str
    path: Path
    seconds: float = 0.0
    error: str = ""
    record: dict[str, Any] | None = None

    def __str__(self) -> str:
        summary = self.error.partition("\n")[0]
        if self.record:
            scores = [self.record["test"][stage] for stage in ("before", "after")]
            summary = " → ".join(f"{each['correct'] / each['questions']:.1%}" for each in scores)
        return f"{self.state:7} {self.seconds:6.1f} s  {self.job.id}  {summary}".rstrip()


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

    Notes
    -----
    The finished notebook of an earlier execution is put aside meanwhile, since the record will soon
    be another one than it wrote. Where the batch is stopped before that, the notebook comes back.
    """
    _refuse_if_stopped(environment)
    path, record = _files(job, folder)
    if not again and complete(job, folder):
        return Outcome(job, "skipped", path, record=_read(job, record))
    started, mark = time.perf_counter(), fingerprint.of_job(job, folder)
    running, failed = path.with_suffix(".running.ipynb"), path.with_suffix(".failed.ipynb")
    aside = path.with_suffix(".ipynb.before")
    if path.is_file():
        path.replace(aside)
    error = ""
    with tempfile.TemporaryDirectory(dir=_SHORT, ignore_cleanup_errors=True) as scratch:
        try:
            book = _executed(job, running, Path(scratch), environment)
            written = fingerprint.file_hash(record)
            book.metadata["semback"] = {"fingerprint": mark, "record": written}
            _write(book, job, running, path)
            failed.unlink(missing_ok=True)
        except Exception as problem:  # papermill calls the notebook "completed" in any case
            error = _message(problem)
            if environment["SEMBACK_BATCH"] not in _stopped:
                _keep_failed(job, running, failed, problem, Path(scratch))
                record.unlink(missing_ok=True)  # or tables would show an earlier result
            elif fingerprint.of_notebook(aside, record):
                aside.replace(path)
    for file in (running, aside):
        file.unlink(missing_ok=True)
    seconds = time.perf_counter() - started
    if error:
        return Outcome(job, "failed", failed, seconds, error)
    return Outcome(job, "ok", path, seconds, record=_read(job, record))


def complete(job: Job, folder: Path) -> bool:
    """Whether a job succeeded before with the same parameters, cells and semback.

    Parameters
    ----------
    job : Job
    folder : Path
        Of the batch.
    """
    path, record = _files(job, folder)
    if job.experiment and not record.is_file():
        return False
    return fingerprint.of_notebook(path, record) == fingerprint.of_job(job, folder)


def send_signal(batch: str, number: int) -> None:
    """Stop a batch: send a signal to its kernels in this process; they execute no further cell."""
    _stopped.add(batch)
    for process, its_batch in list(_kernels.items()):
        if its_batch == batch and process.returncode is None:
            with suppress(ProcessLookupError):
                os.kill(process.pid, number)


def _refuse_if_stopped(environment: Mapping[str, str], **_: object) -> None:
    if environment["SEMBACK_BATCH"] in _stopped:
        raise Stopped("the batch was stopped")


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
            kernel_manager_class=_kernel_class(scratch, environment),
            extra_arguments=["--log-level=CRITICAL"],
            resources={"metadata": {"path": str(job.notebook.parent)}},  # cwd= moves this process
            on_cell_execute=partial(_refuse_if_stopped, environment),
        )
    finally:
        ensure_event_loop().close()  # nbclient leaves that of this thread open


def _kernel_class(scratch: Path, environment: Mapping[str, str]) -> type[AsyncKernelManager]:
    """Kernels of this very Python.

    They are reached through sockets in a folder of their own: of TCP ports, kernels that start at
    the same time may choose the same ones (papermill#511). What they write outside of the
    notebook's cells, such as an error at their start, goes to a file there.
    """

    class Kernel(AsyncKernelManager):
        def __init__(self, **settings: Any):
            specs = KernelSpecManager(kernel_dirs=[])  # a user's python3 may be any Python
            transport, file = "tcp" if os.name == "nt" else "ipc", str(scratch / "kernel.json")
            super().__init__(
                kernel_spec_manager=specs, transport=transport, connection_file=file, **settings
            )

        async def start_kernel(self, **launch: Any) -> None:
            variables = {**os.environ, **environment}
            with open(scratch / "kernel.log", "wb") as log:
                await super().start_kernel(**launch, env=variables, stdout=log, stderr=log)
            process = cast(LocalProvisioner, self.provisioner).process
            _kernels[cast(Popen, process)] = environment["SEMBACK_BATCH"]

    return Kernel


def _files(job: Job, folder: Path) -> tuple[Path, Path]:
    """The finished notebook of a job, and its record."""
    return folder / "notebooks" / f"{job.id}.ipynb", folder / "results" / f"{job.id}.json"


def _read(job: Job, record: Path) -> dict[str, Any] | None:
    if not job.experiment or not record.is_file():
        return None
    return json.loads(record.read_text(encoding="utf-8"))


def _message(problem: Exception) -> str:
    if isinstance(problem, papermill.PapermillExecutionError):
        return f"{problem.ename}: {problem.evalue}".strip(": \n")
    return f"{type(problem).__name__}: {problem}".strip(": \n")


def _keep_failed(job: Job, running: Path, failed: Path, problem: Exception, scratch: Path) -> None:
    """Keep what was executed until the failure; with the reason, where no cell shows it."""
    if not running.is_file():
        return
    book = nbformat.read(running, as_version=4)
    if not isinstance(problem, papermill.PapermillExecutionError):
        text = f"**The notebook ended here.** {_message(problem)}"
        log = scratch / "kernel.log"
        output = log.read_text("utf-8", errors="replace").strip() if log.is_file() else ""
        if output:
            text += f"\n\nThe last output of its kernel:\n\n{fence(output[-5000:], 'text')}"
        book.cells.append(nbformat.v4.new_markdown_cell(text))
    _write(book, job, running, failed)


def _write(book: nbformat.NotebookNode, job: Job, running: Path, path: Path) -> None:
    """Give an executed notebook its final name, without the folders of this computer."""
    book.metadata["papermill"].update(input_path=job.notebook.name, output_path=path.name)
    nbformat.write(book, running)
    running.replace(path)
