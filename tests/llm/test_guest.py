"""A guest in its user's process leaves no signal handler, thread, task, child or socket behind."""

import asyncio
import gc
import os
import signal
import subprocess
import sys
import threading
import warnings

import pytest
from conftest import ASK_NINE, wait_until
from servers import Endpoint, delay, good

from semback import LLM

MESSAGES = [{"role": "user", "content": "What is 2 + 2?"}]
SIGNALS = [signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGCHLD]

pytestmark = pytest.mark.network


def sockets():
    """The open sockets of this process."""
    found = []
    for number in os.listdir("/proc/self/fd"):
        try:
            name = os.readlink(f"/proc/self/fd/{number}")
        except OSError:  # that of the listing itself
            continue
        if name.startswith("socket:"):
            found.append(name)
    return sorted(found)


async def ask(llm, draws=8):
    return await asyncio.gather(*(llm.chat(MESSAGES, draw) for draw in range(draws)))


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_after_asyncio_run_there_is_no_signal_handler_thread_child_or_socket_of_ours(cache):
    with Endpoint(good) as server:
        llm = LLM("m", cache, server.url, "k")
        state = (
            lambda: [signal.getsignal(number) for number in SIGNALS],
            lambda: set(threading.enumerate()),
            lambda: [line for line in sockets() if line not in served],
        )
        served = []
        before = [look() for look in state]
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            asyncio.run(ask(llm))
            gc.collect()
        wait_until(lambda: not server.open)
        assert [look() for look in state] == before
        with pytest.raises(ChildProcessError):
            os.waitpid(-1, os.WNOHANG)


def test_a_program_that_awaits_all_other_tasks_at_its_end_ends(cache):
    async def main():
        llm = LLM("m", cache, server.url, "k")
        await ask(llm)
        call = asyncio.create_task(llm.chat(MESSAGES, 99))
        await asyncio.sleep(0)
        others = asyncio.all_tasks() - {asyncio.current_task()}
        await asyncio.wait_for(asyncio.gather(*others), 20)
        return call.done() and asyncio.all_tasks() == {asyncio.current_task()}

    with Endpoint(good) as server:
        assert asyncio.run(main())


def test_connections_close_with_an_event_loop_that_is_run_by_hand(cache):
    async def main():
        await ask(LLM("m", cache, server.url, "k"))
        assert server.open

    with Endpoint(good) as server:
        loop = asyncio.new_event_loop()
        loop.run_until_complete(main())
        loop.run_until_complete(loop.shutdown_asyncgens())
        loop.close()
        wait_until(lambda: not server.open)


FORKS = """
async def fork(url):
    asking = asyncio.create_task(ask_nine(url))
    await asyncio.to_thread(sys.stdin.readline)
    if not (child := os.fork()):
        code = 1
        try:
            llm = sb.LLM("m", sb.ResponseCache(), base_url=url, api_key="k")
            asyncio.run(llm.chat([{"role": "user", "content": "From the child"}]))
            code = 0
        finally:
            os._exit(code)
    status = await asyncio.to_thread(os.waitpid, child, 0)
    if not (child := os.fork()):
        time.sleep(60)
        os._exit(0)
    os.kill(child, 15)
    killed = os.waitpid(child, 0)
    await asking
    print(status[1], os.WTERMSIG(killed[1]))

import time, warnings
warnings.simplefilter("ignore", DeprecationWarning)  # of forking with threads
asyncio.run(fork(sys.argv[1]))
"""


@pytest.mark.slow
@pytest.mark.process
def test_a_child_that_is_forked_while_requests_are_in_flight_works_and_ends_as_any_other(own_home):
    with Endpoint(delay(1, good)) as server:
        process = subprocess.Popen(
            [sys.executable, "-c", ASK_NINE + FORKS, server.url],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        wait_until(lambda: len(server.asked) == 3, process)
        out, _ = process.communicate("go\n", timeout=60)
    assert out == f"0 {signal.SIGTERM.value}\n" and len(server.asked) == 10


@pytest.mark.slow
@pytest.mark.process
def test_a_program_ends_at_sigterm_as_any_other_and_what_was_recorded_stays(own_home):
    from semback import ResponseCache

    with Endpoint(good, good, good, delay(60, good)) as server:
        code = f"{ASK_NINE}\nasyncio.run(ask_nine(sys.argv[1]))"
        process = subprocess.Popen([sys.executable, "-c", code, server.url])
        wait_until(lambda: len(server.asked) == 6, process)
        process.terminate()
        assert process.wait(20) == -signal.SIGTERM
    assert len(ResponseCache()) == 3
