"""The work W: evaluate 64 questions on two hint nodes and an answer node, one step from two wrong answers, evaluate 64 again.

By semback, and by plain loops over bare aiohttp and over the openai client, which stand beside it in the same run.
"""

import asyncio
import operator
import os
import random
import tempfile
import time
from collections.abc import Callable
from contextlib import asynccontextmanager, contextmanager
from dataclasses import replace

import semback as sb

MODEL, QUESTIONS, IN_FLIGHT, LATENCY = "bench-1", 64, 64, 0.1
CALLS, TARGET = 3 * QUESTIONS, 1.5  # of an evaluation, by three nodes; times the bound of W
PARTS = "evaluate", "backward", "update", "evaluate again"
THINGS = "apples pears books stamps marbles pencils tickets cards shells buttons".split()


def questions(number: int, name: str = "sums") -> list[sb.Example]:
    """Questions of the length of GSM8K's (about 240 characters), each another; the answer is a digit."""
    chance, examples = random.Random(name), []
    for i in range(number):
        a, b, c, day = (
            chance.randint(20, 90),
            chance.randint(2, 9),
            chance.randint(1, 19),
            chance.randint(2, 30),
        )
        thing, other = chance.sample(THINGS, 2)
        text = (
            f"On day {day}, Natalia packs {a} {thing} into boxes that hold {b} each, in order of size, and puts what is left over "
            f"aside together with {c} {other} that she was given by a friend. She does the same on the next day with {i} more. What is "
            f"the last digit of the number of {thing} and {other} that are set aside after both days?"
        )
        examples.append(sb.Example(f"{name}/{i}", text, str((a % b + c + (a + i) % b) % 10)))
    return examples


def task(number: int = QUESTIONS, graph: sb.Graph | None = None) -> sb.Task:
    """So many questions, to train on and to test, read as GSM8K's are, on its graph unless another is given."""
    like, examples = sb.tasks.gsm8k(train=1), questions(number)
    return sb.Task(
        "sums", examples, examples, graph or _distinct(like.graph), like.read, overlap=True
    )


def test_set() -> sb.Task:
    """GSM8K with its 1,319 test questions where SEMBACK_DATA_DIR has them; else as many questions of about its length."""
    if not os.environ.get("SEMBACK_DATA_DIR"):
        return task(1319)
    real = sb.tasks.gsm8k(data="full")
    return replace(real, graph=_distinct(real.graph))


def _distinct(graph: sb.Graph) -> sb.Graph:
    """The graph with another instruction for each hint: with the same one their prompts are the same, and semback asks only once."""
    return graph.with_instructions({"hint_2": "List what is given, and say what is asked."})


@contextmanager
def fresh_cache(folder=None):
    """An empty response cache that goes when it is done with."""
    with tempfile.TemporaryDirectory(prefix="semback-bench-") as made:
        cache = sb.ResponseCache(folder or made, mode="auto")
        try:
            yield cache
        finally:
            cache.close()


def model(endpoint, cache, **settings) -> sb.LLM:
    """A model behind the endpoint, with the default number in flight unless `settings` say otherwise."""
    return sb.LLM(MODEL, cache, base_url=endpoint.url, api_key="none", **settings)


def bound(calls: int, depth: int, in_flight: int = IN_FLIGHT, latency: float = LATENCY) -> float:
    """Seconds below which no program can come: so many calls, so many of them one after the other."""
    return max(calls / in_flight, depth) * latency


def bounds(task: sb.Task) -> dict[str, float]:
    """Of the parts of W on the paper's graph: every node of every question; two answers judged at once; every node updated at once."""
    evaluation = bound(len(task.graph.nodes) * len(task.train), depth=2)
    return dict(zip(PARTS, (evaluation, LATENCY, LATENCY, evaluation)))


async def by_semback(endpoint, work: sb.Task, cache) -> None:
    """W as a user of semback does it."""
    llm = model(endpoint, cache)
    run = await sb.descend(work, sb.Language(llm, llm), steps=1, errors=2, seed=0)
    assert len(run.steps) == 2 and run.steps[1].scores, run.steps[1].kept


def timed(endpoint, doing: Callable) -> dict[str, float]:
    """Seconds of W, of its parts, which the endpoint tells apart, and of CPU; and the number of backward calls that it saw."""
    endpoint.set(latency=LATENCY)
    cpu, start = time.process_time(), time.perf_counter()
    asyncio.run(doing())
    end, cpu = time.perf_counter(), time.process_time() - cpu
    phases = endpoint.counters().phases
    assert [phase[:2] for phase in phases if phase[0] != "backward"] == [
        ["forward", CALLS],
        ["update", 3],
        ["forward", CALLS],
    ], phases
    limits = [start, *(phase[2] for phase in phases[1:]), end]
    parts = dict(zip(PARTS, map(operator.sub, limits[1:], limits)))
    return {
        **parts,
        "W": end - start,
        "CPU": cpu,
        "until the first request": phases[0][2] - start,
        "backward calls": phases[1][1],
    }


# The same work without semback


@asynccontextmanager
async def aiohttp_asking(url: str):
    """Bare aiohttp: no retry, no client, nothing is kept."""
    import aiohttp

    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:

        async def ask(messages):
            body = {
                "model": MODEL,
                "messages": messages,
                "temperature": 0,
                "top_p": 1,
                "max_tokens": 1024,
            }
            async with session.post(url + "/chat/completions", json=body) as response:
                return (await response.json())["choices"][0]["message"]["content"]

        yield ask


@asynccontextmanager
async def openai_asking(url: str, transport: str | None = None):
    """The openai client, with its default transport or another of its own."""
    import openai

    http_client = getattr(openai, transport)() if transport else None
    async with openai.AsyncOpenAI(base_url=url, api_key="none", http_client=http_client) as client:

        async def ask(messages):
            said = await client.chat.completions.create(
                model=MODEL, messages=messages, temperature=0, top_p=1, max_tokens=1024
            )
            return said.choices[0].message.content

        yield ask


async def answered(ask: Callable, examples, instruction: str = "") -> list[str]:
    """The three nodes of the paper's graph on every example, with 64 requests in flight, as a plain loop."""
    free = asyncio.Semaphore(IN_FLIGHT)

    async def node(name, question, hints=()):
        shown = "".join(f"\n\n{hint}" for hint in hints)
        async with free:
            return await ask(
                messages(f"{instruction} Work out {name}.", f"The question:\n{question}{shown}")
            )

    async def one(example):
        hints = await asyncio.gather(
            node("one step", example.question), node("another step", example.question)
        )
        return await node("the answer", example.question, hints)

    return await asyncio.gather(*(one(example) for example in examples))


async def by_plain_loop(asking: Callable, url: str, examples) -> None:
    """W over what `asking(url)` gives."""
    async with asking(url) as ask:
        answers = await answered(ask, examples)
        blocks = "".join(f'\n<gradient to="hint_{i}">\n...\n</gradient>' for i in (1, 2))
        gradients = await asyncio.gather(
            *(ask(messages("Judge.", f"{answer}{blocks}")) for answer in answers[:2])
        )
        rewrite = "\n".join(gradients) + "\n<instruction>\n...\n</instruction>"
        new = await asyncio.gather(
            *(ask(messages(f"Improve instruction {i}.", rewrite)) for i in range(3))
        )
        await answered(ask, examples, new[0])


def messages(system: str, user: str) -> list[dict]:
    return [{"role": "system", "content": system}, {"role": "user", "content": user}]
