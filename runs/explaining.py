"""Why did this run run, or not? From the stored decision, the log and the stop reason: a sentence, and the evidence.

Reads only, in the caller's transaction. Judges nothing anew: what it tells was stored when it happened.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.engine import Connection, Row

from ..lineage.listing import html_table
from ..lineage.models import Deployment, Version
from ..storage.ids import show_run_id
from ..storage.statement import one_of
from ..storage.words import AUTO_REFRESH, Trigger
from .gate import READY, Verdict
from .models import RunDependency, RunEvent
from .status import RunStatus, StopReason
from .store import RUN

_DEPLOYMENT = Deployment.__table__  # type: ignore[attr-defined]
_DEPENDENCY = RunDependency.__table__  # type: ignore[attr-defined]
_EVENT = RunEvent.__table__  # type: ignore[attr-defined]
_VERSION = Version.__table__  # type: ignore[attr-defined]

MAX_MOMENTS = 100
"""Entries of the log that an explanation holds: half of them from each end."""

_ENDS: Mapping[StopReason, str] = {
    StopReason.ERROR: "its body raised",
    StopReason.CRASHED: "Prefect lost its process or the infrastructure",
    StopReason.LEASE_EXPIRED: "its worker was not heard of for a whole lease",
    StopReason.NEVER_STARTED: "Prefect did not start it in time",
    StopReason.NOT_DISPATCHED: "Prefect refused to create its flow run",
    StopReason.TIMED_OUT: "Prefect's time limit of the flow passed",
    StopReason.WAITED_TOO_LONG: "its upstreams were not ready before its deadline",
    StopReason.DELETED_IN_PREFECT: "its flow run was deleted in Prefect",
}

_TOLD: Mapping[str, Callable[[Mapping[str, Any]], str]] = {
    "run_submitted": lambda said: (
        f"recorded, trigger {said['trigger']}" + (f": {said['because']}" if said.get("because") else "")
    ),
    "run_dispatched": lambda said: f"Prefect has the flow run {said['flow_run_id']} for it",
    "gate_decided": lambda said: f"the gate said {said['verdict']}: {said['reason']}",
    "run_waiting": lambda said: f"waits for {', '.join(said['upstreams'])}",
    "run_released": lambda _: "no upstream holds it back any more",
    "run_started": lambda said: f"attempt {said['attempt']} began on {said['worker']}",
    "attempt_failed": lambda said: f"attempt {said['attempt']} failed: {said['error_type']}: {said['message']}",
    "cancel_requested": lambda _: "its cancellation was asked for",
    "cancel_forced": lambda said: f"it had not stopped after {said['after_s']:g} s",
    "pause_requested": lambda _: "its pause was asked for",
    "resume_requested": lambda _: "it was asked to go on",
    "run_paused": lambda _: "paused",
    "version_published": lambda said: (
        f"published v{said['number']}" + ("" if said["is_current"] else ", which did not become current")
    ),
    "run_completed": lambda said: f"completed ({said['stop_reason']})",
    "run_failed": lambda said: f"failed ({said['stop_reason']})",
    "run_cancelled": lambda said: f"cancelled ({said['stop_reason']})",
    "run_skipped": lambda said: f"skipped ({said['stop_reason']})",
    "run_refused": lambda said: f"refused ({said['stop_reason']})",
}
"""Kind of event -> what it tells of why. The others, such as progress, tell nothing of that."""


@dataclass(frozen=True)
class Moment:
    """One entry of the log that tells something of why."""

    seq: int
    at: datetime
    actor: str
    kind: str
    what: str


@dataclass(frozen=True)
class Awaited:
    """An upstream that the run waits for now."""

    deployment: str
    run_id: UUID | None
    """The run that refreshes it; none when it is awaited without being refreshed."""
    status: str | None
    """That run's status."""


@dataclass(frozen=True)
class FailedAttempt:
    """An attempt that failed."""

    attempt: int
    error_type: str | None
    message: str | None
    at: datetime


@dataclass(frozen=True)
class RunExplanation:
    """Why a run ran, was skipped, was refused, waits or failed, with the evidence."""

    run_id: UUID
    deployment: str
    status: str
    stop_reason: str | None
    why: str
    """The sentence without its subject."""
    asked_by: str
    """Who or what wanted it."""
    verdict: str | None
    """What the gate said last; none when it was not asked."""
    gate_reason: str | None
    """Its own reason."""
    forced_by: str | None
    """Who overrode the gate."""
    upstreams: tuple[Mapping[str, Any], ...]
    """What the gate saw of each upstream, as it was stored."""
    waits_for: tuple[Awaited, ...]
    waited_for: tuple[str, ...]
    """The upstreams that it ever waited for."""
    waited_s: float
    """Seconds that it waited, until now if it still does."""
    attempts: int
    failures: tuple[FailedAttempt, ...]
    retry_of: UUID | None
    """The ended run whose flow run was started again by hand."""
    replay_of: UUID | None
    """The run that it repeats on the versions that that one read."""
    version: int | None
    """Number of the version that it published."""
    moments: tuple[Moment, ...]
    """What its log tells of why, in order; of a long one the first and the last entries."""

    def sentence(self) -> str:
        """Say it in one sentence."""
        return f"{show_run_id(self.run_id)} of {self.deployment} {self.why}"

    def _repr_html_(self) -> str:
        rows = [(moment.at, moment.actor, moment.what) for moment in self.moments]
        return html_table(("at", "who", "what"), rows, caption=self.sentence())


def explain_run(connection: Connection, run: Row[Any], *, now: datetime) -> RunExplanation:
    """Return why this run is as it is."""
    log = _log(connection, run.id)
    decision: Mapping[str, Any] = run.decision or {}
    facts = _Facts(
        run=run,
        decision=decision,
        log=log,
        now=now,
        asked_by=_asked_by(connection, run, log),
        waits_for=_awaited(connection, run.id),
        version=_version(connection, run.id),
    )
    half = MAX_MOMENTS // 2
    told = log if len(log) <= MAX_MOMENTS else [*log[:half], *log[-half:]]
    return RunExplanation(
        run_id=run.id,
        deployment=connection.execute(
            sa.select(_DEPLOYMENT.c.key).where(_DEPLOYMENT.c.id == run.deployment_id)
        ).scalar_one(),
        status=run.status,
        stop_reason=run.stop_reason,
        why=facts.why(),
        asked_by=facts.asked_by,
        verdict=decision.get("verdict"),
        gate_reason=decision.get("reason"),
        forced_by=facts.forced_by,
        upstreams=tuple(decision.get("upstreams", ())),
        waits_for=facts.waits_for,
        waited_for=facts.waited_for,
        waited_s=facts.waited_s,
        attempts=run.attempt,
        failures=facts.failures,
        retry_of=run.retry_of,
        replay_of=run.replay_of,
        version=facts.version,
        moments=tuple(Moment(row.seq, row.at, row.actor, row.kind, _TOLD[row.kind](row.payload)) for row in told),
    )


@dataclass(frozen=True)
class _Facts:
    """What the sentence is made of."""

    run: Row[Any]
    decision: Mapping[str, Any]
    log: Sequence[Row[Any]]
    now: datetime
    asked_by: str
    waits_for: tuple[Awaited, ...]
    version: int | None

    @property
    def forced_by(self) -> str | None:
        if "forced_by" in self.decision:
            return self.decision["forced_by"]  # type: ignore[no-any-return]  # text or null
        # A record of before the decision said so.
        was_forced = any(row.payload["reason"].startswith("forced by ") for row in self._of("gate_decided"))
        return self.run.actor if was_forced else None

    @property
    def waited_for(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(key for row in self._of("run_waiting") for key in row.payload["upstreams"]))

    @property
    def waited_s(self) -> float:
        waited, since = 0.0, None
        for row in self.log:
            if row.kind == "run_waiting":
                since = since or row.at
            elif since is not None and row.kind != "gate_decided":
                waited, since = waited + (row.at - since).total_seconds(), None
        return waited if since is None else waited + (self.now - since).total_seconds()

    @property
    def failures(self) -> tuple[FailedAttempt, ...]:
        failed = [
            FailedAttempt(row.payload["attempt"], row.payload["error_type"], row.payload["message"], row.at)
            for row in self._of("attempt_failed")
        ]
        for row in self._of("run_failed") if self.run.attempt else ():
            failed.append(FailedAttempt(self.run.attempt, row.payload["error_type"], row.payload["message"], row.at))
        return tuple(failed)

    def why(self) -> str:  # noqa: PLR0911 - one line per status
        """Return what follows the run's name."""
        begun = f"because {self.asked_by}{self._on_what()}{self._after_what()}"
        match RunStatus(self.run.status):
            case RunStatus.COMPLETED:
                published = f" and published v{self.version}" if self.version is not None else " and completed"
                if self.run.stop_reason == StopReason.SUPERSEDED:
                    published += ", which did not become the current version"
                return f"ran {begun}{',' if ',' in begun else ''}{published}"
            case RunStatus.SKIPPED:
                return f"was skipped because {self._skipped_because()}; {self.asked_by}"
            case RunStatus.REFUSED:
                return f"was refused because {self.run.error_message or self._said()}; {self.asked_by}"
            case RunStatus.FAILED:
                error = f": {self.run.error_type}: {self.run.error_message}" if self.run.error_type else ""
                end = f"{_ENDS.get(self.run.stop_reason, self.run.stop_reason)}{error}"
                started = f"; attempt {self.run.attempt} ran {begun}" if self.run.attempt else ""
                return f"failed because {end}{started}"
            case RunStatus.CANCELLED:
                return self._cancelled()
            case RunStatus.WAITING:
                awaited = ", ".join(_awaited_in_words(one) for one in self.waits_for) or "nothing any more"
                return f"waits for {awaited}, because {self._said().removeprefix('waiting: ')}; {self.asked_by}"
            case RunStatus.PENDING:
                where = "Prefect to start it" if self.run.flow_run_id else "the dispatcher"
                return f"may start and waits for {where}; {self.asked_by}{self._on_what()}{self._after_what()}"
            case RunStatus.RETRYING:
                last = self.failures[-1] if self.failures else None
                error = f" with {last.error_type}: {last.message}" if last else ""
                due = f" at {self.run.resume_due_at:%Y-%m-%d %H:%M:%S} UTC" if self.run.resume_due_at else ""
                return f"failed in attempt {self.run.attempt}{error}, and Prefect starts the next one{due}"
            case RunStatus.PAUSED:
                return f"is paused since attempt {self.run.attempt}, until somebody resumes it"
            case RunStatus.CANCELLING:
                return f"runs until it notices that {self._actor_of('cancel_requested')} asked for its cancellation"
            case RunStatus.RUNNING:
                return f"runs (attempt {self.run.attempt}) {begun}"

    def _on_what(self) -> str:
        """Say how the gate came to let it start."""
        upstreams = self.decision.get("upstreams", ())
        not_ready = [said["reason"] or said["deployment"] for said in upstreams if said["freshness"] not in READY]
        if self.run.replay_of is not None:
            return f", on the versions that {show_run_id(self.run.replay_of)} had read"
        if self.forced_by is not None:
            return f", although {'; '.join(not_ready) or 'an upstream was not ready'}: {self.forced_by} overrode that"
        if not upstreams:
            return ""
        warnings = [said["warning"] for said in upstreams if said.get("warning")]
        warned = f" (with a warning: {'; '.join(warnings)})" if warnings else ""
        return f", on upstreams that were ready{warned}" if not not_ready else f", although {'; '.join(not_ready)}"

    def _after_what(self) -> str:
        """Say what it took until it started, or started again."""
        parts = []
        if self.waited_for and self.run.status != RunStatus.WAITING:
            parts.append(f"after it had waited {_duration(self.waited_s)} for {', '.join(self.waited_for)}")
        earlier = [one for one in self.failures if one.attempt < self.run.attempt]
        if earlier:
            many = "one attempt" if len(earlier) == 1 else f"{len(earlier)} attempts"
            parts.append(f"after {many} that failed, the last with {earlier[-1].error_type}: {earlier[-1].message}")
        return "".join(f", {part}" for part in parts)

    def _skipped_because(self) -> str:
        if self.decision.get("verdict") == Verdict.SKIP:
            return self._said()
        return "what it waited for made the deployment ready without it"

    def _said(self) -> str:
        return str(self.decision.get("reason") or "nothing was recorded")

    def _cancelled(self) -> str:
        if self.run.stop_reason != StopReason.CANCELLED_BY_USER:
            return f"was cancelled because {_ENDS.get(self.run.stop_reason, self.run.stop_reason)}; {self.asked_by}"
        by = self._actor_of("cancel_requested") or self._actor_of("run_cancelled") or "somebody"
        when = f"in attempt {self.run.attempt}" if self.run.attempt else "before it started"
        forced = ", and had to be ended by force" if self._of("cancel_forced") else ""
        return f"was cancelled by {by} {when}{forced}; {self.asked_by}"

    def _actor_of(self, kind: str) -> str | None:
        found = self._of(kind)
        return str(found[-1].actor) if found else None

    def _of(self, kind: str) -> list[Row[Any]]:
        return [row for row in self.log if row.kind == kind]


def _asked_by(connection: Connection, run: Row[Any], log: Sequence[Row[Any]]) -> str:
    """Say who or what wanted the run."""
    parent = f"{show_run_id(run.parent_id)}" if run.parent_id else run.actor
    if run.parent_id is not None:
        query = sa.select(_DEPLOYMENT.c.key).join(RUN, RUN.c.deployment_id == _DEPLOYMENT.c.id)
        parent += f" of {connection.execute(query.where(RUN.c.id == run.parent_id)).scalar_one()}"
    again = f"; it starts {show_run_id(run.retry_of)} again" if run.retry_of else ""
    match run.trigger:
        case Trigger.SUBMITTED:
            asked = f"{run.actor} submitted it" + (f" for {parent}" if run.parent_id else "")
        case Trigger.MANUAL:
            asked = "somebody started it in Prefect"
        case Trigger.SCHEDULE:
            asked = f"the schedule {run.trigger_name or 'of its deployment'} started it"
        case Trigger.AUTOMATION:
            asked = f"the automation {run.trigger_name or 'in Prefect'} started it"
        case Trigger.CASCADE if run.trigger_name == AUTO_REFRESH:
            because = next((row.payload.get("because") for row in log if row.kind == "run_submitted"), None)
            asked = f"its deployment is refreshed by itself, and was stale: {because or 'nothing was recorded'}"
        case Trigger.CASCADE:
            asked = f"{parent} needed it"
        case Trigger.SUBFLOW:
            asked = f"{parent} called it"
        case Trigger.BACKFILL:
            asked = f"the backfill {run.trigger_name or ''} of {run.actor} asked for it".replace("  ", " ")
        case Trigger.PUBLISH:
            asked = f"{run.actor} published it"
        case other:
            asked = f"{run.actor} asked for it ({other})"
    return asked + again


def _awaited(connection: Connection, run_id: UUID) -> tuple[Awaited, ...]:
    rows = connection.execute(
        sa.select(_DEPLOYMENT.c.key, _DEPENDENCY.c.upstream_run_id, RUN.c.status)
        .select_from(_DEPENDENCY)
        .join(_DEPLOYMENT, _DEPLOYMENT.c.id == _DEPENDENCY.c.upstream_id)
        .outerjoin(RUN, RUN.c.id == _DEPENDENCY.c.upstream_run_id)
        .where(_DEPENDENCY.c.run_id == run_id)
        .order_by(_DEPLOYMENT.c.key)
    )
    return tuple(Awaited(row.key, row.upstream_run_id, row.status) for row in rows)


def _awaited_in_words(awaited: Awaited) -> str:
    if awaited.run_id is None:
        return f"{awaited.deployment} to be ready"
    return f"{awaited.deployment} ({show_run_id(awaited.run_id)} is {awaited.status})"


def _version(connection: Connection, run_id: UUID) -> int | None:
    number: int | None = connection.execute(
        sa.select(_VERSION.c.number).where(_VERSION.c.run_id == run_id)
    ).scalar_one_or_none()
    return number


def _log(connection: Connection, run_id: UUID) -> list[Row[Any]]:
    query = sa.select(_EVENT).where(_EVENT.c.run_id == run_id, one_of(_EVENT.c.kind, _TOLD)).order_by(_EVENT.c.seq)
    return list(connection.execute(query))


def _duration(seconds: float) -> str:
    for size, unit in ((86_400, "days"), (3_600, "h"), (60, "min")):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} s"
