"""Stopping: nothing new is sent, what is in flight is recorded; a second interrupt gives it up."""

import asyncio
import signal
import subprocess
import sys
import time
from pathlib import Path

import httpx2
import pytest
from conftest import ASK_NINE, Script, wait_until
from jupyter_client import KernelManager
from servers import Endpoint, delay, good

from semback import LLM, Budget, BudgetExceeded, Language, ModelError, ResponseCache, evaluate


def question(number):
    return [{"role": "user", "content": f"Question {number}"}]


def late(script, seconds=0.2):
    """A transport that answers as the script does, after this many seconds."""

    async def handle(request):
        reply = script.handle(request)
        await asyncio.sleep(seconds)
        return reply

    return httpx2.MockTransport(handle)


def failing(place, seconds):
    """A transport that answers 401 to request number `place` and, after this many seconds, 500 to
    others; and the requests that it has seen."""
    requests = []

    async def handle(request):
        requests.append(request)
        if len(requests) == place:
            return httpx2.Response(401, json={"error": {"message": "no such key"}})
        await asyncio.sleep(seconds)
        return httpx2.Response(500, json={"error": {"message": "oops"}})

    return httpx2.MockTransport(handle), requests


# A script


@pytest.mark.slow
@pytest.mark.process
@pytest.mark.network
@pytest.mark.parametrize(
    "seconds, interrupts, recorded", [(1.5, 1, 3), (60, 2, 0)], ids=["once", "twice"]
)
def test_a_script_that_is_interrupted_records_what_is_in_flight_unless_it_is_interrupted_again(
    own_home, seconds, interrupts, recorded
):
    code = f"{ASK_NINE}\nasyncio.run(ask_nine(sys.argv[1]))"
    with Endpoint(delay(seconds, good)) as server:
        command = [sys.executable, "-c", code, server.url]
        process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
        wait_until(lambda: len(server.asked) >= 3, process)
        process.send_signal(signal.SIGINT)
        notice = process.stderr.readline()
        for _ in range(interrupts - 1):
            time.sleep(0.3)
            process.send_signal(signal.SIGINT)
        error = process.communicate(timeout=30)[1]
    assert notice.startswith("waiting for replies in flight, to record them; interrupt again")
    assert error.endswith("\nKeyboardInterrupt\n") and process.returncode == -signal.SIGINT
    assert len(server.asked) == 3 and len(ResponseCache()) == recorded


@pytest.mark.parametrize("status, recorded", [(200, 3), (500, 0)])
def test_an_event_loop_that_ends_waits_for_what_is_in_flight_and_sends_nothing_again(
    cache, status, recorded
):
    oops = httpx2.Response(status, json={"error": {"message": "oops"}})
    script = Script("Four." if status == 200 else lambda body: oops)
    llm = LLM("scripted", cache, transport=late(script), in_flight=3)

    async def story():
        calls = [asyncio.create_task(llm.chat(question(number))) for number in range(5)]
        while len(script.asked) < 3:  # they are in flight
            await asyncio.sleep(0.01)
        raise ZeroDivisionError(len(calls))

    with pytest.raises(ZeroDivisionError):
        asyncio.run(story())
    assert len(cache) == recorded and len(script.asked) == 3


def test_all_calls_of_a_gather_that_is_cancelled_are_recorded_however_late_their_replies(cache):
    script = Script("Four.")

    async def handle(request):
        reply = script.handle(request)
        await asyncio.sleep(0.1 * len(script.asked))
        return reply

    async def story():
        llm = LLM("m", cache, transport=httpx2.MockTransport(handle))
        calls = asyncio.gather(*(llm.chat(question(number)) for number in range(4)))
        while len(script.asked) < 4:  # they are in flight
            await asyncio.sleep(0.01)
        calls.cancel()
        await calls

    with pytest.raises(asyncio.CancelledError):
        asyncio.run(story())
    assert len(cache) == 4


# An error in one of several calls


@pytest.mark.parametrize("gathered", [False, True])
def test_what_is_in_flight_is_recorded_when_a_shared_budget_is_spent(cache, gathered):
    one, two, budget = Script("One."), Script("Two."), Budget(calls=4)
    first, second = (
        LLM(name, cache, transport=late(script), budget=budget)
        for name, script in (("one", one), ("two", two))
    )

    async def ask(llm, wait):
        await asyncio.sleep(wait)
        await asyncio.gather(*(llm.chat(question(number)) for number in range(3)))

    async def story():
        if gathered:
            await asyncio.gather(ask(second, 0), ask(first, 0.05))
        async with asyncio.TaskGroup() as group:
            group.create_task(ask(second, 0))
            group.create_task(ask(first, 0.05))

    with pytest.raises(BudgetExceeded if gathered else ExceptionGroup):
        asyncio.run(story())
    assert len(cache) == len(one.asked) + len(two.asked) == 4


def test_what_an_evaluation_has_sent_is_recorded_when_the_users_own_code_fails(cache, task):
    script, read = Script("Answer: 1"), []

    object.__setattr__(task, "read", lambda reply: read.append(reply) or {}["mine"])
    llm = LLM("m", cache, transport=late(script))
    with pytest.raises(KeyError, match="mine"):
        asyncio.run(evaluate(task.graph, task.test, task, Language(llm, llm)))
    assert read and len(cache) == len({str(body) for body in script.asked}) == len(script.asked)


def test_the_first_error_ends_the_retries_of_the_others_and_is_the_one_that_is_raised(cache, task):
    transport, requests = failing(3, 0.2)
    llm = LLM("m", cache, transport=transport, retries=50)
    with pytest.raises(ModelError, match="no such key"):
        asyncio.run(evaluate(task.graph, task.test, task, Language(llm, llm)))
    assert len(requests) <= 24  # each question's first request, and no second


def test_the_error_of_one_call_does_not_wait_for_all_the_retries_of_another(cache):
    transport, requests = failing(2, 0.1)

    async def story():
        llm = LLM("m", cache, transport=transport, retries=50)
        await asyncio.gather(*(llm.chat(question(number)) for number in range(2)))

    with pytest.raises(ModelError, match="no such key"):
        asyncio.run(story())
    assert len(requests) <= 3


# One caller


def test_a_caller_that_is_cancelled_ends_when_the_reply_is_recorded_and_if_cancelled_again_at_once(
    cache,
):
    script = Script("Four.")
    llm = LLM("m", cache, transport=late(script, 0.2))

    async def ended(cancels, number):
        call = asyncio.create_task(llm.chat(question(number)))
        await asyncio.sleep(0.1)
        for _ in range(cancels):
            call.cancel()
            await asyncio.sleep(0.01)
        done = call.done()
        await asyncio.wait([call])
        return done, call.cancelled()

    assert asyncio.run(ended(1, 1)) == (False, True) and len(cache) == 1
    assert asyncio.run(ended(2, 2)) == (True, True) and len(cache) == 1
    assert len(script.asked) == 2


def test_a_time_limit_of_the_caller_ends_it_when_the_reply_is_recorded(cache):
    llm = LLM("m", cache, transport=late(Script("Four."), 0.2))

    async def limited():
        async with asyncio.timeout(0.1):
            await llm.chat(question(1))

    with pytest.raises(TimeoutError):
        asyncio.run(limited())
    assert len(cache) == 1


def test_a_call_that_waits_to_be_sent_ends_with_its_last_caller(script, cache):
    async def run():
        sent, gate, scripted = asyncio.Event(), asyncio.Event(), script("Four.")

        async def held(request):
            reply = scripted.handle(request)
            sent.set()
            await gate.wait()
            return reply

        llm = LLM("scripted", cache, in_flight=1, transport=httpx2.MockTransport(held))
        calls = [asyncio.create_task(llm.chat(question("a")))]
        await sent.wait()
        calls += [asyncio.create_task(llm.chat(question(name))) for name in "bcc"]
        await asyncio.sleep(0.01)
        for call in calls[:3]:
            call.cancel()
        gate.set()
        assert (await calls[3]).text == "Four."
        asked = [body["messages"][0]["content"] for body in scripted.asked]
        assert asked == ["Question a", "Question c"] and len(cache) == 2
        assert not (await llm.chat(question("b"))).recorded
        assert (await llm.chat(question("a"))).recorded

    asyncio.run(run())


# A notebook

SETUP = """
import asyncio, json
import httpx2
import semback as sb
from semback.llm.simulated import Student

task = sb.tasks.liar(train=6)  # five nodes of its graph ask at one time, so that many calls wait
student, sent = Student(task, "simulated"), []

async def slow(request):
    sent.append(request)
    if len(sent) == 10:
        print("ten are sent")
    await asyncio.sleep(0.2)
    text = student.reply(json.loads(request.content)["messages"])
    choice = {"finish_reason": "stop", "message": {"role": "assistant", "content": text}}
    return httpx2.Response(200, json={"model": "simulated", "choices": [choice]})

cache = sb.ResponseCache()
llm = sb.LLM("simulated", cache, transport=httpx2.MockTransport(slow), in_flight=4)
lang = sb.Language(llm, llm)
"""
DESCEND = """
try:
    run = await sb.descend(task, lang, steps=1)
finally:
    at_the_end = len(sent)
"""


class Kernel:
    """A kernel as in JupyterLab: cells are executed and interrupted."""

    def __init__(self, folder: Path):
        self.manager = KernelManager(transport="ipc", connection_file=str(folder / "kernel.json"))
        self.manager.start_kernel()
        self.client = self.manager.blocking_client()
        self.client.start_channels()
        self.client.wait_for_ready(timeout=60)

    def run(self, code, interrupt_after=None) -> tuple[str, str, float]:
        """(what the cell printed, its error, seconds from the interrupt to its end).

        It is interrupted when it has printed that text.
        """
        request, printed, error, at = self.client.execute(code), "", "", 0.0
        while True:
            message = self.client.get_iopub_msg(timeout=60)
            if message["parent_header"].get("msg_id") != request:
                continue
            kind, content = message["msg_type"], message["content"]
            if kind == "stream":
                printed += content["text"]
                if interrupt_after and interrupt_after in printed and not at:
                    at = time.monotonic()
                    self.manager.interrupt_kernel()
            if kind == "error":
                error = content["ename"]
            if kind == "status" and content["execution_state"] == "idle":
                return printed.strip(), error, at and time.monotonic() - at

    def end(self):
        self.client.stop_channels()
        self.manager.shutdown_kernel(now=True)


@pytest.fixture
def kernel(tmp_path, own_home):
    started = Kernel(tmp_path)
    yield started
    started.end()


@pytest.mark.slow
@pytest.mark.process
def test_an_interrupted_cell_records_what_is_in_flight_sends_nothing_more_and_goes_on_where_it_was(
    kernel,
):
    assert kernel.run(SETUP) == ("", "", 0)
    _, error, seconds = kernel.run(DESCEND, interrupt_after="ten are sent")
    assert error in ("CancelledError", "KeyboardInterrupt") and seconds < 5
    counts, error, _ = kernel.run("print(at_the_end, len(sent), len(cache))")
    stopped, *later = counts.split()
    assert error == "" and later == [stopped, stopped]  # all was recorded before the cell ended
    _, error, _ = kernel.run(DESCEND)
    counts, *_ = kernel.run(
        "print(len(sent) - len(run.usage.keys), sum(row['recorded'] for row in run.usage.rows()))"
    )
    assert error == "" and counts == f"0 {stopped}"
    left, *_ = kernel.run("print(*[task for task in asyncio.all_tasks() if 'llm' in repr(task)])")
    assert left == ""
