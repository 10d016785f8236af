"""What the store says: the judgement that it keeps of every deployment, and the records that it is to follow from."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any
from uuid import UUID

import sqlalchemy as sa

from freshline.lineage.models import Edge, VersionInput
from freshline.storage.database import Database
from freshline.storage.statement import Statement
from tests.faults.tables import CAUSE, DEPLOYMENT, STATE, VERSION
from tests.oracle.oracle import Cause, Deployment, Judgement, Policy, Record, Version

EDGE, INPUT = (one.__table__ for one in (Edge, VersionInput))

_STATES = Statement(
    lambda _: sa.select(
        STATE.c.deployment_id, DEPLOYMENT.c.key, STATE.c.freshness, STATE.c.version_id, STATE.c.lapses_at
    ).join(DEPLOYMENT, DEPLOYMENT.c.id == STATE.c.deployment_id)
)
_CAUSES = Statement(lambda _: sa.select(CAUSE))

Since = Mapping[tuple[str, Cause], datetime]
"""When each cause of each deployment arose."""


def judgements(database: Database) -> tuple[dict[str, Judgement], Since]:
    """Return what is stored of every deployment, and since when."""
    with database.read() as connection:
        states, causes = _STATES.rows(connection), _CAUSES.rows(connection)
    key_of = {state.deployment_id: state.key for state in states}
    since = {
        (
            key_of[row.deployment_id],
            Cause(row.kind, row.role, key_of.get(row.upstream_id), row.origin_run_id, row.origin_version_id),
        ): row.since
        for row in causes
    }
    found: dict[str, set[Cause]] = {key: set() for key in key_of.values()}
    for key, cause in since:
        found[key].add(cause)
    stored = {
        state.key: Judgement(state.freshness, frozenset(found[state.key]), state.version_id, state.lapses_at)
        for state in states
    }
    return stored, since


def record_of(database: Database, policies: Mapping[str, Policy | None] | None = None) -> Record:
    """Return what happened in a store, from its lasting records alone: no pointer, no freshness, no cause.

    A policy is read by whoever declared it: it comes from there.
    """
    written = policies or {}
    record = Record()
    with database.read() as connection:
        with_fence = sa.select(DEPLOYMENT, STATE.c.next_fence).join(STATE, STATE.c.deployment_id == DEPLOYMENT.c.id)
        deployments = connection.execute(with_fence).all()
        edges = connection.execute(sa.select(EDGE)).all()
        versions = connection.execute(sa.select(VERSION).order_by(VERSION.c.deployment_id, VERSION.c.number)).all()
        inputs = connection.execute(sa.select(INPUT)).all()
    key_of = {row.id: row.key for row in deployments}
    for row in deployments:
        policy = written.get(row.key)
        assert (row.policy is None) == (policy is None), f"{row.key} has the policy {row.policy}, and not {policy}"
        record.deployments[row.key] = Deployment(
            row.key,
            declaration=row.declaration_digest,
            policy=policy,
            is_retired=row.retired_at is not None,
            claims=row.next_fence,
        )
    for edge in edges:
        deployment = record.deployments[key_of[edge.deployment_id]]
        (deployment.observed if edge.observed else deployment.declared)[edge.role] = key_of[edge.upstream_id]
    reads: dict[UUID, dict[str, Any]] = {row.id: {} for row in versions}
    for read in inputs:
        reads[read.version_id][read.role] = read.input_version_id
    for row in versions:
        record.versions[row.id] = Version(
            id=row.id,
            deployment=key_of[row.deployment_id],
            run=row.run_id,
            fence=row.fence,
            digest=row.digest,
            built_with=row.declaration_digest,
            reads=reads[row.id],
            made_at=row.created_at,
            data_date=row.data_end,
            is_delayed=bool(row.source_delayed),
            continues=row.base_version_id,
            is_withdrawn=row.withdrawn_at is not None,
            is_aside=row.may_become_current is False,
        )
    return record


def differences(expected: Mapping[str, Judgement], stored: Mapping[str, Judgement]) -> list[str]:
    """Return where the store and the oracle differ, in words; the names of versions and runs are their ids."""
    found = []
    for key in sorted(expected.keys() | stored.keys()):
        wanted, kept = expected.get(key), stored.get(key)
        if wanted is None or kept is None:
            found.append(f"{key} is {'unknown to the oracle' if wanted is None else 'not stored'}")
            continue
        for what in ("freshness", "current", "lapses_at"):
            if getattr(wanted, what) != getattr(kept, what):
                found.append(f"{key}: {what} is {getattr(kept, what)} and must be {getattr(wanted, what)}")
        found += [f"{key}: {_told(cause)} is missing" for cause in sorted(wanted.causes - kept.causes, key=str)]
        found += [f"{key}: {_told(cause)} has no reason" for cause in sorted(kept.causes - wanted.causes, key=str)]
    return found


def misrecorded(database: Database, record: Record) -> list[str]:
    """Return where the lasting records are not those of what happened; a digest need only tell contents apart."""
    kept = record_of(database, {key: one.policy for key, one in record.deployments.items()})
    digests = {
        (kept.versions[one.id].digest, one.digest) for one in record.versions.values() if one.id in kept.versions
    }
    for version in kept.versions.values():
        version.digest = record.versions[version.id].digest
    found = [
        f"{key} is recorded as {kept.deployments.get(key)} and must be {one}"
        for key, one in record.deployments.items()
        if kept.deployments.get(key) != one
    ]
    found += [
        f"{one.id} is recorded as {kept.versions.get(one.id)} and must be {one}"
        for one in record.versions.values()
        if kept.versions.get(one.id) != one
    ]
    if not len(digests) == len({digest for digest, _ in digests}) == len({content for _, content in digests}):
        found.append(f"equal contents have other digests, or other contents equal ones: {sorted(digests)}")
    return found


def _told(cause: Cause) -> str:
    about = f" of {cause.upstream} as {cause.role}" if cause.upstream else ""
    origin = f", brought by the version {cause.origin_version} of {cause.origin_run}" if cause.origin_version else ""
    return f"{cause.kind}{about}{origin}"
