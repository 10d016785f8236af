"""Staleness, propagated in the caller's transaction: the rule is applied where a change may have reached.

The deployments whose own facts have changed and their direct readers are judged by the whole rule. From there on
nothing spreads but staleness, wave by wave, and it ends where nobody becomes stale or ready. The differences are
written: a cause is removed in the transaction that removes its reason; a deployment with no cause left is ready without
running.

Lock first, read afterwards: the states of the affected deployments are locked in id order, so that two completions
that reach the same deployments follow one another instead of deadlocking or overwriting each other's view.
"""

import random
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, NamedTuple
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from ..storage import faults
from ..storage.faults import Guard
from ..storage.statement import Statement
from . import graph, propagation
from .models import CauseKind, DeploymentState, Freshness
from .rule import DeploymentFacts, FoundCause, InputFacts, UpstreamFacts, causes_of, freshness_of, inherited_cause

_STATE = DeploymentState.__table__  # type: ignore[attr-defined]

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


class Change(NamedTuple):
    """A deployment whose freshness changed."""

    deployment_id: UUID
    key: str
    before: Freshness
    after: Freshness


@dataclass
class Affected:
    """What a transaction may change: deployments and all downstream of them, locked."""

    start: frozenset[UUID]
    """Those whose own facts change."""
    locked: set[UUID] | None
    """Theirs and those downstream; None where the transaction holds the only lock there is."""

    def lacks(self, deployment_ids: Iterable[UUID]) -> set[UUID]:
        """Return those of these that are not locked."""
        return set() if self.locked is None else {one for one in deployment_ids if one not in self.locked}


def lock_affected(
    connection: Connection, deployment_ids: Iterable[UUID], *, upstreams: Iterable[UUID] = ()
) -> Affected:
    """Lock the states of these deployments and of all downstream of them, in id order.

    `upstreams` are locked too: those to which this transaction adds an edge, so that their own completion sees it.
    On SQLite the write transaction holds the only lock there is.
    """
    start = frozenset(deployment_ids)
    if connection.dialect.name == "sqlite":
        return Affected(start, None)
    if faults.is_on(Guard.LOCK_ORDER):
        return Affected(start, set(propagation.lock_reached(connection, start, also=upstreams)))
    reached = {*start, *upstreams, *graph.downstream_of(connection, start)}
    lock_states(connection, reached)
    return Affected(start, reached)


def lock_states(connection: Connection, deployment_ids: Iterable[UUID]) -> None:
    """Lock the states of these deployments, in id order, before anything that is asked after it.

    SQLite has one lock only, which this transaction holds.
    """
    if connection.dialect.name == "sqlite":
        return
    if faults.is_on(Guard.LOCK_ORDER):
        _LOCK_STATES.post(connection, ids=sorted(deployment_ids))
        return
    disordered = list(deployment_ids)
    random.shuffle(disordered)
    for one in disordered:
        _LOCK_STATE.rows(connection, of_deployment=one)


def propagate(connection: Connection, deployment_ids: Iterable[UUID], *, now: datetime) -> list[Change]:
    """Recompute the causes of these deployments and of all downstream of them; return what changed.

    Runs in the caller's transaction, after the caller's writes.
    """
    return recompute(connection, lock_affected(connection, deployment_ids), now=now)


def recompute(connection: Connection, affected: Affected, *, now: datetime) -> list[Change]:
    """Recompute the causes of what `lock_affected` was asked for, and of all that follows; return what changed.

    The deployments themselves and their direct readers are judged by the whole rule. From there on nothing spreads but
    staleness: a deployment none of whose upstreams became stale or ready is not looked at.
    """
    if not affected.start:
        return []
    with propagation.uncollected() as expect:
        return _recompute(connection, affected, now=now, expect=expect)


def _recompute(
    connection: Connection, affected: Affected, *, now: datetime, expect: Callable[[int], None]
) -> list[Change]:
    expect(len(affected.start))
    judged = _judge_around(connection, affected, now=now)
    changed = [one for one in judged.values() if one.is_stale != one.has_spread]
    while changed:
        expect(len(changed))
        changed = _spread(connection, affected, judged, changed)
    return _write(connection, judged.values(), now=now)


_Key = tuple[str, str]
"""The kind of a cause and its role."""


@dataclass(slots=True)
class _Judged:
    """A deployment under judgement: how it stands, what is stored, and what was found."""

    id: UUID
    key: str
    before: Freshness
    version_id: UUID | None
    run_id: UUID | None
    is_retired: bool
    source_delayed: bool
    stored: dict[_Key, FoundCause]
    causes: dict[_Key, FoundCause]
    has_spread: bool
    """Whether it was stale when its readers were last told."""

    @property
    def is_stale(self) -> bool:
        return bool(self.causes)

    def inherit(self, role: str, cause: FoundCause | None) -> None:
        """Have this cause in a role, or none of its kind."""
        if self.causes is self.stored:
            self.causes = dict(self.stored)
        if cause is None:
            self.causes.pop((CauseKind.UPSTREAM_STALE, role), None)
        else:
            self.causes[cause.kind, role] = cause

    def as_upstream(self) -> UpstreamFacts:
        return UpstreamFacts(None, self.version_id, self.run_id, is_stale=self.is_stale, is_retired=self.is_retired)


def _judge_around(connection: Connection, affected: Affected, *, now: datetime) -> dict[UUID, _Judged]:
    """Apply the whole rule to the deployments whose facts have changed, and to their direct readers."""
    while True:
        about: dict[UUID, list[Any]] = {}
        for row in propagation.facts_around(connection, affected.start):
            about.setdefault(row.id, []).append(row)
        if not (missing := affected.lacks(about)):
            break
        _lock_more(connection, affected, missing)
    facts: dict[UUID, DeploymentFacts] = {}
    upstreams: dict[UUID, UpstreamFacts] = {}
    judged: dict[UUID, _Judged] = {}
    for node, stored in about.items():
        judged[node], facts[node] = _facts_of(stored, upstreams, now=now)
    for batch in graph.batches({node: set(one.upstreams.values()) for node, one in facts.items()}):
        for node in batch:
            one = judged[node]
            one.causes = {(cause.kind, cause.role): cause for cause in causes_of(facts[node], upstreams)}
            if node in upstreams:  # what comes next in the order sees this result
                upstreams[node] = upstreams[node]._replace(is_stale=one.is_stale)
            # Whoever reads one whose facts have changed is among the judged, and comes later.
            if node in affected.start:
                one.has_spread = one.is_stale
    return judged


def _facts_of(
    rows: Iterable[Any], upstreams: dict[UUID, UpstreamFacts], *, now: datetime
) -> tuple[_Judged, DeploymentFacts]:
    """Sort what is stored about one deployment; what it says of the upstreams goes to `upstreams`."""
    roles: dict[str, UUID] = {}
    inputs: dict[str, InputFacts] = {}
    causes: dict[_Key, FoundCause] = {}
    own: Any = None
    is_turned = False
    for row in rows:
        what, role = row.what, row.role
        if what == "upstream":
            own = row
            if role is not None:
                upstream_id = roles[role] = row.upstream_id
                if upstream_id not in upstreams:
                    upstreams[upstream_id] = UpstreamFacts(
                        row.about_digest,
                        row.about_version_id,
                        row.about_run_id,
                        is_stale=row.kind == Freshness.STALE,
                        is_retired=row.is_void,
                    )
        elif what == "read":
            withdrawn = row.about_version_id if row.is_void else None
            inputs[role] = InputFacts(row.about_digest, row.upstream_id, withdrawn)
        else:
            kind = row.kind
            # Somebody whose transaction began later has seen the lapse: time does not go back.
            is_turned = is_turned or (kind == CauseKind.EXPIRED and bool(row.is_void))
            causes[kind, role] = FoundCause(kind, role, row.upstream_id, row.about_run_id, row.about_version_id)
    assert own is not None, "every registered deployment has a state"
    version_id, lapses_at, source_delayed = own.version_id, own.lapses_at, own.source_delayed
    before = Freshness(own.freshness)
    facts = DeploymentFacts(
        version_id=version_id,
        declaration_changed=version_id is not None and own.built_with != own.declaration_digest,
        lapsed=lapses_at is not None and (is_turned or lapses_at <= now),
        source_delayed=source_delayed,
        upstreams=roles,
        inputs=inputs,
    )
    one = _Judged(
        own.id,
        own.key,
        before,
        version_id,
        own.run_id,
        own.is_retired,
        source_delayed,
        stored=causes,
        causes=causes,
        has_spread=before == Freshness.STALE,
    )
    return one, facts


def _spread(
    connection: Connection, affected: Affected, judged: dict[UUID, _Judged], changed: Collection[_Judged]
) -> list[_Judged]:
    """Tell the readers of what became stale or ready; return those of them that did so themselves.

    Wave by wave the causes come to the same result in whatever order: in a graph without cycles there is only one.
    """
    ids = [one.id for one in changed]
    while True:
        edges = [(edge.deployment_id, edge) for edge in propagation.readers_of(connection, ids)]
        new = dict.fromkeys(reader_id for reader_id, _ in edges if reader_id not in judged)
        if not (missing := affected.lacks(new)):
            break
        _lock_more(connection, affected, missing)
    _meet(connection, judged, list(new))
    upstreams = {one.id: one.as_upstream() for one in changed}
    for one in changed:
        one.has_spread = one.is_stale
    told: dict[UUID, _Judged] = {}
    for reader_id, edge in edges:
        reader = told[reader_id] = judged[reader_id]
        if reader.version_id is not None:
            role, upstream_id = edge.role, edge.upstream_id
            reader.inherit(role, inherited_cause(role, upstream_id, upstreams[upstream_id]))
    return [reader for reader in told.values() if reader.is_stale != reader.has_spread]


def _meet(connection: Connection, judged: dict[UUID, _Judged], new: Sequence[UUID]) -> None:
    """Take these readers among the judged, with the causes that are stored of them."""
    stale = []
    for row in propagation.standing_of(connection, new):
        node, before, none = row.deployment_id, Freshness(row.freshness), dict[_Key, FoundCause]()
        is_stale = before == Freshness.STALE
        judged[node] = _Judged(
            node,
            row.key,
            before,
            row.version_id,
            row.run_id,
            row.is_retired,
            row.source_delayed,
            stored=none,
            causes=none,
            has_spread=is_stale,
        )
        if is_stale:
            stale.append(node)
    for node, cause in propagation.causes_stored(connection, stale):
        judged[node].stored[cause.kind, cause.role] = cause


def _lock_more(connection: Connection, affected: Affected, missing: set[UUID]) -> None:
    """Lock what somebody has put downstream while this transaction waited for its locks: it has to be read again."""
    assert affected.locked is not None, "something is missing only where there are locks"
    affected.locked.update(propagation.lock_reached(connection, missing, also=()))


def _write(connection: Connection, judged: Iterable[_Judged], *, now: datetime) -> list[Change]:
    """Write the differences between what is stored and what was found; return whose freshness changed."""
    arisen: list[tuple[UUID, FoundCause]] = []
    gone: list[tuple[UUID, FoundCause]] = []
    moved: dict[Freshness, list[UUID]] = {}
    changes: list[Change] = []
    for one in judged:
        if not one.stored:
            arisen += [(one.id, cause) for cause in one.causes.values()]
        elif one.causes is not one.stored:
            arisen += [(one.id, cause) for cause in one.causes.values() if not _is_among(cause, one.stored)]
            gone += (
                (one.id, cause)
                for key, cause in one.stored.items()
                if not _is_among(cause, one.causes) and (key in one.causes or faults.is_on(Guard.CLEARING))
            )
        after = freshness_of(one, one.causes)
        if after != one.before:
            moved.setdefault(after, []).append(one.id)
            changes.append(Change(one.id, one.key, one.before, after))
    propagation.delete_causes(connection, gone)
    propagation.insert_causes(connection, arisen, since=now)
    for after, ids in moved.items():
        propagation.set_freshness(connection, after, ids)
    return changes


def _is_among(cause: FoundCause, causes: Mapping[_Key, FoundCause]) -> bool:
    other = causes.get((cause.kind, cause.role))
    return (
        other is not None
        and other.origin_version_id == cause.origin_version_id
        and other.upstream_id == cause.upstream_id
    )
