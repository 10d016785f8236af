"""What is to leave for Prefect: all SQL for the table `outbox`.

An entry is written in the transaction that causes it, claimed with a token before it is sent, and settled by the
holder of that token. A sender that dies leaves a claim that runs out; the next one sends again, which the receiver
recognises by its key. Entries about one run leave in the order in which they were written.
"""

from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.engine import Connection, Row

from ..storage.ids import new_id
from .models import Outbox
from .store import insert_or_ignore

_OUTBOX = Outbox.__table__  # type: ignore[attr-defined]
_MAX_BACKOFF_S = 60.0


class Topic(StrEnum):
    """What kind of message leaves."""

    DISPATCH = "dispatch"
    """Create a flow run for the run."""
    RESUME = "resume"
    """Let the suspended flow run go on."""
    CANCEL = "cancel"
    """Cancel the flow run."""
    CRASH = "crash"
    """Force the flow run, whose worker is gone, to Crashed."""


def enqueue(
    connection: Connection,
    topic: Topic,
    run_id: UUID,
    *,
    dedupe_key: str,
    now: datetime,
    payload: dict[str, Any] | None = None,
) -> None:
    """Write an entry; one with the same key is written once."""
    connection.execute(
        insert_or_ignore(connection, _OUTBOX).values(
            id=new_id(), topic=topic, run_id=run_id, dedupe_key=dedupe_key, payload=payload or {}, state="due",
            attempts=0, due_at=now,
        )
    )  # fmt: skip


def claim(connection: Connection, *, now: datetime, limit: int = 10, hold_s: float = 60.0) -> list[Row[Any]]:
    """Take up to `limit` due entries for `hold_s` seconds; return their rows with the new token."""
    earlier = _OUTBOX.alias("earlier")
    is_first = ~sa.exists().where(
        earlier.c.run_id == _OUTBOX.c.run_id, earlier.c.state == "due", earlier.c.id < _OUTBOX.c.id
    )
    due = (
        sa.select(_OUTBOX.c.id)
        .where(_OUTBOX.c.state == "due", _OUTBOX.c.due_at <= now, is_first)
        .order_by(_OUTBOX.c.due_at, _OUTBOX.c.id)
        .limit(limit)
        .with_for_update(skip_locked=True)
        .cte("due")
    )
    take = (
        sa.update(_OUTBOX)
        .where(_OUTBOX.c.id.in_(sa.select(due.c.id)))
        .values(claim_token=new_id(), due_at=now + timedelta(seconds=hold_s), attempts=_OUTBOX.c.attempts + 1)
        .returning(_OUTBOX)
    )
    return sorted(connection.execute(take), key=lambda row: row.id)


def settle(connection: Connection, entry: Row[Any]) -> bool:
    """Mark an entry as sent; return False when its claim had run out and somebody else has it."""
    return _close(connection, entry, state="done")


def bury(connection: Connection, entry: Row[Any], *, error: str) -> bool:
    """Give an entry up for good."""
    return _close(connection, entry, state="dead", last_error=error[:2000])


def postpone(connection: Connection, entry: Row[Any], *, error: str, now: datetime) -> None:
    """Try an entry again later: after 1, 2, 4… seconds, at most a minute."""
    delay_s = min(_MAX_BACKOFF_S, 2.0 ** min(entry.attempts - 1, 10))
    connection.execute(
        sa.update(_OUTBOX)
        .where(_OUTBOX.c.id == entry.id, _OUTBOX.c.claim_token == entry.claim_token)
        .values(due_at=now + timedelta(seconds=delay_s), last_error=error[:2000])
    )


def _close(connection: Connection, entry: Row[Any], **values: Any) -> bool:
    closed = connection.execute(
        sa.update(_OUTBOX)
        .where(_OUTBOX.c.id == entry.id, _OUTBOX.c.claim_token == entry.claim_token, _OUTBOX.c.state == "due")
        .values(**values)
    )
    return closed.rowcount == 1
