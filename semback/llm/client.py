"""The requests of one model to an OpenAI-compatible endpoint, with the openai client.

`Client.ask` sends a request until there is a reply: within the limits and the budget, with a time
limit and retries of its own, so that the openai client's are switched off. What a response means is
decided in `responses`. An error that stays is a ModelError that says what to do.
"""

import asyncio
import json
import os
import random
import re
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import AbstractContextManager, asynccontextmanager, nullcontext
from dataclasses import dataclass, field
from functools import cache
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from ..errors import ModelError
from ..prompts import fenced
from ..usage import SIMULATED
from . import responses
from .budget import Budget
from .limits import Limits, Slot
from .prices import estimated_tokens
from .responses import Failure

if TYPE_CHECKING:
    import ssl

    import httpx2
    import openai

FIRST_RETRY, LONGEST_RETRY = 0.5, 8.0  # seconds before a retry, doubled; as the openai client
CONNECT = 20.0  # seconds for a connection
REDIRECTS = 3  # that are followed
KEEP_ALIVE = 5.0  # seconds; servers close idle connections after 5 or more
STALLED, GRACE = 0.05, 1.0  # seconds; see time_limit
SECRET = 8  # characters of a key that is secret; "none" or "x" are words that errors may contain
SHOWN = 500  # characters of what an endpoint says
# Headers in which the openai client describes the computer and its Python: no endpoint needs them.
UNSENT = ("Lang", "Package-Version", "OS", "Arch", "Runtime", "Runtime-Version", "Async")


@dataclass(frozen=True)
class Endpoint:
    """Where a model is served, and how it is asked; the attributes are the arguments of LLM."""

    model: str
    base_url: str | None = None
    api_key: str | None = field(default=None, repr=False)
    in_flight: int = 64
    requests_per_minute: float | None = None
    tokens_per_minute: float | None = None
    retries: int = 5
    timeout: float = 300
    budget: Budget = field(default_factory=Budget)
    transport: Any = None

    @property
    def url(self) -> str | None:
        """The address; None is OpenAI's own."""
        if self.transport:
            return f"http://{SIMULATED}/v1"
        return self.base_url or os.environ.get("OPENAI_BASE_URL") or None

    @property
    def key(self) -> str:
        """The API key; a server that wants none gets a dummy."""
        key = (self.api_key or os.environ.get("OPENAI_API_KEY") or "").strip()
        return key or ("unused" if self.url else "")

    def check(self) -> None:
        """ModelError: there is no endpoint, or its address or key cannot be one."""
        if not self.key:
            raise ModelError(
                f"no reply of {self.model} is recorded for this request, and there is no endpoint. "
                "Set OPENAI_API_KEY for OpenAI, or OPENAI_BASE_URL for any compatible server, or "
                "take the simulated model."
            )
        if not re.fullmatch(r"[!-~]+", self.key):
            raise self.error(responses.cannot_ask("the API key contains spaces or odd letters"))
        if self.url and not _is_web_address(self.url):
            raise self.error(
                responses.cannot_ask(
                    "base_url is not a web address like http://localhost:8000/v1, without a user "
                    "name, a password, ? or #"
                )
            )

    def error(self, failure: Failure, messages: list[dict] | None = None) -> ModelError:
        """The ModelError for a failure. It never contains the key, which servers like to repeat."""
        address = re.sub(r"^\w+://([^/?]*@)?|[?#].*", "", self.url or "api.openai.com")
        if self.transport:
            address = SIMULATED
        text = failure.text
        if len(self.key) >= SECRET:
            text = text.replace(self.key, "(the key)")
        text = responses.valid(text[:SHOWN]).rstrip(". ")
        if failure.request_id:
            text += f" (request {failure.request_id})"
        message = f"{self.model} at {address} {failure.event}: {text}. {failure.advice}"
        if failure.advice == responses.TOO_LONG and messages:
            message += f" Its largest parts, in characters: {_largest_parts(messages)}."
        return ModelError(
            f"{message} Replies received before are recorded.",
            status=failure.status,
            host=address.partition("/")[0],
            request_id=failure.request_id,
        )


class Client:
    """The requests to one endpoint in one event loop: an openai client cannot serve two."""

    def __init__(self, endpoint: Endpoint):
        self.endpoint = endpoint
        self.limits = Limits(
            endpoint.in_flight, endpoint.requests_per_minute, endpoint.tokens_per_minute
        )
        self._loop = asyncio.get_running_loop()
        self._connection: AsyncGenerator[openai.AsyncOpenAI] | None = None
        self._openai: openai.AsyncOpenAI | None = None

    def __del__(self) -> None:
        # Asyncio closes a generator that is dropped in a new task, which the end of asyncio.run
        # would cancel before it starts; one that is still alive then is closed by that end itself.
        if self._connection is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._loop.call_later, 0.1, id, self._connection)

    async def ask(
        self, body: str, sending: Callable[[], AbstractContextManager] = nullcontext
    ) -> tuple[dict, dict]:
        """Send a request until there is a reply.

        Parameters
        ----------
        body : str
            The request as JSON text, with model and messages.
        sending : callable
            Makes a context for each try, which surrounds it while it is in flight.

        Returns
        -------
        reply, source : dict
            As an entry of the cache holds them.

        Raises
        ------
        ModelError
            There is no reply, also not after retries where these may help.
        BudgetExceeded
            The budget is spent, so the request was not sent.
        """
        endpoint, limits, attempt = self.endpoint, self.limits, 0
        request = json.loads(body)
        tokens = estimated_tokens(body)
        ticket = limits.ticket()
        if self._openai is None:
            await self._connect()
        while True:
            try:
                async with limits.slot(ticket, tokens) as slot:
                    endpoint.budget.start(retry=attempt > 0)
                    with sending():
                        return await self._try(request, attempt, slot), self._source()
            except Failure as failure:
                if not failure.retry or attempt == endpoint.retries:
                    raise endpoint.error(failure, request["messages"]) from None
                await asyncio.sleep(_retry_delay(failure, attempt))
                attempt += 1

    async def close(self) -> None:
        """Close the connections; the next request opens new ones."""
        connection, self._connection, self._openai = self._connection, None, None
        if connection is not None:
            await connection.aclose()

    async def _connect(self) -> None:
        try:
            self._connection = _connection(self.endpoint)
            self._openai = await anext(self._connection)
        except (OSError, ValueError) as error:
            raise self.endpoint.error(responses.cannot_ask(error)) from None

    async def _try(self, request: dict, attempt: int, slot: Slot) -> dict:
        """The reply to one try. Failure: there is none."""
        endpoint = self.endpoint
        try:
            async with time_limit(endpoint.timeout):
                response = await self._post(request, attempt)
        except TimeoutError:
            slot.timed_out = True
            self._count(slot, {}, "")  # the endpoint may have worked for it
            raise responses.no_response(f"no whole reply in {endpoint.timeout:g} s") from None
        slot.refused = response.status_code in responses.BUSY
        slot.answered = not slot.refused
        slot.wait = min(responses.wait_asked_for(response.headers), responses.LONGEST_WAIT)
        data = responses.body(response)
        usage, text = responses.usage(data), ""
        try:
            reply = responses.reply(data, endpoint.model, response)
            text = reply["text"]
            return reply
        finally:  # what is no reply costs as much
            self._count(slot, usage, text)

    async def _post(self, request: dict, attempt: int) -> "httpx2.Response":
        """The response to one request, whatever its status. Failure: there is none."""
        import aiohttp
        import openai

        assert self._openai is not None
        fields = {**request}
        model, messages = fields.pop("model"), fields.pop("messages")
        headers = {"x-stainless-retry-count": str(attempt)} if attempt else None
        try:
            raw = await self._openai.chat.completions.with_raw_response.create(
                model=model, messages=messages, extra_body=fields, extra_headers=headers
            )
        except openai.APIStatusError as error:
            return error.response
        except (openai.APIConnectionError, aiohttp.ClientError) as error:
            raise responses.connection_failure(error) from None
        except (OSError, ValueError) as error:
            if isinstance(error, TimeoutError):
                raise
            raise responses.cannot_ask(error) from None
        return raw.http_response

    def _count(self, slot: Slot, usage: dict[str, int], text: str) -> None:
        """Count the tokens of a request; what the endpoint does not report is estimated."""
        if usage:
            slot.used = sum(usage.values())
        prompt = usage.get("prompt_tokens", slot.tokens)
        completion = usage.get("completion_tokens", estimated_tokens(text))
        self.endpoint.budget.end(self.endpoint.model, prompt, completion)

    def _source(self) -> dict:
        """Where a reply comes from, for recordings."""
        if self.endpoint.transport:
            return {"host": SIMULATED}
        import openai

        assert self._openai is not None
        return {
            "host": self._openai.base_url.host,
            "openai": openai.__version__,
            "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        }


async def _connection(endpoint: Endpoint) -> AsyncGenerator["openai.AsyncOpenAI"]:
    """The openai client of the running event loop.

    Being a generator, it is closed with the event loop (`asyncio.run` calls shutdown_asyncgens), or
    when it is not used any more; so there is nothing to close by hand.
    """
    import httpx2
    import openai

    endpoint.check()
    transport = endpoint.transport
    if callable(transport):
        transport = transport()
    http_client = openai.DefaultAioHttpClient(
        transport=transport,
        verify=_certificates(),
        max_redirects=REDIRECTS,
        limits=httpx2.Limits(max_connections=endpoint.in_flight, keepalive_expiry=KEEP_ALIVE),
        timeout=httpx2.Timeout(None, connect=CONNECT),
    )
    async with openai.AsyncOpenAI(
        base_url=endpoint.url,
        api_key=endpoint.key,
        max_retries=0,
        http_client=http_client,
        default_headers={f"X-Stainless-{name}": openai.Omit() for name in UNSENT},
    ) as client:
        yield client


@cache
def _certificates() -> "ssl.SSLContext":
    """What https connections are checked with; reading it takes longer than the rest of a client."""
    import httpx2

    return httpx2.create_ssl_context()


@asynccontextmanager
async def time_limit(seconds: float) -> AsyncIterator[None]:
    """Like `asyncio.timeout`, but where the event loop itself stood still (other code, Ctrl-Z), what
    has arrived meanwhile is read first."""
    loop = asyncio.get_running_loop()
    due = loop.time() + seconds

    def expire() -> None:
        late = loop.time() - due > STALLED
        limit.reschedule(loop.time() + (GRACE if late else 0.0))

    async with asyncio.timeout(None) as limit:
        timer = loop.call_at(due, expire)
        try:
            yield
        finally:
            timer.cancel()


def _retry_delay(failure: Failure, attempt: int) -> float:
    """Seconds until the next try: what the endpoint asks for, else exponential back-off."""
    busy = failure.status in responses.BUSY
    if busy and (failure.wait or attempt == 0):
        return 0.0  # it waits in `Limits`, with all others
    if failure.wait:
        return failure.wait
    doublings = attempt - 1 if busy else attempt
    return min(FIRST_RETRY * 2**doublings, LONGEST_RETRY) * random.uniform(0.75, 1.0)


def _largest_parts(messages: list[dict]) -> str:
    """The largest parts of a prompt and their sizes: of each message, and of each fenced block."""
    parts = []
    for message in messages:
        text = message.get("content")
        if isinstance(text, str):
            parts.append((f"the {message.get('role')} message", len(text)))
            parts += [(label, len(block)) for label, block in fenced(text)]
    parts.sort(key=lambda part: -part[1])
    return ", ".join(f"{label} {size:,}" for label, size in parts[:8])


def _is_web_address(url: str) -> bool:
    try:
        parts = urlsplit(url)
        host = (parts.hostname or "").encode("idna")
        port = parts.port
    except ValueError:  # a port or a host that cannot be
        return False
    valid = re.fullmatch(r"https?://[^\s?#]+", url)
    return bool(valid and host and port != 0 and "@" not in parts.netloc)
