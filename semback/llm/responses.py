"""What a response of an endpoint means: a reply, a failure that may pass, or one that stays.

This is the one place where that is decided. `body` checks the HTTP response and `reply` the chat
completion in it. Both raise `Failure`, which says whether to try again and when, and what to do.
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

if TYPE_CHECKING:
    import httpx2

BUSY = (429, 503)  # the endpoint takes fewer requests at one time, or fewer a minute
LONGEST_WAIT = 120.0  # seconds that are waited where the endpoint asks for it

_PROMPT = r"context.?(length|window|size)|(prompt|input).{0,40}(too long|exceed)|too many .*tokens"
_QUOTA = r"^402|insufficient_quota|^(403|429).*(current quota|billing|credit)"
_FILTER = r"^4.*(content.?(filter|policy|management)|ResponsibleAI|moderation)"
_MODEL = (
    r"^40[034].*(model.?not.?found|model\b.{0,60}\b(not|shut|deprecated|retired)"
    r"|\b(no|unknown|invalid|not have).{0,20}model)"
)
# With a wrong key LiteLLM's proxy answers 400 "No connected db".
_KEY = r"^40[13]|no_db_connection"
TOO_LONG = "The prompt is longer than the model's window: shorten it, or take another model."
# What to do about an HTTP error: the first pattern that its status, code, type and text match.
ADVICE = {
    rf"^(400|422|500).*({_PROMPT})|^413": TOO_LONG,
    _QUOTA: "The account's quota or money is used up; waiting does not help: look at the account.",
    _FILTER: "The endpoint's filter refused this prompt, not the model: leave the example out.",
    _MODEL: "The endpoint does not know this model, or it was shut down: take another, or replay.",
    r"^40[45]": "There is nothing at this address: base_url usually ends in /v1.",
    _KEY: "Check OPENAI_API_KEY, and what it may be used for.",
    r"^(400|422)": "Take out a field that is refused, as with params={'temperature': None}.",
    r"^429": "The endpoint's limit is reached: lower in_flight, or look at the account's limits.",
    r"": "The endpoint failed; run again later.",
}
CHECK_NETWORK = "Nothing was recorded; check the address and the network, then run again."
CHECK_SETTINGS = "Look at base_url, and at SSL_CERT_FILE, proxies and OPENAI_… in the environment."


@dataclass(eq=False)
class Failure(Exception):
    """A try that brought no reply.

    Attributes
    ----------
    event : str
        What happened, as the second half of a sentence that begins with the model.
    text : str
        What the endpoint or the network says of it.
    advice : str
        What to do about it.
    status : int, optional
        The HTTP status, where there was a response.
    request_id : str, optional
        The endpoint's name for the request.
    retry : bool
        Whether trying again may help.
    wait : float
        Seconds to wait before that, as the endpoint asks; 0 where it does not.
    """

    event: str
    text: str
    advice: str
    status: int | None = None
    request_id: str | None = None
    retry: bool = False
    wait: float = 0.0


def body(response: "httpx2.Response") -> Any:
    """The JSON of a successful response. Failure: it is an HTTP error, or no JSON."""
    if not response.is_success:
        raise _http_error(response)
    kind = response.headers.get("content-type", "").lower()
    if "json" not in kind and not response.content.startswith(b"{"):
        raise _not_a_reply(response, response.text)
    try:
        return json.loads(response.content)
    except (ValueError, RecursionError) as error:  # cut or garbled, as after a lost connection
        raise Failure("sent broken JSON", str(error), CHECK_NETWORK, retry=True) from None


def reply(data: Any, model: str, response: "httpx2.Response") -> dict:
    """The reply in a chat completion, as recordings hold it.

    Parameters
    ----------
    data : object
        The JSON of the response.
    model : str
        The model's name, for endpoints that do not repeat it.
    response : httpx2.Response

    Returns
    -------
    dict
        text, finish_reason, usage, fingerprint, refusal (where the model refused), and model as the
        endpoint names it: a reply of another model stays visible.

    Raises
    ------
    Failure
        It is not a chat completion.
    """
    try:
        choice = data["choices"][0]
        message = choice["message"]
        problem = data.get("error") or choice.get("error")  # some gateways send errors with 200
        content = _joined(message.get("content"))
        refusal, fingerprint = message.get("refusal"), data.get("system_fingerprint")
    except (TypeError, LookupError, AttributeError):
        problem = (isinstance(data, dict) and data.get("error")) or data
        raise _not_a_reply(response, problem) from None
    if problem or not isinstance(content, str | None):
        raise _not_a_reply(response, problem or data)
    result = {
        "text": valid(content or ""),
        "finish_reason": "refusal" if refusal else valid(choice.get("finish_reason") or "stop"),
        "model": valid(data.get("model") or model),
        "fingerprint": valid(fingerprint) if fingerprint else None,
        "usage": usage(data),
    }
    return result | ({"refusal": valid(refusal)} if refusal else {})


def usage(data: Any) -> dict[str, int]:
    """The numbers of tokens that a response reports, as far as they are numbers."""
    counts = {}
    for name in ("prompt_tokens", "completion_tokens"):
        with suppress(TypeError, LookupError, AttributeError):
            number = data["usage"][name]
            if type(number) is not bool and 0 <= number < 2**53 and number == int(number):
                counts[name] = int(number)
    return counts


def wait_asked_for(headers: Mapping[str, str]) -> float:
    """The seconds that a response asks to wait, by Retry-After (a number or a date) or by its
    milliseconds; 0 where it asks for none."""
    for name, unit in (("retry-after-ms", 0.001), ("retry-after", 1.0)):
        if re.fullmatch(r"\d{1,9}(\.\d+)?", headers.get(name, "")):
            return float(headers[name]) * unit
    try:
        date = parsedate_to_datetime(headers.get("retry-after", ""))
        return max(date.timestamp() - time.time(), 0.0)
    except (ValueError, OverflowError):  # no date either
        return 0.0


def valid(value: object) -> str:
    """As text without halves of surrogate pairs, which no file could hold."""
    text = str(value)
    if text.isascii():
        return text
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def no_response(error: BaseException) -> Failure:
    """The failure of a try that got no response; its first cause has the words that help."""
    wrong_setting = isinstance(error, OSError | ValueError) or type(error).__name__ == "InvalidURL"
    if wrong_setting and not isinstance(error, TimeoutError):
        return Failure("cannot be asked", str(error), CHECK_SETTINGS)
    while error.__cause__ is not None:
        error = error.__cause__
        if type(error).__name__ == "TooManyRedirects":
            return Failure("did not answer", "the address redirects in circles", CHECK_NETWORK)
    text = str(error) or f"connection lost ({type(error).__name__})"
    retry = not isinstance(error, ssl.SSLCertVerificationError)
    return Failure("did not answer", text, CHECK_NETWORK, retry=retry)


def _http_error(response: "httpx2.Response") -> Failure:
    status, text, kind = response.status_code, response.text, ""
    with suppress(ValueError, AttributeError, RecursionError):  # not an error as OpenAI sends it
        error = json.loads(text)
        error = error.get("error") or error
        text = str(error)
        kind = f"{error.get('code')} {error.get('type')}"
        text = str(error.get("message") or error.get("detail") or text)
    words = f"{status} {kind} {text}"
    flags = re.IGNORECASE | re.DOTALL
    advice = next(advice for pattern, advice in ADVICE.items() if re.search(pattern, words, flags))
    retry = status in (408, 409, 429) or status >= 500
    wait = wait_asked_for(response.headers)
    if wait > LONGEST_WAIT:
        retry, advice = False, f"{advice} It asks to wait {wait:.0f} s."
    if "insufficient_quota" in words or response.headers.get("x-should-retry") == "false":
        retry = False
    request_id = response.headers.get("x-request-id")
    return Failure(f"answered {status}", text, advice, status, request_id, retry, wait)


def _not_a_reply(response: "httpx2.Response", content: object) -> Failure:
    event = f"sent something that is not a chat reply (status {response.status_code})"
    advice = "Is this an OpenAI-compatible address?"
    request_id = response.headers.get("x-request-id")
    return Failure(event, repr(content), advice, response.status_code, request_id)


def _joined(content: Any) -> Any:
    """A message's content; the texts of one that comes in parts, as some endpoints send it."""
    if not isinstance(content, list):
        return content
    texts = [part["text"] for part in content if part.get("type") == "text"]
    return "".join(texts) if texts else content
