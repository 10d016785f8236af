"""A state machine over everything that may happen to runs: any order, any moment, any number of workers.

It knows no schedule and no reason: what a worker or a person could do at all, it does. After each step the records
must be as they must always be; `checker` says what that is.
"""

from contextlib import suppress
from dataclasses import replace
from datetime import timedelta
from typing import Any
from uuid import UUID

import sqlalchemy as sa
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from freshline.deployments.gateway import FlowRunState
from freshline.runs.author_events import AuthorEvent
from freshline.runs.dispatcher import Dispatcher
from freshline.runs.execution import RunExecution
from freshline.runs.port import DirectPort
from freshline.runs.repair.reconcile import Reconciler
from freshline.runs.service import RunExecutionService
from freshline.runs.status import LEASED, RunStatus, sources_of
from freshline.storage.database import Database
from freshline.storage.errors import (
    Conflict,
    Fenced,
    IdempotencyConflict,
    IllegalTransition,
    NotFound,
    PrefectError,
)
from freshline.storage.filesystem import ObjectStore
from tests.factories import START, Graph, declared
from tests.faults import checker
from tests.faults.acts import LEASE_S, claim, result
from tests.faults.example import Clock, Holder, empty, one_of
from tests.faults.prefect_stand_in import LossyPrefect
from tests.faults.tables import RUN, STATE

READS = {
    "refresh/prices": [],
    "refresh/momentum": ["refresh/prices"],
    "backtest/book": ["refresh/momentum", "refresh/prices"],
}
ENDS = [FlowRunState.COMPLETED, FlowRunState.FAILED, FlowRunState.CRASHED, FlowRunState.CANCELLED]
_any = st.data()


class Machine(RuleBasedStateMachine):
    """One example: an emptied store, a Prefect in memory, and whoever has claimed something."""

    database: Database
    clock: Clock

    def __init__(self) -> None:
        super().__init__()
        self.clock.now = START
        empty(self.database)
        self.gateway = LossyPrefect(0, clock=self.clock)
        self.gateway.loses_answers = False  # but those that a rule says
        self.prefect_ids = {key: self.gateway.add_deployment(f"flow/{key.replace('/', '-')}").id for key in READS}
        self.graph = Graph(
            self.database,
            *(replace(declared(key, up), prefect_deployment_id=self.prefect_ids[key]) for key, up in READS.items()),
        )
        self.service = RunExecutionService(self.database)
        self.execution = RunExecution(self.database, lease_s=LEASE_S)
        self.port = DirectPort(self.database, ObjectStore("memory://machine"), self.gateway, lease_s=LEASE_S)
        self.reconciler = self._new_reconciler()
        self.holders: list[Holder] = []
        self.flow_runs: list[UUID] = []
        """Every flow run that exists, in the order in which the machine met them."""
        self.seen: dict[UUID, Any] = {}
        self.fences: dict[UUID, tuple[int, int]] = {}

    # What people, schedules and clients do.

    @rule(
        key=st.sampled_from(list(READS)),
        on_stale=st.sampled_from(["refuse", "wait", "refresh", "force"]),
        if_ready=st.sampled_from(["run", "skip"]),
        number=st.integers(0, 5),
    )
    def submit(self, key: str, on_stale: str, if_ready: str, number: int) -> None:
        asked = {"on_stale": on_stale, "if_ready": if_ready, "idempotency_key": f"key-{number}"}
        try:
            run = self.service.submit(key, **asked)
        except IdempotencyConflict:
            return
        assert self.service.submit(key, **asked).id == run.id

    @rule(key=st.sampled_from(list(READS)), how=st.sampled_from(["click", "SCHEDULE", "AUTOMATION"]))
    def trigger_in_prefect(self, key: str, how: str) -> None:
        if how == "click":
            self.flow_runs.append(self.gateway.click(self.prefect_ids[key], {"on_stale": "wait"}).id)
        else:
            # No two at the same moment: what Prefect orders by time comes in the same order when it is replayed.
            at = self.clock.now + timedelta(microseconds=len(self.flow_runs))
            self.flow_runs.append(self.gateway.schedule(self.prefect_ids[key], at=at, by=how).id)

    @precondition(lambda self: self.seen)
    @rule(data=_any)
    def cancel(self, data: Any) -> None:
        run = one_of(data, list(self.seen.values()), "run")
        try:
            self.service.cancel(run.id)
        except IllegalTransition:
            assert run.ended_at is not None
        else:
            assert run.ended_at is None

    @precondition(lambda self: self.flow_runs)
    @rule(data=_any, what=st.sampled_from(["start_again", "resume", "delete", *ENDS]))
    def change_in_prefect(self, data: Any, what: str) -> None:
        flow_run_id = one_of(data, self.flow_runs, "flow run")
        flow_run = self.gateway.read_flow_run(flow_run_id)
        if what == "delete":
            self.gateway.delete(flow_run_id)
            self.flow_runs.remove(flow_run_id)
        elif what == "start_again" and flow_run.has_ended:
            self.gateway.start_again(flow_run_id)
        elif what == "resume" and flow_run.is_suspended:
            self.gateway.resume(flow_run_id)
        elif what in ENDS and not flow_run.has_ended:
            self.gateway.end(flow_run_id, FlowRunState(what))

    # What Freshline's own processes do.

    @rule(lost=st.sampled_from([None, None, "create_flow_run", "cancel", "set_state"]))
    def dispatch(self, lost: str | None) -> None:
        if lost is not None:
            self.gateway.lose_reply_of_next(lost)
        Dispatcher(self.database, self.gateway).pass_once()
        self._meet_flow_runs()

    @rule(is_new=st.booleans(), is_down=st.sampled_from([False, False, False, True]))
    def reconcile(self, is_new: bool, is_down: bool) -> None:
        if is_new:
            self.reconciler = self._new_reconciler()
        self.gateway.is_down = is_down
        try:
            self.reconciler.pass_once()
        except PrefectError:
            assert is_down
        finally:
            self.gateway.is_down = False

    @rule(seconds=st.sampled_from([1, 15, 40, 61, 200]))
    def pass_time(self, seconds: int) -> None:
        self.clock.now += timedelta(seconds=seconds)

    # What workers do.

    @precondition(lambda self: self.flow_runs)
    @rule(data=_any)
    def start(self, data: Any) -> None:
        """A worker starts a flow run; its infrastructure may start one that runs already."""
        flow_run = self.gateway.read_flow_run(one_of(data, self.flow_runs, "flow run"))
        if flow_run.state_type not in (FlowRunState.SCHEDULED, FlowRunState.RUNNING):
            return
        claimed = claim(self.port, self.gateway.begin(flow_run.id))
        if claimed.may_start:
            self.holders.append(Holder(claimed.run.id, claimed.run.fence, flow_run.id))
        elif claimed.run.status == RunStatus.WAITING:
            self.port.suspend(flow_run, reason="it waits")

    @precondition(lambda self: self.holders)
    @rule(data=_any, what=st.sampled_from(["heartbeat", "record", "complete", "fail", "retry", "pause", "acknowledge"]))
    def act(self, data: Any, what: str) -> None:
        """A worker does what it was about to do, whoever holds its run by now: it may only while it holds it."""
        holder = one_of(data, self.holders, "holder")
        run = self._row(holder.run_id)
        is_same = run.fence == holder.fence
        may = is_same and run.status in LEASED
        if what == "complete":
            may = may or (is_same and run.status == RunStatus.COMPLETED)  # the reply was lost: it asks again
        if what == "pause":
            may = may and run.status == RunStatus.RUNNING  # one that is to stop does not pause
        if what == "acknowledge":
            may = is_same and run.status in sources_of(RunStatus.CANCELLED)
        try:
            is_done = getattr(self, f"_{what}")(holder, data) is not None
        except Fenced:
            is_done = False
        if what in ("fail", "retry") and run.status not in LEASED:
            return  # whoever gave the lease back may be heard once more
        assert is_done == may, f"{what} of {run.status} with fence {run.fence} by {holder.fence}"

    def _heartbeat(self, holder: Holder, data: Any) -> Any:
        return self.execution.heartbeat(holder.run_id, holder.fence)

    def _record(self, holder: Holder, data: Any) -> Any:
        self.port.record(holder.run_id, holder.fence, [AuthorEvent(name="wrote")], metrics={"rows": 1.0})
        return holder

    def _complete(self, holder: Holder, data: Any) -> Any:
        text = data.draw(st.sampled_from("abc"), "content")
        return self.execution.complete(holder.run_id, holder.fence, result(self.port, holder.run_id, text))

    def _fail(self, holder: Holder, data: Any) -> Any:
        return self.execution.fail(holder.run_id, holder.fence, ValueError("no"), "Traceback")

    def _retry(self, holder: Holder, data: Any) -> Any:
        row = self.execution.fail(holder.run_id, holder.fence, ValueError("no"), "Traceback", will_retry=True)
        flow_run = self.gateway.read_flow_run(holder.flow_run_id)
        if flow_run is not None and flow_run.state_type == FlowRunState.RUNNING:
            self.gateway.start_again(holder.flow_run_id)
        return row

    def _pause(self, holder: Holder, data: Any) -> Any:
        with suppress(Conflict, NotFound):  # whatever has become of it in Prefect meanwhile
            self.gateway.suspend(holder.flow_run_id, message="it pauses", timeout_s=60)
        return self.execution.pause(holder.run_id, holder.fence)

    def _acknowledge(self, holder: Holder, data: Any) -> Any:
        return self.execution.acknowledge_cancel(holder.run_id, holder.fence)

    # What must hold after each step.

    @invariant()
    def records_are_right(self) -> None:
        with self.database.read() as connection:
            runs = connection.execute(sa.select(RUN).order_by(RUN.c.id)).all()
            found = checker.wrong_records(connection, runs, self.seen)
            states = connection.execute(sa.select(STATE)).all()
        for state in states:
            before = self.fences.get(state.deployment_id, (0, 0))
            fences = (state.fence, state.next_fence)
            if fences < before or fences[1] < before[1]:
                found.append(f"the fences of {state.deployment_id} went from {before} to {fences}")
            self.fences[state.deployment_id] = fences
        assert not found, found
        self.seen = {run.id: run for run in runs}

    def teardown(self) -> None:
        assert not checker.wrong_freshness(self.database, now=self.clock.now)

    def _new_reconciler(self) -> Reconciler:
        return Reconciler(self.database, self.gateway, lease_s=LEASE_S)

    def _row(self, run_id: UUID) -> Any:
        with self.database.read() as connection:
            return connection.execute(sa.select(RUN).where(RUN.c.id == run_id)).one()

    def _meet_flow_runs(self) -> None:
        self.flow_runs += [one.id for one in self.gateway.flow_runs() if one.id not in self.flow_runs]
