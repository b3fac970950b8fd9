"""Live runs against the latency endpoint: the work W, a whole test set, deep graphs, endpoints with a limit."""

import asyncio
import time
from collections.abc import Iterator
from functools import partial

import semback as sb

from . import work
from .endpoint import WORDS, Endpoint
from .measure import Measurement
from .work import IN_FLIGHT, LATENCY, bound

PEERS = {  # seconds of W, measured before in the same way on a machine of the same kind, each in its best setting: issue 5 of this project
    "released code as it is": 14.8,
    "released code, a fresh client per loop": 2.4,
    "Trace OptoPrime, async": 3.1,
    "DSPy COPRO": 5.0,
    "TextGrad, 32 threads": 4.0,
    "DSPy GEPA, 64 threads": 2.4,
    "gepa, 64 workers": 4.1,
    "AdalFlow, 64 workers": 5.8,
}
BARE = "bare aiohttp, plain loop"
LOOPS = {
    BARE: work.aiohttp_asking,
    "openai client, plain loop": work.openai_asking,
    "openai[aiohttp] client, plain loop": lambda url: work.openai_asking(
        url, "DefaultAioHttpClient"
    ),
}


def the_work(endpoint: Endpoint, rounds: int) -> Iterator[Measurement]:
    """W and its parts, side by side with plain loops over the same endpoint."""
    task, seen = work.task(), {"semback": []}
    for number in range(rounds + 1):  # the first of semback's warms up, and is told apart
        with work.fresh_cache() as cache:
            seen["semback"].append(
                work.timed(endpoint, partial(work.by_semback, endpoint, task, cache))
            )
        for who, asking in LOOPS.items() if number else ():
            doing = partial(work.by_plain_loop, asking, endpoint.url, task.train)
            seen.setdefault(who, []).append(work.timed(endpoint, doing))
    limits = work.bounds(task)
    limit = sum(limits.values())
    yield Measurement(
        "work W", "semback, the first time in a process", "s", (seen["semback"].pop(0)["W"],), limit
    )
    for who, times in seen.items():
        yield Measurement(
            "work W",
            who,
            "s",
            [each["W"] for each in times],
            limit,
            target=work.TARGET if who == "semback" else None,
        )
    for who, quoted in PEERS.items():
        yield Measurement("work W", who, "s", [quoted], limit, quoted="issue 5")
    beside = [mine["W"] / bare["W"] for mine, bare in zip(seen["semback"], seen[BARE])]
    yield Measurement("work W, of one round", "semback over bare aiohttp", "times", beside)
    for part, limit in limits.items():
        yield Measurement("parts of W", part, "s", [each[part] for each in seen["semback"]], limit)
    first = [each["until the first request"] for each in seen["semback"]]
    yield Measurement("parts of W", "of the first evaluate: until the first request", "s", first)
    yield Measurement(
        "parts of W",
        "backward calls",
        "calls",
        [each["backward calls"] for each in seen["semback"]],
        target=2,
    )
    for who, times in seen.items():
        yield Measurement("CPU of W", who, "s", [each["CPU"] for each in times])


def whole_test_set(endpoint: Endpoint, rounds: int, folder) -> Iterator[Measurement]:
    """An evaluation of the size of GSM8K's test set; the last one leaves its responses in the cache `folder`."""
    task, seen = work.test_set(), {"semback": [], BARE: []}
    for number in range(rounds):
        with work.fresh_cache(folder if number == rounds - 1 else None) as cache:
            endpoint.set(latency=LATENCY)
            seen["semback"].append(_evaluated(endpoint, task, cache)[0])
        start = time.perf_counter()
        asyncio.run(_answered(endpoint.url, task.test))
        seen[BARE].append(time.perf_counter() - start)
    calls = len(task.test) * len(task.graph.nodes)
    for who, seconds in seen.items():
        yield Measurement(
            "whole test set",
            f"{who}, {calls:,} calls",
            "s",
            seconds,
            bound(calls, 2),
            1.2 if who == "semback" else None,
        )


def deep_graphs(
    endpoint: Endpoint, rounds: int, levels: int = 30, width: int = 20
) -> Iterator[Measurement]:
    """One question forward and backward through graphs of many levels: the time over that of the critical path.

    A node takes two values of the level before, and its level goes on as they come; or all of them, and each level waits for the last.
    """
    for inputs in (2, width):
        task = work.task(1, _levels(levels, width, inputs))
        seen, nodes = {"forward": [], "backward": []}, len(task.graph.nodes)
        for _ in range(rounds):
            endpoint.set(latency=LATENCY)
            for way, seconds in zip(seen, asyncio.run(_there_and_back(endpoint, task))):
                seen[way].append(seconds)
        limits = (
            bound(nodes, levels),
            bound(nodes - width, levels - 1),
        )  # the first level has no inputs to judge
        for (way, seconds), limit in zip(seen.items(), limits):
            yield Measurement(
                "deep graph",
                f"{way}, {levels} levels, {width} wide, {inputs} inputs each",
                "s",
                seconds,
                limit,
                1.2,
            )
    beside = [asyncio.run(_level_by_level(endpoint.url, levels, width)) for _ in range(rounds)]
    yield Measurement(
        "deep graph",
        f"forward, bare aiohttp, a level of {width} after the other",
        "s",
        beside,
        bound(nodes, levels),
    )


def _levels(levels: int, width: int, inputs: int) -> sb.Graph:
    """A graph of levels, all as wide, then the answer; a node takes so many values of the level before, the answer all of them."""
    nodes, before = [], []
    for level in range(levels - 1):
        taken = [
            tuple(before[(place + i) % width] for i in range(inputs)) if before else ()
            for place in range(width)
        ]
        nodes += [
            sb.Node(f"step_{level}_{place}", f"Work out step {level}.{place}.", taken[place])
            for place in range(width)
        ]
        before = [node.name for node in nodes[-width:]]
    return sb.Graph((*nodes, sb.Node("answer", "Work out the answer.", tuple(before))))


async def _there_and_back(endpoint, task) -> tuple[float, float]:
    """The seconds forward and backward, recorded."""
    with work.fresh_cache() as cache:
        llm = work.model(endpoint, cache)
        lang, start = sb.Language(llm, llm), time.perf_counter()
        trace = await sb.forward(task.graph, task.train[0], lang)
        turn = time.perf_counter()
        gradients = await sb.backward(trace, task.feedback(task.train[0]), lang)
        end = time.perf_counter()
    assert not gradients.missing, gradients.missing
    return turn - start, end - turn


async def _level_by_level(url: str, levels: int, width: int) -> float:
    """The seconds of as many requests, about as long, by bare aiohttp."""
    prompt = work.messages("Work out a step.", "\n\n".join(["What is it?", *[WORDS] * width]))
    start = time.perf_counter()
    async with work.aiohttp_asking(url) as ask:
        for level in range(levels):
            await asyncio.gather(*(ask(prompt) for _ in range(width if level < levels - 1 else 1)))
    return time.perf_counter() - start


def limited(
    endpoint: Endpoint,
    rounds: int,
    questions: int,
    cap: int,
    in_flight: int = IN_FLIGHT,
    retry_after: float | None = None,
) -> Iterator[Measurement]:
    """An endpoint that takes `cap` requests at a time and answers 429 above: the time over the ideal, and what was asked too often."""
    task, seconds, extra = work.task(questions), [], []
    endpoint.set(latency=0.01)
    truth = _evaluated(endpoint, task, None)[1]
    calls = questions * len(task.graph.nodes)
    for _ in range(rounds):
        endpoint.set(latency=LATENCY, cap=cap, retry_after=retry_after)
        with work.fresh_cache() as cache:
            took, rows = _evaluated(endpoint, task, cache, in_flight=in_flight)
        assert rows == truth, "a limited endpoint changed the results"
        seconds.append(took)
        extra.append(100 * (endpoint.counters().requests / calls - 1))
    waits = "" if retry_after is None else f", Retry-After {retry_after:g} s"
    name = f"{cap} at a time{waits}, {calls} calls, {in_flight} allowed"
    yield Measurement("limited endpoint", name, "s", seconds, bound(calls, 2, cap), 1.4)
    yield Measurement("limited endpoint, requests too many", name, "%", extra, target=10)


def slowed(endpoint: Endpoint, rounds: int, questions: int, knee: int) -> Iterator[Measurement]:
    """An endpoint whose latency grows in proportion above `knee` requests at a time: the time over the ideal, and what was in flight."""
    task, seconds, most = work.task(questions), [], []
    for _ in range(rounds):
        endpoint.set(latency=LATENCY, knee=knee)
        seconds.append(_evaluated(endpoint, task, None)[0])
        most.append(endpoint.counters().most_in_flight)
    calls = questions * len(task.graph.nodes)
    yield Measurement(
        "slowing endpoint",
        f"slower above {knee} at a time, {calls} calls",
        "s",
        seconds,
        bound(calls, 2, knee),
        1.4,
    )
    yield Measurement(
        "slowing endpoint", f"slower above {knee} at a time, most in flight", "requests", most
    )


def _evaluated(endpoint, task, cache, **settings) -> tuple[float, tuple]:
    """The seconds of an evaluation, and its rows."""
    llm, start = work.model(endpoint, cache, **settings), time.perf_counter()
    scores = asyncio.run(sb.evaluate(task.graph, task.test, task, sb.Language(llm, llm)))
    return time.perf_counter() - start, scores.rows


async def _answered(url, examples):
    async with work.aiohttp_asking(url) as ask:
        return await work.answered(ask, examples)
