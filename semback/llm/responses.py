"""What an HTTP response of an endpoint means: a reply, a failure that may pass, or one that stays.

This is the one place where responses are classified. `body` checks the response itself, `reply` the
chat completion in it; both raise `Failure`, which says whether to try again and when.
"""

import json
import re
import ssl
import time
from collections.abc import Mapping
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import httpx2

BUSY = (429, 503)  # the endpoint takes fewer requests at one time, or fewer a minute
LONGEST_WAIT = 120.0  # seconds that are waited where an endpoint asks for it, as the openai client

TOO_LONG = (
    "The prompt is longer than the model's context window: shorten instructions or examples, or "
    "take a model with a larger window."
)
# What to do about an HTTP error: the first pattern that is found in its status, code, type and text.
ADVICE = (
    (
        r"^(400|413|422|500).*(context.?(length|window|size)"
        r"|(prompt|input).{0,40}(too long|exceed)|too many (input )?tokens)",
        TOO_LONG,
    ),
    (
        r"^402|insufficient_quota|^(403|429).*(current quota|billing|credit)",
        "The account's quota or money is used up, and waiting does not help: look at the account, "
        "then run again.",
    ),
    (
        r"^4.*(content.?(filter|policy|management)|ResponsibleAI|moderation)",
        "The endpoint's filter refused this prompt, not the model: leave the example out, or take "
        "another endpoint.",
    ),
    (
        r"^40[034].*(model.?not.?found|model\b.{0,60}\b(not|shut|deprecated|retired)"
        r"|\b(no|unknown|invalid|not have).{0,20}model)",
        "The endpoint does not know this model (it may have been shut down), or the key may not "
        "use it. Take another model, or replay.",
    ),
    (r"^40[45]", "There is nothing at this address: base_url usually ends in /v1."),
    # LiteLLM's proxy answers 400 "No connected db" to a wrong key.
    (r"^40[13]|no_db_connection", "Check OPENAI_API_KEY, and what it may be used for."),
    (
        r"^(400|422)",
        "If it names a field that the model does not accept, take that out with params, as in "
        "params={'temperature': None}.",
    ),
    (r"^413", "The request is too long for the endpoint."),
    (
        r"^429",
        "The endpoint's limit is reached: lower in_flight, or look at the account's limits.",
    ),
    (r"", "The endpoint failed; run again later."),
)


class Failure(Exception):
    """A try that brought no reply.

    Parameters
    ----------
    event : str
        What happened, as the second half of a sentence that begins with the model.
    text : str
        What the endpoint or the network says of it, whole.
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

    def __init__(
        self,
        event: str,
        text: str,
        advice: str,
        *,
        status: int | None = None,
        request_id: str | None = None,
        retry: bool = False,
        wait: float = 0.0,
    ):
        super().__init__(event)
        self.event, self.text, self.advice = event, text, advice
        self.status, self.request_id = status, request_id
        self.retry, self.wait = retry, wait


def body(response: "httpx2.Response") -> Any:
    """The JSON of a successful response.

    Raises
    ------
    Failure
        The response is an error, or no JSON.
    """
    if not response.is_success:
        raise _http_error(response)
    content = response.content
    kind = response.headers.get("content-type", "").lower()
    if "json" not in kind and not content.startswith(b"{"):
        raise _not_a_reply(response, response.text)
    try:
        return json.loads(content)
    except (ValueError, RecursionError) as error:  # cut or garbled, as after a lost connection
        raise Failure(
            "sent a reply in broken JSON",
            str(error),
            "The endpoint, or a proxy before it, failed; run again later.",
            status=response.status_code,
            request_id=response.headers.get("x-request-id"),
            retry=True,
        ) from None


def reply(data: Any, model: str, response: "httpx2.Response") -> dict:
    """The reply in a chat completion, as recordings hold it.

    Parameters
    ----------
    data : object
        The JSON of the response.
    model : str
        The model's name, for endpoints that do not repeat it.
    response : httpx2.Response
        For the errors.

    Returns
    -------
    dict
        text, finish_reason, model (as the endpoint names it: a reply of another model stays
        visible), usage, fingerprint, and refusal where the model refused.

    Raises
    ------
    Failure
        There is no reply in it.
    """
    data = data if isinstance(data, dict) else {"body": data}
    choices = data.get("choices")
    choice = choices[0] if isinstance(choices, list) and choices else None
    choice = choice if isinstance(choice, dict) else {}
    problem = data.get("error") or choice.get("error")  # some gateways report errors with 200
    message = choice.get("message")
    if problem or not isinstance(message, dict):
        raise _not_a_reply(response, problem or data)
    content = _joined(message.get("content"))
    if not isinstance(content, str | None):
        raise _not_a_reply(response, data)
    refusal = message.get("refusal")
    fingerprint = data.get("system_fingerprint")
    finish_reason = "refusal" if refusal else choice.get("finish_reason") or "stop"
    result = {
        "text": valid(content or ""),
        "finish_reason": valid(finish_reason),
        "model": valid(data.get("model") or model),
        "fingerprint": valid(fingerprint) if fingerprint else None,
        "usage": usage(data),
    }
    if refusal:
        result["refusal"] = valid(refusal)
    return result


def usage(data: Any) -> dict[str, int]:
    """The numbers of tokens that a response reports, as far as they are numbers."""
    reported = data.get("usage") if isinstance(data, dict) else None
    counts = {}
    if isinstance(reported, dict):
        for name in ("prompt_tokens", "completion_tokens"):
            number = reported.get(name)
            if type(number) in (int, float) and 0 <= number < 2**53 and number == int(number):
                counts[name] = int(number)
    return counts


def wait_asked_for(headers: Mapping[str, str]) -> float:
    """The seconds that a response asks to wait: Retry-After as a number or a date, or its
    milliseconds; 0 where it asks for none."""
    milliseconds = _number(headers.get("retry-after-ms", ""))
    if milliseconds is not None:
        return milliseconds / 1000
    text = headers.get("retry-after", "")
    seconds = _number(text)
    if seconds is not None:
        return seconds
    try:
        return max(parsedate_to_datetime(text).timestamp() - time.time(), 0.0)
    except (ValueError, OverflowError):  # no date either
        return 0.0


def valid(value: object) -> str:
    """As text without halves of surrogate pairs, which no file could hold."""
    text = str(value)
    if text.isascii():
        return text
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def no_response(text: str, retry: bool = True) -> Failure:
    """The failure of a try that no response came back to."""
    advice = "Nothing was recorded; check the address and the network, then run again."
    return Failure("did not answer", text, advice, retry=retry)


def connection_failure(error: BaseException) -> Failure:
    """The failure of a connection; the first cause has the words that help."""
    while error.__cause__ is not None:
        if type(error.__cause__).__name__ == "TooManyRedirects":
            return no_response("the address redirects in circles", retry=False)
        error = error.__cause__
    text = str(error) or f"connection lost ({type(error).__name__})"
    return no_response(text, retry=not isinstance(error, ssl.SSLCertVerificationError))


def cannot_ask(reason: object) -> Failure:
    """The failure of a request that cannot be made at all, since a setting is wrong."""
    advice = (
        "Look at base_url, and at what SSL_CERT_FILE, the proxies and OPENAI_… are set to in the "
        "environment."
    )
    return Failure("cannot be asked", str(reason), advice)


def _not_a_reply(response: "httpx2.Response", content: object) -> Failure:
    return Failure(
        f"sent something that is not a chat reply (status {response.status_code})",
        repr(content),
        "Is this an OpenAI-compatible address?",
        status=response.status_code,
        request_id=response.headers.get("x-request-id"),
    )


def _http_error(response: "httpx2.Response") -> Failure:
    """What an HTTP error says, whether it may pass, and what to do about it."""
    status, headers = response.status_code, response.headers
    text = response.text
    try:
        error = response.json()
    except (ValueError, RecursionError):
        error = text
    if isinstance(error, dict):
        error = error.get("error") or error
    kind = ""
    if isinstance(error, dict):
        kind = f"{error.get('code')} {error.get('type')}"
        text = str(error.get("message") or error.get("detail") or error)
    elif error:
        text = str(error)
    words = f"{status} {kind} {text}"
    advice = next(
        advice for pattern, advice in ADVICE if re.search(pattern, words, re.IGNORECASE | re.DOTALL)
    )
    retry = status in (408, 409, 429) or status >= 500
    if headers.get("x-should-retry") == "false" or "insufficient_quota" in words:
        retry = False
    wait = wait_asked_for(headers)
    if wait > LONGEST_WAIT:
        retry = False
        advice = f"{advice} It asks to wait {wait:.0f} s."
    return Failure(
        f"answered {status}",
        text,
        advice,
        status=status,
        request_id=headers.get("x-request-id"),
        retry=retry,
        wait=wait,
    )


def _joined(content: Any) -> Any:
    """A message's content; the texts of one that comes in parts, as some endpoints send it."""
    if not isinstance(content, list) or not all(isinstance(part, dict) for part in content):
        return content
    texts = [part.get("text") for part in content if part.get("type") == "text"]
    if not texts or not all(isinstance(text, str) for text in texts):
        return content
    return "".join(texts)


def _number(text: str) -> float | None:
    return float(text) if re.fullmatch(r"\d{1,9}(\.\d+)?", text) else None
