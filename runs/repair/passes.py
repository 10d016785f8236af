"""When a reconciler last came through: what says whether anybody still looks after the runs.

A row of `chore`, moved at the end of each pass, by whichever of several reconcilers made it.
"""

from datetime import datetime

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from ...storage.statement import Sql, Statement
from ..care.models import Chore

_CHORE = Chore.__table__  # type: ignore[attr-defined]
_NAME = "reconcile"


def _upsert(sql: Sql) -> sa.Executable:
    row = sql.insert(_CHORE).values(sql.values(_CHORE.c))
    moved: sa.Executable = row.on_conflict_do_update(
        index_elements=[_CHORE.c.name], set_={"began_at": row.excluded.began_at, "ended_at": row.excluded.ended_at}
    )
    return moved


_NOTE = Statement(_upsert)
_LAST = Statement(lambda _: sa.select(_CHORE.c.ended_at).where(_CHORE.c.name == sa.bindparam("name")))


def note_pass(connection: Connection, *, began_at: datetime, now: datetime) -> None:
    """Record that a pass came to its end."""
    _NOTE.run(connection, name=_NAME, began_at=began_at, ended_at=now)


def last_pass_at(connection: Connection) -> datetime | None:
    """Return when a reconciler last came through, by the database's clock; null: none ever has."""
    return _LAST.scalar(connection, name=_NAME)
