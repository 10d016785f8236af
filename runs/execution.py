"""The worker's side of a run: claim, heartbeat, progress, and its end.

Every call carries the fence that the claim drew. Whoever holds an older one is told to stop, and publishes nothing.
"""

import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, timedelta
from typing import Any
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.engine import Connection, Row

from ..lineage import staleness, versions
from ..lineage.models import Activity, Deployment, DeploymentState
from ..storage.artifacts import ArtifactRecord, insert_artifacts
from ..storage.database import Database
from ..storage.errors import Fenced
from ..storage.ids import show_run_id
from . import details, events, store
from .admission import admit
from .ending import end_run, release_waiting
from .gate import Decision
from .status import RunStatus, StopReason

_STATE = DeploymentState.__table__  # type: ignore[attr-defined]
_DEPLOYMENT = Deployment.__table__  # type: ignore[attr-defined]
_MAX_TRACEBACK = 20_000


@dataclass(frozen=True)
class Claim:
    """What a worker gets when its flow begins: the run, and leave to start or not."""

    run: Row[Any]
    """The run as it is now; its body may start when it is running."""
    deployment: Row[Any]
    decision: Decision | None
    """The gate's decision; none when it was not asked."""
    may_start: bool
    """True when the worker holds the run now."""


@dataclass(frozen=True)
class Read:
    """A version that the body read in a role."""

    role: str
    upstream_id: UUID
    version_id: UUID


@dataclass(frozen=True)
class Result:
    """What a body leaves when it returns."""

    artifacts: Sequence[ArtifactRecord] = ()
    reads: Sequence[Read] = ()
    metrics: Mapping[str, float] = field(default_factory=dict)
    conventions: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    detail: Mapping[str, Any] = field(default_factory=dict)
    outputs: Mapping[str, Any] = field(default_factory=dict)
    base_version_id: UUID | None = None
    """The version that a published table was appended to."""
    source_delayed: bool = False
    """The source had nothing new."""


@dataclass(frozen=True)
class RunExecution:
    """The transactions of a worker."""

    database: Database
    lease_s: float = 60.0

    def claim(self, run_id: UUID, *, worker: str) -> Claim:
        """Ask the gate, draw the fence, pin the upstreams' current versions and take the lease; or do not.

        One transaction. A run that has ended, or waits, is returned as it is: `may_start` is False.
        """

        def work(connection: Connection) -> Claim:
            now = self.database.now(connection)
            run = store.get_run(connection, run_id, lock=True)
            deployment = connection.execute(sa.select(_DEPLOYMENT).where(_DEPLOYMENT.c.id == run.deployment_id)).one()
            status = RunStatus(run.status)
            if status.is_terminal or status in (RunStatus.WAITING, RunStatus.CANCELLING):
                return Claim(run, deployment, None, may_start=False)
            decision = None
            if status == RunStatus.PENDING:
                admission = admit(connection, run, deployment, now=now)
                decision = admission.decision
                if admission.run.status != RunStatus.PENDING:
                    return Claim(admission.run, deployment, decision, may_start=False)
            started = self._start(connection, run, deployment, worker=worker)
            return Claim(started, deployment, decision, may_start=True)

        return self.database.write(work)

    def heartbeat(self, run_id: UUID, fence: int) -> Row[Any]:
        """Renew the lease; return the run, whose status says whether its cancellation was asked for.

        Raises:
            Fenced: somebody else holds the run, or it has ended.
        """

        def work(connection: Connection) -> Row[Any]:
            now = self.database.now(connection)
            until = now + timedelta(seconds=self.lease_s)
            row = store.change(
                connection,
                run_id,
                actor="worker",
                now=now,
                held_fence=fence,
                lease_until=until,
                heartbeat_at=now,
            )
            if row is None:
                raise Fenced(f"{show_run_id(run_id)} is not held by fence {fence} any more: stop without publishing")
            return row

        return self.database.write(work)

    def record(
        self,
        run_id: UUID,
        fence: int,
        entries: Sequence[events.Event] = (),
        *,
        metrics: Mapping[str, float] | None = None,
        progress: float | None = None,
    ) -> None:
        """Append events, latest metric values and progress of a running body.

        Raises:
            Fenced: somebody else holds the run, or it has ended.
        """

        def work(connection: Connection) -> None:
            now = self.database.now(connection)
            values = {} if progress is None else {"progress": progress}
            row = store.change(connection, run_id, entries, actor="worker", now=now, held_fence=fence, **values)
            if row is None:
                raise Fenced(f"{show_run_id(run_id)} is not held by fence {fence} any more: stop without publishing")
            store.write_metrics(connection, run_id, _metric_rows(metrics or {}, {}), now=now)

        self.database.write(work)

    def complete(self, run_id: UUID, fence: int, result: Result) -> Row[Any]:
        """Publish the result and end the run, in one transaction; return the run. Calling again changes nothing.

        Version, inputs, artifacts, pointer, causes of everything downstream, events and whoever waited: all or
        nothing. A result whose deployment has a newer version already is kept, but does not become current.

        Raises:
            Fenced: somebody else holds the run, or it has ended otherwise.
        """

        def work(connection: Connection) -> Row[Any]:
            now = self.database.now(connection)
            run = store.get_run(connection, run_id, lock=True)
            if run.status == RunStatus.COMPLETED and run.fence == fence:
                return run  # the reply to the first call was lost
            # The guard comes first: it also locks the run's row against a cancellation or an expiry.
            if store.change(connection, run_id, actor="worker", now=now, held_fence=fence) is None:
                raise Fenced(f"{show_run_id(run_id)} is not held by fence {fence} any more: nothing was published")
            read_from = [read.upstream_id for read in result.reads]
            affected = staleness.lock_affected(connection, [run.deployment_id], upstreams=read_from)
            published = self._publish(connection, run, fence, result)
            changes = staleness.recompute(connection, affected, now=now)
            reason = StopReason.COMPLETED if published.is_current else StopReason.SUPERSEDED
            store.write_metrics(connection, run_id, _metric_rows(result.metrics, result.conventions), now=now)
            kind = connection.execute(
                sa.select(_DEPLOYMENT.c.kind).where(_DEPLOYMENT.c.id == run.deployment_id)
            ).scalar_one()
            store.update_detail(connection, kind, run_id, details.valid_detail(kind, result.detail))
            store.mark_reads(connection, run_id, [vars(read) for read in result.reads])
            version = events.VersionPublished(
                number=published.number,
                digest=published.digest,
                is_current=published.is_current,
                affected={store.deployment_key(connection, c.deployment_id): c.after for c in changes},
            )
            store.change(connection, run_id, [version], actor="worker", now=now)
            ended = end_run(
                connection,
                run_id,
                RunStatus.COMPLETED,
                reason,
                events.RunCompleted(stop_reason=reason),
                actor="worker",
                now=now,
                version_id=published.version_id,
                outputs=dict(result.outputs),
                progress=1.0,
            )
            assert ended is not None, "the run was held in this transaction"
            release_waiting(connection, changed=[change.deployment_id for change in changes], now=now)
            return ended

        return self.database.write(work, outlasts_outage=True)

    def fail(
        self, run_id: UUID, fence: int, error: BaseException, traceback: str, *, will_retry: bool = False
    ) -> Row[Any]:
        """End the run with an error, or leave it to Prefect's next attempt; return the run.

        Raises:
            Fenced: somebody else holds the run, or it has ended.
        """
        error_type, message = type(error).__name__, _storable(str(error))[:4000]
        facts: dict[str, Any] = {
            "error_type": error_type,
            "error_message": message,
            "error_traceback": _storable(traceback)[-_MAX_TRACEBACK:],
        }

        def work(connection: Connection) -> Row[Any]:
            now = self.database.now(connection)
            run = store.get_run(connection, run_id)
            if will_retry and run.status == RunStatus.RUNNING:
                failed = events.AttemptFailed(attempt=run.attempt, error_type=error_type, message=message)
                row = store.transition(
                    connection,
                    run_id,
                    RunStatus.RETRYING,
                    [failed],
                    actor="worker",
                    now=now,
                    held_fence=fence,
                    **facts,
                )
            else:
                ended = events.RunFailed(stop_reason=StopReason.ERROR, error_type=error_type, message=message)
                row = end_run(
                    connection,
                    run_id,
                    RunStatus.FAILED,
                    StopReason.ERROR,
                    ended,
                    actor="worker",
                    now=now,
                    held_fence=fence,
                    **facts,
                )
            if row is None:
                raise Fenced(f"{show_run_id(run_id)} is not held by fence {fence} any more")
            return row

        return self.database.write(work, outlasts_outage=True)

    def pause(self, run_id: UUID, fence: int) -> Row[Any] | None:
        """Give the lease back while the body is suspended; its next claim goes on with the same run."""

        def work(connection: Connection) -> Row[Any] | None:
            now = self.database.now(connection)
            return store.transition(
                connection, run_id, RunStatus.PAUSED, [events.RunPaused()], actor="worker", now=now, held_fence=fence
            )

        return self.database.write(work, outlasts_outage=True)

    def acknowledge_cancel(self, run_id: UUID, fence: int) -> Row[Any] | None:
        """End a run whose body has stopped because its cancellation was asked for."""
        reason = StopReason.CANCELLED_BY_USER

        def work(connection: Connection) -> Row[Any] | None:
            return end_run(
                connection,
                run_id,
                RunStatus.CANCELLED,
                reason,
                events.RunCancelled(stop_reason=reason),
                actor="worker",
                now=self.database.now(connection),
                held_fence=fence,
            )

        return self.database.write(work)

    def _start(self, connection: Connection, run: Row[Any], deployment: Row[Any], *, worker: str) -> Row[Any]:
        now = self.database.now(connection)
        is_this = sa.and_(_STATE.c.deployment_id == deployment.id, _STATE.c.partition == run.partition)
        state = connection.execute(
            sa.update(_STATE)
            .where(is_this)
            .values(next_fence=_STATE.c.next_fence + 1, activity=Activity.RUNNING)
            .returning(_STATE)
        ).one()
        pins = [{**vars(pin), "pinned": True, "read": False} for pin in versions.pins_of(connection, deployment.id)]
        store.write_inputs(connection, run.id, pins)
        attempt = run.attempt + 1
        began = events.RunStarted(attempt=attempt, fence=state.next_fence, worker=worker)
        values: dict[str, Any] = {
            "held_fence": run.fence,
            "fence": state.next_fence,
            "attempt": attempt,
            "lease_owner": worker,
            "lease_until": now + timedelta(seconds=self.lease_s),
            "heartbeat_at": now,
            "started_at": run.started_at or now,
            "base_version_id": state.version_id,
            "declaration_digest": deployment.declaration_digest,
        }
        if run.status == RunStatus.RUNNING:
            # Its infrastructure started the flow run again: the new fence stops whoever still executes the old one.
            started = store.change(connection, run.id, [began], actor=worker, now=now, **values)
        else:
            started = store.transition(connection, run.id, RunStatus.RUNNING, [began], actor=worker, now=now, **values)
        assert started is not None, "the run was read in this transaction"
        return started

    def _publish(self, connection: Connection, run: Row[Any], fence: int, result: Result) -> versions.Published:
        now = self.database.now(connection)
        insert_artifacts(connection, run.id, result.artifacts, now=now, since=run.started_at)
        tables = [artifact for artifact in result.artifacts if artifact.publish]
        reads = [versions.Input(read.role, read.upstream_id, read.version_id) for read in result.reads]
        published = versions.publish(
            connection,
            versions.NewVersion(
                deployment_id=run.deployment_id,
                run_id=run.id,
                fence=fence,
                digest=output_digest(tables),
                declaration_digest=run.declaration_digest,
                inputs=reads,
                base_version_id=result.base_version_id,
                rows=sum(table.rows or 0 for table in tables),
                size_bytes=sum(table.size_bytes for table in tables),
                data_start=_extreme(min, [table.first_data_date for table in tables]),
                data_end=_extreme(max, [table.last_data_date for table in tables]),
                source_delayed=result.source_delayed,
            ),
            now=now,
        )
        versions.observe_edges(connection, run.deployment_id, reads)
        return published


def output_digest(artifacts: Sequence[ArtifactRecord]) -> str:
    """Return the digest of a version: sha256 over (name, digest) of its published outputs, sorted by name."""
    digest = hashlib.sha256()
    for name, content in sorted((artifact.name, artifact.digest) for artifact in artifacts if artifact.publish):
        digest.update(f"{len(name)}:{name}={content};".encode())
    return digest.hexdigest()


def _storable(text: str) -> str:
    """Return text that both databases take: an error must not be hidden by what its message holds."""
    return text.encode("utf-8", "replace").decode().replace("\0", "\ufffd")


def _metric_rows(values: Mapping[str, float], conventions: Mapping[str, Mapping[str, Any]]) -> list[dict[str, Any]]:
    return [
        {"name": name, "value": None if math.isnan(value) else value, "convention": conventions.get(name)}
        for name, value in values.items()
    ]


def _extreme(choose: Any, dates: Sequence[date | None]) -> date | None:
    known = [day for day in dates if day is not None]
    return choose(known) if known else None
