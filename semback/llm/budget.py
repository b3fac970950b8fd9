"""What may be spent: a budget that several models share. Only calls that go out count; what is recorded costs nothing."""

import os
import sqlite3
from contextlib import suppress
from dataclasses import dataclass

from ..errors import BudgetExceeded, CacheError, ParameterError
from .prices import price

COUNTED = ("dollars", "tokens", "calls")


@dataclass
class Budget:
    """The most that may be spent, by all models that are given this same object, until it is made anew.

    Parameters
    ----------
    dollars, tokens, calls: the limits; None is none. Tokens are those of prompts and replies together.
    batch: whether, in a notebook of a batch, all the notebooks that say so spend from one budget (see `batch.run`).

    When a limit is reached, no further call goes out, not even a second try: BudgetExceeded. What is under way then is kept and paid for,
    so tokens and dollars may end up above their limit by what was in flight. Where an endpoint does not say how many tokens a call
    took, they are estimated from the letters. `str()` tells what was spent.

    Errors
    ------
    ParameterError: a limit that is no number above 0.
    """

    dollars: float | None = None
    tokens: int | None = None
    calls: int | None = None
    batch: bool = False
    spent_dollars: float = 0.0
    spent_tokens: int = 0
    spent_calls: int = 0

    def __post_init__(self):
        limits = {name: limit for name in COUNTED if (limit := getattr(self, name)) is not None}
        for name, limit in limits.items():
            if isinstance(limit, bool) or not isinstance(limit, int | float) or not limit > 0:
                raise ParameterError(
                    f"the budget's {name} is {limit!r}; it takes a number above 0, or None for no limit"
                )
        self._told, self._account = dict.fromkeys(COUNTED, 0), None
        if self.batch and limits and (folder := os.environ.get("SEMBACK_BATCH")):
            import diskcache

            self._account = diskcache.Cache(
                folder
            )  # which adds up numbers for any number of processes

    def admits(self, model: str) -> None:
        """ParameterError if the model's price is not known and there is a limit in dollars."""
        if self.dollars is not None and price(model, 1, 1) is None:
            raise ParameterError(
                f"the price of {model} is not known, so a budget in dollars cannot be kept; one in tokens or calls "
                "can, as in Budget(calls=500)"
            )

    def start(self, again: bool = False) -> None:
        """Count a call that is about to go out, or out again. BudgetExceeded if it may not; CacheError if the batch's account is broken."""
        try:
            self._agree()
        except (sqlite3.Error, OSError) as error:
            raise CacheError(
                f"what the notebooks of this batch spend cannot be added up: {error}"
            ) from None
        for name in COUNTED:
            limit = getattr(self, name)
            if (
                limit is not None
                and getattr(self, f"spent_{name}") >= limit
                and not (again and name == "calls")
            ):
                raise BudgetExceeded(
                    f"the budget of {limit:,} {name} is spent ({self}). What was answered is in the cache: run again "
                    "with a larger budget, and it goes on from there."
                )
        self.spent_calls += not again

    def end(self, model: str, usage: dict) -> None:
        """Count what a call took, in tokens and dollars."""
        prompt, completion = usage.get("prompt_tokens", 0), usage.get("completion_tokens", 0)
        self.spent_tokens += prompt + completion
        if self.dollars is not None:
            self.spent_dollars += price(model, prompt, completion)
        with suppress(
            sqlite3.Error, OSError
        ):  # no reason to lose an answer; the next start says it
            self._agree()

    def _agree(self) -> None:
        """Tell the batch's account what was spent here, and take over what all have spent."""
        if self._account is None:
            return
        with self._account.transact(retry=True):
            spent = {
                name: self._account.incr(name, getattr(self, f"spent_{name}") - told)
                for name, told in self._told.items()
            }
        self._told = spent
        for name, number in spent.items():
            setattr(self, f"spent_{name}", number)

    def __str__(self):
        dollars = "" if self.dollars is None else f", {self.spent_dollars:.4f} dollars"
        return f"{self.spent_calls:,} calls, {self.spent_tokens:,} tokens{dollars}"
