"""One notebook of a batch, executed where the batch sends it, which may be another process on another machine.

So it is told everything in plain data. What it leaves is <id>.ipynb or <id>.failed.ipynb (see `batch`).
"""

import hashlib
import json
import logging
import os
import tempfile
import time
from pathlib import Path

import nbformat
import papermill
from jupyter_client import AsyncKernelManager
from jupyter_client.kernelspec import KernelSpecManager
from jupyter_core.utils import ensure_event_loop

from ..prompts import fence
from .forkserver import FORKS
from .jobs import unbraced

_kernels: dict[str, list] = {}  # batch: the processes of its kernels
_stopped: set[str] = set()
SHORT = 70  # bytes of a folder in which sockets have room: their paths may have some 100 (`sun_path` in unix(7)), and add 30


def execute(
    notebook: str,
    parameters: dict,
    output: str,
    record: str,
    mark: str,
    environment: dict,
    batch: str,
) -> tuple[float, str]:
    """Execute one notebook. Returns (seconds, what went wrong or ""). Until it is done its file is called <id>.running.ipynb.

    record: the path of its results, if it writes any. The finished notebook of an earlier time is put aside meanwhile, since the record
    may soon be no longer its own; it comes back where the batch is stopped before that.
    """
    logging.getLogger("papermill").setLevel(logging.CRITICAL)  # what it would log is in the outcome
    started, path = time.perf_counter(), Path(output)
    running, failed, before = (
        path.with_suffix(f".{end}") for end in ("running.ipynb", "failed.ipynb", "ipynb.before")
    )
    with (
        tempfile.TemporaryDirectory(
            prefix="semback-", dir=_sockets(), ignore_cleanup_errors=True
        ) as folder,
        open(os.path.join(folder, "log"), "a+", encoding="utf-8", errors="replace") as log,
    ):
        try:
            if path.is_file():
                path.replace(before)
            book = papermill.execute_notebook(
                unbraced(notebook),
                unbraced(running),
                parameters,
                kernel_name="python3",
                progress_bar=False,
                kernel_manager_class=_kernel_class(folder, log, environment, batch),
                extra_arguments=["--log-level=CRITICAL"],
                resources={"metadata": {"path": str(Path(notebook).parent)}},
            )  # papermill's own cwd= would move the whole process
            book.metadata["semback"] = {"fingerprint": mark, "record": _hash(record)}
            _write(book, notebook, running, path)
            for old in (failed, before):
                old.unlink(missing_ok=True)
            return time.perf_counter() - started, ""
        except Exception as error:  # only this tells: papermill calls an interrupted or killed notebook "completed"
            in_cell = isinstance(
                error, papermill.PapermillExecutionError
            )  # then the traceback is in the notebook
            said = (
                f"{error.ename}: {error.evalue}" if in_cell else f"{type(error).__name__}: {error}"
            )
            if batch in _stopped:
                if fingerprint(before, record):
                    before.replace(path)
            elif running.is_file():
                book = nbformat.read(running, as_version=4)
                book.cells += (
                    []
                    if in_cell
                    else [
                        nbformat.v4.new_markdown_cell(
                            f"**It ended here.** {said}{_last_words(log)}"
                        )
                    ]
                )
                _write(book, notebook, running, failed)
            for old in (running, before):
                old.unlink(missing_ok=True)
            return time.perf_counter() - started, said.strip(": \n")
        finally:
            ensure_event_loop().close()  # nbclient leaves this thread's loop open


def _sockets() -> str:
    """Where the kernels' sockets are: the folder for temporary files, unless its path is too long, as those of clusters can be."""
    usual = tempfile.gettempdir()
    return usual if os.name == "nt" or len(os.fsencode(usual)) <= SHORT else "/tmp"


def fingerprint(path: Path, record: str | Path) -> str | None:
    """What a finished notebook follows from; None where there is none, or the record is no longer the one that it left."""
    try:
        kept = json.loads(path.read_text(encoding="utf-8"))["metadata"]["semback"]
        return kept["fingerprint"] if kept["record"] == _hash(record) else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _hash(record: str | Path) -> str | None:
    return hashlib.sha256(Path(record).read_bytes()).hexdigest() if Path(record).is_file() else None


def _last_words(log) -> str:
    """The last that a kernel said outside its notebook, such as why it did not start; "" where it said nothing."""
    log.seek(0)
    said = log.read()[-5000:].strip()
    return f"\n\nThe kernel's last words:\n\n{fence(said, 'text')}" if said else ""


def _write(book, notebook: str, running: Path, path: Path) -> None:
    """Write an executed notebook under its final name, without the folders of this computer, which papermill puts into it."""
    book.metadata.get("papermill", {}).update(input_path=Path(notebook).name, output_path=path.name)
    nbformat.write(book, running)
    running.replace(path)


def _kernel_class(folder: str, log, environment: dict, batch: str):
    """Kernels of this very Python, for `stop` to end, on sockets in `folder`: those that start at once race for ports (papermill#511).

    log: a file for what a kernel says outside its notebook, such as an error at its start or end; on stderr it would
    stand between the batch's own lines.
    """

    class Specs(KernelSpecManager):
        def get_kernel_spec(self, name):
            spec = super().get_kernel_spec(name)
            spec.metadata |= (
                {"kernel_provisioner": {"provisioner_name": "semback"}} if FORKS else {}
            )
            return spec

    class Kernel(AsyncKernelManager):
        def __init__(self, **settings):
            super().__init__(
                transport="tcp" if os.name == "nt" else "ipc",
                connection_file=os.path.join(folder, "kernel.json"),
                **settings,
            )
            self.kernel_spec_manager = Specs(
                kernel_dirs=[]
            )  # a "python3" in a user's folders may be any Python

        async def start_kernel(self, **launch):
            await super().start_kernel(
                **launch, env={**os.environ, **environment}, stdout=log, stderr=log
            )
            _kernels.setdefault(batch, []).append(self.provisioner.process)
            if batch in _stopped:
                stop(batch)

    return Kernel


def stop(batch: str, at_once: bool = False) -> None:
    """End the batch's kernels in this process, and those that are just starting: when the answers that are on their way to them are
    recorded (see `paid`), or at once."""
    _stopped.add(batch)
    for process in _kernels.get(batch, ()):
        if process.poll() is None:
            process.kill() if at_once else process.terminate()


def wait(batch: str) -> None:
    """Wait until the batch's kernels in this process have ended."""
    for process in list(_kernels.get(batch, ())):
        process.wait()
