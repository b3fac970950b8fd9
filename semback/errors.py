"""The errors users meet. Each says what happened, where, and what to do about it.

The parts of a message stay available as attributes, so that programs need not parse it.
"""

import difflib
import os
import sysconfig
import traceback
from collections.abc import Callable, Collection
from functools import cached_property
from os import PathLike
from types import TracebackType
from typing import Any

UNWORKABLE = (400, 413, 422)  # statuses: the request itself is refused, and would be again


class SembackError(Exception):
    """Any error that semback raises on purpose."""

    def _render_traceback_(self) -> list[str]:
        """The traceback that a notebook shows: IPython calls this in place of its own.

        Frames of semback, of installed packages and of Python are left out, since the message says
        what went wrong there. Plain Python shows all.
        """
        from IPython import get_ipython

        places = map(sysconfig.get_path, ("stdlib", "purelib", "platlib"))
        hidden, shown = (os.path.dirname(__file__), *places), None
        for frame, line in reversed(list(traceback.walk_tb(self.__traceback__))):
            if not frame.f_code.co_filename.startswith(hidden):
                shown = TracebackType(shown, frame, frame.f_lasti, line)
        show = get_ipython().InteractiveTB.structured_traceback
        return show(type(self), self, shown or self.__traceback__)


class GraphError(SembackError):
    """A graph that cannot be run: a cycle, an unknown input, a name used twice, a dead end."""


class DataError(SembackError):
    """A data file that is missing, altered, or in the wrong format.

    Parameters
    ----------
    message : str
    file : path, optional
        The file at fault.
    line : int, optional
        Its line, from 1.
    """

    def __init__(
        self, message: str, *, file: str | PathLike | None = None, line: int | None = None
    ):
        super().__init__(message)
        self.file, self.line = file, line


class ParameterError(SembackError, ValueError):
    """An argument or parameter that does not exist, or has an impossible value."""


class CacheError(SembackError):
    """A recording or a cache entry that cannot be trusted, read or stored.

    Parameters
    ----------
    message : str
    key : str, optional
        Of the reply that could not be recorded, or of the entry that was altered.
    """

    def __init__(self, message: str, *, key: str | None = None):
        super().__init__(message)
        self.key = key


class CacheMiss(CacheError):
    """In replay mode, no recording holds this request.

    Parameters
    ----------
    key : str
        The key of the request.
    find_nearest : callable
        () -> (the key of the most similar recording or None, the message). It is called when the
        message is first read, since of many simultaneous misses only one is shown.
    """

    def __init__(self, key: str, find_nearest: Callable[[], tuple[str | None, str]]):
        super().__init__(key, key=key)
        self._find_nearest = find_nearest

    @cached_property
    def _found(self) -> tuple[str | None, str]:
        return self._find_nearest()

    @property
    def nearest(self) -> str | None:
        """The key of the recording most similar to the request; None if there is none."""
        return self._found[0]

    def __str__(self) -> str:
        return self._found[1]


class ModelError(SembackError):
    """A model, or the endpoint that serves it, gave no reply or cannot be reached.

    Parameters
    ----------
    message : str
    status : int, optional
        The HTTP status of the endpoint's last response.
    host : str, optional
        The endpoint's host.
    request_id : str, optional
        The endpoint's name for the request.
    body : optional
        The endpoint's error, if it is JSON; the API key is masked.

    Attributes
    ----------
    record : callable, optional
        Records that the endpoint refuses this request, so that a replay meets the same error; for
        programs that go on without the reply. None if nothing is recorded.
    """

    record: Callable[[], object] | None = None

    def __init__(
        self,
        message: str,
        *,
        status: int | None = None,
        host: str | None = None,
        request_id: str | None = None,
        body: object = None,
    ):
        super().__init__(message)
        self.status, self.host, self.request_id, self.body = status, host, request_id, body


class PromptTooLong(ModelError):
    """A prompt is longer than the model's window."""


class BudgetExceeded(ModelError):
    """A limit on calls, tokens or dollars is reached; nothing more is sent."""


def check(kind: Any, takes: str, **arguments) -> None:
    """Raise ParameterError for an argument not of this kind; `takes` says what it takes."""
    for name, value in arguments.items():
        if not isinstance(value, kind):
            raise ParameterError(f"{name} is of type {type(value).__name__}; it takes {takes}")


def known(name: str, value, allowed: Collection[str]) -> None:
    """Raise ParameterError, which names similar values, unless `value` is one of `allowed`."""
    if value not in allowed:
        near = difflib.get_close_matches(str(value), allowed, n=3)
        hint = (
            f"did you mean {' or '.join(near)}?" if near else f"it is one of {', '.join(allowed)}"
        )
        raise ParameterError(f"{name}={value!r} does not exist; {hint}")
