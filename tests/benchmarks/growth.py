"""Does anything grow faster than the work? Time and memory per call, per entry of the cache and per node, from small to large.

Each size has a process of its own, so that its memory is its own: `python -m benchmarks.growth KIND SIZE [FOLDER]`.
"""

import asyncio
import json
import random
import sys
import tempfile
import time
from collections import deque
from collections.abc import Iterator
from pathlib import Path

from .measure import Measurement, in_process, memory

FLAT = 1.5  # the largest size takes at most so many times as long per call as the quickest of the smaller ones
CALLS, ENTRIES = (
    (99, 999, 9_999, 99_999),
    (1_000, 5_000, 25_000, 100_000, 1_000_000),
)  # the largest only in the long run
NODES = {"chain": (3, 30, 300), "layers of 10": (31, 101, 301)}
WAYS = "add", "get", "export", "import"


def of_calls(rounds: int, long: bool) -> Iterator[Measurement]:
    """Calls on the paper's graph, replayed from a cache, and live by a simulated model inside the process."""
    for kind in ("live", "replay"):
        series = {}
        for size in CALLS if long else CALLS[:3]:
            with tempfile.TemporaryDirectory(prefix="semback-bench-") as folder:
                if kind == "replay":
                    in_process("growth", "fill", size // 3, folder)
                arguments = (
                    ("growth", "live", size // 3)
                    if kind == "live"
                    else ("replay", folder, size // 3)
                )
                series[size] = [
                    in_process(*arguments) for _ in range(rounds if size < 50_000 else 1)
                ]
        name = f"{kind}, inside the process" if kind == "live" else kind
        yield from _series(
            name,
            "call",
            {size: [1e6 * each["CPU"] / size for each in seen] for size, seen in series.items()},
        )
        for size, seen in series.items():
            yield Measurement(
                "growth, memory",
                name,
                "MB",
                [each["MB"] - each["MB before"] for each in seen],
                size=size,
            )


def of_memory() -> Iterator[Measurement]:
    """100,000 questions, 300,000 calls, replayed."""
    with tempfile.TemporaryDirectory(prefix="semback-bench-") as folder:
        in_process("growth", "fill", 100_000, folder)
        seen = in_process("replay", folder, 100_000)
    yield Measurement("replay", "100,000 questions: most memory", "MB", [seen["MB"]], target=300)
    rate = seen["calls"] / seen["evaluate"]
    yield Measurement(
        "replay", "100,000 questions: calls a second", "calls/s", [rate], target=12_000, more=True
    )


def of_entries(rounds: int, long: bool) -> Iterator[Measurement]:
    """Entries of a cache: added and got one by one, exported, imported."""
    seen = {
        size: [in_process("growth", "entries", size) for _ in range(rounds if size < 20_000 else 1)]
        for size in (ENTRIES if long else ENTRIES[:3])
    }
    for way in WAYS:
        yield from _series(
            f"cache: {way}",
            "entry",
            {size: [each[way] for each in some] for size, some in seen.items()},
        )
    for size, some in seen.items():
        yield Measurement(
            "growth, memory",
            "cache: all of these",
            "MB",
            [each["MB"] - each["MB before"] for each in some],
            size=size,
        )


def of_nodes(rounds: int) -> Iterator[Measurement]:
    """Nodes of a graph, in a chain and in layers of ten, each of which takes the whole layer before it; a model that answers at once."""
    for kind, sizes in NODES.items():
        seen = {
            size: [in_process("growth", kind.split()[0], size) for _ in range(rounds)]
            for size in sizes
        }
        for way in ("build", "forward", "backward"):
            yield from _series(
                f"{kind}: {way}",
                "node",
                {size: [each[way] for each in some] for size, some in seen.items()},
            )


def _series(name: str, thing: str, values: dict[int, list[float]]) -> Iterator[Measurement]:
    """The points of a series, in microseconds of CPU, and how much the last of them is above the lowest of the others."""
    for size, microseconds in values.items():
        yield Measurement("growth", name, f"µs per {thing}", microseconds, size=size)
    points = [Measurement("", "", "", each).row()["median"] for each in values.values()]
    first, last = min(values), max(values)
    yield Measurement(
        "flatness",
        f"{name}, from {first:,} to {last:,}",
        "times",
        [points[-1] / min(points[:-1])],
        target=FLAT,
    )


# What the processes do


def live(questions: int) -> dict:
    import semback as sb

    from . import work

    task = work.task(questions)
    model = sb.LLM.simulated(task)
    asyncio.run(
        sb.evaluate(task.graph, task.test[:1], task, sb.Language(model, model))
    )  # the first imports what there is to import
    before, start = memory(), time.process_time()
    asyncio.run(sb.evaluate(task.graph, task.test, task, sb.Language(model, model)))
    return {"CPU": time.process_time() - start, "MB before": before, "MB": memory()}


def fill(questions: int, folder: str) -> dict:
    """Record what an evaluation of so many questions asks, without a client: by a model that answers at once, as the endpoint would."""
    import semback as sb

    from . import work

    task, cache = work.task(questions), sb.ResponseCache(folder)
    model = at_once(sb.LLM)(work.MODEL)
    model.keep = cache.add
    asyncio.run(sb.evaluate(task.graph, task.test, task, sb.Language(model, model)))
    cache.close()
    return {}


def at_once(LLM):
    """A class of model that answers as the endpoint does, at once; what it says can be kept by `keep(key, entry)`."""
    import semback as sb
    from semback.cache import recording

    from .endpoint import reply

    class AtOnce(LLM):
        keep = None

        async def chat(self, messages, draw=0):
            request = {"model": self.model, "messages": messages, **self.params}
            said = {
                "text": reply(messages)[1],
                "finish_reason": "stop",
                "usage": {"prompt_tokens": 200, "completion_tokens": 100},
                "model": self.model,
                "fingerprint": None,
            }
            name = ""
            if self.keep:
                name = recording.key(request, draw)
                self.keep(
                    name,
                    {
                        "request": request,
                        "draw": draw,
                        "reply": said,
                        "source": {"host": "benchmark"},
                    },
                )
            return sb.Reply(said["text"], "stop", said["usage"], self.model, False, name)

    return AtOnce


def entries(size: int) -> dict:
    import semback as sb
    from semback.cache import recording

    from . import work
    from .endpoint import WORDS

    def made(numbers):
        for i in numbers:
            messages = work.messages(
                "Work out an intermediate step.", f"Question {i}. {WORDS[:250]}"
            )
            request = {
                "model": work.MODEL,
                "temperature": 0,
                "top_p": 1,
                "max_tokens": 1024,
                "messages": messages,
            }
            said = {
                "text": f"Working {i}. {WORDS}",
                "finish_reason": "stop",
                "usage": {"prompt_tokens": 200, "completion_tokens": 100},
                "model": work.MODEL,
                "fingerprint": None,
            }
            yield (
                recording.key(request),
                {"request": request, "draw": 0, "reply": said, "source": {"host": "benchmark"}},
            )

    took = dict.fromkeys(WAYS, 0.0)

    def clocked(way, work, count):
        start = time.process_time()
        work()
        took[way] += 1e6 * (time.process_time() - start) / count

    with tempfile.TemporaryDirectory(prefix="semback-bench-") as folder:
        cache, before, some = sb.ResponseCache(f"{folder}/one"), memory(), []
        for start in range(0, size, 1000):
            part = list(made(range(start, start + 1000)))
            clocked("add", lambda part=part: [cache.add(*each) for each in part], size)
            some += [name for name, _ in part[:: max(1, size // 10_000)]]
        random.Random(0).shuffle(some)
        clocked(
            "get", lambda: deque(map(cache.get, 5 * some), maxlen=0), 5 * len(some)
        )  # of which none is kept: there is no room for all
        recorded = Path(folder) / "all.jsonl"
        clocked("export", lambda: cache.export(recorded), size)
        cache.close()
        other = sb.ResponseCache(f"{folder}/two")
        clocked(
            "import", lambda: (other.load(recorded), other.close()), size
        )  # what closing copies from SQLite's log to the table, too
        assert len(other) == size
        other.close()
    return {**took, "MB before": before, "MB": memory()}


def nodes(graph_of, size: int) -> dict:
    import semback as sb

    from . import work

    start = time.process_time()
    graph = graph_of(sb, size)
    built = time.process_time()
    assert len(graph.nodes) == size
    model = at_once(sb.LLM)(work.MODEL)
    lang, examples, took = sb.Language(model, model), work.questions(max(2, 600 // size)), {}

    async def there_and_back(examples):
        begin = time.process_time()
        traces = [await sb.forward(graph, example, lang) for example in examples]
        turn = time.process_time()
        for trace in traces:
            assert not (await sb.backward(trace, "It should have been 3.", lang)).missing
        took.update(forward=turn - begin, backward=time.process_time() - turn)

    asyncio.run(there_and_back(examples[:1]))  # the first imports what there is to import
    asyncio.run(there_and_back(examples))
    inner = sum(bool(node.inputs) for node in graph.nodes) * len(examples)
    return {
        "build": 1e6 * (built - start) / size,
        "forward": 1e6 * took["forward"] / size / len(examples),
        "backward": 1e6 * took["backward"] / inner,
    }


def chain(size: int) -> dict:
    return nodes(lambda sb, size: sb.Graph.layered([1] * size), size)


def layers(size: int) -> dict:
    return nodes(lambda sb, size: sb.Graph.layered([10] * (size // 10) + [1]), size)


if __name__ == "__main__":
    kind, size, *folder = sys.argv[1:]
    print(
        json.dumps(
            {"live": live, "fill": fill, "entries": entries, "chain": chain, "layers": layers}[
                kind
            ](int(size), *folder)
        )
    )
