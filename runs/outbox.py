"""What is to leave for Prefect: all SQL for the table `outbox`.

An entry is written in the transaction that causes it, claimed with a token before it is sent, and settled by the
holder of that token. A sender that dies leaves a claim that runs out; the next one sends again, which the receiver
recognises by its key. Entries about one run leave in the order in which they were written.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.engine import Connection, Row

from ..storage.compiled import Answer
from ..storage.ids import new_id
from ..storage.statement import Sql, Statement, unindexed
from .models import Outbox

_OUTBOX = Outbox.__table__  # type: ignore[attr-defined]
_MAX_BACKOFF_S = 60.0
_HOLD = timedelta(seconds=60)
"""How long a sender has its entries to itself."""
_DUE: sa.ColumnElement[str] = sa.literal_column("'due'")
"""In the text: it matches the index."""
_IS_DUE = _OUTBOX.c.state == _DUE
_LATER = ("claim_token", "last_error")
"""Columns that an entry gets when it is sent."""


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
    END = "end"
    """Force the flow run, whose process was lost after its run had ended, to the state that the payload says."""


def _claim(sql: Sql) -> sa.Executable:
    earlier = _OUTBOX.alias("earlier")
    of_its_run = sa.and_(earlier.c.run_id == _OUTBOX.c.run_id, earlier.c.id < _OUTBOX.c.id)
    # Counted, each run by itself: EXISTS becomes a join, in which Postgres compares everything due with everything due.
    num_before = sa.select(sa.func.count()).where(of_its_run, unindexed(earlier.c.state) == _DUE).scalar_subquery()
    is_first = num_before == sa.literal_column("0")
    due = (
        sa.select(_OUTBOX.c.id)
        .where(_IS_DUE, _OUTBOX.c.due_at <= sql.moment("now", _OUTBOX.c.due_at), is_first)
        .order_by(_OUTBOX.c.due_at, _OUTBOX.c.id)
        .limit(sa.bindparam("most", type_=sa.Integer))
        .with_for_update(skip_locked=True)
        .cte("due")
    )
    return (
        sa.update(_OUTBOX)
        .where(_OUTBOX.c.id.in_(sa.select(due.c.id)))
        .values(claim_token=sa.bindparam("token"), due_at=_until(sql), attempts=_OUTBOX.c.attempts + 1)
        .returning(_OUTBOX)
    )


def _until(sql: Sql) -> sa.ColumnElement[datetime]:
    return sql.moment("until", _OUTBOX.c.due_at, after=_HOLD)


_ENQUEUE = Statement(
    lambda sql: (
        sql.insert(_OUTBOX)
        .values({column.name: sa.bindparam(column.name) for column in _OUTBOX.c if column.name not in _LATER})
        .on_conflict_do_nothing()
    )
)
_CLAIM = Statement(_claim)
_CLOSE = Statement(
    lambda _: (
        sa.update(_OUTBOX)
        .where(
            _OUTBOX.c.id == sa.bindparam("entry"),
            _OUTBOX.c.claim_token == sa.bindparam("token"),
            unindexed(_OUTBOX.c.state) == _DUE,
        )
        .values(state=sa.bindparam("new_state"), last_error=sa.bindparam("error"))
    )
)


def enqueue(
    connection: Connection,
    topic: Topic,
    run_id: UUID,
    *,
    dedupe_key: str,
    now: datetime,
    payload: dict[str, Any] | None = None,
) -> bool:
    """Write an entry; return False when there is one with the same key: it is written once."""
    return _ENQUEUE.run(connection, **_entry(topic, run_id, dedupe_key, now, payload)) == 1


def dispatch(connection: Connection, run: Any, *, now: datetime) -> None:
    """Have a flow run created for a pending run; each time that it becomes pending, once."""
    _ENQUEUE.post(connection, **_entry(Topic.DISPATCH, run.id, f"dispatch:{run.id}:{run.last_seq}", now))


def resume(connection: Connection, run: Any, *, now: datetime) -> None:
    """Have the suspended flow run of this run go on."""
    _ENQUEUE.post(connection, **_entry(Topic.RESUME, run.id, f"resume:{run.id}:{run.last_seq}", now))


@dataclass(frozen=True)
class Hold:
    """The entries that one claim has taken."""

    taken: Answer
    mark: Mapping[str, Any]
    """The parameters of `run_ids_in_hold`."""

    def entries(self) -> list[Row[Any]]:
        """Return their rows, with the token of this claim, in the order in which they were written."""
        return sorted(self.taken.rows(), key=lambda row: row.id)


def claim(connection: Connection, *, now: datetime | None, limit: int = 10) -> Hold:
    """Take up to `limit` due entries for a minute; `now` as `Database.known_now` gives it."""
    mark = {"token": new_id(), "until": None if now is None else now + _HOLD}
    return Hold(_CLAIM.ask(connection, now=now, most=limit, **mark), mark)


def run_ids_in_hold(sql: Sql) -> sa.Select[tuple[UUID]]:
    """Return the query for the runs of the entries that the same transaction has claimed."""
    is_held = sa.and_(_OUTBOX.c.due_at == _until(sql), _OUTBOX.c.claim_token == sa.bindparam("token"))
    return sa.select(_OUTBOX.c.run_id).where(_IS_DUE, is_held)


def is_to_be_forced(connection: Connection, run_id: UUID) -> bool:
    """True when an entry waits that ends the run's flow run by force: its process is gone."""
    forced = sa.select(_OUTBOX.c.id).where(
        _OUTBOX.c.run_id == run_id, _IS_DUE, _OUTBOX.c.topic.in_([Topic.CRASH, Topic.END])
    )
    return connection.execute(forced.limit(1)).first() is not None


def settle(connection: Connection, entry: Row[Any]) -> Answer:
    """Mark an entry as sent; it changes nothing when its claim had run out and somebody else has it."""
    return _close(connection, entry, state="done", error=None)


def bury(connection: Connection, entry: Row[Any], *, error: str) -> bool:
    """Give an entry up for good."""
    return _close(connection, entry, state="dead", error=error[:2000]).changed() == 1


def postpone(connection: Connection, entry: Row[Any], *, error: str, now: datetime) -> None:
    """Try an entry again later: after 1, 2, 4… seconds, at most a minute."""
    delay_s = min(_MAX_BACKOFF_S, 2.0 ** min(entry.attempts - 1, 10))
    connection.execute(
        sa.update(_OUTBOX)
        .where(_OUTBOX.c.id == entry.id, _OUTBOX.c.claim_token == entry.claim_token)
        .values(due_at=now + timedelta(seconds=delay_s), last_error=error[:2000])
    )


def _entry(
    topic: Topic, run_id: UUID, dedupe_key: str, now: datetime, payload: dict[str, Any] | None = None
) -> dict[str, Any]:
    return {
        "id": new_id(),
        "topic": topic,
        "run_id": run_id,
        "dedupe_key": dedupe_key,
        "payload": payload or {},
        "state": "due",
        "attempts": 0,
        "due_at": now,
    }


def _close(connection: Connection, entry: Row[Any], *, state: str, error: str | None) -> Answer:
    return _CLOSE.ask(connection, entry=entry.id, token=entry.claim_token, new_state=state, error=error)
