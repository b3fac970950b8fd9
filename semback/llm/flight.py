"""A request in flight: sent once for all callers, and never thrown away once it is sent.

What is in flight costs money, so its reply is recorded even when nobody wants it any more.
"""

import asyncio
import logging
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

from ..cache.recording import REFUSED
from ..errors import UNWORKABLE, ModelError, PromptTooLong

if TYPE_CHECKING:
    from ..cache import ResponseCache
    from .client import Client

NOTICE = "waiting for replies in flight, to record them; interrupt again to give them up"


class Flight(asyncio.Task):
    """The task that gets and records the reply to one request, for all callers in an event loop.

    A caller that is cancelled leaves. When the last one leaves, the task ends too, unless its
    request is in flight: then the reply is still recorded, but nothing is sent again. With `join`
    the last caller stays until then.

    Parameters
    ----------
    work : callable
        (flight) -> the coroutine to run; the client surrounds each try with `flight.sending()`.
    """

    def __init__(self, work: Callable[["Flight"], Coroutine]):
        self.callers, self.in_flight = 0, False
        super().__init__(work(self), loop=asyncio.get_running_loop())

    async def join(self) -> Any:
        """The result, for one more caller; the last one stays while the request is in flight."""
        try:
            return await self.wait()
        except asyncio.CancelledError:
            if not self.callers:
                await self._outlast_callers()
            raise

    async def wait(self) -> Any:
        """The result, for one more caller, which leaves at once when it is cancelled."""
        self.callers += 1
        try:
            return await asyncio.shield(self)
        except asyncio.CancelledError:
            self.callers -= 1
            if not self.callers and not self.in_flight:
                self.cancel()
            raise

    @contextmanager
    def sending(self) -> Iterator[None]:
        """The context of one try. If it fails and no caller is left, the task ends."""
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
        """Cancel the task, unless an event loop cancels all its tasks before it ends, as
        `asyncio.run` does: it then waits for them, and so for the reply in flight."""
        if self.in_flight and not self.get_loop().is_running():
            return False
        return super().cancel(msg)

    async def _outlast_callers(self) -> None:
        """Wait, as the last caller, for this reply and all others that have lost their callers:
        a gather ends as soon as one of its calls does."""
        try:
            if len(_abandoned()) == 1:  # the first of several that are cancelled together
                logging.getLogger("semback").warning(NOTICE)
            await landed()
        except (asyncio.CancelledError, KeyboardInterrupt):  # a second time: the reply is given up
            if not self.callers:
                self.cancel()
            raise


async def reply_to(
    named: tuple[dict, str, str],
    draw: int,
    cache: "ResponseCache | None",
    client: "Client",
    wait: Callable[[Flight], Coroutine] = Flight.join,
) -> tuple[dict, bool, bool]:
    """The recorded reply to a request, or else the endpoint's, which is then recorded.

    Parameters
    ----------
    named : tuple
        The request, its key, and its text.
    draw : int
    cache : ResponseCache, optional
    client : Client
        Sends the request, if it must be sent.
    wait : callable
        How a caller waits for a request in flight: Flight.join or Flight.wait.

    Returns
    -------
    reply : dict
    recorded, shared : bool
        Whether it comes from the cache; whether another caller sent the request.
    """
    request, key, body = named
    if cache is None or cache.mode == "off":
        return (await client.ask(body))[0], False, False
    reply = _recorded(cache, key, body, draw)
    if reply is not None:
        return reply, True, False
    if cache.mode == "replay":
        raise cache.miss(request, draw)

    async def record(flight: Flight) -> tuple[dict, bool]:
        async with cache.single_flight(key):
            reply = _recorded(cache, key, body, draw)  # by another process in the meantime
            if reply is not None:
                return reply, True
            try:
                reply, source = await client.ask(body, flight)
            except ModelError as error:
                if error.status in UNWORKABLE:
                    refusal = _refusal(error, request["model"]), {"host": error.host}
                    error.record = partial(cache.record, key, body, draw, *refusal)
                raise
            return cache.record(key, body, draw, reply, source), False

    shared = key in client.flights
    if not shared:
        client.flights[key] = Flight(record)
        client.flights[key].add_done_callback(lambda _: client.flights.pop(key))
    reply, recorded = await wait(client.flights[key])
    return reply, recorded, shared


def _recorded(cache: "ResponseCache", key: str, body: str, draw: int) -> dict | None:
    """The recorded reply to a request. A refused request is sent again, except in a replay."""
    reply = cache.lookup(key, body, draw)
    if reply is None or reply["finish_reason"] != REFUSED:
        return reply
    if cache.mode == "replay":
        kind = PromptTooLong if reply["too_long"] else ModelError
        raise kind(reply["refusal"], status=reply["status"], body=reply.get("body"))
    return None


def _refusal(error: ModelError, model: str) -> dict:
    """What is recorded in place of a reply if the endpoint refuses the request."""
    too_long = isinstance(error, PromptTooLong)
    refusal = {"refusal": str(error), "status": error.status, "too_long": too_long}
    refusal |= {"body": error.body} if error.body else {}
    return {"text": "", "finish_reason": REFUSED, "model": model, "usage": {}, **refusal}


async def landed() -> None:
    """Wait until the requests in flight that nobody wants any more are recorded."""
    while flights := _abandoned():
        await asyncio.wait(flights)


def _abandoned() -> list[Flight]:
    """The requests in flight that nobody wants any more, in the running event loop."""
    flights = [task for task in asyncio.all_tasks() if isinstance(task, Flight)]
    return [flight for flight in flights if flight.in_flight and not flight.callers]
