"""What somebody has to pay for: calls whose request is on its way, until the answer is recorded. None of them is thrown away.

The tasks of an event loop end with the loop, and those of a notebook with its kernel, which papermill ends at the first error. So an
error is raised only when what is on its way has been recorded, and `asyncio.run` does not end before that either, on Ctrl-C as after
an error in somebody else's task. Nor does a kernel of a batch that is stopped or killed; one that is shut down or restarted leaves a
`survivor`.
"""

import asyncio
import atexit
import math
import os
import signal
import sys
import time
import weakref
from contextlib import asynccontextmanager, suppress
from contextvars import ContextVar
from functools import partial

from .survivor import survives

PATIENCE = 1.0  # seconds that a loop's end waits for answers before it says so, or leaves that to a survivor
_calls: weakref.WeakKeyDictionary = (
    weakref.WeakKeyDictionary()
)  # {event loop: the set of its calls}
_stopped: list = []  # what ends this process, when it is to end and sends nothing more
_inside: ContextVar[bool] = ContextVar("inside", default=False)


class Call(asyncio.Task):
    """A task that asks a model and records the answer, for all who ask the same at one time.

    Who waits for it joins, and leaves when it has the answer or is cancelled.
    """

    def __init__(self, work):
        super().__init__(work, loop=asyncio.get_running_loop())
        self.callers, self.on_its_way = 0, False
        _calls.setdefault(self.get_loop(), weakref.WeakSet()).add(self)

    @property
    def unrecorded(self) -> bool:
        """Whether its request is on its way, and there is neither a recorded answer nor an error."""
        return self.on_its_way and not self.done()

    def join(self) -> None:
        """Somebody waits for this call."""
        self.callers += 1

    def leave(self) -> bool:
        """Somebody waits no more. With the last the call is cancelled, unless its request is on its way. Returns whether it was."""
        self.callers -= 1
        return not self.callers and not self.on_its_way and self.cancel()

    def cancel(self, msg=None) -> bool:
        """As for any task, but for the end of its event loop, when asyncio cancels all tasks and waits for them."""
        if self.on_its_way and not self.get_loop().is_running():
            return False
        return super().cancel(msg)


async def may_be_sent() -> None:
    """Wait where nothing may be sent any more, since this process is about to end."""
    if _stopped:
        await asyncio.Event().wait()


def sent() -> None:
    """The request of the running call is on its way."""
    if isinstance(call := asyncio.current_task(), Call):
        call.on_its_way = True


def unanswered() -> None:
    """The running call got no answer, and may be tried again, unless nobody waits for it."""
    if isinstance(call := asyncio.current_task(), Call):
        call.on_its_way = False
        if not call.callers:
            call.cancel()


async def settled() -> None:
    """Wait until the answers that are on their way in this event loop are recorded; inside of `settling` its end waits for them."""
    if not _inside.get():
        await _settled()


async def _settled(seconds: float = math.inf):
    calls, end = set(_calls.get(asyncio.get_running_loop(), ())), time.monotonic() + seconds
    while (calls := {call for call in calls if call.unrecorded}) and time.monotonic() < end:
        await asyncio.wait(calls, timeout=0.1)


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
        await _settled()
        raise
    finally:
        _inside.reset(within)


async def ending(patience: float = PATIENCE) -> None:
    """At the end of the event loop: wait as `settled` does, and say so where that takes longer. Another Ctrl-C ends it."""
    said = asyncio.get_running_loop().call_later(patience, _say, asyncio.get_running_loop())
    await _settled()
    said.cancel()


def _say(loop) -> None:
    if waiting := sum(call.unrecorded for call in _calls.pop(loop, ())):  # popped: it is said once
        print(
            f"semback: waiting for {waiting} answers that are on their way, to record them. Ctrl-C gives them up.",
            file=sys.stderr,
        )


def outlasted() -> None:
    """From now on this process ends only when what is on its way in this event loop is recorded, and sends nothing more: at its own
    end, in a loop that nobody has closed (a notebook's), and where another program or a closed terminal ends it (SIGTERM, SIGHUP).
    A notebook's kernel that is no batch's is ended by Jupyter in ways of its own."""
    atexit.unregister(_at_exit)
    atexit.register(
        _at_exit
    )  # after whatever closes caches and connections at the end, and so before it
    if os.environ.get("SEMBACK_BATCH") or "ipykernel.kernelapp" not in sys.modules:
        for name in ("SIGTERM", "SIGHUP"):
            with suppress(AttributeError, ValueError):  # Windows has no SIGHUP; not the main thread
                if (
                    signal.getsignal(number := getattr(signal, name)) == signal.SIG_DFL
                ):  # else it is somebody else's
                    signal.signal(number, partial(_stop, os.getpid()))


def _stop(process: int, number: int, _frame) -> None:
    """End at once where nothing is on its way, although something may be computing, and where it is said again; else when all is
    recorded. A process that was forked has none of this."""
    loops = [
        loop
        for loop, calls in list(_calls.items())
        if loop.is_running() and any(call.unrecorded for call in calls)
    ]

    async def stop(loop):
        await _settled()
        loops.remove(loop)
        if not loops:
            os._exit(128 + number)

    if _stopped or not loops or process != os.getpid():
        os._exit(128 + number)
    for loop in list(loops):
        _stopped.append(asyncio.run_coroutine_threadsafe(stop(loop), loop))


def _at_exit():
    for loop in [loop for loop in _calls if not loop.is_closed() and not loop.is_running()]:
        _stopped.append(loop)
        with suppress(ValueError):  # not the main thread
            signal.signal(
                signal.SIGTERM, signal.SIG_IGN
            )  # with which Jupyter hurries a kernel that it has told to end
        _finish(loop, _settled(PATIENCE))
        survivor = survives(loop) if any(call.unrecorded for call in _calls[loop]) else None
        if survivor is not False:
            _finish(loop, ending(0))
        if survivor:
            os._exit(0)
        with suppress(ValueError):
            signal.signal(signal.SIGTERM, signal.SIG_DFL)  # it may hang yet (see `forkserver`)


def _finish(loop, work) -> None:
    task = loop.create_task(work)
    while not task.done() and not loop.is_closed():
        with suppress(RuntimeError):  # the kernel's own order to stop, which it gives twice
            loop.run_until_complete(task)
