"""Execute the jobs of a batch with papermill, each in a kernel of its own, several at a time.

In ``runs/<name>/notebooks/`` a job leaves ``<id>.ipynb`` if it succeeded, else
``<id>.failed.ipynb``. The first carries a hash of everything that its result follows from, and of
its record, so that a complete job is not executed again.
"""

import hashlib
import json
import logging
import os
import shutil
import signal
import sys
import time
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from subprocess import DEVNULL
from tempfile import TemporaryDirectory
from typing import Any, cast

import nbformat
import papermill
from filelock import FileLock, Timeout
from jupyter_client.kernelspec import KernelSpecManager
from jupyter_client.manager import AsyncKernelManager
from jupyter_core.utils import ensure_event_loop

from ..cache.recording import canonical
from ..errors import DataError, ParameterError
from ..paths import home, user_path
from ..report import results
from .jobs import LAST, Job, check

# Parameters that do not change a result: what may be spent, and how models are reached.
LIMITS = ("dollars", "retries", "timeout", "base_url", "coach_url")
LIMITS += ("in_flight", "requests_per_minute", "tokens_per_minute")
# A folder with a short path: that of a socket has at most 108 bytes (unix(7)); TMPDIR may be long.
_SHORT = None if os.name == "nt" else "/tmp"
_kernels: defaultdict[str, list[Any]] = defaultdict(list)  # the processes (Popen) of each batch
_stopped: set[str] = set()  # batches


@dataclass(frozen=True)
class Outcome:
    """The outcome of a job.

    Parameters
    ----------
    job : Job
    state : {"ok", "failed", "skipped"}
        "skipped": it was already complete.
    path : Path
        Of the executed notebook.
    seconds : float
    error : str
        The error message; "" if there was none.
    """

    job: Job
    state: str
    path: Path
    seconds: float = 0.0
    error: str = ""

    def __str__(self) -> str:
        line = f"{self.state:7} {self.seconds:6.1f} s  {self.job.id}  {self.error}"
        return line.partition("\n")[0].rstrip()


def run(
    jobs: Sequence[Job], name: str, workers: int | None = None, again: bool = False
) -> list[Outcome]:
    """Execute jobs. A line on stderr reports the end of each.

    Parameters
    ----------
    jobs : sequence of Job
        From `grid`, or your own. The one called `jobs.LAST` starts when all the others have ended.
    name : str
        The batch; its files are in ``runs/<name>``.
    workers : int, optional
        Notebooks to run at a time; by default one for each processor.
    again : bool
        Also execute jobs that are complete.

    Returns
    -------
    list of Outcome
        One for each job. A notebook that fails does not stop the others.

    Raises
    ------
    ParameterError, DataError
        Before any kernel starts: those of `check`, or another process is executing the same
        notebook for this batch.
    KeyboardInterrupt
        After Ctrl-C, when the running notebooks have ended: their cells are interrupted, so that
        replies in flight are still recorded. A second Ctrl-C kills their kernels. Jobs that are
        complete remain so.
    """
    check(jobs, name)
    folder = results.folder(name)
    (folder / "notebooks").mkdir(parents=True, exist_ok=True)
    workers = workers or os.cpu_count() or 1
    outcomes: dict[str, Outcome] = {}
    pending: set[Future[Outcome]] = set()
    spent = TemporaryDirectory(prefix=".spent-", dir=folder, ignore_cleanup_errors=True)
    with spent as shared, _locked(jobs, folder), ThreadPoolExecutor(workers) as executor:
        environment = _environment(shared, min(workers, len(jobs)))
        try:
            for last in (False, True):
                group = [job for job in jobs if (job.notebook.stem == LAST) == last]
                pending = {
                    executor.submit(execute, job, folder, again, environment) for job in group
                }
                drawn = 0
                while pending:
                    ended, pending = wait(pending, 1, FIRST_COMPLETED)
                    print("\x1b[A\x1b[K" * drawn, end="", file=sys.stderr)
                    for future in ended:
                        outcome = future.result()
                        outcomes[outcome.job.id] = outcome
                        print(f"[{len(outcomes)}/{len(jobs)}] {outcome}", file=sys.stderr)
                    drawn = _draw_running(Path(shared))
        except BaseException:
            _stop(shared, pending)
            raise
    return [outcomes[job.id] for job in jobs]


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
        The variables of the kernel. SEMBACK_BATCH is the batch.
    """
    _refuse_if_stopped(environment)
    path, record = _files(job, folder)
    if not again and complete(job, folder):
        return Outcome(job, "skipped", path)
    started, earlier, fingerprint = time.perf_counter(), _written(record), _fingerprint(job, folder)
    failed = path.with_suffix(".failed.ipynb")
    status = Path(environment["SEMBACK_BATCH"], f"{job.id}.status")
    status.write_text("starts")
    path.unlink(missing_ok=True)  # so that it is never beside a newer record than its own
    try:
        _execute(job, failed, {**environment, "SEMBACK_STATUS": str(status)})
        if job.experiment and _written(record) == earlier:
            raise DataError(f"the notebook wrote no record: sb.results.save makes {record}")
    except Exception as problem:
        error = _message(problem)
        if environment["SEMBACK_BATCH"] in _stopped:
            failed.unlink(missing_ok=True)
        else:
            record.unlink(missing_ok=True)  # or tables would show an earlier result
            shown = isinstance(problem, papermill.PapermillExecutionError)  # the cell has it
            _finish(job, failed, failed, [] if shown else [nbformat.v4.new_markdown_cell(error)])
        return Outcome(job, "failed", failed, time.perf_counter() - started, error)
    finally:
        status.unlink(missing_ok=True)
    _finish(job, failed, path, semback={"fingerprint": fingerprint, "record": _hashes([record])})
    return Outcome(job, "ok", path, time.perf_counter() - started)


def complete(job: Job, folder: Path) -> bool:
    """Whether a job has already succeeded with the same parameters, cells and semback.

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
    return left == {"fingerprint": _fingerprint(job, folder), "record": _hashes([record])}


def _draw_running(shared: Path) -> int:
    """On a terminal, write a line for each running notebook. Returns how many there are."""
    if os.environ.get("SEMBACK_PROGRESS") == "off" or not sys.stderr.isatty():
        return 0
    lines = []
    for path in sorted(shared.glob("*.status")):
        with suppress(OSError):  # it has just ended
            line = f"  {path.stem:30.30}  {path.read_text()}"
            lines.append(line[: shutil.get_terminal_size().columns - 1])
    print("".join(f"{line}\n" for line in lines), end="", file=sys.stderr, flush=True)
    return len(lines)


def _environment(shared: str, kernels: int) -> dict[str, str]:
    """The variables of a kernel, which starts in the folder of its notebook.

    SEMBACK_BATCH is a folder in which the batch's notebooks add up what they spend of a budget and
    of limits per minute; its name tells the cache which replies were refreshed in this batch.
    SEMBACK_KERNELS is how many notebooks run at a time and share the requests in flight.
    """
    folders = {
        name: os.path.abspath(user_path(folder))
        for name, folder in os.environ.items()
        if name.startswith("SEMBACK_") and name.endswith("_DIR") and folder
    }
    ours = {"SEMBACK_HOME": str(home()), "SEMBACK_BATCH": shared, "SEMBACK_KERNELS": str(kernels)}
    return {**os.environ, **folders, **ours}


@contextmanager
def _locked(jobs: Sequence[Job], folder: Path) -> Iterator[None]:
    """Meanwhile no other process on this computer executes these notebooks for this batch."""
    with ExitStack() as stack:
        try:
            for notebook in sorted({job.notebook.stem for job in jobs}):
                stack.enter_context(FileLock(folder / f".{notebook}.lock", blocking=False))
        except Timeout as error:
            message = "another run of the batch is executing it; wait, or choose another name"
            raise ParameterError(f"{error.lock_file} is locked: {message}") from None
        yield


def _stop(batch: str, futures: Iterable[Future]) -> None:
    try:
        print("stopping: replies in flight are still recorded; Ctrl-C drops them", file=sys.stderr)
        _send_signal(batch, signal.SIGINT)
        wait(futures)  # not joining threads: Python 3.11 may take a running one to have ended
    except KeyboardInterrupt:
        _send_signal(batch, signal.SIGKILL)
        wait(futures)


def _send_signal(batch: str, number: int) -> None:
    """Send a signal to the kernels of a batch; they execute no further cell."""
    _stopped.add(batch)
    for process in list(_kernels[batch]):
        process.send_signal(number)


def _refuse_if_stopped(environment: Mapping[str, str], **_: object) -> None:
    if environment["SEMBACK_BATCH"] in _stopped:
        raise RuntimeError("the batch was stopped: nothing more is executed")


def _execute(job: Job, output: Path, environment: Mapping[str, str]) -> None:
    logging.getLogger("papermill").setLevel(logging.CRITICAL)  # the outcome has all it would log
    with TemporaryDirectory(dir=_SHORT, ignore_cleanup_errors=True) as scratch:
        try:
            papermill.execute_notebook(
                str(job.notebook),
                str(output),
                dict(job.parameters),
                kernel_name="python3",  # even if the notebook names none, or another
                language="python",
                progress_bar=False,
                kernel_manager_class=_kernel_class(scratch, environment),
                resources={"metadata": {"path": str(job.notebook.parent)}},  # cwd= would move us
                on_cell_execute=partial(_refuse_if_stopped, environment),
            )
        finally:
            ensure_event_loop().close()  # nbclient leaves this thread's loop open


def _kernel_class(scratch: str, environment: Mapping[str, str]) -> type[AsyncKernelManager]:
    """Kernels that run this Python.

    They are reached through sockets in a folder of their own: kernels that start at the same time
    may choose the same TCP ports (papermill#511).
    """

    class Kernel(AsyncKernelManager):
        def __init__(self, **settings: Any):
            super().__init__(**settings, connection_file=f"{scratch}/kernel.json")
            self.transport = "tcp" if os.name == "nt" else "ipc"
            self.kernel_spec_manager = KernelSpecManager(kernel_dirs=[])  # not the user's

        async def start_kernel(self, **launch: Any) -> None:
            await super().start_kernel(**launch, env=environment, stdout=DEVNULL, stderr=DEVNULL)
            _kernels[environment["SEMBACK_BATCH"]].append(cast(Any, self.provisioner).process)

    return Kernel


def _finish(job: Job, written: Path, path: Path, cells: Sequence = (), **metadata: Any) -> None:
    """Give an executed notebook its final name, and leave out the folders of this computer."""
    book = nbformat.read(written, as_version=4)
    book.metadata["papermill"].update(input_path=job.notebook.name, output_path=path.name)
    book.metadata.update(metadata)
    book.cells.extend(cells)
    nbformat.write(book, written)
    written.replace(path)


def _message(problem: Exception) -> str:
    name = getattr(problem, "ename", type(problem).__name__)  # ename: of an error in a cell
    return f"{name}: {getattr(problem, 'evalue', problem)}".strip(": \n")


def _files(job: Job, folder: Path) -> tuple[Path, Path]:
    """The finished notebook of a job, and its record."""
    return folder / "notebooks" / f"{job.id}.ipynb", folder / "results" / f"{job.id}.json"


def _written(path: Path) -> int | None:
    """When a file was last written."""
    return path.stat().st_mtime_ns if path.is_file() else None


def _fingerprint(job: Job, folder: Path) -> str:
    """A hash of a job's cells and parameters, of semback, and for `LAST` of all records."""
    book = nbformat.read(job.notebook, as_version=4)
    cells = [[cell.cell_type, cell.source] for cell in book.cells]
    parameters = {key: value for key, value in job.parameters.items() if key not in LIMITS}
    records = (folder / "results").glob("*.json") if job.notebook.stem == LAST else []
    text = canonical([cells, parameters, _code(), _hashes(records)])
    return hashlib.sha256(text.encode()).hexdigest()


@cache
def _code() -> list[str]:
    files = Path(__file__).parents[1].rglob("*")
    return _hashes(path for path in files if path.suffix != ".pyc")


def _hashes(paths: Iterable[Path]) -> list[str]:
    files = [path for path in sorted(paths) if path.is_file()]
    return [f"{path.name} {hashlib.sha256(path.read_bytes()).hexdigest()}" for path in files]
