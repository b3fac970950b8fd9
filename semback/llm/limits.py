"""How many requests are in flight at one time (adaptive concurrency), and how many leave per minute.

Endpoints rarely say how many requests they serve at once, so the limit is found as TCP finds the capacity of a
network: slow start, additive increase, multiplicative decrease (AIMD), where a refusal (HTTP 429 or 503) or a time-out
counts as a lost packet. As in TCP Vegas, replies that take much longer than before are a sign of congestion too.

References
----------
V. Jacobson, Congestion avoidance and control, SIGCOMM 1988.
L. Brakmo, L. Peterson, TCP Vegas, IEEE Journal on Selected Areas in Communications 13 (8), 1995.
"""

import asyncio
import heapq
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from itertools import count
from statistics import median

INITIAL_WINDOW = 64  # requests in flight before there is any reply
BATCH = 4  # requests that leave at one time: they are on their way before the next ones are built
PACE = 0.001  # seconds for each request of the first window: an early refusal stops the rest
DECREASE = 0.75  # of the window remains after congestion
PROBE = 16  # replies, at least, until the window grows by one: so 1 in 17 requests is refused
FIRST_PAUSE, LONGEST_PAUSE = 0.5, 8.0  # seconds without requests where all are refused; doubled
SLOW = 3.0  # times the seconds of the fastest round trip: a sign of congestion


@dataclass
class Slot:
    """The place of one request; the client notes here how the request ended.

    Attributes
    ----------
    tokens : float
        Tokens that the request was expected to take.
    sent : float
        Time of the event loop.
    answered, timed_out : bool
        Whether there was a response (other than a refusal); whether there was none in time.
    refused : bool
        Whether the endpoint refused the request since it was busy.
    wait : float
        Seconds for which the endpoint asked not to be sent anything.
    used : float, optional
        Tokens that the request took, its reply included.
    """

    tokens: float
    sent: float
    answered: bool = False
    timed_out: bool = False
    refused: bool = False
    wait: float = 0.0
    used: float | None = None


class Limits:
    """The limits of one endpoint, for the requests of one event loop.

    Parameters
    ----------
    in_flight : int
        The most requests in flight at one time.
    requests_per_minute, tokens_per_minute : float, optional
        Never exceeded in any 60 seconds. The tokens of a reply are known only when it has arrived;
        the requests after it wait for them.
    """

    def __init__(
        self,
        in_flight: int,
        requests_per_minute: float | None = None,
        tokens_per_minute: float | None = None,
    ):
        self.in_flight = in_flight
        self.window = float(min(INITIAL_WINDOW, in_flight))
        self.busy = 0  # requests in flight now
        self._requests = PerMinute(requests_per_minute) if requests_per_minute else None
        self._tokens = PerMinute(tokens_per_minute) if tokens_per_minute else None
        self._owed = 0.0  # tokens of replies that no request has waited for yet
        self._waiting: list[tuple[int, int, asyncio.Future]] = []  # a heap, by ticket
        self._arrivals = count()
        self._timer: asyncio.TimerHandle | None = None  # of the next admission
        self._paced = INITIAL_WINDOW  # requests that are still to leave one by one
        self._slow_start = True
        self._resume_at = 0.0  # no request leaves before
        self._pauses = 0  # in a row, without a reply between them
        self._changed_at = 0.0  # when the window was last reduced
        self._round: list[float] = []  # seconds of the replies in this round trip
        self._fastest: float | None = None  # median seconds of the fastest round trip
        self._trial: tuple[float, float] | None = None  # (window, median seconds) before it

    def ticket(self) -> int:
        """A place in the queue: a request that is sent again goes before all that came later."""
        return next(self._arrivals)

    @asynccontextmanager
    async def slot(self, ticket: int, tokens: float) -> AsyncIterator[Slot]:
        """Wait until a request may leave; inside of the context it is in flight."""
        if self._tokens:
            tokens_to_wait_for, self._owed = tokens + self._owed, 0.0
            await self._tokens.take(tokens_to_wait_for)
        if self._requests:
            await self._requests.take(1)
        slot = Slot(tokens, await self._admission(ticket))
        try:
            yield slot
        finally:
            self.busy -= 1
            self._learn(slot)
            self._admit()

    async def _admission(self, ticket: int) -> float:
        """Wait in the queue. Returns when the request was admitted."""
        admitted = asyncio.get_running_loop().create_future()
        heapq.heappush(self._waiting, (ticket, next(self._arrivals), admitted))
        self._admit()
        try:
            return await admitted
        except asyncio.CancelledError:
            if not admitted.cancelled():  # cancelled after it was admitted
                self.busy -= 1
                self._admit()
            raise

    def _admit(self) -> None:
        """Let a few requests leave, if they may; look again in the next turn of the event loop."""
        if self._timer is not None:
            return
        now, loop = _now(), asyncio.get_running_loop()
        if self._waiting and now < self._resume_at:
            self._timer = loop.call_at(self._resume_at, self._admit_again)
            return
        admitted = 0
        while self._waiting and self.busy < int(self.window) and admitted < BATCH:
            *_, request = heapq.heappop(self._waiting)
            if not request.done():
                request.set_result(now)
                self.busy += 1
                admitted += 1
        if admitted:
            pause = admitted * PACE if self._paced > 0 else 0.0
            self._paced -= admitted
            self._timer = loop.call_later(pause, self._admit_again)

    def _admit_again(self) -> None:
        self._timer = None
        self._admit()

    def _learn(self, slot: Slot) -> None:
        """Adapt the window to how a request ended."""
        now = _now()
        if slot.used is not None:
            self._owed += slot.used - slot.tokens
        if slot.answered:
            self._pauses = 0
            if self.busy + 1 >= int(self.window) and slot.sent >= self._changed_at:
                self._grow()
                self._compare_speed(now - slot.sent)
        elif slot.refused:
            self._refuse(slot, now)
        elif slot.timed_out and slot.sent >= self._changed_at:
            self._shrink(now)

    def _grow(self) -> None:
        """Slow start: twice as many each round trip. Else additive increase: one more."""
        step = 1.0 if self._slow_start else 1.0 / max(self.window, PROBE)
        self.window = min(self.window + step, self.in_flight)

    def _shrink(self, now: float) -> None:
        """Multiplicative decrease, once a round trip: later requests tell whether it helps."""
        self.window = max(1.0, self.window * DECREASE // 1)
        self._slow_start, self._changed_at = False, now
        self._round.clear()
        self._trial = None

    def _refuse(self, slot: Slot, now: float) -> None:
        self._paced = 0
        pause = slot.wait
        if not self.busy:  # everything is refused
            pause = pause or min(FIRST_PAUSE * 2**self._pauses, LONGEST_PAUSE)
            self._pauses += 1
            self.window, self._slow_start, self._changed_at = 1.0, True, now
        elif self._slow_start:
            self._slow_start, self._changed_at = False, now
            self.window = float(min(self.busy, self.window))
        elif slot.sent >= self._changed_at:
            self._shrink(now)
        # The endpoint has accepted no more than what is in flight now.
        self.window = max(1.0, min(self.window, float(self.busy)))
        self._resume_at = max(self._resume_at, now + pause)
        if self._timer is not None and self._timer.when() < self._resume_at:
            self._timer.cancel()
            self._timer = None

    def _compare_speed(self, seconds: float) -> None:
        """After each round trip: where it was slow, try whether fewer requests are answered sooner."""
        self._round.append(seconds)
        if len(self._round) < self.window:
            return
        typical = median(self._round)
        self._round.clear()
        if self._trial:
            window, slow = self._trial
            self._trial = None
            if typical > slow * (1 + DECREASE) / 2:  # no: this is how long replies take now
                self.window, self._fastest = window, typical
        elif self._fastest and typical > SLOW * self._fastest:
            before = self.window
            self._shrink(_now())
            self._trial = before, typical
        else:
            self._fastest = min(self._fastest or typical, typical)


class PerMinute:
    """A limit for each minute: a tenth of it may leave at once and the rest evenly, so that no 60
    seconds have more."""

    def __init__(self, limit: float):
        from aiolimiter import AsyncLimiter

        self.limit = limit
        self.burst = max(1.0, limit / 10)
        per_second = max(limit - self.burst, limit / 2) / 60
        self._limiter = AsyncLimiter(self.burst, self.burst / per_second)

    async def take(self, amount: float) -> None:
        """Wait until so much more may leave; a single amount waits for one minute at most."""
        amount = min(amount, self.limit)
        while amount > 0:
            part = min(amount, self.burst)
            await self._limiter.acquire(part)
            amount -= part


def _now() -> float:
    return asyncio.get_running_loop().time()
