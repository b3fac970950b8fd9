"""What the tasks of an event loop hand in during one turn of it, done together at its end: quicker than each by itself."""

import asyncio
import weakref
from collections.abc import Callable


class Turn:
    """The things that wait for the end of this turn of their event loop."""

    def __init__(self):
        self._waiting: weakref.WeakKeyDictionary = weakref.WeakKeyDictionary()  # {event loop: [(thing, future of its result)]}

    async def done(self, thing, together: Callable[[list], list]):
        """The result for one thing, which is done even if the caller is cancelled meanwhile.

        together: does it for a list of things, all or none of them, and gives a list of results. Where it fails for several, each is
        done by itself, so that each is done or has its own error.
        """
        loop = asyncio.get_running_loop()
        if not (waiting := self._waiting.setdefault(loop, [])):
            loop.call_soon(self._end, waiting, together)
        waiting.append((thing, result := loop.create_future()))
        return await result

    def _end(self, waiting: list[tuple], together: Callable[[list], list]) -> None:
        batch, waiting[:] = list(waiting), []
        try:
            results = together([thing for thing, _ in batch])
        except Exception:
            results = None
        for number, (thing, future) in enumerate(batch):
            try:
                result, error = results[number] if results else together([thing])[0], None
            except Exception as wrong:
                result, error = None, wrong
            if not future.cancelled():
                future.set_exception(error) if error else future.set_result(result)
