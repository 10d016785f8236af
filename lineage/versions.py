"""Versions: publishing them, the current one, and what they were built from.

A version is inserted once and never changed, but for its withdrawal. The pointer to the current version only moves
forward: to a higher fence, never to a run that read older data.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.engine import Connection, Row

from ..storage import faults
from ..storage.faults import Guard
from ..storage.ids import new_id
from ..storage.schema_changes import schema_diffs
from ..storage.statement import Statement, insert_all
from ..storage.words import EdgeKind
from .freshness import stored_policy
from .graph import Start, refuse_cycle
from .models import Deployment, DeploymentState, Edge, Version, VersionInput

_VERSION = Version.__table__  # type: ignore[attr-defined]
_INPUT = VersionInput.__table__  # type: ignore[attr-defined]
_STATE = DeploymentState.__table__  # type: ignore[attr-defined]
_DEPLOYMENT = Deployment.__table__  # type: ignore[attr-defined]
_EDGE = Edge.__table__  # type: ignore[attr-defined]

_MOST_DIFF_BYTES = 200_000
"""The database takes 256 KiB of JSON; a version must not fail for what it is compared with."""

_IS_THIS = sa.and_(_STATE.c.deployment_id == sa.bindparam("of_deployment"), _STATE.c.partition == "")


def state_of(start: Start) -> Statement:
    """Return the query for what `publish` has to know of the deployment that a start names."""
    return Statement(
        lambda sql: (
            sa.select(
                _STATE.c.next_number, _STATE.c.fence, _STATE.c.version_id, _DEPLOYMENT.c.policy, _VERSION.c.table_schema
            )
            .join(_DEPLOYMENT, _DEPLOYMENT.c.id == _STATE.c.deployment_id)
            .outerjoin(_VERSION, _VERSION.c.id == _STATE.c.version_id)
            .where(start(sql, _STATE.c.deployment_id), _STATE.c.partition == "")
        )
    )


_STATE_OF = state_of(lambda _, column: column == sa.bindparam("of_deployment"))
_COUNT = Statement(lambda _: sa.update(_STATE).where(_IS_THIS).values(next_number=sa.bindparam("new_next_number")))
_POLICY = Statement(lambda _: sa.select(_DEPLOYMENT.c.policy).where(_DEPLOYMENT.c.id == sa.bindparam("deployment_id")))
_INSERT_VERSION = insert_all(
    _VERSION,
    without=("label", "withdrawn_at", "withdrawn_reason", "removed_at", "removal", "removed_reason"),
)
_INSERT_INPUT = insert_all(_INPUT)
_ROLES = Statement(lambda _: sa.select(_EDGE.c.role).where(_EDGE.c.deployment_id == sa.bindparam("deployment_id")))


def _move_statement(*, on_base: bool) -> Statement:
    still_current = [_STATE.c.version_id == sa.bindparam("base_version_id")] if on_base else []
    columns = ("next_number", "version_id", "fence", "source_delayed", "lapses_at")
    return Statement(
        lambda sql: sql.certain(
            sa.update(_STATE)
            .where(_IS_THIS, _STATE.c.fence < sa.bindparam("new_fence", type_=_STATE.c.fence.type), *still_current)
            .values({name: sa.bindparam(f"new_{name}", type_=_STATE.c[name].type) for name in columns})
        )
    )


_MOVE = _move_statement(on_base=False)
_MOVE_FROM_BASE = _move_statement(on_base=True)


@dataclass(frozen=True)
class Input:
    """A version that was read."""

    role: str
    upstream_id: UUID
    version_id: UUID


@dataclass(frozen=True)
class NewVersion:
    """What a completed run publishes."""

    deployment_id: UUID
    run_id: UUID
    fence: int
    digest: str
    declaration_digest: str
    inputs: Sequence[Input] = ()
    base_version_id: UUID | None = None
    appends: bool = False
    """It continues what was current when its run began; without a base, that was nothing."""
    rows: int | None = None
    size_bytes: int | None = None
    data_start: date | None = None
    data_end: date | None = None
    source_delayed: bool = False
    table_schema: Mapping[str, Any] | None = None
    """The columns of its published tables."""
    may_become_current: bool = True
    """False for what is done again, such as a replay: it is kept under its number."""


@dataclass(frozen=True)
class Published:
    """The version that was inserted."""

    version_id: UUID
    number: int
    digest: str
    is_current: bool
    """False when a newer run, or another one on the same base, has published before: superseded."""


def publish(connection: Connection, new: NewVersion, *, now: datetime, state: Any | None = None) -> Published:
    """Insert a version with its inputs and move the pointer to it, in the caller's transaction.

    The caller holds the lock of the deployment's state (`staleness.lock_affected`) and propagates afterwards.
    A version built on a base becomes current only while that base still is: no append is lost silently. `state` is
    what `state_of` has given under that lock, if it was asked before.
    """
    state = state or _STATE_OF.first(connection, of_deployment=new.deployment_id)
    assert state is not None, "a registered deployment has a state"
    version_id, number = new_id(), state.next_number + 1
    # Of two that began where nothing was, the second one would lose the rows of the first.
    is_late = new.appends and new.base_version_id is None and state.version_id is not None and faults.is_on(Guard.BASE)
    may_move = new.may_become_current and not is_late
    _INSERT_VERSION.post(
        connection,
        id=version_id,
        deployment_id=new.deployment_id,
        partition="",
        number=number,
        run_id=new.run_id,
        fence=new.fence,
        base_version_id=new.base_version_id,
        digest=new.digest,
        declaration_digest=new.declaration_digest,
        rows=new.rows,
        size_bytes=new.size_bytes,
        data_start=new.data_start,
        data_end=new.data_end,
        source_delayed=new.source_delayed,
        table_schema=new.table_schema,
        schema_diff=_schema_diff(state.table_schema, new.table_schema),
        may_become_current=may_move,
        created_at=now,
    )
    _INSERT_INPUT.post_many(
        connection,
        [
            {
                "version_id": version_id,
                "role": read.role,
                "upstream_id": read.upstream_id,
                "input_version_id": read.version_id,
            }
            for read in new.inputs
        ],
    )
    fence = new.fence if faults.is_on(Guard.POINTER_FENCE) else state.fence + 1
    base = new.base_version_id if faults.is_on(Guard.BASE) else None
    pointer = {
        "of_deployment": new.deployment_id,
        "new_next_number": number,
        "new_version_id": version_id,
        "new_fence": fence,
        "new_source_delayed": new.source_delayed,
        "new_lapses_at": _lapse_of(state.policy, run_at=now, data_date=new.data_end),
    }
    # The state is locked: what was read of it tells whether the pointer moves. The statement has the same conditions.
    moves = may_move and state.fence < fence and (base is None or base == state.version_id)
    if moves and base is None:
        _MOVE.post(connection, **pointer)
    elif moves:
        _MOVE_FROM_BASE.post(connection, **pointer, base_version_id=base)
    else:
        _COUNT.post(connection, of_deployment=new.deployment_id, new_next_number=number)
    return Published(version_id, number, new.digest, is_current=moves)


def renew_lapse(connection: Connection, deployment_id: UUID) -> None:
    """Compute anew when the current version lapses: the deployment's policy has changed."""
    current = current_version(connection, deployment_id)
    if current is None:
        return
    lapses_at = _lapse(connection, deployment_id, run_at=current.created_at, data_date=current.data_end)
    is_this = sa.and_(_STATE.c.deployment_id == deployment_id, _STATE.c.partition == "")
    connection.execute(sa.update(_STATE).where(is_this).values(lapses_at=lapses_at))


def observe_edges(connection: Connection, deployment_id: UUID, reads: Iterable[Input]) -> None:
    """Record that a run read other deployments in roles that were not declared.

    Raises:
        InvalidInput: a read closes a cycle; the message shows the path.
    """
    # Only what was asked for by its deployment: a declared role has no slash, and may be gone since it was pinned. A
    # version that was asked for by its number stays what it is: no edge, no duty to be fresh.
    new = [read for read in reads if "/" in read.role and "@" not in read.role]
    if faults.is_on(Guard.SELF):
        # What a run read of its own deployment has passed when it completes: it would be stale for ever.
        new = [read for read in new if read.upstream_id != deployment_id]
    if new:
        known = {row.role for row in _ROLES.rows(connection, deployment_id=deployment_id)}
        new = [read for read in new if read.role not in known]
    if not new:
        return
    connection.execute(
        sa.insert(_EDGE),
        [
            {
                "deployment_id": deployment_id,
                "role": read.role,
                "upstream_id": read.upstream_id,
                "kind": EdgeKind.DATA,
                "observed": True,
            }
            for read in new
        ],
    )
    refuse_cycle(connection)


def pins_of(connection: Connection, deployment_id: UUID) -> list[Input]:
    """Return the current version of each upstream, by role; an upstream without a version is missing."""
    query = (
        sa.select(_EDGE.c.role, _EDGE.c.upstream_id, _STATE.c.version_id)
        .join(_STATE, sa.and_(_STATE.c.deployment_id == _EDGE.c.upstream_id, _STATE.c.partition == ""))
        .where(_EDGE.c.deployment_id == deployment_id, _STATE.c.version_id.is_not(None))
        .order_by(_EDGE.c.role)
    )
    return [Input(row.role, row.upstream_id, row.version_id) for row in connection.execute(query)]


def current_version(connection: Connection, deployment_id: UUID) -> Row[Any] | None:
    """Return the row of the deployment's current version."""
    query = (
        sa.select(_VERSION)
        .join(_STATE, _STATE.c.version_id == _VERSION.c.id)
        .where(_STATE.c.deployment_id == deployment_id, _STATE.c.partition == "")
    )
    return connection.execute(query).one_or_none()


def by_id(connection: Connection, version_id: UUID) -> Row[Any]:
    """Return the row of a version that exists."""
    return connection.execute(sa.select(_VERSION).where(_VERSION.c.id == version_id)).one()


def version_of_run(connection: Connection, run_id: UUID) -> Row[Any] | None:
    """Return the row of the version that a run published."""
    return connection.execute(sa.select(_VERSION).where(_VERSION.c.run_id == run_id)).one_or_none()


def _schema_diff(before: Mapping[str, Any] | None, after: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """Return how the columns differ from those of the version that was current; null when they do not, or unknown."""
    if before is None or after is None or before == after:
        return None
    found = schema_diffs(before, after)
    return found if len(json.dumps(found)) <= _MOST_DIFF_BYTES else None


def _lapse(connection: Connection, deployment_id: UUID, *, run_at: datetime, data_date: date | None) -> datetime | None:
    policy = _POLICY.scalar(connection, deployment_id=deployment_id)
    return _lapse_of(policy, run_at=run_at, data_date=data_date)


def _lapse_of(policy: Any, *, run_at: datetime, data_date: date | None) -> datetime | None:
    return None if policy is None else stored_policy(policy).lapses_at(run_at=run_at, data_date=data_date)
