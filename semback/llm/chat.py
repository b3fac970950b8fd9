"""One model behind an OpenAI-compatible endpoint, with recordings: the class LLM.

`LLM.chat` looks for a recorded reply first. If there is none, it sends the request, once for all
callers that make it at the same time (single-flight), and records the reply before returning it.
"""

import asyncio
import json
import os
import re
import warnings
from collections.abc import Mapping
from types import MappingProxyType, NoneType
from typing import Any

from ..cache import ResponseCache
from ..cache.recording import canonical, key_and_body
from ..errors import ParameterError, check, known
from ..replies import Reply
from ..task import Task
from ..usage import SIMULATED
from .budget import Budget
from .client import Client, Endpoint
from .flight import reply_to
from .responses import finish_reason

HEADER = re.compile(r"[!#-'*+.^-z|~\w-]+\n[ -~]*", re.ASCII)  # its name and its text
FIXED = {"model", "messages", "stream", "n"}  # fields that params cannot change
LENGTHS = {"max_tokens", "max_completion_tokens"}
SMALLEST_WINDOW = 256  # tokens; an endpoint that reports fewer for a long prompt counts differently
LONGEST_TOKENS = 6  # characters per token, averaged over a prompt; in English text it is 4 to 5
COMPARED = 1000  # recorded replies whose host is compared with base_url's, since it takes time
# Names of models that think before they answer, unless they are told not to.
THINKING = re.compile(
    r"think|reason|deepseek-r\d|qwq|qwen-?3(?!.*(instruct|coder))|magistral|gemini-(2\.5|[3-9])"
    r"|gpt-oss|glm-(4\.[5-9]|[5-9])|kimi-k2\.[5-9]|grok-(3-mini|[4-9])|minimax-m\d|seed-oss",
    re.IGNORECASE,
)


SHORT = {  # max_tokens of small models that run here: they ramble, at some 20 tokens a second
    "qwen2.5-coder-0.5b-instruct-q4_k_m": 256,
    "qwen2.5-coder-1.5b-instruct-q4_k_m": 800,
}


def default_params(model: str) -> dict:
    """The fields of a request other than model and messages, unless `params` changes them.

    The paper's setting: temperature 0, top_p 1, 1,024 tokens. At temperature 0 a top_p of 1 changes
    nothing, and some endpoints refuse the two together, so it is part of keys and recordings but is
    not sent (see `client`).

    Models that think first (deepseek-r1, qwen3, gemini-2.5, gpt-oss…, or with "thinking" in their
    name) get 8,192 tokens, since thoughts count; Claude takes no temperature then. Neither do
    OpenAI's reasoning models (o1, o3, o4…, gpt-5…), which have another name for the limit. The
    small models of `llama` get fewer tokens (`SHORT`).
    """
    if re.match(r"(.*/)?(o\d|gpt-[5-9])", model):
        return {"max_completion_tokens": 8192}
    thinks = THINKING.search(model)
    if thinks and "claude" in model.lower():
        return {"max_tokens": 8192}
    return {"temperature": 0, "top_p": 1, "max_tokens": SHORT.get(model, 8192 if thinks else 1024)}


class LLM:
    """A chat model.

    Parameters
    ----------
    model : str
        Its name at the endpoint.
    cache : ResponseCache, optional
        Where replies are recorded. Without a cache every request is sent.
    base_url, api_key : str, optional
        The endpoint. Default: OPENAI_BASE_URL and OPENAI_API_KEY. A server that needs no key gets a
        dummy.
    in_flight : int
        The most requests in flight. An endpoint that accepts fewer gets fewer (see `limits`).
    requests_per_minute, tokens_per_minute : float, optional
        The account's limits, which all models with the same budget and address keep together.
    params : mapping, optional
        Fields of the request other than model and messages; they override `default_params(model)`,
        and None removes a field, as in ``{"temperature": None, "max_tokens": None}``.
    retries : int, optional
        How often a request is sent again after 408, 409, 429, 5xx, time-outs, lost connections. By
        default 5 times, and 20 times after 429, 503 and 529, which outlasts two minutes in which
        nothing is accepted.
    timeout : float
        Seconds for one try, including the whole reply.
    budget : Budget, optional
        The most that all models that are given the same one may spend.
    transport : httpx2.AsyncBaseTransport or callable, optional
        Takes the place of the network, for models inside this process; or a function that makes
        one, called at the first request.
    headers : mapping of str to str, optional
        Extra HTTP headers, which some gateways need, on top of those in the environment's
        SEMBACK_HEADERS (a JSON object). They are treated as secret: never recorded or shown, and
        their words are masked in errors and replies, as the key is.
    system : {"system", "user"}
        Where system messages go: "user" puts their text before that of the first user message, for
        models that accept no system message. Keys and recordings hold what is sent.

    Attributes
    ----------
    params : mapping
        The fields of every request other than model and messages.

    Raises
    ------
    ParameterError
        An argument has the wrong type or range; params is not JSON, or sets a field that is fixed;
        there is a budget in dollars for a model whose price is unknown.

    Notes
    -----
    Connections close when the model is no longer used, or with their event loop. `asyncio.run`
    takes care of that; if you run a loop yourself, end it with ``await loop.shutdown_asyncgens()``.
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
        headers: Mapping[str, str] | None = None,
        system: str = "system",
    ):
        if not model or not isinstance(model, str):
            raise ParameterError(f"model is {model!r}; it takes the name of a model")
        check((ResponseCache, NoneType), "a ResponseCache, as in ResponseCache()", cache=cache)
        check((str, NoneType), "text, or None", base_url=base_url, api_key=api_key)
        check((Budget, NoneType), "a Budget, as in Budget(dollars=5)", budget=budget)
        check(int, "a whole number", in_flight=in_flight)
        check((int, NoneType), "a whole number, or None", retries=retries)
        check((int, float), "a number", timeout=timeout)
        limits = {
            "requests_per_minute": requests_per_minute,
            "tokens_per_minute": tokens_per_minute,
        }
        check((int, float, NoneType), "a number, or None", **limits)
        known("system", system, ("system", "user"))
        for name, number in {**limits, "in_flight": in_flight, "timeout": timeout}.items():
            if number is not None and not number > 0:
                raise ParameterError(f"{name} is {number!r}; it takes a number above 0")
        if (retries or 0) < 0:
            raise ParameterError(f"retries is {retries!r}; it takes 0 or more")
        budget = budget or Budget()
        budget.check_price(model)
        self.model, self.cache, self.in_flight = model, cache, in_flight
        self.params: Mapping[str, Any] = MappingProxyType(_merged(model, params))
        where = base_url, api_key, all_headers(headers)
        limited = in_flight, requests_per_minute, tokens_per_minute
        self.endpoint = Endpoint(*where, *limited, retries, timeout, budget, transport)
        self.system = system
        self._warned: set[str] = set()  # topics
        self._compared = 0  # recorded replies whose host was compared
        self._clients: dict[asyncio.AbstractEventLoop, Client] = {}

    def __repr__(self) -> str:
        return f"LLM({self.model!r})"

    @classmethod
    def simulated(
        cls, task: Task, cache: ResponseCache | None = None, name: str = SIMULATED, **settings
    ) -> "LLM":
        """An LLM whose replies come from a student model that knows the questions of a task.

        Parameters
        ----------
        task : Task
            Its examples are the only questions that the model can answer, and only some of them.
        cache : ResponseCache, optional
        name : str
            Begins with "simulated". Another name is another student, with other dice.
        **settings
            The other parameters of `LLM`.

        Raises
        ------
        ParameterError
            No task, or a name that does not begin with "simulated".
        """
        from .simulated import Student, scripted  # here, since it builds on this module

        check(Task, "a Task, as in LLM.simulated(task)", task=task)
        return scripted(name, Student(task, name).reply, cache, **settings)

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
        A caller that is cancelled while its request is in flight first waits until the reply is
        recorded; if it is cancelled again, it gives the reply up.
        """
        if type(draw) is not int:
            raise ParameterError(f"draw is {draw!r}; it takes an int")
        named = request, key, _ = self._request(messages, draw)
        reply, recorded, shared = await reply_to(named, draw, self.cache, self._client())
        if self.cache is not None and recorded:
            self._compare_host(self.cache, key)
        return self._reply(key, request, reply, recorded, shared)

    def _client(self) -> Client:
        """The client of the running event loop."""
        loop = asyncio.get_running_loop()
        if loop not in self._clients:
            for ended in [other for other in list(self._clients) if other.is_closed()]:
                self._clients.pop(ended, None)
            self._clients[loop] = Client(self.endpoint)
        return self._clients[loop]

    def _request(self, messages: list[dict], draw: int) -> tuple[dict, str, str]:
        """A request, its key, and its text."""
        try:
            if not all([isinstance(message, dict) for message in messages]):
                raise TypeError("they are not dicts")
            if self.system == "user":
                messages = _without_system(messages)
            request = {"model": self.model, "messages": messages, **self.params}
            return request, *key_and_body(request, draw)
        except (TypeError, ValueError, RecursionError) as error:  # half a surrogate pair, for one
            problem = f"the messages to {self.model} cannot be sent as JSON text: {error}"
            raise ParameterError(problem) from None

    def _reply(self, key: str, request: dict, reply: dict, recorded: bool, shared: bool) -> Reply:
        """A reply as callers get it; warns of numbers of tokens that cannot be right."""
        limit, used = self.endpoint.tokens_per_minute, sum(reply["usage"].values())
        if limit and not recorded and used > limit:
            problem = f"a reply of {self.model} reports {used:,} tokens"
            self._warn_once("tokens", f"{problem}, more than tokens_per_minute allows in a minute")
        contents = [message.get("content") for message in request["messages"]]
        characters = sum(len(content) for content in contents if isinstance(content, str))
        tokens = reply["usage"].get("prompt_tokens", 0)
        truncated = tokens >= SMALLEST_WINDOW and characters > LONGEST_TOKENS * tokens
        if truncated:
            problem = (
                f"{self.model} read {tokens:,} tokens of a prompt of {characters:,} characters"
            )
            advice = "the server seems to have cut it: give it a larger context window"
            self._warn_once("prompt", f"{problem}; {advice} (Ollama: num_ctx)")
        fields = {name: reply[name] for name in ("text", "usage", "model")}
        fields |= {"finish_reason": finish_reason(reply["finish_reason"]), "truncated": truncated}
        fingerprint = reply.get("fingerprint")
        return Reply(**fields, recorded=recorded, key=key, fingerprint=fingerprint, shared=shared)

    def _compare_host(self, cache: ResponseCache, key: str) -> None:
        """Warn once of a reply recorded from an endpoint other than the one that is set."""
        endpoint, host = self.endpoint, self.endpoint.host
        self._compared += 1
        enough = "recorded" in self._warned or self._compared > COMPARED
        if enough or endpoint.transport or not endpoint.url:
            return
        source = (cache.get(key) or {}).get("source")
        recorded = source.get("host") if isinstance(source, dict) else None
        if recorded and recorded not in (host, host.rpartition(":")[0]):
            problem = f"a reply of {self.model} was recorded from {recorded}, not from {host}"
            advice = "recordings serve any host; to send requests to this one, use another cache"
            self._warn_once("recorded", f"{problem}: {advice}")

    def _warn_once(self, topic: str, text: str) -> None:
        if topic not in self._warned:
            self._warned.add(topic)
            warnings.warn(text, stacklevel=4)


def _merged(model: str, params: Mapping[str, Any] | None) -> dict[str, Any]:
    """The default fields of a model's requests, updated with `params`."""
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


def all_headers(headers: Mapping[str, str] | None) -> dict[str, str]:
    """The headers of the environment, updated with `headers`. Errors show no value."""
    try:
        found = json.loads(os.environ.get("SEMBACK_HEADERS") or "{}") | dict(headers or {})
        if all(HEADER.fullmatch("\n".join(pair)) for pair in found.items()):
            return found
    except (TypeError, ValueError):  # not JSON, not an object, or not of texts
        pass
    takes = "an object of names and texts in ASCII, as in {'api-key': '…'}"
    raise ParameterError(f"headers, or SEMBACK_HEADERS (in JSON), are not {takes}")


def _without_system(messages: list[dict]) -> list[dict]:
    """Messages in which the first user message begins with the text of the system messages."""
    texts = [message["content"] for message in messages if message.get("role") == "system"]
    others = [dict(message) for message in messages if message.get("role") != "system"]
    first = next((message for message in others if message.get("role") == "user"), None)
    if texts and first:
        first["content"] = "\n\n".join([*texts, first["content"]])
    elif texts:
        others.insert(0, {"role": "user", "content": "\n\n".join(texts)})
    return others
