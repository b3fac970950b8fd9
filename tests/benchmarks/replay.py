"""An evaluation from recordings, in a new process.

`python -m benchmarks.replay FOLDER [QUESTIONS]` prints its measurements as JSON.
"""

import asyncio
import json
import sys
import time
from collections.abc import Iterator

from .measure import Measurement, in_process, memory

RATE = 6_000  # calls a second, at least
# Calls a second, measured earlier on a machine of the same kind.
PEERS = {
    "the slowest peer, look-up alone": 150,
    "the quickest peer, look-up alone": 7_700,
    "diskcache's get, nothing else": 120_000,
}
SOURCE = "issue 5"


def evaluate(folder: str, questions: int | None = None) -> dict:
    """Evaluate from the cache in `folder`, and measure seconds, calls and MB.

    Parameters
    ----------
    folder : str
    questions : int, optional
        How many of ours; by default, those of the whole test set.
    """
    start = time.perf_counter()
    import semback as sb

    imported = time.perf_counter() - start
    from . import work  # after semback, whose import is measured

    task = work.test_set() if questions is None else work.task(questions)
    before, start, cpu = memory(), time.perf_counter(), time.process_time()
    cache = sb.ResponseCache(folder, mode="replay")
    model = sb.LLM(work.MODEL, cache)
    scores = asyncio.run(sb.evaluate(task.graph, task.test, task, sb.Language(model, model)))
    seconds, cpu = time.perf_counter() - start, time.process_time() - cpu
    counts = scores.usage.counts.values()
    assert not any(count.live for count in counts), "something was not recorded"
    calls = sum(count.calls for count in counts)
    times = {"import": imported, "evaluate": seconds, "CPU": cpu}
    return {**times, "calls": calls, "MB": memory(), "MB before": before}


def whole(folder: str, rounds: int) -> Iterator[Measurement]:
    """The whole test set, in a new process each time."""
    runs = [in_process("replay", folder) for _ in range(rounds)]
    calls = runs[0]["calls"]
    name = f"{calls:,} calls, with opening the cache"
    rates = [calls / run["evaluate"] for run in runs]
    yield Measurement("replay", name, "calls/s", rates, target=RATE, at_least=True)
    rates = [calls / run["CPU"] for run in runs]
    yield Measurement("replay", f"{calls:,} calls, by CPU time", "calls/s", rates)
    for name, rate in PEERS.items():
        yield Measurement("replay", name, "calls/s", [rate], quoted=SOURCE)
    seconds = [run["process"] for run in runs]
    yield Measurement("replay", "the whole process, with imports", "s", seconds)
    yield Measurement("replay", "peak memory", "MB", [run["MB"] for run in runs])


if __name__ == "__main__":
    folder, *questions = sys.argv[1:]
    print(json.dumps(evaluate(folder, *map(int, questions))))
