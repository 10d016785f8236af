"""RunPort: all that a flow needs from Freshline. Flows use nothing else.

The direct adapter talks to the database and the object store itself, for workers that are trusted with both; an
adapter over HTTP will speak the same Protocol.
"""

import os
import socket
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol
from uuid import UUID

from sqlalchemy.engine import Row

from ..deployments.gateway import FlowRunFacts, Gateway
from ..lineage import versions
from ..storage.artifacts import ArtifactRecord, artifacts_of
from ..storage.database import Database
from ..storage.errors import NotFound, StoreMismatch
from ..storage.filesystem import ObjectStore
from . import events, store
from .execution import Claim, Result, RunExecution
from .intake import ensure_run


@dataclass(frozen=True)
class UpstreamVersion:
    """A version that a run may read: where it comes from and what it holds."""

    role: str
    upstream_id: UUID
    key: str
    version_id: UUID
    number: int
    artifacts: Mapping[str, ArtifactRecord]


class RunPort(Protocol):
    """What a tracked flow asks for, from its first act to its last."""

    objects: ObjectStore
    heartbeat_s: float

    def claim(self, flow_run: FlowRunFacts) -> Claim:
        """Claim the run of this flow run, whoever triggered it."""
        ...

    def suspend(self, flow_run: FlowRunFacts, *, reason: str) -> None:
        """Give the worker back until the run is released; does not return."""
        ...

    def heartbeat(self, run_id: UUID, fence: int) -> bool:
        """Renew the lease; True when the run's cancellation was asked for."""
        ...

    def pins(self, run_id: UUID) -> Mapping[str, UpstreamVersion]:
        """Return the pinned versions by role."""
        ...

    def resolve(self, reference: str) -> UpstreamVersion:
        """Return a version that was not declared: `refresh/other` or `refresh/other@v3`."""
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

    def complete(self, run_id: UUID, fence: int, result: Result) -> None:
        """Publish the result and end the run."""
        ...

    def fail(self, run_id: UUID, fence: int, error: BaseException, traceback: str, *, will_retry: bool) -> None:
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
    ) -> None:
        self.objects = objects
        self.heartbeat_s = heartbeat_s
        self._database = database
        self._gateway = gateway
        self._execution = RunExecution(database, lease_s=lease_s)
        self._tenant_id = tenant_id
        self._store_id = store_id

    def claim(self, flow_run: FlowRunFacts) -> Claim:
        """Claim the run of this flow run, whoever triggered it.

        Raises:
            StoreMismatch: this worker reaches another store than the one that the deployment was registered in.
            NotFound: the flow run's deployment is not registered here.
        """

        def work(connection: Any) -> Row[Any]:
            self._check_store(store.store_id(connection))
            now = self._database.now(connection)
            run = ensure_run(connection, flow_run, now=now, is_starting=True)
            if run is None:
                raise NotFound("registered deployment for the flow run", flow_run.name)
            return run

        run = self._database.write(work)
        return self._execution.claim(run.id, worker=f"{socket.gethostname()}:{os.getpid()}")

    def suspend(self, flow_run: FlowRunFacts, *, reason: str) -> None:
        """Give the worker back until the run is released; does not return."""
        self._gateway.suspend(flow_run.id, message=reason, timeout_s=7 * 86_400)

    def heartbeat(self, run_id: UUID, fence: int) -> bool:
        """Renew the lease; True when the run's cancellation was asked for."""
        return self._execution.heartbeat(run_id, fence).cancel_requested_at is not None

    def pins(self, run_id: UUID) -> Mapping[str, UpstreamVersion]:
        """Return the pinned versions by role."""
        with self._database.read() as connection:
            return {
                row.role: self._upstream(connection, row.role, row.upstream_id, row.version_id)
                for row in store.inputs_of(connection, run_id)
                if row.pinned
            }

    def resolve(self, reference: str) -> UpstreamVersion:
        """Return a version that was not declared: `refresh/other` or `refresh/other@v3`."""
        with self._database.read() as connection:
            version = versions.resolve(connection, reference, tenant_id=self._tenant_id)
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
        self._execution.record(run_id, fence, entries, metrics=metrics, progress=progress)

    def complete(self, run_id: UUID, fence: int, result: Result) -> None:
        """Publish the result and end the run."""
        self._execution.complete(run_id, fence, result)

    def fail(self, run_id: UUID, fence: int, error: BaseException, traceback: str, *, will_retry: bool) -> None:
        """End the run with an error, or leave it to Prefect's next attempt."""
        self._execution.fail(run_id, fence, error, traceback, will_retry=will_retry)

    def pause(self, run_id: UUID, fence: int) -> None:
        """Give the lease back while the body is suspended."""
        self._execution.pause(run_id, fence)

    def acknowledge_cancel(self, run_id: UUID, fence: int) -> None:
        """End the run as cancelled: its body has stopped."""
        self._execution.acknowledge_cancel(run_id, fence)

    def _check_store(self, reached: UUID) -> None:
        if self._store_id is not None and UUID(self._store_id) != reached:
            raise StoreMismatch(
                f"this worker reached the store {reached}, but the deployment was registered in {self._store_id}: "
                "set FRESHLINE_DATABASE_URL on the worker to the database that `freshline deploy` used"
            )

    def _upstream(self, connection: Any, role: str, deployment_id: UUID, version_id: UUID) -> UpstreamVersion:
        version = versions.by_id(connection, version_id)
        key = store.deployment_key(connection, deployment_id)
        artifacts = {artifact.name: artifact for artifact in artifacts_of(connection, version.run_id)}
        return UpstreamVersion(role, deployment_id, key, version_id, version.number, artifacts)
