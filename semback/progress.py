"""How far long work is: one line that is rewritten in place, in a notebook as in a terminal.

Work that is done within a second of its first example shows nothing, so replayed notebooks stay
quiet. Where nobody looks (a pipe, a log) nothing is written. `SEMBACK_PROGRESS=off` turns it off.
"""

import io
import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from .usage import Usage

PATIENCE = 1.0  # seconds from the first example that is done until a line appears


@contextmanager
def progress(title: str, total: int, usage: Usage) -> Iterator[Callable[[float], object]]:
    """Show the progress of an evaluation while the context lasts; nothing is left of it.

    Parameters
    ----------
    title : str
        The first words of the line.
    total : int
        The number of examples.
    usage : Usage
        Where the calls of the run are counted.

    Yields
    ------
    callable
        To be called with the score of each example that is done.
    """
    ipython = sys.modules.get("IPython")
    notebook = ipython and hasattr(ipython.get_ipython(), "kernel")
    if os.environ.get("SEMBACK_PROGRESS") == "off" or not (notebook or sys.stderr.isatty()):
        yield lambda score: None
        return
    from tqdm import tqdm  # here, since `import semback` should be quick

    class Bar(tqdm):
        monitor_interval = 0  # no thread, which would outlive the evaluation

    file, correct = _Cell() if notebook else sys.stderr, 0.0
    look = {"unit": "ex", "position": 0, "dynamic_ncols": True, "leave": False}
    with Bar(desc=title, total=total, file=file, miniters=1, delay=PATIENCE, **look) as bar:

        def step(score: float) -> None:
            nonlocal correct
            if not bar.n:
                bar.delay += time.time() - bar.start_t  # its call imports what it needs
            correct += score
            new = sum(count.live for count in usage.counts.values())
            recorded = sum(count.recorded for count in usage.counts.values())
            bar.postfix = f"{correct / (bar.n + 1):.1%} correct"
            bar.postfix += f"; calls of the run: {new:,} new, {recorded:,} recorded"
            bar.update()

        yield step


class _Cell(io.StringIO):
    """A file whose latest line is an output of a notebook's cell."""

    handle = None

    def write(self, text: str) -> int:
        from IPython.display import display

        data = {"text/plain": text.strip()}
        if self.handle:
            self.handle.update(data, raw=True)
        else:
            self.handle = display(data, raw=True, display_id=True)
        return len(text)
