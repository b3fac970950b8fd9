"""How far long work is: one line that is rewritten in place, in a notebook as in a terminal.

Work that is done within a second of its first example shows nothing, so replayed notebooks stay quiet, however long the first call
took to import what it needs. Where nobody looks (a pipe, a log) nothing is written either. `SEMBACK_PROGRESS=off` switches it off.
"""

import os
import sys
import time
from dataclasses import replace

from .usage import SIMULATED, Count, Usage

PATIENCE, EVERY = (
    1.0,
    0.25,
)  # seconds from the first example that is done until a line appears, and between its updates


class Progress:
    """The progress of an evaluation: examples done, accuracy so far, live (or simulated) and recorded calls, dollars, time left.

    Parameters
    ----------
    what: the first words of the line. total: the number of examples. usage: where their calls are counted.
    """

    def __init__(self, what: str, total: int, usage: Usage):
        self.what, self.total, self.usage = what, total, usage
        self.done = self.right = 0
        self._before = {name: replace(count) for name, count in usage.counts.items()}
        self._started = time.monotonic()
        self._next = None
        self._show, self._shown = _shower(), False

    def step(self, right: bool) -> None:
        """One more example is done."""
        self.done, self.right = self.done + 1, self.right + right
        now, last = time.monotonic(), self.done == self.total
        if self._next is None:
            self._next = now + PATIENCE
        if self._show and (
            now >= self._next or last and self._shown
        ):  # the last line always comes where one was
            self._show(self._line(now), last)
            self._next, self._shown = now + EVERY, True

    def _line(self, now: float) -> str:
        live, recorded = 0, 0
        for (phase, model), c in self.usage.counts.items():
            before = self._before.get((phase, model), Count())
            live, recorded = live + c.live - before.live, recorded + c.recorded - before.recorded
        seconds = (now - self._started) / self.done * (self.total - self.done)
        left = f", about {seconds:.0f} s left" if self.done < self.total else ""
        kind = (
            "simulated"
            if any(
                model.startswith(SIMULATED)
                for phase, model in self.usage.counts
                if phase == "forward"
            )
            else "live"
        )
        return (
            f"{self.what}: {self.done:,} of {self.total:,} examples, {self.right / self.done:.1%} right; "
            f"{live:,} {kind} and {recorded:,} recorded calls{left}"
        )


def _shower():
    """The function that shows a line where somebody looks, or None."""
    if os.environ.get("SEMBACK_PROGRESS") == "off":
        return None
    shell = "IPython" in sys.modules and sys.modules["IPython"].get_ipython()
    if hasattr(shell, "kernel"):  # a script may have loaded ipykernel too
        return _in_notebook()
    return _in_terminal if sys.stderr.isatty() else None


def _in_notebook():
    from IPython.display import display

    handle = []

    def show(line, last):
        data = {"text/plain": line}
        if handle:
            handle[0].update(data, raw=True)
        else:
            handle.append(display(data, raw=True, display_id=True))

    return show


def _in_terminal(line, last):
    wide = os.get_terminal_size(sys.stderr.fileno()).columns
    sys.stderr.write("\r" + line[: wide - 1].ljust(wide - 1) + ("\n" if last else ""))
    sys.stderr.flush()
