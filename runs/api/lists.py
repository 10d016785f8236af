"""Routes that list runs: what a search finds, and what is under way."""

import re
from datetime import UTC, datetime
from typing import Annotated, Any

from fastapi import Query, Response
from pydantic import AfterValidator, AwareDatetime, BeforeValidator, TypeAdapter

from ...lineage import references
from ...storage.errors import InvalidInput
from ..composition import Freshline
from ..details import TABLE_OF, run_type
from ..searching.errors import SearchError
from ..searching.found import FoundRun
from ..searching.searches import Searches
from ..status import ACTIVE, RunStatus
from .context import Cursor, Limit, Opened
from .documents import ListPage, RunSummary, summary_of
from .lanes import Quick
from .policies import Routes, read
from .problems import Code, Refusal

routes = Routes(tags=["runs"])

_PLACE = re.compile(r"at character \d+")
_TYPES = frozenset(run_type(kind) for kind in TABLE_OF)
_Runs = ListPage[RunSummary]
_RUNS = TypeAdapter(_Runs)


def _only_text(value: Any) -> Any:
    # Pydantic takes numbers for seconds since 1970.
    if isinstance(value, str) and not value.lstrip("+-").replace(".", "", 1).isdigit():
        return value
    raise ValueError("give a time with its zone, such as 2026-01-31T12:00:00Z")


def _in_utc(moment: datetime) -> datetime:
    try:
        return moment.astimezone(UTC)
    except OverflowError:
        raise ValueError("give a time whose year in UTC is from 1 to 9999") from None


Moment = Annotated[AwareDatetime, BeforeValidator(_only_text), AfterValidator(_in_utc)]

Searched = Annotated[
    str | None,
    Query(
        max_length=10_000,
        description="A search, such as `loss < 0.1 and status = completed`.",
        examples=["status = failed and created_at > -7d"],
    ),
]
OrderBy = Annotated[
    str | None,
    Query(
        max_length=500, description="A field or metric, `-` before it for the largest first.", examples=["-created_at"]
    ),
]
Metrics = Annotated[
    str | None,
    Query(max_length=10_000, description="The metrics that come with each run, separated by commas; all without it."),
]
Statuses = Annotated[
    str | None, Query(max_length=200, description="One status, or several separated by commas.", examples=["failed"])
]


@routes.get("/runs", summary="List runs", response_model=_Runs)
@read
async def get_runs(
    *,
    quick: Quick,
    freshline: Opened,
    query: Searched = None,
    order_by: OrderBy = None,
    metrics: Metrics = None,
    status: Statuses = None,
    deployment: Annotated[str | None, Query(max_length=600, description="Key of a deployment.")] = None,
    type: Annotated[str | None, Query(max_length=100, description="A run type.", examples=["BacktestRun"])] = None,
    after: Annotated[Moment | None, Query(description="Created at this moment or later.")] = None,
    before: Annotated[Moment | None, Query(description="Created before this moment.")] = None,
    cursor: Cursor = None,
    limit: Limit = 50,
) -> Response:
    """Return the runs that a search finds, newest first unless ordered otherwise; the filters narrow it further."""

    def found() -> _Runs:
        conditions = []
        if status is not None:
            conditions.append(_among("status", [_status(one.strip()) for one in status.split(",")]))
        if deployment is not None:
            _check_deployment(freshline, deployment)
            conditions.append(f"deployment = {_quoted(deployment)}")
        if type is not None:
            if type not in _TYPES:
                raise InvalidInput(f"type={type!r} is no run type; write one of {', '.join(sorted(_TYPES))}")
            conditions.append(f"type = {_quoted(type)}")
        for word, moment in ((">=", after), ("<", before)):
            if moment is not None:
                conditions.append(f"created_at {word} {_shown(moment)}")
        return _page(freshline, query, conditions, order_by=order_by, metrics=metrics, cursor=cursor, limit=limit)

    return await quick.answer(_RUNS, found)


@routes.get("/runs/active", summary="List the runs that are under way", response_model=_Runs)
@read
async def get_active(
    *,
    quick: Quick,
    freshline: Opened,
    background: Annotated[bool | None, Query(description="Whether nobody waits for it; both without it.")] = None,
    metrics: Metrics = None,
    cursor: Cursor = None,
    limit: Limit = 50,
) -> Response:
    """Return the runs that have not ended, newest first."""
    conditions = [_among("status", sorted(ACTIVE))]
    if background is not None:
        conditions.append(f"background = {'true' if background else 'false'}")

    def found() -> _Runs:
        return _page(freshline, None, conditions, order_by=None, metrics=metrics, cursor=cursor, limit=limit)

    return await quick.answer(_RUNS, found)


def _page(
    freshline: Freshline,
    query: str | None,
    conditions: list[str],
    *,
    order_by: str | None,
    metrics: str | None,
    cursor: str | None,
    limit: int,
) -> _Runs:
    searches = Searches(freshline.database, tenant_id=freshline.settings.tenant_id)
    wanted = None if metrics is None else [name.strip() for name in metrics.split(",") if name.strip()]
    said = query if query and query.strip() else ""
    is_wrapped = bool(said and conditions)
    narrowed = " and ".join([f"({said})" if is_wrapped else said] * bool(said) + conditions)
    try:
        searches.search(said, order_by=order_by)  # by itself, lest a bracket of its own ends ours
    except SearchError as error:
        raise _refusal(error, order_by) from None
    try:
        found = searches.search(narrowed, order_by=order_by, metrics=wanted).page(cursor, size=limit)
    except SearchError as error:
        raise _refusal(error, order_by, moved=is_wrapped) from None
    return _Runs(items=[found_document(one) for one in found.items], next_cursor=found.next_cursor)


def _refusal(error: SearchError, order_by: str | None, *, moved: bool = False) -> Refusal:
    """Return the problem of a search; the place is that in the text as it was written, without our bracket."""
    if order_by is not None and error.text == order_by:
        return Refusal(Code.INVALID_ARGUMENT, str(error), pointer="/query/order_by")
    detail = _PLACE.sub(f"at character {error.position}", str(error), count=1) if moved else str(error)
    return Refusal(Code.INVALID_ARGUMENT, detail, pointer="/query/query")


def found_document(one: FoundRun) -> RunSummary:
    """Return the answer about a run that was found."""
    return summary_of(one.facts, deployment=one.deployment, version=one.version, metrics=one.metrics)


def _status(word: str) -> str:
    try:
        return RunStatus(word)
    except ValueError:
        raise InvalidInput(f"status={word!r} is none; write one of {', '.join(RunStatus)}") from None


def _check_deployment(freshline: Freshline, key: str) -> None:
    with freshline.database.read() as connection:
        references.deployment_of(connection, key, tenant_id=freshline.settings.tenant_id)


def _among(field: str, words: list[str]) -> str:
    return f"{field} in ({', '.join(map(_quoted, words))})"


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


def _shown(moment: datetime) -> str:
    return moment.isoformat(timespec="microseconds").replace("+00:00", "Z")
