"""The gate: may this run start on its upstreams as they are?

`look` reads the facts, `decide` is a pure function of them. The gate reads freshness, not activity: a failed or
running refresh does not by itself make an upstream's current version untrue.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from enum import StrEnum
from typing import Any
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from ..lineage.explain import explain
from ..lineage.models import Deployment, DeploymentState, Edge, Freshness, Version
from ..lineage.versions import Input
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
            _STATE.c.freshness,
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
            "upstreams": [
                {
                    "role": upstream.role,
                    "deployment": upstream.key,
                    "freshness": upstream.freshness,
                    "reason": upstream.reason,
                    "version": upstream.number,
                    "digest": upstream.digest,
                    "data_end": upstream.data_end.isoformat() if upstream.data_end else None,
                }
                for upstream in self.upstreams
            ],
        }


def look(connection: Connection, deployment_id: UUID) -> tuple[UpstreamReport, ...]:
    """Return what the gate sees of the deployment's direct upstreams, ordered by role."""
    rows = _LOOK.rows(connection, deployment_id=deployment_id)
    reports = []
    for row in rows:
        freshness = Freshness(row.freshness)
        if row.retired_at is not None:
            freshness, reason = Freshness.STALE, f"{row.key} was retired"
        else:
            reason = "" if freshness in READY else explain(connection, row.id).sentence()
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
            )
        )
    return tuple(reports)


def decide(
    upstreams: Sequence[UpstreamReport],
    *,
    freshness: Freshness | None,
    on_stale: OnStale,
    if_ready: IfReady,
    actor: str,
    can_wait: bool = True,
) -> Decision:
    """Return the verdict on a deployment of this freshness with these upstreams.

    The freshness matters for `if_ready: skip` only. What cannot wait is refused where it would have to.
    """
    not_ready = [upstream for upstream in upstreams if not upstream.is_ready]
    reasons = "; ".join(upstream.reason for upstream in not_ready)
    if not not_ready:
        if if_ready == IfReady.SKIP and freshness in READY:
            verdict, reason = Verdict.SKIP, f"the deployment is {freshness} already"
        else:
            verdict, reason = Verdict.RUN, "every upstream is ready" if upstreams else "it has no upstreams"
    elif on_stale == OnStale.FORCE:
        verdict, reason = Verdict.RUN, f"forced by {actor} although {reasons}"
    elif on_stale in (OnStale.REFRESH, OnStale.WAIT) and not can_wait:
        verdict, reason = Verdict.REFUSE, f"{reasons}; {_CANNOT_WAIT}"
    elif on_stale == OnStale.REFRESH:
        verdict, reason = Verdict.REFRESH, f"first to be refreshed: {reasons}"
    elif on_stale == OnStale.WAIT:
        verdict, reason = Verdict.WAIT, f"waiting: {reasons}"
    else:
        verdict, reason = Verdict.REFUSE, reasons
    return Decision(verdict, reason, on_stale, tuple(upstreams))


def go_on(upstreams: Sequence[UpstreamReport], *, attempt: int) -> Decision:
    """Return the decision on a further attempt of a run that was let start before: it reads what is current now."""
    reasons = "; ".join(upstream.reason for upstream in upstreams if not upstream.is_ready)
    reason = f"attempt {attempt} of a run that had started" + (f", although {reasons}" if reasons else "")
    return Decision(Verdict.RUN, reason, OnStale.FORCE, tuple(upstreams))
