"""What an endpoint's response means: a reply, a failure that may pass, or one that lasts.

This is the one place where that is decided. `read` checks each response as it arrives, and `reply`
finds the chat completion in it. Both raise `Failure`, which says whether and when to try again, and
what to do about it.
"""

import json
import re
import ssl
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any

from ..cache.recording import parsed

if TYPE_CHECKING:
    import httpx2

BUSY = (429, 503, 529)  # the endpoint accepts fewer requests at one time, or fewer per minute
LONGEST_WAIT = 120.0  # seconds; an endpoint that asks for a longer wait is not waited for
LONGEST_BODY, LONGEST_ERROR = 2**26, 2**20  # bytes, unpacked: of a reply, and of an HTTP error
LOOKED_AT = 4000  # characters of an error; to search megabytes would stop the event loop

_PROMPT = r"context.?(length|window|size)|(prompt|input).{0,40}(too long|exceed)|too many .*tokens"
_SYSTEM = (
    r"system.{0,9}(role|message|prompt|instruction).{0,40}(support|allow|enabled)"
    r"|support.{0,20}system|roles must alternate|only user.{0,20}assistant|developer instruction"
)
_QUOTA = r"^402|insufficient_quota|^(403|429).*(current quota|billing|credit)"
_FILTER = r"^4.*(content.?(filter|policy|management)|ResponsibleAI|moderation)"
_MODEL = (
    r"^40[034].*(model.?not.?found|model\b.{0,60}\b(not|shut|deprecated|retired)"
    r"|\b(no|unknown|invalid|not have).{0,20}model)"
)
# With a wrong key LiteLLM's proxy answers 400 "No connected db".
_KEY = r"^40[13]|no_db_connection"
TOO_LONG = "The prompt is longer than the model's window: shorten it, or use another model."
NO_SYSTEM = "The model accepts no system message: LLM(…, system='user') puts it into the user's."
LIMIT = "The endpoint's limit is reached: lower in_flight, or check the account's limits."
# What to do about an HTTP error: the first pattern that its status, code, type and text match.
ADVICE = {
    rf"^(400|422|500).*({_PROMPT})|^413": TOO_LONG,
    rf"^(400|422|500).*({_SYSTEM})": NO_SYSTEM,
    _QUOTA: "The account's quota or credit is used up; waiting does not help: check the account.",
    _FILTER: "The endpoint's filter refused this prompt, not the model: leave the example out.",
    _MODEL: "The endpoint does not know this model, or it was shut down: use another, or replay.",
    r"^40[45]": "There is nothing at this address: base_url usually ends in /v1.",
    _KEY: "Check OPENAI_API_KEY and its permissions.",
    r"^4.*(temperature.*top_p|top_p.*temperature)": "Leave one out: params={'top_p': None}.",
    r"^(400|422)": "Leave out the refused field, as with params={'temperature': None}.",
    r"^429": LIMIT,
    r"": "The endpoint failed; run again later.",
}
CHECK_NETWORK = "Check the address and the network, then run again."
CHECK_SETTINGS = "Check base_url, and SSL_CERT_FILE, proxies and OPENAI_… in the environment."
CHECK_ADDRESS = "Is this an OpenAI-compatible address? base_url usually ends in /v1."
FEW_FILES = "Allow this process more open files (ulimit -n 4096), or lower in_flight."
# Statuses for the words with which gateways name errors that they send with status 200.
STATUSES = {
    r"rate.?limit|too.?many|exhausted|quota": 429,
    r"overload|unavailable|capacity": 503,
    r"time.?out|timed.?out": 408,
    r"server.?error|api.?error|internal|gateway|upstream|provider": 500,
}
# Other endpoints' words for the finish reasons "length" and "content_filter": MAX_TOKENS,
# model_length, SAFETY, guardrail_intervened…
_CUT = re.compile(r"length|max.*tokens|token.?limit|context.?window", re.IGNORECASE)
_FILTERED = re.compile(
    r"filter|safety|recitation|prohibited|block|spii|guardrail|sensitive|moderat", re.IGNORECASE
)
_DURATION = r"(\d+(?:\.\d+)?)\s?(milli|ms|h|m|s|)[a-z]*"
_WAIT = re.compile(  # "try again in 1m2.5s", "retry after 20 seconds", "retryDelay": "20s"
    rf"(?:try(?: again)?|retry)[ _-]?(?:in|after|delay)\w*\W+((?:{_DURATION}(?:,|and|\s)*)+)",
    re.IGNORECASE,
)
_SECONDS = {"milli": 0.001, "ms": 0.001, "s": 1.0, "": 1.0, "m": 60.0, "h": 3600.0}


@dataclass(eq=False)
class Failure(Exception):
    """A try that got no reply.

    Attributes
    ----------
    event : str
        What happened, as the second half of a sentence that begins with the model.
    text : str
        What the endpoint or the network says about it.
    advice : str
        What to do about it.
    status : int, optional
        The HTTP status, where there was a response.
    request_id : str, optional
        The endpoint's name for the request.
    retry : bool
        Whether trying again may help.
    wait : float
        Seconds to wait first, if the endpoint asks for it; else 0.
    usage : dict, optional
        Tokens, as of a reply, if the endpoint worked on the request.
    body : optional
        The JSON of an HTTP error, as `storable` gives it.
    """

    event: str
    text: str
    advice: str
    status: int | None = None
    request_id: str | None = None
    retry: bool = False
    wait: float = 0.0
    usage: dict[str, int] | None = None
    body: Any = None


async def read(response: "httpx2.Response") -> None:
    """Read the body of a response; of an error, only the beginning.

    Raises
    ------
    Failure
        The body is too long, or the response is a redirect that is not followed, since it leads to
        another server, or loses the request's content, as 301 to 303 do.
    """
    if response.has_redirect_location:
        here, there = response.request.url, response.request.url.join(response.headers["location"])
        same_origin = (here.scheme, here.netloc) == (there.scheme, there.netloc)
        if response.status_code not in (307, 308) or not same_origin:
            target = f"{there.scheme}://{there.netloc.decode()}{there.path}"
            text = f"a redirect ({response.status_code}) to {target}, which is not followed"
            advice = "Is base_url right? If that is the endpoint, set base_url to it."
            raise _failure(response, "answered", text, advice)
    body = bytearray()
    async for part in response.aiter_bytes():
        body += part
        if len(body) > LONGEST_BODY and response.is_success:
            text = f"its response has more than {LONGEST_BODY >> 20} MiB"
            raise _failure(response, "sent too much", text, CHECK_ADDRESS)
        if len(body) > LONGEST_ERROR and not response.is_success:
            await response.aclose()
            break
    response._content = bytes(body)  # as `aread` does, which has no limit


def reply(response: "httpx2.Response", model: str, whole: bool = False) -> dict:
    """The reply in a response, as recordings hold it.

    Parameters
    ----------
    response : httpx2.Response
    model : str
        The model's name, for endpoints that do not repeat it.
    whole : bool
        Whether the whole completion is kept too, as `storable` gives it.

    Returns
    -------
    dict
        text, finish_reason, usage, fingerprint, refusal (if the model refused), and model as the
        endpoint names it, so that a reply of another model stays visible.

    Raises
    ------
    Failure
        It is an HTTP error, or not a chat completion.
    """
    data = parsed(response.content)
    if not response.is_success or _error_in(data):
        raise _http_error(response, data)
    try:
        choice = data["choices"][0]
        message = choice["message"]
        content = message.get("content")
        if isinstance(content, list):  # in parts, some of which may be thoughts
            content = "".join(part["text"] for part in content if part.get("type") == "text")
        refusal, fingerprint = message.get("refusal"), data.get("system_fingerprint")
    except (TypeError, LookupError, AttributeError):
        raise _not_a_reply(response, data) from None
    if not isinstance(content, str | None):
        raise _not_a_reply(response, data)
    result = {
        "text": valid(content or ""),
        "finish_reason": "refusal" if refusal else finish_reason(choice.get("finish_reason")),
        "model": valid(data.get("model") or model),
        "fingerprint": valid(fingerprint) if fingerprint else None,
        "usage": usage(data),
    }
    if refusal:
        result["refusal"] = valid(refusal)
    if whole:
        result["completion"] = storable(data)
    return result


def storable(data: Any) -> Any:
    """JSON data as a file can hold it: without lone surrogates, and with null in place of NaN."""
    text = json.dumps(data, ensure_ascii=False)
    return json.loads(valid(text), parse_constant=lambda _: None)


def finish_reason(reason: object) -> str:
    """Why a reply ended, by OpenAI's name for it if there is one."""
    text = valid(reason or "stop")
    if _CUT.search(text[:100]):
        return "length"
    return "content_filter" if _FILTERED.search(text[:100]) else text


def usage(data: Any) -> dict[str, int]:
    """The numbers of tokens that a response reports, without those that make no sense."""
    counts = {}
    for name in ("prompt_tokens", "completion_tokens"):
        with suppress(TypeError, LookupError, AttributeError):
            number = data["usage"][name]
            if type(number) is not bool and 0 <= number < 2**53 and number == int(number):
                counts[name] = int(number)
    return counts


def wait_asked_for(headers: Mapping[str, str], text: str = "") -> float:
    """The seconds that a response asks to wait, by Retry-After (a number or a date), the same in
    milliseconds, or else the words of its body; 0 if it does not ask."""
    for name, unit in (("retry-after-ms", 0.001), ("retry-after", 1.0)):
        if re.fullmatch(r"\d{1,9}(\.\d+)?", headers.get(name, "")):
            return float(headers[name]) * unit
    with suppress(ValueError, OverflowError):  # not a date either
        date = parsedate_to_datetime(headers.get("retry-after", ""))
        return max(date.timestamp() - time.time(), 0.0)
    durations = re.findall(_DURATION, wait[1].lower()) if (wait := _WAIT.search(text)) else []
    return sum(float(number) * _SECONDS[unit] for number, unit in durations)


def valid(value: object) -> str:
    """A value as text, without lone surrogates, which no file can hold."""
    text = str(value)
    if text.isascii():
        return text
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def no_response(error: BaseException) -> Failure:
    """The failure of a try that got no response; the first cause has the words that help."""
    first = error
    while first.__cause__ is not None:
        first = first.__cause__
    text = str(first) or f"connection lost ({type(first).__name__})"
    if isinstance(first, Failure):  # of `read`
        return first
    if "Too many open files" in f"{first} {error}":
        return Failure("cannot be called", text, FEW_FILES, retry=True)
    if type(first).__name__ == "TooManyRedirects":
        return Failure("did not answer", "the address redirects in circles", CHECK_NETWORK)
    wrong_setting = isinstance(error, OSError | ValueError) or type(error).__name__ == "InvalidURL"
    if wrong_setting and not isinstance(error, TimeoutError):
        return Failure("cannot be called", str(error), CHECK_SETTINGS)
    retry = not isinstance(first, ssl.SSLCertVerificationError)
    return Failure("did not answer", text, CHECK_NETWORK, retry=retry)


def _error_in(data: Any) -> Any:
    """The error in the JSON of a response, wherever endpoints and gateways put it, or None."""
    data = data[0] if isinstance(data, list) and data else data
    error = data.get("error") if isinstance(data, dict) else None
    with suppress(TypeError, LookupError, AttributeError):
        choice = data["choices"][0]
        failed = choice.get("finish_reason") == "error"
        error = error or choice.get("error") or (failed and {"code": 502, "message": "it failed"})
    return error or None


def _http_error(response: "httpx2.Response", data: Any) -> Failure:
    """The failure for an HTTP error, or for an error that a gateway sends with status 200."""
    status, text = response.status_code, _text(response)
    error = _error_in(data) or data
    fields = error if isinstance(error, dict) else {"code": error, "message": error}
    kind = " ".join(str(fields.get(name) or "")[:100] for name in ("code", "type", "status"))
    message = fields.get("message") or fields.get("detail")
    message = message[:LOOKED_AT] if isinstance(message, str) else text
    if response.is_success and not (status := _status(kind)):
        return _not_a_reply(response, data)
    retry = status in (408, 409, 429) or status >= 500
    wait = wait_asked_for(response.headers, text if retry else "")
    words = f"{status} {kind} {message}"
    flags = re.IGNORECASE | re.DOTALL
    advice = next(advice for pattern, advice in ADVICE.items() if re.search(pattern, words, flags))
    if status == 429 and wait:  # whatever it says about quota and billing
        advice = LIMIT
    elif "insufficient_quota" in words or advice == NO_SYSTEM:
        retry = False
    if wait > LONGEST_WAIT:
        retry, advice = False, f"{advice} It asks to wait {wait:.0f} s."
    if response.headers.get("x-should-retry") == "false":
        retry = False
    event = f"answered {status}" + (" inside a reply" if response.is_success else "")
    more = {"status": status, "retry": retry, "wait": wait, "body": storable(data)}
    return _failure(response, event, message, advice, **more)


def _status(kind: str) -> int | None:
    """The HTTP status that an error's code or type stands for."""
    if number := re.search(r"\b[45]\d\d\b", kind):
        return int(number[0])
    named = [status for name, status in STATUSES.items() if re.search(name, kind, re.IGNORECASE)]
    return named[0] if named else None


def _not_a_reply(response: "httpx2.Response", data: Any) -> Failure:
    text, status = _text(response), response.status_code
    if data is None and text.lstrip()[:1] in "{[":  # cut or garbled, as by a lost connection
        event = f"sent {'broken JSON' if text else 'an empty body'} in place of JSON"
        advice = f"{CHECK_ADDRESS} Then run again."
        return _failure(response, event, text or f"status {status}", advice, retry=status == 200)
    event = f"sent something that is not a chat reply (status {status})"
    advice = f"{CHECK_ADDRESS} A web page may come from a login or a proxy."
    return _failure(response, event, text, advice, usage=usage(data) if data else None)


def _failure(response: "httpx2.Response", event: str, text: str, advice: str, **more) -> Failure:
    request_id = response.headers.get("x-request-id")
    fields = {"status": response.status_code, "request_id": request_id, **more}
    return Failure(event, text, advice, **fields)


def _text(response: "httpx2.Response") -> str:
    """The beginning of a body."""
    return response.content[:LOOKED_AT].decode(errors="replace")
