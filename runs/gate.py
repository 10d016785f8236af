"""The gate: may this run start on its upstreams as they are?

`look` reads the facts, `decide` is a pure function of them. The gate reads freshness, not activity: a failed or
running refresh does not by itself make an upstream's current version untrue.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from enum import StrEnum
from typing import Any
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from ..lineage.freshness import stored_policy
from ..lineage.models import Deployment, DeploymentState, Edge, Freshness, Version
from ..lineage.reasons import sentences_of
from ..lineage.versions import Input
from ..storage.compiled import Answer
from ..storage.statement import Statement
from ..storage.words import IfReady, OnStale

_EDGE = Edge.__table__  # type: ignore[attr-defined]
_DEPLOYMENT = Deployment.__table__  # type: ignore[attr-defined]
_STATE = DeploymentState.__table__  # type: ignore[attr-defined]
_VERSION = Version.__table__  # type: ignore[attr-defined]

READY = frozenset({Freshness.READY, Freshness.SOURCE_DELAYED})
_CANNOT_WAIT = (
    "a subflow cannot wait for upstreams: submit its deployment instead, or call run_deployment(..., as_subflow=False)"
)

_LOOK = Statement(
    lambda _: (
        sa.select(
            _EDGE.c.role,
            _DEPLOYMENT.c.id,
            _DEPLOYMENT.c.key,
            _DEPLOYMENT.c.retired_at,
            _DEPLOYMENT.c.policy,
            _STATE.c.freshness,
            _STATE.c.lapses_at,
            _VERSION.c.id.label("version_id"),
            _VERSION.c.number,
            _VERSION.c.digest,
            _VERSION.c.data_end,
        )
        .join(_DEPLOYMENT, _DEPLOYMENT.c.id == _EDGE.c.upstream_id)
        .join(_STATE, sa.and_(_STATE.c.deployment_id == _DEPLOYMENT.c.id, _STATE.c.partition == ""))
        .outerjoin(_VERSION, _VERSION.c.id == _STATE.c.version_id)
        .where(_EDGE.c.deployment_id == sa.bindparam("deployment_id"))
        .order_by(_EDGE.c.role)
    )
)


class Verdict(StrEnum):
    """What the gate says."""

    RUN = "run"
    """Start."""
    SKIP = "skip"
    """Not needed: the deployment is ready."""
    WAIT = "wait"
    """Start when the upstreams are ready."""
    REFRESH = "refresh"
    """Run the upstreams that are not ready first."""
    REFUSE = "refuse"
    """Do not start."""


@dataclass(frozen=True)
class UpstreamReport:
    """What the gate saw of one upstream."""

    role: str
    deployment_id: UUID
    key: str
    freshness: Freshness
    reason: str
    """One sentence that says why it is not ready; empty when it is."""
    version_id: UUID | None
    number: int | None
    digest: str | None
    data_end: date | None
    warning: str = ""
    """One sentence that says why it is only just ready; empty when nothing is to be said."""
    policy: Mapping[str, Any] | None = None
    """Its freshness policy, as written."""
    warns_at: datetime | None = None
    """When its current version is overdue by the policy's `warn`."""
    lapses_at: datetime | None = None
    """When its current version lapses by the policy."""

    @property
    def is_ready(self) -> bool:
        """True when the run may be built on it."""
        return self.freshness in READY


@dataclass(frozen=True)
class Decision:
    """The verdict with its evidence."""

    verdict: Verdict
    reason: str
    on_stale: OnStale
    upstreams: tuple[UpstreamReport, ...]
    as_of: datetime
    """When the gate looked, by the database's clock."""
    forced_by: str | None = None
    """Who let it start although an upstream was not ready; none when nobody had to."""

    @property
    def warnings(self) -> tuple[str, ...]:
        """What is to be said of upstreams that are only just ready."""
        return tuple(upstream.warning for upstream in self.upstreams if upstream.warning)

    def pins(self) -> tuple[Input, ...]:
        """Return the version of each upstream that has one: what a run that starts now reads."""
        return tuple(
            Input(upstream.role, upstream.deployment_id, upstream.version_id)
            for upstream in self.upstreams
            if upstream.version_id is not None
        )

    def evidence(self) -> dict[str, Any]:
        """Return the decision as it is stored on the run."""
        return {
            "verdict": self.verdict,
            "reason": self.reason,
            "on_stale": self.on_stale,
            "forced_by": self.forced_by,
            "as_of": self.as_of.isoformat(),
            "upstreams": [
                {
                    "role": upstream.role,
                    "deployment": upstream.key,
                    "freshness": upstream.freshness,
                    "reason": upstream.reason,
                    "warning": upstream.warning,
                    "version": upstream.number,
                    "digest": upstream.digest,
                    "data_end": upstream.data_end.isoformat() if upstream.data_end else None,
                    "policy": upstream.policy,
                    "warns_at": upstream.warns_at.isoformat() if upstream.warns_at else None,
                    "lapses_at": upstream.lapses_at.isoformat() if upstream.lapses_at else None,
                }
                for upstream in self.upstreams
            ],
        }

    def differs_from(self, stored: Mapping[str, Any] | None) -> bool:
        """Return whether it says anything else than the stored one; that it was made later is nothing else."""
        return stored is None or {**self.evidence(), "as_of": None} != {**stored, "as_of": None}


def ask(connection: Connection, deployment_id: UUID) -> Answer:
    """Ask for what `look` reads."""
    return _LOOK.ask(connection, deployment_id=deployment_id)


def look(
    connection: Connection, deployment_id: UUID, *, now: datetime, asked: Answer | None = None
) -> tuple[UpstreamReport, ...]:
    """Return what the gate sees now of the deployment's direct upstreams, ordered by role.

    `asked` is what `ask` has returned, if that was done before.
    """
    rows = (asked or ask(connection, deployment_id)).rows()
    unready = [row.id for row in rows if row.retired_at is None and row.freshness not in READY]
    sentences = sentences_of(connection, unready) if unready else {}
    reports = []
    for row in rows:
        freshness, reason = Freshness(row.freshness), sentences.get(row.id, "")
        if row.retired_at is not None:
            freshness, reason = Freshness.STALE, f"{row.key} was retired"
        warns_at = warning_moment(row.policy, row.lapses_at)
        reports.append(
            UpstreamReport(
                row.role,
                row.id,
                row.key,
                freshness,
                reason,
                row.version_id,
                row.number,
                row.digest,
                row.data_end,
                warning=_warning(row, freshness, warns_at, now=now),
                policy=row.policy,
                warns_at=warns_at,
                lapses_at=row.lapses_at,
            )
        )
    return tuple(reports)


def warning_moment(policy: Mapping[str, Any] | None, lapses_at: datetime | None) -> datetime | None:
    """Return when a version that lapses then is overdue by the policy's `warn`; None without one.

    The stored lapse tells: no calendar is asked at the gate.
    """
    if policy is None or lapses_at is None or policy.get("warn") is None:
        return None
    return stored_policy(policy).warns_at(lapses_at=lapses_at)


def decide(
    upstreams: Sequence[UpstreamReport],
    *,
    freshness: Freshness | None,
    on_stale: OnStale,
    if_ready: IfReady,
    actor: str,
    can_wait: bool = True,
    now: datetime,
) -> Decision:
    """Return the verdict on a deployment of this freshness with these upstreams.

    The freshness matters for `if_ready: skip` only. What cannot wait is refused where it would have to. `actor` is who
    says `on_stale`.
    """
    not_ready = [upstream for upstream in upstreams if not upstream.is_ready]
    reasons = "; ".join(upstream.reason for upstream in not_ready)
    forced_by = None
    if not not_ready:
        if if_ready == IfReady.SKIP and freshness in READY:
            verdict, reason = Verdict.SKIP, f"the deployment is {freshness} already"
        else:
            verdict, reason = (
                Verdict.RUN,
                _and_warnings("every upstream is ready" if upstreams else "it has no upstreams", upstreams),
            )
    elif on_stale == OnStale.FORCE:
        forced_by = actor
        verdict, reason = Verdict.RUN, _and_warnings(f"forced by {actor} although {reasons}", upstreams)
    elif on_stale in (OnStale.REFRESH, OnStale.WAIT) and not can_wait:
        verdict, reason = Verdict.REFUSE, f"{reasons}; {_CANNOT_WAIT}"
    elif on_stale == OnStale.REFRESH:
        verdict, reason = Verdict.REFRESH, f"first to be refreshed: {reasons}"
    elif on_stale == OnStale.WAIT:
        verdict, reason = Verdict.WAIT, f"waiting: {reasons}"
    else:
        verdict, reason = Verdict.REFUSE, reasons
    return Decision(verdict, reason, on_stale, tuple(upstreams), now, forced_by)


def go_on(upstreams: Sequence[UpstreamReport], *, attempt: int, forced_by: str | None, now: datetime) -> Decision:
    """Return the decision on a further attempt of a run that was let start before: it reads what is current now.

    `forced_by` is who let it start then, if somebody had to.
    """
    reasons = "; ".join(upstream.reason for upstream in upstreams if not upstream.is_ready)
    reason = f"attempt {attempt} of a run that had started" + (f", although {reasons}" if reasons else "")
    return Decision(
        Verdict.RUN, _and_warnings(reason, upstreams), OnStale.FORCE, tuple(upstreams), now, forced_by=forced_by
    )


def _and_warnings(reason: str, upstreams: Sequence[UpstreamReport]) -> str:
    warnings = "; ".join(upstream.warning for upstream in upstreams if upstream.warning)
    return f"{reason}, with a warning: {warnings}" if warnings else reason


def _warning(row: Any, freshness: Freshness, warns_at: datetime | None, *, now: datetime) -> str:
    """Return what is to be said of an upstream that may be read, but only just."""
    found = []
    if freshness == Freshness.SOURCE_DELAYED:
        found.append(f"{row.key} is source_delayed: its source ran and had nothing new")
    if freshness in READY and warns_at is not None and warns_at <= now:
        found.append(f"{row.key} has been overdue since {_shown(warns_at)}, and lapses at {_shown(row.lapses_at)}")
    return "; ".join(found)


def _shown(moment: datetime) -> str:
    return f"{moment:%Y-%m-%d %H:%M} UTC"
