"""What somebody has to pay for: calls whose request is on its way, until the answer is recorded. None of them is thrown away.

The tasks of an event loop end with the loop, and those of a notebook with its kernel, which papermill ends at the first error. So an
error is raised only when what is on its way has been recorded.
"""

import asyncio
import weakref
from collections.abc import Coroutine
from contextlib import asynccontextmanager
from contextvars import ContextVar

_calls: weakref.WeakKeyDictionary = weakref.WeakKeyDictionary()  # {event loop: {task of a call: MADE, SENT or LEFT}}
MADE, SENT, LEFT = "made", "sent", "sent, and nobody waits for it any more"
_inside: ContextVar[bool] = ContextVar("inside", default=False)


def call(work: Coroutine) -> asyncio.Task:
    """A task that asks a model and records the answer."""
    task = asyncio.create_task(work)
    _calls.setdefault(task.get_loop(), weakref.WeakKeyDictionary())[task] = MADE
    return task


def leave(call: asyncio.Task) -> bool:
    """Nobody waits for this call any more: it is cancelled, unless its request is on its way. Returns whether it was cancelled."""
    if _calls[call.get_loop()][call] != MADE:
        _calls[call.get_loop()][call] = LEFT
        return False
    return call.cancel()


def join(call: asyncio.Task) -> None:
    """Somebody waits for this call, maybe again."""
    if _calls[call.get_loop()][call] == LEFT:
        _calls[call.get_loop()][call] = SENT


def sent() -> None:
    """The request of the running call is on its way."""
    calls, task = _running()
    if task in calls:
        calls[task] = SENT


def unanswered() -> None:
    """The running call got no answer, and may be tried again, unless nobody waits for it."""
    calls, task = _running()
    if calls.get(task) == LEFT:
        task.cancel()
    elif task in calls:
        calls[task] = MADE


async def settled() -> None:
    """Wait until the answers that are on their way in this event loop are recorded; inside of `settling` its end waits for them."""
    if not _inside.get():
        calls, task = _running()
        waiting = set(calls) - {task}
        while waiting := {call for call in waiting if calls.get(call, MADE) != MADE and not call.done()}:  # and not for what failed
            await asyncio.wait(waiting, timeout=0.1)


@asynccontextmanager
async def settling():
    """Raise an error from within only when all is `settled`; then it has ended the other tasks within, so that nothing new is asked."""
    if _inside.get():
        yield
        return
    within = _inside.set(True)
    try:
        yield
    except Exception:
        _inside.set(False)
        await settled()
        raise
    finally:
        _inside.reset(within)


def _running():
    return _calls.get(asyncio.get_running_loop(), {}), asyncio.current_task()
