"""What waiting runs wait for: all SQL for `run_dependency`.

Every function works in the caller's transaction.
"""

from collections.abc import Iterable, Mapping
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from ..storage.compiled import Answer
from ..storage.statement import Statement
from .models import RunDependency
from .store import RUN

_DEPENDENCY = RunDependency.__table__  # type: ignore[attr-defined]
_WAITS_FOR = Statement(
    lambda sql: (
        sa.select(_DEPENDENCY)
        .where(
            sa.or_(
                _DEPENDENCY.c.upstream_run_id == sa.bindparam("upstream_run_id"),
                sa.and_(_DEPENDENCY.c.upstream_run_id.is_(None), sql.among(_DEPENDENCY.c.upstream_id, "upstream_ids")),
            )
        )
        .order_by(_DEPENDENCY.c.run_id, _DEPENDENCY.c.upstream_id)
    )
)


def write_dependencies(connection: Connection, run_id: UUID, waits_for: Mapping[UUID, UUID | None]) -> None:
    """Replace what a run waits for: upstream deployment -> the run that refreshes it, if one does."""
    connection.execute(sa.delete(_DEPENDENCY).where(_DEPENDENCY.c.run_id == run_id))
    if waits_for:
        connection.execute(
            sa.insert(_DEPENDENCY),
            [
                {"run_id": run_id, "upstream_id": upstream, "upstream_run_id": upstream_run}
                for upstream, upstream_run in waits_for.items()
            ],
        )


def ask_dependencies(
    connection: Connection, *, run_id: UUID | None = None, upstream_ids: Iterable[UUID] = ()
) -> Answer:
    """Ask what waits for this run, or waits for one of these deployments without a run that refreshes it."""
    return _WAITS_FOR.ask(connection, upstream_run_id=run_id, upstream_ids=list(upstream_ids))


def awaited_upstreams(connection: Connection) -> set[UUID]:
    """Return the deployments that runs wait for without a run that refreshes them."""
    query = sa.select(_DEPENDENCY.c.upstream_id).where(_DEPENDENCY.c.upstream_run_id.is_(None)).distinct()
    return set(connection.execute(query).scalars())


def orphaned_waits(connection: Connection) -> tuple[set[UUID], list[UUID]]:
    """Return the ended runs that others still wait for, and the waiting runs that wait for nothing."""
    upstream = RUN.alias("upstream")
    ended = (
        sa.select(upstream.c.id)
        .join(_DEPENDENCY, _DEPENDENCY.c.upstream_run_id == upstream.c.id)
        .where(upstream.c.ended_at.is_not(None))
    )
    waits = sa.exists().where(_DEPENDENCY.c.run_id == RUN.c.id)
    free = sa.select(RUN.c.id).where(RUN.c.ended_at.is_(None), RUN.c.status == "waiting", ~waits).order_by(RUN.c.id)
    return set(connection.execute(ended).scalars()), list(connection.execute(free).scalars())


def count_waiting(connection: Connection) -> int:
    """Return how many runs wait."""
    query = sa.select(sa.func.count()).select_from(RUN).where(RUN.c.ended_at.is_(None), RUN.c.status == "waiting")
    count: int = connection.execute(query).scalar_one()
    return count


def remove_dependency(connection: Connection, run_id: UUID, upstream_id: UUID) -> int:
    """Remove one thing that a run waits for; return how many are left."""
    connection.execute(
        sa.delete(_DEPENDENCY).where(_DEPENDENCY.c.run_id == run_id, _DEPENDENCY.c.upstream_id == upstream_id)
    )
    count = sa.select(sa.func.count()).select_from(_DEPENDENCY).where(_DEPENDENCY.c.run_id == run_id)
    left: int = connection.execute(count).scalar_one()
    return left
