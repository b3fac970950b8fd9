"""A chat endpoint that answers after a given time, in a process of its own: what the benchmarks ask.

It is an asyncio protocol without a framework, so that on two cores it takes little from the program that is measured. A reply depends
on nothing but the messages. It counts what it sees: requests, refusals, connections, requests in flight, and the phases of a run.
"""

import asyncio
import gc
import http.client
import json
import os
import re
import subprocess
import sys
import time
import zlib
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from .peers.replies import formed

LENGTH = re.compile(rb"\r\ncontent-length:[ \t]*(\d+)", re.IGNORECASE)
ASKED = re.compile(r'^<(gradient|instruction|critique)(?: to="(.*)")?>\n\.\.\.$', re.MULTILINE)
PHASES = {"gradient": "backward", "instruction": "update", "critique": "update"}
WORDS = (
    "First I list what is given, then I say what is asked, and I work from the one to the other in small steps, each of which can be "
    "checked. The quantities are added in the order in which they appear; what is taken away is subtracted at the end. The units "
    "agree on both sides, and the result has the size that one would expect from the numbers in the text."
)


@dataclass
class Settings:
    """latency: seconds to a reply. cap: requests at one time; more are answered 429 at once, and 0 is no cap. retry_after: seconds that a
    429 asks to wait, None for no such header. knee: requests at one time above which the latency grows in proportion, 0 for never."""

    latency: float = 0.1
    cap: int = 0
    retry_after: float | None = None
    knee: int = 0


@dataclass
class Counters:
    """Since the last settings. phases: [kind, requests, start, end] of every stretch of requests of one kind (forward, backward, update),
    by the clock of time.perf_counter, which all processes of a Linux machine share."""

    requests: int = 0
    refused: int = 0
    in_flight: int = 0
    most_in_flight: int = 0
    connections: int = 0
    phases: list = field(default_factory=list)


def reply(messages: list[dict]) -> tuple[str, str]:
    """(phase, text): the blocks that the last message asks for, or else a working that ends in an answer, a digit, in a peer's form
    where it asks for one."""
    mark = zlib.crc32("\0".join(message["content"] for message in messages).encode())
    asked = ASKED.findall(messages[-1]["content"])
    if not asked:
        said = f"Working {mark:08x}. {WORDS}\n\nAnswer: {mark % 10}"
        return formed(messages[-1]["content"], said) or ("forward", said)
    blocks = []
    for tag, to in asked:
        said = f"It should say {mark % 97} things more plainly, {to or 'this step'}, and give the reason {mark:08x}."
        blocks.append(
            f'<{tag} to="{to}">\n{said}\n</{tag}>' if to else f"<{tag}>\n{said}\n</{tag}>"
        )
    return PHASES[asked[0][0]], "\n".join(blocks)


class Server:
    """The state that the connections share."""

    def __init__(self):
        self.settings, self.counters, self.loop = Settings(), Counters(), asyncio.get_running_loop()

    def asked(self, path: bytes, body: bytes, send) -> None:
        """One request; `send` takes the bytes of the response, now or later."""
        if path == b"/settings":
            self.settings, self.counters = Settings(**json.loads(body)), Counters()
        if path in (b"/settings", b"/counters"):
            return send(_response(b"200 OK", json.dumps(vars(self.counters)).encode()))
        settings, counters = self.settings, self.counters
        counters.requests += 1
        if settings.cap and counters.in_flight >= settings.cap:
            counters.refused += 1
            wait = (
                b"retry-after: %g\r\n" % settings.retry_after
                if settings.retry_after is not None
                else b""
            )
            return send(
                _response(
                    b"429 Too Many Requests",
                    b'{"error":{"message":"Rate limit","code":"rate_limit_exceeded"}}',
                    wait,
                )
            )
        came = self.loop.time()  # making the response is part of the latency
        counters.in_flight += 1
        counters.most_in_flight = max(counters.most_in_flight, counters.in_flight)
        latency = settings.latency * max(
            1, counters.in_flight / settings.knee if settings.knee else 1
        )
        self.loop.call_at(came + latency, self._answer, counters, send, *self._completion(body))

    def _completion(self, body: bytes) -> tuple[list, bytes]:
        """The phase that a request belongs to, and the response to it."""
        request = json.loads(body)
        kind, said = reply(request["messages"])
        phases, now = self.counters.phases, time.perf_counter()
        if not phases or phases[-1][0] != kind:
            phases.append([kind, 0, now, now])
        phases[-1][1] += 1
        usage = {
            "prompt_tokens": len(body) // 4,
            "completion_tokens": len(said) // 4,
            "total_tokens": (len(body) + len(said)) // 4,
        }
        return phases[-1], _response(
            b"200 OK",
            json.dumps(
                {
                    "id": "bench",
                    "object": "chat.completion",
                    "created": 0,
                    "model": request["model"],
                    "usage": usage,
                    "choices": [
                        {
                            "index": 0,
                            "finish_reason": "stop",
                            "message": {"role": "assistant", "content": said},
                        }
                    ],
                }
            ).encode(),
        )

    def _answer(self, counters: Counters, send, phase: list, response: bytes) -> None:
        counters.in_flight -= 1
        phase[3] = time.perf_counter()
        send(response)


class Connection(asyncio.Protocol):
    """One connection of a client; HTTP/1.1 with content-length, kept alive."""

    def __init__(self, server: Server):
        self.server, self.buffer = server, b""

    def connection_made(self, transport):
        self.transport = transport
        self.server.counters.connections += 1

    def data_received(self, data):
        self.buffer += data
        while (end := self.buffer.find(b"\r\n\r\n")) >= 0:
            length = LENGTH.search(self.buffer, 0, end)
            whole = end + 4 + (int(length[1]) if length else 0)
            if len(self.buffer) < whole:
                return
            path, body, self.buffer = (
                self.buffer.split(b" ", 2)[1],
                self.buffer[end + 4 : whole],
                self.buffer[whole:],
            )
            self.server.asked(path, body, self.send)

    def send(self, response: bytes):
        if not self.transport.is_closing():
            self.transport.write(response)


def _response(status: bytes, body: bytes, headers: bytes = b"") -> bytes:
    return b"HTTP/1.1 %s\r\ncontent-type: application/json\r\ncontent-length: %d\r\n%s\r\n%s" % (
        status,
        len(body),
        headers,
        body,
    )


class Endpoint:
    """The server in a process of its own, as long as a `with` lasts: `url` for clients, `set` and `counters` for the benchmarks."""

    def __enter__(self):
        self._process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.endpoint"],
            cwd=Path(__file__).parent.parent,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        self.port = int(self._process.stdout.readline())
        self.url = f"http://127.0.0.1:{self.port}/v1"
        return self

    def __exit__(self, *_):
        self._process.stdin.close()  # the end of its input is its end, however this process ends
        self._process.wait(10)
        self._process.stdout.close()

    def set(self, **settings) -> None:
        """Take these Settings, the others being the defaults, and count from 0."""
        self._ask("POST", "/settings", json.dumps(settings))

    @contextmanager
    def apart(self):
        """A core for the server alone, as on a computer of its own: else the system often lets it, when a request wakes it, interrupt
        the program that sent it. Without a second core nothing is changed."""
        cores = os.sched_getaffinity(0)
        own = {max(cores)} if len(cores) > 1 else cores
        os.sched_setaffinity(self._process.pid, own)
        os.sched_setaffinity(0, cores - own or cores)
        try:
            yield
        finally:
            for process in (self._process.pid, 0):
                os.sched_setaffinity(process, cores)

    def counters(self) -> Counters:
        """What was counted since `set`."""
        return Counters(**self._ask("GET", "/counters"))

    def _ask(self, method, path, body=None):
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
        try:
            connection.request(method, path, body)
            return json.loads(connection.getresponse().read())
        finally:
            connection.close()


async def _serve():
    loop, over = asyncio.get_running_loop(), asyncio.Event()
    server = Server()
    listening = await loop.create_server(lambda: Connection(server), "127.0.0.1", 0, backlog=4096)
    loop.add_reader(sys.stdin, lambda: over.set() if not sys.stdin.buffer.read1(1) else None)
    print(listening.sockets[0].getsockname()[1], flush=True)
    gc.freeze()
    await over.wait()


if __name__ == "__main__":
    asyncio.run(_serve())
