"""The HTTP client under the openai client: it keeps pace and budget, sees faults that the client's retries would miss, and is quick.

The openai client builds a request, hands it to `send`, and tries again where that fails. Its own HTTP clients take each request through
layers (redirects, cookies, authentication, streams) that a chat completion does not need, and that take longer than the sending: here
it goes straight to aiohttp, which the quicker one of them uses too. Imported where the first request is sent, since openai is slow to
import.
"""

import asyncio
import json
import re
import weakref
from contextvars import ContextVar
from functools import cache
from urllib.request import getproxies

import aiohttp
import httpx2
import openai

from .budget import Budget
from .pace import Pace, Slot

REDIRECTS = 3  # that are followed
FRESH = 5.0  # seconds that a connection is kept for the next request; servers close it after 5 or more
slot: ContextVar[Slot] = ContextVar("slot")  # the place of the call that is being made


class Connections(openai.DefaultAioHttpClient):
    """The connections of one model in one event loop.

    Parameters
    ----------
    pace: gives each request its place, and learns what became of it. budget: counts it.
    retries: how often the openai client tries again. timeout: seconds for one try, the whole reply included.
    transport: an httpx2 transport in place of the network.
    sent: where the task stands, as long as its request is on its way or answered.
    """

    def __init__(self, pace: Pace, budget: Budget, retries: int, timeout: float, transport, sent: weakref.WeakSet):
        limits = {"max_connections": pace.in_flight, "max_keepalive_connections": pace.in_flight, "keepalive_expiry": FRESH}
        proxied = not transport and {"http", "https", "all"} & set(getproxies())
        layers = {"verify": certificates()} if proxied else {"transport": transport or httpx2.AsyncBaseTransport()}  # that does nothing
        super().__init__(**layers, max_redirects=REDIRECTS, limits=httpx2.Limits(**limits),
                         timeout=httpx2.Timeout(timeout, connect=min(timeout, 20)))
        self.pace, self.budget, self.retries, self.seconds, self.sent = pace, budget, retries, timeout, sent
        self.straight = not transport and not proxied  # to aiohttp, with the certificates that it needs; the layers know of proxies
        self.session, self.address = None, ("", None)

    def build_request(self, method, url, *, content=None, **others):
        if not self.straight:
            return super().build_request(method, url, content=content, **others)
        if url != self.address[0]:
            self.address = url, httpx2.URL(url)
        return httpx2.Request(method, self.address[1], headers=others["headers"], stream=httpx2.ByteStream(content))

    async def send(self, request, **options):
        """The response, read to its end; where it is JSON, ``response.extensions["body"]`` is what it says."""
        place, again = slot.get(), 0
        if place.left:  # it was tried before
            again = int(request.headers["x-stainless-retry-count"])
            place = await self.pace.enter(tokens(len(request.read())))
        else:
            self.budget.start()
        self.sent.add(task := asyncio.current_task())
        paid = False
        try:
            response = await self._answered(request, place, options)
            paid = response.is_success
            place.answered = response.status_code not in (429, 503)
            if not place.answered:
                self._refused(response, place, again)
        finally:
            self.pace.leave(place)
            if not paid:  # it may be tried again, unless nobody wants it any more
                self.sent.discard(task)
        return response

    async def aclose(self):
        if self.session:
            await self.session.close()
        await super().aclose()

    async def _answered(self, request, place: Slot, options):
        """The response to one try, and in its place the tokens that it took. What is no whole reply is an error that is tried again."""
        try:
            async with asyncio.timeout(self.seconds):  # httpx2's own limit is for each read: a body that drips outlives it
                response = await (self._straight(request) if self.straight else super().send(request, **options))
        except TimeoutError:
            place.late = True
            raise httpx2.ReadTimeout(f"no whole reply in {self.seconds:g} s") from None
        except httpx2.TooManyRedirects:  # not one of those that are tried again
            raise openai.OpenAIError("the address redirects in circles") from None
        if response.is_success and "json" in response.headers.get("content-type", ""):
            try:
                response.extensions["body"] = body = json.loads(response.extensions.get("content") or response.read())
                place.used = float(body["usage"]["total_tokens"])
            except (KeyError, TypeError, OverflowError):
                pass  # no usage
            except (ValueError, RecursionError) as error:  # a cut or garbled body: try again, as after a lost connection
                raise httpx2.RemoteProtocolError(f"a reply in broken JSON ({error})") from None
        return response

    async def _straight(self, request):
        if not self.session:
            ssl = certificates() if self.address[0].startswith("https") else True  # where http leads to https: aiohttp's own
            connector = aiohttp.TCPConnector(limit=self.pace.in_flight, keepalive_timeout=FRESH, ssl=ssl)
            wait = aiohttp.ClientTimeout(total=None, sock_connect=self.timeout.connect)
            self.session = aiohttp.ClientSession(connector=connector, timeout=wait, cookie_jar=aiohttp.DummyCookieJar())
        headers = [(name.decode(), value.decode()) for name, value in request.headers.raw]
        try:
            async with self.session.post(self.address[0], data=request.read(), headers=headers, max_redirects=REDIRECTS + 1) as came:
                content = await came.read()
        except aiohttp.TooManyRedirects as error:
            raise httpx2.TooManyRedirects(str(error)) from error
        except aiohttp.ServerTimeoutError as error:
            raise httpx2.ConnectTimeout(str(error)) from error
        except (aiohttp.ClientError, OSError) as error:
            raise httpx2.NetworkError(str(error)) from error
        told = [(name, value) for name, value in came.raw_headers if name.lower() != b"content-encoding"]  # aiohttp has undone it
        body = {"stream": httpx2.ByteStream(content), "extensions": {"content": content}}  # which reading the stream takes time to find
        return httpx2.Response(came.status, headers=told, request=request, **body)

    def _refused(self, response, place: Slot, again: int) -> None:
        """Tell the pace how long to wait, and the openai client not to wait as long where the pace does, or not to try again."""
        wait = response.headers.get("retry-after", "")
        place.refused = float(wait) if re.fullmatch(r"\d{1,2}(\.\d+)?|1[01]\d|120", wait) else 0.0
        if not wait and (soon := min(self.pace.seconds, 0.5) * 2**again if again else 0.001):
            response.headers["retry-after-ms"] = f"{1000 * soon:.0f}"
        if self.pace.waves >= self.retries or b"insufficient_quota" in response.read():
            response.headers["x-should-retry"] = "false"


@cache
def certificates():
    """What https connections are checked with: read once, since that takes longer than the rest of a client."""
    return httpx2.create_ssl_context()


def tokens(letters: int) -> float:
    """About how many tokens a prompt has."""
    return letters / 4
