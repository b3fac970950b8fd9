"""What calls cost, in US dollars, from genai-prices, and how many tokens a text has, roughly."""

from datetime import UTC, datetime

from ..usage import SIMULATED, Usage

# When recorded calls are priced: some models are cheaper at night, and prices change.
PRICED = datetime(2026, 11, 1, 12, tzinfo=UTC)
CHARACTERS_PER_TOKEN = 4  # of English text, as OpenAI's documentation has it


def estimated_tokens(text: str) -> int:
    """About how many tokens a text has."""
    return round(len(text) / CHARACTERS_PER_TOKEN)


def price(
    model: str,
    prompt_tokens: int,
    completion_tokens: int,
    calls: int = 1,
    when: datetime | None = None,
) -> float | None:
    """What so many tokens cost.

    Parameters
    ----------
    model : str
        Simulated models are free.
    prompt_tokens, completion_tokens : int
        Of all calls together.
    calls : int
        All are priced like their mean, since some models charge more for the tokens of long calls.
    when : datetime, optional
        The time of the calls; now, if it is not given.

    Returns
    -------
    float or None
        US dollars; None where genai-prices does not know the model.
    """
    if model.startswith(SIMULATED) or not calls:
        return 0.0
    from genai_prices import Usage, calc_price

    prompt, completion = round(prompt_tokens / calls), round(completion_tokens / calls)
    mean = Usage(input_tokens=prompt, output_tokens=completion)
    try:
        priced = calc_price(mean, model_ref=model, genai_request_timestamp=when)
    except LookupError:
        return None
    return float(priced.total_price) * calls


def priced_rows(usage: Usage) -> list[dict]:
    """The rows of a usage with `cost`, of all its tokens, and `live_cost`, of those of live calls.

    Both are US dollars, or None where the price or a number of tokens is unknown. Prices are those
    of a fixed time, so that a rerun gives the same record.
    """
    rows = []
    for row in usage.rows():
        model, calls = row["model"], row["live"] + row["recorded"]
        cost = live_cost = None
        if not row["uncounted"] or price(model, 1, 1) == 0:
            prompt, completion = row["live_prompt_tokens"], row["live_completion_tokens"]
            live_cost = price(model, prompt, completion, row["live"], PRICED)
            cost = price(model, row["prompt_tokens"], row["completion_tokens"], calls, PRICED)
        rows.append({**row, "cost": cost, "live_cost": live_cost})
    return rows
