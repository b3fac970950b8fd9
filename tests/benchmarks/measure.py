"""What a measurement is, and how programs are measured in processes of their own."""

import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median

TESTS = Path(__file__).parents[1]


@dataclass(frozen=True)
class Measurement:
    """One thing, measured several times.

    Attributes
    ----------
    group, name : str
        What was measured, as the table calls it.
    unit : str
    values : sequence of float
        One for each time.
    bound : float, optional
        What no program can be better than, in the same unit.
    target : float, optional
        What the median must reach: as a ratio to the bound, where there is one.
    at_least : bool
        Whether the target is a minimum.
    quoted : str, optional
        The source, where it was not measured in this run.
    """

    group: str
    name: str
    unit: str
    values: Sequence[float]
    bound: float | None = None
    target: float | None = None
    at_least: bool = False
    quoted: str | None = None

    def row(self) -> dict:
        """Plain data: the fields, the median, its ratio to the bound, whether it is met."""
        middle = median(self.values)
        ratio = None if self.bound is None else middle / self.bound
        judged = middle if ratio is None else ratio
        met = None
        if self.target is not None:
            met = judged >= self.target if self.at_least else judged <= self.target
        limits = {"median": middle, "low": min(self.values), "high": max(self.values)}
        return {**asdict(self), **limits, "ratio": ratio, "met": met}


def in_process(module: str, *arguments) -> dict:
    """The JSON that `python -m benchmarks.module arguments` prints on its last line.

    "process" is added: the seconds of the whole process.
    """
    command = [sys.executable, "-m", f"benchmarks.{module}", *map(str, arguments)]
    start = time.perf_counter()
    done = subprocess.run(command, env=environment(), stdout=subprocess.PIPE, text=True, check=True)
    return {**json.loads(done.stdout.splitlines()[-1]), "process": time.perf_counter() - start}


def environment(**settings: str) -> dict[str, str]:
    """This process's environment for another one, which finds these benchmarks and this semback.

    As for most users, imported modules are compiled once (containers often forbid that).
    """
    path = [str(TESTS.parent), str(TESTS), *filter(None, [os.environ.get("PYTHONPATH")])]
    ours = {"PYTHONPATH": os.pathsep.join(path), "SEMBACK_PROGRESS": "off"}
    return {**os.environ, **ours, "PYTHONDONTWRITEBYTECODE": "", **settings}


def memory() -> float:
    """The peak memory of this process, in MB. (getrusage counts the parent's, too.)"""
    status = Path("/proc/self/status").read_text()
    found = re.search(r"VmHWM:\s+(\d+) kB", status)
    assert found
    return int(found[1]) / 1024
