"""One call to an OpenAI-compatible endpoint: paced, within the budget, patient, and plain where it fails.

The openai client sends, and tries again; it sends through `connections`. Its replies are read strictly, and what it raises in the end
becomes one `ModelError` with what to do about it.
"""

import asyncio
import os
import re
import time
import weakref
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from urllib.parse import urlsplit

from ..errors import ModelError
from ..usage import SIMULATED
from . import paid
from .advice import explain
from .ahead import Ahead
from .budget import Budget
from .limits import Pace
from .prices import count, tokens

SECRET = 8  # letters of a key that is one; "none" and "x" are words that errors may say
# Headers in which the openai client tells of the computer and its Python: nobody needs them, and they take 5 % of a call's time.
_UNSENT = [
    f"X-Stainless-{name}"
    for name in ("Lang", "Package-Version", "OS", "Arch", "Runtime", "Runtime-Version", "Async")
]


class Endpoint:
    """Where a model is asked; the parameters are LLM's. It may be used from one event loop after the other."""

    def __init__(
        self,
        model: str,
        base_url: str | None,
        api_key: str | None,
        retries: int,
        timeout: float,
        budget: Budget,
        transport,
        pace: dict,
    ):
        self.model, self._base_url, self._api_key = model, base_url, api_key
        self._retries, self._timeout, self._budget, self._transport, self._pace = (
            retries,
            timeout,
            budget,
            transport,
            pace,
        )
        self._loops: weakref.WeakKeyDictionary = weakref.WeakKeyDictionary()

    async def ask(self, body: str) -> dict:
        """What came back for a request, whose JSON text is `body`: {"reply", "source"}, as an entry of the cache holds them.

        Errors: ModelError, BudgetExceeded.
        """
        import openai

        try:
            held, response = await self._post(body)
        except openai.OpenAIError as error:
            raise self._failed(
                error
            ) from None  # one error: what there is to know of its causes is in its words
        except (OSError, ValueError) as error:
            raise self._error(
                f"cannot be asked: {error}. Look at base_url, and at what SSL_CERT_FILE, the proxies and OPENAI_… are set to "
                "in the environment."
            ) from None
        usage, said = _usage(response), ""
        try:
            reply = self._read(response) | {"usage": usage}
            said = reply["text"]
        finally:  # also of what is no chat reply, and paid for
            self._budget.end(
                self.model,
                {"prompt_tokens": tokens(len(body)), "completion_tokens": tokens(len(said))}
                | usage,
            )
        if self._transport:
            return {"reply": reply, "source": {"host": SIMULATED}}
        return {
            "reply": reply,
            "source": {**held.source, "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())},
        }

    async def _post(self, body: str):
        """What asks in this event loop, and the response to it."""
        from .connections import asking

        held = self._held()
        place = await held.pace.enter(
            tokens(len(body))
        )  # before the request is built: of many, the first leaves while others are built
        try:
            asking.set((content := body.encode(), place))
            return held, await held.request(content)
        finally:
            held.pace.leave(place)

    def _read(self, response) -> dict:
        """The reply in a response; ModelError where it is none."""
        body = (
            response.extensions["body"]
            if "body" in response.extensions
            else response.read().decode(errors="replace")
        )
        choices = body.get("choices") if isinstance(body, dict) else None
        choice = (
            choices[0]
            if isinstance(choices, list) and choices and isinstance(choices[0], dict)
            else {}
        )
        message, problem = choice.get("message"), choice.get("error")
        content = _content(message) if isinstance(message, dict) else False
        problem = (
            isinstance(body, dict) and body.get("error") or problem
        )  # how some gateways say 5xx with status 200
        if problem or not isinstance(content, str | None):
            raise self._error(
                f"sent something that is not a chat reply (status 200, request {response.headers.get('x-request-id')}): "
                f"{str(problem or body)[:200]!r}. Is this an OpenAI-compatible address?"
            )
        reply = {
            "text": _text(content or ""),
            "finish_reason": "refusal"
            if message.get("refusal")
            else _text(choice.get("finish_reason") or "stop"),
            "model": _text(
                body.get("model") or self.model
            ),  # as the endpoint names it: an answer from another model stays visible
            "fingerprint": _text(body["system_fingerprint"])
            if body.get("system_fingerprint")
            else None,
        }
        return reply | ({"refusal": _text(message["refusal"])} if message.get("refusal") else {})

    def _held(self) -> "_Held":
        """The openai client of the running event loop, and its pace: one client cannot serve two.

        It lives in a task of its own, which ends when nobody holds this endpoint any more, and which asyncio cancels when the loop ends:
        then the connections close too. So neither a script with `asyncio.run` nor a notebook has anything to close.
        """
        loop = asyncio.get_running_loop()
        if not (held := self._loops.get(loop)):
            for closed in [each for each in self._loops if each.is_closed()]:
                del self._loops[closed]
            held, gone = self._new_client(Pace(**self._pace)), asyncio.Event()
            asyncio.create_task(
                _living(held.client, gone), name="semback's connections"
            )  # kept by `gone`, which it waits for
            weakref.finalize(held, _tell, loop, gone)
            self._loops[loop] = held
            paid.outlasted()
        return held

    def _new_client(self, pace: Pace) -> "_Held":
        import httpx2
        import openai

        from .connections import Connections

        api_key = self._key() or ("unused" if self.base_url or self._transport else None)
        if not api_key:
            raise ModelError(
                f"no response of {self.model} is recorded for this request, and there is no endpoint to ask. "
                "Set OPENAI_API_KEY for OpenAI, or OPENAI_BASE_URL for any compatible server, or take the simulated model."
            )
        url = "http://simulated/v1" if self._transport else self.base_url
        if not re.fullmatch(r"[!-~]+", api_key):
            raise self._error("cannot be asked: the API key has spaces or letters that no key has.")
        if url and not _is_web_address(url):
            raise self._error(
                "cannot be asked: base_url is no web address like http://localhost:8000/v1; a user name, a password and what "
                "follows a ? or # cannot be in it."
            )
        transport = self._transport() if callable(self._transport) else self._transport
        http = Connections(pace, self._budget, self._retries, self._timeout, transport)
        client = openai.AsyncOpenAI(
            base_url=url,
            api_key=api_key,
            max_retries=self._retries,
            timeout=self._timeout,
            http_client=http,
            default_headers=dict.fromkeys(_UNSENT, openai.Omit()),
        )
        source = {"host": urlsplit(str(client.base_url)).hostname, "openai": openai.__version__}
        # The client's own options, which it would copy for each request.
        options = {
            "headers": {},
            "params": {},
            "max_retries": self._retries,
            "timeout": self._timeout,
            "security": {"bearer_auth": True},
        }
        address = f"{client.base_url}chat/completions"

        def post(body: bytes):
            return client.post(address, cast_to=httpx2.Response, content=body, options=options)

        return _Held(client, pace, Ahead(post, pace).request if http.straight else post, source)

    @property
    def base_url(self) -> str | None:
        """The address; None is OpenAI's."""
        return self._base_url or os.environ.get("OPENAI_BASE_URL") or None

    def _key(self) -> str:
        return (self._api_key or os.environ.get("OPENAI_API_KEY") or "").strip()

    def _error(self, said: str) -> ModelError:
        """A ModelError that names model and host, and never holds the key, which servers like to repeat."""
        host = (
            SIMULATED
            if self._transport
            else re.sub(r"^\w+://([^/?]*@)?|\?.*", "", self.base_url or "api.openai.com")
        )
        said = _text(said.replace(self._key(), "(the key)") if len(self._key()) >= SECRET else said)
        return ModelError(f"{self.model} at {host} {said} What was answered before is kept.")

    def _failed(self, error) -> ModelError:
        """What the openai client raised after its retries, as one message: who, what, and what to do."""
        status, cause = getattr(error, "status_code", None), error.__cause__ or error
        if not status:
            why = str(cause) or f"connection lost ({type(cause).__name__})"
            return self._error(
                f"did not answer, asked {self._retries + 1} times at most: {why}. "
                "Nothing was recorded; check the address and the network, then run again."
            )
        return self._error(f"answered {status}: {explain(error)}")


@dataclass(frozen=True, eq=False)
class _Held:
    """What asks in one event loop, as long as somebody holds it. request: asks what a body says. source: for recordings."""

    client: object
    pace: Pace
    request: Callable[[bytes], Awaitable]
    source: dict


async def _living(client, gone: asyncio.Event):
    try:
        await gone.wait()
    except asyncio.CancelledError:  # the loop ends
        await paid.ending()
    await client.close()


def _tell(loop: asyncio.AbstractEventLoop, gone: asyncio.Event):
    with suppress(RuntimeError):  # the loop is closed, and the client with it
        loop.call_soon_threadsafe(gone.set)


def _is_web_address(url: str) -> bool:
    try:
        parts = urlsplit(url)
        host = (parts.hostname or "").encode("idna")
        return bool(
            re.fullmatch(r"https?://[^\s?#]+", url)
            and host
            and parts.port != 0
            and "@" not in parts.netloc
        )
    except ValueError:  # a port or a host that is none
        return False


def _usage(response) -> dict[str, int]:
    """The tokens that a response says it took, as far as it says so."""
    body = response.extensions.get("body")
    usage = (
        body.get("usage") if isinstance(body, dict) and isinstance(body.get("usage"), dict) else {}
    )
    return {
        name: number
        for name in ("prompt_tokens", "completion_tokens")
        if (number := count(usage.get(name))) is not None
    }


def _content(message: dict):
    """A message's content; the texts of one that comes in parts, as some endpoints send it."""
    parts = message.get("content")
    if (
        not isinstance(parts, list)
        or not parts
        or not all(isinstance(part, dict) for part in parts)
    ):
        return parts
    texts = [part.get("text") for part in parts if part.get("type") == "text"]
    return "".join(texts) if texts and all(isinstance(text, str) for text in texts) else parts


def _text(said) -> str:
    """What came as text, without halves of characters, which no file could hold."""
    said = str(said)
    return (
        said
        if said.isascii()
        else said.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    )
