"""One call to an OpenAI-compatible endpoint: paced, within the budget, patient, and plain where it fails.

The openai client sends, and tries again. It is shown the faults that it would miss (`_patient`), its replies are read strictly, and
what it raises in the end becomes one `ModelError` with what to do about it.
"""

import asyncio
import os
import re
import time
import weakref
from contextlib import suppress
from contextvars import ContextVar
from dataclasses import dataclass
from functools import cache
from urllib.parse import urlsplit

from .advice import explain
from .budget import Budget
from .errors import ModelError
from .pace import Pace, Slot
from .tally import SIMULATED

_slot: ContextVar[Slot] = ContextVar("slot")  # of the call that is being made


class Endpoint:
    """Where a model is asked; the parameters are LLM's. It may be used from one event loop after the other."""

    def __init__(self, model: str, base_url: str | None, api_key: str | None, retries: int, timeout: float, budget: Budget, transport,
                 pace: dict):
        self.model, self.base_url, self._api_key = model, base_url or os.environ.get("OPENAI_BASE_URL") or None, api_key
        self._retries, self._timeout, self._budget, self._transport, self._pace = retries, timeout, budget, transport, pace
        self._loops: weakref.WeakKeyDictionary = weakref.WeakKeyDictionary()
        self.sent: weakref.WeakSet = weakref.WeakSet()  # the tasks whose request is on its way, or answered: somebody may have to pay

    async def ask(self, request: dict) -> dict:
        """What came back for the body of a request: {"reply", "source"}, as an entry of the cache holds them.

        Errors: ModelError, BudgetExceeded.
        """
        import httpx2
        import openai

        client, pace = self._client()
        slot = await pace.enter(_tokens(sum(len(str(message.get("content"))) for message in request["messages"])))
        _slot.set(slot)  # before the request is built, so that of many at once the first is on its way while others are built
        try:
            response = await client.post("/chat/completions", cast_to=httpx2.Response, body=request)  # not one byte is changed in between
        except openai.OpenAIError as error:
            raise self._failed(error) from None  # one error: what there is to know of its causes is in its words
        finally:
            pace.leave(slot)
        reply = self._read(request, response)
        self._budget.end(self.model, reply["usage"])
        source = {"host": urlsplit(str(client.base_url)).hostname, "openai": openai.__version__,
                  "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())}
        return {"reply": reply, "source": source if not self._transport else {"host": SIMULATED}}

    def _read(self, request: dict, response) -> dict:
        """The reply in a response; ModelError where it is none."""
        try:
            body = response.json()
        except (ValueError, RecursionError):
            body = response.text
        choices = body.get("choices") if isinstance(body, dict) else None
        choice = choices[0] if isinstance(choices, list) and choices and isinstance(choices[0], dict) else {}
        message, problem = choice.get("message"), choice.get("error")
        problem = isinstance(body, dict) and body.get("error") or problem  # how some gateways say 5xx with status 200
        if problem or not isinstance(message, dict) or not isinstance(message.get("content"), str | None):
            raise self._error(f"sent something that is not a chat reply (status 200, request {response.headers.get('x-request-id')}): "
                              f"{str(problem or body)[:200]!r}. Is this an OpenAI-compatible address?")
        usage = body.get("usage") if isinstance(body.get("usage"), dict) else {}
        reply = {
            "text": _text(message.get("content") or ""),
            "finish_reason": "refusal" if message.get("refusal") else _text(choice.get("finish_reason") or "stop"),
            "usage": {name: usage[name] for name in ("prompt_tokens", "completion_tokens") if type(usage.get(name)) is int},
            "model": _text(body.get("model") or request["model"]),  # as the endpoint names it: an answer from another model stays visible
            "fingerprint": _text(body["system_fingerprint"]) if body.get("system_fingerprint") else None,
        }
        return reply | ({"refusal": _text(message["refusal"])} if message.get("refusal") else {})

    def _client(self):
        """The openai client of the running event loop, and its pace: one client cannot serve two.

        It lives in a task of its own, which ends when nobody holds this endpoint any more, and which asyncio cancels when the loop ends:
        then the connections close too. So neither a script with `asyncio.run` nor a notebook has anything to close.
        """
        loop = asyncio.get_running_loop()
        for closed in [each for each in self._loops if each.is_closed()]:
            del self._loops[closed]
        if loop not in self._loops:
            self._loops[loop], gone = _Held(self._new_client(pace := Pace(**self._pace)), pace), asyncio.Event()
            asyncio.create_task(_living(self._loops[loop].client, gone), name="semback's connections")  # kept by `gone`, which it waits for
            weakref.finalize(self._loops[loop], _tell, loop, gone)
        return self._loops[loop].client, self._loops[loop].pace

    def _new_client(self, pace: Pace):
        import openai

        api_key = self._key() or ("unused" if self.base_url or self._transport else None)
        if not api_key:
            raise ModelError(f"no response of {self.model} is recorded for this request, and there is no endpoint to ask. "
                             "Set OPENAI_API_KEY for OpenAI, or OPENAI_BASE_URL for any compatible server, or take the simulated model.")
        url = "http://simulated/v1" if self._transport else self.base_url
        if not re.fullmatch(r"[!-~]+", api_key):
            raise self._error("cannot be asked: the API key has spaces or letters that no key has.")
        if url and not _is_web_address(url):
            raise self._error("cannot be asked: base_url is no web address like http://localhost:8000/v1; a user name and a password "
                              "cannot be in it.")
        http = _patient(pace, self._budget, self._retries, self._timeout, self._transport, self.sent)
        return openai.AsyncOpenAI(base_url=url, api_key=api_key, max_retries=self._retries, timeout=self._timeout, http_client=http)

    def _key(self) -> str:
        return (self._api_key or os.environ.get("OPENAI_API_KEY") or "").strip()

    def _error(self, said: str) -> ModelError:
        """A ModelError that names model and host, and never holds the key, which servers like to repeat."""
        host = SIMULATED if self._transport else re.sub(r"^\w+://([^/?]*@)?|\?.*", "", self.base_url or "api.openai.com")
        said = said.replace(self._key(), "(the key)") if self._key() else said
        return ModelError(f"{self.model} at {host} {said} What was answered before is kept.")

    def _failed(self, error) -> ModelError:
        """What the openai client raised after its retries, as one message: who, what, and what to do."""
        status, cause = getattr(error, "status_code", None), error.__cause__ or error
        if not status:
            why = str(cause) or f"connection lost ({type(cause).__name__})"
            return self._error(f"did not answer, asked {self._retries + 1} times at most: {why}. "
                               "Nothing was recorded; check the address and the network, then run again.")
        return self._error(f"answered {status}: {explain(error)}")


@dataclass(frozen=True, eq=False)
class _Held:
    """The client of one event loop and its pace, as long as somebody holds them."""

    client: object
    pace: Pace


async def _living(client, gone: asyncio.Event):
    async with client:
        await gone.wait()


def _tell(loop: asyncio.AbstractEventLoop, gone: asyncio.Event):
    with suppress(RuntimeError):  # the loop is closed, and the client with it
        loop.call_soon_threadsafe(gone.set)


def _is_web_address(url: str) -> bool:
    try:
        parts = urlsplit(url)
        return bool(re.fullmatch(r"https?://\S+", url) and parts.hostname and parts.port != 0 and "@" not in parts.netloc)
    except ValueError:  # a port that is none
        return False


def _text(said) -> str:
    """What came as text, without halves of characters, which no file could hold."""
    return str(said).encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def _patient(pace: Pace, budget: Budget, retries: int, timeout: float, transport, sent: weakref.WeakSet):
    """The openai client's own HTTP client on aiohttp, which is the quicker one.

    It is made to keep pace and budget, and to see three faults that the client's retries would miss or repeat in vain.
    """
    import httpx2
    import openai

    class Patient(openai.DefaultAioHttpClient):
        async def send(self, request, **options):
            again = int(request.headers.get("x-stainless-retry-count", 0))
            if again:
                slot = await pace.enter(_tokens(len(request.content)))
            else:
                slot = _slot.get()
                budget.start()
            sent.add(task := asyncio.current_task())
            paid = False
            try:
                response = await self._send(request, slot, options)
                paid = response.is_success
                slot.answered = response.status_code not in (429, 503)
                if not slot.answered:
                    wait = response.headers.get("retry-after", "")
                    slot.refused = float(wait) if re.fullmatch(r"\d{1,2}(\.\d+)?|1[01]\d|120", wait) else 0.0
                    if not wait and (soon := min(pace.seconds, 0.5) * 2**again if again else 0.001):
                        response.headers["retry-after-ms"] = f"{1000 * soon:.0f}"  # the pace waits, so the client need not wait as long
                    if pace.waves >= retries or "insufficient_quota" in response.text:
                        response.headers["x-should-retry"] = "false"
            finally:
                pace.leave(slot)
                if not paid:  # it may be tried again, unless nobody wants it any more
                    sent.discard(task)
            return response

        async def _send(self, request, slot, options):
            try:
                async with asyncio.timeout(timeout):  # its own limit is for each read: a body that drips outlives it
                    response = await super().send(request, **options)
            except TimeoutError:
                slot.late = True
                raise httpx2.ReadTimeout(f"no whole reply in {timeout:g} s") from None
            except httpx2.TooManyRedirects:  # not one of those that are tried again
                raise openai.OpenAIError("the address redirects in circles") from None
            if response.is_success and "json" in response.headers.get("content-type", ""):
                try:
                    usage = response.json().get("usage")
                    slot.used = float(usage["total_tokens"])
                except (AttributeError, KeyError, TypeError, OverflowError):
                    pass  # no usage
                except (ValueError, RecursionError) as error:  # a cut or garbled body: try again, as after a lost connection
                    raise httpx2.RemoteProtocolError(f"a reply in broken JSON ({error})") from None
            return response

    return Patient(transport=transport, verify=_certificates(), max_redirects=3,
                   timeout=httpx2.Timeout(timeout, connect=min(timeout, 20)),
                   limits=httpx2.Limits(max_connections=pace.in_flight, max_keepalive_connections=pace.in_flight))


@cache
def _certificates():
    """What https connections are checked with: read once, since that takes longer than the rest of a client."""
    import httpx2

    return httpx2.create_ssl_context()


def _tokens(letters: int) -> float:
    """About how many tokens a prompt has."""
    return letters / 4
