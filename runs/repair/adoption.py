"""Flow runs of our deployments that have begun or ended in Prefect without a run: each gets its record.

A flow run that is still scheduled gets its record when it leaves that state; one from before its deployment was
registered gets none. Each pass asks for what was to start since the pass before, and again for what had not left
Scheduled by then, by id. Now and then, and in a new process, it looks back for a whole day: whatever was missed, be it
because the clocks differ or because nobody looked, is found then.

And flow runs whose process was lost after their run had ended, before it could say so: Prefect calls them Running for
good. They too are asked for by id, for as long as Prefect calls them so, and brought to their run's end a lease later.
"""

import logging
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.engine import Connection, Row

from ...deployments.gateway import FlowRunFacts, FlowRunState, Gateway
from ...lineage.models import Deployment
from ...storage import faults
from ...storage.database import Database, dump_json
from ...storage.errors import InvalidInput
from .. import store
from ..intake import ensure_run
from ..status import RunStatus, StopReason
from .closing import ACTOR, Ending, close, end_flow_run, ending_of, log, running_for
from .deadlines import Grace

_LOGGER = logging.getLogger(__name__)
_DEPLOYMENT = Deployment.__table__  # type: ignore[attr-defined]
_NOT_LEFT = (None, FlowRunState.SCHEDULED, FlowRunState.PENDING)
_LOOK_BACK = timedelta(hours=24)
_LOOK_BACK_EVERY = timedelta(hours=1)
_OVERLAP = timedelta(minutes=10)
_FORGET_AFTER = timedelta(days=7)
_COMPARED = ("id", "deployment_id", "flow_run_id", "generation", "status", "stop_reason", "attempt", "ended_at")
"""What of a run says how its flow run is to end."""


@dataclass
class Adoption:
    """Records a run for each flow run that has none, and ends those that have outlived theirs."""

    database: Database
    gateway: Gateway
    start_within_s: float
    lease_s: float
    grace: Grace
    """After a gap in which Prefect, or whoever asks it, was away."""
    _looked_at: datetime | None = None
    """The last pass that came through; nothing that was to start before and had begun or ended is without a run."""
    _looked_back_at: datetime | None = None
    """The last pass that looked back for a whole day."""
    _deployments: frozenset[UUID] = frozenset()
    """Those that the last pass asked for."""
    _open: dict[UUID, datetime] = field(default_factory=dict)
    """Flow runs that are to be asked for by their ids -> when they were to start."""

    def pass_once(self) -> tuple[int, int]:
        """Record what is missing, end what has outlived its run; return how many runs, and how many flow runs.

        A pass that fails leaves its work to the next one.

        Raises:
            PrefectError: Prefect cannot be reached.
        """
        since, now = self._registered()
        if not since:
            return 0, 0
        looks_back = self._looked_back_at is None or now - self._looked_back_at >= _LOOK_BACK_EVERY
        found = self._read(since, now, looks_back=looks_back)
        left = [one for one in found if one.state_type not in _NOT_LEFT]
        with self.database.read() as connection:
            known = store.known_flow_runs(connection, [one.id for one in left]) if left else set()
        missing = [one for one in left if one.id not in known]
        callers = self._callers(missing)
        adopted, again = 0, [one for one in found if one.state_type in (*_NOT_LEFT, FlowRunState.RUNNING)]
        nameless: dict[UUID, Row[Any]] = {}
        for flow_run in missing:
            try:
                run = self._adopt(flow_run, callers.get(flow_run.id))
            except InvalidInput:
                again.append(flow_run)  # its own claim fails for the same reason: until then it may still be corrected
                continue
            if run is not None and run.flow_run_id is None:
                nameless[flow_run.id] = run  # dispatched for a run that ended before the flow run's id was known
            elif run is not None:
                log(_LOGGER, self.database, run, f"the flow run {flow_run.name} had no run")
                adopted += 1
        outlived = self._end_outlived(left, nameless, now)
        # Only now: had anything failed, the next pass would have to see all of it again.
        self._open = {one.id: _due_at(one, now) for one in again if _due_at(one, now) > now - _FORGET_AFTER}
        self._deployments = frozenset(since)
        self._looked_at = now
        self._looked_back_at = now if looks_back else self._looked_back_at
        return adopted, outlived

    def _end_outlived(self, flow_runs: Iterable[FlowRunFacts], nameless: Mapping[UUID, Row[Any]], now: datetime) -> int:
        """Have the flow runs ended that have been Running for a lease, and whose newest run ended a lease ago."""
        lease = timedelta(seconds=self.lease_s)
        suspects = {one.id: one for one in flow_runs if running_for(one, now=now) >= lease}
        if self.grace.look(now) or not suspects:
            return 0
        query = sa.select(*(store.RUN.c[name] for name in _COMPARED)).where(store.RUN.c.flow_run_id.in_(suspects))
        with self.database.read() as connection:
            rows = sorted(connection.execute(query), key=lambda row: row.generation)
        newest = {**nameless, **{row.flow_run_id: row for row in rows}}
        over = [
            (suspects[flow_run_id], run)
            for flow_run_id, run in newest.items()
            if flow_run_id in suspects and run.ended_at is not None and run.ended_at <= now - lease
        ]

        def work(connection: Connection) -> list[tuple[FlowRunFacts, Row[Any]]]:
            at = self.database.now(connection)
            return [(flow_run, run) for flow_run, run in over if end_flow_run(connection, run, flow_run, now=at)]

        told = self.database.write(work) if over else []
        for flow_run, run in told:
            log(_LOGGER, self.database, run, f"the flow run {flow_run.name} was still running in Prefect")
        return len(told)

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

    def _adopt(self, flow_run: FlowRunFacts, caller_id: UUID | None) -> Row[Any] | None:
        """Record one flow run in one transaction, and its end if it has ended; None: its deployment is not ours.

        Raises:
            InvalidInput: no run can have its parameters, and it has not ended.
        """

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
                raise
            message = f"the flow run's parameters cannot be used: {refusal}"
            run = self.database.write(
                lambda connection: self._record_unreadable(connection, flow_run, caller_id, message)
            )
        faults.reach("reconcile.adopted")
        return run

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
