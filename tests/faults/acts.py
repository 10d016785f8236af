"""What a process of the kill harness does: one act at a time, dying or standing still where it is told to.

Each act is what a client, the dispatcher, the reconciler or a worker does in one go. Nothing is random here: whatever
is chosen comes with the order, and the time too.
"""

import hashlib
import os
import signal
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from multiprocessing.connection import Connection
from typing import Any
from uuid import UUID

from freshline.deployments.gateway import FlowRunFacts, FlowRunState
from freshline.runs.author_events import AuthorEvent
from freshline.runs.dispatcher import Dispatcher
from freshline.runs.execution import Claim, RunExecution
from freshline.runs.intake import FlowCall
from freshline.runs.port import DirectPort
from freshline.runs.repair.reconcile import Reconciler
from freshline.runs.result import Read, Result
from freshline.runs.service import RunExecutionService
from freshline.runs.status import RunStatus
from freshline.storage import faults
from freshline.storage.artifacts import ArtifactRecord
from freshline.storage.database import Database
from freshline.storage.errors import Conflict, Fenced, IllegalTransition, PrefectError
from freshline.storage.filesystem import ObjectStore
from freshline.storage.stored import StoredFile
from tests.faults.prefect_stand_in import RemotePrefect

LEASE_S = 60.0


@dataclass(frozen=True)
class Order:
    """One act, the time at which it happens, and the point at which its process dies or stands still."""

    act: str
    moment: datetime
    facts: Mapping[str, Any] = field(default_factory=dict)
    kill_at: str | None = None
    park_at: str | None = None
    occurrence: int = 1
    """The point is meant when it is reached for this time."""


def serve(orders: Connection, url: str, address: tuple[str, int], guards_off: tuple[faults.Guard, ...]) -> None:
    """Carry out orders until there are no more; the body of a process."""
    actor = _Actor(orders, url, address)
    with faults.switched_off(*guards_off), faults.watched(actor.reach):
        actor.serve()


def claim(port: DirectPort, flow_run: FlowRunFacts) -> Claim:
    """Claim the run of a flow run as a tracked flow does: every test that claims through a port does it here."""
    return port.claim(FlowCall.of_deployment(flow_run))


def content(text: str) -> ArtifactRecord:
    """The record of a published file of this content. Nobody reads its bytes: they are not stored."""
    sha256 = hashlib.sha256(text.encode()).hexdigest()
    stored = StoredFile(name=f"objects/{sha256}", sha256=sha256, size_bytes=len(text), media_type="text/plain")
    return ArtifactRecord.of_file("data", stored)


def result(port: DirectPort, run_id: UUID, text: str) -> Result:
    """What a body leaves that read all its pins and wrote this."""
    reads = [Read(role, pin.upstream_id, pin.version_id) for role, pin in port.pins(run_id).items()]
    return Result(artifacts=[content(text)], reads=reads, metrics={"rows": float(len(text))})


class _CountingDatabase(Database):
    """A database that knows whether its process is in a transaction."""

    open = 0

    @contextmanager
    def read(self) -> Iterator[Any]:
        with self._counted(super().read()) as connection:
            yield connection

    @contextmanager
    def transaction(self, **options: Any) -> Iterator[Any]:
        with self._counted(super().transaction(**options)) as connection:
            yield connection

    @contextmanager
    def _counted(self, transaction: AbstractContextManager[Any]) -> Iterator[Any]:
        self.open += 1
        try:
            with transaction as connection:
                yield connection
        finally:
            self.open -= 1


class _Actor:
    def __init__(self, orders: Connection, url: str, address: tuple[str, int]) -> None:
        self._orders = orders
        self._order: Order | None = None
        self._left = 0
        self._start = 0
        self._database = _CountingDatabase(url, clock=lambda: self._moment, sqlite_synchronous="OFF", pool_size=1)
        self._prefect: Any = RemotePrefect(address)
        self._port = DirectPort(self._database, ObjectStore("memory://kills"), self._prefect, lease_s=LEASE_S)
        self._execution = RunExecution(self._database, lease_s=LEASE_S)
        self._service = RunExecutionService(self._database)
        self._acts: Mapping[str, Callable[..., Any]] = {
            "submit": self._submit,
            "dispatch": self._dispatch,
            "work": self._work,
            "reconcile": self._reconcile,
            "cancel": self._cancel,
        }

    def serve(self) -> None:
        while True:
            try:
                order: Order | None = self._orders.recv()
            except EOFError:
                return
            if order is None:
                return
            self._order, self._left, self._moment = order, order.occurrence, order.moment
            self._orders.send(("done", self._acts[order.act](**order.facts)))

    def reach(self, point: str) -> None:
        """Die here, or stand still until told to go on."""
        order = self._order
        if order is None or point not in (order.kill_at, order.park_at):
            return
        self._left -= 1
        if self._left:
            return
        if point == order.kill_at:
            os.kill(os.getpid(), signal.SIGKILL)
        # Whoever stood still within a transaction would only hold up the others.
        if self._database.open == 0:
            self._orders.send(("parked", point))
            self._moment = self._orders.recv()

    def _submit(self, deployment: str, **options: Any) -> str:
        return self._service.submit(deployment, **options).status

    def _dispatch(self) -> int:
        return Dispatcher(self._database, self._prefect).pass_once()

    def _reconcile(self) -> str:
        try:
            Reconciler(self._database, self._prefect, lease_s=LEASE_S).pass_once()
        except PrefectError:
            return "Prefect did not answer"
        return "passed"

    def _cancel(self, run_id: UUID) -> str:
        try:
            return self._service.cancel(run_id, actor="somebody").status
        except IllegalTransition:
            return "too late"

    def _work(self, flow_run: FlowRunFacts, start: int, outcome: str, text: str) -> str:
        """Do what a tracked flow does from its first act to its last; return how it ended."""
        self._start = start
        claimed = claim(self._port, flow_run)
        if not claimed.may_start:
            return self._leave(flow_run, claimed)
        try:
            return self._execute(flow_run, claimed, outcome, text)
        except Fenced:
            self._prefect.report_end(flow_run.id, self._start, FlowRunState.FAILED)
            return "fenced"

    def _leave(self, flow_run: FlowRunFacts, claimed: Claim) -> str:
        status = RunStatus(claimed.run.status)
        if status == RunStatus.WAITING:
            self._suspend(flow_run)
        else:
            ends = {
                RunStatus.SKIPPED: (FlowRunState.COMPLETED, "Skipped"),
                RunStatus.REFUSED: (FlowRunState.CANCELLED, "Refused"),
            }
            state, name = ends.get(status, (FlowRunState.CANCELLED, None))
            self._prefect.report_end(flow_run.id, self._start, state, name)
        return f"not started: {status}"

    def _execute(self, flow_run: FlowRunFacts, claimed: Claim, outcome: str, text: str) -> str:
        run_id, fence = claimed.run.id, claimed.run.fence
        self._port.record(run_id, fence, [AuthorEvent(name="wrote", data={"text": text})], metrics={"rows": 1.0})
        if self._execution.heartbeat(run_id, fence).cancel_requested_at is not None:
            self._port.acknowledge_cancel(run_id, fence)
            self._prefect.report_end(flow_run.id, self._start, FlowRunState.CANCELLED)
            return "cancelled"
        if outcome == "complete":
            self._port.complete(run_id, fence, result(self._port, run_id, text))
            self._prefect.report_end(flow_run.id, self._start, FlowRunState.COMPLETED)
        elif outcome == "pause":
            self._suspend(flow_run)
            self._port.pause(run_id, fence)
        else:
            will_retry = outcome == "retry"
            self._port.fail(run_id, fence, ValueError(text), "Traceback", will_retry=will_retry)
            name = "AwaitingRetry" if will_retry else None
            self._prefect.report_end(flow_run.id, self._start, FlowRunState.FAILED, name)
        return outcome

    def _suspend(self, flow_run: FlowRunFacts) -> None:
        """Suspend the flow run, again until Prefect says that it is."""
        while True:
            try:
                return self._port.suspend(flow_run, reason="it waits")
            except Conflict:
                return None  # an answer was lost, or somebody ended it
            except PrefectError:
                continue
