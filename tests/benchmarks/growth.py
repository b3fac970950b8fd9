"""The long run: does time per call or per cache entry grow? Each size has a process, and memory, of
its own.

`python -m benchmarks.growth fill QUESTIONS FOLDER` or `python -m benchmarks.growth entries SIZE`.
"""

import asyncio
import json
import random
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from .measure import Measurement, in_process

QUESTIONS = (333, 3_333, 33_333, 100_000)
ENTRIES = (1_000, 10_000, 100_000, 1_000_000)
FLAT = 1.5  # the largest size may take so many times as long as the quickest of the smaller ones
MEMORY = 300  # MB, for the replay of 100,000 questions
WAYS = ("add", "get", "export", "load")


def of_replay() -> Iterator[Measurement]:
    """Microseconds of CPU per replayed call, and memory, by the number of questions."""
    times = []
    for size in QUESTIONS:
        with tempfile.TemporaryDirectory(prefix="semback-bench-") as folder:
            in_process("growth", "fill", size, folder)
            run = in_process("replay", folder, size)
        times.append(1e6 * run["CPU"] / run["calls"])
        name = f"replay, {size:,} questions"
        yield Measurement("growth", name, "µs per call", [times[-1]])
        limit = MEMORY if size == QUESTIONS[-1] else None
        yield Measurement("growth, peak memory", name, "MB", [run["MB"]], target=limit)
    yield _flatness("replay", times)


def of_entries() -> Iterator[Measurement]:
    """Microseconds of CPU per entry that is added, got, exported or loaded, by the cache's size."""
    runs = [in_process("growth", "entries", size) for size in ENTRIES]
    for way in WAYS:
        for size, run in zip(ENTRIES, runs):
            yield Measurement("growth", f"cache: {way}, {size:,} entries", "µs", [run[way]])
        yield _flatness(f"cache: {way}", [run[way] for run in runs])


def _flatness(name: str, times: list[float]) -> Measurement:
    *smaller, largest = times
    return Measurement("flatness", name, "times", [largest / min(smaller)], target=FLAT)


def fill(questions: int, folder: str) -> dict:
    """Record what an evaluation requests, by a model that replies at once."""
    import semback as sb
    from semback.cache import recording

    from . import work
    from .endpoint import reply

    class AtOnce:
        model, params, in_flight, samples = work.MODEL, sb.LLM(work.MODEL).params, 64, False

        async def chat(self, messages: list[dict], draw: int = 0) -> sb.Reply:
            request = {"model": self.model, "messages": messages, **self.params}
            text, usage = reply(messages)[1], {"prompt_tokens": 200, "completion_tokens": 100}
            key = recording.key(request, draw)
            cache.add(key, entry(request, text, usage))
            return sb.Reply(text, "stop", usage, self.model, False, key)

    task, model, cache = work.task(questions), AtOnce(), sb.ResponseCache(folder)
    asyncio.run(sb.evaluate(task.graph, task.test, task, sb.Language(model, model)))
    cache.close()
    return {}


def entry(request: dict, text: str, usage: dict) -> dict:
    """A cache entry."""
    reply = {"text": text, "finish_reason": "stop", "usage": usage, "model": request["model"]}
    source = {"host": "benchmark"}
    return {
        "request": request,
        "draw": 0,
        "reply": {**reply, "fingerprint": None},
        "source": source,
    }


def entries(size: int) -> dict:
    """Microseconds per entry of each of `WAYS`, for a cache of this size."""
    import semback as sb
    from semback.cache import recording

    from . import work
    from .endpoint import WORDS

    settings = {"model": work.MODEL, **sb.LLM(work.MODEL).params}
    usage, times = {"prompt_tokens": 200, "completion_tokens": 100}, dict.fromkeys(WAYS, 0.0)

    def made(number: int) -> tuple[str, dict]:
        question = f"Question {number}. {WORDS[:250]}"
        request = {**settings, "messages": work.messages("Work out a step.", question)}
        return recording.key(request, 0), entry(request, f"Working {number}. {WORDS}", usage)

    def clocked(way: str, doing: Callable, count: int) -> None:
        start = time.process_time()
        doing()
        times[way] += 1e6 * (time.process_time() - start) / count

    with tempfile.TemporaryDirectory(prefix="semback-bench-") as folder:
        cache, some = sb.ResponseCache(f"{folder}/one"), []
        for start in range(0, size, 1000):
            part = [made(number) for number in range(start, start + 1000)]
            clocked("add", lambda part=part: [cache.add(*each) for each in part], size)
            some += [key for key, _ in part[:: max(1, size // 10_000)]]
        random.Random(0).shuffle(some)
        clocked("get", lambda: [cache.get(key) and None for key in some], len(some))
        path = Path(folder) / "all.jsonl"
        clocked("export", lambda: cache.export(path), size)
        cache.close()
        other = sb.ResponseCache(f"{folder}/two")
        clocked("load", lambda: other.load(path), size)
        assert len(other) == size
        other.close()
    return times


if __name__ == "__main__":
    kind, size, *folder = sys.argv[1:]
    print(json.dumps({"fill": fill, "entries": entries}[kind](int(size), *folder)))
