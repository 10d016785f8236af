"""Why is this stale? The stored causes, followed to the run that started it."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from .models import Cause, CauseKind, Deployment, DeploymentState, Freshness, Version

_CAUSE = Cause.__table__  # type: ignore[attr-defined]
_DEPLOYMENT = Deployment.__table__  # type: ignore[attr-defined]
_STATE = DeploymentState.__table__  # type: ignore[attr-defined]
_VERSION = Version.__table__  # type: ignore[attr-defined]


@dataclass(frozen=True)
class Reason:
    """One stored cause, with what lies behind it."""

    kind: CauseKind
    role: str
    upstream: str | None
    """Key of the upstream that it is about."""
    origin_run_id: UUID | None
    """The run that brought it."""
    origin_number: int | None
    """Number of the version that brought it."""
    since: datetime
    because: tuple["Reason", ...] = ()
    """For `upstream_stale`: why the upstream is stale."""

    def sentence(self) -> str:
        """Say it in one sentence."""
        version = f"v{self.origin_number}" if self.origin_number is not None else "a version"
        match self.kind:
            case CauseKind.INPUT_CHANGED:
                return f"{self.upstream} has published {version} with other content since it was read"
            case CauseKind.UPSTREAM_STALE:
                return f"{self.upstream} is stale itself"
            case CauseKind.DECLARATION_CHANGED:
                return "its declaration or code is not the one that built the current version"
            case CauseKind.EXPIRED:
                return "its freshness policy has lapsed"
            case CauseKind.MISSING_INPUT:
                return f"{self.upstream} was retired"
            case CauseKind.WITHDRAWN:
                return f"{version} of {self.upstream}, which it read, was withdrawn"


@dataclass(frozen=True)
class Explanation:
    """The freshness of a deployment and every reason for it."""

    key: str
    freshness: Freshness
    reasons: tuple[Reason, ...]

    def sentence(self) -> str:
        """Say it in one sentence, the deepest reason last."""
        if self.freshness == Freshness.NOT_INITIALIZED:
            return f"{self.key} has no version yet"
        if not self.reasons:
            return f"{self.key} is {self.freshness}"
        chain = [self.reasons[0]]
        while chain[-1].because:
            chain.append(chain[-1].because[0])
        return f"{self.key} is stale: " + ", because ".join(reason.sentence() for reason in chain)

    def lines(self) -> Iterator[tuple[int, Reason]]:
        """Yield (depth, reason) for a tree view, depth 0 first."""
        yield from _walk(self.reasons, 0)


def explain(connection: Connection, deployment_id: UUID) -> Explanation:
    """Return why a deployment is as fresh as it is, down to the runs that started it."""
    row = connection.execute(
        sa.select(_DEPLOYMENT.c.key, _STATE.c.freshness)
        .join(_STATE, _STATE.c.deployment_id == _DEPLOYMENT.c.id)
        .where(_DEPLOYMENT.c.id == deployment_id, _STATE.c.partition == "")
    ).one()
    return Explanation(row.key, Freshness(row.freshness), _reasons(connection, deployment_id, seen={}))


def _reasons(
    connection: Connection, deployment_id: UUID, *, seen: dict[UUID, tuple[Reason, ...]]
) -> tuple[Reason, ...]:
    if deployment_id in seen:
        return seen[deployment_id]
    upstream = _DEPLOYMENT.alias("upstream")
    rows: list[Any] = list(
        connection.execute(
            sa.select(_CAUSE, upstream.c.key, _VERSION.c.number)
            .outerjoin(upstream, upstream.c.id == _CAUSE.c.upstream_id)
            .outerjoin(_VERSION, _VERSION.c.id == _CAUSE.c.origin_version_id)
            .where(_CAUSE.c.deployment_id == deployment_id)
            .order_by(_CAUSE.c.kind, _CAUSE.c.role)
        )
    )
    reasons = tuple(
        Reason(
            kind=CauseKind(row.kind),
            role=row.role,
            upstream=row.key,
            origin_run_id=row.origin_run_id,
            origin_number=row.number,
            since=row.since,
            because=_reasons(connection, row.upstream_id, seen=seen) if row.kind == CauseKind.UPSTREAM_STALE else (),
        )
        for row in rows
    )
    seen[deployment_id] = reasons
    return reasons


def _walk(reasons: tuple[Reason, ...], depth: int) -> Iterator[tuple[int, Reason]]:
    for reason in reasons:
        yield depth, reason
        yield from _walk(reason.because, depth + 1)
