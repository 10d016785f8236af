"""The graph of deployments: closures, execution order in parallel batches, refusal of cycles.

Reads and writes edges in the caller's transaction. Knows nothing of freshness.
"""

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from graphlib import CycleError, TopologicalSorter
from typing import Any
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from ..storage.errors import InvalidInput
from ..storage.statement import Sql, Statement
from ..storage.words import EdgeKind
from .models import Deployment, Edge

_EDGE = Edge.__table__  # type: ignore[attr-defined]
_DEPLOYMENT = Deployment.__table__  # type: ignore[attr-defined]


@dataclass(frozen=True, slots=True)
class NamedEdge:
    """One deployment reads another one, by their keys."""

    source: str
    """What is read."""
    target: str
    """Who reads it."""
    role: str
    kind: EdgeKind
    """What the reader takes."""
    observed: bool
    """Not declared: a run read it."""


Start = Callable[[Sql, sa.Column[UUID]], sa.ColumnElement[bool]]
"""Returns the condition that the id in a column is where a walk begins."""


def among_start(sql: Sql, column: sa.Column[UUID]) -> sa.ColumnElement[bool]:
    """Begin at the parameter `start`, a list of ids."""
    return sql.among(column, "start")


def reached_from(
    sql: Sql, *, near: sa.Column[UUID], far: sa.Column[UUID], start: Start = among_start
) -> sa.Select[tuple[UUID]]:
    """Return the query for all that edges lead to from the start; they have it near them."""
    # UNION, not UNION ALL: each node once, so diamonds do not multiply and a cycle would end.
    reached = sa.select(far.label("id")).where(start(sql, near)).cte("reached", recursive=True)
    reached = reached.union(sa.select(far).join(reached, near == reached.c.id))
    return sa.select(reached.c.id)


_DOWNSTREAM = Statement(lambda sql: reached_from(sql, near=_EDGE.c.upstream_id, far=_EDGE.c.deployment_id))
_UPSTREAM = Statement(lambda sql: reached_from(sql, near=_EDGE.c.deployment_id, far=_EDGE.c.upstream_id))
_EDGES_INTO = Statement(
    lambda sql: (
        sa.select(_EDGE).where(sql.among(_EDGE.c.deployment_id, "ids")).order_by(_EDGE.c.deployment_id, _EDGE.c.role)
    )
)


_SOURCE, _TARGET = _DEPLOYMENT.alias("source"), _DEPLOYMENT.alias("target")
_ALL_NAMED = Statement(
    lambda _: (
        sa.select(
            _SOURCE.c.key.label("source"), _TARGET.c.key.label("target"), _EDGE.c.role, _EDGE.c.kind, _EDGE.c.observed
        )
        .join(_TARGET, _TARGET.c.id == _EDGE.c.deployment_id)
        .join(_SOURCE, _SOURCE.c.id == _EDGE.c.upstream_id)
        .where(_TARGET.c.tenant_id == sa.bindparam("tenant_id"))
        .where(_SOURCE.c.retired_at.is_(None), _TARGET.c.retired_at.is_(None))
        .order_by(_TARGET.c.key, _EDGE.c.role)
    )
)


def named_edges(connection: Connection, *, tenant_id: str) -> list[NamedEdge]:
    """Return the edges between deployments of a tenant that are not retired, by reader and role."""
    return [
        NamedEdge(row.source, row.target, row.role, EdgeKind(row.kind), bool(row.observed))
        for row in _ALL_NAMED.rows(connection, tenant_id=tenant_id)
    ]


def downstream_of(connection: Connection, deployment_ids: Iterable[UUID]) -> set[UUID]:
    """Return all deployments that read these, directly or through others; without the given ones."""
    start = set(deployment_ids)
    return {row.id for row in _DOWNSTREAM.rows(connection, start=start)} - start if start else set()


def upstream_of(connection: Connection, deployment_ids: Iterable[UUID]) -> set[UUID]:
    """Return all deployments that these read, directly or through others; without the given ones."""
    start = set(deployment_ids)
    return {row.id for row in _UPSTREAM.rows(connection, start=start)} - start if start else set()


def edges_into(connection: Connection, deployment_ids: Collection[UUID]) -> list[Any]:
    """Return the edges whose downstream is one of these: rows of `edge`, ordered by downstream and role."""
    return _EDGES_INTO.rows(connection, ids=list(deployment_ids))


def batches(upstreams: Mapping[UUID, Collection[UUID]]) -> list[list[UUID]]:
    """Order deployments so that each batch needs only earlier ones; those in a batch may run in parallel.

    `upstreams` maps each deployment to those that it reads; upstreams that are no keys are left out.

    Raises:
        InvalidInput: the deployments form a cycle.
    """
    sorter = TopologicalSorter({node: [u for u in ups if u in upstreams] for node, ups in upstreams.items()})
    try:
        sorter.prepare()
    except CycleError as error:
        raise InvalidInput(f"the deployments form a cycle: {' -> '.join(map(str, error.args[1]))}") from None
    ordered: list[list[UUID]] = []
    while sorter.is_active():
        ready = sorted(sorter.get_ready())
        ordered.append(ready)
        sorter.done(*ready)
    return ordered


def refuse_cycle(connection: Connection) -> None:
    """Check the whole graph after edges were changed in this transaction.

    Raises:
        InvalidInput: an edge closes a cycle; the message shows the path by deployment keys.
    """
    reads: dict[UUID, list[UUID]] = {}
    for edge in connection.execute(sa.select(_EDGE.c.deployment_id, _EDGE.c.upstream_id)):
        reads.setdefault(edge.deployment_id, []).append(edge.upstream_id)
    try:
        TopologicalSorter(reads).prepare()
    except CycleError as error:
        # graphlib lists the cycle from upstream to downstream.
        path: list[UUID] = error.args[1]
        query = sa.select(_DEPLOYMENT.c.id, _DEPLOYMENT.c.key).where(_DEPLOYMENT.c.id.in_(path))
        keys = {row.id: row.key for row in connection.execute(query)}
        shown = " -> ".join(keys.get(node, str(node)) for node in path)
        raise InvalidInput(f"these deployments would read each other in a cycle: {shown}") from None
