"""The errors people meet. Every one says what happened, where, and what to do about it."""

import difflib
from collections.abc import Callable
from functools import cache


class SembackError(Exception):
    """Any error that semback raises on purpose."""


class GraphError(SembackError):
    """A graph that cannot be run: a cycle, an unknown input, a name used twice, a node that never reaches the answer."""


class DataError(SembackError):
    """A data file that is missing, altered, or not in the format it should have."""


class ParameterError(SembackError):
    """A parameter that does not exist, or has a value that it cannot have."""


def check(kind, takes: str, **given) -> None:
    """ParameterError for an argument that is of another kind than it should be; `takes` says what it takes."""
    for name, said in given.items():
        if not isinstance(said, kind):
            raise ParameterError(f"{name} is of the type {type(said).__name__}; it takes {takes}")


class CacheError(SembackError):
    """A recording or a cache entry that cannot be trusted or stored."""


class CacheBusy(CacheError):
    """Another process keeps the cache locked."""


class CacheMiss(CacheError):
    """Replay was asked for, and this request is in no recording. Which one is nearest is looked for when the text is first read: of many
    that miss at one time, one is shown."""

    def __init__(self, explained: Callable[[], str]):
        super().__init__()
        self._text = cache(explained)

    def __str__(self):
        return self._text()


class ModelError(SembackError):
    """A model, or the endpoint that serves it, did not answer; or it is not known how to reach it."""


class BudgetExceeded(ModelError):
    """A limit on calls, tokens or money is reached; nothing more is sent."""


def known(name: str, value, allowed) -> None:
    """ParameterError, naming what is near, unless `value` is one of `allowed`."""
    if value not in allowed:
        near = difflib.get_close_matches(str(value), allowed, n=3)
        hint = (
            f"did you mean {' or '.join(near)}?" if near else f"it is one of {', '.join(allowed)}"
        )
        raise ParameterError(f"{name}={value!r} does not exist; {hint}")
