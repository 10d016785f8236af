"""The lane of quick reads: few threads of their own, first come, first served; what turns out slow lets others pass.

One interpreter answers everybody. Were each of many requests given a thread at once, they would interrupt one another
at every row that the database gives, and all of them would be late; and behind slow reads, which have the threads of
the other routes, the quick ones would wait for minutes. Who asks what another one is waiting to ask waits with them:
all pages that show a list ask for it anew when a run changes.
"""

import asyncio
from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, TypeVar

from anyio import CapacityLimiter, to_thread
from fastapi import Depends, Request, Response
from pydantic import TypeAdapter

from ..entity_tags import tag_of
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
        self._waiting: dict[Hashable, asyncio.Task[Any]] = {}

    async def run(self, question: Hashable, work: Callable[[], T]) -> T:
        """Run `work` in a thread when its turn has come, and return its result.

        Those who ask the same question before its turn has come get the same result: it is as new as if each had
        asked alone. Whoever comes later asks anew. What one of them raises, all of them do.
        """
        task = self._waiting.get(question)
        if task is None:
            task = asyncio.create_task(self._run(question, work))
            self._waiting[question] = task
        # A client that goes away takes nothing from the others.
        return await asyncio.shield(task)

    async def _run(self, question: Hashable, work: Callable[[], T]) -> T:
        place = object()
        try:
            await self._places.acquire_on_behalf_of(place)
        finally:
            del self._waiting[question]
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
        """Return what `work` gives, as JSON with its tag, or 304: bytes and tag are made in the work's thread.

        `work` must give the same to everybody who asks for this path with these parameters.
        """

        def made() -> tuple[bytes, str]:
            content = form.dump_json(work())
            return content, tag_of(content)

        lane: Lane = self.request.app.state.lane
        content, tag = await lane.run((self.request.url.path, self.request.scope["query_string"]), made)
        return tagged(self.request, Response(content, media_type="application/json", headers={"ETag": tag}))


async def _turn(request: Request) -> Turn:
    return Turn(request)


Quick = Annotated[Turn, Depends(_turn)]
"""Where a quick answer is made."""
