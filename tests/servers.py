"""A scripted model server on loopback: it answers as a small model does, or fails as servers do."""

import asyncio
import json
import re
import socket
import ssl
import struct
import threading
import time

from aiohttp import web

GOOD = {
    "id": "x",
    "object": "chat.completion",
    "created": 0,
    "model": "m-2024-07-18",
    "system_fingerprint": "fp_1",
    "choices": [
        {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": "Four."}}
    ],
    "usage": {"prompt_tokens": 7, "completion_tokens": 3, "total_tokens": 10},
}


class Endpoint:
    """A server in a thread of its own: `with Endpoint(answer, answer, …) as server`.

    One answer for each request, the last for good. An answer is a function of the aiohttp request;
    those below make them. `asked` holds the body of every request and `times` when it arrived,
    `open` is the number of open connections, `url` the address for `LLM`. With the path of a
    certificate, which holds its key too, it speaks https.
    """

    def __init__(self, *answers, connections=None, certificate=None):
        self.certificate, self.answers, self.connections = certificate, list(answers), connections
        self.asked, self.times, self._ready = [], [], threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._serve()), daemon=True)

    async def _serve(self):
        self._loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
        app = web.Application()
        app.router.add_route("*", "/{path:.*}", self._answer)
        self._runner = web.AppRunner(
            app, handler_cancellation=True, access_log=None, shutdown_timeout=0.1
        )
        await self._runner.setup()
        context = self.certificate and ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        if context:
            context.load_cert_chain(self.certificate)
        await web.TCPSite(self._runner, "127.0.0.1", 0, ssl_context=context).start()
        self.host = f"127.0.0.1:{self._runner.addresses[0][1]}"
        self.url = f"{'https' if context else 'http'}://{self.host}/v1"
        self._ready.set()
        await self._stop.wait()
        await self._runner.cleanup()

    async def _answer(self, request):
        self.times.append(time.monotonic())
        self.asked.append(await request.json())
        if self.connections and self.open > self.connections:
            return await reset(request)
        return await (self.answers.pop(0) if len(self.answers) > 1 else self.answers[0])(request)

    @property
    def open(self):
        return len(self._runner.server.connections)

    def __enter__(self):
        self._thread.start()
        assert self._ready.wait(10)
        return self

    def __exit__(self, *_):
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(10)


def raw(body, status=200, kind="application/json", **headers):
    """An answer with this body; underscores in the names of headers are dashes."""

    async def answer(request):
        names = {name.replace("_", "-"): value for name, value in headers.items()}
        return web.Response(
            body=body,
            status=status,
            headers={"content-type": kind, "x-request-id": "req_7", **names},
        )

    return answer


def says(*path, value):
    """The good reply with one change: says("choices", 0, "message", "content", value=None)."""
    data = at = json.loads(json.dumps(GOOD))
    for step in path[:-1]:
        at = at[step]
    at[path[-1]] = value
    return raw(json.dumps(data).encode())


def error(status, message, code=None, **headers):
    """An HTTP error as OpenAI words it."""
    return raw(
        json.dumps(
            {"error": {"message": message, "code": code, "type": code, "param": None}}
        ).encode(),
        status,
        **headers,
    )


def delay(seconds, then):
    async def answer(request):
        await asyncio.sleep(seconds)
        return await then(request)

    return answer


# A block of the form that a coach's prompt asks for: its opening tag, tag and name.
FORM = re.compile(
    r'^(<(gradient|instruction|critique)(?: to="(.*)")?>)\n(?:\.\.\.|\[.+\])$', re.MULTILINE
)


async def student(request):
    """What a small real model says: the blocks that were asked for, or an answer to a question of
    boolean_expressions."""
    body = await request.json()
    asked = FORM.findall(body["messages"][-1]["content"])
    text = (
        "\n".join(
            f"{opening}\nLook at each operator in turn.\n</{tag}>" for opening, tag, _ in asked
        )
        or "It is simple.\nAnswer: True"
    )
    choice = {**GOOD["choices"][0], "message": {"role": "assistant", "content": text}}
    return web.json_response({**GOOD, "model": body["model"], "choices": [choice]})


def refuses(*fields):
    """The student's answer, or a 400 to a request that has one of these fields."""

    async def answer(request):
        refused = [name for name in fields if name in await request.json()]
        message = (
            f"Unsupported parameter: '{refused[0]}' is not supported with this model."
            if refused
            else ""
        )
        return await (error(400, message) if refused else student)(request)

    return answer


async def repeats_the_key(request):
    key = request.headers["authorization"].removeprefix("Bearer ")
    return await error(401, f"Incorrect API key provided: {key}.", "invalid_api_key")(request)


async def reset(request):
    """A TCP reset before any answer."""
    request.transport.get_extra_info("socket").setsockopt(
        socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0)
    )
    request.transport.abort()
    return web.Response()


async def truncated(request):
    """Half of the body that content-length promises, then the end of the connection."""
    body = json.dumps(GOOD).encode()
    response = web.StreamResponse(
        headers={"content-type": "application/json", "content-length": str(len(body))}
    )
    await response.prepare(request)
    await response.write(body[: len(body) // 2])
    request.transport.close()
    return response


async def not_http(request):
    """Words that are no HTTP, then the end of the connection."""
    request.transport.write(b"Welcome, who are you?\r\n\r\n")
    request.transport.close()
    return web.Response()


async def drip(request):
    """White space, a byte every 20 ms, for ever."""
    response = web.StreamResponse(headers={"content-type": "application/json"})
    await response.prepare(request)
    while True:
        await response.write(b" ")
        await asyncio.sleep(0.02)


async def moved(request):
    return web.Response(status=307, headers={"location": "/v2/elsewhere"})


async def round_in_circles(request):
    return web.Response(status=307, headers={"location": str(request.url)})


good = raw(json.dumps(GOOD).encode())
html = raw(b"<html>Sign in</html>", kind="text/html")
