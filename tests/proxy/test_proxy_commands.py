"""`semback proxy` and `semback run-with`, as processes."""

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import openai
import pytest
from conftest import wait_until
from servers import GOOD, Endpoint, delay, good
from servers import raw as body_of

from semback import ResponseCache

pytestmark = [pytest.mark.slow, pytest.mark.process, pytest.mark.network]
ROOT = Path(__file__).parents[2]
SEMBACK = [sys.executable, "-c", "from semback.cli import main; main()"]
MESSAGES = [{"role": "user", "content": "What is 2 + 2?"}]
CALL = {"id": "c", "type": "function", "function": {"name": "add", "arguments": '{"a":2,"b":2}'}}

LITELLM = """
import asyncio, litellm
litellm.suppress_debug_info = True
fields = {"model": "openai/m", "messages": [{"role": "user", "content": "Why?"}]}
print([litellm.completion(**fields).choices[0].message.content for _ in range(2)])
print(asyncio.run(litellm.acompletion(**fields, n=2)).choices[0].message.content)
parts = litellm.completion(**fields, stream=True)
print("".join(part.choices[0].delta.content or "" for part in parts))
"""
DSPY = """
import dspy
dspy.configure(lm=dspy.LM("openai/m", cache=False, temperature=1.0, max_tokens=50))
predict = dspy.Predict("question -> answer")
print([predict(question="What is 2 + 2?").answer for _ in range(3)])
"""
LANGCHAIN = """
import asyncio
from langchain_openai import ChatOpenAI
model = ChatOpenAI(model="m", temperature=1)
def add(a: int, b: int) -> int:
    "Add two numbers."
print([model.invoke("Why?").content for _ in range(2)])
print(asyncio.run(model.ainvoke("How?")).content)
print("".join(part.content for part in model.stream("How?")))
print(model.bind_tools([add]).invoke("What is 2 + 2?").tool_calls)
print(model.bind(logprobs=True).invoke("Why?").usage_metadata)
"""
# Their environments; the releases they were tried with are in their locks.
PEERS = {
    "litellm": (".venv-litellm", LITELLM),
    "dspy": (".venv-peers", DSPY),
    "langchain": (".venv-langchain", LANGCHAIN),
}


def model():
    """An endpoint's answers: a tool call where there are tools and no result yet; else a text that
    is different each time, with the field that DSPy looks for."""
    count = 0

    async def answer(request):
        nonlocal count
        count += 1
        body = await request.json()
        assert not body.get("stream")
        text = f"[[ ## answer ## ]]\nIt is {count}.\n\n[[ ## completed ## ]]"
        message, reason = {"role": "assistant", "content": text}, "stop"
        if "tools" in body and body["messages"][-1]["role"] != "tool":
            message |= {"content": None, "tool_calls": [CALL]}
            reason = "tool_calls"
        choice = {"index": 0, "finish_reason": reason, "message": message, "logprobs": None}
        choices = [{**choice, "index": place} for place in range(body.get("n") or 1)]
        return await body_of(json.dumps({**GOOD, "choices": choices}).encode())(request)

    return answer


def run_with(url, *command, mode="auto"):
    options = ["run-with", "--base-url", url, "--mode", mode]
    return subprocess.run(
        [*SEMBACK, *options, *command], capture_output=True, text=True, timeout=120, cwd=ROOT
    )


def free_port():
    with closing(socket.create_server(("127.0.0.1", 0))) as free:
        return free.getsockname()[1]


def start(url, port):
    command = [*SEMBACK, "proxy", "--base-url", url, "--port", str(port)]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, cwd=ROOT)
    assert process.stderr.readline() == f"http://127.0.0.1:{port}/v1\n"
    return process


def test_a_program_is_recorded_by_run_with_and_replayed_without_its_endpoint():
    program = [sys.executable, Path(__file__).with_name("program.py")]
    with Endpoint(model()) as upstream:
        live = run_with(upstream.url, *program)
    assert live.returncode == 0, live.stderr
    state = json.loads(live.stdout)
    assert len(upstream.asked) == 14 and len(set(state["votes"])) == 3
    assert live.stderr.startswith("run, m: 14 calls, 0 recorded, 14 live, 140 tokens, price unk")
    for _ in range(2):
        again = run_with(upstream.url, *program, mode="replay")
        assert again.stdout == live.stdout and "14 recorded, 0 live" in again.stderr


@pytest.mark.parametrize("peer", PEERS)
def test_a_program_on_another_library_is_recorded_and_replayed(peer, tmp_path, monkeypatch):
    folder, program = PEERS[peer]
    python = ROOT / folder / "bin" / "python"
    if not python.exists():
        pytest.skip(f"{peer} is not installed: make {folder}/ready")
    monkeypatch.setenv("LITELLM_LOCAL_MODEL_COST_MAP", "True")
    monkeypatch.setenv("DSPY_CACHEDIR", str(tmp_path / "dspy"))
    with Endpoint(model()) as upstream:
        live = run_with(upstream.url, python, "-c", program)
    assert live.returncode == 0 and len(upstream.asked) > 2, live.stderr
    again = run_with(upstream.url, python, "-c", program, mode="replay")
    assert again.stdout == live.stdout and ", 0 live" in again.stderr, again.stderr
    assert live.stdout.count("It is") > 2


def test_the_exit_code_of_the_command_is_passed_on(own_home):
    python = [sys.executable, "-c"]
    seen = "import os, sys; print(os.environ['OPENAI_API_KEY'], sys.argv[1:]); sys.exit(7)"
    found = run_with("http://127.0.0.1:9/v1", *python, seen, "--mode", "x", "-h")
    assert (found.returncode, found.stdout) == (7, "unused ['--mode', 'x', '-h']\n")
    assert (
        found.stderr == "no reply passed through the proxy: does the program use OPENAI_BASE_URL?\n"
    )
    killed = run_with("http://127.0.0.1:9/v1", *python, "import os; os.kill(os.getpid(), 9)")
    assert killed.returncode == 137
    missing = run_with("http://127.0.0.1:9/v1", "no-such-program")
    assert missing.returncode == 2 and "no-such-program cannot be run" in missing.stderr


def test_ctrl_c_ends_the_proxy_when_the_replies_in_flight_are_recorded():
    with Endpoint(delay(1, good)) as upstream:
        port = free_port()
        proxy = start(upstream.url, port)

        async def story():
            url = f"http://127.0.0.1:{port}/v1"
            async with openai.AsyncOpenAI(base_url=url, api_key="none", max_retries=0) as asker:
                calls = [
                    asker.chat.completions.create(model="m", messages=MESSAGES, seed=seed)
                    for seed in range(5)
                ]
                calls = asyncio.gather(*calls, return_exceptions=True)
                while len(upstream.asked) < 5:
                    await asyncio.sleep(0.01)
                proxy.send_signal(signal.SIGINT)
                return await calls

        asyncio.run(story())
        error = proxy.communicate(timeout=30)[1]
    assert proxy.returncode == 0 and error.startswith("waiting for replies in flight"), error
    assert "Traceback" not in error and len(ResponseCache()) == 5


def test_ctrl_c_reaches_the_command_whose_replies_in_flight_are_recorded():
    asks = """
import asyncio, openai
async def main():
    create = openai.AsyncOpenAI(max_retries=0).chat.completions.create
    messages = [{"role": "user", "content": "Why?"}]
    await asyncio.gather(*(create(model="m", messages=messages, seed=seed) for seed in range(5)))
asyncio.run(main())
"""
    with Endpoint(delay(1, good)) as upstream:
        command = [*SEMBACK, "run-with", "--base-url", upstream.url, sys.executable, "-c", asks]
        process = subprocess.Popen(
            command, stderr=subprocess.PIPE, text=True, cwd=ROOT, start_new_session=True
        )
        wait_until(lambda: len(upstream.asked) == 5, process)
        os.killpg(process.pid, signal.SIGINT)  # as a terminal does
        error = process.communicate(timeout=30)[1]
    assert (
        process.returncode == 130
        and "disconnected: 5 calls, 50 tokens" in error
        and len(ResponseCache()) == 5
    )


def test_a_proxy_that_is_killed_and_started_again_loses_no_reply():
    with Endpoint(delay(0.2, good)) as upstream:
        port = free_port()
        proxy = start(upstream.url, port)

        async def story():
            url, again = f"http://127.0.0.1:{port}/s/mine/v1", None
            async with openai.AsyncOpenAI(base_url=url, api_key="none", max_retries=20) as asker:

                async def one(seed):
                    create = asker.chat.completions.create
                    return await create(model="m", messages=MESSAGES, seed=seed)

                first = await asyncio.gather(*map(one, range(4)))
                calls = asyncio.gather(*map(one, range(4, 64)))
                while len(upstream.asked) < 20:
                    await asyncio.sleep(0.01)
                proxy.kill()
                proxy.communicate()
                again = start(upstream.url, port)
                return [*first, *await calls], again

        replies, again = asyncio.run(story())
        again.send_signal(signal.SIGTERM)
        assert again.communicate(timeout=30) and again.returncode == 0
    assert {reply.choices[0].message.content for reply in replies} == {"Four."}
    with closing(ResponseCache()) as cache:
        assert {entry["request"]["seed"] for _, entry in cache.entries()} == set(range(64))


def test_a_port_that_is_taken_or_is_the_endpoint_s_is_one_message():
    with closing(socket.create_server(("127.0.0.1", 0))) as taken:
        port = taken.getsockname()[1]
        for place, url in (
            (port, "http://127.0.0.1:9/v1"),
            (p := free_port(), f"http://localhost:{p}/v1"),
        ):
            command = [*SEMBACK, "proxy", "--base-url", url, "--port", str(place)]
            found = subprocess.run(command, capture_output=True, text=True, timeout=60, cwd=ROOT)
            assert found.returncode == 2 and len(found.stderr.splitlines()) == 1, found.stderr
