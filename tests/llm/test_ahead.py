"""Requests are built while answers are awaited; what they ask is still what the call that takes one asks."""

import asyncio
import subprocess
import sys
import threading
from types import SimpleNamespace

import pytest
from servers import Endpoint, delay, error, says

from semback import LLM
from semback.llm.ahead import Ahead, to_be_asked
from semback.llm.connections import Connections

WIDTH = 5


@pytest.fixture
def built(monkeypatch):
    """Of every request that is built from now on: whether that was done ahead, outside of any task."""
    seen, build = [], Connections.build_request

    def noted(*args, **options):
        seen.append(asyncio.current_task() is None)
        return build(*args, **options)

    monkeypatch.setattr(Connections, "build_request", noted)
    return seen


@pytest.fixture
def held():
    """An answer that repeats the question, when `held.go` is set."""

    async def echo(request):
        while not echo.go.is_set():
            await asyncio.sleep(0.001)
        said = (await request.json())["messages"][-1]["content"]
        return await says("choices", 0, "message", "content", value=said)(request)

    echo.go = threading.Event()
    return echo


async def level(llm, number, held, ready=lambda: True):
    """Ask some questions at one time, which are answered when something is ready."""
    held.go.clear()
    asked = [f"Question {number}.{place}" for place in range(WIDTH)]
    calls = asyncio.gather(
        *(llm.chat([{"role": "user", "content": question}]) for question in asked)
    )
    while not ready():
        await asyncio.sleep(0.001)
    held.go.set()
    assert [reply.text for reply in await calls] == asked


def test_what_one_level_asks_is_built_while_the_one_before_is_awaited(built, held):
    async def three_levels(url):
        llm = LLM("m", base_url=url, api_key="k")
        await level(llm, 0, held)
        await level(
            llm, 1, held, lambda: len(server.asked) == 2 * WIDTH and len(built) == 3 * WIDTH
        )
        await level(llm, 2, held)

    with Endpoint(held) as server:
        asyncio.run(asyncio.wait_for(three_levels(server.url), 60))
    assert not all(built[: 2 * WIDTH]) and all(built[2 * WIDTH :])
    assert len(server.asked) == 3 * WIDTH


def test_a_request_that_was_built_ahead_is_tried_again_with_what_it_asks(built, held):
    async def refused(url):
        llm = LLM("m", base_url=url, api_key="k")
        await level(llm, 0, held)
        await level(
            llm, 1, held, lambda: len(server.asked) == 2 * WIDTH and len(built) == 3 * WIDTH
        )
        server.answers[:] = [error(500, "down")] * WIDTH + [held]
        await level(llm, 2, held)

    with Endpoint(held) as server:
        asyncio.run(asyncio.wait_for(refused(server.url), 60))
    assert sorted(body["messages"][-1]["content"] for body in server.asked[2 * WIDTH :]) == sorted(
        2 * [f"Question 2.{place}" for place in range(WIDTH)]
    )


@pytest.mark.parametrize(
    "end",
    ["asyncio.run(main())", "loop = asyncio.new_event_loop(); loop.run_until_complete(main())"],
)
def test_what_was_built_for_nobody_ends_in_silence(end, held):
    code = f"""
import asyncio, sys
import semback as sb

async def main():
    global llm
    llm = sb.LLM("m", base_url=sys.argv[1], api_key="k")
    for number in range(3):
        call = asyncio.create_task(llm.chat([{{"role": "user", "content": "What?"}}]))
        await asyncio.sleep(0.1)
        print((await call).text)

{end}
"""
    held.go.set()
    with Endpoint(delay(0.05, held)) as server:
        done = subprocess.run(
            [sys.executable, "-c", code, server.url], capture_output=True, text=True, timeout=60
        )
    assert (done.returncode, done.stdout) == (
        0,
        "What?\n" * 3,
    ) and "Exception ignored" not in done.stderr, done.stderr


def test_a_client_that_waits_for_something_before_it_sends_builds_nothing_ahead():
    begun = []

    async def post(body):
        begun.append(body)
        if len(begun) == 2:
            await asyncio.sleep(0.001)
        await to_be_asked()
        return body or "asked"

    async def one_after_the_other():
        ahead = Ahead(post, SimpleNamespace(seconds=0.1, wanted=False, busy=1))
        said = [await ahead.request(b"1")]
        for wanted in (2, 3):
            while len(begun) < wanted:
                await asyncio.sleep(0.001)
            said.append(await ahead.request(b"2"))
        return said

    assert asyncio.run(one_after_the_other()) == [b"1", b"2", b"2"]
