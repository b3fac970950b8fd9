"""A request in flight: sent once for all callers, and never thrown away once it is sent.

What is in flight costs money, so its reply is recorded even when nobody wants it any more.
"""

import asyncio
import logging
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from typing import Any

NOTICE = "waiting for replies in flight, to record them; interrupt again to give them up"


class Flight(asyncio.Task):
    """The task that gets and records the reply to one request, for all callers in an event loop.

    A caller that is cancelled leaves. With the last one the task ends too, unless its request is in
    flight: then that caller stays until the reply is recorded, and no retry is sent.

    Parameters
    ----------
    work : callable
        (flight) -> the coroutine to run; it surrounds each try with `flight.sending()`.
    """

    def __init__(self, work: Callable[["Flight"], Coroutine]):
        self.callers, self.in_flight = 0, False
        super().__init__(work(self), loop=asyncio.get_running_loop())

    async def join(self) -> Any:
        """The result, for one more caller."""
        self.callers += 1
        try:
            return await asyncio.shield(self)
        except asyncio.CancelledError:
            self.callers -= 1
            if not self.callers:
                await self._outlast_callers()
            raise

    @contextmanager
    def sending(self) -> Iterator[None]:
        """The context of one try. After a failed one that nobody wants to repeat, the task ends."""
        if not self.callers:
            raise asyncio.CancelledError
        self.in_flight = True
        try:
            yield
        except Exception:
            self.in_flight = False
            if not self.callers:
                raise asyncio.CancelledError from None
            raise

    def cancel(self, msg: object = None) -> bool:
        """Cancel the task, but not where an event loop cancels all tasks before it ends, as
        `asyncio.run` does: it waits for them, and so for a reply that is in flight."""
        if self.in_flight and not self.get_loop().is_running():
            return False
        return super().cancel(msg)

    async def _outlast_callers(self) -> None:
        """For the last caller. It waits for others too: gather ends with the first that does."""
        if not self.in_flight:
            self.cancel()
        try:
            if len(_abandoned()) == 1:  # the first of several that are cancelled together
                logging.getLogger("semback").warning(NOTICE)
            while flights := _abandoned():
                await asyncio.wait(flights)
        except (asyncio.CancelledError, KeyboardInterrupt):  # once more: it is given up
            if not self.callers:
                self.cancel()
            raise


def _abandoned() -> list[Flight]:
    """The requests in flight that nobody wants any more, in the running event loop."""
    flights = [task for task in asyncio.all_tasks() if isinstance(task, Flight)]
    return [flight for flight in flights if flight.in_flight and not flight.callers]
