"""Stopping long work: it ends at once, asks for nothing more, loses nothing that came, and goes on from there."""

import asyncio
import os
import signal
import subprocess
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path

import httpx2
import pytest
from conftest import ASK_NINE, wait_until
from jupyter_client import KernelManager
from servers import Endpoint, delay, good

from semback import LLM, ResponseCache

SETUP = """
import asyncio, json
import httpx2
import semback as sb

task = sb.tasks.liar(train=6)  # five nodes of its graph ask at one time, so that many calls wait for their turn
student, sent = sb.simulate.Student(task, "simulated"), []

async def slow(request):
    sent.append(request)
    if len(sent) == 10:
        print("ten are sent")
    await asyncio.sleep(0.2)
    said = student.reply(json.loads(request.content)["messages"])
    choice = {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": said}}
    return httpx2.Response(200, json={"id": "x", "object": "chat.completion", "created": 0, "model": "simulated", "choices": [choice]})

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
    """A kernel as JupyterLab has it: cells are executed, and interrupted."""

    def __init__(self, folder):
        self.manager = KernelManager(transport="ipc", connection_file=str(folder / "kernel.json"))
        self.manager.start_kernel()
        self.client = self.manager.blocking_client()
        self.client.start_channels()
        self.client.wait_for_ready(timeout=60)

    def run(self, code, interrupt_after=None) -> tuple[str, str, float]:
        """(what the cell printed, its error, seconds from the interrupt to its end). It is interrupted when it has printed that text."""
        request, printed, error, interrupted = self.client.execute(code), "", "", 0.0
        while True:
            message = self.client.get_iopub_msg(timeout=60)
            if message["parent_header"].get("msg_id") != request:
                continue
            kind, content = message["msg_type"], message["content"]
            if kind == "stream":
                printed += content["text"]
                if interrupt_after and interrupt_after in printed and not interrupted:
                    interrupted = time.monotonic()
                    self.manager.interrupt_kernel()
            if kind == "error":
                error = content["ename"]
            if kind == "status" and content["execution_state"] == "idle":
                return (
                    printed.strip(),
                    error,
                    time.monotonic() - interrupted if interrupted else 0.0,
                )

    def processes(self) -> int:
        """How many processes there are of this kernel, on Linux: itself, and those that it left behind."""
        count = 0
        for path in Path("/proc").glob("[0-9]*/cmdline"):
            with suppress(OSError):  # it has just ended
                count += os.fsencode(self.manager.connection_file) in path.read_bytes()
        return count

    def end(self):
        self.client.stop_channels()
        self.manager.shutdown_kernel(now=True)


@pytest.fixture
def kernel(tmp_path, own_home):
    started = Kernel(tmp_path)
    yield started
    started.end()


def test_an_interrupted_cell_stops_at_once_asks_for_nothing_more_and_goes_on_where_it_was(kernel):
    assert kernel.run(SETUP) == ("", "", 0)
    _, error, seconds = kernel.run(DESCEND, interrupt_after="ten are sent")
    assert (
        error in ("CancelledError", "KeyboardInterrupt") and seconds < 2
    )  # ipykernel cancels a cell that awaits
    counts, error, _ = kernel.run(
        "await asyncio.sleep(1); print(at_the_end, len(sent), len(cache))"
    )
    stopped, *later = counts.split()
    assert error == "" and later == [stopped, stopped]  # what was under way came, and is kept
    _, error, _ = kernel.run(DESCEND)
    counts, *_ = kernel.run(
        "print(len(sent) - len(run.usage.keys), sum(row['recorded'] for row in run.usage.rows()))"
    )
    assert error == "" and counts == f"0 {stopped}"
    left, *_ = kernel.run(
        "print(*[each for each in asyncio.all_tasks() if 'llm.py' in repr(each)])"
    )
    assert left == ""


@pytest.mark.skipif(sys.platform != "linux", reason="only there a kernel leaves a process behind")
@pytest.mark.parametrize("secure", [False, True])
def test_a_kernel_that_is_restarted_leaves_a_process_that_records_what_is_on_its_way(
    kernel, secure, request
):
    answered, ask = threading.Event(), f"{ASK_NINE}\nawait ask_nine(os.environ['URL'])"

    async def late(request):
        while not answered.is_set():
            await asyncio.sleep(0.01)
        return await good(request)

    certificate = request.getfixturevalue("certificate") if secure else None
    environment = {"SSL_CERT_FILE": str(certificate)} if secure else {}
    with Endpoint(late, certificate=certificate) as server:
        setup = f"import os; os.environ.update({environment | {'URL': server.url}!r})\n"
        kernel.client.execute(setup + ask)
        wait_until(lambda: len(server.asked) == 3, kernel.manager.provisioner.process)
        kernel.manager.restart_kernel()
        assert len(server.asked) == 3 and kernel.processes() == 2 and not ResponseCache()
        kernel.client.wait_for_ready(timeout=60)
        kernel.client.execute(
            setup + ask
        )  # which waits for the three, and asks for others meanwhile
        wait_until(lambda: len(server.asked) == 6, kernel.manager.provisioner.process)
        answered.set()
        wait_until(lambda: len(ResponseCache()) == 9 and kernel.processes() == 1)
        assert len(server.asked) == 9
        kernel.manager.shutdown_kernel(now=True)
        wait_until(
            lambda: not server.open
        )  # before its end, which with TLS would not wait for that


def test_a_kernel_that_is_restarted_records_at_once_what_comes_soon(kernel):
    with Endpoint(delay(0.5, good)) as server:
        kernel.client.execute(f"{ASK_NINE}\nawait ask_nine({server.url!r})")
        wait_until(lambda: len(server.asked) == 3, kernel.manager.provisioner.process)
        kernel.manager.restart_kernel()
        assert len(server.asked) == len(ResponseCache()) == 3


def test_a_call_that_waits_for_its_turn_ends_with_its_last_caller(script, cache):
    async def run():
        sent, gate, said = asyncio.Event(), asyncio.Event(), script("Four.")

        async def late(request):
            reply = said.handle(request)
            sent.set()
            await gate.wait()
            return reply

        llm = LLM("scripted", cache, in_flight=1, transport=httpx2.MockTransport(late))
        calls = [asyncio.create_task(llm.chat([{"role": "user", "content": "a"}]))]
        await sent.wait()
        calls += [
            asyncio.create_task(llm.chat([{"role": "user", "content": what}])) for what in "bcc"
        ]
        await asyncio.sleep(0.01)
        for call in calls[:3]:
            call.cancel()
        gate.set()
        assert (await calls[3]).text == "Four."
        assert [body["messages"][0]["content"] for body in said.asked] == ["a", "c"] and len(
            cache
        ) == 2  # nobody waits for b any more
        assert not (await llm.chat([{"role": "user", "content": "b"}])).recorded
        assert (await llm.chat([{"role": "user", "content": "a"}])).recorded

    asyncio.run(run())


@pytest.mark.parametrize("number, code", [(signal.SIGTERM, 143), (signal.SIGHUP, 129)])
def test_a_script_that_is_told_to_end_records_what_is_on_its_way_and_asks_for_nothing_more(
    own_home, number, code
):
    """As by `kill`, `timeout`, Slurm, a container that is stopped, a connection that is lost."""
    with Endpoint(delay(1.5, good)) as server:
        process = subprocess.Popen(
            [sys.executable, "-c", f"{ASK_NINE}\nasyncio.run(ask_nine({server.url!r}))"]
        )
        wait_until(lambda: len(server.asked) == 3, process)
        process.send_signal(number)
        assert process.wait(30) == code
    assert len(server.asked) == len(ResponseCache()) == 3


def test_a_process_that_was_forked_meanwhile_ends_at_once(own_home):
    forks = """
import time

async def fork():
    asking = asyncio.create_task(ask_nine(sys.argv[1]))
    await asyncio.to_thread(sys.stdin.readline)
    ready, forked = os.pipe()
    if child := os.fork():
        os.read(ready, 1)
        os.kill(child, 15)
        print(os.waitpid(child, 0)[1] >> 8, flush=True)
    os.write(forked, b"!")
    time.sleep(60)
asyncio.run(fork())
"""
    with Endpoint(delay(4, good)) as server:
        process = subprocess.Popen(
            [sys.executable, "-c", ASK_NINE + forks, server.url],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        wait_until(lambda: len(server.asked) == 3, process)
        process.stdin.write(b"go\n")
        process.stdin.flush()
        said = process.stdout.readline()
        process.kill()
        process.communicate()
    assert said == b"143\n"
