"""The work W, by semback and by plain loops over bare aiohttp and over the openai client.

W is to evaluate 64 questions on two hint nodes and an answer node, to take one step from two wrong
answers, and to evaluate the 64 questions again.
"""

import asyncio
import operator
import os
import random
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING

import semback as sb

if TYPE_CHECKING:  # the replay imports this module, and measures memory
    from .endpoint import EndpointProcess

MODEL = "bench-1"
QUESTIONS = 64
IN_FLIGHT = 64
LATENCY = 0.1  # seconds
CALLS = 3 * QUESTIONS  # of an evaluation, by three nodes
TARGET = 1.7  # times the bound of W
PARTS = ("evaluate", "backward", "update", "evaluate again")
THINGS = "apples pears books stamps marbles pencils tickets cards shells buttons".split()
Ask = Callable[[list[dict]], Awaitable[str]]


def questions(number: int, name: str = "sums") -> list[sb.Example]:
    """Different questions, as long as GSM8K's (about 240 characters); the answer is a digit."""
    chance, examples = random.Random(name), []
    for i in range(number):
        a, b = chance.randint(20, 90), chance.randint(2, 9)
        c, day = chance.randint(1, 19), chance.randint(2, 30)
        thing, other = chance.sample(THINGS, 2)
        text = (
            f"On day {day}, Natalia packs {a} {thing} into boxes that hold {b} each, in order of "
            f"size, and puts what is left over aside together with {c} {other} that she was given "
            f"by a friend. She does the same on the next day with {i} more. What is the last digit "
            f"of the number of {thing} and {other} that are set aside after both days?"
        )
        examples.append(sb.Example(f"{name}/{i}", text, str((a % b + c + (a + i) % b) % 10)))
    return examples


def task(number: int = QUESTIONS, graph: sb.Graph | None = None) -> sb.Task:
    """So many questions, to train on and to test, read as GSM8K's are; its graph by default."""
    like, examples = sb.tasks.gsm8k(train=1), tuple(questions(number))
    graph = graph or _distinct(like.graph)
    return sb.Task("sums", examples, examples, graph, like.read, overlap=True)


def test_set() -> sb.Task:
    """GSM8K with its 1,319 test questions where SEMBACK_DATA_DIR has them, else as many of ours."""
    if not os.environ.get("SEMBACK_DATA_DIR"):
        return task(1319)
    real = sb.tasks.gsm8k(data="full")
    return replace(real, graph=_distinct(real.graph))


def _distinct(graph: sb.Graph) -> sb.Graph:
    """The graph with different hint instructions: identical prompts are requested only once."""
    return graph.with_instructions({"hint_2": "List what is given, and say what is asked."})


@contextmanager
def fresh_cache(folder: str | None = None) -> Iterator[sb.ResponseCache]:
    """An empty response cache, closed at the end; without a folder it is deleted, too."""
    with tempfile.TemporaryDirectory(prefix="semback-bench-") as temporary:
        cache = sb.ResponseCache(folder or temporary, mode="auto")
        try:
            yield cache
        finally:
            cache.close()


def model(endpoint: "EndpointProcess", cache: sb.ResponseCache | None, **settings) -> sb.LLM:
    """A model behind the endpoint, with the default number in flight unless `settings` differ."""
    return sb.LLM(MODEL, cache, base_url=endpoint.url, api_key="none", **settings)


def bound(
    calls: int, depth: int, in_flight: int = IN_FLIGHT, latency: float | None = None
) -> float:
    """The seconds that no program can beat, for so many calls with the longest chain of `depth`."""
    return max(calls / in_flight, depth) * (LATENCY if latency is None else latency)


def bounds(task: sb.Task, latency: float | None = None) -> dict[str, float]:
    """The bounds of the parts of W; all judgements are made at once, and so are all updates."""
    evaluation = bound(len(task.graph.nodes) * len(task.train), depth=2, latency=latency)
    step = bound(1, 1, latency=latency)
    return dict(zip(PARTS, (evaluation, step, step, evaluation)))


async def by_semback(endpoint: "EndpointProcess", task: sb.Task, cache: sb.ResponseCache) -> None:
    """W as a user of semback does it."""
    llm = model(endpoint, cache)
    run = await sb.descend(task, sb.Language(llm, llm), steps=1, errors=2, seed=0)
    assert len(run.steps) == 2 and run.steps[1].scores, run.steps[1].kept


def timed(
    endpoint: "EndpointProcess", doing: Callable, latency: float | None = None
) -> dict[str, float]:
    """Seconds of W, of its parts by the endpoint's counters, and of CPU; and its backward calls."""
    endpoint.configure(latency=LATENCY if latency is None else latency)
    cpu, start = time.process_time(), time.perf_counter()
    asyncio.run(doing())
    end, cpu = time.perf_counter(), time.process_time() - cpu
    phases = endpoint.counters().phases
    others = [phase[:2] for phase in phases if phase[0] != "backward"]
    assert others == [["forward", CALLS], ["update", 3], ["forward", CALLS]], phases
    limits = [start, *(phase[2] for phase in phases[1:]), end]
    parts = dict(zip(PARTS, map(operator.sub, limits[1:], limits)))
    return {**parts, "W": end - start, "CPU": cpu, "backward calls": phases[1][1]}


# The same work without semback


@asynccontextmanager
async def aiohttp_client(url: str) -> AsyncIterator[Ask]:
    """Bare aiohttp: no retries, nothing recorded."""
    import aiohttp

    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:

        async def ask(messages: list[dict]) -> str:
            body = {"model": MODEL, "messages": messages, "temperature": 0, "top_p": 1}
            body["max_tokens"] = 1024
            async with session.post(url + "/chat/completions", json=body) as response:
                return (await response.json())["choices"][0]["message"]["content"]

        yield ask


@asynccontextmanager
async def openai_client(url: str, transport: str | None = None) -> AsyncIterator[Ask]:
    """The openai client, with its default transport or another of its own."""
    import openai

    http_client = getattr(openai, transport)() if transport else None
    async with openai.AsyncOpenAI(base_url=url, api_key="none", http_client=http_client) as client:

        async def ask(messages: list) -> str:
            response = await client.chat.completions.create(
                model=MODEL, messages=messages, temperature=0, top_p=1, max_tokens=1024
            )
            return response.choices[0].message.content or ""

        yield ask


async def answered(ask: Ask, examples: Sequence[sb.Example], instruction: str = "") -> list[str]:
    """The three nodes of the paper's graph on every example, with 64 requests in flight."""
    free = asyncio.Semaphore(IN_FLIGHT)

    async def node(name, question, hints=()):
        text = "\n\n".join([f"The question:\n{question}", *hints])
        async with free:
            return await ask(messages(f"{instruction} Work out {name}.", text))

    async def one(example):
        names = ("one step", "another step")
        hints = await asyncio.gather(*(node(name, example.question) for name in names))
        return await node("the answer", example.question, hints)

    return await asyncio.gather(*(one(example) for example in examples))


async def by_plain_loop(
    client: Callable[[str], AbstractAsyncContextManager[Ask]],
    url: str,
    examples: Sequence[sb.Example],
) -> None:
    """W over a client."""
    async with client(url) as ask:
        answers = await answered(ask, examples)
        blocks = "".join(f'\n<gradient to="hint_{i}">\n...\n</gradient>' for i in (1, 2))
        judged = (ask(messages("Judge.", f"{answer}{blocks}")) for answer in answers[:2])
        gradients = await asyncio.gather(*judged)
        rewrite = "\n".join(gradients) + "\n<instruction>\n...\n</instruction>"
        updates = (ask(messages(f"Improve instruction {i}.", rewrite)) for i in range(3))
        instructions = await asyncio.gather(*updates)
        await answered(ask, examples, instructions[0])


def messages(system: str, user: str) -> list[dict]:
    """A system and a user message."""
    return [{"role": "system", "content": system}, {"role": "user", "content": user}]
