"""What a propagation reads and writes: the states that it locks, the facts it judges by, and the causes it leaves.

All the SQL of a propagation, in the caller's transaction, a statement for many deployments at a time. Owns how much is
read at once; knows nothing of the rule.
"""

import gc
import threading
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from typing import Any
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql
from sqlalchemy.engine import Connection

from ..storage.statement import Sql, Statement, insert_all
from .graph import Start, among_start, reached_from
from .models import Cause, Deployment, DeploymentState, Edge, Freshness, Version, VersionInput
from .rule import FoundCause

_STATE = DeploymentState.__table__  # type: ignore[attr-defined]
_DEPLOYMENT = Deployment.__table__  # type: ignore[attr-defined]
_VERSION = Version.__table__  # type: ignore[attr-defined]
_INPUT = VersionInput.__table__  # type: ignore[attr-defined]
_CAUSE = Cause.__table__  # type: ignore[attr-defined]
_EDGE = Edge.__table__  # type: ignore[attr-defined]

_ROWS_AT_ONCE = 5_000
"""Bounds what one statement carries, and with it the memory of both sides."""
_MANY = 100


def _lock_reached(sql: Sql, start: Start = among_start) -> sa.Executable:
    reached = reached_from(sql, near=_EDGE.c.upstream_id, far=_EDGE.c.deployment_id, start=start)
    wanted = reached.union(
        sa.select(_STATE.c.deployment_id).where(start(sql, _STATE.c.deployment_id)),
        sa.select(_STATE.c.deployment_id).where(sql.among(_STATE.c.deployment_id, "also")),
    )
    # As an array: of a subquery of unknown size the planner thinks so much that it would read the whole table.
    return (
        sa.select(_STATE.c.deployment_id)
        .where(_STATE.c.deployment_id == sa.func.any(sa.func.array(wanted.scalar_subquery())))
        .order_by(_STATE.c.deployment_id)
        .with_for_update(key_share=True)
    )


def _facts(sql: Sql) -> sa.Executable:
    start = sa.select(_STATE.c.deployment_id.label("id")).where(
        sql.among(_STATE.c.deployment_id, "start"), _STATE.c.partition == ""
    )
    readers = sa.select(_EDGE.c.deployment_id).where(sql.among(_EDGE.c.upstream_id, "start"))
    judged = start.union(readers).cte("judged")
    its_state = sa.and_(_STATE.c.deployment_id == judged.c.id, _STATE.c.partition == "")
    upstream, version = _DEPLOYMENT.alias("upstream"), _VERSION.alias("upstream_version")
    state = _STATE.alias("upstream_state")
    about = ("role", "upstream_id", "kind", "about_version_id", "about_run_id", "about_digest", "is_void")
    own = (
        _DEPLOYMENT.c.key,
        _STATE.c.freshness,
        _STATE.c.source_delayed,
        _STATE.c.lapses_at,
        _DEPLOYMENT.c.retired_at.is_not(None).label("is_retired"),
        _DEPLOYMENT.c.declaration_digest,
        _STATE.c.version_id,
        _VERSION.c.run_id,
        _VERSION.c.declaration_digest.label("built_with"),
    )
    upstreams = (
        sa.select(
            sa.literal_column("'upstream'", sa.Text()).label("what"),
            judged.c.id,
            *own,
            _EDGE.c.role,
            _EDGE.c.upstream_id,
            state.c.freshness.label("kind"),
            state.c.version_id.label("about_version_id"),
            version.c.run_id.label("about_run_id"),
            version.c.digest.label("about_digest"),
            upstream.c.retired_at.is_not(None).label("is_void"),
        )
        .select_from(judged)
        .join(_STATE, its_state)
        .join(_DEPLOYMENT, _DEPLOYMENT.c.id == judged.c.id)
        .outerjoin(_VERSION, _VERSION.c.id == _STATE.c.version_id)
        .outerjoin(_EDGE, _EDGE.c.deployment_id == judged.c.id)
        .outerjoin(upstream, upstream.c.id == _EDGE.c.upstream_id)
        .outerjoin(state, sa.and_(state.c.deployment_id == _EDGE.c.upstream_id, state.c.partition == ""))
        .outerjoin(version, version.c.id == state.c.version_id)
    )

    def beside(what: str, columns: Mapping[str, Any]) -> sa.Select[Any]:
        """Rows that say `columns` about those judged, in the places of an upstream's, without their own facts."""
        said = (columns.get(name, sa.null()) for name in about)
        kind = sa.literal_column(f"'{what}'", sa.Text())
        nothing = [sa.null() for _ in own]
        return sa.select(kind, judged.c.id, *nothing, *said).select_from(judged).join(_STATE, its_state)

    read = {
        "role": _INPUT.c.role,
        "upstream_id": _INPUT.c.upstream_id,
        "about_version_id": _VERSION.c.id,
        "about_digest": _VERSION.c.digest,
        "is_void": _VERSION.c.withdrawn_at.is_not(None),
    }
    reads = (
        beside("read", read)
        .join(_INPUT, _INPUT.c.version_id == _STATE.c.version_id)
        .join(_VERSION, _VERSION.c.id == _INPUT.c.input_version_id)
    )
    cause = {
        "role": _CAUSE.c.role,
        "upstream_id": _CAUSE.c.upstream_id,
        "kind": _CAUSE.c.kind,
        "about_version_id": _CAUSE.c.origin_version_id,
        "about_run_id": _CAUSE.c.origin_run_id,
        "is_void": _CAUSE.c.since >= _STATE.c.lapses_at,
    }
    causes = beside("cause", cause).join(_CAUSE, _CAUSE.c.deployment_id == judged.c.id)
    return upstreams.union_all(reads, causes)


_LOCK_REACHED = Statement(_lock_reached)
_FACTS = Statement(_facts)
_READERS = Statement(
    lambda sql: sa.select(_EDGE.c.deployment_id, _EDGE.c.role, _EDGE.c.upstream_id).where(
        sql.among(_EDGE.c.upstream_id, "ids")
    )
)
_STANDING = Statement(
    lambda sql: (
        sa.select(
            _STATE.c.deployment_id,
            _DEPLOYMENT.c.key,
            _STATE.c.freshness,
            _STATE.c.source_delayed,
            _STATE.c.version_id,
            _VERSION.c.run_id,
            _DEPLOYMENT.c.retired_at.is_not(None).label("is_retired"),
        )
        .join(_DEPLOYMENT, _DEPLOYMENT.c.id == _STATE.c.deployment_id)
        .outerjoin(_VERSION, _VERSION.c.id == _STATE.c.version_id)
        .where(sql.among(_STATE.c.deployment_id, "ids"), _STATE.c.partition == "")
    )
)
_CAUSES = Statement(
    lambda sql: sa.select(
        _CAUSE.c.deployment_id,
        _CAUSE.c.kind,
        _CAUSE.c.role,
        _CAUSE.c.upstream_id,
        _CAUSE.c.origin_run_id,
        _CAUSE.c.origin_version_id,
    ).where(sql.among(_CAUSE.c.deployment_id, "ids"))
)
_SET_FRESHNESS = Statement(
    lambda sql: (
        sa.update(_STATE)
        .where(sql.among(_STATE.c.deployment_id, "ids"), _STATE.c.partition == "")
        .values(freshness=sa.bindparam("new_freshness"))
    )
)
_INSERT_CAUSE = insert_all(_CAUSE)
_DELETE_CAUSE = Statement(
    lambda _: sa.delete(_CAUSE).where(
        _CAUSE.c.deployment_id == sa.bindparam("deployment_id"),
        _CAUSE.c.kind == sa.bindparam("kind"),
        _CAUSE.c.role == sa.bindparam("role"),
    )
)


def _unnested(**types: sa.types.TypeEngine[Any]) -> Any:
    """Rows out of one array for each column; an array is handed over as its text."""
    arrays = (
        sa.cast(sa.bindparam(f"all_{name}", type_=sa.Text()), postgresql.ARRAY(type_)) for name, type_ in types.items()
    )
    columns = (sa.column(name, type_) for name, type_ in types.items())
    return sa.func.unnest(*arrays).table_valued(*columns).render_derived(name="given")


def _insert_causes(_: Sql) -> sa.Executable:
    uuid, text = sa.Uuid(), sa.Text()
    given = _unnested(
        deployment_id=uuid, kind=text, role=text, upstream_id=uuid, origin_run_id=uuid, origin_version_id=uuid
    )
    since = sa.bindparam("since", type_=_CAUSE.c.since.type)
    names = [column.name for column in given.c]
    return sa.insert(_CAUSE).from_select(
        [*names, "partition", "since"], sa.select(*given.c, sa.literal_column("''"), since)
    )


def _delete_causes(_: Sql) -> sa.Executable:
    given = _unnested(deployment_id=sa.Uuid(), kind=sa.Text(), role=sa.Text())
    return sa.delete(_CAUSE).where(*(_CAUSE.c[column.name] == column for column in given.c))


class _Collector:
    """Python's collector of reference cycles, which several threads may want to pause at once."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._pauses = 0
        self._was_on = False

    def pause(self) -> None:
        with self._lock:
            if not self._pauses:
                self._was_on = gc.isenabled()
                gc.disable()
            self._pauses += 1

    def resume(self) -> None:
        with self._lock:
            self._pauses -= 1
            if not self._pauses and self._was_on:
                gc.enable()


_COLLECTOR = _Collector()
_INSERT_CAUSES = Statement(_insert_causes)
_DELETE_CAUSES = Statement(_delete_causes)


@contextmanager
def uncollected() -> Iterator[Callable[[int], None]]:
    """Yield what is told how many deployments come next: from many on, nobody looks for reference cycles meanwhile.

    Objects come by the hundred thousand here, and none in a cycle. Whenever there are a quarter more than before,
    Python would go through all that are alive: half of the time, and more where a process is large by itself.
    """
    is_paused = False

    def expect(count: int) -> None:
        nonlocal is_paused
        if count >= _MANY and not is_paused:
            _COLLECTOR.pause()
            is_paused = True

    try:
        yield expect
    finally:
        if is_paused:
            _COLLECTOR.resume()


def lock_reached(connection: Connection, start: Iterable[UUID], *, also: Iterable[UUID]) -> list[UUID]:
    """Lock the states of these deployments and of all downstream of them on Postgres, in id order; return their ids.

    `also` are locked without what is downstream of them.
    """
    return [row[0] for row in _LOCK_REACHED.rows(connection, start=list(start), also=list(also))]


def locking(start: Start) -> Statement:
    """Return what locks as `lock_reached` does, for Postgres, from another start; it has the parameter `also`."""
    return Statement(lambda sql: _lock_reached(sql, start))


def facts_around(connection: Connection, start: Collection[UUID]) -> list[Any]:
    """Return what is stored about these deployments and about those that read one of them directly.

    One row, `what` says so, for each `upstream` of theirs (one without a role for a deployment that has none), each
    `read` of their current versions and each `cause`. The first kind repeats the deployment's own facts. `kind` is the
    upstream's freshness or the cause's kind; `about_…` is the upstream's current version, the one that was read, or the
    one that brought the cause; `is_void` says that the upstream is retired, or what was read withdrawn.
    """
    return _FACTS.rows(connection, start=start)


def readers_of(connection: Connection, deployment_ids: Sequence[UUID]) -> list[Any]:
    """Return the edges from these deployments to those that read them: deployment_id, role, upstream_id."""
    return [row for part in _parts(deployment_ids) for row in _READERS.rows(connection, ids=part)]


def standing_of(connection: Connection, deployment_ids: Sequence[UUID]) -> Iterator[Any]:
    """Yield how these deployments stand: their freshness, and what their readers' causes say of them."""
    for part in _parts(deployment_ids):
        yield from _STANDING.rows(connection, ids=part)


def causes_stored(connection: Connection, deployment_ids: Sequence[UUID]) -> Iterator[tuple[UUID, FoundCause]]:
    """Yield the causes that are stored of these deployments."""
    for part in _parts(deployment_ids):
        for deployment_id, *cause in _CAUSES.rows(connection, ids=part):
            yield deployment_id, FoundCause(*cause)


def set_freshness(connection: Connection, freshness: Freshness, deployment_ids: Sequence[UUID]) -> None:
    """Set the freshness of these deployments, whose states this transaction has locked."""
    for part in _parts(deployment_ids):
        count = _SET_FRESHNESS.run(connection, ids=part, new_freshness=freshness)
        assert count == len(part), "every registered deployment has a state"


def delete_causes(connection: Connection, causes: Sequence[tuple[UUID, FoundCause]]) -> None:
    """Delete these causes, by their deployments, kinds and roles."""
    for part in _parts(causes):
        if connection.dialect.name == "sqlite":
            _DELETE_CAUSE.run_many(connection, [_row(one, cause, ("kind", "role")) for one, cause in part])
        else:
            _DELETE_CAUSES.post(connection, **_texts(part, ("kind", "role")))


def insert_causes(connection: Connection, causes: Sequence[tuple[UUID, FoundCause]], *, since: datetime) -> None:
    """Store these causes, which arise now."""
    for part in _parts(causes):
        if connection.dialect.name == "sqlite":
            rows = [_row(one, cause, FoundCause._fields) for one, cause in part]
            _INSERT_CAUSE.run_many(connection, [{**row, "partition": "", "since": since} for row in rows])
        else:
            _INSERT_CAUSES.post(connection, **_texts(part, FoundCause._fields), since=since)


def _parts(items: Sequence[Any]) -> Iterator[Sequence[Any]]:
    for start in range(0, len(items), _ROWS_AT_ONCE):
        yield items[start : start + _ROWS_AT_ONCE]


def _row(deployment_id: UUID, cause: FoundCause, names: Sequence[str]) -> dict[str, Any]:
    return {"deployment_id": deployment_id, **{name: getattr(cause, name) for name in names}}


def _texts(part: Sequence[tuple[UUID, FoundCause]], names: Sequence[str]) -> Mapping[str, str]:
    """Return the columns of these causes as the texts of Postgres arrays.

    The driver would go through a list element by element, which takes many times longer.
    """
    nodes, causes = zip(*part, strict=True)
    columns = dict(zip(FoundCause._fields, zip(*causes, strict=True), strict=True))
    texts = {f"all_{name}": (_ids if name.endswith("_id") else _words)(columns[name]) for name in names}
    return {**texts, "all_deployment_id": _ids(nodes)}


def _ids(values: Iterable[UUID | None]) -> str:
    return f"{{{','.join(['NULL' if value is None else value.hex for value in values])}}}"


def _words(values: Sequence[str]) -> str:
    quoted = {value: value.replace("\\", "\\\\").replace('"', '\\"') for value in set(values)}
    return f"""{{{",".join([f'"{quoted[value]}"' for value in values])}}}"""
