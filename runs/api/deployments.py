"""Routes of deployments and the resources that they keep: as they are, why, and how they hang together."""

from typing import Annotated, Any

from fastapi import Query
from pydantic import Field

from ...lineage import aliases, registry
from ...lineage.models import Freshness
from ..curation import Curation
from .context import MAX_INTEGER, Asked, Cursor, Kind, Limit, Opened, Resource
from .cursors import MAX_PAGE
from .documents import Document, ListPage
from .lineage_documents import (
    DeploymentDocument,
    DeploymentSummary,
    ExplainedDeployment,
    LinkedDocument,
    VersionDocument,
    alias_document,
    explained_deployment,
    linked_document,
    summary_fields,
    version_fields,
)
from .pages import behind, cut, numbered
from .policies import Routes, read

routes = Routes(tags=["deployments"])

_WORST_FIRST = (Freshness.STALE, Freshness.SOURCE_DELAYED, Freshness.READY)

Recursive = Annotated[bool, Query(description="Through others too; else direct neighbours alone.")]


class ResourceDocument(Document):
    """One thing that is kept up to date, with the worst freshness among its deployments that have run."""

    name: str
    kind: str = Field(examples=["dataset"])
    freshness: str = Field(description="Of the worst deployment that has run; not_initialized: none has.")
    worst: str | None = Field(description="Key of that deployment.")
    deployments: list[str] = Field(description="Their keys.")


@routes.get("/deployments", summary="List deployments")
@read
def get_deployments(queries: Asked, cursor: Cursor = None, limit: Limit = MAX_PAGE) -> ListPage[DeploymentSummary]:
    """Return every deployment that is not retired, by key, with its freshness."""
    rows = queries.status()
    rows.sort(key=lambda row: row.key)
    page, following = cut(rows, of="deployments", key=lambda row: row.key, cursor=cursor, limit=limit)
    return ListPage(items=[DeploymentSummary(**summary_fields(row)) for row in page], next_cursor=following)


@routes.get("/deployments/{kind}/{resource}", summary="Read a deployment")
@read
def get_deployment(freshline: Opened, queries: Asked, kind: Kind, resource: Resource) -> DeploymentDocument:
    """Return one deployment with its freshness, what was declared of it, and its aliases."""
    key = f"{kind}/{resource}"
    (status,) = queries.status(deployment=key)
    with freshline.database.read() as connection:
        row = registry.deployment(connection, key, tenant_id=freshline.settings.tenant_id)
        resource_kind = registry.resource_kind(connection, row.resource_id)
        named = aliases.aliases_of(connection, row.id)
    return DeploymentDocument(
        **summary_fields(status),
        project=row.project,
        resource_kind=resource_kind,
        prefect_name=row.prefect_name,
        external=row.external,
        policy=row.policy,
        retention=row.retention,
        parameter_schema=row.parameter_schema,
        aliases=[alias_document(one) for one in named],
        registered_at=row.registered_at,
    )


@routes.get("/deployments/{kind}/{resource}/explanation", summary="Why a deployment is as fresh as it is")
@read
def explain_deployment(queries: Asked, kind: Kind, resource: Resource) -> ExplainedDeployment:
    """Return the chain of reasons, down to the runs and versions that started it."""
    return explained_deployment(queries.explain(f"{kind}/{resource}"))


@routes.get("/deployments/{kind}/{resource}/versions", summary="List the versions of a deployment")
@read
def get_versions(
    freshline: Opened, kind: Kind, resource: Resource, cursor: Cursor = None, limit: Limit = 50
) -> ListPage[VersionDocument]:
    """Return its versions, newest first, with labels, aliases and what was withdrawn; of a retired one, too."""
    key = f"{kind}/{resource}"
    asked = {"key": key}
    before = behind(cursor, of="versions", asked=asked)
    curation = Curation(freshline.database, tenant_id=freshline.settings.tenant_id)
    rows = curation.versions(key, limit=limit + 1, before=MAX_INTEGER if before is None else before)
    page, following = numbered(rows, of="versions", asked=asked, limit=limit, number=lambda row: row.number)
    return ListPage(items=[VersionDocument(**version_fields(row)) for row in page], next_cursor=following)


@routes.get("/deployments/{kind}/{resource}/upstream", summary="What a deployment reads")
@read
def get_upstream(
    *,
    queries: Asked,
    kind: Kind,
    resource: Resource,
    recursive: Recursive = True,
    cursor: Cursor = None,
    limit: Limit = MAX_PAGE,
) -> ListPage[LinkedDocument]:
    """Return the deployments that it reads, directly or through others, nearest first."""
    key = f"{kind}/{resource}"
    rows = queries.upstream(key, recursive=recursive)
    return _linked("upstream", key, rows, recursive=recursive, cursor=cursor, limit=limit)


@routes.get("/deployments/{kind}/{resource}/downstream", summary="What reads a deployment")
@read
def get_downstream(
    *,
    queries: Asked,
    kind: Kind,
    resource: Resource,
    recursive: Recursive = True,
    cursor: Cursor = None,
    limit: Limit = MAX_PAGE,
) -> ListPage[LinkedDocument]:
    """Return the deployments that read it, directly or through others, nearest first."""
    key = f"{kind}/{resource}"
    rows = queries.downstream(key, recursive=recursive)
    return _linked("downstream", key, rows, recursive=recursive, cursor=cursor, limit=limit)


@routes.get("/resources", summary="List resources")
@read
def get_resources(
    freshline: Opened, queries: Asked, cursor: Cursor = None, limit: Limit = MAX_PAGE
) -> ListPage[ResourceDocument]:
    """Return what is kept up to date, by kind and name, with the worst freshness of its deployments."""
    freshness = {row.key: row.freshness for row in queries.status()}
    with freshline.database.read() as connection:
        found = registry.resources(connection, tenant_id=freshline.settings.tenant_id)
    rows = sorted(found.items())
    page, following = cut(rows, of="resources", key=lambda row: list(row[0]), cursor=cursor, limit=limit)
    items = [_resource(kind, name, keys, freshness) for (kind, name), keys in page]
    return ListPage(items=items, next_cursor=following)


def _resource(kind: str, name: str, keys: list[str], freshness: dict[str, str]) -> ResourceDocument:
    known = [key for key in keys if key in freshness]
    for word in _WORST_FIRST:
        worst = next((key for key in known if freshness[key] == word), None)
        if worst is not None:
            return ResourceDocument(name=name, kind=kind, freshness=word, worst=worst, deployments=known)
    return ResourceDocument(name=name, kind=kind, freshness=Freshness.NOT_INITIALIZED, worst=None, deployments=known)


def _linked(
    of: str, key: str, rows: Any, *, recursive: bool, cursor: str | None, limit: int
) -> ListPage[LinkedDocument]:
    asked = {"key": key, "recursive": recursive}
    # A deployment may read another one in one role in two ways: the kind tells them apart.
    ordered = sorted(rows, key=_place)
    page, following = cut(ordered, of=of, key=_place, cursor=cursor, limit=limit, asked=asked)
    return ListPage(items=[linked_document(one) for one in page], next_cursor=following)


def _place(one: Any) -> list[Any]:
    return [one.depth, one.key, one.role, one.kind]
