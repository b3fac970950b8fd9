"""Execute the jobs of a batch, several at a time, on threads of this process or on a Dask cluster.

In ``runs/<name>/notebooks/`` a job leaves ``<id>.ipynb`` if it succeeded, ``<id>.failed.ipynb`` if
it did not. The first carries a fingerprint, so that what is complete is not executed again.
"""

import os
import signal
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Executor, Future, ThreadPoolExecutor, as_completed, wait
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

from filelock import FileLock, Timeout

from ..errors import ParameterError
from ..paths import home, user_path
from ..report import results
from . import worker
from .jobs import LAST, Job, check
from .worker import Outcome


def run(
    jobs: Sequence[Job],
    name: str,
    workers: int | None = None,
    scheduler: str | None = None,
    again: bool = False,
) -> list[Outcome]:
    """Execute jobs. A line on stderr tells of the end of each.

    Parameters
    ----------
    jobs : sequence of Job
        Of `grid`, or your own. The one called `jobs.LAST` starts when all the others have ended.
    name : str
        The batch; its files are in ``runs/<name>``.
    workers : int, optional
        Notebooks at one time; by default one for each processor. Dask decides that for itself.
    scheduler : str, optional
        The address of a Dask scheduler. Its workers need the same folders, and API keys and
        endpoints in their own environment.
    again : bool
        Execute also what is complete.

    Returns
    -------
    list of Outcome
        One for each job. A notebook that fails does not stop the others.

    Raises
    ------
    ParameterError, DataError
        Before any kernel starts: those of `check`; no scheduler at the address; another
        process executes the same notebook for this batch.
    KeyboardInterrupt
        After Ctrl-C, when the running notebooks have ended: their cells are interrupted, so that
        replies in flight are still recorded. A second Ctrl-C kills their kernels. What is complete
        stays.
    """
    check(jobs, name)
    folder = results.folder(name)
    (folder / "notebooks").mkdir(parents=True, exist_ok=True)
    outcomes: dict[str, Outcome] = {}
    spent = TemporaryDirectory(prefix=".spent-", dir=folder, ignore_cleanup_errors=True)
    with (
        spent as shared,
        _locked(jobs, folder),
        _executor(workers, scheduler) as (executor, on_all),
    ):
        execute = partial(worker.execute, folder=folder, environment=_environment(shared))
        futures: dict[Future[Outcome], Job] = {}
        try:
            for last in (False, True):
                group = [job for job in jobs if (job.notebook.stem == LAST) == last]
                futures = {executor.submit(execute, job, again=again): job for job in group}
                for future in as_completed(futures):
                    outcome = _outcome(future, futures[future])
                    outcomes[outcome.job.id] = outcome
                    again = again or outcome.state != "skipped"  # LAST has something new to read
                    print(f"[{len(outcomes)}/{len(jobs)}] {outcome}", file=sys.stderr)
        except BaseException:
            _stop(futures, partial(on_all, worker.send_signal, shared))
            raise
    return [outcomes[job.id] for job in jobs]


def _outcome(future: Future[Outcome], job: Job) -> Outcome:
    try:
        return future.result()
    except Exception as error:  # such as the end of a worker of Dask
        return Outcome(job, "failed", Path(), error=f"not executed: {error!r}")


def _environment(shared: str) -> dict[str, str]:
    """The variables of semback for a kernel, which starts in the folder of its notebook.

    SEMBACK_BATCH is a folder: in it the batch's notebooks add up what they spend of a budget; its
    name tells the cache which replies were refreshed in this batch.
    """
    found = {key: text for key, text in os.environ.items() if key.startswith("SEMBACK_") and text}
    for key in found.keys() & {"SEMBACK_DATA_DIR", "SEMBACK_CACHE_DIR"}:
        found[key] = os.path.abspath(user_path(found[key]))
    return {**found, "SEMBACK_HOME": str(home()), "SEMBACK_BATCH": shared}


@contextmanager
def _locked(jobs: Sequence[Job], folder: Path) -> Iterator[None]:
    """No other process of this computer executes these notebooks for this batch meanwhile."""
    with ExitStack() as stack:
        try:
            for notebook in sorted({job.notebook.stem for job in jobs}):
                stack.enter_context(FileLock(folder / f".{notebook}.lock", blocking=False))
        except Timeout as error:
            message = "another run of the batch executes it; wait, or choose another name"
            raise ParameterError(f"{error.lock_file} is locked: {message}") from None
        yield


@contextmanager
def _executor(workers: int | None, scheduler: str | None) -> Iterator[tuple[Executor, Callable]]:
    """Threads, or the workers of Dask; and what calls a function in each of their processes."""
    if not scheduler:
        with ThreadPoolExecutor(workers or os.cpu_count()) as executor:
            yield executor, lambda function, *arguments: function(*arguments)
        return
    try:
        from distributed import Client

        client = Client(scheduler, timeout=10)
    except (ImportError, OSError, ValueError) as error:
        message = f"no Dask scheduler at {scheduler!r}: {error} (semback[dask] installs Dask)"
        raise ParameterError(message) from None
    with client:
        yield client.get_executor(), client.run


def _stop(futures: Iterable[Future], send_signal: Callable[[int], object]) -> None:
    try:
        print("stopping: replies in flight are still recorded; Ctrl-C drops them", file=sys.stderr)
        send_signal(signal.SIGINT)
        wait(futures)  # joining threads would not do: Python 3.11 takes one for ended that goes on
    except KeyboardInterrupt:
        send_signal(signal.SIGKILL)
        wait(futures)
