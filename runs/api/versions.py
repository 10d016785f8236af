"""Routes of versions: by number, label or alias; who read them, and what was built from them."""

from typing import Annotated, Any

from fastapi import Path

from ...lineage.questions import BuiltVersion
from ..curation import Curation
from .context import Asked, Cursor, Kind, Limit, Opened, Resource
from .cursors import MAX_PAGE
from .documents import ListPage
from .lineage_documents import (
    BuiltDocument,
    ImpactDocument,
    VersionAct,
    VersionWithActs,
    built_document,
    version_fields,
)
from .pages import cut
from .policies import Routes, read

routes = Routes(tags=["versions"])

_CURRENT = "current"

Which = Annotated[
    str,
    Path(
        max_length=100,
        description="A number (`12` or `v12`), a label (`v1.2.3`), an alias (`champion`), or `current`.",
        examples=["12"],
    ),
]


@routes.get("/versions/{kind}/{resource}/{which}", summary="Read a version")
@read
def get_version(freshline: Opened, kind: Kind, resource: Resource, which: Which) -> VersionWithActs:
    """Return one version and what was done to it after it was published."""
    curation = Curation(freshline.database, tenant_id=freshline.settings.tenant_id)
    found = curation.version(_reference(kind, resource, which))
    acts = [VersionAct(kind=one.kind, actor=one.actor, reason=one.reason, at=one.at) for one in found.acts]
    return VersionWithActs(**version_fields(found.version), acts=acts)


@routes.get("/versions/{kind}/{resource}/{which}/consumers", summary="Who read a version")
@read
def get_consumers(
    *, queries: Asked, kind: Kind, resource: Resource, which: Which, cursor: Cursor = None, limit: Limit = MAX_PAGE
) -> ListPage[BuiltDocument]:
    """Return the versions that read this one directly, by deployment and number."""
    reference = _reference(kind, resource, which)
    rows = queries.consumers(reference)
    page, following = _page("consumers", reference, rows, cursor, limit)
    return ListPage(items=[built_document(one) for one in page], next_cursor=following)


@routes.get("/versions/{kind}/{resource}/{which}/impact", summary="What was built from a version")
@read
def get_impact(
    *, queries: Asked, kind: Kind, resource: Resource, which: Which, cursor: Cursor = None, limit: Limit = MAX_PAGE
) -> ImpactDocument:
    """Return everything that was built from this version, directly or through others, nearest first."""
    reference = _reference(kind, resource, which)
    impact = queries.impact(reference)
    page, following = _page("impact", reference, impact, cursor, limit)
    return ImpactDocument(
        items=[built_document(one) for one in page],
        next_cursor=following,
        num_built=len(impact),
        num_current=len(impact.current),
    )


def _reference(kind: str, resource: str, which: str) -> str:
    key = f"{kind}/{resource}"
    if which == _CURRENT:
        return key
    return f"{key}@{f'v{which}' if which.isascii() and which.isdigit() else which}"


def _page(of: str, reference: str, rows: Any, cursor: str | None, limit: int) -> tuple[Any, str | None]:
    return cut(rows, of=of, key=_place, cursor=cursor, limit=limit, asked={"version": reference})


def _place(one: BuiltVersion) -> list[Any]:
    return [one.depth, one.key, one.role, one.number]
