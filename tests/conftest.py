"""What tests share: a scripted model behind the real openai client, and a home folder each."""

import asyncio
import json
import re
import shutil
import signal
import subprocess
import sys
import time

import httpx2
import pytest
from hypothesis import settings

from semback import LLM, Example, Graph, Node, ResponseCache, Task

settings.register_profile(
    "semback", derandomize=True, deadline=None, max_examples=60
)  # the same examples every time
settings.load_profile("semback")


@pytest.fixture(autouse=True)
def own_home(tmp_path, monkeypatch):
    """Every test has its own home folder and knows no key, endpoint or mode of the machine."""
    for name in (
        "OPENAI_API_KEY",
        "OPENAI_BASE_URL",
        "SEMBACK_CACHE_MODE",
        "SEMBACK_COACH_API_KEY",
        "SEMBACK_HEADERS",
    ):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("SEMBACK_HOME", str(tmp_path))
    return tmp_path


ASK_NINE = """
import asyncio, os, sys
import semback as sb

async def ask_nine(url):
    llm = sb.LLM("m", sb.ResponseCache(), base_url=url, api_key="k", in_flight=3)
    asked = [[{"role": "user", "content": f"Question {number}"}] for number in range(9)]
    await asyncio.gather(*(llm.chat(messages) for messages in asked))
"""


def wait_until(happened, process=None):
    """Wait until something has happened, as long as the process that makes it happen runs."""
    deadline = time.monotonic() + 60
    while not happened():
        assert time.monotonic() < deadline and not (process and process.poll() is not None)
        time.sleep(0.02)


def interrupted(code, server, times):
    """Run code that asks a server; interrupt it so many times when three requests are in flight.

    Returns the first line that it writes to stderr then, the rest of it, and its exit code.
    """
    process = subprocess.Popen(
        [sys.executable, "-c", code, server.url], stderr=subprocess.PIPE, text=True
    )
    wait_until(lambda: len(server.asked) >= 3, process)
    process.send_signal(signal.SIGINT)
    said = process.stderr.readline()
    for _ in range(times - 1):
        process.send_signal(signal.SIGINT)
    return said, process.communicate(timeout=30)[1], process.returncode


class Script:
    """A model that replies what a function of the request returns; `asked` holds every body.

    The function takes the body and returns the reply's text, or a dict that replaces parts of the
    choice (`finish_reason`, `message`), or a finished httpx2.Response. In its place may stand one
    such reply, or a list of them: one after the other, and the last for good.
    """

    def __init__(self, says):
        left = list(says) if isinstance(says, list) else [says]
        self.says, self.asked = (
            says if callable(says) else lambda body: left.pop(0) if len(left) > 1 else left[0],
            [],
        )

    def handle(self, request):
        body = json.loads(request.content)
        self.asked.append(body)
        said = self.says(body)
        if isinstance(said, httpx2.Response):
            return said
        choice = {
            "index": 0,
            "finish_reason": "stop",
            "message": {"role": "assistant", "content": said},
        }
        if isinstance(said, dict):
            choice |= said
        return httpx2.Response(
            200,
            headers={"content-type": "application/json"},
            content=json.dumps(
                {
                    "id": "x",
                    "object": "chat.completion",
                    "created": 0,
                    "model": body["model"] + "-2024-07-18",
                    "system_fingerprint": "fp_1",
                    "choices": [choice],
                    "usage": {"prompt_tokens": 7, "completion_tokens": 3, "total_tokens": 10},
                }
            ),
        )

    def llm(self, model="scripted", cache=None, jitter=None, **settings):
        """An LLM that asks this script; `jitter`, a random.Random, delays each reply a little."""

        async def late(request):
            for _ in range(jitter.randrange(100)):
                await asyncio.sleep(0)
            return self.handle(request)

        return LLM(
            model,
            cache,
            transport=httpx2.MockTransport(late if jitter else self.handle),
            **settings,
        )


def gradients(user, text):
    """A coach's reply: this gradient for every input that a prompt asks about; None to others."""
    names = re.findall('^<gradient to="(.*)">$', user, re.MULTILINE)
    return "\n".join(f'<gradient to="{name}">\n{text}\n</gradient>' for name in names) or None


def adder(right):
    """A model that adds rightly where right(system prompt, first number), and proposes `Carry.`"""

    def says(body):
        system, user = (message["content"] for message in body["messages"][:2])
        if reply := gradients(user, "Add it up."):
            return reply
        if "<instruction>" in user:
            return "<instruction>\nCarry the one.\n</instruction>"
        a, b = map(int, re.search(r"(\d+) \+ (\d+)", user).groups())
        return f"Answer: {a + b if right(system, a) else 999}"

    return Script(says)


@pytest.fixture
def script():
    """A factory: script(says) is a Script."""
    return Script


@pytest.fixture
def certificate(tmp_path):
    """The path of a certificate for 127.0.0.1, with its key."""
    if not shutil.which("openssl"):
        pytest.skip("openssl, which makes the certificate, is not installed")
    path, public = tmp_path / "certificate.pem", tmp_path / "public.pem"
    command = "openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=127.0.0.1 "
    command += "-addext subjectAltName=IP:127.0.0.1 -keyout"
    subprocess.run([*command.split(), path, "-out", public], check=True, capture_output=True)
    path.write_bytes(path.read_bytes() + public.read_bytes())
    return path


@pytest.fixture
def cache(tmp_path):
    with_cache = ResponseCache(tmp_path / "cache")
    yield with_cache
    with_cache.close()


@pytest.fixture
def task():
    """A task with 12 training and 12 test questions on the paper's graph of three nodes."""
    answer = Node(
        "answer",
        "Solve the problem with the hints.",
        ("hint_1", "hint_2"),
        form='End with a line "Answer: " and a number.',
    )
    graph = Graph(
        (
            Node("hint_1", "Work out an intermediate step."),
            Node("hint_2", "Work out another step."),
            answer,
        )
    )
    examples = [
        Example(f"sum/{i}", f"What is {i} + {i * 7 % 11}?", str(i + i * 7 % 11)) for i in range(24)
    ]

    def read(reply):
        found = re.search(r"^Answer: (\d+)$", reply, re.MULTILINE)
        return found and found[1]

    return Task("sums", examples[:12], examples[12:], graph, read)
