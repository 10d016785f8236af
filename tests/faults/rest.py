"""What is still under way in the store and in Prefect, and what it takes to come to rest."""

from typing import Any
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.engine import Row

from freshline.deployments.gateway import FlowRunFacts
from freshline.runs.status import LEASED, RunStatus
from freshline.storage.database import Database
from tests.faults.prefect_stand_in import LossyPrefect
from tests.faults.tables import DEPENDENCY, DEPLOYMENT, OUTBOX, RUN


def active_run_ids(database: Database) -> list[UUID]:
    """The runs that have not ended, oldest first."""
    return _column(database, sa.select(RUN.c.id).where(RUN.c.ended_at.is_(None)).order_by(RUN.c.id))


def paused_flow_runs(database: Database) -> set[UUID]:
    """The flow runs of paused runs: a person may resume them."""
    return set(_column(database, sa.select(RUN.c.flow_run_id).where(RUN.c.status == RunStatus.PAUSED)))


def holds_lease(database: Database, flow_run_id: UUID) -> bool:
    """True when the newest run of the flow run has a worker, dead or alive."""
    query = sa.select(RUN.c.status).where(RUN.c.flow_run_id == flow_run_id).order_by(RUN.c.generation.desc()).limit(1)
    return next(iter(_column(database, query)), None) in LEASED


def waits_for_stale(database: Database) -> str | None:
    """A deployment that is awaited, is not ready and has no run under way; none when there is none."""
    busy = sa.exists().where(RUN.c.deployment_id == DEPENDENCY.c.upstream_id, RUN.c.ended_at.is_(None))
    query = (
        sa.select(DEPLOYMENT.c.key)
        .join(DEPENDENCY, DEPENDENCY.c.upstream_id == DEPLOYMENT.c.id)
        .where(DEPENDENCY.c.upstream_run_id.is_(None), ~busy)
        .order_by(DEPLOYMENT.c.key)
    )
    return next(iter(_column(database, query)), None)


def under_way(database: Database, prefect: LossyPrefect) -> list[str]:
    """What is not at rest: runs, messages, flow runs."""
    with database.read() as connection:
        runs = connection.execute(sa.select(RUN).where(RUN.c.ended_at.is_(None)).order_by(RUN.c.id)).all()
        due = connection.execute(sa.select(OUTBOX).where(OUTBOX.c.state == "due").order_by(OUTBOX.c.id)).all()
        known = {one for row in connection.execute(sa.select(RUN.c.id, RUN.c.flow_run_id)) for one in row}
    return [
        *(f"the {run.trigger} run {run.id} is {run.status}, its flow run {_state(prefect, run)}" for run in runs),
        *(f"{entry.topic} of {entry.run_id} is due: {entry.last_error}" for entry in due),
        *(f"the flow run {one.name} is {one.state_name}" for one in prefect.flow_runs() if not one.has_ended),
        *(
            f"the flow run {one.name} is {one.state_name} and has no run"
            for one in prefect.flow_runs()
            if (one.has_begun or one.has_ended) and one.id not in known and dispatched_for(one) not in known
        ),
    ]


def dispatched_for(flow_run: FlowRunFacts) -> UUID | None:
    """The run that it was created for; none when somebody else created it."""
    label = flow_run.labels.get("freshline.run_id")
    return UUID(label) if label is not None else None


def _column(database: Database, query: sa.Select[Any]) -> list[Any]:
    with database.read() as connection:
        return list(connection.execute(query).scalars())


def _state(prefect: LossyPrefect, run: Row[Any]) -> str | None:
    flow_run = {one.id: one for one in prefect.flow_runs()}.get(run.flow_run_id)
    return flow_run.state_name if flow_run is not None else "does not exist"
