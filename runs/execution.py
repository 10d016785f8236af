"""The worker's side of a run: claim, heartbeat, and its end. What it records on the way is in `recording`.

Every call carries the fence that the claim drew. Whoever holds an older one is told to stop, and publishes nothing.
"""

import logging
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.engine import Connection, Row

from ..lineage import registry, staleness, versions
from ..lineage.models import Activity, Deployment, DeploymentState
from ..storage import faults
from ..storage.artifacts import ArtifactRecord, replace_artifacts
from ..storage.compiled import Answer
from ..storage.database import Database
from ..storage.errors import Fenced
from ..storage.ids import show_run_id
from ..storage.statement import Statement
from . import contents, details, steps, store, waits
from . import run_events as events
from .admission import Admission, admit
from .ending import Held, end_run
from .gate import READY, Decision
from .logs import run_event
from .points import sent
from .recording import metric_rows
from .result import Result, final_state_digest
from .status import LEASED, RunStatus, StopReason
from .steps import StepCount
from .versioning import lock_to_publish, publish_result

_LOGGER = logging.getLogger(__name__)
_STATE = DeploymentState.__table__  # type: ignore[attr-defined]
_DEPLOYMENT = Deployment.__table__  # type: ignore[attr-defined]
_MAX_TRACEBACK = 20_000
_AFFECTED_SHOWN = 100
"""A change may reach a hundred thousand deployments: its event names the nearest."""

_DRAW_FENCE = Statement(
    lambda _: (
        sa.update(_STATE)
        .where(
            _STATE.c.deployment_id == sa.bindparam("of_deployment"), _STATE.c.partition == sa.bindparam("of_partition")
        )
        .values(next_fence=_STATE.c.next_fence + 1, activity=sa.literal_column(f"'{Activity.RUNNING}'"))
        .returning(_STATE.c.next_fence, _STATE.c.version_id)
    )
)

FindRun = Callable[[Connection], tuple[Row[Any], Row[Any] | None]]
"""Returns, or records, the run that is to be claimed, with its deployment where that was read on the way.

Nobody else changes the run meanwhile.
"""


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
    pins: tuple[versions.Input, ...] = ()
    """The current version of each upstream when it was claimed."""


@dataclass(frozen=True)
class RunExecution:
    """The transactions of a worker."""

    database: Database
    lease_s: float = 60.0

    def claim(
        self,
        run: UUID | FindRun,
        *,
        worker: str,
        provenance: Mapping[str, str] | None = None,
        can_wait: bool = True,
    ) -> Claim:
        """Ask the gate, draw the fence, pin the upstreams' current versions and take the lease; or do not.

        One transaction, in which `run` is found, or recorded if it had no record. A run that has ended, or waits, is
        returned as it is: `may_start` is False. `provenance` says what code and environment the body runs in; what
        cannot wait (a subflow) is refused where it would have to.
        """
        faults.reach("claim.begin")

        def work(connection: Connection) -> Claim:
            deployment: Row[Any] | None = None
            if isinstance(run, UUID):
                found = store.get_run(connection, run, lock=True)
            else:
                found, deployment = run(connection)
            now = self.database.now(connection)
            faults.reach("claim.ensured")
            deployment = deployment or registry.deployment_by_id(connection, found.deployment_id)
            assert deployment is not None, "every run has one"
            status = RunStatus(found.status)
            if status.is_terminal or status in (RunStatus.WAITING, RunStatus.CANCELLING):
                return Claim(found, deployment, None, may_start=False)
            admission = admit(connection, found, deployment, can_wait=can_wait, now=now)
            if status == RunStatus.PENDING and admission.run.status != RunStatus.PENDING:
                return Claim(admission.run, deployment, admission.decision, may_start=False)
            faults.reach("claim.gated")
            started = self._start(connection, admission, worker=worker, provenance=provenance or {}, now=now)
            faults.reach("claim.before_commit")
            return started

        claim = self.database.write(work)
        faults.reach("claim.committed")
        run_event(_LOGGER, f"claimed by {worker}", run=claim.run, actor=worker, deployment=claim.deployment.key)
        return claim

    def heartbeat(self, run_id: UUID, fence: int) -> Row[Any]:
        """Renew the lease; return the run, whose status says whether its cancellation was asked for.

        Raises:
            Fenced: somebody else holds the run, or it has ended.
        """

        def work(connection: Connection) -> Answer:
            now = self.database.now(connection)
            until = now + timedelta(seconds=self.lease_s)
            return store.ask_change(connection, run_id, fence, lease_until=until, heartbeat_at=now)

        # Where it changes nothing, nothing is what is committed.
        row: Row[Any] | None = self.database.write(work).first()
        if row is None:
            raise Fenced(f"{show_run_id(run_id)} is not held by fence {fence} any more: stop without publishing")
        return row

    def complete(self, run_id: UUID, fence: int, result: Result) -> Row[Any]:
        """Publish the result and end the run, in one transaction; return the run. Calling again changes nothing.

        Version, inputs, artifacts, pointer, causes of everything downstream, events and whoever waited: all or
        nothing. A result whose deployment has a newer version already is kept, but does not become current.

        Raises:
            Fenced: somebody else holds the run, or it has ended otherwise.
        """

        faults.reach("complete.begin")

        def work(connection: Connection) -> Row[Any]:
            faults.reach("complete.begun")
            # The guard comes first: it also locks the run's row against a cancellation or an expiry. Then the states,
            # in the order of their ids. What is asked of the state sees what was written before it was locked.
            held = store.ask_held(connection, run_id, fence)
            locking = lock_to_publish(connection, run_id, [read.upstream_id for read in result.reads])
            run = held.first()
            now = self.database.now(connection)
            if run is None:
                ended = store.get_run(connection, run_id)
                if ended.status == RunStatus.COMPLETED and ended.fence == fence:
                    return ended  # the reply to the first call was lost
                raise Fenced(f"{show_run_id(run_id)} is not held by fence {fence} any more: nothing was published")
            faults.reach("complete.guarded")
            affected, state = locking(run.deployment_id)
            faults.reach("complete.locked")
            published = publish_result(connection, run, fence, result, now=now, state=state)
            faults.reach("complete.published")
            waiting = waits.ask_dependencies(connection, run_id=run_id, upstream_ids=[run.deployment_id])
            changes = staleness.recompute(connection, affected, now=now)
            faults.reach("complete.recomputed")
            contents.write_metrics(connection, run_id, metric_rows(result.metrics, result.conventions), now=now)
            if result.series is not None:
                sent.take(connection, run_id, result.series.ends, now=now)
            kind = details.kind_of(run)
            contents.update_detail(connection, kind, run_id, details.valid_detail(kind, result.detail))
            contents.mark_reads(connection, run_id, [vars(read) for read in result.reads])
            if result.counters or result.step_counters:
                steps.count(connection, run_id, result.counters, result.step_counters)
            reason = StopReason.COMPLETED if published.is_current else StopReason.SUPERSEDED
            completed = end_run(
                connection,
                run_id,
                RunStatus.COMPLETED,
                reason,
                events.VersionPublished(
                    number=published.number,
                    digest=published.digest,
                    is_current=published.is_current,
                    affected={change.key: change.after for change in changes[:_AFFECTED_SHOWN]},
                    num_affected=dict(Counter(change.after for change in changes)),
                ),
                events.RunCompleted(stop_reason=reason),
                actor="worker",
                now=now,
                started_at=run.started_at,
                changed=[change.deployment_id for change in changes if change.after in READY],
                held=Held(run, waiting),
                version_id=published.version_id,
                outputs=dict(result.outputs),
                progress=1.0,
                final_state_digest=final_state_digest(result),
                first_output_ns=result.first_output_ns,
            )
            assert completed is not None, "the run was held in this transaction"
            faults.reach("complete.ended")
            faults.reach("complete.before_commit")
            return completed

        ended = self.database.write(work, outlasts_outage=True)
        faults.reach("complete.committed")
        run_event(_LOGGER, "completed", run=ended, actor="worker")
        return ended

    def fail(
        self,
        run_id: UUID,
        fence: int,
        error: BaseException,
        traceback: str,
        *,
        will_retry: bool = False,
        artifacts: Sequence[ArtifactRecord] = (),
        traceback_ref: str | None = None,
        counters: Mapping[str, float] | None = None,
        step_counters: Sequence[StepCount] = (),
        resume_due_at: datetime | None = None,
    ) -> Row[Any]:
        """End the run with an error, or leave it to Prefect's next attempt; return the run.

        `artifacts` are what the attempt leaves all the same, such as the whole traceback, which `traceback_ref` names,
        and what it counted. `resume_due_at` is when Prefect is to start the next one. Calling again changes nothing.

        Raises:
            Fenced: somebody else holds the run, or it has ended.
        """
        error_type, message = type(error).__name__, _storable(str(error))[:4000]
        facts: dict[str, Any] = {
            "error_type": error_type,
            "error_message": message,
            "error_traceback": _storable(traceback)[-_MAX_TRACEBACK:],
            "traceback_ref": traceback_ref,
        }

        def work(connection: Connection) -> Row[Any]:
            run = store.get_run(connection, run_id, lock=True)
            now = self.database.now(connection)
            done = RunStatus.RETRYING if will_retry else RunStatus.FAILED
            if run.fence == fence and run.status == done and run.stop_reason in (None, StopReason.ERROR):
                return run  # the reply to the first call was lost
            if run.status not in LEASED:
                raise Fenced(f"{show_run_id(run_id)} is {run.status}: fence {fence} does not hold it any more")
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
                    resume_due_at=resume_due_at,
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
                    started_at=run.started_at,
                    held_fence=fence,
                    **facts,
                )
            if row is None:
                raise Fenced(f"{show_run_id(run_id)} is not held by fence {fence} any more")
            replace_artifacts(connection, run_id, artifacts, now=now, since=run.started_at)
            if counters or step_counters:
                steps.count(connection, run_id, counters or {}, step_counters)
            faults.reach("fail.before_commit")
            return row

        failed = self.database.write(work, outlasts_outage=True)
        faults.reach("fail.committed")
        run_event(_LOGGER, f"failed: {error_type}", run=failed, actor="worker")
        return failed

    def pause(self, run_id: UUID, fence: int) -> Row[Any] | None:
        """Give the lease back while the body is suspended; its next claim goes on with the same run."""

        def work(connection: Connection) -> Row[Any] | None:
            now = self.database.now(connection)
            return store.transition(
                connection,
                run_id,
                RunStatus.PAUSED,
                [events.RunPaused()],
                actor="worker",
                now=now,
                held_fence=fence,
                pause_requested_at=None,
            )

        return self.database.write(work, outlasts_outage=True)

    def acknowledge_cancel(self, run_id: UUID, fence: int) -> Row[Any] | None:
        """End a run whose body has stopped because its cancellation was asked for."""
        reason = StopReason.CANCELLED_BY_USER

        def work(connection: Connection) -> Row[Any] | None:
            run = store.get_run(connection, run_id, lock=True)
            return end_run(
                connection,
                run_id,
                RunStatus.CANCELLED,
                reason,
                events.RunCancelled(stop_reason=reason),
                actor="worker",
                now=self.database.now(connection),
                started_at=run.started_at,
                held_fence=fence,
            )

        cancelled = self.database.write(work)
        if cancelled is not None:
            run_event(_LOGGER, "stopped as it was asked to", run=cancelled, actor="worker")
        return cancelled

    def _start(
        self, connection: Connection, admission: Admission, *, worker: str, provenance: Mapping[str, str], now: datetime
    ) -> Claim:
        run, deployment = admission.run, admission.deployment
        state, drawn = admission.state, {"of_deployment": deployment.id, "of_partition": run.partition}
        if state is not None:  # locked: nobody else draws
            _DRAW_FENCE.post(connection, **drawn)
            fence = state.next_fence + 1
        else:
            state = _DRAW_FENCE.first(connection, **drawn)
            assert state is not None, "a registered deployment has a state"
            fence = state.next_fence
        faults.reach("claim.fenced")
        pins = admission.decision.pins()
        rows = [{**vars(pin), "pinned": True, "read": False} for pin in pins]
        (contents.write_inputs if run.attempt else contents.add_inputs)(connection, run.id, rows)
        faults.reach("claim.pinned")
        attempt = run.attempt + 1
        began = events.RunStarted(attempt=attempt, fence=fence, worker=worker)
        values: dict[str, Any] = {
            "fence": fence,
            "attempt": attempt,
            "lease_owner": worker,
            "lease_until": now + timedelta(seconds=self.lease_s),
            "heartbeat_at": now,
            "started_at": run.started_at or now,
            # A replay begins with what the run began with that it repeats.
            "base_version_id": state.version_id if run.replay_of is None else run.base_version_id,
            "declaration_digest": deployment.declaration_digest,
            "code_digest": deployment.declaration.get("code_digest"),
            "resume_due_at": None,
            **provenance,
        }
        if run.status == RunStatus.RUNNING:
            # Its infrastructure started the flow run again: the new fence stops whoever still executes the old one.
            started = store.amend(connection, run, [began], actor=worker, now=now, **values)
        else:
            started = store.move(connection, run, RunStatus.RUNNING, [began], actor=worker, now=now, **values)
        return Claim(started, deployment, admission.decision, may_start=True, pins=pins)


def _storable(text: str) -> str:
    """Return text that both databases take: an error must not be hidden by what its message holds."""
    return text.encode("utf-8", "replace").decode().replace("\0", "\ufffd")
