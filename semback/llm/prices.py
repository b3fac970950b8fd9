"""What calls cost, in US dollars, from genai-prices."""

from datetime import UTC, datetime

from ..usage import SIMULATED, Usage

PRICED = datetime(
    2026, 11, 1, 12, tzinfo=UTC
)  # when what is recorded is priced: some models are cheaper at night, and prices change


def tokens(letters: int) -> int:
    """About how many tokens a text has."""
    return round(letters / 4)


def count(said) -> int | None:
    """A number of tokens, as an endpoint tells it; None where it is none."""
    whole = type(said) in (int, float) and 0 <= said < 2**53 and said == int(said)
    return int(said) if whole else None


def price(
    model: str,
    prompt_tokens: int,
    completion_tokens: int,
    calls: int = 1,
    when: datetime | None = None,
) -> float | None:
    """US dollars for so many tokens in so many calls, from genai-prices; None where it does not know the model.

    All calls are priced like the average one, since some models ask more for the tokens of a long call. Simulated models are free.
    when: of the calls; without it, now.
    """
    if model.startswith(SIMULATED) or not calls:
        return 0.0
    from genai_prices import Usage, calc_price

    average = Usage(
        input_tokens=round(prompt_tokens / calls), output_tokens=round(completion_tokens / calls)
    )
    try:
        return (
            float(calc_price(average, model_ref=model, genai_request_timestamp=when).total_price)
            * calls
        )
    except LookupError:
        return None


def priced_rows(usage: Usage) -> list[dict]:
    """The rows of a usage with `cost`, of all its tokens, and `live_cost`, of those of live calls.

    Prices are those of a fixed time (`PRICED`), so that a rerun gives the same record.
    """
    rows = []
    for row, c in zip(usage.rows(), (count for _, count in sorted(usage.counts.items()))):
        cost = {"cost": None, "live_cost": None}
        if not (c.uncounted and price(row["model"], 1, 1)):
            cost = {
                "cost": price(
                    row["model"], c.prompt_tokens, c.completion_tokens, c.live + c.recorded, PRICED
                ),
                "live_cost": price(
                    row["model"], c.live_prompt_tokens, c.live_completion_tokens, c.live, PRICED
                ),
            }
        rows.append({**row, **cost})
    return rows
