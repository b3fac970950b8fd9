"""Requests that are built while answers are awaited, before there is anything to ask.

The openai client takes longer to build a request than all the rest of sending it takes. Where calls follow from the answers to others,
as from level to level of a graph, nobody should wait for that. So its coroutine is begun early, outside of any task, as far as
`to_be_asked`; from there it goes on in the task that has something to ask.
"""

import asyncio
import types
import weakref
from collections.abc import Awaitable, Callable, Coroutine
from contextvars import Context, ContextVar

from .limits import Pace

LULL = 0.005  # seconds after the last request; then, unless others wait for their turn, is the time
_early: ContextVar[bool] = ContextVar("early", default=False)  # whether a coroutine is being begun


class Ahead:
    """The requests of one openai client that are built ahead, as many as are in flight.

    post: begins a request with a body; its coroutine comes to `to_be_asked`, and finds out after that what it is to send. pace: knows how
    many are in flight, and whether others wait.
    """

    def __init__(self, post: Callable[[bytes], Coroutine], pace: Pace):
        self._post, self._pace, self._context = post, pace, Context()
        self._context.run(_early.set, True)
        self._built: list[Coroutine] = []
        weakref.finalize(
            self, _close, self._built
        )  # or Python would end them, when half of it is gone
        self._next: asyncio.Handle | None = None

    def request(self, body: bytes) -> Awaitable:
        """What `post` brings: of a request that is built already, if there is one."""
        if self._next:
            self._next.cancel()
        self._next = asyncio.get_running_loop().call_later(LULL, self._build)
        return _resumed(self._built.pop()) if self._built else self._post(body)

    def _build(self) -> None:
        """One request, and another in the next turn of the event loop, which may have better things to do."""
        self._next = None
        answered = (
            self._pace.seconds > 0
        )  # before the first answer the client itself has things to wait for
        if answered and not self._pace.wanted and len(self._built) < self._pace.busy:
            post = self._post(b"")
            if self._context.run(post.send, None) is None:
                self._built.append(post)
                self._next = asyncio.get_running_loop().call_soon(self._build)
            else:  # it waits for something else than `to_be_asked`
                post.close()


def _close(built: list[Coroutine]) -> None:
    for each in built:
        each.close()


@types.coroutine
def to_be_asked():
    """Where a request that is built ahead waits for the task that has something to ask."""
    if _early.get():
        yield


@types.coroutine
def _resumed(begun: Coroutine):
    return (yield from begun.__await__())
