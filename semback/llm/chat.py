"""One model behind an OpenAI-compatible endpoint, with recordings: the class LLM.

`LLM.chat` looks for a recorded reply first. Without one it sends the request, once for all callers
that want the same at one time (single-flight), and records the reply before anybody sees it.
"""

import asyncio
import json
import re
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from ..cache import ResponseCache
from ..cache.recording import canonical, key_and_body
from ..errors import ParameterError, check, known
from ..replies import Reply
from ..task import Task
from .budget import Budget
from .client import Client, Endpoint
from .flight import Flight

LIMITS = ("in_flight", "requests_per_minute", "tokens_per_minute")
FIXED = {"model", "messages", "stream", "n"}  # fields that params cannot change
LENGTHS = {"max_tokens", "max_completion_tokens"}


def default_params(model: str) -> dict:
    """The fields of a request beside model and messages, unless `params` changes them.

    The paper's setting: temperature 0, top_p 1, 1,024 tokens. OpenAI's reasoning models (o1, o3,
    o4…, gpt-5…) refuse these; they get a limit that leaves room for their reasoning, which counts.
    """
    if re.match(r"(.*/)?(o\d|gpt-[5-9])", model):
        return {"max_completion_tokens": 8192}
    return {"temperature": 0, "top_p": 1, "max_tokens": 1024}


class LLM:
    """A chat model.

    Parameters
    ----------
    model : str
        Its name at the endpoint.
    cache : ResponseCache, optional
        Where replies are recorded; without it every call is sent.
    base_url, api_key : str, optional
        The endpoint; else OPENAI_BASE_URL and OPENAI_API_KEY. A server that wants no key gets a
        dummy.
    in_flight : int
        The most requests at one time. An endpoint that takes fewer is given fewer (see `limits`).
    requests_per_minute, tokens_per_minute : float, optional
        The account's limits; each event loop keeps them for itself.
    params : mapping, optional
        Fields of the request beside model and messages, laid over `default_params(model)`; None
        removes one, as in ``{"temperature": None, "max_tokens": None}``.
    retries : int
        How often a request is sent again after 408, 409, 429, 5xx, time-outs, lost connections.
    timeout : float
        Seconds for one try, the whole reply included.
    budget : Budget, optional
        What may be spent, shared by all models that are given the same one.
    transport : httpx2.AsyncBaseTransport or callable, optional
        In place of the network, for models inside this process; or a function that makes it, which
        is called when it is needed.

    Attributes
    ----------
    params : mapping
        The fields that are sent beside model and messages.

    Raises
    ------
    ParameterError
        An argument has the wrong type or range; params is not JSON, or has a field that cannot be
        chosen; there is a budget in dollars for a model whose price is unknown.

    Notes
    -----
    Connections close with their event loop, or when the model is no longer used; where a loop is
    closed without `asyncio.run`, use ``async with LLM(…) as llm`` or ``await llm.aclose()``.
    """

    def __init__(
        self,
        model: str,
        cache: ResponseCache | None = None,
        base_url: str | None = None,
        api_key: str | None = None,
        in_flight: int = 64,
        requests_per_minute: float | None = None,
        tokens_per_minute: float | None = None,
        params: Mapping[str, Any] | None = None,
        retries: int | None = None,
        timeout: float = 300,
        budget: Budget | None = None,
        transport: Any = None,
        system: str = "system",
    ):
        if not model or not isinstance(model, str):
            raise ParameterError(f"model is {model!r}; it takes the name of a model")
        check((ResponseCache, type(None)), "a ResponseCache, as in ResponseCache()", cache=cache)
        check((str, type(None)), "text, or None", base_url=base_url, api_key=api_key)
        check((Budget, type(None)), "a Budget, as in Budget(dollars=5)", budget=budget)
        retries = 5 if retries is None else retries
        check(int, "a whole number", in_flight=in_flight, retries=retries)
        check((int, float), "a number", timeout=timeout)
        limits = (in_flight, requests_per_minute, tokens_per_minute)
        for name, number in zip((*LIMITS, "timeout"), (*limits, timeout)):
            check((int, float, type(None)), "a number", **{name: number})
            if number is not None and not number > 0:
                raise ParameterError(f"{name} is {number!r}; it takes a number above 0")
        known("system", system, ("system", "user"))
        self.system = system
        if retries < 0:
            raise ParameterError(f"retries is {retries!r}; it takes 0 or more")
        budget = budget or Budget()
        budget.check_price(model)
        self.model, self.cache, self.in_flight = model, cache, in_flight
        self.params: Mapping[str, Any] = MappingProxyType(_merged(model, params))
        self._endpoint = Endpoint(
            model, base_url, api_key, limits, retries, timeout, budget, transport
        )
        self._clients: dict[asyncio.AbstractEventLoop, Client] = {}
        self._flights: dict[tuple[asyncio.AbstractEventLoop, str], Flight] = {}

    def __repr__(self) -> str:
        return f"LLM({self.model!r})"

    @classmethod
    def simulated(cls, task: Task, cache: ResponseCache | None = None, **settings) -> "LLM":
        """A simulated model that knows the questions of `task`; see `llm.simulated`."""
        from .simulated import simulated  # here, since it builds on this module

        return simulated(task, cache, **settings)

    @property
    def samples(self) -> bool:
        """Whether two draws of one request may differ: always, unless the temperature is 0."""
        return self.params.get("temperature") != 0

    async def chat(self, messages: list[dict], draw: int = 0) -> Reply:
        """The model's reply.

        Parameters
        ----------
        messages : list of dict
            In OpenAI's chat format: ``[{"role": "user", "content": "…"}]``.
        draw : int
            Which sample of this request; each has a recording of its own.

        Returns
        -------
        Reply

        Raises
        ------
        CacheMiss
            In mode "replay", if the reply is not recorded.
        ModelError
            The endpoint sent no reply.
        BudgetExceeded
            The budget is spent, so the request was not sent.
        CacheError
            The recording was altered, or the reply cannot be recorded.
        ParameterError
            The messages are not JSON text, or the draw is not an int.

        Notes
        -----
        A caller that is cancelled while its request is in flight waits until the reply is recorded,
        and ends then; if it is cancelled once more, it gives the reply up.
        """
        if type(draw) is not int:
            raise ParameterError(f"draw is {draw!r}; it takes an int")
        if self.system == "user" and [each["role"] for each in messages[:2]] == ["system", "user"]:
            content = "\n\n".join(each["content"] for each in messages[:2])
            messages = [{"role": "user", "content": content}, *messages[2:]]
        request = {"model": self.model, "messages": messages, **self.params}
        key, body = self._key_and_body(request, draw)
        cache = self.cache
        if cache is None or cache.mode == "off":
            reply, _ = await self._client().ask(body)
            return _reply(key, reply, recorded=False)
        reply = cache.lookup(key, body, draw)
        if reply is not None:
            return _reply(key, reply, recorded=True)
        if cache.mode == "replay":
            raise cache.miss(request, draw)
        name = asyncio.get_running_loop(), key
        shared = name in self._flights
        if not shared:
            flight = Flight(lambda flight: self._record(cache, flight, key, body, draw))
            flight.add_done_callback(lambda _: self._flights.pop(name))
            self._flights[name] = flight
        reply, recorded = await self._flights[name].join()
        return _reply(key, reply, recorded, shared)

    async def aclose(self) -> None:
        """Close the connections of the running event loop."""
        client = self._clients.pop(asyncio.get_running_loop(), None)
        if client is not None:
            await client.close()

    async def __aenter__(self) -> "LLM":
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    def _client(self) -> Client:
        """The client of the running event loop."""
        loop = asyncio.get_running_loop()
        if loop not in self._clients:
            for ended in [other for other in list(self._clients) if other.is_closed()]:
                self._clients.pop(ended, None)
            self._clients[loop] = Client(self._endpoint)
        return self._clients[loop]

    def _key_and_body(self, request: dict, draw: int) -> tuple[str, str]:
        try:
            if not all([isinstance(message, dict) for message in request["messages"]]):
                raise TypeError("they are not dicts")
            return key_and_body(request, draw)
        except (TypeError, ValueError, RecursionError) as error:  # half a surrogate pair, for one
            raise ParameterError(
                f"the messages to {self.model} cannot be sent as JSON text: {error}"
            ) from None

    async def _record(
        self, cache: ResponseCache, flight: Flight, key: str, body: str, draw: int
    ) -> tuple[dict, bool]:
        """The reply to a request, and whether another process recorded it while this one waited."""
        async with cache.single_flight(key):
            reply = cache.lookup(key, body, draw)
            if reply is not None:
                return reply, True
            reply, source = await self._client().ask(body, flight.sending)
            return cache.record(key, body, draw, reply, source), False


def _merged(model: str, params: Mapping[str, Any] | None) -> dict[str, Any]:
    """The default fields of a model's requests with `params` laid over them."""
    try:
        fields = json.loads(canonical({**default_params(model), **(params or {})}))
    except (TypeError, ValueError) as error:
        raise ParameterError(f"params cannot be sent as JSON: {error}") from None
    fields = {name: value for name, value in fields.items() if value is not None}
    if fixed := FIXED & fields.keys():
        raise ParameterError(f"params cannot contain {fixed}: each call asks for one plain reply")
    for name in LENGTHS & fields.keys():
        if type(fields[name]) is not int or fields[name] < 1:
            raise ParameterError(f"params: {name} is {fields[name]!r}; it takes an int above 0")
    return fields


def _reply(key: str, reply: dict, recorded: bool, shared: bool = False) -> Reply:
    fields = {name: reply[name] for name in ("text", "finish_reason", "usage", "model")}
    fingerprint = reply.get("fingerprint")
    return Reply(**fields, recorded=recorded, key=key, fingerprint=fingerprint, shared=shared)
