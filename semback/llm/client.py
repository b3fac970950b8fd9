"""The requests of one model to an OpenAI-compatible endpoint, through the openai client.

`Client.ask` sends a request until there is a reply: within the limits and the budget, with a time
limit and retries of its own (those of the openai client are switched off). What a response means is
decided in `responses`; an error that lasts becomes a ModelError that says what to do.
"""

import asyncio
import json
import os
import random
import re
import time
from collections import Counter
from collections.abc import AsyncGenerator, Mapping
from contextlib import nullcontext
from dataclasses import dataclass, field
from functools import cache
from typing import TYPE_CHECKING, Any

from ..errors import ModelError, PromptTooLong
from ..prompts import fenced
from ..usage import SIMULATED
from . import responses
from .budget import Budget, estimated_tokens
from .flight import Flight
from .limits import Limits, Slot
from .responses import Failure

if TYPE_CHECKING:
    import ssl

    import openai

RETRIES = 5  # unless LLM is given a number
REFUSALS = 20  # retries when busy; the pauses in `limits` make two minutes, to outlast its limits
FIRST_RETRY, LONGEST_RETRY = 0.5, 8.0  # seconds before a retry, doubled; as in the openai client
CONNECT = 20.0  # seconds for a connection

REDIRECTS = 3  # are followed at most
SECRET = 8  # characters, at least, of a secret; a key like "none" or "x" is a word in many errors
SHOWN = 500  # characters of an endpoint's error
NO_KEY = "set OPENAI_API_KEY, or OPENAI_BASE_URL for another server, or use the simulated model"
BAD_KEY = "the API key contains spaces or characters other than ASCII"
SEPARATE = {"model", "messages"}  # fields with an argument of their own
RECORDS = "X-Semback-Records"  # tells semback's proxy that the client records the reply itself


@dataclass(frozen=True)
class Endpoint:
    """Where and how requests are sent; the attributes are the arguments of LLM."""

    base_url: str | None = None
    api_key: str | None = field(default=None, repr=False)
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    in_flight: int = 64
    requests_per_minute: float | None = None
    tokens_per_minute: float | None = None
    retries: int | None = None
    timeout: float = 300.0
    budget: Budget = field(default_factory=Budget)
    transport: Any = None

    @property
    def url(self) -> str | None:
        """The address; None stands for OpenAI's own."""
        url = f"http://{SIMULATED}/v1" if self.transport else self.base_url
        return url or os.environ.get("OPENAI_BASE_URL") or None

    @property
    def key(self) -> str:
        """The API key; a server that needs none gets a dummy."""
        key = (self.api_key or os.environ.get("OPENAI_API_KEY") or "").strip()
        return key or ("unused" if self.url else "")

    @property
    def address(self) -> str:
        """Host, port and path, without a password or parameters."""
        return re.sub(r"^\w+://([^/?]*@)?|[?#].*", "", self.url or "api.openai.com")

    @property
    def host(self) -> str:
        """The host that replies come from, with its port if the address has one."""
        return SIMULATED if self.transport else self.address.partition("/")[0].lower()

    def masked(self, text: Any) -> Any:
        """A text or JSON from the endpoint, with secrets masked: the key, which servers like to
        repeat, and the words of headers that may be one, which are those with a letter."""
        words = re.split(r"[\s=:;,]+", " ".join(self.headers.values()))
        secrets = [self.key, *(word for word in words if re.search("[A-Za-z]", word))]
        masked = json.dumps(text, ensure_ascii=False)
        for secret in secrets:
            if len(secret) >= SECRET:
                masked = masked.replace(json.dumps(secret)[1:-1], "(the key)")
        return json.loads(masked)

    def error(self, failure: Failure, request: dict) -> ModelError:
        """The ModelError for a request that failed."""
        advice = failure.advice
        text = responses.valid(self.masked(failure.text)[:SHOWN]).rstrip(". ")
        if request_id := self.masked(failure.request_id):
            text += f" (request {request_id})"
        kind = ModelError
        if advice == responses.TOO_LONG:
            kind = PromptTooLong
            advice += f" Its largest parts, in characters: {_largest_parts(request['messages'])}."
        event = f"{request['model']} at {self.address} {failure.event}"
        message = f"{event}: {text}. {advice} Replies received so far are recorded."
        more = {"host": self.host, "request_id": request_id, "body": self.masked(failure.body)}
        return kind(message, status=failure.status, **more)


class Client:
    """The requests to one endpoint in one event loop: an openai client cannot serve two.

    Parameters
    ----------
    endpoint : Endpoint
    whole : bool
        Whether replies hold the whole body of their response, as "completion".
    """

    def __init__(self, endpoint: Endpoint, whole: bool = False):
        self.endpoint, self.whole, self.limits = endpoint, whole, Limits(endpoint)
        self.flights: dict[str, Flight] = {}  # by key
        self._loop = asyncio.get_running_loop()
        self._connection: AsyncGenerator[openai.AsyncOpenAI] | None = None
        self._openai: Any = None  # openai.AsyncOpenAI, once it is connected

    def __del__(self) -> None:
        # Asyncio closes a dropped generator in a new task, which asyncio.run would cancel at its
        # end, before it starts. So the generator lives a little longer: asyncio.run itself closes
        # those that are still alive at its end.
        if self._connection is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._loop.call_later, 0.1, id, self._connection)

    async def ask(self, body: str, flight: Flight | None = None) -> tuple[dict, dict]:
        """Send a request until there is a reply.

        Parameters
        ----------
        body : str
            The request as JSON text, with model and messages.
        flight : Flight, optional
            Records the reply, and ends once nobody waits for it any more.

        Returns
        -------
        reply, source : dict
            As an entry of the cache holds them.

        Raises
        ------
        ModelError
            There is no reply, even after retries (where they may help).
        BudgetExceeded
            The budget is spent, so the request was not sent.
        ParameterError
            There is a budget in dollars, and the price of the model is unknown.
        """
        endpoint, request, tries = self.endpoint, json.loads(body), Counter()
        endpoint.budget.check_price(request["model"])
        tokens, ticket = estimated_tokens(body), next(self.limits.tickets)
        headers = {RECORDS: "1"} if flight else {}
        while True:
            try:
                await self._connect()  # which takes time, so no slot waits for it
                async with self.limits.slot(ticket, tokens) as slot:
                    endpoint.budget.start(retry=tries.total() > 0)
                    with flight.sending() if flight else nullcontext():
                        return self._recordable(await self._try(request, headers, slot))
            except Failure as failure:
                busy = failure.status in responses.BUSY
                tries[busy] += 1
                spent, most = tries.total(), endpoint.retries
                if most is None:
                    spent, most = tries[busy], REFUSALS if busy else RETRIES
                if not failure.retry or spent > most:
                    raise endpoint.error(failure, request) from None
                delay = min(FIRST_RETRY * 2 ** (tries.total() - 1), LONGEST_RETRY)
                delay = failure.wait or delay * random.uniform(0.75, 1.0)
                if busy and (failure.wait or self.limits.busy):
                    delay = 0  # it waits in `Limits`, with all the others
                await asyncio.sleep(delay)

    async def _connect(self) -> None:
        """Make the openai client, if there is none yet. Raises Failure if a setting is wrong."""
        if self._openai is None:
            self._connection = _connection(self.endpoint)
            try:
                self._openai = await anext(self._connection)
            except Exception as error:
                raise responses.no_response(error) from None

    async def _try(self, request: dict, headers: dict[str, str], slot: Slot) -> dict:
        """The reply to one try. Raises Failure if there is none."""
        import aiohttp
        import openai

        try:
            async with asyncio.timeout(self.endpoint.timeout):
                raw = await self._openai.chat.completions.with_raw_response.create(
                    model=request["model"],
                    messages=request["messages"],
                    extra_body=_sent_fields(request),
                    extra_headers=headers,
                )
            response = raw.http_response
        except openai.APIStatusError as error:
            response = error.response
        except TimeoutError:
            slot.outcome = "timed out"
            self._count(slot, request, {}, "")  # the endpoint may have worked on it
            error = TimeoutError(f"no whole reply in {self.endpoint.timeout:g} s")
            raise responses.no_response(error) from None
        except (openai.APIError, aiohttp.ClientError, OSError, ValueError) as error:
            raise responses.no_response(error) from None
        slot.outcome = "answered"
        try:
            reply = responses.reply(response, request["model"], self.whole)
        except Failure as failure:
            if failure.status in responses.BUSY:
                slot.outcome = "refused"
                slot.wait = min(failure.wait, responses.LONGEST_WAIT)
            if failure.usage is not None:  # it costs as much as a reply
                self._count(slot, request, failure.usage, "")
            raise
        self._count(slot, request, reply["usage"], reply["text"])
        return reply

    def _count(self, slot: Slot, request: dict, usage: dict[str, int], text: str) -> None:
        """Count the tokens of a request; those that the endpoint does not report are estimated."""
        prompt = usage.get("prompt_tokens", slot.tokens)
        completion = usage.get("completion_tokens", estimated_tokens(text))
        slot.used = prompt + completion
        self.endpoint.budget.end(request["model"], prompt, completion)

    def _recordable(self, reply: dict) -> tuple[dict, dict]:
        """A reply without the key, and its source, as recordings hold them."""
        endpoint = self.endpoint
        clean = endpoint.masked(reply)
        source: dict[str, Any] = {"host": endpoint.host}
        if not endpoint.transport:
            source["time"] = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        if clean != reply:
            source["masked"] = True
        return clean, source


async def _connection(endpoint: Endpoint) -> AsyncGenerator["openai.AsyncOpenAI"]:
    """The openai client of the running event loop.

    Since this is a generator, it is closed with the event loop (`asyncio.run` calls
    shutdown_asyncgens) or when it is no longer used; there is nothing to close by hand.
    """
    import httpx2
    import openai

    if not re.fullmatch(r"[!-~]+", endpoint.key):
        raise ValueError(BAD_KEY if endpoint.key else NO_KEY)
    transport: Any = endpoint.transport
    if callable(transport):
        transport = transport()
    http_client = openai.DefaultAioHttpClient(
        transport=transport,
        verify=_certificates(),
        max_redirects=REDIRECTS,
        event_hooks={"response": [responses.read]},
        limits=httpx2.Limits(max_connections=endpoint.in_flight),
        timeout=httpx2.Timeout(None, connect=CONNECT),  # the whole try has a time limit
    )
    async with openai.AsyncOpenAI(
        base_url=endpoint.url,
        api_key=endpoint.key,
        default_headers=endpoint.headers,
        max_retries=0,
        http_client=http_client,
    ) as client:
        url = client.base_url
        if url.scheme not in ("http", "https") or not url.host or url.userinfo or url.query:
            raise ValueError("base_url is not an address like http://localhost:8000/v1")
        yield client


@cache
def _certificates() -> "ssl.SSLContext":
    """The certificates that https is checked with; reading them takes longer than all else here."""
    import httpx2

    return httpx2.create_ssl_context()


def _sent_fields(request: dict) -> dict:
    """The fields of a request that are sent in addition to model and messages.

    At temperature 0 a top_p of 1 changes nothing, and some endpoints refuse the two together, so it
    is left out here. Keys and recordings hold it, as they always have.
    """
    fields = {name: request[name] for name in request.keys() - SEPARATE}
    if fields.get("temperature") == 0 and fields.get("top_p") == 1:
        del fields["top_p"]
    return fields


def _largest_parts(messages: list[dict]) -> str:
    """The largest parts of a prompt and their sizes: of each message, and of each fenced block."""
    parts = []
    for message in messages:
        text = str(message.get("content"))
        parts += [(f"the {message.get('role')} message", text), *fenced(text)]
    parts.sort(key=lambda part: -len(part[1]))
    return ", ".join(f"{label} {len(text):,}" for label, text in parts[:8])
