"""The prices of calls, and budgets, which models and the notebooks of a batch can share.

Prices are in US dollars, from genai-prices. Only requests that are sent count towards a budget;
recorded replies cost nothing.
"""

import os
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from typing import Any

from .. import progress
from ..errors import BudgetExceeded, CacheError, ParameterError
from ..usage import SIMULATED, Usage

# When recorded calls are priced: some models are cheaper at night, and prices change.
PRICED = datetime(2026, 11, 1, 12, tzinfo=UTC)
CHARACTERS_PER_TOKEN = 4  # in English text, according to OpenAI's documentation
LIMITED = ("dollars", "tokens", "calls")


@dataclass
class Budget:
    """The most that all models that are given this object may spend together.

    Parameters
    ----------
    dollars : float, optional
        US dollars; only for models whose price is known.
    tokens : int, optional
        Tokens of prompts and replies together.
    calls : int, optional
        Requests; a retry does not count as another one.
    batch : bool
        Whether all notebooks of a batch share one account (see `batch.run`), which also keeps the
        limits per minute.

    Raises
    ------
    ParameterError
        A limit is not a number above 0.

    Notes
    -----
    Once a limit is reached nothing more is sent, not even a retry, and BudgetExceeded is raised.
    Replies in flight at that moment are still recorded and counted, so tokens and dollars may
    exceed their limit by that much. Tokens that an endpoint does not report are estimated.
    `spent` and `str(budget)` tell what was used.
    """

    dollars: float | None = None
    tokens: int | None = None
    calls: int | None = None
    batch: bool = False

    def __post_init__(self):
        for name in LIMITED:
            limit = getattr(self, name)
            if limit is not None and (type(limit) not in (int, float) or not limit > 0):
                raise ParameterError(f"the budget's {name} is {limit!r}; it takes a number above 0")
        # Numbers by name; in a batch a diskcache.Cache, which processes share.
        self._account: Any = {}
        self._transaction: Any = nullcontext
        if self.batch and (folder := os.environ.get("SEMBACK_BATCH")):
            from diskcache import Cache

            self._account = Cache(folder)
            self._transaction = partial(self._account.transact, retry=True)

    def check_price(self, model: str) -> None:
        """Raise ParameterError for a limit in dollars with a model whose price is unknown."""
        if self.dollars is not None and price(model, 1, 1) is None:
            raise ParameterError(
                f"the price of {model} is not known, so there can be no budget in dollars; use one "
                "in tokens or calls, as in Budget(calls=500)"
            )

    def start(self, retry: bool = False) -> None:
        """Count a request that is about to be sent.

        Raises
        ------
        BudgetExceeded
            A limit is reached, so the request must not be sent.
        CacheError
            The account of the batch cannot be read or written.
        """
        with self.shared() as account:
            for name in LIMITED:
                limit, spent = getattr(self, name), account.get(name, 0)
                counted = not (retry and name == "calls")
                if counted and limit is not None and spent >= limit:
                    raise BudgetExceeded(
                        f"the budget of {limit:,} {name} is spent ({self}). The replies received "
                        "so far are in the cache: run again with a larger budget to continue."
                    )
            account["calls"] = account.get("calls", 0) + (not retry)

    def end(self, model: str, prompt_tokens: int, completion_tokens: int) -> None:
        """Count what a request took, in tokens and dollars."""
        with suppress(CacheError), self.shared() as account:  # the next start reports the error
            account["tokens"] = account.get("tokens", 0) + prompt_tokens + completion_tokens
            if self.dollars is not None:
                dollars = price(model, prompt_tokens, completion_tokens) or 0.0
                account["dollars"] = account.get("dollars", 0.0) + dollars

    @property
    def spent(self) -> dict[str, float]:
        """The dollars, tokens and calls used so far; dollars only if they are limited."""
        with self.shared() as account:
            return {name: account.get(name, 0) for name in LIMITED}

    @contextmanager
    def shared(self) -> Iterator[Any]:
        """The account's numbers by name, which nobody else can change within the context.

        All notebooks of a batch share them; outside a batch, all models with this budget do.

        Raises
        ------
        CacheError
            The account of the batch cannot be read or written.
        """
        try:
            with self._transaction():
                yield self._account
        except (sqlite3.Error, OSError) as error:
            message = f"the spending of this batch's notebooks cannot be added up: {error}"
            raise CacheError(message) from None

    def __str__(self) -> str:
        spent = self.spent
        dollars = "" if self.dollars is None else f", {spent['dollars']:.4f} dollars"
        return f"{spent['calls']:,} calls, {spent['tokens']:,} tokens{dollars}"


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
    """The price of these tokens.

    Parameters
    ----------
    model : str
        Simulated models are free.
    prompt_tokens, completion_tokens : int
        Of all calls together.
    calls : int
        Each is priced as their mean, since some models charge more per token for long calls.
    when : datetime, optional
        The time of the calls. Default: now.

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
    """The rows of a usage, with `cost` (of all tokens) and `live_cost` (of those of live calls).

    Both are in US dollars, or None where the price or a number of tokens is unknown. Prices are
    those of a fixed time, so that a rerun gives the same record.
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


progress.priced_rows = priced_rows
