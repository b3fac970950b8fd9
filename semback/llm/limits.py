"""How many requests are in flight at one time (adaptive concurrency), and how many leave a minute.

Endpoints rarely say how many requests they serve at once, so the limit is found as TCP finds the
capacity of a network: slow start, additive increase, multiplicative decrease (AIMD), where a
refusal (HTTP 429 or 503) or a time-out counts as a lost packet.

References
----------
V. Jacobson, Congestion avoidance and control, SIGCOMM 1988.
"""

import asyncio
import heapq
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from itertools import count

INITIAL_WINDOW = 64  # requests in flight before there is any reply
BATCH = 4  # requests that leave at one time: they are on their way before the next ones are built
TURN = 0.0001  # seconds between batches
PACE = 0.001  # seconds between the first requests: an early refusal stops the rest
DECREASE = 0.85  # of the window remains after congestion
PROBE = 24  # replies, at least, until the window grows by one: at most 1 in 25 requests is refused
FIRST_PAUSE = 0.5  # seconds where every request is refused; doubled each time
# The longest one, in seconds: a limit per minute may count what it refuses, a server that starts
# (503) does not.
LONGEST_PAUSE = {"refused": 8.0, "unavailable": 2.0}


@dataclass
class Slot:
    """The place of one request in flight; the client notes here how it ended.

    Attributes
    ----------
    tokens : int
        Tokens that the request was expected to take.
    sent : float
        Time of the event loop when it left.
    outcome : str
        "answered"; "refused" or "unavailable", since the endpoint is busy; "timed out"; or "lost".
    wait : float
        Seconds for which the endpoint asks to be left alone.
    used : int, optional
        Tokens that the request took, with its reply, where the endpoint reports them.
    """

    tokens: int
    sent: float = 0.0
    outcome: str = "lost"
    wait: float = 0.0
    used: int | None = None


class Limits:
    """The limits of one endpoint, for the requests of one event loop.

    Parameters
    ----------
    in_flight : int
        The most requests in flight at one time.
    requests, tokens : float, optional
        Limits per minute, never exceeded in any 60 seconds. The tokens of a reply are known only
        when it has arrived; the requests after it wait for them.
    """

    def __init__(self, in_flight: int, requests: float | None, tokens: float | None):
        self.in_flight, self.busy = in_flight, 0
        self.window = float(min(INITIAL_WINDOW, in_flight))  # requests in flight, at most, for now
        self._slow_start = True
        self._requests, self._tokens = PerMinute(requests), PerMinute(tokens)
        self._queue: list[tuple[int, asyncio.Future]] = []  # a heap, by ticket
        self._tickets = count()
        self._paced = INITIAL_WINDOW  # requests of the first window that have not left yet
        self._next_at = self._changed_at = 0.0  # no request leaves before; the last decrease
        self._timer: asyncio.TimerHandle | None = None
        self._pauses = 0  # in a row, without a reply between them

    def ticket(self) -> int:
        """A place in the queue; a request that is sent again goes before all that came later."""
        return next(self._tickets)

    @asynccontextmanager
    async def slot(self, ticket: int, tokens: int) -> AsyncIterator[Slot]:
        """Wait until a request may leave; inside of the context it is in flight."""
        await self._tokens.take(tokens)
        await self._requests.take(1)
        slot, admission = Slot(tokens), asyncio.get_running_loop().create_future()
        heapq.heappush(self._queue, (ticket, admission))
        self._schedule()
        try:
            slot.sent = await admission
            yield slot
        finally:
            if not admission.cancelled():
                self.busy -= 1
                self._learn(slot)
                self._admit()

    def _schedule(self) -> None:
        """Let the next requests leave in a turn of the event loop of their own, when they may.

        So replies that have arrived are read between them: an early refusal stops the rest, however
        many requests are ready at one time.
        """
        if self._queue and self._timer is None and self.busy < int(self.window):
            self._timer = asyncio.get_running_loop().call_at(self._next_at, self._admit)

    def _admit(self) -> None:
        """Let a few requests leave, if they may."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        now, admitted = asyncio.get_running_loop().time(), 0
        most, pause = (1, PACE) if self._paced > 0 else (BATCH, TURN)
        while self._queue and now >= self._next_at and self.busy < int(self.window):
            _, admission = heapq.heappop(self._queue)
            if not admission.done():  # it was not cancelled
                admission.set_result(now)
                self.busy += 1
                admitted += 1
            if admitted == most:
                break
        if admitted:
            self._paced -= admitted
            self._next_at = max(self._next_at, now + pause)
        self._schedule()

    def _learn(self, slot: Slot) -> None:
        """Adapt the window to how a request ended; once a round trip, since all others that are in
        flight then say the same."""
        if slot.used is not None:
            self._tokens.owed += slot.used - slot.tokens
        current = slot.sent >= self._changed_at
        if slot.outcome == "answered":
            self._pauses = 0
            if current and self.busy + 1 >= int(self.window):
                # Slow start: twice as many each round trip, and beyond the initial window a quarter
                # more. After the first congestion, additive increase: one more.
                step = 1.0 if self.window < INITIAL_WINDOW else 0.25
                if not self._slow_start:
                    step = 1.0 / max(self.window, PROBE)
                self.window = min(self.window + step, self.in_flight)
        elif slot.outcome in LONGEST_PAUSE:
            self._refused(slot, current)
        elif slot.outcome == "timed out" and current:
            self._shrink(self.window * DECREASE)

    def _refused(self, slot: Slot, current: bool) -> None:
        self._paced, pause = 0, slot.wait
        if not self.busy:  # everything is refused
            pause = pause or min(FIRST_PAUSE * 2**self._pauses, LONGEST_PAUSE[slot.outcome])
            self._pauses += 1
            self._shrink(1.0)
            self._slow_start = True
        elif self._slow_start:
            self._shrink(self.window)
        elif current:
            self._shrink(self.window * DECREASE)
        # The endpoint has accepted no more than what is in flight now.
        self.window = max(1.0, min(self.window, self.busy))
        self._next_at = max(self._next_at, asyncio.get_running_loop().time() + pause)

    def _shrink(self, window: float) -> None:
        self.window = max(1.0, window // 1)
        self._changed_at = asyncio.get_running_loop().time()
        self._slow_start = False


class PerMinute:
    """A limit for each minute: a tenth of it may leave at once and the rest evenly, so that no 60
    seconds have more. None is no limit."""

    def __init__(self, limit: float | None):
        self.limit, self.owed = limit, 0.0
        if limit:
            from aiolimiter import AsyncLimiter

            self.burst = max(1.0, limit / 10)
            per_second = max(limit - self.burst, limit / 2) / 60
            self._limiter = AsyncLimiter(self.burst, self.burst / per_second)

    async def take(self, amount: float) -> None:
        """Wait until so much more, and what is owed, may leave; for one minute at most."""
        if self.limit:
            amount, self.owed = min(amount + self.owed, self.limit), 0.0
            while amount > 0:
                await self._limiter.acquire(min(amount, self.burst))
                amount -= self.burst
