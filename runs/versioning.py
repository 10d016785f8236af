"""What a completing run leaves: its artifacts, the version that they make, and the edges that it was seen to read."""

from datetime import datetime
from typing import Any

from sqlalchemy.engine import Connection, Row

from ..lineage import versions
from ..storage.artifacts import insert_artifacts, replace_artifacts
from . import standing
from .result import Result, data_range, output_digest
from .schemas import published_schema


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
