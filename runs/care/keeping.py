"""What the retention rules keep, and what not: the plan. Changes nothing.

A run's data stay while its rule keeps them (young enough, or among the newest), while its version is current or has an
alias or a label, while a run under way needs them, and while a run whose own data stay has read or replayed it. So
whatever is kept can still be explained and done again, down to the sources.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.engine import Connection, Row

from ...deployments.retention import RetentionRule, parse_retention
from ...lineage import references
from ...lineage import removal as versions_removed
from ...lineage.models import Deployment, Version
from ...storage import removal
from ...storage.ids import show_run_id
from ...storage.models import Artifact, ArtifactObject
from ...storage.parts import in_parts
from ..store import RUN
from . import ties

_DEPLOYMENT = Deployment.__table__  # type: ignore[attr-defined]
_VERSION = Version.__table__  # type: ignore[attr-defined]
_ARTIFACT = Artifact.__table__  # type: ignore[attr-defined]
_LINK = ArtifactObject.__table__  # type: ignore[attr-defined]


@dataclass(frozen=True)
class Holding:
    """What one run has stored, and what becomes of it."""

    run_id: UUID
    deployment: str
    version: int | None
    """Number of the version that it published; none: it published none, as a run that failed."""
    ended_at: datetime
    size_bytes: int
    """Bytes of its artifacts, those shared with others included."""
    rule: str
    """The rule of its deployment, in words."""
    reason: str | None
    """Why it is kept; none: it is not."""

    @property
    def name(self) -> str:
        """How people call it: its version, or else its run."""
        return f"{self.deployment}@v{self.version}" if self.version is not None else show_run_id(self.run_id)


@dataclass(frozen=True)
class RetentionPlan:
    """What the rules of a store keep now."""

    removed: tuple[Holding, ...]
    """What would go, by its end, the newest first: so whoever read a version goes before it."""
    kept: tuple[Holding, ...]
    """What stays of the deployments that have a rule, and why; the newest first."""
    without_rule: tuple[str, ...]
    """Keys of the deployments without a rule: they keep everything, and what they have read."""
    size_bytes: int
    """Bytes of what would go, each object counted once."""
    freed_bytes: int
    """Those of its bytes that nobody else needs."""


def plan(connection: Connection, *, tenant_id: str, deployment: str | None = None, now: datetime) -> RetentionPlan:
    """Return what the rules keep now, of all deployments or of one.

    Raises:
        NotFound: there is no such deployment.
    """
    wanted = None if deployment is None else references.deployment_of(connection, deployment, tenant_id=tenant_id)
    query = sa.select(_DEPLOYMENT.c.id, _DEPLOYMENT.c.key, _DEPLOYMENT.c.retention)
    query = query.where(_DEPLOYMENT.c.tenant_id == tenant_id).order_by(_DEPLOYMENT.c.key)
    if wanted is not None:
        query = query.where(_DEPLOYMENT.c.id == wanted)
    kept: dict[UUID, Holding] = {}
    going: dict[UUID, Holding] = {}
    versions: dict[UUID, Row[Any]] = {}
    without_rule = []
    for row in connection.execute(query).all():
        if row.retention is None:
            without_rule.append(row.key)
            continue
        rule = parse_retention(row.retention)
        for holding, version in _holdings(connection, row, rule, now=now):
            (going if holding.reason is None else kept)[holding.run_id] = holding
            if version is not None:
                versions[holding.run_id] = version
    for run_id, why in _named(connection, going, versions).items():
        kept[run_id] = replace(going.pop(run_id), reason=why)
    for run_id, why in _needed(connection, going, versions).items():
        kept[run_id] = replace(going.pop(run_id), reason=why)
    weight = removal.weigh(connection, going)
    return RetentionPlan(
        tuple(_newest_first(going.values())),
        tuple(_newest_first(kept.values())),
        tuple(without_rule),
        weight.size_bytes,
        weight.freed_bytes,
    )


def _holdings(
    connection: Connection, deployment: Row[Any], rule: RetentionRule, *, now: datetime
) -> Iterator[tuple[Holding, Row[Any] | None]]:
    """Yield what each run of a deployment has stored, the newest first, with its version; judged by the rule alone."""
    stored = (
        sa.select(_ARTIFACT.c.owner_id, sa.func.sum(_ARTIFACT.c.size_bytes).label("size_bytes"))
        .where(_ARTIFACT.c.removed_at.is_(None), sa.exists().where(_LINK.c.artifact_id == _ARTIFACT.c.id))
        .group_by(_ARTIFACT.c.owner_id)
        .subquery()
    )
    query = (
        sa.select(RUN.c.id.label("of_run"), RUN.c.ended_at, stored.c.size_bytes.label("stored_bytes"), _VERSION)
        .join(stored, stored.c.owner_id == RUN.c.id)
        .outerjoin(_VERSION, _VERSION.c.run_id == RUN.c.id)
        .where(RUN.c.deployment_id == deployment.id, RUN.c.ended_at.is_not(None), RUN.c.deleted_at.is_(None))
        .order_by(RUN.c.ended_at.desc(), RUN.c.id.desc())
    )
    counted = {True: 0, False: 0}
    for row in connection.execute(query):
        has_version = row.id is not None
        counted[has_version] += 1
        reason = _by_rule(rule, row.ended_at, counted[has_version], has_version=has_version, now=now)
        holding = Holding(
            run_id=row.of_run,
            deployment=deployment.key,
            version=row.number,
            ended_at=row.ended_at,
            size_bytes=int(row.stored_bytes),
            rule=rule.sentence(),
            reason=reason,
        )
        yield holding, row if has_version else None


def _by_rule(rule: RetentionRule, ended_at: datetime, place: int, *, has_version: bool, now: datetime) -> str | None:
    if rule.keep_days is not None and ended_at > now - timedelta(days=rule.keep_days):
        return f"it ended less than {rule.keep_days} days ago"
    if rule.keep_last is not None and place <= rule.keep_last:
        return f"it is one of the last {rule.keep_last} {'versions' if has_version else 'runs without a version'}"
    return None


def _named(connection: Connection, going: Mapping[UUID, Holding], versions: Mapping[UUID, Row[Any]]) -> dict[UUID, str]:
    """Return which of these the graph itself keeps, and why."""
    found: dict[UUID, str] = {}
    published = [(run_id, versions[run_id]) for run_id in going if run_id in versions]
    for part in in_parts(published):
        keeps = versions_removed.keeps(connection, [version for _, version in part])
        found |= {run_id: ties.shown(keeps[version.id]) for run_id, version in part if version.id in keeps}
    return found


def _needed(
    connection: Connection, going: Mapping[UUID, Holding], versions: Mapping[UUID, Row[Any]]
) -> dict[UUID, str]:
    """Return which of these somebody needs that stays, and who: what stays keeps what it read, and so on upwards."""
    tied = ties.ties_of(connection, {run_id: versions.get(run_id) for run_id in going}, for_retention=True)
    found: dict[UUID, str] = {}
    rests_on: dict[UUID, list[tuple[UUID, ties.Tie]]] = {}
    open_: list[tuple[UUID, ties.Tie]] = []
    for run_id, several in tied.items():
        for tie in several:
            if tie.run_id in going:
                rests_on.setdefault(tie.run_id, []).append((run_id, tie))
            elif tie.needs_it:
                open_.append((run_id, tie))
    while open_:
        run_id, tie = open_.pop()
        if run_id not in found:
            found[run_id] = tie.sentence
            open_ += rests_on.get(run_id, ())
    return found


def _newest_first(holdings: Iterable[Holding]) -> list[Holding]:
    return sorted(holdings, key=lambda one: (one.ended_at, one.run_id), reverse=True)
