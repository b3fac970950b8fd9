"""The HTTP client under the openai client: it keeps pace and budget, sees faults that the client's retries would miss, and is quick.

The openai client builds a request, hands it to `send`, and tries again where that fails. Its own HTTP clients take each request through
layers (redirects, cookies, authentication, streams) that a chat completion does not need, and that take longer than the sending: here
it goes straight to aiohttp, which the quicker one of them uses too. Imported where the first request is sent, since openai is slow to
import.
"""

import asyncio
import json
import math
import re
import time
from contextlib import suppress
from contextvars import ContextVar
from email.utils import parsedate_to_datetime
from functools import cache
from urllib.request import getproxies

import aiohttp
import httpx2
import openai

from . import paid
from .ahead import to_be_asked
from .budget import Budget
from .limits import Pace, Slot
from .prices import count, tokens

REDIRECTS = 3  # that are followed
FRESH = (
    5.0  # seconds that a connection is kept for the next request; servers close it after 5 or more
)
STALLED, READING = (
    0.05,
    1.0,
)  # seconds that a timer comes late where its loop stood still; that reading what came meanwhile may take
asking: ContextVar[tuple[bytes, Slot]] = ContextVar(
    "asking"
)  # what the call that is being made asks, and its place


class Connections(openai.DefaultAioHttpClient):
    """The connections of one model in one event loop.

    Parameters
    ----------
    pace: gives each request its place, and learns what became of it. budget: counts it.
    retries: how often the openai client tries again. timeout: seconds for one try, the whole reply included.
    transport: an httpx2 transport in place of the network.
    """

    def __init__(self, pace: Pace, budget: Budget, retries: int, timeout: float, transport):
        limits = {
            "max_connections": pace.in_flight,
            "max_keepalive_connections": pace.in_flight,
            "keepalive_expiry": FRESH,
        }
        self.proxied = bool(not transport and {"http", "https", "all"} & set(getproxies()))
        layers = (
            {"verify": certificates()}
            if self.proxied
            else {"transport": transport or httpx2.AsyncBaseTransport()}
        )  # does nothing
        super().__init__(
            **layers,
            max_redirects=REDIRECTS,
            limits=httpx2.Limits(**limits),
            timeout=httpx2.Timeout(timeout, connect=min(timeout, 20)),
        )
        self.pace, self.budget, self.retries, self.seconds = pace, budget, retries, timeout
        self.straight = (
            not transport and not self.proxied
        )  # to aiohttp, with the certificates that it needs; the layers know of proxies
        self.session, self.address = None, ("", None)

    def build_request(self, method, url, *, content=None, **others):
        if self.proxied:
            return super().build_request(method, url, content=content, **others)
        if url != self.address[0]:
            self.address = url, httpx2.URL(url)
        body = (
            {"stream": httpx2.ByteStream(b"")} if self.straight else {"content": content}
        )  # what goes straight: see `asking`
        return httpx2.Request(method, self.address[1], headers=others["headers"], **body)

    async def send(self, request, **options):
        """The response, read to its end; where it is JSON, ``response.extensions["body"]`` is what it says."""
        await to_be_asked()
        await paid.may_be_sent()
        (body, place), again = asking.get(), 0
        waves = place.waves
        if place.left:  # it was tried before
            self.budget.start(again=True)
            again = int(request.headers["x-stainless-retry-count"])
            place = await self.pace.enter(tokens(len(body)), again=True)
        else:
            self.budget.start()
        paid.sent()
        answered = False
        try:
            response = await self._answered(request, body, place, options)
            answered = response.is_success
            place.answered = response.status_code not in (429, 503)
            if not place.answered:
                self._refused(response, place, again, waves)
        finally:
            self.pace.leave(place)
            if not answered:
                paid.unanswered()
        return response

    async def aclose(self):
        if self.session:
            await self.session.close()
        await super().aclose()

    async def _answered(self, request, body: bytes, place: Slot, options):
        """The response to one try, and in its place the tokens that it took. What is no whole reply is an error that is tried again."""
        try:
            async with within(
                self.seconds
            ):  # httpx2's own limit is for each read: a body that drips outlives it
                response = await (
                    self._straight(request, body)
                    if self.straight
                    else super().send(request, **options)
                )
        except TimeoutError:
            place.late = True
            raise httpx2.ReadTimeout(f"no whole reply in {self.seconds:g} s") from None
        except httpx2.TooManyRedirects:  # not one of those that are tried again
            raise openai.OpenAIError("the address redirects in circles") from None
        except (aiohttp.ClientError, OSError) as error:
            raise httpx2.NetworkError(str(error) or type(error).__name__) from error
        if response.is_success and _json(response):
            try:
                response.extensions["body"] = body = json.loads(_content(response))
            except (
                ValueError,
                RecursionError,
            ) as error:  # a cut or garbled body: try again, as after a lost connection
                raise httpx2.RemoteProtocolError(f"a reply in broken JSON ({error})") from None
            usage = body.get("usage") if isinstance(body, dict) else None
            place.used = count(usage.get("total_tokens")) if isinstance(usage, dict) else None
        return response

    async def _straight(self, request, body: bytes):
        if not self.session:
            ssl = (
                certificates() if self.address[0].startswith("https") else True
            )  # where http leads to https: aiohttp's own
            connector = aiohttp.TCPConnector(
                limit=self.pace.in_flight, keepalive_timeout=FRESH, ssl=ssl
            )
            wait = aiohttp.ClientTimeout(total=None, sock_connect=self.timeout.connect)
            self.session = aiohttp.ClientSession(
                connector=connector, timeout=wait, cookie_jar=aiohttp.DummyCookieJar()
            )
        headers = [(name.decode(), value.decode()) for name, value in request.headers.raw]
        try:
            async with self.session.post(
                self.address[0], data=body, headers=headers, max_redirects=REDIRECTS + 1
            ) as came:
                content = await came.read()
        except aiohttp.TooManyRedirects as error:
            raise httpx2.TooManyRedirects(str(error)) from error
        except aiohttp.ServerTimeoutError as error:
            raise httpx2.ConnectTimeout(str(error)) from error
        told = [
            (name, value) for name, value in came.raw_headers if name.lower() != b"content-encoding"
        ]  # aiohttp has undone it
        body = {
            "stream": httpx2.ByteStream(content),
            "extensions": {"content": content},
        }  # which reading the stream takes time to find
        return httpx2.Response(came.status, headers=told, request=request, **body)

    def _refused(self, response, place: Slot, again: int, waves: int) -> None:
        """Tell the pace how long to wait, and the openai client not to wait as long where the pace does, or not to try again."""
        wait, milliseconds = (
            response.headers.get(name, "") for name in ("retry-after", "retry-after-ms")
        )
        with suppress(ValueError, OverflowError):  # no date
            response.headers["retry-after"] = wait = (
                f"{max(parsedate_to_datetime(wait).timestamp() - time.time(), 0):.0f}"
            )
        if re.fullmatch(r"\d{1,6}(\.\d+)?", milliseconds):
            wait = f"{float(milliseconds) / 1000:.3f}"
        place.refused = float(wait) if re.fullmatch(r"(\d{1,2}|1[01]\d)(\.\d+)?|120", wait) else 0.0
        if not wait and (soon := min(self.pace.seconds, 0.5) * 2**again if again else 0.001):
            response.headers["retry-after-ms"] = f"{1000 * soon:.0f}"
        if self.pace.waves - waves >= self.retries or b"insufficient_quota" in response.read():
            response.headers["x-should-retry"] = "false"


class within:
    """`async with within(seconds)`, as with `asyncio.timeout`; but where the event loop itself stood still beyond that, what has come
    meanwhile is read first."""

    def __init__(self, seconds: float):
        self._limit, self._loop = asyncio.timeout(None), asyncio.get_running_loop()
        self._timer = self._loop.call_at(due := self._loop.time() + seconds, self._end, due)

    async def __aenter__(self):
        await self._limit.__aenter__()

    async def __aexit__(self, *error):
        self._timer.cancel()
        return await self._limit.__aexit__(*error)

    def _end(self, due: float):
        if self._loop.time() - due > STALLED:
            self._timer = self._loop.call_later(READING, self._end, math.inf)
        else:
            self._limit.reschedule(self._loop.time())


def _content(response) -> bytes:
    return response.extensions["content"] if "content" in response.extensions else response.read()


def _json(response) -> bool:
    """Whether a response is meant to be JSON: it says so, or it looks so."""
    return (
        "json" in response.headers.get("content-type", "").lower() or _content(response)[:1] == b"{"
    )


@cache
def certificates():
    """What https connections are checked with: read once, since that takes longer than the rest of a client."""
    return httpx2.create_ssl_context()
