"""What may be spent: a budget that several models share. Only calls that go out count; what is recorded costs nothing."""

from dataclasses import dataclass

from .errors import BudgetExceeded, ParameterError
from .tally import price


@dataclass
class Budget:
    """The most that may be spent, by all models that are given this same object, until it is made anew.

    Parameters
    ----------
    dollars, tokens, calls: the limits; None is none. Tokens are those of prompts and replies together.

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
    spent_dollars: float = 0.0
    spent_tokens: int = 0
    spent_calls: int = 0

    def __post_init__(self):
        for name in ("dollars", "tokens", "calls"):
            limit = getattr(self, name)
            if limit is not None and (isinstance(limit, bool) or not isinstance(limit, int | float) or not limit > 0):
                raise ParameterError(f"the budget's {name} is {limit!r}; it takes a number above 0, or None for no limit")

    def admits(self, model: str) -> None:
        """ParameterError if the model's price is not known and there is a limit in dollars."""
        if self.dollars is not None and price(model, 1, 1) is None:
            raise ParameterError(f"the price of {model} is not known, so a budget in dollars cannot be kept; set one in tokens or calls")

    def start(self, again: bool = False) -> None:
        """Count a call that is about to go out, or out again. BudgetExceeded if it may not."""
        for name in ("dollars", "tokens", "calls"):
            limit, spent = getattr(self, name), getattr(self, f"spent_{name}")
            if limit is not None and spent >= limit and not (again and name == "calls"):
                raise BudgetExceeded(f"the budget of {limit:,} {name} is spent ({self}). What was answered is in the cache: run again "
                                     "with a larger budget, and it goes on from there.")
        self.spent_calls += not again

    def end(self, model: str, usage: dict) -> None:
        """Count what a call took, in tokens and dollars."""
        prompt, completion = usage.get("prompt_tokens", 0), usage.get("completion_tokens", 0)
        self.spent_tokens += prompt + completion
        if self.dollars is not None:
            self.spent_dollars += price(model, prompt, completion)

    def __str__(self):
        dollars = "" if self.dollars is None else f", {self.spent_dollars:.4f} dollars"
        return f"{self.spent_calls:,} calls, {self.spent_tokens:,} tokens{dollars}"
