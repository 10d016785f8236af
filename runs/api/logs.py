"""Routes of what a run leaves while it lives: events, steps, messages, usage, metrics and their series."""

from typing import Annotated, Any

import numpy as np
from fastapi import Query

from ...storage.ids import show_run_id
from .. import contents, steps, store
from ..care import acts
from ..points.reading import SeriesReader
from .context import MAX_INTEGER, Cursor, Limit, Opened, RunId
from .documents import (
    EventDocument,
    ListPage,
    MessageDocument,
    MetricDocument,
    MetricsDocument,
    SeriesDocument,
    SeriesList,
    StepDocument,
    UsageDocument,
    seconds,
)
from .pages import behind, cut, numbered, only_one
from .policies import Routes, read
from .runs import usage_document

routes = Routes(tags=["runs"])

_MOST_POINTS = 10_000
_MOST_NAMES = 500
"""In an answer."""

After = Annotated[
    int | None, Query(ge=0, le=MAX_INTEGER, description="Only those with a number above; instead of `cursor`.")
]


@routes.get("/runs/{run_id}/events", summary="Read a run's log")
@read
def get_events(
    *, freshline: Opened, run_id: RunId, after: After = None, cursor: Cursor = None, limit: Limit = 100
) -> ListPage[EventDocument]:
    """Return the entries of the log, oldest first; their numbers have no gaps."""
    only_one(after, cursor, "after and cursor")
    with freshline.database.read() as connection:
        run = acts.readable_run(connection, run_id, tenant_id=freshline.settings.tenant_id)
        asked = {"run": show_run_id(run.id)}
        begin = behind(cursor, of="events", asked=asked) or after or 0
        rows = store.events_of(connection, run.id, after=begin, limit=limit + 1)
    page, following = numbered(rows, of="events", asked=asked, limit=limit, number=lambda row: row.seq)
    return ListPage(items=[event_document(row) for row in page], next_cursor=following)


@routes.get("/runs/{run_id}/messages", summary="Read a run's messages")
@read
def get_messages(
    *, freshline: Opened, run_id: RunId, after: After = None, cursor: Cursor = None, limit: Limit = 100
) -> ListPage[MessageDocument]:
    """Return the messages of a run whose flow talks, oldest first."""
    only_one(after, cursor, "after and cursor")
    with freshline.database.read() as connection:
        run = acts.readable_run(connection, run_id, tenant_id=freshline.settings.tenant_id)
        asked = {"run": show_run_id(run.id)}
        begin = behind(cursor, of="messages", asked=asked) or after or 0
        rows = contents.messages_of(connection, run.id, after=begin, limit=limit + 1)
    page, following = numbered(rows, of="messages", asked=asked, limit=limit, number=lambda row: row.number)
    items = [MessageDocument(number=row.number, role=row.role, content=row.content, at=row.at) for row in page]
    return ListPage(items=items, next_cursor=following)


@routes.get("/runs/{run_id}/steps", summary="Read a run's steps")
@read
def get_steps(freshline: Opened, run_id: RunId, cursor: Cursor = None, limit: Limit = 500) -> ListPage[StepDocument]:
    """Return Prefect's task runs in the order in which they started; those that have not started come last."""
    with freshline.database.read() as connection:
        run = acts.readable_run(connection, run_id, tenant_id=freshline.settings.tenant_id)
        rows = sorted(steps.steps_of(connection, [run.id]), key=_place_of_step)
    asked = {"run": show_run_id(run.id)}
    page, following = cut(rows, of="steps", key=_place_of_step, cursor=cursor, limit=limit, asked=asked)
    return ListPage(items=[_step_document(row) for row in page], next_cursor=following)


@routes.get("/runs/{run_id}/usage", summary="Read what a run used")
@read
def get_usage(freshline: Opened, run_id: RunId) -> UsageDocument:
    """Return what its steps and counters add up to."""
    with freshline.database.read() as connection:
        run = acts.readable_run(connection, run_id, tenant_id=freshline.settings.tenant_id)
        return usage_document(steps.usage_of(connection, run.id))


@routes.get("/runs/{run_id}/metrics", summary="Read a run's metrics")
@read
def get_metrics(freshline: Opened, run_id: RunId) -> MetricsDocument:
    """Return the latest value of each metric, by name, with its unit."""
    found = _series(freshline).metrics(run_id)
    items = [
        MetricDocument(name=one.name, value=one.value, unit=one.unit, convention=one.convention, at=one.at)
        for one in found.latest
    ]
    return MetricsDocument(items=items, num_points=found.num_points)


@routes.get("/runs/{run_id}/series", summary="Read a run's metrics over time")
@read
def get_series(
    *,
    freshline: Opened,
    run_id: RunId,
    names: Annotated[
        list[Annotated[str, Query(max_length=2000)]] | None,
        Query(max_length=20, description="Only these, separated by commas, or given several times."),
    ] = None,
    max_points: Annotated[
        int, Query(ge=2, le=_MOST_POINTS, description="Points of each series; its extremes stay among them.")
    ] = 1000,
) -> SeriesList:
    """Return what was logged until now, also while the run lives; the first 500 names."""
    wanted = [name.strip() for text in names or () for name in text.split(",") if name.strip()]
    table = _series(freshline).series(run_id, wanted or None)
    encoded = table["name"].combine_chunks().dictionary_encode()
    known, codes = encoded.dictionary.to_pylist(), np.asarray(encoded.indices)
    values = table["value"].to_numpy()
    logged, numbers = table["step"], table["at"]
    items = []
    for place, name in sorted(enumerate(known), key=lambda one: str(one[1]))[:_MOST_NAMES]:
        rows = np.flatnonzero(codes == place)
        kept = rows[_thinned(values[rows], max_points)]
        items.append(
            SeriesDocument(
                name=name,
                steps=logged.take(kept).to_pylist(),
                values=values[kept].tolist(),
                at=numbers.take(kept).to_pylist(),
                num_points=len(rows),
            )
        )
    return SeriesList(items=items)


def event_document(row: Any) -> EventDocument:
    """Return the answer about one entry of a log."""
    return EventDocument(seq=row.seq, kind=row.kind, at=row.at, actor=row.actor, payload=row.payload)


def _series(freshline: Opened) -> SeriesReader:
    return SeriesReader(freshline.database, freshline.objects, tenant_id=freshline.settings.tenant_id)


def _place_of_step(row: Any) -> list[Any]:
    started = row.started_at.isoformat(timespec="microseconds") if row.started_at is not None else ""
    return [row.started_at is None, started, str(row.task_run_id)]


def _step_document(row: Any) -> StepDocument:
    return StepDocument(
        task_run_id=row.task_run_id,
        name=row.name,
        status=row.status,
        attempt=row.attempt,
        started_at=row.started_at,
        ended_at=row.ended_at,
        duration_s=seconds(row.duration_ns),
        message=row.message,
        counters=row.counters,
    )


def _thinned(values: Any, most: int) -> Any:
    """Return the places of at most `most` points: of each stretch the smallest and the largest, as plots need them."""
    if len(values) <= most:
        return np.arange(len(values))
    # First and last are kept besides; NaN counts as neither small nor large.
    stretches = np.array_split(np.arange(len(values)), max(1, (most - 2) // 2))
    low, high = np.where(np.isnan(values), np.inf, values), np.where(np.isnan(values), -np.inf, values)
    chosen = {0, len(values) - 1} if most > 1 else {0}
    if most >= 4:
        for stretch in stretches:
            chosen.add(int(stretch[np.argmin(low[stretch])]))
            chosen.add(int(stretch[np.argmax(high[stretch])]))
    return np.array(sorted(chosen), dtype=np.int64)
