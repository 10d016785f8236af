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

import orjson
from fastapi.sse import format_sse_event

from ...storage.errors import FreshlineError
from .changes import Change
from .feeds import Resync
from .poller import Live
from .rows import LoggedEvent

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
                yield _message("resync", {"why": "slow", "after": feed.after, "num_dropped": part.num_dropped})
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
                yield _resync(part.resync)
            for change in part.changes:
                yield _change(change)
            if part.is_over:
                return
            is_idle = part.resync is None and not part.changes
            if is_idle and not await bell.wait(heartbeat_s):
                yield _HEARTBEAT
    finally:
        live.leave(feed)


def event_document(event: LoggedEvent) -> dict[str, Any]:
    """Return an entry of a run's log as it is sent."""
    return {"seq": event.seq, "kind": event.kind, "actor": event.actor, "at": event.at, "payload": event.payload}


def _entry(event: LoggedEvent) -> bytes:
    return _message(event.kind, event_document(event), id_=str(event.seq))


def _change(change: Change) -> bytes:
    return _message(change.event, change.data, id_=change.cursor)


def _resync(resync: Resync) -> bytes:
    return _message("resync", {"why": resync.why}, id_=resync.cursor)


def _message(event: str, data: Any, *, id_: str | None = None) -> bytes:
    text = orjson.dumps(data, option=orjson.OPT_UTC_Z).decode()
    return format_sse_event(data_str=text, event=event, id=id_)
