"""The sweep that refreshes stale deployments by themselves: one run per burst of changes, whoever else sweeps.

What is to be done follows from the record each time: nothing is handed over when a deployment becomes stale, so nothing
is lost with whoever made it so, and a completing run pays nothing for it. A run is submitted in one transaction that
locks the deployment's state and looks again; the second of two sweeps finds the run of the first under way.
"""

import logging
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy.engine import Connection, Row

from ...lineage import foundation, staleness
from ...lineage.models import CauseKind
from ...storage import faults
from ...storage.database import Database
from ...storage.errors import FreshlineError, StoreError
from ...storage.ids import show_run_id
from ...storage.words import AUTO_REFRESH, IfReady, Trigger
from .. import logs
from ..submission import Submission, record
from . import auto_refresh_rows
from .auto_refresh_due import Stale, due

_LOGGER = logging.getLogger(__name__)
_MOST_AT_ONCE = 100
"""Runs that one sweep submits: the reconciler has other work too, and the next sweep goes on."""


def refresh_stale(database: Database, refused: dict[UUID, str] | None = None) -> int:
    """Submit a run of every deployment that is due to be refreshed by itself; return how many.

    Each in a transaction of its own: what is wrong with one does not keep the others. `refused` is what whoever sweeps
    again and again keeps between sweeps: why a deployment's run was refused is logged when it changes, not each time;
    and again when the deployment was not due in between.
    """
    refused = {} if refused is None else refused
    with database.read() as connection:
        settled = auto_refresh_rows.settled(connection)
        if not auto_refresh_rows.is_wanted(connection) and not settled:
            refused.clear()
            return 0
        now = database.now(connection)
        found = [(one, due(one)) for one in auto_refresh_rows.runnable(connection)]
    waits = {one.deployment_id: one.since for one, when in found if when.is_settling and one.waiting_since is None}
    ready = [(when.at, one) for one, when in found if when.at is not None and when.at <= now]
    for _, one in ready:
        waits.pop(one.deployment_id, None)
    for not_due in refused.keys() - {one.deployment_id for _, one in ready}:
        del refused[not_due]
    if waits or settled:
        database.write(lambda connection: auto_refresh_rows.note_waits(connection, waits, settled))
    ready.sort(key=lambda item: (item[0], item[1].deployment_id))
    return sum(_refresh(database, one, refused) for _, one in ready[:_MOST_AT_ONCE])


def _refresh(database: Database, stale: Stale, refused: dict[UUID, str]) -> bool:
    """Submit a run of one deployment, if it is still due."""
    faults.reach("auto_refresh.begin")
    try:
        run = database.write(lambda connection: _submit(connection, stale.deployment_id, now=database.now(connection)))
    except StoreError:
        raise
    except FreshlineError as error:
        if refused.get(stale.deployment_id) != str(error):
            _LOGGER.warning("%s could not be refreshed by itself: %s", stale.key, error)
            refused[stale.deployment_id] = str(error)
        return False
    refused.pop(stale.deployment_id, None)
    faults.reach("auto_refresh.committed")
    if run is None:
        return False
    logs.run_event(_LOGGER, f"refreshed by itself: {stale.because()}", run=run, actor=run.actor, deployment=stale.key)
    return True


def _submit(connection: Connection, deployment_id: UUID, *, now: datetime) -> Row[Any] | None:
    """Record the run, unless it is not due any more; return its row.

    Nothing is due that was done meanwhile by another sweep, or that a completion, a submission or a lapse has changed.
    """
    # Before the lock: what has lapsed is locked in the order of ids. The gate, asked below, finds nothing more lapsed.
    built_on = foundation.ask_foundation(connection, deployment_id, with_itself=False, lock=False, now=now)()
    if built_on.due:
        staleness.propagate(connection, built_on.due, now=now)
    staleness.lock_states(connection, [deployment_id])
    faults.reach("auto_refresh.locked")
    for stale in auto_refresh_rows.runnable(connection, [deployment_id]):
        at = due(stale).at
        if at is None or at > now:
            continue
        submission = Submission(
            deployment=stale.key,
            # What makes it ready before the run starts makes the run needless.
            if_ready=IfReady.SKIP,
            idempotency_key=f"auto-refresh:{deployment_id}:{stale.num_runs + 1}",
            actor=_actor(connection, stale),
            trigger=Trigger.CASCADE,
            trigger_name=AUTO_REFRESH,
            because=stale.because(),
        )
        run = record(connection, submission, tenant_id=stale.tenant_id, clock=lambda: now).row
        if not auto_refresh_rows.remember_run(connection, stale, run.id, now=now):
            raise FreshlineError(f"{stale.key} was refreshed by another sweep although its state was locked")
        faults.reach("auto_refresh.before_commit")
        return run
    return None


def _actor(connection: Connection, stale: Stale) -> str:
    """Return the run or act that began it."""
    first = stale.causes[0]
    match first.reason.kind:
        case CauseKind.EXPIRED:
            return "freshness policy"
        case CauseKind.DECLARATION_CHANGED:
            return "deploy"
        case CauseKind.WITHDRAWN if first.origin_version_id is not None:
            return auto_refresh_rows.withdrawn_by(connection, first.origin_version_id) or AUTO_REFRESH
        case _ if first.reason.origin_run_id is not None:
            return show_run_id(first.reason.origin_run_id)
        case _:
            return AUTO_REFRESH
