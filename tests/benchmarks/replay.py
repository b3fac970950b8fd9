"""An evaluation from recordings: in a new process, as a whole (`python -m benchmarks.replay FOLDER [QUESTIONS]`), and part by part."""

import asyncio
import gc
import json
import sys
import time
from collections.abc import Iterator

from .measure import Measurement, in_process, memory

# calls a second, measured before on a machine of the same kind: issue 5 of this project
PEERS = {
    "the slowest peer, look-up alone": 150,
    "the quickest peer, look-up alone": 7_700,
    "diskcache's get, nothing else": 120_000,
}


def new_process(folder: str, questions: int | None = None) -> dict:
    """Evaluate from the cache in `folder` in this process: seconds of the import, of the questions, of opening and evaluating, and MB.

    questions: how many of our own; without it those of the whole test set.
    """
    start = time.perf_counter()
    import semback as sb

    imported = time.perf_counter()
    from . import work  # after semback, whose import is timed

    task = work.test_set() if questions is None else work.task(questions)

    def evaluated(examples):
        cache = sb.ResponseCache(folder, mode="replay")
        model = sb.LLM(work.MODEL, cache)
        return asyncio.run(sb.evaluate(task.graph, examples, task, sb.Language(model, model)))

    if questions is not None:
        evaluated(task.test[:1])  # for a series: the first imports what there is to import
    before, ready, cpu = memory(), time.perf_counter(), time.process_time()
    scores = evaluated(task.test)
    end, cpu = time.perf_counter(), time.process_time() - cpu
    count = sum(count.calls for count in scores.usage.counts.values())
    assert count == sum(
        count.recorded + count.repeated for count in scores.usage.counts.values()
    ), "something was not recorded"
    return {
        "import": imported - start,
        "evaluate": end - ready,
        "CPU": cpu,
        "calls": count,
        "MB before": before,
        "MB": memory(),
        "correct": scores.correct,
    }


def whole(folder: str, rounds: int) -> Iterator[Measurement]:
    """A new process each time."""
    seen = [in_process("replay", folder) for _ in range(rounds)]
    calls = seen[0]["calls"]
    yield Measurement(
        "replay",
        f"{calls:,} calls, opening the cache and all",
        "calls/s",
        [calls / each["evaluate"] for each in seen],
        target=12_000,
        more=True,
    )
    yield Measurement(
        "replay", f"{calls:,} calls, by CPU time", "calls/s", [calls / each["CPU"] for each in seen]
    )
    for who, quoted in PEERS.items():
        yield Measurement("replay", who, "calls/s", [quoted], quoted="issue 5")
    yield Measurement(
        "replay",
        "the whole process, start and imports too",
        "s",
        [each["process"] for each in seen],
    )
    yield Measurement("replay", "most memory", "MB", [each["MB"] for each in seen])


def parts(folder: str, rounds: int) -> Iterator[Measurement]:
    """Microseconds of CPU a call, of each part alone, in this process."""
    import semback as sb
    from semback.cache import recording
    from semback.llm.recall import AT_ONCE

    from . import work

    task, cache = work.test_set(), sb.ResponseCache(folder, mode="replay")
    requests = [(entry["request"], entry["draw"]) for _, entry, _ in cache.rows()]
    asked = [(*recording.named(*request), request[1]) for request in requests]
    calls, answers = len(task.test) * len(task.graph.nodes), []

    class Silent(sb.LLM):
        """Knows one reply, and needs no key and no look-up for it."""

        def recorded(self, asked, draw=0):
            return [sb.Reply("I am done.\nAnswer: 3", "stop", {}, "silent", True, "")] * len(asked)

    async def evaluate(model):
        scores = await sb.evaluate(
            task.graph, task.test, task, sb.Language(model, model), traces=True
        )
        answers[:] = [(scores.traces[example.id].answer, example) for example in task.test]

    def read():
        for reply, example in answers:
            answer = task.read(reply)
            answer is not None and task.correct(answer, example)

    doing = {
        "all": lambda: asyncio.run(evaluate(sb.LLM(work.MODEL, cache))),
        "look-up": lambda: [
            cache.replies(asked[at : at + AT_ONCE]) for at in range(0, calls, AT_ONCE)
        ],
        "hashing": lambda: [recording.named(*request) for request in requests],
        "reading and scoring": read,
        "rendering, scheduling, reading: no key, no look-up": lambda: asyncio.run(
            evaluate(Silent(work.MODEL))
        ),
    }
    seen = {name: [] for name in doing}
    for _ in range(rounds + 1):
        for name, work_on in doing.items():
            gc.freeze()  # what the measuring keeps is not to be searched for garbage
            start = time.process_time()
            work_on()
            seen[name].append(1e6 * (time.process_time() - start) / calls)
    for name, microseconds in seen.items():
        yield Measurement("replay, CPU part by part", name, "µs a call", microseconds[1:])
    cache.close()


if __name__ == "__main__":
    folder, *questions = sys.argv[1:]
    print(json.dumps(new_process(folder, *map(int, questions))))
