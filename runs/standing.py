"""May a run's result become the current version of its deployment?

A version becomes current when its run drew the newest fence. That is right for runs that read what there is; what is
done again must not take the place of something newer by it: a replay never does, and a run of an earlier data date
does not while the current version covers a later one. Such a version is kept under its number, and its run ends as
superseded. Works in the caller's transaction, which holds the lock of the deployment's state.
"""

from datetime import date
from typing import Any
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from ..lineage.models import DeploymentState, Version
from ..storage.words import Trigger
from .store import RUN

_STATE = DeploymentState.__table__  # type: ignore[attr-defined]
_VERSION = Version.__table__  # type: ignore[attr-defined]


def may_become_current(connection: Connection, run: Any) -> bool:
    """Return whether what this run publishes now may become the current version, if its fence is the newest."""
    if run.replay_of is not None:
        return False
    # Whoever submits a single run for an earlier day says so himself; started again by hand, nobody did.
    if run.data_as_of is None or not (run.trigger == Trigger.BACKFILL or run.retry_of is not None):
        return True
    reached = covered_until(connection, run.deployment_id)
    return (reached is None or run.data_as_of >= reached) and not _has_later_run(connection, run)


def covered_until(connection: Connection, deployment_id: UUID) -> date | None:
    """Return the data date that the current version covers; None when there is no version.

    That is its last data date; where it has none, the date that its run was bounded to, else the day it was published.
    """
    query = (
        sa.select(_VERSION.c.data_end, _VERSION.c.created_at, RUN.c.data_as_of)
        .join(_STATE, _STATE.c.version_id == _VERSION.c.id)
        .outerjoin(RUN, RUN.c.id == _VERSION.c.run_id)
        .where(_STATE.c.deployment_id == deployment_id, _STATE.c.partition == "")
    )
    row = connection.execute(query).one_or_none()
    if row is None:
        return None
    found: date = row.data_end or row.data_as_of or row.created_at.date()
    return found


def _has_later_run(connection: Connection, run: Any) -> bool:
    """True while a run reads to a later date whose fence is older: it would be superseded by this one."""
    later = sa.or_(RUN.c.data_as_of.is_(None), RUN.c.data_as_of > run.data_as_of)
    query = sa.select(RUN.c.id).where(
        RUN.c.deployment_id == run.deployment_id,
        RUN.c.ended_at.is_(None),
        RUN.c.fence < run.fence,
        RUN.c.replay_of.is_(None),
        later,
    )
    return connection.execute(query.limit(1)).first() is not None
