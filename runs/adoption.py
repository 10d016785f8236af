"""Flow runs of our deployments that have begun or ended in Prefect without a run: each gets its record.

A flow run that is still scheduled gets its record when it leaves that state; one from before its deployment was
registered gets none. Each pass asks for what was to start since the pass before, and again for what had not left
Scheduled by then, by id. Now and then, and in a new process, it looks back for a whole day: whatever was missed, be it
because the clocks differ or because nobody looked, is found then.
"""

import logging
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.engine import Connection, Row

from ..deployments.gateway import FlowRunFacts, FlowRunState, Gateway
from ..lineage.models import Deployment
from ..storage import faults
from ..storage.database import Database, dump_json
from ..storage.errors import InvalidInput
from . import store
from .closing import ACTOR, Ending, close, ending_of, log
from .intake import ensure_run
from .status import RunStatus, StopReason

_LOGGER = logging.getLogger(__name__)
_DEPLOYMENT = Deployment.__table__  # type: ignore[attr-defined]
_NOT_LEFT = (None, FlowRunState.SCHEDULED, FlowRunState.PENDING)
_LOOK_BACK = timedelta(hours=24)
_LOOK_BACK_EVERY = timedelta(hours=1)
_OVERLAP = timedelta(minutes=10)
_FORGET_AFTER = timedelta(days=7)


@dataclass
class Adoption:
    """Records a run for each flow run that has none."""

    database: Database
    gateway: Gateway
    start_within_s: float
    _looked_at: datetime | None = None
    """The last pass that came through; nothing that was to start before and had begun or ended is without a run."""
    _looked_back_at: datetime | None = None
    """The last pass that looked back for a whole day."""
    _deployments: frozenset[UUID] = frozenset()
    """Those that the last pass asked for."""
    _open: dict[UUID, datetime] = field(default_factory=dict)
    """Flow runs that are to be asked for by their ids -> when they were to start."""

    def pass_once(self) -> int:
        """Record what is missing; return how many runs that makes. A pass that fails leaves its work to the next one.

        Raises:
            PrefectError: Prefect cannot be reached.
        """
        since, now = self._registered()
        if not since:
            return 0
        looks_back = self._looked_back_at is None or now - self._looked_back_at >= _LOOK_BACK_EVERY
        found = self._read(since, now, looks_back=looks_back)
        left = [one for one in found if one.state_type not in _NOT_LEFT]
        with self.database.read() as connection:
            known = store.known_flow_runs(connection, [one.id for one in left]) if left else set()
        missing = [one for one in left if one.id not in known]
        callers = self._callers(missing)
        adopted, again = 0, [one for one in found if one.state_type in _NOT_LEFT]
        for flow_run in missing:
            recorded = self._adopt(flow_run, callers.get(flow_run.id))
            if recorded is None:
                again.append(flow_run)
            else:
                adopted += recorded
        # Only now: had anything failed, the next pass would have to see all of it again.
        self._open = {one.id: _due_at(one, now) for one in again if _due_at(one, now) > now - _FORGET_AFTER}
        self._deployments = frozenset(since)
        self._looked_at = now
        self._looked_back_at = now if looks_back else self._looked_back_at
        return adopted

    def _registered(self) -> tuple[dict[UUID, datetime], datetime]:
        """Return Prefect's id of every deployment with the moment of its registration, and the time."""
        query = sa.select(_DEPLOYMENT.c.prefect_deployment_id, _DEPLOYMENT.c.created_at).where(
            _DEPLOYMENT.c.prefect_deployment_id.is_not(None), _DEPLOYMENT.c.retired_at.is_(None)
        )
        with self.database.read() as connection:
            now = self.database.now(connection)
            return {row.prefect_deployment_id: row.created_at for row in connection.execute(query)}, now

    def _read(self, since: Mapping[UUID, datetime], now: datetime, *, looks_back: bool) -> list[FlowRunFacts]:
        """Return the flow runs that this pass is about."""
        begin = cursor = now - _LOOK_BACK
        if self._looked_at is not None and not looks_back:
            cursor = max(begin, min(self._looked_at, now) - _OVERLAP)
        new = since.keys() - self._deployments
        read = self.gateway.recent_flow_runs(since.keys() - new, since=cursor, until=now) if since.keys() > new else []
        if new:
            read += self.gateway.recent_flow_runs(new, since=begin, until=now)
        found = {one.id: one for one in read}
        if rest := self._open.keys() - found.keys():
            found |= self.gateway.read_flow_runs(rest)
        return [
            one
            for one in found.values()
            if one.deployment_id is not None
            and one.deployment_id in since
            and _due_at(one, now) >= since[one.deployment_id]
        ]

    def _callers(self, flow_runs: Iterable[FlowRunFacts]) -> dict[UUID, UUID]:
        """Return the flow run that called each of these that were called."""
        called = {one.parent_task_run_id: one.id for one in flow_runs if one.parent_task_run_id is not None}
        if not called:
            return {}
        return {called[task_run]: caller for task_run, caller in self.gateway.read_callers(called).items()}

    def _adopt(self, flow_run: FlowRunFacts, caller_id: UUID | None) -> bool | None:
        """Record one flow run in one transaction, and its end if it has ended; None: it is to be looked at again."""

        def work(connection: Connection) -> Row[Any] | None:
            now = self.database.now(connection)
            run = ensure_run(connection, flow_run, now=now, is_starting=False, caller_id=caller_id)
            if run is None:
                return None
            ending = ending_of(run, flow_run, now=now, start_within_s=self.start_within_s)
            return (close(connection, run, ending, now=now) if ending is not None else None) or run

        faults.reach("reconcile.adopting")
        try:
            run = self.database.write(work)
        except InvalidInput as refusal:
            if not flow_run.has_ended:
                return None  # its own claim fails for the same reason: until then it may still be corrected
            message = f"the flow run's parameters cannot be used: {refusal}"
            run = self.database.write(
                lambda connection: self._record_unreadable(connection, flow_run, caller_id, message)
            )
        faults.reach("reconcile.adopted")
        if run is None:
            return False
        log(_LOGGER, self.database, run, f"the flow run {flow_run.name} had no run")
        return True

    def _record_unreadable(
        self, connection: Connection, flow_run: FlowRunFacts, caller_id: UUID | None, message: str
    ) -> Row[Any] | None:
        """Record an ended flow run whose parameters no run can have: as they were sent, and with the reason."""
        now = self.database.now(connection)
        without = replace(flow_run, parameters={})
        run = ensure_run(connection, without, now=now, is_starting=False, caller_id=caller_id)
        if run is None or RunStatus(run.status).is_terminal:
            return run
        changed = store.change(connection, run.id, actor=ACTOR, now=now, parameters=_storable(flow_run.parameters))
        said = ending_of(run, flow_run, now=now, start_within_s=self.start_within_s)
        ending = Ending(RunStatus.FAILED, StopReason.ERROR if flow_run.has_begun else StopReason.NEVER_STARTED, message)
        if said is not None and said.status == RunStatus.CANCELLED:
            ending = replace(said, message=message)
        return close(connection, changed or run, ending, now=now)


def _due_at(flow_run: FlowRunFacts, now: datetime) -> datetime:
    return flow_run.expected_start_at or now


def _storable(parameters: Mapping[str, Any]) -> dict[str, Any]:
    """Return the parameters as they were sent; none of them when no database takes them."""
    sent = dict(parameters)
    try:
        dump_json(sent)
    except InvalidInput:
        return {}
    return sent
