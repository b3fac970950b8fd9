"""The endpoint of the benchmarks: the tests' server, with replies after a given latency.

It runs in a process of its own (`python -m benchmarks.endpoint`), which can have a core for itself,
so that it takes no time from the program that is measured. A reply depends on nothing but the
messages.
"""

import asyncio
import gc
import json
import os
import subprocess
import sys
import time
import urllib.request
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field

from aiohttp import web
from servers import FORM, Endpoint

from .measure import TESTS, environment
from .peers.replies import formed

PHASES = {"gradient": "backward", "instruction": "update", "critique": "update"}
WORDS = (
    "First I list what is given, then I say what is asked, and I work from the one to the other in "
    "small steps, each of which can be checked. The quantities are added in the order in which "
    "they appear; what is taken away is subtracted at the end. The units agree on both sides, and "
    "the result has the size that one would expect from the numbers in the text."
)


@dataclass
class Settings:
    """How the endpoint behaves.

    Attributes
    ----------
    latency : float
        Seconds from a request to its reply.
    cap : int
        Requests in flight; more are refused at once with 429. 0 is no cap.
    """

    latency: float = 0.1
    cap: int = 0


@dataclass
class Counters:
    """What the endpoint has counted since its last settings.

    Attributes
    ----------
    phases : list
        [phase, requests, start, end] of every stretch of requests of one phase (forward, backward,
        update), in seconds of time.perf_counter, which all processes of a Linux machine share.
    """

    requests: int = 0
    refused: int = 0
    in_flight: int = 0
    most_in_flight: int = 0
    phases: list[list] = field(default_factory=list)

    def stretch(self, phase: str, now: float) -> list:
        """The stretch that a request of this phase belongs to, with the request counted."""
        if not self.phases or self.phases[-1][0] != phase:
            self.phases.append([phase, 0, now, now])
        self.phases[-1][1] += 1
        return self.phases[-1]


def reply(messages: list[dict]) -> tuple[str, str]:
    """(phase, text): the blocks that the last message asks for, or a working that ends in a digit.

    A peer's message that asks for another form gets the working in that form.
    """
    last = messages[-1]["content"]
    mark = zlib.crc32("\0".join(message["content"] for message in messages).encode())
    blocks = []
    for opening, tag, to in FORM.findall(last):
        name = to or "this step"
        text = f"It should name {mark % 97} things more plainly in {name}, and why ({mark:08x})."
        blocks.append((tag, f"{opening}\n{text}\n</{tag}>"))
    if blocks:
        return PHASES[blocks[0][0]], "\n".join(text for _, text in blocks)
    working = f"Working {mark:08x}. {WORDS}\n\nAnswer: {mark % 10}"
    return formed(last, working) or ("forward", working)


class LateModel:
    """What the server answers: late replies, refusals above the cap, and its counters."""

    def __init__(self):
        self.settings, self.counters = Settings(), Counters()

    async def __call__(self, request: web.Request) -> web.Response:
        arrival, body = time.perf_counter(), await request.json()
        if request.path == "/settings":
            self.settings, self.counters = Settings(**body), Counters()
        if request.path in ("/settings", "/counters"):
            return web.json_response(asdict(self.counters))
        counters, cap = self.counters, self.settings.cap
        counters.requests += 1
        if cap and counters.in_flight >= cap:
            counters.refused += 1
            error = {"message": "Rate limit", "code": "rate_limit_exceeded"}
            return web.json_response({"error": error}, status=429)
        phase, text = reply(body["messages"])
        response = web.json_response(completion(body, text))
        stretch = counters.stretch(phase, arrival)
        counters.in_flight += 1
        counters.most_in_flight = max(counters.most_in_flight, counters.in_flight)
        try:
            due = arrival + self.settings.latency
            await asyncio.sleep(due - time.perf_counter())
        finally:
            counters.in_flight -= 1
            stretch[3] = time.perf_counter()
        return response


def completion(body: dict, text: str) -> dict:
    """The chat completion for a request."""
    prompt, tokens = len(json.dumps(body["messages"])) // 4, len(text) // 4
    usage = {"prompt_tokens": prompt, "completion_tokens": tokens, "total_tokens": prompt + tokens}
    message = {"role": "assistant", "content": text}
    choice = {"index": 0, "finish_reason": "stop", "message": message}
    head = {"id": "bench", "object": "chat.completion", "created": 0, "model": body["model"]}
    return {**head, "choices": [choice], "usage": usage}


class EndpointProcess:
    """The server in a process of its own, as long as a `with` lasts.

    Attributes
    ----------
    url : str
        The address for clients.
    """

    url: str

    def __enter__(self) -> "EndpointProcess":
        command = [sys.executable, "-m", "benchmarks.endpoint"]
        self._process = subprocess.Popen(
            command,
            cwd=TESTS,
            env=environment(),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self._process.stdout
        self.url = self._process.stdout.readline().strip()
        return self

    def __exit__(self, *_) -> None:
        self._process.communicate(timeout=10)  # closes its input, which ends it

    def configure(self, **settings) -> None:
        """Take these Settings, with defaults for the others, and count from 0."""
        self._post("/settings", settings)

    def counters(self) -> Counters:
        """The counters since `configure`."""
        return Counters(**self._post("/counters", {}))

    @contextmanager
    def apart(self) -> Iterator[None]:
        """A core for the server alone, as on a computer of its own.

        Otherwise the system often lets the server, woken by a request, interrupt the program that
        sent it. Without a second core nothing changes.
        """
        cores = os.sched_getaffinity(0)
        own = {max(cores)} if len(cores) > 1 else cores
        self._pin(own)
        os.sched_setaffinity(0, (cores - own) or cores)
        try:
            yield
        finally:
            self._pin(cores)
            os.sched_setaffinity(0, cores)

    def _pin(self, cores: set[int]) -> None:
        for thread in os.listdir(f"/proc/{self._process.pid}/task"):
            os.sched_setaffinity(int(thread), cores)

    def _post(self, path: str, data: dict) -> dict:
        url = self.url.removesuffix("/v1") + path
        with urllib.request.urlopen(url, json.dumps(data).encode(), timeout=10) as response:
            return json.load(response)


if __name__ == "__main__":
    gc.disable()  # the server keeps every request: to search them for garbage takes time
    with Endpoint(LateModel()) as server:
        print(server.url, flush=True)
        sys.stdin.read()
