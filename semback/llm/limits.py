"""How many requests are in flight, and how many go out a minute: found out from the endpoint, which seldom says what it takes.

The number in flight grows by one each millisecond, to 64 and then by a quarter each round, until a request is refused (429 or 503)
or the most that is wanted is reached. (A round is as many answers as may be in flight.) A refusal sets it to what the endpoint has
shown it takes, and nobody sends before one of those requests is answered, or the wait is over that the endpoint asks for. What was
refused goes before what has not been sent yet. From then on it grows by one now and then. A round that is much slower than the
fastest one takes a quarter away, and is given it back if that did not help. This is TCP's additive increase and multiplicative
decrease (Jacobson, SIGCOMM 1988), made exact for endpoints that limit the number in flight.
"""

import asyncio
from collections import deque
from dataclasses import dataclass

EACH_TURN = 4  # requests that go out in one turn of the event loop, and in flight at first
UNASKED, SPACING = 64, 0.001  # requests in flight before any answer; seconds between the first ones
MORE = 0.25  # then, for each answer: a quarter more each round
PATIENCE = (
    16  # rounds after a refusal until one more is tried; halved each time that this goes well
)
WAIT, LONGEST_WAIT = (
    0.5,
    8.0,
)  # seconds without sending where everything is refused: at first, then doubled; the openai client's own
SLOW, KEPT = (
    3.0,
    0.75,
)  # how many times slower than the fastest a round is, to leave this share of the number in flight


@dataclass
class Slot:
    """One request's place: when it was sent, and what became of it."""

    sent: float
    expected: float  # tokens
    waves: int  # those of the Pace when it was asked for
    answered: bool = False
    late: bool = False  # it was given up
    refused: float | None = None  # seconds to wait, as the endpoint asks; 0 where it says only no
    used: float | None = None  # tokens, those of the reply included
    left: bool = False


class Pace:
    """The places for requests to one endpoint, in one event loop.

    Parameters
    ----------
    in_flight: requests at one time, at most.
    requests_per_minute, tokens_per_minute: more limits; None is none. Requests never exceed theirs in any 60 seconds. The tokens of
        replies are known only when these have come: the requests after them wait for it.
    """

    def __init__(
        self,
        in_flight: int,
        requests_per_minute: float | None = None,
        tokens_per_minute: float | None = None,
    ):
        self.in_flight, self.limit, self.busy = in_flight, min(EACH_TURN, in_flight), 0
        self._requests = requests_per_minute and _Bucket(requests_per_minute)
        self._tokens = tokens_per_minute and _Bucket(tokens_per_minute)
        self._owed = 0.0  # tokens of replies that nobody has waited for
        self._waiting: deque[asyncio.Future] = deque()
        self._timer, self._given = None, 0  # how many got a place in this turn of the event loop
        self._opening, self._allowed = (
            True,
            min(UNASKED, in_flight),
        )  # whether it was never too much yet; how far it may grow by now
        self._pause, self._asked_for = (
            0.0,
            0.0,
        )  # until when nobody sends, and until when because the endpoint asked for it
        self.seconds = 0.0  # that the last answer took
        self._changed, self.waves = (
            0.0,
            0,
        )  # when the limit fell last; how often everything was refused, with no answer between
        self._answers, self._seconds, self._rounds, self._patience = 0, 0.0, 0, 1
        self._fastest, self._cut = (
            None,
            None,
        )  # mean seconds of the fastest round; (limit, mean seconds) before slowness took some

    async def enter(self, tokens: float, again: bool = False) -> Slot:
        """Wait for the place for one request with so many tokens. Whoever has it notes in the Slot what became of it, and leaves.

        again: whether it was tried before: then it is the next, since others may wait for what it brings.
        """
        waves = self.waves
        if self._tokens:
            owed, self._owed = self._owed, 0.0
            await self._tokens.take(tokens + owed)
        if self._requests:
            await self._requests.take(1)
        place = asyncio.get_running_loop().create_future()
        (self._waiting.appendleft if again else self._waiting.append)(place)
        self._admit()
        try:
            await place
        except asyncio.CancelledError:
            if not place.cancelled():  # it had been given a place
                self.busy -= 1
                self._admit()
            raise
        return Slot(_now(), tokens, waves)

    def leave(self, slot: Slot) -> None:
        """Give a place back; a second time it does nothing."""
        if slot.left:
            return
        slot.left = True
        self.busy -= 1
        self._owed += slot.used - slot.expected if slot.used is not None else 0.0
        now = _now()
        if slot.refused is not None:
            self._refuse(slot, now)
        elif slot.late and slot.sent >= self._changed:
            self._fall(max(1, self.limit // 2), now)
        elif slot.answered:
            self.seconds = now - slot.sent
            self.waves, self._pause, self._allowed = (
                0,
                self._asked_for,
                min(self.in_flight, self._allowed + MORE),
            )
            if (
                self.busy + 1 >= self.limit and slot.sent >= self._changed
            ):  # it was in flight with as many others as may be
                self._answers, self._seconds = self._answers + 1, self._seconds + now - slot.sent
                if self._answers >= self.limit:
                    self._end_round(self._seconds / self._answers)
        self._admit()

    @property
    def wanted(self) -> bool:
        """Whether somebody waits for a place."""
        return bool(self._waiting)

    def _admit(self) -> None:
        """Give places to those who wait, as far as there are any; else look again when there may be.

        Only a few get theirs in one turn of the event loop: requests are written at the end of their turn, and should be on their way
        while others are built; with one each turn, the turns themselves would take 7 % of a busy processor.
        """
        now = _now()
        while (
            self._waiting
            and self._given < EACH_TURN
            and self.busy < self.limit
            and now >= self._pause
        ):
            if not (place := self._waiting.popleft()).done():
                self.busy, self._given = self.busy + 1, self._given + 1
                place.set_result(None)
                if self._given == 1:
                    asyncio.get_running_loop().call_soon(self._next_turn)
        if self._waiting and not self._timer:
            growing = self._opening and self.limit < int(self._allowed)
            if at := self._pause if now < self._pause else now + SPACING if growing else None:
                self._timer = asyncio.get_running_loop().call_at(at, self._look_again)

    def _next_turn(self) -> None:
        self._given = 0
        self._admit()

    def _look_again(self) -> None:
        self._timer = None
        if self._opening and self.limit < int(self._allowed):
            self.limit += 1
        self._admit()

    def _refuse(self, slot: Slot, now: float) -> None:
        if (
            slot.sent > self._changed or not self.waves
        ):  # not one of several that were sent together
            self.waves += 1
        self._patience, self._cut = PATIENCE, None
        self._fall(max(1, min(self.limit, self.busy)), now)
        if slot.refused:
            self._asked_for = max(self._asked_for, now + slot.refused)
        self._pause = max(
            self._asked_for, now + min(LONGEST_WAIT, WAIT * 2 ** max(0, self.waves - 1))
        )
        if self._timer:
            self._timer.cancel()
            self._timer = None

    def _fall(self, limit: int, now: float) -> None:
        self.limit, self._changed, self._opening = limit, now, False
        self._answers, self._seconds, self._rounds = 0, 0.0, 0

    def _end_round(self, mean: float) -> None:
        """After as many answers as may be in flight, which took so many seconds each."""
        self._answers, self._seconds, self._rounds = 0, 0.0, self._rounds + 1
        if self._cut:
            before, slow = self._cut
            self._cut = None
            if (
                mean > slow * (1 + KEPT) / 2
            ):  # fewer in flight are not answered sooner: this is how long it takes now
                self.limit, self._fastest = before, mean
        elif self._fastest and mean > SLOW * self._fastest:
            self._cut = self.limit, mean
            self._fall(max(1, int(self.limit * KEPT)), _now())
        else:
            self._fastest = min(self._fastest or mean, mean)
            if self.limit < self.in_flight and self._rounds >= self._patience:
                self.limit, self._rounds, self._patience = (
                    self.limit + 1,
                    0,
                    max(1, self._patience // 2),
                )


class _Bucket:
    """A limit for each minute: a tenth of it may go out at once, and the rest evenly, so that no 60 seconds have more."""

    def __init__(self, limit: float):
        from aiolimiter import AsyncLimiter

        self.burst = max(1.0, limit / 10)
        rate = max(limit - self.burst, limit / 2) / 60  # each second
        self._limiter = AsyncLimiter(self.burst, self.burst / rate)

    async def take(self, amount: float) -> None:
        while amount > 0:
            await self._limiter.acquire(piece := min(amount, self.burst))
            amount -= piece


def _now() -> float:
    return asyncio.get_running_loop().time()
