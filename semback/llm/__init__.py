"""Models behind OpenAI-compatible endpoints: recorded, limited, counted."""

import os
import re
from collections.abc import Mapping
from difflib import get_close_matches
from typing import Any

from ..cache import ResponseCache
from ..errors import ParameterError, check
from ..task import Task
from ..usage import SIMULATED
from . import simulated
from .budget import Budget
from .chat import LLM, default_params
from .simulated import model

__all__ = ["LLM", "Budget", "default_params", "model", "models"]

ADDRESS = r"https?://[^\s@?#]+"  # without a password or a query, which might be a key


def models(
    model: str,
    coach: str | None,
    task: Task,
    cache: ResponseCache | None = None,
    budget: Budget | None = None,
    model_params: Mapping[str, Any] | None = None,
    coach_params: Mapping[str, Any] | None = None,
    base_url: str | None = None,
    coach_url: str | None = None,
    retries: int | None = None,
    timeout: float = 300.0,
    system: str = "system",
    in_flight: int | None = None,
    requests_per_minute: float | None = None,
    tokens_per_minute: float | None = None,
) -> tuple[LLM, LLM]:
    """The model that answers and its coach; the arguments are the parameters of the notebooks.

    API keys are not among them, since an executed notebook shows its parameters: both models use
    OPENAI_API_KEY, unless SEMBACK_COACH_API_KEY is set for the coach.

    Parameters
    ----------
    model, coach : str
        Their names; one that begins with "simulated" is a simulated model. If the coach is None,
        the model coaches itself.
    task : Task
        Its questions are those that a simulated model can answer.
    cache : ResponseCache, optional
    budget : Budget, optional
        The most that both may spend together.
    model_params, coach_params : mapping, optional
        The `params` of each.
    base_url, coach_url : str, optional
        Their endpoints. Default: OPENAI_BASE_URL for the model, the model's for the coach.
    retries, timeout, system
        As `LLM` takes them, for both.
    in_flight : int, optional
        The most requests in flight for each model, over all notebooks of a batch: every running
        notebook gets an equal share, at least one. Default: that of `LLM`, for each notebook.
    requests_per_minute, tokens_per_minute : float, optional
        The account's limits, for both models together and, if the budget is the batch's, for all
        its notebooks. A coach at another address has the same limits, counted separately.

    Raises
    ------
    ParameterError
        An argument that `LLM` refuses; a URL that is malformed, or contains a password or a query;
        a name that is almost "simulated".
    """
    coach = model if coach is None else coach
    for name in (model, coach):
        start = str(name)[: len(SIMULATED)]
        if start != SIMULATED and get_close_matches(start.lower(), [SIMULATED], cutoff=0.8):
            raise ParameterError(f"there is no model {name!r}; did you mean {SIMULATED!r}?")
    for name, url in {"base_url": base_url, "coach_url": coach_url}.items():
        if url is not None and not re.fullmatch(ADDRESS, str(url)):
            raise ParameterError(
                f"{name} takes an address such as 'http://127.0.0.1:8000/v1', or None; keys and "
                "passwords come from the environment (OPENAI_API_KEY, SEMBACK_COACH_API_KEY)"
            )
    both: dict[str, Any] = {"retries": retries, "timeout": timeout, "system": system}
    both |= {"requests_per_minute": requests_per_minute, "tokens_per_minute": tokens_per_minute}
    both["budget"] = budget or Budget()
    if in_flight is not None:
        check(int, "a whole number, or None", in_flight=in_flight)
        kernels = int(os.environ.get("SEMBACK_KERNELS", 1))
        both["in_flight"] = max(in_flight // kernels, min(in_flight, 1))  # LLM refuses 0 and less
    key = os.environ.get("SEMBACK_COACH_API_KEY")
    url = coach_url or base_url
    return (
        simulated.model(model, task, cache, params=model_params, base_url=base_url, **both),
        simulated.model(coach, task, cache, params=coach_params, base_url=url, api_key=key, **both),
    )
