"""What a body records while it runs: events, metrics, progress, messages and checkpoints.

Each call is one transaction, guarded by the fence: whoever does not hold the run records nothing.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.engine import Connection, Row

from ..storage import faults
from ..storage.compiled import Answer
from ..storage.database import Database
from ..storage.errors import Fenced
from ..storage.ids import show_run_id
from ..storage.statement import Statement, insert_all
from . import author_events, contents, store
from . import run_events as events
from .author_models import Checkpoint, RunMessage
from .run_statements import LOGGED_AT_ONCE

_MESSAGE = RunMessage.__table__  # type: ignore[attr-defined]
_CHECKPOINT = Checkpoint.__table__  # type: ignore[attr-defined]
_FENCED = "{run} is not held by fence {fence} any more: stop without publishing"
_INSERT_MESSAGE = insert_all(_MESSAGE)
_INSERT_CHECKPOINT = insert_all(_CHECKPOINT)
_NEWEST_CHECKPOINT = Statement(
    lambda _: (
        sa.select(_CHECKPOINT)
        .where(_CHECKPOINT.c.run_id == sa.bindparam("run_id"))
        .order_by(_CHECKPOINT.c.number.desc())
        .limit(sa.literal_column("1"))
    )
)


@dataclass(frozen=True)
class SavedState:
    """The newest checkpoint of a run."""

    checkpoint_id: str
    attempt: int
    """The attempt that saved it."""
    state: Mapping[str, Any]


@dataclass(frozen=True)
class RunRecording:
    """The log of a running body."""

    database: Database

    def record(
        self,
        run_id: UUID,
        fence: int,
        entries: Sequence[events.Event] = (),
        *,
        metrics: Mapping[str, float] | None = None,
        progress: float | None = None,
    ) -> None:
        """Append events, latest metric values and progress of a running body.

        Raises:
            Fenced: somebody else holds the run, or it has ended.
        """

        values = {} if progress is None else {"progress": progress}

        def work(connection: Connection) -> Answer:
            is_few = len(entries) <= LOGGED_AT_ONCE
            now = self.database.known_now(connection) if is_few else self.database.now(connection)
            held = store.ask_change(connection, run_id, fence, entries, now=now, **values)
            if metrics and held.first() is not None:  # the database's time comes along with it
                rows = metric_rows(metrics, {})
                contents.write_metrics(connection, run_id, rows, now=self.database.now(connection))
            faults.reach("record.before_commit")
            return held

        # Where it changes nothing, nothing is what is committed.
        if self.database.write(work).first() is None:
            raise Fenced(_FENCED.format(run=show_run_id(run_id), fence=fence))
        faults.reach("record.committed")

    def add_message(self, run_id: UUID, fence: int, role: str, content: str) -> int:
        """Append a message with its event; return its number.

        Raises:
            Fenced: somebody else holds the run, or it has ended.
        """

        def work(connection: Connection) -> int:
            now = self.database.now(connection)
            added = author_events.MessageAdded(role=role, content_length=len(content))
            number: int = _append(connection, run_id, fence, [added], now=now).last_seq
            _INSERT_MESSAGE.post(connection, run_id=run_id, number=number, role=role, content=content, at=now)
            return number

        return self.database.write(work)

    def save_checkpoint(self, run_id: UUID, fence: int, state: Mapping[str, Any], *, node_id: str | None = None) -> int:
        """Save a state from which a later attempt may go on; return its number. Earlier ones stay.

        Raises:
            NotStorable: the state is not JSON of at most 256 KiB.
            Fenced: somebody else holds the run, or it has ended.
        """

        def work(connection: Connection) -> int:
            now = self.database.now(connection)
            held = _held(connection, run_id, fence)
            number: int = held.last_seq + 1
            saved = author_events.CheckpointSaved(checkpoint_id=str(number), node_id=node_id)
            _append(connection, run_id, fence, [saved], now=now)
            _INSERT_CHECKPOINT.post(
                connection, run_id=run_id, number=number, attempt=held.attempt, state=dict(state), at=now
            )
            return number

        return self.database.write(work)

    def newest_checkpoint(self, run_id: UUID) -> SavedState | None:
        """Return the newest state that an attempt of this run saved, or None."""
        with self.database.read() as connection:
            found = _NEWEST_CHECKPOINT.first(connection, run_id=run_id)
        return None if found is None else SavedState(str(found.number), found.attempt, found.state)


def metric_rows(values: Mapping[str, float], conventions: Mapping[str, Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return rows of `metric`: NaN is null, which SQLite cannot hold otherwise."""
    return [
        {"name": name, "value": None if math.isnan(value) else value, "convention": conventions.get(name)}
        for name, value in values.items()
    ]


def _held(connection: Connection, run_id: UUID, fence: int) -> Row[Any]:
    """Lock a run that this fence holds; return it."""
    row: Row[Any] | None = store.ask_held(connection, run_id, fence).first()
    if row is None:
        raise Fenced(_FENCED.format(run=show_run_id(run_id), fence=fence))
    return row


def _append(
    connection: Connection, run_id: UUID, fence: int, entries: Sequence[events.Event], *, now: datetime, **values: Any
) -> Row[Any]:
    """Append events to the log of a run that this fence holds; return the run."""
    row = store.change(connection, run_id, entries, actor="worker", now=now, held_fence=fence, brief=True, **values)
    if row is None:
        raise Fenced(_FENCED.format(run=show_run_id(run_id), fence=fence))
    return row
