"""What an example of the state machine is made of: an emptied store, a clock, workers, and choices by place."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

import sqlalchemy as sa
from hypothesis import strategies as st
from sqlmodel import SQLModel

from freshline.runs.models import Store
from freshline.storage.database import Database
from tests.factories import START


class Clock:
    """The time of everybody; it stands still until it is moved."""

    now: datetime = START

    def __call__(self) -> datetime:
        return self.now


@dataclass(frozen=True)
class Holder:
    """A worker that was given a run, and does not know whether it still holds it."""

    run_id: UUID
    fence: int
    flow_run_id: UUID


def empty(database: Database) -> None:
    """Remove every record but the identity of the store."""
    with database.transaction() as connection:
        for table in reversed(SQLModel.metadata.sorted_tables):
            if table.name != Store.__tablename__:
                connection.execute(sa.delete(table))


def one_of(data: Any, items: Sequence[Any], what: str) -> Any:
    """Choose by the place: ids differ when Hypothesis replays an example."""
    return items[data.draw(st.integers(0, len(items) - 1), what)]
