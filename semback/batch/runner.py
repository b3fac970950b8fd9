"""Many notebooks, several at a time: papermill on threads of this process, or on a Dask cluster.

What a job leaves in ``runs/<name>/notebooks/`` is ``<id>.ipynb`` if it succeeded and ``<id>.failed.ipynb`` if it did not. The
first carries a fingerprint of all that it follows from, so that what is complete is not run again.
"""

import hashlib
import json
import os
import sys
import tempfile
import uuid
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor, as_completed
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import nbformat
from tqdm import tqdm

from ..cache.claims import Claims
from ..cache.recording import canonical
from ..errors import ParameterError
from ..paths import home
from ..report import results
from . import worker
from .jobs import LAST, Job, check


@dataclass(frozen=True)
class Outcome:
    """How a job went. state: "ok", "failed" or "skipped" (complete before). path: of the executed notebook. error: what it said.
    record: of its results, where the job makes one."""

    job: Job
    state: str
    seconds: float
    path: Path
    error: str = ""
    record: dict | None = None

    def __str__(self):
        scores = (
            [self.record["test"][stage] for stage in ("before", "after")] if self.record else []
        )
        shown = " → ".join(f"{score['correct'] / score['questions']:.1%}" for score in scores)
        return f"{self.state:7} {self.seconds:6.1f} s  {self.job.id}  {shown}{self.error.partition(chr(10))[0]}".rstrip()


def run(
    jobs: Sequence[Job],
    name: str,
    workers: int | None = None,
    scheduler: str | None = None,
    again: bool = False,
    meanwhile: Callable[[], object] | None = None,
) -> list[Outcome]:
    """Execute jobs, and say on stderr how each went; with a progress bar where stderr is a terminal.

    Parameters
    ----------
    jobs: from `jobs.grid`, or your own. One that is called `LAST` starts after all the others.
    name: of the batch.
    workers: notebooks at one time; without it, as many as there are processors. Dask decides that for itself.
    scheduler: address of a Dask scheduler; its workers need the same folders, and keys and endpoints in their own environment.
    again: run also what succeeded before with the same parameters, cells and semback.
    meanwhile: called when all records are there, while the job called `LAST` runs; also where there is none.

    Returns an Outcome for each job; a notebook that fails does not stop the others. KeyboardInterrupt ends the kernels and
    is then raised again: what was complete stays, and the responses that were on their way are in the cache.

    Errors
    ------
    ParameterError, DataError: those of `jobs.check`, before any kernel starts; no worker; no scheduler that answers; a job that another
    batch of the name is executing.
    """
    check(jobs, name)
    if workers is not None and workers < 1:
        raise ParameterError(f"{workers} notebooks at one time; it takes at least one")
    folder, outcomes = results.folder(name) / "notebooks", {}
    folder.mkdir(parents=True, exist_ok=True)
    with (
        _claimed(jobs, name),
        tempfile.TemporaryDirectory(
            prefix=".spent-", dir=folder.parent, ignore_cleanup_errors=True
        ) as spent,
        tqdm(total=len(jobs), unit="notebook", disable=not sys.stderr.isatty()) as bar,
        _cluster(scheduler) if scheduler else _threads(workers or os.cpu_count() or 1) as (
            pool,
            batch,
        ),
    ):
        environment = _environment(spent)

        def finish(job, state, seconds, path, error=""):
            outcomes[job.id] = Outcome(job, state, seconds, path, error, _record(job, name))
            bar.update()
            tqdm.write(
                f"[{len(outcomes):{len(str(len(jobs)))}}/{len(jobs)}] {outcomes[job.id]}",
                file=sys.stderr,
            )

        for last in (False, True):
            forced = (
                again or last and any(outcome.state != "skipped" for outcome in outcomes.values())
            )
            under_way = {}
            for job in (job for job in jobs if (job.notebook.stem == LAST) == last):
                path = folder / f"{job.id}.ipynb"
                if not forced and complete(job, name):
                    finish(job, "skipped", 0.0, path)
                    continue
                work = pool.submit(
                    worker.execute,
                    str(job.notebook),
                    dict(job.parameters),
                    str(path),
                    str(results.path_of(name, job.id)),
                    _fingerprint(job, name),
                    environment,
                    batch,
                )
                under_way[work] = job, path
            if last and meanwhile:
                meanwhile()
            for work in as_completed(under_way):
                job, path = under_way[work]
                seconds, error = (
                    (0.0, f"the worker ended: {work.exception()!r}")
                    if work.exception()
                    else work.result()
                )
                if not error:
                    finish(job, "ok", seconds, path)
                    continue
                path.unlink(
                    missing_ok=True
                )  # no table is to show an older result, or half of one, in its place
                results.path_of(name, job.id).unlink(missing_ok=True)
                finish(job, "failed", seconds, path.with_suffix(".failed.ipynb"), error)
    return [outcomes[job.id] for job in jobs]


def complete(job: Job, name: str) -> bool:
    """Whether a job succeeded before in this batch with the same parameters, cells and semback, and its record is still the one it left."""
    path, record = (
        results.folder(name) / "notebooks" / f"{job.id}.ipynb",
        results.path_of(name, job.id),
    )
    kept = (not job.experiment or record.is_file()) and worker.fingerprint(path, record)
    return bool(kept) and kept == _fingerprint(job, name)  # which reads the notebook


def _record(job: Job, name: str) -> dict | None:
    path = results.path_of(name, job.id)
    return (
        json.loads(path.read_text(encoding="utf-8")) if job.experiment and path.is_file() else None
    )


def _fingerprint(job: Job, name: str) -> str:
    """What a job's result follows from: its cells and parameters, semback's own files and, for the last job, all records."""
    cells = [
        [cell.cell_type, cell.source] for cell in nbformat.read(job.notebook, as_version=4).cells
    ]
    parameters = {
        key: value for key, value in job.parameters.items() if key != "dollars"
    }  # a limit is no part of what comes out
    records = (
        sorted((results.folder(name) / "results").glob("*.json"))
        if job.notebook.stem == LAST
        else []
    )
    return hashlib.sha256(
        canonical([cells, parameters, _code(), _hashes(records)]).encode()
    ).hexdigest()


@cache
def _code() -> list[str]:
    return _hashes(
        path
        for path in sorted(Path(__file__).parents[1].rglob("*"))
        if path.is_file() and path.suffix != ".pyc"
    )


def _hashes(paths) -> list[str]:
    return [f"{path.name} {hashlib.sha256(path.read_bytes()).hexdigest()}" for path in paths]


def _environment(spent: str) -> dict[str, str]:
    """semback's variables for a kernel. It starts in the notebook's folder, so paths in them are made absolute.

    SEMBACK_BATCH: that it is one of a batch, which `worker.stop` ends; the folder where these add up what they spend (see `budget`), whose
    name tells what they refreshed (see `cache`).
    """
    found = {
        key: value for key, value in os.environ.items() if key.startswith("SEMBACK_") and value
    }
    paths = {
        key: os.path.abspath(found[key])
        for key in ("SEMBACK_DATA_DIR", "SEMBACK_CACHE_DIR")
        if key in found
    }
    return {**found, **paths, "SEMBACK_HOME": str(home()), "SEMBACK_BATCH": spent}


@contextmanager
def _claimed(jobs: Sequence[Job], name: str) -> Iterator[None]:
    """Nobody else executes these jobs for a batch of this name meanwhile, who could take our record for his. (On one computer.)"""
    claims, mine = Claims.of(results.folder(name)), []
    try:
        for job in jobs:
            key = hashlib.sha256(job.id.encode()).hexdigest()
            with suppress(OSError):  # a file system without locks
                if not claims.claim(key):
                    raise ParameterError(
                        f"{job.id} is being executed by another batch called {name!r}; wait for it, or take another name"
                    )
                mine.append(key)
        yield
    finally:
        for key in mine:
            claims.release(key)


@contextmanager
def _threads(workers: int) -> Iterator[tuple[Executor, str]]:
    """A pool in this process, and the name that `worker.stop` knows its kernels by. Left by an exception, it waits for them to end."""
    pool, batch = ThreadPoolExecutor(workers), uuid.uuid4().hex
    try:
        yield pool, batch
    except BaseException:
        try:
            tqdm.write(
                "stopping: answers that are on their way are still recorded; another Ctrl-C gives them up",
                file=sys.stderr,
            )
            pool.shutdown(wait=False, cancel_futures=True)
            _aside(worker.stop, batch)
            _aside(worker.wait, batch)
        except KeyboardInterrupt:
            _aside(worker.stop, batch, True)
        raise
    finally:
        pool.shutdown(cancel_futures=True)


def _aside(work, *arguments):
    """Do it in a thread of its own: a Ctrl-C in the midst of Popen's methods can leave its lock taken, and a dead kernel is then waited
    for without end."""
    ThreadPoolExecutor(1).submit(work, *arguments).result()


@contextmanager
def _cluster(scheduler: str) -> Iterator[tuple[Executor, str]]:
    """The same on the workers of a Dask scheduler."""
    try:
        from distributed import Client
    except ImportError:
        raise ParameterError(
            "Dask is not installed; install semback[dask], or leave the scheduler out"
        ) from None
    try:
        client, batch = Client(scheduler, timeout=10), uuid.uuid4().hex
    except (OSError, ValueError) as error:
        raise ParameterError(f"no Dask scheduler answers at {scheduler!r}: {error}") from None
    pool = client.get_executor()
    try:
        yield pool, batch
    except BaseException:
        pool.shutdown(wait=False)
        client.run(worker.stop, batch)
        raise
    finally:
        client.close()
