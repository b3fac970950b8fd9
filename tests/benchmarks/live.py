"""Live runs against the endpoint: the work W, a whole test set, deep graphs, caps."""

import asyncio
import time
from collections.abc import Iterator, Sequence
from functools import partial

import semback as sb

from . import work
from .endpoint import WORDS, EndpointProcess
from .measure import Measurement
from .work import IN_FLIGHT, LATENCY, bound

# Seconds of W, measured earlier in the same way on a machine of the same kind, at best settings.
PEERS = {
    "released code as it is": 14.8,
    "released code, a fresh client per loop": 2.4,
    "Trace OptoPrime, async": 3.1,
    "DSPy COPRO": 5.0,
    "TextGrad, 32 threads": 4.0,
    "DSPy GEPA, 64 threads": 2.4,
    "gepa, 64 workers": 4.1,
    "AdalFlow, 64 workers": 5.8,
}
SOURCE = "issue 5"
BARE = "bare aiohttp, plain loop"
LOOPS = {
    BARE: work.aiohttp_client,
    "openai client, plain loop": work.openai_client,
    "openai[aiohttp] client, plain loop": partial(
        work.openai_client, transport="DefaultAioHttpClient"
    ),
}


def the_work(endpoint: EndpointProcess, rounds: int) -> Iterator[Measurement]:
    """W and its parts, in turn with plain loops over the same endpoint."""
    task = work.task()
    limits = work.bounds(task)
    limit = sum(limits.values())
    warm_up = _by_semback(endpoint, task)
    yield Measurement("work W", "semback, first in a process", "s", [warm_up["W"]], limit)
    runs = {"semback": [], **{name: [] for name in LOOPS}}
    for _ in range(rounds):
        runs["semback"].append(_by_semback(endpoint, task))
        for name, client in LOOPS.items():
            loop = partial(work.by_plain_loop, client, endpoint.url, task.train)
            runs[name].append(work.timed(endpoint, loop))
    for name, times in runs.items():
        target = work.TARGET if name == "semback" else None
        yield Measurement("work W", name, "s", [each["W"] for each in times], limit, target)
    for name, seconds in PEERS.items():
        yield Measurement("work W", name, "s", [seconds], limit, quoted=SOURCE)
    ours = runs["semback"]
    for part, seconds in limits.items():
        yield Measurement("parts of W", part, "s", [each[part] for each in ours], seconds)
    calls = [each["backward calls"] for each in ours]
    yield Measurement("parts of W", "backward calls", "calls", calls, target=2)
    for name, times in runs.items():
        yield Measurement("CPU of W", name, "s", [each["CPU"] for each in times])


def slow_work(
    endpoint: EndpointProcess, rounds: int, latency: float = 1.0
) -> Iterator[Measurement]:
    """W where a reply takes a second, as a real model's does."""
    task = work.task()
    seconds = [_by_semback(endpoint, task, latency)["W"] for _ in range(rounds)]
    limit = sum(work.bounds(task, latency).values())
    yield Measurement("work W, slow replies", f"semback, {latency:g} s", "s", seconds, limit, 1.1)


def _by_semback(
    endpoint: EndpointProcess, task: sb.Task, latency: float | None = None
) -> dict[str, float]:
    with work.fresh_cache() as cache:
        return work.timed(endpoint, partial(work.by_semback, endpoint, task, cache), latency)


def whole_test_set(endpoint: EndpointProcess, rounds: int, folder: str) -> Iterator[Measurement]:
    """An evaluation of the size of GSM8K's test set; the last leaves its replies in `folder`."""
    task, ours, bare = work.test_set(), [], []
    for number in range(rounds):
        with work.fresh_cache(folder if number == rounds - 1 else None) as cache:
            endpoint.configure(latency=LATENCY)
            ours.append(_evaluated(endpoint, task, cache)[0])
        start = time.perf_counter()
        asyncio.run(_answered(endpoint.url, task.test))
        bare.append(time.perf_counter() - start)
    calls = len(task.test) * len(task.graph.nodes)
    limit = bound(calls, 2)
    yield Measurement("whole test set", f"semback, {calls:,} calls", "s", ours, limit, 1.4)
    yield Measurement("whole test set", f"{BARE}, {calls:,} calls", "s", bare, limit)


def deep_graphs(
    endpoint: EndpointProcess, rounds: int, levels: int = 30, width: int = 20
) -> Iterator[Measurement]:
    """One question forward and backward through graphs of many levels.

    A node takes two values of the level before, so it starts as they arrive; or all of them, so
    each level waits for the slowest value.
    """
    for inputs in (2, width):
        task, seconds = work.task(1, _levels(levels, width, inputs)), []
        for _ in range(rounds):
            endpoint.configure(latency=LATENCY)
            seconds.append(asyncio.run(_there_and_back(endpoint, task)))
        nodes = len(task.graph.nodes)
        name = f"{levels} levels, {width} wide, {inputs} inputs each"
        forward, backward = zip(*seconds)
        limit = bound(nodes, levels)
        yield Measurement("deep graph", f"forward, {name}", "s", forward, limit, 1.3)
        limit = bound(nodes - width, levels - 1)  # the first level has no inputs to judge
        yield Measurement("deep graph", f"backward, {name}", "s", backward, limit, 1.3)
    seconds = [asyncio.run(_level_by_level(endpoint.url, levels, width)) for _ in range(rounds)]
    name = f"forward, bare aiohttp, a level of {width} after the other"
    yield Measurement("deep graph", name, "s", seconds, bound(levels * width, levels))


def _levels(levels: int, width: int, inputs: int) -> sb.Graph:
    """Equally wide levels, then the answer, which takes the whole last level."""
    nodes, before = [], []
    for level in range(levels - 1):
        names = [f"step_{level}_{place}" for place in range(width)]
        for place, name in enumerate(names):
            taken = tuple(before[(place + i) % width] for i in range(inputs)) if before else ()
            nodes.append(sb.Node(name, f"Work out step {level}.{place}.", taken))
        before = names
    return sb.Graph((*nodes, sb.Node("answer", "Work out the answer.", tuple(before))))


async def _there_and_back(endpoint: EndpointProcess, task: sb.Task) -> tuple[float, float]:
    """The seconds forward and backward, recorded."""
    example = task.train[0]
    with work.fresh_cache() as cache:
        llm = work.model(endpoint, cache)
        lang, start = sb.Language(llm, llm), time.perf_counter()
        trace = await sb.forward(task.graph, example, lang)
        middle = time.perf_counter()
        gradients = await sb.backward(trace, task.feedback(example), lang)
        end = time.perf_counter()
    assert len(gradients) == len(task.graph.nodes)
    return middle - start, end - middle


async def _level_by_level(url: str, levels: int, width: int) -> float:
    """The seconds of as many requests, of about the same length, by bare aiohttp."""
    prompt = work.messages("Work out a step.", "\n\n".join(["What is it?", *[WORDS] * width]))
    start = time.perf_counter()
    async with work.aiohttp_client(url) as ask:
        for _ in range(levels - 1):
            await asyncio.gather(*(ask(prompt) for _ in range(width)))
        await ask(prompt)
    return time.perf_counter() - start


def limited(
    endpoint: EndpointProcess, rounds: int, questions: int, cap: int, in_flight: int = IN_FLIGHT
) -> Iterator[Measurement]:
    """An endpoint that takes `cap` requests at a time and refuses more with 429."""
    task, seconds, refused = work.task(questions), [], []
    calls = questions * len(task.graph.nodes)
    endpoint.configure(latency=0.01)
    truth = _evaluated(endpoint, task, None)[1]
    for _ in range(rounds):
        endpoint.configure(latency=LATENCY, cap=cap)
        with work.fresh_cache() as cache:
            taken, rows = _evaluated(endpoint, task, cache, in_flight=in_flight)
        assert rows == truth, "a limited endpoint changed the results"
        seconds.append(taken)
        refused.append(100 * endpoint.counters().refused / calls)
    name = f"{cap} at a time, {calls} calls, {in_flight} allowed"
    yield Measurement("limited endpoint", name, "s", seconds, bound(calls, 2, cap), 1.5)
    yield Measurement("limited endpoint, refused requests", name, "%", refused, target=10)


def _evaluated(
    endpoint: EndpointProcess, task: sb.Task, cache: sb.ResponseCache | None, **settings
) -> tuple[float, tuple]:
    """The seconds of an evaluation, and its rows."""
    llm, start = work.model(endpoint, cache, **settings), time.perf_counter()
    scores = asyncio.run(sb.evaluate(task.graph, task.test, task, sb.Language(llm, llm)))
    return time.perf_counter() - start, scores.rows


async def _answered(url: str, examples: Sequence[sb.Example]) -> list[str]:
    async with work.aiohttp_client(url) as ask:
        return await work.answered(ask, examples)
