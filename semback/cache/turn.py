"""What the tasks of an event loop hand in during one turn of it, done together at its end: quicker than each by itself."""

import asyncio
import weakref
from collections.abc import Callable


class Turn:
    """The things that wait for the end of this turn of their event loop."""

    def __init__(self):
        self._waiting: weakref.WeakKeyDictionary = (
            weakref.WeakKeyDictionary()
        )  # {event loop: [(thing, future of its result)]}

    async def done(self, thing, together: Callable[[list], list], final: type[Exception]):
        """The result for one thing, which is done even if the caller is cancelled meanwhile.

        together: does it for a list of things, all or none of them, and gives a list of results. Where it fails for several, each is
        done by itself, so that each is done or has its own error. final: the kind of error after which this is not tried.
        """
        loop = asyncio.get_running_loop()
        if not (waiting := self._waiting.setdefault(loop, [])):
            loop.call_soon(self._end, waiting, together, final)
        waiting.append((thing, result := loop.create_future()))
        return await result

    def _end(
        self, waiting: list[tuple], together: Callable[[list], list], final: type[Exception]
    ) -> None:
        batch, waiting[:] = list(waiting), []
        try:
            done = [(result, None) for result in together([thing for thing, _ in batch])]
        except Exception as error:
            same = len(batch) == 1 or isinstance(error, final)
            done = [(None, error) if same else _alone(together, thing) for thing, _ in batch]
        for (_, future), (result, error) in zip(batch, done):
            if not future.cancelled():
                future.set_exception(error) if error else future.set_result(result)


def _alone(together: Callable[[list], list], thing) -> tuple:
    try:
        return together([thing])[0], None
    except Exception as error:
        return None, error
