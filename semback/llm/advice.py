"""What to do about an HTTP error of an endpoint, in words."""

import re

_ADVICE = {  # what to do about an HTTP error: the first whose pattern is found in its status, code, type and message
    r"^(400|413|422|500).*(context.?(length|window|size)|(prompt|input).{0,40}(too long|exceed)|too many (input )?tokens)": "The prompt is longer than the model's window: shorten instructions or examples, or take a model with a larger window.",
    r"^402|insufficient_quota|^(403|429).*(current quota|billing|credit)": "The account's quota or money is used up, and waiting does not help: see to the account, then run again.",
    r"^4.*(content.?(filter|policy|management)|ResponsibleAI|moderation)": "The endpoint's filter refused this prompt, not the model: leave the example out, or ask another endpoint.",
    r"^40[034].*(model.?not.?found|model\b.{0,60}\b(not|shut|deprecated|retired)|\b(no|unknown|invalid|not have).{0,20}model)": "The endpoint does not know this model (it may have been shut down), or the key may not use it. Take another, or replay.",
    r"^40[45]": "There is nothing at this address: base_url usually ends in /v1.",
    r"^40[13]|no_db_connection": "Check OPENAI_API_KEY, and what it may be used for.",  # LiteLLM's proxy says 400 to a wrong key
    r"^(400|422)": "If it names a field that the model refuses, take it out with params, as in params={'temperature': None}.",
    r"^413": "The request is too long for the endpoint.",
    r"^429": "The endpoint's limit is reached: lower in_flight, or look at the account's limits.",
    "": "The endpoint failed; run again later.",
}


def explain(error) -> str:
    """What an HTTP error says, the request's id, and what to do."""
    body = error.body if isinstance(error.body, dict) else {}
    said = str(body.get("message") or body.get("detail") or error.body or error.message)
    words, wait = (
        f"{error.status_code} {error.code} {error.type} {said}",
        error.response.headers.get("retry-after"),
    )
    advice = next(
        advice
        for pattern, advice in _ADVICE.items()
        if re.search(pattern, words, re.IGNORECASE | re.DOTALL)
    )
    return f"{said[:500]} (request {error.request_id or 'without id'}). {advice}" + (
        f" It asks to wait {wait} s." if wait else ""
    )
