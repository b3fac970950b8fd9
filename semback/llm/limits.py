"""How many requests are in flight at one time (adaptive concurrency), and how many per minute.

Endpoints rarely say how many requests they serve at once, so the limit is found as TCP finds the
capacity of a network: slow start, additive increase, multiplicative decrease (AIMD), where a
refusal (HTTP 429 or 503) or a time-out counts as a lost packet.

Limits per minute belong to an account, so they are kept in its numbers (see `Budget.shared`): by
all models that share a budget, and by all notebooks of a batch together.

References
----------
V. Jacobson, Congestion avoidance and control, SIGCOMM 1988.
ITU-T I.371 (2004), annex A: the generic cell rate algorithm.
"""

import asyncio
import heapq
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from itertools import count
from math import inf
from typing import TYPE_CHECKING

from ..errors import CacheError

if TYPE_CHECKING:
    from .client import Endpoint

INITIAL_WINDOW = 64  # requests in flight before there is any reply
PACE = 0.001  # seconds between the first requests: an early refusal stops the rest
DECREASE = 0.85  # of the window remains after congestion
PROBE = 24  # replies, at least, until the window grows by one: at most 1 in 25 requests is refused
LATE = 2.0  # seconds after which a place within the limits per minute is given up
# The pause while every request is refused, in seconds, and its growth: a server that is starting is
# soon found ready, and a limit per minute, which may count refusals, is tried a few times a minute.
FIRST_PAUSE, LONGER, LONGEST_PAUSE = 0.5, 1.4, 8.0


@dataclass
class Slot:
    """The place of one request in flight; the client notes here how it ended.

    Attributes
    ----------
    tokens : int
        Tokens that the request was expected to take.
    sent : float
        The event loop's time when the request left.
    outcome : str
        "answered"; "refused", since the endpoint is busy; "timed out"; or "lost".
    wait : float
        Seconds that the endpoint asks to wait.
    used : int
        Tokens that the request and its reply took; 0 if the endpoint did not work on it.
    """

    tokens: int
    sent: float = 0.0
    outcome: str = "lost"
    wait: float = 0.0
    used: int = 0


class Limits:
    """The limits of one endpoint, for the requests of one event loop.

    Parameters
    ----------
    endpoint : Endpoint
        Its limits per minute are never exceeded in any 60 seconds; the account of its budget keeps
        count. The tokens of a reply are known only once it has arrived; later requests make up for
        them.
    """

    def __init__(self, endpoint: "Endpoint"):
        self.in_flight, self.busy = endpoint.in_flight, 0
        self.window = float(min(INITIAL_WINDOW, self.in_flight))  # in flight at most, for now
        self._slow_start = True
        self._budget = endpoint.budget
        limits = {"requests": endpoint.requests_per_minute, "tokens": endpoint.tokens_per_minute}
        self._per_minute = {
            kind: PerMinute(f"{kind} at {endpoint.address}", limit)
            for kind, limit in limits.items()
            if limit
        }
        self._place = -inf  # when the next request leaves, within the limits per minute
        self._queue: list[tuple[int, int, asyncio.Future]] = []  # a heap, by ticket; with tokens
        # Places in the queue: a request that is sent again goes before all later ones.
        self.tickets = count()
        self._paced = INITIAL_WINDOW  # requests of the first window that have not left yet
        self._next_at = 0.0  # no request leaves before this time
        self._changed_at = 0.0  # when the window last shrank
        self._timer: asyncio.TimerHandle | None = None
        self._pauses = 0  # in a row, without a reply between them

    @asynccontextmanager
    async def slot(self, ticket: int, tokens: int) -> AsyncIterator[Slot]:
        """Wait until a request may leave; within the context it is in flight."""
        slot, admission = Slot(tokens), asyncio.get_running_loop().create_future()
        heapq.heappush(self._queue, (ticket, tokens, admission))
        self._schedule()
        try:
            slot.sent = await admission
            yield slot
        finally:
            if not admission.cancelled():
                self.busy -= 1
                self._learn(slot)
                self._schedule()

    def _schedule(self) -> None:
        """Let the next request leave when it may, in a turn of its own of the event loop.

        Between two requests, replies that have arrived are thus read: an early refusal stops the
        rest, however many requests are ready at one time.
        """
        while self._queue and self._queue[0][2].done():  # it was cancelled
            heapq.heappop(self._queue)
        if self._queue and self._timer is None and self.busy < int(self.window):
            self._timer = asyncio.get_running_loop().call_at(self._next_at, self._admit)

    def _admit(self) -> None:
        """Let the next request leave, if it still may."""
        self._timer, now = None, asyncio.get_running_loop().time()
        may = now >= self._next_at and self.busy < int(self.window)
        if may and self._queue and not self._queue[0][2].done():
            _, tokens, admission = self._queue[0]
            if self._per_minute and self._place + LATE < now:
                self._place = now + self._reserve(tokens)
            if self._place > now:
                self._next_at = self._place
            else:
                self._place = -inf
                admission.set_result(now)
                self.busy += 1
                if self._paced > 0:
                    self._paced -= 1
                    self._next_at = now + PACE
        self._schedule()

    def _reserve(self, tokens: int) -> float:
        """Take the next place within the limits per minute. Returns the seconds until then.

        There is one place at a time for each event loop, so that the notebooks of a batch take
        turns, and one whose kernel is killed holds up the others by one request at most.
        """
        amounts = {"requests": 1, "tokens": tokens}
        now = leave = time.time()  # one clock for all kernels
        with suppress(CacheError), self._budget.shared() as numbers:  # the budget will report it
            for kind, limit in self._per_minute.items():
                even = numbers.get(limit.name, 0.0)
                leave = max(leave, even + limit.before(amounts[kind]))
            for kind, limit in self._per_minute.items():
                even = numbers.get(limit.name, 0.0)
                numbers[limit.name] = max(even, leave) + limit.after(amounts[kind])
        return leave - now

    def _learn(self, slot: Slot) -> None:
        """Adapt the window to how a request ended, but only once per round trip, since all the
        requests in flight at that time tell the same."""
        limit = self._per_minute.get("tokens")
        if limit and slot.used:
            with suppress(CacheError), self._budget.shared() as numbers:
                even = numbers.get(limit.name, 0.0)
                numbers[limit.name] = even + limit.after(slot.used) - limit.after(slot.tokens)
        current = slot.sent >= self._changed_at
        if slot.outcome == "answered":
            self._pauses = 0
            if current and self._queue:
                # Slow start: twice as many each round trip, and beyond the initial window a quarter
                # more. After the first congestion, additive increase: one more.
                step = 1.0 if self.window < INITIAL_WINDOW else 0.25
                if not self._slow_start:
                    step = 1.0 / max(self.window, PROBE)
                self.window = min(self.window + step, self.in_flight)
        elif slot.outcome == "refused":
            self._refused(slot, current)
        elif slot.outcome == "timed out" and current:
            self._shrink(self.window * DECREASE)

    def _refused(self, slot: Slot, current: bool) -> None:
        self._paced, pause = 0, slot.wait
        if not self.busy:  # everything is refused
            pause = pause or min(FIRST_PAUSE * LONGER**self._pauses, LONGEST_PAUSE)
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
    """A limit per minute: a tenth of it may leave at once and the rest evenly, so that it holds in
    any 60 seconds.

    One number of the account sums up what has left: the time at which all of it would have left at
    the even rate ("theoretical arrival time" in the standard). More than a tenth at one time must
    be saved up beforehand and waited for afterwards.
    """

    def __init__(self, name: str, limit: float):
        self.name, self.limit = name, limit
        self.burst = max(1.0, limit / 10)
        self.rate = max(limit - self.burst, limit / 2) / 60  # per second

    def after(self, amount: float) -> float:
        """Seconds that this amount takes at the even rate, counted as the limit if it is more."""
        return min(amount, self.limit) / self.rate

    def before(self, amount: float) -> float:
        """Seconds after that time at which this amount may leave; below 0 for less than a tenth."""
        return self.after(amount) - self.burst / self.rate
