"""An OpenAI-compatible server that records: anybody's program, replayed.

`Proxy` stands on loopback in front of any endpoint. What a program requests from it comes from a
ResponseCache: exact keys, modes, one request for all clients that make it at the same time, limits,
one budget, usage by client. `serve` runs it until Ctrl-C, `run_with` while a command runs.
"""

import asyncio
import hmac
import json
import logging
import os
import re
import signal
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from itertools import count
from urllib.parse import quote

from aiohttp import web

from ..cache import ResponseCache
from ..cache.recording import LONGEST, canonical, is_request, key_and_body
from ..errors import (
    UNWORKABLE,
    BudgetExceeded,
    CacheError,
    CacheMiss,
    ModelError,
    ParameterError,
    SembackError,
)
from ..llm.budget import priced_rows
from ..llm.client import RECORDS, Client, Endpoint
from ..llm.flight import NOTICE, Flight, landed, reply_to
from ..replies import Reply
from ..usage import Usage

LOOPBACK = ("127.0.0.1", "localhost")
SERVED = "the proxy serves POST /v1/chat/completions and GET /v1/models"
CODES = {  # status and code of an error that is not the endpoint's own
    CacheMiss: (404, "not_recorded"),
    BudgetExceeded: (429, "insufficient_quota"),
    ModelError: (502, "endpoint_failed"),
    ParameterError: (400, "invalid_request"),
    CacheError: (500, "cache_error"),
}


class Proxy:
    """A server for `POST /v1/chat/completions` and `GET /v1/models`.

    Parameters
    ----------
    cache : ResponseCache
    endpoint : Endpoint
        Its limits and its budget hold for all models and clients together.
    token : str, optional
        What clients must send: `Authorization: Bearer TOKEN`.
    first_draw : int
        The first draw of every session.

    Attributes
    ----------
    errors : list of SembackError
        Why requests got no reply, except for those that the endpoint refused (HTTP 400, 413, 422).
    usage : dict of str to Usage
        By client, which is named by the header X-Semback-Client, or else by the session.

    Notes
    -----
    A request's key is that of its body as the client sends it, without `stream` and
    `stream_options`, and of its *draw*. The draw is the header X-Semback-Draw, an int. Without that
    header, in a session (the header X-Semback-Session, or an address `/s/NAME/v1`), it is the
    number of equal requests that the session had before, in the order of arrival, so that a rerun
    gets the same replies in the same order. Outside a session it is 0, so that equal requests get
    the same reply. A request that fails, or whose client leaves, uses up no draw: the retry gets
    it. `DELETE /s/NAME` resets a session before a rerun. Sessions share recordings.

    The endpoint gets the key of the proxy (OPENAI_API_KEY), never that of a client.
    """

    def __init__(
        self,
        cache: ResponseCache,
        endpoint: Endpoint,
        token: str | None = None,
        first_draw: int = 0,
    ):
        self.cache, self.token, self.first_draw = cache, token, first_draw
        self.errors: list[SembackError] = []
        self.endpoint = endpoint
        self.usage: defaultdict[str, Usage] = defaultdict(Usage)
        # The draws that are taken, by session and key.
        self._taken: defaultdict[str, dict[str, set[int]]] = defaultdict(dict)

    def rows(self) -> list[dict]:
        """What each client used of each model: `priced_rows`, with the client as phase."""
        return [row for name in sorted(self.usage) for row in priced_rows(self.usage[name])]

    @asynccontextmanager
    async def serving(self, host: str = "127.0.0.1", port: int = 0) -> AsyncIterator[str]:
        """Serve within the context, whose value is the address; port 0 is any free one.

        At the end replies in flight are recorded; requests that wait for their turn are dropped.

        Raises
        ------
        ParameterError
            The port is not available; the endpoint is this very server; or there is no token, and
            other computers can reach the server.
        """
        if host not in LOOPBACK and not self.token:
            raise ParameterError(f"anyone who reaches {host} could spend your money: set a token")
        self._client = Client(self.endpoint, whole=True)
        app = web.Application(client_max_size=LONGEST, middlewares=[self._guard])
        for start in ("", "/s/{session}"):
            app.router.add_post(f"{start}/v1/chat/completions", self._complete)
            app.router.add_get(f"{start}/v1/models", self._models)
        app.router.add_delete("/s/{session}", self._forget)
        options = {"handler_cancellation": True, "access_log": None, "shutdown_timeout": 0.1}
        runner = web.AppRunner(app, **options)
        await runner.setup()
        try:
            try:
                await web.TCPSite(runner, host, port).start()
            except OSError as error:
                problem = f"the proxy cannot listen at {host}:{port}: {error}"
                raise ParameterError(problem) from None
            address = f"{host}:{runner.addresses[0][1]}"
            if self.endpoint.host.replace("localhost", "127.0.0.1") == address:
                raise ParameterError("base_url, or OPENAI_BASE_URL, is the proxy's own address")
            yield f"http://{address}"
        finally:
            await runner.cleanup()
            await landed()

    @web.middleware
    async def _guard(self, request: web.Request, handler: Callable) -> web.StreamResponse:
        """Serve those who may use the proxy, with errors in OpenAI's shape."""
        if "Origin" in request.headers:  # a web page that found the port
            return _error(403, "browsers are not served", "forbidden")
        given = request.headers.get("Authorization", "").removeprefix("Bearer ").strip()
        given = given.encode("utf-8", "surrogateescape")
        if self.token and not hmac.compare_digest(given, self.token.encode()):
            return _error(401, "Authorization is not the proxy's token", "invalid_api_key")
        try:
            return await handler(request)
        except web.HTTPException as error:
            return _error(error.status, f"{error.reason}: {SERVED}", "invalid_request")
        except SembackError as error:
            if isinstance(error, ModelError) and error.status in UNWORKABLE:
                if error.record:
                    error.record()  # so that a replay meets it too
            elif not isinstance(error, ParameterError):
                self.errors.append(error)
            status, code = next(CODES[kind] for kind in CODES if isinstance(error, kind))
            if isinstance(error, ModelError) and error.status and error.status >= 400:
                status = error.status
                if isinstance(error.body, dict) and "error" in error.body:
                    return _json(error.body, status)
            return _error(status, str(error), code)

    async def _complete(self, request: web.Request) -> web.Response:
        try:
            if request.content_type != "application/json":  # web pages may send others
                raise ValueError("its content type is not application/json")
            body = json.loads(await request.read())
            if not is_request(body):
                raise ValueError("it takes an object with model and messages")
            stream, options = body.pop("stream", False), body.pop("stream_options", None)
            first, _ = key_and_body(body)
        except (ValueError, RecursionError) as error:
            raise ParameterError(f"the body is not a request: {error}") from None
        session = request.match_info.get("session") or request.headers.get("X-Semback-Session")
        with self._draw(request.headers.get("X-Semback-Draw"), session, first) as draw:
            key, text = key_and_body(body, draw)
            # An LLM that records the reply itself holds the lock on the request.
            records = RECORDS in request.headers and self.cache.mode != "replay"
            cache = None if records else self.cache
            named = body, key, text
            reply, recorded, shared = await reply_to(named, draw, cache, self._client, Flight.wait)
            completion = reply.get("completion") or _rebuilt(key, body, reply)
        fields = {name: reply[name] for name in ("text", "finish_reason", "usage", "model")}
        counted = Reply(**fields, recorded=recorded or shared, key=key, shared=shared)
        name = request.headers.get("X-Semback-Client") or session or "(no name)"
        self.usage[name].add(name, body["model"], counted)
        headers = {"X-Semback-Key": key, "X-Semback-Draw": str(draw)}
        if not stream:
            return _json(completion, 200, headers)
        usage = isinstance(options, dict) and options.get("include_usage")
        events = [canonical(chunk) for chunk in _chunks(completion, bool(usage))]
        text = "".join(f"data: {event}\n\n" for event in [*events, "[DONE]"])
        return web.Response(text=text, content_type="text/event-stream", headers=headers)

    async def _models(self, request: web.Request) -> web.Response:
        """The models that are recorded."""
        entries = (entry for _, entry, _ in self.cache.rows())
        names = {entry["request"]["model"] for entry in entries if entry and "request" in entry}
        facts = {"object": "model", "created": 0, "owned_by": "semback"}
        return _json({"object": "list", "data": [{"id": name, **facts} for name in sorted(names)]})

    async def _forget(self, request: web.Request) -> web.Response:
        self._taken.pop(request.match_info["session"], None)
        return web.Response(status=204)

    @contextmanager
    def _draw(self, given: str | None, session: str | None, key: str) -> Iterator[int]:
        """The draw of a request; in a session it is taken, unless the request fails."""
        if given is not None and not re.fullmatch("-?[0-9]{1,9}", given):
            raise ParameterError(f"X-Semback-Draw is {given!r}; it takes an int")
        if given is not None or not session:
            yield int(given or 0)
            return
        taken = self._taken[session].setdefault(key, set())
        draw = next(number for number in count(self.first_draw) if number not in taken)
        taken.add(draw)
        try:
            yield draw
        except BaseException:
            taken.remove(draw)
            raise


async def serve(proxy: Proxy, host: str, port: int, ready: Callable[[str], object]) -> None:
    """Serve until SIGINT or SIGTERM; `ready` is called with the address."""
    signal.signal(signal.SIGTERM, signal.getsignal(signal.SIGINT))
    async with proxy.serving(host, port) as url:
        ready(url)
        with suppress(asyncio.CancelledError):  # asyncio.run turns a SIGINT into it
            await asyncio.Event().wait()
        logging.getLogger("semback").warning(NOTICE)


async def run_with(proxy: Proxy, session: str, command: Sequence[str]) -> int:
    """Run a command with the proxy. Returns its exit code, as a shell reports it.

    The command finds the address in OPENAI_BASE_URL (OPENAI_API_BASE in older libraries), and a
    dummy in OPENAI_API_KEY where that is not set.

    Raises
    ------
    ParameterError
        The command cannot be run.
    """
    async with proxy.serving() as url:
        key = os.environ.get("OPENAI_API_KEY") or "unused"
        address = f"{url}/s/{quote(session, safe='')}/v1"
        direct = ",".join(filter(None, [os.environ.get("NO_PROXY"), *LOOPBACK]))
        environment = {**os.environ, "OPENAI_API_KEY": key}
        environment |= dict.fromkeys(("OPENAI_BASE_URL", "OPENAI_API_BASE"), address)
        environment |= dict.fromkeys(("NO_PROXY", "no_proxy"), direct)
        before = signal.signal(signal.SIGINT, lambda *_: None)  # the terminal sends it to both
        try:
            process = await asyncio.create_subprocess_exec(*command, env=environment)
            signal.signal(signal.SIGTERM, lambda *_: process.terminate())
            code = await process.wait()
        except OSError as error:
            raise ParameterError(f"{command[0]} cannot be run: {error}") from None
        finally:
            for number in (signal.SIGINT, signal.SIGTERM):
                signal.signal(number, before)
    return code if code >= 0 else 128 - code


def _json(data: object, status: int = 200, more: Mapping[str, str] | None = None) -> web.Response:
    """A response with canonical JSON, so that a replay has the same bytes.

    A request that failed was already retried here; clients need not do so again.
    """
    headers = more or ({"x-should-retry": "false"} if status >= 400 else {})
    return web.json_response(data, status=status, headers=headers, dumps=canonical)


def _error(status: int, message: str, code: str) -> web.Response:
    error = {"message": message, "type": code, "param": None, "code": code}
    return _json({"error": error}, status)


def _rebuilt(key: str, request: dict, reply: dict) -> dict:
    """The completion behind a reply that LLM recorded, as far as LLM records it."""
    reason = "stop" if reply.get("refusal") else reply["finish_reason"]
    if request.get("logprobs") or reason in ("tool_calls", "function_call"):
        problem = "was recorded by LLM, without tool calls and log-probabilities"
        raise CacheError(f"{key[:12]}… {problem}; `semback cache drop {key[:12]}` removes it")
    message = {"role": "assistant", "content": reply["text"], "refusal": reply.get("refusal")}
    choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": reason}
    usage = {**reply["usage"], "total_tokens": sum(reply["usage"].values())}
    head = {"id": f"chatcmpl-{key[:24]}", "object": "chat.completion", "created": 0}
    head |= {"model": reply["model"], "system_fingerprint": reply.get("fingerprint")}
    return {**head, "choices": [choice], "usage": usage if reply["usage"] else None}


def _chunks(completion: dict, usage: bool) -> Iterator[dict]:
    """A completion as the chunks of a stream: two for each choice, the message and the rest."""
    head = {name: completion[name] for name in completion.keys() - {"choices", "usage"}}
    head["object"] = "chat.completion.chunk"
    for place, choice in enumerate(completion["choices"]):
        delta, last = {"role": "assistant", **choice["message"]}, {**choice, "delta": {}}
        if calls := delta.get("tool_calls"):
            delta["tool_calls"] = [{"index": n, **call} for n, call in enumerate(calls)]
        part = {"index": choice.get("index", place), "delta": delta, "finish_reason": None}
        yield {**head, "choices": [part]}
        del last["message"]
        yield {**head, "choices": [last]}
    if usage:
        yield {**head, "choices": [], "usage": completion.get("usage")}
