"""The rule of staleness, and its propagation in the caller's transaction.

The rule is a pure function of facts: digests decide, never timestamps. Propagation loads the facts of everything
that a change can reach, applies the rule from upstream to downstream and writes the differences. A cause is removed
in the transaction that removes its reason; a deployment with no cause left is ready without running.

Lock first, read afterwards: the states of the affected deployments are locked in id order, so that two completions
that reach the same deployments follow one another instead of deadlocking or overwriting each other's view.
"""

import random
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from ..storage import faults
from ..storage.faults import Guard
from ..storage.statement import Statement, insert_all
from . import graph
from .models import Cause, CauseKind, Deployment, DeploymentState, Edge, Freshness, Version, VersionInput

_STATE = DeploymentState.__table__  # type: ignore[attr-defined]
_DEPLOYMENT = Deployment.__table__  # type: ignore[attr-defined]
_VERSION = Version.__table__  # type: ignore[attr-defined]
_INPUT = VersionInput.__table__  # type: ignore[attr-defined]
_CAUSE = Cause.__table__  # type: ignore[attr-defined]
_EDGE = Edge.__table__  # type: ignore[attr-defined]


_IS_THIS = sa.and_(_STATE.c.deployment_id == sa.bindparam("of_deployment"), _STATE.c.partition == "")
_LOCK_STATES = Statement(
    lambda sql: (
        sa.select(_STATE.c.deployment_id)
        .where(sql.among(_STATE.c.deployment_id, "ids"))
        .order_by(_STATE.c.deployment_id)
        .with_for_update(key_share=True)
    )
)
_LOCK_STATE = Statement(
    lambda _: (
        sa.select(_STATE.c.deployment_id)
        .where(_STATE.c.deployment_id == sa.bindparam("of_deployment"))
        .with_for_update(key_share=True)
    )
)
_LAPSED = Statement(
    lambda sql: sa.select(_STATE.c.deployment_id).where(
        sql.among(_STATE.c.deployment_id, "ids"),
        _STATE.c.lapses_at <= sa.bindparam("now"),
        _STATE.c.freshness != sa.literal_column(f"'{Freshness.STALE}'"),
    )
)
_FACTS = Statement(
    lambda sql: (
        sa.select(
            _STATE.c.deployment_id,
            _STATE.c.version_id,
            _STATE.c.freshness,
            _STATE.c.source_delayed,
            _STATE.c.lapses_at,
            _DEPLOYMENT.c.key,
            _DEPLOYMENT.c.declaration_digest,
            _DEPLOYMENT.c.retired_at,
            _VERSION.c.digest,
            _VERSION.c.run_id,
            _VERSION.c.declaration_digest.label("built_with"),
        )
        .join(_DEPLOYMENT, _DEPLOYMENT.c.id == _STATE.c.deployment_id)
        .outerjoin(_VERSION, _VERSION.c.id == _STATE.c.version_id)
        .where(
            sa.or_(
                sql.among(_STATE.c.deployment_id, "ids"),
                _STATE.c.deployment_id.in_(
                    sa.select(_EDGE.c.upstream_id).where(sql.among(_EDGE.c.deployment_id, "ids"))
                ),
            ),
            _STATE.c.partition == "",
        )
    )
)
_READS = Statement(
    lambda sql: (
        sa.select(_INPUT.c.version_id, _INPUT.c.role, _VERSION.c.id, _VERSION.c.digest, _VERSION.c.withdrawn_at)
        .join(_VERSION, _VERSION.c.id == _INPUT.c.input_version_id)
        .where(sql.among(_INPUT.c.version_id, "ids"))
    )
)
_CAUSES = Statement(lambda sql: sa.select(_CAUSE).where(sql.among(_CAUSE.c.deployment_id, "ids")))
_SET_FRESHNESS = Statement(lambda _: sa.update(_STATE).where(_IS_THIS).values(freshness=sa.bindparam("new_freshness")))
_INSERT_CAUSE = insert_all(_CAUSE)
_DELETE_CAUSE = Statement(
    lambda _: sa.delete(_CAUSE).where(
        _CAUSE.c.deployment_id == sa.bindparam("of_deployment"),
        _CAUSE.c.kind == sa.bindparam("of_kind"),
        _CAUSE.c.role == sa.bindparam("of_role"),
    )
)


@dataclass(frozen=True)
class InputFacts:
    """What the current version read in one role."""

    digest: str
    """Digest of the version that was read."""
    withdrawn_version_id: UUID | None = None
    """That version, when it was withdrawn."""


@dataclass(frozen=True)
class UpstreamFacts:
    """What the rule needs to know of an upstream."""

    digest: str | None
    """Digest of its current version; none before the first."""
    version_id: UUID | None
    """Its current version."""
    run_id: UUID | None
    """The run that published it."""
    is_stale: bool
    is_retired: bool


@dataclass(frozen=True)
class DeploymentFacts:
    """What the rule needs to know of the deployment itself."""

    version_id: UUID | None
    """Its current version; without one it is not initialized and never stale."""
    declaration_changed: bool
    """Its declaration is not the one that the current version was built with."""
    lapsed: bool
    """Its policy has lapsed."""
    source_delayed: bool
    upstreams: Mapping[str, UUID]
    """Role -> upstream, by the edges as they are now."""
    inputs: Mapping[str, InputFacts]
    """Role -> what the current version read."""


@dataclass(frozen=True)
class FoundCause:
    """One reason that the rule found."""

    kind: CauseKind
    role: str = ""
    upstream_id: UUID | None = None
    origin_run_id: UUID | None = None
    origin_version_id: UUID | None = None


def causes_of(facts: DeploymentFacts, upstreams: Mapping[UUID, UpstreamFacts]) -> list[FoundCause]:
    """Apply the rule: return every reason why this deployment is stale."""
    if facts.version_id is None:
        return []
    found: list[FoundCause] = []
    if facts.declaration_changed:
        found.append(FoundCause(CauseKind.DECLARATION_CHANGED))
    if facts.lapsed:
        found.append(FoundCause(CauseKind.EXPIRED))
    for role, upstream_id in facts.upstreams.items():
        upstream = upstreams[upstream_id]
        about = FoundCause(
            CauseKind.INPUT_CHANGED,
            role=role,
            upstream_id=upstream_id,
            origin_run_id=upstream.run_id,
            origin_version_id=upstream.version_id,
        )
        read = facts.inputs.get(role)
        if read is not None and read.withdrawn_version_id is not None:
            found.append(
                replace(
                    about,
                    kind=CauseKind.WITHDRAWN,
                    origin_run_id=None,
                    origin_version_id=read.withdrawn_version_id,
                )
            )
        if upstream.is_retired:
            found.append(replace(about, kind=CauseKind.MISSING_INPUT, origin_run_id=None, origin_version_id=None))
            continue
        if read is not None and upstream.digest is not None and read.digest != upstream.digest:
            found.append(about)
        if upstream.is_stale:
            found.append(replace(about, kind=CauseKind.UPSTREAM_STALE))
    return found


def freshness_of(facts: DeploymentFacts, causes: Sequence[FoundCause]) -> Freshness:
    """Return the freshness that follows from the causes."""
    if facts.version_id is None:
        return Freshness.NOT_INITIALIZED
    if causes:
        return Freshness.STALE
    return Freshness.SOURCE_DELAYED if facts.source_delayed else Freshness.READY


@dataclass(frozen=True)
class Change:
    """A deployment whose freshness changed."""

    deployment_id: UUID
    key: str
    before: Freshness
    after: Freshness


def lock_affected(
    connection: Connection, deployment_ids: Iterable[UUID], *, upstreams: Iterable[UUID] = ()
) -> list[UUID]:
    """Lock the states of these deployments and of all downstream of them, in id order; return their ids.

    `upstreams` are locked too: those to which this transaction adds an edge, so that their own completion sees it.
    On SQLite the write transaction holds the only lock there is.
    """
    start, also = set(deployment_ids), set(upstreams)
    affected = start | graph.downstream_of(connection, start)
    while connection.dialect.name != "sqlite":
        lock_states(connection, affected | also)
        # Somebody may have added an edge while we waited for the locks.
        reached = start | graph.downstream_of(connection, start)
        if reached <= affected:
            break
        affected |= reached
    return sorted(affected)


def lock_states(connection: Connection, deployment_ids: Iterable[UUID]) -> None:
    """Lock the states of these deployments, in id order. SQLite has one lock only, which this transaction holds."""
    if connection.dialect.name == "sqlite":
        return
    if faults.is_on(Guard.LOCK_ORDER):
        _LOCK_STATES.rows(connection, ids=sorted(deployment_ids))
        return
    disordered = list(deployment_ids)
    random.shuffle(disordered)
    for one in disordered:
        _LOCK_STATE.rows(connection, of_deployment=one)


def lapse_due(connection: Connection, deployment_ids: Iterable[UUID], *, now: datetime) -> list[Change]:
    """Turn the policies of these deployments that have lapsed by now into causes; return what changed."""
    lapsed = [row.deployment_id for row in _LAPSED.rows(connection, ids=list(deployment_ids), now=now)]
    return propagate(connection, lapsed, now=now) if lapsed else []


def propagate(connection: Connection, deployment_ids: Iterable[UUID], *, now: datetime) -> list[Change]:
    """Recompute the causes of these deployments and of all downstream of them; return what changed.

    Runs in the caller's transaction, after the caller's writes.
    """
    return recompute(connection, lock_affected(connection, deployment_ids), now=now)


def recompute(connection: Connection, affected: Sequence[UUID], *, now: datetime) -> list[Change]:
    """Recompute the causes of what `lock_affected` has locked; return what changed."""
    facts, upstreams = _load(connection, affected, now=now)
    stored = _by_deployment(_CAUSES.rows(connection, ids=affected))
    changes: list[Change] = []
    for batch in graph.batches({node: set(facts[node].upstreams.values()) for node in affected if node in facts}):
        for node in batch:
            found = causes_of(facts[node], upstreams)
            after = freshness_of(facts[node], found)
            _write_causes(connection, node, found, stored.get(node, {}), now=now)
            before = facts[node].freshness
            if after != before:
                _SET_FRESHNESS.run(connection, of_deployment=node, new_freshness=after)
                changes.append(Change(node, facts[node].key, before, after))
            # What comes next in the order sees this result.
            upstreams[node] = replace(upstreams[node], is_stale=after == Freshness.STALE)
    return changes


@dataclass(frozen=True)
class _Loaded(DeploymentFacts):
    key: str = ""
    freshness: Freshness = Freshness.NOT_INITIALIZED


def _load(
    connection: Connection, affected: Sequence[UUID], *, now: datetime
) -> tuple[dict[UUID, _Loaded], dict[UUID, UpstreamFacts]]:
    roles: dict[UUID, dict[str, UUID]] = {node: {} for node in affected}
    for edge in graph.edges_into(connection, affected):
        roles[edge.deployment_id][edge.role] = edge.upstream_id
    rows = _FACTS.rows(connection, ids=affected)
    # What a version read matters for the roles that its deployment has now.
    reads = _inputs_of(connection, [row.version_id for row in rows if roles.get(row.deployment_id) and row.version_id])
    upstreams = {
        row.deployment_id: UpstreamFacts(
            digest=row.digest,
            version_id=row.version_id,
            run_id=row.run_id,
            is_stale=row.freshness == Freshness.STALE,
            is_retired=row.retired_at is not None,
        )
        for row in rows
    }
    facts = {
        row.deployment_id: _Loaded(
            version_id=row.version_id,
            declaration_changed=row.version_id is not None and row.built_with != row.declaration_digest,
            lapsed=row.lapses_at is not None and row.lapses_at <= now,
            source_delayed=row.source_delayed,
            upstreams=roles[row.deployment_id],
            inputs=reads.get(row.version_id, {}),
            key=row.key,
            freshness=Freshness(row.freshness),
        )
        for row in rows
        if row.deployment_id in roles
    }
    return facts, upstreams


def _inputs_of(connection: Connection, version_ids: Sequence[UUID]) -> dict[UUID, dict[str, InputFacts]]:
    reads: dict[UUID, dict[str, InputFacts]] = {}
    for row in _READS.rows(connection, ids=version_ids) if version_ids else ():
        withdrawn = row.id if row.withdrawn_at is not None else None
        reads.setdefault(row.version_id, {})[row.role] = InputFacts(row.digest, withdrawn)
    return reads


def _by_deployment(rows: Iterable[Any]) -> dict[UUID, dict[tuple[str, str], Any]]:
    stored: dict[UUID, dict[tuple[str, str], Any]] = {}
    for row in rows:
        stored.setdefault(row.deployment_id, {})[row.kind, row.role] = row
    return stored


def _write_causes(
    connection: Connection,
    node: UUID,
    found: Sequence[FoundCause],
    stored: Mapping[tuple[str, str], Any],
    *,
    now: datetime,
) -> None:
    wanted = {(cause.kind.value, cause.role): cause for cause in found}
    for key, row in stored.items():
        cause = wanted.get(key)
        if cause is None or cause.origin_version_id != row.origin_version_id or cause.upstream_id != row.upstream_id:
            kind, role = key
            _DELETE_CAUSE.run(connection, of_deployment=node, of_kind=kind, of_role=role)
        else:
            del wanted[key]
    _INSERT_CAUSE.run_many(
        connection,
        [
            {
                "deployment_id": node,
                "partition": "",
                "kind": cause.kind,
                "role": cause.role,
                "upstream_id": cause.upstream_id,
                "origin_run_id": cause.origin_run_id,
                "origin_version_id": cause.origin_version_id,
                "since": now,
            }
            for cause in wanted.values()
        ],
    )
