"""How far long work is: one line that is rewritten in place, in a notebook as in a terminal.

Work that is done within a second of its first example shows nothing, so replayed notebooks stay
quiet. Where nobody looks (a pipe, a log) nothing is written. `SEMBACK_PROGRESS=off` turns it off.
"""

import os
import sys
import time
from collections.abc import Callable
from dataclasses import replace

from .usage import SIMULATED, Count, Usage

PATIENCE = 1.0  # seconds from the first example that is done until a line appears
EVERY = 0.25  # seconds between its updates


class Progress:
    """The progress of an evaluation.

    Parameters
    ----------
    title : str
        The first words of the line.
    total : int
        The number of examples.
    usage : Usage
        Where their calls are counted.
    """

    def __init__(self, title: str, total: int, usage: Usage):
        self.title, self.total, self.usage = title, total, usage
        self.done, self.correct = 0, 0.0
        self._before = {name: replace(count) for name, count in usage.counts.items()}
        self._started = time.monotonic()
        self._next: float | None = None
        self._show = _display()
        self._shown = False

    def step(self, correct: bool | float) -> None:
        """One more example is done."""
        self.done += 1
        self.correct += correct
        now = time.monotonic()
        if self._next is None:
            self._next = now + PATIENCE
        last = self.done == self.total
        if self._show and (now >= self._next or last and self._shown):
            self._show(self._line(now), last)
            self._next, self._shown = now + EVERY, True

    def _line(self, now: float) -> str:
        live = recorded = 0
        for name, count in self.usage.counts.items():
            before = self._before.get(name, Count())
            live += count.live - before.live
            recorded += count.recorded - before.recorded
        models = [model for phase, model in self.usage.counts if phase == "forward"]
        kind = "simulated" if any(model.startswith(SIMULATED) for model in models) else "live"
        line = (
            f"{self.title}: {self.done:,} of {self.total:,} examples, "
            f"{self.correct / self.done:.1%} correct; "
            f"{live:,} {kind} and {recorded:,} recorded calls"
        )
        if self.done < self.total:
            seconds = (now - self._started) / self.done * (self.total - self.done)
            line += f", about {seconds:.0f} s left"
        return line


def _display() -> Callable[[str, bool], None] | None:
    """The function that shows a line, given whether it is the last; None where nobody looks."""
    if os.environ.get("SEMBACK_PROGRESS") == "off":
        return None
    ipython = sys.modules.get("IPython")
    if ipython and hasattr(ipython.get_ipython(), "kernel"):
        return _in_notebook(ipython.display.display)
    return _in_terminal if sys.stderr.isatty() else None


def _in_notebook(display: Callable) -> Callable[[str, bool], None]:
    handle = None

    def show(line: str, last: bool) -> None:
        nonlocal handle
        data = {"text/plain": line}
        if handle is None:
            handle = display(data, raw=True, display_id=True)
        else:
            handle.update(data, raw=True)

    return show


def _in_terminal(line: str, last: bool) -> None:
    width = os.get_terminal_size(sys.stderr.fileno()).columns - 1
    sys.stderr.write("\r" + line[:width].ljust(width) + ("\n" if last else ""))
    sys.stderr.flush()
