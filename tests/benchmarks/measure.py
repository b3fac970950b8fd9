"""What a measurement is, and how programs are measured in processes of their own."""

import json
import os
import re
import subprocess
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median

TESTS = Path(__file__).parent.parent


@dataclass(frozen=True)
class Measurement:
    """One thing measured some times.

    group, name: what, as the table calls it. unit: of the values. values: one for each time; of one measured elsewhere, the number quoted.
    bound: what no program can be better than, in the same unit. target: what the median must reach, as a ratio to the bound where
    there is one. more: whether more is better. size: where on the axis of a growth series it stands. quoted: from where, if it was
    not measured in this run.
    """

    group: str
    name: str
    unit: str
    values: tuple[float, ...]
    bound: float | None = None
    target: float | None = None
    more: bool = False
    size: int | None = None
    quoted: str | None = None

    def row(self) -> dict:
        """Plain data for JSON: the fields, the median, its ratio to the bound, and whether the target is met."""
        middle = median(self.values)
        ratio = None if self.bound is None else middle / self.bound
        judged = middle if ratio is None else ratio
        met = (
            None
            if self.target is None
            else judged >= self.target
            if self.more
            else judged <= self.target
        )
        return {
            **asdict(self),
            "median": middle,
            "low": min(self.values),
            "high": max(self.values),
            "ratio": ratio,
            "met": met,
        }


def in_process(module: str, *arguments) -> dict:
    """What `python -m benchmarks.module arguments` prints as JSON on its last line, and the seconds the whole process took."""
    start = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-m", f"benchmarks.{module}", *map(str, arguments)],
        env=with_tests_in_path(),
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    return {**json.loads(done.stdout.splitlines()[-1]), "process": time.perf_counter() - start}


def with_tests_in_path(**environment) -> dict[str, str]:
    """This process's environment for another one: it finds these benchmarks and the semback beside them, and, as for most users, compiles
    once what it imports (containers are often told not to)."""
    path = os.pathsep.join(
        [str(TESTS.parent), str(TESTS), *filter(None, [os.environ.get("PYTHONPATH")])]
    )
    return {
        **os.environ,
        "PYTHONPATH": path,
        "SEMBACK_PROGRESS": "off",
        "PYTHONDONTWRITEBYTECODE": "",
        **environment,
    }


def memory() -> float:
    """The most memory that this process has had, in MB. (getrusage would count what its parent had when it started it.)"""
    return int(re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())[1]) / 1024
