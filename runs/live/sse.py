"""Streams as server-sent events: the asynchronous edge of what the poller's thread brings.

Owns the form of a message and when one is sent. Which request gets which stream is not known here.

A stream is an asynchronous generator of bytes. It asks for the next part when the one before was taken off its hands,
so that a client that does not read fills its own buffer and nothing else.
"""

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import Any
from uuid import UUID

from fastapi.sse import format_sse_event

from ...storage.errors import FreshlineError
from .changes import Change
from .poller import Live
from .rows import LoggedEvent, as_text

_LOGGER = logging.getLogger(__name__)

HEARTBEAT_S = 15.0
"""A line without meaning is sent when nothing else was for so long: proxies close what is silent."""
_HEARTBEAT = b": heartbeat\n\n"
_OPENING = b"retry: 1000\n\n"
"""The first bytes: the answer has begun, and when it breaks off, a browser asks again after a second."""


class _Bell:
    """Wakes a coroutine from another thread."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._rung = asyncio.Event()

    def ring(self) -> None:
        with suppress(RuntimeError):  # the loop is closed: nobody listens any more
            self._loop.call_soon_threadsafe(self._rung.set)

    def reset(self) -> None:
        self._rung.clear()

    async def wait(self, within_s: float) -> bool:
        try:
            async with asyncio.timeout(within_s):
                await self._rung.wait()
        except TimeoutError:
            return False
        return True


async def log_stream(
    live: Live, run_id: UUID, *, after: int = 0, heartbeat_s: float = HEARTBEAT_S
) -> AsyncIterator[bytes]:
    """Yield the entries of a run's log after `after`, one message each, until the last one of a run that has ended.

    Every entry comes once and in order, however slowly the stream is read: a reader that is too slow for what comes is
    told so by a message `resync`, and is given the rest out of the log.
    """
    bell = _Bell()
    feed = live.follow(run_id, after=after, notify=bell.ring)
    yield _OPENING
    try:
        while True:
            bell.reset()
            part = feed.take()
            if part.num_dropped:
                yield _resync({"why": "slow", "after": feed.after, "num_dropped": part.num_dropped})
            if part.is_behind:
                part = await asyncio.to_thread(live.read_on, feed)
            for event in part.events:
                yield _entry(event)
            if part.is_over:
                return
            if not part.events and not part.is_behind and not await bell.wait(heartbeat_s):
                yield _HEARTBEAT
    except FreshlineError as error:
        # The client asks again from where it stands.
        _LOGGER.warning("the stream of a run breaks off: %s", error)
    finally:
        live.leave(feed)


async def project_stream(
    live: Live,
    *,
    cursor: str | None = None,
    deployment: str | None = None,
    heartbeat_s: float = HEARTBEAT_S,
) -> AsyncIterator[bytes]:
    """Yield what changes in the project after a cursor: the newest state of each run and deployment, one message each.

    A message `resync` says that from its cursor on everything is told, and of what was before nothing: the reader
    looks at it now.
    """
    bell = _Bell()
    feed = live.watch(cursor=cursor, deployment=deployment, notify=bell.ring)
    yield _OPENING
    try:
        while True:
            bell.reset()
            part = feed.take()
            if part.resync is not None:
                yield _resync({"why": part.resync.why}, cursor=part.resync.cursor)
            for change in part.changes:
                yield _change(change)
            if part.is_over:
                return
            is_idle = part.resync is None and not part.changes
            if is_idle and not await bell.wait(heartbeat_s):
                yield _HEARTBEAT
    finally:
        live.leave(feed)


def _entry(event: LoggedEvent) -> bytes:
    return format_sse_event(event=event.kind, data_str=event.text, id=str(event.seq))


def _change(change: Change) -> bytes:
    return format_sse_event(event=change.event, data_str=change.text, id=change.cursor)


def _resync(data: dict[str, Any], *, cursor: str | None = None) -> bytes:
    return format_sse_event(event="resync", data_str=as_text(data), id=cursor)
