"""RunPort: all that a flow needs from Freshline. Flows use nothing else.

The direct adapter talks to the database and the object store itself, for workers that are trusted with both; an
adapter over HTTP will speak the same Protocol.
"""

import os
import socket
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any, Protocol
from uuid import UUID

from sqlalchemy.engine import Connection, Row

from ..deployments.gateway import FlowRunFacts, Gateway
from ..lineage import references, removal, versions
from ..lineage.freshness import stored_policy
from ..storage.artifacts import ArtifactRecord, artifacts_of
from ..storage.compiled import Answer
from ..storage.database import Database
from ..storage.errors import Conflict, FreshlineError, StoreMismatch
from ..storage.filesystem import ObjectStore
from . import contents, store
from . import run_events as events
from .execution import Claim, RunExecution
from .intake import FlowCall, ask_of_start, run_of_call
from .lease_terms import Beat, LeaseTerms, lease_terms
from .points.chunks import Chunk, SentChunk
from .points.left_behind import LeftBehind
from .points.recording import PointRecording
from .points.spool import Spool, Spools
from .recording import RunRecording, SavedState
from .result import Result, data_range
from .steps import StepCount


@dataclass(frozen=True)
class UpstreamVersion:
    """A version that a run may read: where it comes from and what it holds."""

    role: str
    upstream_id: UUID
    key: str
    version_id: UUID
    number: int
    artifacts: Mapping[str, ArtifactRecord]


class BodyPort(Protocol):
    """What a body asks for while it works."""

    objects: ObjectStore

    def pins(self, run_id: UUID) -> Mapping[str, UpstreamVersion]:
        """Return the pinned versions by role."""
        ...

    def resolve(self, reference: str) -> UpstreamVersion:
        """Return a version that was not declared: `refresh/other`, or `refresh/other@v3`, @v1.2.3, @champion."""
        ...

    def version(self, version_id: UUID) -> UpstreamVersion:
        """Return a version by its id, such as the one that was current when the run was claimed."""
        ...

    def record(
        self,
        run_id: UUID,
        fence: int,
        entries: Sequence[events.Event] = (),
        *,
        metrics: Mapping[str, float] | None = None,
        progress: float | None = None,
    ) -> None:
        """Append events, latest metric values and progress."""
        ...

    def add_message(self, run_id: UUID, fence: int, role: str, content: str) -> None:
        """Append a message, with its event."""
        ...

    def save_checkpoint(self, run_id: UUID, fence: int, state: Mapping[str, Any]) -> int:
        """Save a state, with its event; return its number."""
        ...

    def newest_checkpoint(self, run_id: UUID) -> SavedState | None:
        """Return the state that was saved last, by whichever attempt of the run."""
        ...

    def open_spool(self, run_id: UUID, fence: int) -> Spool:
        """Make the file in which an attempt's metric values wait; an OSError says why there cannot be one."""
        ...

    def record_points(self, run_id: UUID, fence: int, chunk: Chunk, latest: Mapping[str, float]) -> int:
        """Store a chunk of an attempt's metric values; return the number behind the last one that the store has."""
        ...

    def sent_points(self, run_id: UUID) -> Sequence[SentChunk]:
        """Return the chunks of metric values that the run's attempts have sent."""
        ...


class RunPort(BodyPort, Protocol):
    """What a tracked flow asks for, from its first act to its last."""

    heartbeat_s: float
    system_metrics: bool
    """Whether the use of processor, memory and so on is sampled where the flow does not say."""

    def claim(self, call: FlowCall, *, provenance: Mapping[str, str] | None = None) -> Claim:
        """Claim the run of this start of a flow's function, whoever triggered it.

        `provenance` says in what code and environment the body runs.
        """
        ...

    def send_left_behind(self) -> None:
        """Have sent, in the background, what processes of this machine that are gone had not sent."""
        ...

    def suspend(self, flow_run: FlowRunFacts, *, reason: str) -> None:
        """Give the worker back until the run is released; does not return."""
        ...

    def heartbeat(self, run_id: UUID, fence: int) -> Beat | None:
        """Renew the lease; return what was asked of the body meanwhile: CANCEL, PAUSE or nothing."""
        ...

    def lease_terms(self, run_id: UUID, fence: int) -> LeaseTerms | None:
        """Return what another process needs to renew the lease; None when only this one can."""
        ...

    def complete(self, run_id: UUID, fence: int, result: Result) -> None:
        """Publish the result and end the run."""
        ...

    def fail(
        self,
        run_id: UUID,
        fence: int,
        error: BaseException,
        traceback: str,
        *,
        will_retry: bool,
        artifacts: Sequence[ArtifactRecord] = (),
        traceback_ref: str | None = None,
        counters: Mapping[str, float] | None = None,
        step_counters: Sequence[StepCount] = (),
        resume_due_at: datetime | None = None,
    ) -> None:
        """End the run with an error, or leave it to Prefect's next attempt."""
        ...

    def pause(self, run_id: UUID, fence: int) -> None:
        """Give the lease back while the body is suspended."""
        ...

    def acknowledge_cancel(self, run_id: UUID, fence: int) -> None:
        """End the run as cancelled: its body has stopped."""
        ...


class DirectPort:
    """RunPort for trusted workers: the worker's own connection to the database and the object store."""

    def __init__(
        self,
        database: Database,
        objects: ObjectStore,
        gateway: Gateway,
        *,
        lease_s: float = 60.0,
        heartbeat_s: float = 15.0,
        tenant_id: str = "default",
        store_id: str | None = None,
        spools: Spools | None = None,
        system_metrics: bool = False,
    ) -> None:
        self.objects = objects
        self.system_metrics = system_metrics
        self.heartbeat_s = heartbeat_s
        self._database = database
        self._gateway = gateway
        self._execution = RunExecution(database, lease_s=lease_s)
        self._recording = RunRecording(database)
        self._points = PointRecording(database)
        self._spools = spools
        self._tenant_id = tenant_id
        self._store_id = store_id
        self._policies: dict[UUID, Mapping[str, Any]] = {}

    def claim(
        self,
        call: FlowCall | FlowRunFacts,
        *,
        provenance: Mapping[str, str] | None = None,
        worker: str | None = None,
    ) -> Claim:
        """Claim the run of this start of a flow's function, whoever triggered it.

        A flow run stands for the start of it that its deployment makes. `worker` names the process that starts it
        where it is not this one.

        Raises:
            StoreMismatch: this worker reaches another store than the one that the deployment was registered in.
            NotFound: the call's deployment is not registered here.
            InvalidInput: several deployments may be meant, or the one that was said is of another kind.
            PrefectError: Prefect does not say which flow run made the call.
        """
        known = known_call(call, self._gateway)

        def find(connection: Connection) -> tuple[Row[Any], Row[Any] | None]:
            asked = ask_of_start(connection, known.flow_run)
            reached = store.ask_store_id(connection) if self._store_id is not None else None
            now = self._database.now(connection)
            try:
                found = run_of_call(connection, known, asked, tenant_id=self._tenant_id, now=now)
            except FreshlineError:
                # What is not found here, or is not clear, counts in the store that the deployment was registered in.
                self._check_store(reached)
                raise
            self._check_store(reached)
            return found

        worker = worker or f"{socket.gethostname()}:{os.getpid()}"
        claim = self._execution.claim(find, worker=worker, provenance=provenance, can_wait=known.can_wait)
        if claim.may_start and claim.deployment.policy is not None:
            self._policies[claim.run.id] = claim.deployment.policy
        return claim

    def suspend(self, flow_run: FlowRunFacts, *, reason: str) -> None:
        """Give the worker back until the run is released; does not return."""
        self._gateway.suspend(flow_run.id, message=reason, timeout_s=7 * 86_400)

    def heartbeat(self, run_id: UUID, fence: int) -> Beat | None:
        """Renew the lease; return what was asked of the body meanwhile: CANCEL, PAUSE or nothing."""
        run = self._execution.heartbeat(run_id, fence)
        if run.cancel_requested_at is not None:
            return Beat.CANCEL
        return None if run.pause_requested_at is None else Beat.PAUSE

    def lease_terms(self, run_id: UUID, fence: int) -> LeaseTerms | None:
        """Return what another process needs to renew the lease; None when only this one can."""
        lease_s = self._execution.lease_s
        return lease_terms(self._database, run_id, fence, lease_s=lease_s, interval_s=self.heartbeat_s)

    def pins(self, run_id: UUID) -> Mapping[str, UpstreamVersion]:
        """Return the pinned versions by role."""
        with self._database.read() as connection:
            return {
                row.role: self._upstream(connection, row.role, row.upstream_id, row.version_id)
                for row in contents.inputs_of(connection, run_id)
                if row.pinned
            }

    def resolve(self, reference: str) -> UpstreamVersion:
        """Return a version that was not declared: `refresh/other`, or `refresh/other@v3`, @v1.2.3, @champion.

        Raises:
            InvalidInput: the text is no reference to a version.
            NotFound: there is no such version.
            Conflict: it was withdrawn; nothing new is built from it.
            DataRemoved: the run that wrote it was deleted for good.
        """
        with self._database.read() as connection:
            version = references.resolve(connection, reference, tenant_id=self._tenant_id)
            if version.withdrawn_at is not None:
                raise Conflict(
                    f"{reference} is version {version.number}, which was withdrawn ({version.withdrawn_reason}): "
                    "read another one, or restore it"
                )
            return self._upstream(connection, reference, version.deployment_id, version.id)

    def version(self, version_id: UUID) -> UpstreamVersion:
        """Return a version by its id, such as the one that was current when the run was claimed."""
        with self._database.read() as connection:
            deployment_id = versions.by_id(connection, version_id).deployment_id
            return self._upstream(connection, "", deployment_id, version_id)

    def record(
        self,
        run_id: UUID,
        fence: int,
        entries: Sequence[events.Event] = (),
        *,
        metrics: Mapping[str, float] | None = None,
        progress: float | None = None,
    ) -> None:
        """Append events, latest metric values and progress."""
        self._recording.record(run_id, fence, entries, metrics=metrics, progress=progress)

    def add_message(self, run_id: UUID, fence: int, role: str, content: str) -> None:
        """Append a message, with its event."""
        self._recording.add_message(run_id, fence, role, content)

    def save_checkpoint(self, run_id: UUID, fence: int, state: Mapping[str, Any]) -> int:
        """Save a state, with its event; return its number."""
        return self._recording.save_checkpoint(run_id, fence, state)

    def newest_checkpoint(self, run_id: UUID) -> SavedState | None:
        """Return the state that was saved last, by whichever attempt of the run."""
        return self._recording.newest_checkpoint(run_id)

    def open_spool(self, run_id: UUID, fence: int) -> Spool:
        """Make the file in which an attempt's metric values wait.

        Raises:
            OSError: there cannot be one.
        """
        if self._spools is None:
            raise OSError("this port was given no folder for it")
        return self._spools.create(run_id, fence)

    def record_points(self, run_id: UUID, fence: int, chunk: Chunk, latest: Mapping[str, float]) -> int:
        """Store a chunk of an attempt's metric values; return the number behind the last one that the store has."""
        return self._points.record(run_id, fence, chunk, latest)

    def sent_points(self, run_id: UUID) -> Sequence[SentChunk]:
        """Return the chunks of metric values that the run's attempts have sent."""
        return self._points.chunks(run_id)

    def send_left_behind(self) -> None:
        """Have sent, in the background, what processes of this machine that are gone had not sent."""
        if self._spools is not None:
            LeftBehind(self._spools, self._points).start()

    def complete(self, run_id: UUID, fence: int, result: Result) -> None:
        """Publish the result and end the run."""
        policy = self._policies.pop(run_id, None)
        if policy is not None:
            data_end = data_range([one for one in result.artifacts if one.publish])[1]
            # Its calendar takes seconds to make, once per process: not while the completion holds its locks.
            stored_policy(policy).moments(run_at=datetime.now(UTC), data_date=data_end)
        self._execution.complete(run_id, fence, result)

    def fail(
        self,
        run_id: UUID,
        fence: int,
        error: BaseException,
        traceback: str,
        *,
        will_retry: bool,
        artifacts: Sequence[ArtifactRecord] = (),
        traceback_ref: str | None = None,
        counters: Mapping[str, float] | None = None,
        step_counters: Sequence[StepCount] = (),
        resume_due_at: datetime | None = None,
    ) -> None:
        """End the run with an error, or leave it to Prefect's next attempt."""
        self._execution.fail(
            run_id,
            fence,
            error,
            traceback,
            will_retry=will_retry,
            artifacts=artifacts,
            traceback_ref=traceback_ref,
            counters=counters,
            step_counters=step_counters,
            resume_due_at=resume_due_at,
        )

    def pause(self, run_id: UUID, fence: int) -> None:
        """Give the lease back while the body is suspended."""
        self._execution.pause(run_id, fence)

    def acknowledge_cancel(self, run_id: UUID, fence: int) -> None:
        """End the run as cancelled: its body has stopped."""
        self._execution.acknowledge_cancel(run_id, fence)

    def _check_store(self, reached: Answer | None) -> None:
        if self._store_id is not None and reached is not None and UUID(self._store_id) != (found := reached.scalar()):
            raise StoreMismatch(
                f"this worker reached the store {found}, but the deployment was registered in {self._store_id}: "
                "set FRESHLINE_DATABASE_URL on the worker to the database that `freshline deploy` used"
            )

    def _upstream(self, connection: Any, role: str, deployment_id: UUID, version_id: UUID) -> UpstreamVersion:
        version = versions.by_id(connection, version_id)
        key = store.deployment_key(connection, deployment_id)
        artifacts = {artifact.name: artifact for artifact in artifacts_of(connection, version.run_id)}
        removal.refuse_erased(version, f"{key}@v{version.number}", artifacts)
        return UpstreamVersion(role, deployment_id, key, version_id, version.number, artifacts)


def known_call(start: FlowCall | FlowRunFacts, gateway: Gateway) -> FlowCall:
    """Return the call that a start is, with who called its flow run: Prefect is asked where that is not known."""
    call = FlowCall.of_deployment(start) if isinstance(start, FlowRunFacts) else start
    task_run_id = call.flow_run.parent_task_run_id if call.flow_run is not None else None
    if task_run_id is None or call.parent_run_id is not None or call.caller_id is not None:
        return call
    return replace(call, caller_id=gateway.read_callers([task_run_id]).get(task_run_id))
