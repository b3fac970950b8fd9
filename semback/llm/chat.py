"""One model behind an OpenAI-compatible endpoint: memoised, bounded, counted.

Every request goes through `LLM.chat`. It looks for a recorded response first; otherwise it asks the endpoint (see `endpoint`), and
records what came back before anybody sees it.
"""

import asyncio
import json
import re
import warnings
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from weakref import WeakKeyDictionary

from ..cache.recording import canonical, named, rescued, text_of
from ..cache.responses import ResponseCache
from ..errors import CacheError, ModelError, ParameterError
from ..replies import Reply
from . import paid
from .budget import Budget
from .client import Endpoint
from .window import fits

REMEMBERED = 512  # keys of requests that were asked, so that what nodes ask alike is hashed once


def default_params(model: str) -> dict:
    """What is sent beside the model's name and the messages, unless told otherwise.

    The paper's setting: temperature 0, top_p 1, 1,024 tokens. OpenAI's reasoning models (o1, o3, o4…, gpt-5…) refuse these;
    they get a limit that leaves room for their thinking, which is counted in it.
    """
    if re.match(r"(.*/)?(o\d|gpt-[5-9])", model):
        return {"max_completion_tokens": 8192}
    return {"temperature": 0, "top_p": 1, "max_tokens": 1024}


class LLM:
    """A chat model.

    Parameters
    ----------
    model: its name, as the endpoint knows it.
    cache: where responses are kept; without one, every call goes to the endpoint.
    base_url, api_key: the endpoint; without them OPENAI_BASE_URL and OPENAI_API_KEY. A server that wants no key gets a dummy.
    in_flight: the most requests at one time. An endpoint that takes fewer is found out and given fewer (see `pace`).
    requests_per_minute, tokens_per_minute: the account's limits, where it has some; each event loop keeps them for itself.
    params: fields of the request beside model and messages. They are laid over `default_params(model)`; None takes one out,
        as in ``{"temperature": None, "max_tokens": None, "max_completion_tokens": 4096}``.
    window: the most tokens of a prompt; a longer one is not sent. Without it, what genai-prices knows of the model.
    retries: how often the client tries again after 408, 409, 429, 5xx, time-outs and lost connections.
    timeout: seconds for one try, the whole reply included.
    budget: what may be spent, shared by all models that are given the same one; without it, there is no limit.
    transport: an httpx2 transport in place of the network, for models inside this process; or a function that makes it, when it is used.

    Nothing is to be closed: connections close with the event loop (the end of `asyncio.run`), or when nobody holds the model.

    Errors
    ------
    ParameterError: no name; a number that is not above 0 (retries: below 0); params that are no JSON, or hold what is not to be chosen;
    a budget in dollars for a model whose price is not known; another thing than a cache, a text, a budget.
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
        params: Mapping | None = None,
        window: int | None = None,
        retries: int = 5,
        timeout: float = 300,
        budget: Budget | None = None,
        transport=None,
    ):
        if not model or not isinstance(model, str):
            raise ParameterError(f"a model is called by its name, not {model!r}")
        pace = {
            "in_flight": in_flight,
            "requests_per_minute": requests_per_minute,
            "tokens_per_minute": tokens_per_minute,
        }
        for name, number in {
            **pace,
            "timeout": timeout,
            "retries": retries,
            "window": window,
        }.items():
            kinds, zero = (
                (int,) if name in ("in_flight", "retries", "window") else (int, float),
                name == "retries",
            )
            if number is not None and (
                type(number) not in kinds or not (number > 0 or zero and number == 0)
            ):
                takes = f"a {'whole ' if kinds == (int,) else ''}number, {'0 or more' if zero else 'above 0'}"
                raise ParameterError(f"{name} is {number!r}; it takes {takes}")
        if cache is not None and not isinstance(cache, ResponseCache):
            raise ParameterError(
                f"cache is {cache!r}; it takes a ResponseCache, as in ResponseCache(folder)"
            )
        if not isinstance(base_url, str | None) or not isinstance(api_key, str | None):
            raise ParameterError(
                "base_url and api_key are texts, or None"
            )  # which does not show a key
        if budget is not None and not isinstance(budget, Budget):
            raise ParameterError(
                f"budget is {budget!r}; it takes a Budget, as in Budget(dollars=5)"
            )
        self.model, self.cache, self.in_flight, self.window = model, cache, in_flight, window
        try:
            fields = json.loads(canonical({**default_params(model), **(params or {})}))
        except (TypeError, ValueError) as error:
            raise ParameterError(f"params cannot be sent as JSON: {error}") from None
        self.params = MappingProxyType(
            {name: value for name, value in fields.items() if value is not None}
        )  # keys depend on it
        if taken := {"model", "messages", "stream", "n"} & set(self.params):
            raise ParameterError(
                f"params cannot hold {', '.join(sorted(taken))}: one plain reply to given messages is what is asked for"
            )
        for limit in {"max_tokens", "max_completion_tokens"} & set(self.params):
            if type(self.params[limit]) is not int or self.params[limit] < 1:
                raise ParameterError(
                    f"params: {limit} is {self.params[limit]!r}; it takes a whole number, 1 or more"
                )
        budget = budget or Budget()
        budget.admits(model)
        self._endpoint = Endpoint(
            model, base_url, api_key, retries, timeout, budget, transport, pace
        )
        self._names: dict[tuple, tuple[str, str]] = {}
        self._under_way: WeakKeyDictionary = (
            WeakKeyDictionary()
        )  # {event loop: {key: the task that asks}}

    def __repr__(self):
        return f"LLM({self.model!r})"

    @classmethod
    def simulated(cls, task, cache: ResponseCache | None = None, **settings) -> "LLM":
        """A simulated model that knows the questions of `task`; see `semback.simulate`."""
        from .simulated import simulated  # here, since simulate builds on this module

        return simulated(task, cache, **settings)

    @property
    def samples(self) -> bool:
        """Whether two draws of one request may differ: everything but temperature 0."""
        return self.params.get("temperature") != 0

    async def chat(self, messages: list[dict], draw: int = 0) -> Reply:
        """Ask the model.

        Parameters
        ----------
        messages: as OpenAI's chat format has them: [{"role": "user", "content": "…"}].
        draw: which sample of this request; another number is another recorded response.

        Errors
        ------
        CacheMiss: in mode replay, if it is not recorded. ModelError: the endpoint did not answer, or what came is no chat reply, or the
        prompt is longer than the model's window. BudgetExceeded: the budget is spent, so nothing was sent. With these, what is on its way
        has been awaited, so that no answer is lost. ParameterError: the messages are not text, or the draw is no whole number.
        """
        request = self._request(messages)
        name, body = self._named(request, draw)
        try:
            if self._recording and (said := self.cache.replies([(name, body, draw)])[0]):
                return _reply(name, said, recorded=True)
            if self._recording and self.cache.mode == "replay":
                raise self.cache.miss(request, draw)
            fits(messages, self.model, self.window)
            if not self._recording:
                return _reply(name, (await self._endpoint.ask(body))["reply"], recorded=False)
            said, recorded, shared = await self._asked_once(name, draw, body)
            return _reply(name, said, recorded, shared)
        except (ModelError, CacheError):
            await paid.settled()
            raise

    def recorded(self, asked: Sequence[list[dict]], draw: int = 0) -> list[Reply | None]:
        """For each of several messages the reply that needs no call, or None: as `chat` gives it, and all from one look-up.

        Errors: CacheError. ParameterError, as in `chat`.
        """
        if not self._recording:
            return [None] * len(asked)
        names = [self._named(self._request(messages), draw) for messages in asked]
        replies = self.cache.replies([(name, body, draw) for name, body in names])
        return [
            said and _reply(name, said, recorded=True) for (name, _), said in zip(names, replies)
        ]

    @property
    def _recording(self) -> bool:
        return self.cache is not None and self.cache.mode != "off"

    async def _asked_once(self, name: str, draw: int, body: str) -> tuple[dict, bool, bool]:
        """What one call brings for all who ask the same at one time: the reply, whether it was recorded meanwhile, and whether the call
        was under way before. A caller that is cancelled leaves the call to the others; with the last one it ends, if it was not sent."""
        under_way = self._under_way.setdefault(asyncio.get_running_loop(), {})
        if not (shared := name in under_way):
            under_way[name] = paid.Call(self._ask_and_keep(name, draw, body))
            under_way[name].add_done_callback(
                lambda call: (_forget(under_way, name, call), call.cancelled() or call.exception())
            )
        call = under_way[name]
        call.join()
        try:
            return *await asyncio.shield(call), shared
        finally:
            if call.leave():
                _forget(under_way, name, call)

    def _request(self, messages: list[dict]) -> dict:
        return {"model": self.model, "messages": messages, **self.params}

    def _named(self, request: dict, draw: int) -> tuple[str, str]:
        """The key of a request and the JSON text that is sent, which are worked out once for equal texts."""
        if type(draw) is not int:
            raise ParameterError(f"draw is {draw!r}; it takes a whole number, an int")
        try:
            said = tuple([tuple(message.items()) for message in request["messages"]])
            if not all([type(value) is str for message in said for _, value in message]):
                return named(request, draw)
            if (found := self._names.get(asked := (draw, said))) is None:
                if len(self._names) >= REMEMBERED:
                    self._names.clear()
                found = self._names[asked] = named(request, draw)
            return found
        except (
            TypeError,
            ValueError,
            AttributeError,
            RecursionError,
        ) as error:  # half of a surrogate pair, for one, which is no character
            raise ParameterError(
                f"the messages to {self.model} cannot be sent as JSON text: {error}"
            ) from None

    async def _ask_and_keep(self, name: str, draw: int, body: str) -> tuple[dict, bool]:
        """The reply that counts, and whether somebody else had it recorded while this one waited."""
        waited = 0
        while not self.cache.claim(name):
            await asyncio.sleep(0.05)
            if (waited := waited + 1) == 200:
                warnings.warn(
                    f"waiting for a reply of {self.model} that somebody else has been asking for, in this process or another, "
                    "for 10 s; should that one stand still, end it",
                    stacklevel=1,
                )
        try:
            if said := self.cache.replies([(name, body, draw)])[0]:
                return said, True
            came = await self._endpoint.ask(body)
            text = text_of(body, draw, **came)
            try:
                return (await self.cache.keep(name, text) or came)["reply"], False
            except CacheError as error:
                raise type(error)(f"{error} {rescued(name, text)}") from None
        finally:
            self.cache.release(name)


def _forget(under_way: dict, name: str, call) -> None:
    if under_way.get(name) is call:  # and not the next one that asks for the same
        del under_way[name]


def _reply(name: str, said: dict, recorded: bool, shared: bool = False) -> Reply:
    return Reply(
        said["text"],
        said["finish_reason"],
        said["usage"],
        said["model"],
        recorded,
        name,
        said.get("fingerprint"),
        shared,
    )
