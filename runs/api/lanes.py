"""The lane of quick reads: few threads of their own, first come, first served; what turns out slow lets others pass.

One interpreter answers everybody. Were each of many requests given a thread at once, they would interrupt one another
at every row that the database gives, and all of them would be late; and behind slow reads, which have the threads of
the other routes, the quick ones would wait for minutes.
"""

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Annotated, TypeVar

from anyio import CapacityLimiter, to_thread
from fastapi import Depends, Request, Response
from pydantic import TypeAdapter

from .tags import tagged

T = TypeVar("T")

WIDTHS: Mapping[str, int] = {"sqlite": 1, "postgresql": 2}
"""Answers that are worked on at once: while one waits for a server's database, another can go on."""
PATIENCE_S = 0.05
"""How long one may take before the next begins beside it."""
MOST = 40
"""Threads, those of slow answers included."""


class Lane:
    """The lane of one server."""

    def __init__(self, *, width: int, patience_s: float = PATIENCE_S, most: int = MOST) -> None:
        self._places = CapacityLimiter(width)
        self._threads = CapacityLimiter(most)
        self._patience_s = patience_s

    async def run(self, work: Callable[[], T]) -> T:
        """Run `work` in a thread when its turn has come, and return its result."""
        place = object()
        await self._places.acquire_on_behalf_of(place)
        held = [place]

        def leave() -> None:
            if held:
                self._places.release_on_behalf_of(held.pop())

        waiting = asyncio.get_running_loop().call_later(self._patience_s, leave)
        try:
            return await to_thread.run_sync(work, limiter=self._threads)
        finally:
            waiting.cancel()
            leave()


@dataclass(frozen=True)
class Turn:
    """A request for what takes milliseconds."""

    request: Request

    async def answer(self, form: TypeAdapter[T], work: Callable[[], T]) -> Response:
        """Return what `work` gives, as JSON with its tag, or 304: all of it made in one thread, in one go."""

        def made() -> Response:
            return tagged(self.request, Response(form.dump_json(work()), media_type="application/json"))

        lane: Lane = self.request.app.state.lane
        return await lane.run(made)


async def _turn(request: Request) -> Turn:
    return Turn(request)


Quick = Annotated[Turn, Depends(_turn)]
"""Where a quick answer is made."""
