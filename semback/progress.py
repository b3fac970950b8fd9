"""How far long work has got: one line, rewritten in place, in a notebook as in a terminal.

It appears after a second, even if nothing is done by then, and disappears at the end. Nothing is
written to a pipe or a log. `SEMBACK_PROGRESS=off` turns it off. In a batch the line goes to the
file SEMBACK_STATUS, from which `batch.run` shows it.
"""

import asyncio
import os
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from .usage import Usage

EVERY = 1.0  # seconds until the line appears, and between updates
priced_rows: Callable[[Usage], list[dict]] = Usage.rows  # `llm.budget` sets one that has prices


@contextmanager
def progress(title: str, total: int, usage: Usage) -> Iterator[Callable[[float], object]]:
    """Show the progress of work in the running event loop while the context lasts.

    Parameters
    ----------
    title : str
        The first words of the line.
    total : int
        The number of examples; 0 for other work, whose calls are shown by phase.
    usage : Usage
        Where the calls of the run are counted.

    Yields
    ------
    callable
        To be called with the score of each example that is done.
    """
    if (show := _screen()) is None:
        yield lambda score: None
        return
    scores: list[float] = []
    start, shown = time.time(), False

    def tick() -> None:
        nonlocal timer, shown
        timer, shown = loop.call_later(EVERY, tick), True
        show(_line(title, total, scores, time.time() - start, priced_rows(usage)))

    loop = asyncio.get_running_loop()
    timer = loop.call_later(EVERY, tick)
    try:
        yield scores.append
    finally:
        timer.cancel()
        if shown:
            show("")


def _line(title: str, total: int, scores: list[float], seconds: float, rows: list[dict]) -> str:
    from tqdm import tqdm  # here, since `import semback` should be quick

    # llm.flight marks the tasks of requests in flight; on average they are half done.
    flying = sum(getattr(task, "in_flight", False) for task in asyncio.all_tasks())
    done, left = len(scores), "?"
    if done:
        over = done + min(flying, total - done) / 2
        left = tqdm.format_interval(seconds * (total - over) / over)
    parts = [tqdm.format_interval(seconds) + (f"<{left}" if total else "")]
    parts += [f"{sum(scores) / done:.0%} correct"] if done else []
    parts += [f"{row['calls']:,} {row['phase']}" for row in rows if not total]
    counts = {kind: sum(row[kind] for row in rows) for kind in ("live", "recorded")}
    counts["in flight"] = flying
    dollars = sum(row.get("live_cost") or 0 for row in rows)
    parts += [f"${dollars:,.4f}"] if dollars else []
    parts += [f"{count:,} {kind}" for kind, count in counts.items() if count]
    look = f"{{desc}}: |{{bar:6}}| {done}/{total} " if total else "{desc} "
    look += f"[{', '.join(parts)}]"
    columns = shutil.get_terminal_size().columns - 1
    return tqdm.format_meter(done, total, seconds, ncols=columns, prefix=title, bar_format=look)


def _screen() -> Callable[[str], object] | None:
    """A function that shows a text in place of the one before; None if nobody would see it."""
    if os.environ.get("SEMBACK_PROGRESS") == "off":
        return None
    if status := os.environ.get("SEMBACK_STATUS"):
        return Path(status).write_text
    ipython, outputs = sys.modules.get("IPython"), []
    notebook = ipython and hasattr(ipython.get_ipython(), "kernel")

    def show(text: str) -> None:
        data = {"text/plain": text} if text else {}
        if not notebook:
            print(f"\r\x1b[K{text}", end="", file=sys.stderr, flush=True)
        elif outputs:
            outputs[0].update(data, raw=True)
        else:
            outputs.append(sys.modules["IPython"].display.display(data, raw=True, display_id=True))

    return show if notebook or sys.stderr.isatty() else None
