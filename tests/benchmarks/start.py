"""What a user waits for before anything happens: the import, `semback --help`, and a finished notebook executed again from recordings."""

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from unittest import mock

from .measure import TESTS, Measurement, with_tests_in_path

IMPORT = """
import time
start, cpu = time.perf_counter(), time.process_time()
import semback
took = time.perf_counter() - start, time.process_time() - cpu
import json
from benchmarks.measure import memory
print(json.dumps([*took, memory()]))
"""
NOTEBOOKS = {
    "empty": None,
    "only `import semback`": "import semback",  # code of one cell; "" is one of ours
    "only `import pandas, matplotlib.figure`": "import pandas, matplotlib.figure",
    "03_gsm8k": "",
}


def importing(rounds: int = 9) -> Iterator[Measurement]:
    """New processes, each with what an earlier one has left compiled."""
    seen = [json.loads(_output(sys.executable, "-c", IMPORT)) for _ in range(rounds + 1)][1:]
    seconds, cpu, megabytes = zip(*seen)
    yield Measurement("start", "import semback", "s", seconds, target=0.15)
    yield Measurement("start", "import semback, CPU", "s", cpu)
    yield Measurement("start", "import semback: memory of the process", "MB", megabytes, target=40)
    for name, target, code in (
        (
            "semback --help, the whole process",
            0.3,
            "from semback.cli import main; main(['--help'])",
        ),
        ("an empty process, for comparison", None, "pass"),
    ):
        times = []
        for _ in range(rounds + 1):
            start = time.perf_counter()
            _output(sys.executable, "-c", code)
            times.append(time.perf_counter() - start)
        yield Measurement("start", name, "s", times[1:], target=target)


def notebooks(rounds: int) -> Iterator[Measurement]:
    """Notebooks executed again from the recordings that ship, by papermill alone and in a batch, beside an empty one by papermill: most of
    the time should be the kernel's start."""
    import nbformat

    seen = {}
    with (
        tempfile.TemporaryDirectory(prefix="semback-bench-") as home,
        mock.patch.dict(
            os.environ,
            with_tests_in_path(
                SEMBACK_HOME=home, SEMBACK_CACHE_DIR=f"{home}/cache", SEMBACK_CACHE_MODE="replay"
            ),
        ),
    ):
        shutil.copytree(TESTS.parent / "cache" / "recordings", f"{home}/cache/recordings")
        for _ in range(rounds + 1):  # the first reads the recordings and compiles
            for name, code in NOTEBOOKS.items():
                path = TESTS.parent / "notebooks" / f"{name}.ipynb"
                if code != "":
                    cells = [nbformat.v4.new_code_cell(code)] if code else []
                    kernel = {
                        "kernelspec": {
                            "name": "python3",
                            "language": "python",
                            "display_name": "Python 3",
                        }
                    }
                    path = Path(home) / f"{list(NOTEBOOKS).index(name)}.ipynb"
                    nbformat.write(nbformat.v4.new_notebook(cells=cells, metadata=kernel), path)
                for way, seconds in (
                    ("by papermill", _by_papermill(path, home)),
                    ("in a batch", _in_a_batch(path, home)),
                ):
                    seen.setdefault(f"{name}, {way}", []).append(seconds)
    empty = Measurement(
        "notebook again", "empty, by papermill", "s", seen.pop("empty, by papermill")[1:]
    )
    yield empty
    for name, seconds in seen.items():
        yield Measurement(
            "notebook again",
            name,
            "s",
            seconds[1:],
            bound=empty.row()["median"],
            target=2 if name[0].isdigit() else None,
        )


def _by_papermill(path: Path, home: str) -> float:
    import papermill

    start = time.perf_counter()
    papermill.execute_notebook(
        path,
        f"{home}/out.ipynb",
        cwd=home,
        kernel_name="python3",
        progress_bar=False,
        extra_arguments=["--log-level=CRITICAL"],
    )
    return time.perf_counter() - start


def _in_a_batch(path: Path, home: str) -> float:
    from semback.batch import worker

    with ThreadPoolExecutor(1) as pool:  # as a batch does
        work = pool.submit(
            worker.execute,
            str(path),
            {},
            f"{home}/batch.ipynb",
            f"{home}/none.json",
            "",
            {},
            "benchmark",
        )
    seconds, error = work.result()
    assert not error, error
    return seconds


def _output(*command) -> str:
    return subprocess.run(
        command, env=with_tests_in_path(), stdout=subprocess.PIPE, text=True, check=True
    ).stdout
