"""What a completing run leaves: its artifacts, the version that they make, and the edges that it was seen to read."""

from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.engine import Connection, Row

from ..lineage import propagation, staleness, versions
from ..storage import faults
from ..storage.artifacts import insert_artifacts, replace_artifacts
from ..storage.faults import Guard
from ..storage.statement import Sql
from . import standing, store
from .result import Result, data_range, output_digest
from .schemas import published_schema


def _of_run(_: Sql, column: sa.Column[UUID]) -> sa.ColumnElement[bool]:
    run = store.RUN
    return column == sa.select(run.c.deployment_id).where(run.c.id == sa.bindparam("run_id")).scalar_subquery()


_LOCK_ITS_STATES = propagation.locking(_of_run)
_ITS_STATE = versions.state_of(_of_run)


def lock_to_publish(
    connection: Connection, run_id: UUID, read_from: Sequence[UUID]
) -> Callable[[UUID], tuple[staleness.Affected, Any]]:
    """Lock what `staleness.lock_affected` does for the run's deployment, without waiting to be told which that is.

    `read_from` are the upstreams that it read. The function that is returned waits: it is told the deployment, and
    returns what is locked, with the deployment's state (`versions.state_of`) as it is under the lock.
    """
    if connection.dialect.name == "sqlite" or not faults.is_on(Guard.LOCK_ORDER):

        def lock_now(deployment_id: UUID) -> tuple[staleness.Affected, Any]:
            affected = staleness.lock_affected(connection, [deployment_id], upstreams=read_from)
            return affected, _ITS_STATE.first(connection, run_id=run_id)

        return lock_now
    states = _LOCK_ITS_STATES.ask(connection, run_id=run_id, also=read_from)
    state = _ITS_STATE.ask(connection, run_id=run_id)

    def locked(deployment_id: UUID) -> tuple[staleness.Affected, Any]:
        ids = {row[0] for row in states.rows()}
        return staleness.Affected(frozenset({deployment_id}), ids), state.first()

    return locked


def publish_result(
    connection: Connection, run: Row[Any], fence: int, result: Result, *, now: datetime, state: Any
) -> versions.Published:
    """Record the artifacts and publish the version, in the caller's transaction, which has locked this state."""
    # An earlier attempt may have left some, its traceback among them.
    keep = replace_artifacts if run.attempt > 1 else insert_artifacts
    keep(connection, run.id, result.artifacts, now=now, since=run.started_at)
    tables = [artifact for artifact in result.artifacts if artifact.publish]
    data_start, data_end = data_range(tables)
    reads = [versions.Input(read.role, read.upstream_id, read.version_id) for read in result.reads]
    published = versions.publish(
        connection,
        versions.NewVersion(
            deployment_id=run.deployment_id,
            run_id=run.id,
            fence=fence,
            digest=output_digest(tables),
            declaration_digest=run.declaration_digest,
            inputs=reads,
            base_version_id=result.base_version_id,
            appends=result.appends,
            rows=sum(table.rows or 0 for table in tables),
            size_bytes=sum(table.size_bytes for table in tables),
            data_start=data_start,
            data_end=data_end,
            source_delayed=result.source_delayed,
            table_schema=published_schema(tables),
            may_become_current=standing.may_become_current(connection, run),
        ),
        now=now,
        state=state,
    )
    if run.replay_of is None:  # what it reads says nothing of what its deployment reads today
        versions.observe_edges(connection, run.deployment_id, reads)
    return published
