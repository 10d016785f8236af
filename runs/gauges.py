"""The numbers that a monitoring system collects: how many runs, how old what waits, how fresh the deployments are.

A few queries in one snapshot, none of which reads the runs that ended long ago, asked once in a few seconds however
many ask. They are asked in a thread of their own: whoever collects is answered in time, also while the database hangs,
and it is not asked a second time meanwhile.
"""

import threading
import time
from collections.abc import Mapping
from concurrent.futures import Future, wait
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import TypeVar

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from ..lineage.models import Activity, Deployment, DeploymentState, Freshness
from ..storage.database import Database
from ..storage.errors import StoreUnavailable
from .models import Outbox, Run
from .repair.passes import last_pass_at
from .status import ACTIVE, TERMINAL, RunStatus

_RUN = Run.__table__  # type: ignore[attr-defined]
_OUTBOX = Outbox.__table__  # type: ignore[attr-defined]
_DEPLOYMENT = Deployment.__table__  # type: ignore[attr-defined]
_STATE = DeploymentState.__table__  # type: ignore[attr-defined]

W = TypeVar("W", Freshness, Activity)

ENDED_WITHIN = timedelta(hours=1)
"""Runs that ended longer ago are not counted."""
_KEPT_S = 5.0
_WITHIN_S = 5.0
"""Prometheus itself gives up after ten seconds, unless it is told otherwise."""


@dataclass(frozen=True)
class Readings:
    """The numbers at one moment."""

    active: Mapping[RunStatus, int]
    """Runs under way in each status."""
    oldest_s: Mapping[RunStatus, float]
    """Seconds since the oldest run under way in each status was created; those that have none are left out."""
    ended: Mapping[RunStatus, int]
    """Runs that ended within the last hour, by how."""
    open_entries: int
    """Entries of the outbox that have not left."""
    oldest_entry_s: float
    """Seconds since the oldest of them was due; 0 when none is overdue."""
    reconciler_s: float | None
    """Seconds since a reconciler last came through; null: none ever has."""
    freshness: Mapping[Freshness, int]
    """Deployments that are not retired, by their freshness."""
    activity: Mapping[Activity, int] = field(default_factory=dict)
    """And by their activity."""


class Gauges:
    """Reads the numbers of one tenant, and keeps them for a few seconds."""

    def __init__(
        self, database: Database, *, tenant_id: str = "default", kept_s: float = _KEPT_S, within_s: float = _WITHIN_S
    ) -> None:
        self._database, self._tenant_id = database, tenant_id
        self._kept_s, self._within_s = kept_s, within_s
        self._lock = threading.Lock()
        self._asked: Future[Readings] | None = None
        self._asked_at = self._good_until = 0.0

    def read(self) -> Readings:
        """Return the numbers, now or a few seconds ago, within the time that the database is given to answer.

        Raises:
            StoreUnavailable: the database cannot be reached, or has not answered in time.
        """
        with self._lock:
            now = time.monotonic()
            asked = self._asked
            if asked is None or (asked.done() and (asked.exception() is not None or now >= self._good_until)):
                asked = Future()
                # First: of a thread that cannot be started nobody would ever hear.
                threading.Thread(target=self._ask, args=(asked,), name="freshline-gauges", daemon=True).start()
                self._asked, self._asked_at = asked, now
            left_s = self._asked_at + self._within_s - now
        wait([asked], max(0.0, left_s))
        if not asked.done():
            raise StoreUnavailable(f"the database has not answered within {self._within_s:g} s")
        return asked.result()

    def _ask(self, asked: "Future[Readings]") -> None:
        try:
            with self._database.read() as connection:
                found = self._readings(connection, self._database.now(connection))
            self._good_until = time.monotonic() + self._kept_s
            asked.set_result(found)
        except BaseException as error:  # whoever waits is told, whatever it is
            asked.set_exception(error)

    def _readings(self, connection: Connection, now: datetime) -> Readings:
        # An expression has no index: SQLite would begin with all runs of the tenant.
        is_tenants = sa.func.coalesce(_RUN.c.tenant_id, "") == self._tenant_id
        active = sa.select(_RUN.c.status, sa.func.count().label("num"), sa.func.min(_RUN.c.created_at).label("oldest"))
        under_way = list(
            connection.execute(active.where(is_tenants, _RUN.c.ended_at.is_(None)).group_by(_RUN.c.status))
        )
        ended = sa.select(_RUN.c.status, sa.func.count().label("num")).where(
            is_tenants, _RUN.c.ended_at > now - ENDED_WITHIN, _RUN.c.deleted_at.is_(None)
        )
        counts = {row.status: row.num for row in under_way}
        counts |= {row.status: row.num for row in connection.execute(ended.group_by(_RUN.c.status))}
        # The outbox has no tenant: it is emptied for all of them.
        is_open = _OUTBOX.c.state == sa.literal_column("'due'")
        entries = sa.select(sa.func.count().label("num"), sa.func.min(_OUTBOX.c.due_at).label("oldest")).where(is_open)
        waiting = connection.execute(entries).one()
        last = last_pass_at(connection)
        return Readings(
            active={status: counts.get(status, 0) for status in RunStatus if status in ACTIVE},
            oldest_s={RunStatus(row.status): _age(row.oldest, now) for row in under_way},
            ended={status: counts.get(status, 0) for status in RunStatus if status in TERMINAL},
            open_entries=waiting.num,
            oldest_entry_s=_age(waiting.oldest, now),
            reconciler_s=None if last is None else _age(last, now),
            freshness=self._deployments(connection, _STATE.c.freshness, Freshness),
            activity=self._deployments(connection, _STATE.c.activity, Activity),
        )

    def _deployments(self, connection: Connection, column: sa.Column[str], words: type[W]) -> dict[W, int]:
        query = (
            sa.select(column.label("word"), sa.func.count().label("num"))
            .join(_DEPLOYMENT, _DEPLOYMENT.c.id == _STATE.c.deployment_id)
            .where(_DEPLOYMENT.c.tenant_id == self._tenant_id, _DEPLOYMENT.c.retired_at.is_(None))
            .group_by(column)
        )
        counted = {row.word: row.num for row in connection.execute(query)}
        return {word: counted.get(word, 0) for word in words}


def _age(moment: datetime | None, now: datetime) -> float:
    return 0.0 if moment is None else max(0.0, (now - moment).total_seconds())
