"""What is registered: resources, deployments and their declared edges, written as a whole.

One call per catalogue, in the caller's transaction: new and changed deployments are written, those that disappeared
are retired (their runs and versions stay), a returning one is restored, cycles are refused, and staleness follows.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.engine import Connection, Row

from ..storage.compiled import Answer
from ..storage.errors import InvalidInput, NotFound
from ..storage.ids import new_id
from ..storage.statement import Statement, insert_all
from ..storage.words import DeploymentKind, EdgeKind, ResourceKind
from . import graph, staleness, versions
from .models import Deployment, DeploymentState, Edge, Resource

_RESOURCE = Resource.__table__  # type: ignore[attr-defined]
_DEPLOYMENT = Deployment.__table__  # type: ignore[attr-defined]
_STATE = DeploymentState.__table__  # type: ignore[attr-defined]
_EDGE = Edge.__table__  # type: ignore[attr-defined]


_TO_RUN = tuple(column for column in _DEPLOYMENT.c if column.name != "parameter_schema")
"""What is needed to execute a run: its parameters were checked when it was asked for."""

_BY_KEY = Statement(
    lambda _: sa.select(_DEPLOYMENT).where(
        _DEPLOYMENT.c.tenant_id == sa.bindparam("tenant_id"),
        _DEPLOYMENT.c.key == sa.bindparam("key"),
        _DEPLOYMENT.c.retired_at.is_(None),
    )
)
# A renamed resource leaves a retired row with the same Prefect deployment.
_BY_ID = Statement(lambda _: sa.select(*_TO_RUN).where(_DEPLOYMENT.c.id == sa.bindparam("deployment_id")))
_BY_PREFECT_ID = Statement(
    lambda _: (
        sa.select(*_TO_RUN)
        .where(_DEPLOYMENT.c.prefect_deployment_id == sa.bindparam("prefect_deployment_id"))
        .order_by(_DEPLOYMENT.c.retired_at.is_not(None), _DEPLOYMENT.c.registered_at.desc())
        .limit(sa.literal_column("1"))
    )
)
_RESOURCE_ID = Statement(
    lambda _: sa.select(_RESOURCE.c.id).where(
        _RESOURCE.c.tenant_id == sa.bindparam("tenant_id"),
        _RESOURCE.c.kind == sa.bindparam("kind"),
        _RESOURCE.c.name == sa.bindparam("name"),
    )
)
_INSERT_RESOURCE = insert_all(_RESOURCE)
_INSERT_DEPLOYMENT = insert_all(_DEPLOYMENT)
_INSERT_STATE = insert_all(_STATE)
_INSERT_EDGE = insert_all(_EDGE)


@dataclass(frozen=True)
class DeclaredEdge:
    """This deployment reads `upstream` in a role."""

    role: str
    upstream: str
    """Key of the upstream."""
    kind: EdgeKind = EdgeKind.DATA


@dataclass(frozen=True)
class Declared:
    """A deployment as its catalogue declares it."""

    key: str
    kind: DeploymentKind
    resource: str
    resource_kind: ResourceKind
    declaration_digest: str
    declaration: Mapping[str, Any] = field(default_factory=dict)
    parameter_schema: Mapping[str, Any] = field(default_factory=dict)
    policy: Mapping[str, Any] | None = None
    auto_refresh: Mapping[str, Any] | None = None
    retention: Mapping[str, Any] | None = None
    """How long its versions keep their data."""
    edges: Sequence[DeclaredEdge] = ()
    prefect_name: str | None = None
    prefect_deployment_id: UUID | None = None
    external: bool = False


@dataclass(frozen=True)
class Registered:
    """What a registration did, by deployment key."""

    created: tuple[str, ...]
    changed: tuple[str, ...]
    unchanged: tuple[str, ...]
    retired: tuple[str, ...]


def register(
    connection: Connection,
    declared: Iterable[Declared],
    *,
    tenant_id: str,
    project: str,
    now: datetime,
) -> Registered:
    """Write the whole catalogue of a project in the caller's transaction; other projects' deployments stay.

    Raises:
        NotFound: an edge names an upstream that is neither declared nor registered.
        InvalidInput: the edges close a cycle (the message shows the path), or a key is another project's.
    """
    wanted = {item.key: item for item in declared}
    known = {row.key: row for row in deployments(connection, tenant_id=tenant_id, include_retired=True)}
    # Nobody completes while the edges change; a registration is rare.
    staleness.lock_states(connection, [row.id for row in known.values()])
    for key in wanted:
        if key in known and known[key].retired_at is None and known[key].project != project:
            raise InvalidInput(
                f"{key} belongs to the project {known[key].project!r}; rename the resource, "
                f"or set FRESHLINE_PROJECT={known[key].project}"
            )
    created = [key for key in wanted if key not in known]
    changed = [key for key, item in wanted.items() if key in known and _differs(known[key], item)]
    ids = {key: row.id for key, row in known.items()} | {key: new_id() for key in created}
    for key, item in wanted.items():
        resource_id = _resource_id(connection, item, tenant_id=tenant_id, now=now)
        where = {"resource_id": resource_id, "project": project}
        _write(connection, ids[key], item, where, tenant_id=tenant_id, now=now, is_new=key in created)
    for key in changed:
        if known[key].policy != wanted[key].policy:
            versions.renew_lapse(connection, ids[key])
    for key, item in wanted.items():
        _write_edges(connection, item, ids, is_new=key in created)
    ours = [key for key, row in known.items() if row.project == project and row.retired_at is None]
    retired = [key for key in ours if key not in wanted]
    if retired:
        connection.execute(
            sa.update(_DEPLOYMENT).where(_DEPLOYMENT.c.id.in_([ids[key] for key in retired])).values(retired_at=now)
        )
    graph.refuse_cycle(connection)
    staleness.propagate(connection, [ids[key] for key in (*wanted, *retired)], now=now)
    unchanged = [key for key in wanted if key not in created and key not in changed]
    return Registered(tuple(created), tuple(changed), tuple(unchanged), tuple(retired))


def deployments(connection: Connection, *, tenant_id: str, include_retired: bool = False) -> list[Row[Any]]:
    """Return the rows of `deployment`, ordered by key."""
    query = sa.select(_DEPLOYMENT).where(_DEPLOYMENT.c.tenant_id == tenant_id).order_by(_DEPLOYMENT.c.key)
    if not include_retired:
        query = query.where(_DEPLOYMENT.c.retired_at.is_(None))
    return list(connection.execute(query))


def resource_kind(connection: Connection, resource_id: UUID) -> str:
    """Return the kind of a resource."""
    kind: str = connection.execute(sa.select(_RESOURCE.c.kind).where(_RESOURCE.c.id == resource_id)).scalar_one()
    return kind


def resources(connection: Connection, *, tenant_id: str) -> dict[tuple[str, str], list[str]]:
    """Return (kind, name) of each resource with the keys of its deployments that are not retired; none without any."""
    query = (
        sa.select(_RESOURCE.c.kind, _RESOURCE.c.name, _DEPLOYMENT.c.key)
        .join(_DEPLOYMENT, _DEPLOYMENT.c.resource_id == _RESOURCE.c.id)
        .where(_RESOURCE.c.tenant_id == tenant_id, _DEPLOYMENT.c.retired_at.is_(None))
        .order_by(_DEPLOYMENT.c.key)
    )
    found: dict[tuple[str, str], list[str]] = {}
    for row in connection.execute(query):
        found.setdefault((row.kind, row.name), []).append(row.key)
    return found


def reads_of_others(connection: Connection, *, tenant_id: str, project: str) -> dict[str, list[str]]:
    """Return the deployments of other projects with the keys that they read: what a catalogue may build on."""
    upstream = _DEPLOYMENT.alias("upstream")
    others = [row for row in deployments(connection, tenant_id=tenant_id) if row.project != project]
    reads: dict[str, list[str]] = {row.key: [] for row in others}
    query = (
        sa.select(_DEPLOYMENT.c.key, upstream.c.key.label("upstream"))
        .join(_EDGE, _EDGE.c.deployment_id == _DEPLOYMENT.c.id)
        .join(upstream, upstream.c.id == _EDGE.c.upstream_id)
        .where(_DEPLOYMENT.c.id.in_([row.id for row in others]))
    )
    for row in connection.execute(query):
        reads[row.key].append(row.upstream)
    return reads


def deployment(connection: Connection, key: str, *, tenant_id: str) -> Row[Any]:
    """Return the row of one deployment that is not retired.

    Raises:
        NotFound: with the nearest keys.
    """
    # What cannot be printed is no key, and some of it no text to a database.
    row: Row[Any] | None = _BY_KEY.first(connection, tenant_id=tenant_id, key=key) if key.isprintable() else None
    if row is None:
        known = [other.key for other in deployments(connection, tenant_id=tenant_id)]
        raise NotFound("deployment", key, known=known)
    return row


def deployment_by_id(connection: Connection, deployment_id: UUID) -> Any:
    """Return the row of a deployment that exists, without `parameter_schema`."""
    return _BY_ID.first(connection, deployment_id=deployment_id)


def ask_deployment_by_prefect_id(connection: Connection, prefect_deployment_id: UUID) -> Answer:
    """Ask for the row of the deployment that Prefect knows by this id, if it is ours; without `parameter_schema`."""
    return _BY_PREFECT_ID.ask(connection, prefect_deployment_id=prefect_deployment_id)


def _differs(row: Row[Any], item: Declared) -> bool:
    if row.declaration_digest != item.declaration_digest or row.retired_at is not None:
        return True
    return (row.policy, row.auto_refresh, row.retention) != (item.policy, item.auto_refresh, item.retention)


def _write(
    connection: Connection,
    deployment_id: UUID,
    item: Declared,
    where: Mapping[str, Any],
    *,
    tenant_id: str,
    now: datetime,
    is_new: bool,
) -> None:
    values = {
        **where,
        "kind": item.kind,
        "prefect_name": item.prefect_name,
        "prefect_deployment_id": item.prefect_deployment_id,
        "external": item.external,
        "declaration": dict(item.declaration),
        "declaration_digest": item.declaration_digest,
        "parameter_schema": dict(item.parameter_schema),
        "policy": dict(item.policy) if item.policy is not None else None,
        "auto_refresh": dict(item.auto_refresh) if item.auto_refresh is not None else None,
        "retention": dict(item.retention) if item.retention is not None else None,
        "registered_at": now,
        "retired_at": None,
    }
    if is_new:
        row = {"id": deployment_id, "tenant_id": tenant_id, "key": item.key, "created_at": now, **values}
        _INSERT_DEPLOYMENT.run(connection, **row)
        # Through the model, so that a state begins with the defaults that the model states.
        _INSERT_STATE.run(connection, **DeploymentState(deployment_id=deployment_id).model_dump())
    else:
        connection.execute(sa.update(_DEPLOYMENT).where(_DEPLOYMENT.c.id == deployment_id).values(values))


def _resource_id(connection: Connection, item: Declared, *, tenant_id: str, now: datetime) -> UUID:
    named = {"tenant_id": tenant_id, "kind": item.resource_kind, "name": item.resource}
    known: UUID | None = _RESOURCE_ID.scalar(connection, **named)
    if known is not None:
        return known
    resource_id = new_id()
    _INSERT_RESOURCE.run(connection, id=resource_id, created_at=now, **named)
    return resource_id


def _write_edges(connection: Connection, item: Declared, ids: Mapping[str, UUID], *, is_new: bool) -> None:
    deployment_id = ids[item.key]
    if not is_new:
        roles = [edge.role for edge in item.edges]
        # A declared role takes the place of an observed one; observed edges in other roles stay.
        connection.execute(
            sa.delete(_EDGE).where(
                _EDGE.c.deployment_id == deployment_id,
                sa.or_(_EDGE.c.observed.is_(False), _EDGE.c.role.in_(roles)),
            )
        )
    for edge in item.edges:
        if edge.upstream not in ids:
            raise NotFound(f"upstream of {item.key}", edge.upstream, known=ids)
    _INSERT_EDGE.run_many(
        connection,
        [
            {
                "deployment_id": deployment_id,
                "role": edge.role,
                "upstream_id": ids[edge.upstream],
                "kind": edge.kind,
                "observed": False,
            }
            for edge in item.edges
        ],
    )
