"""Identifiers: UUIDv7, so that ids sort by the time of their creation (RFC 9562, 5.7).

A run's id is shown with the prefix `run-` and accepted with or without it.
"""

import os
import threading
import time
from typing import Protocol
from uuid import UUID

from .errors import InvalidInput

_RUN_PREFIX = "run-"
_lock = threading.Lock()
_last_ticks = 0


class Identified(Protocol):
    """A record that has an id, such as a run."""

    id: UUID


def id_of(reference: UUID | str | Identified) -> UUID | str:
    """Return the id of a record, or the id that was given instead."""
    return reference if isinstance(reference, UUID | str) else reference.id


def new_id() -> UUID:
    """Return a new UUIDv7; ids made by one process are strictly increasing."""
    global _last_ticks  # noqa: PLW0603 - the only state: the last time that was handed out
    with _lock:
        # Milliseconds with 12 bits of sub-millisecond fraction (RFC 9562, 6.2, method 3).
        ticks = max(time.time_ns() * 4096 // 1_000_000, _last_ticks + 1)
        _last_ticks = ticks
    milliseconds, fraction = divmod(ticks, 4096)
    random = int.from_bytes(os.urandom(8)) & ((1 << 62) - 1)
    return UUID(int=(milliseconds << 80) | (0x7 << 76) | (fraction << 64) | (0b10 << 62) | random)


def show_run_id(run_id: UUID) -> str:
    """Return the id as people see it: `run-0199…`."""
    return f"{_RUN_PREFIX}{run_id}"


def parse_run_id(text: str | UUID) -> UUID:
    """Return the UUID of a run id given with or without its prefix.

    Raises:
        InvalidInput: the text is not a run id.
    """
    return parse_shown_id(text, _RUN_PREFIX, what="a run id")


def parse_shown_id(text: str | UUID, prefix: str, *, what: str) -> UUID:
    """Return the UUID of an id that people see with a prefix, given with or without it.

    Raises:
        InvalidInput: the text is not `what` it should be.
    """
    if isinstance(text, UUID):
        return text
    try:
        return UUID(text.removeprefix(prefix))
    except ValueError:
        raise InvalidInput(f"{text!r} is not {what}; it looks like {prefix}0199b3c2-…") from None
