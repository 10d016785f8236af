"""Searches and their pages: lazily, a page at a time, with the metrics of its runs.

A page is one snapshot. It goes on behind the last run of the page before, whatever was added meanwhile.
"""

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import TYPE_CHECKING, Any
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from ...storage.database import Database
from ...storage.errors import InvalidInput
from ...storage.statement import Sql, Statement
from .candidates import few_runs
from .compiling import METRIC, Compiler, unknown_metrics
from .fields import DEPLOYMENT, RUN, VERSION
from .found import SHOWN, FoundRun, html_of, table_of
from .grammar import Condition, parse, parse_order
from .matching import without_index
from .ordering import NEWEST_FIRST, Place, Sort, cursor_of, place_of, sort_of

if TYPE_CHECKING:
    import pandas as pd

LARGEST_PAGE = 500
_PAGE = 50

_ROWS = Statement(
    lambda sql: (
        sa.select(RUN, DEPLOYMENT.c.key.label("deployment_key"), VERSION.c.number.label("version_number"))
        .select_from(RUN)
        .join(DEPLOYMENT, DEPLOYMENT.c.id == RUN.c.deployment_id)
        .outerjoin(VERSION, VERSION.c.id == RUN.c.version_id)
        .where(sql.among(RUN.c.id, "ids"))
    )
)


_METRICS = Statement(
    lambda sql: (
        sa.select(METRIC.c.run_id, METRIC.c.name, METRIC.c.value)
        .where(sql.among(METRIC.c.run_id, "ids"))
        .order_by(METRIC.c.run_id, METRIC.c.name)
    )
)


@dataclass(frozen=True, slots=True)
class Page:
    """Some of the runs of a search, in its order."""

    items: list[FoundRun]
    next_cursor: str | None
    """What gives the next page; None when this was the last one."""


class Search:
    """The runs that a search finds; nothing is read before they are asked for."""

    def __init__(
        self,
        searches: "Searches",
        query: str,
        order_by: str,
        *,
        limit: int | None,
        metrics: frozenset[str] | None,
    ) -> None:
        self.query = query
        self.order_by = order_by
        self.limit = limit
        self._searches = searches
        self._condition: Condition | None = parse(query)
        self._metrics = metrics
        parse_order(order_by)  # what cannot be read is refused at once

    def page(self, cursor: str | None = None, *, size: int = _PAGE) -> Page:
        """Return the first page, or the one that a cursor names.

        Raises:
            SearchError: the search names what is not there, or compares what cannot be compared.
            InvalidInput: the cursor is none of this search, or the size is not between 1 and 500.
        """
        if not 1 <= size <= LARGEST_PAGE:
            raise InvalidInput(f"a page of {size:,} runs: give a size from 1 to {LARGEST_PAGE}")
        database = self._searches.database
        with database.read() as connection:
            sort = sort_of(connection, self.order_by)
            place = place_of(cursor, sort, self._name) if cursor is not None else None
            now = place.now if place is not None else database.now(connection)
            num_before = place.num_before if place is not None else 0
            if self.limit is not None:
                size = min(size, self.limit - num_before)
            if size < 1:
                return Page([], None)
            found = self._ids(connection, sort, place, now, size + 1)
            items = self._read(connection, [run_id for run_id, _, _ in found[:size]])
        if len(found) <= size or num_before + size == self.limit:
            return Page(items, None)
        run_id, value, has_value = found[size - 1]
        last = Place(now, num_before + size, has_value, value, run_id)
        return Page(items, cursor_of(last, sort, self._name))

    def count(self) -> int:
        """Return how many runs there are now, `limit` or not; they are counted one by one.

        Raises:
            SearchError: as `page` does.
        """
        database = self._searches.database
        with database.read() as connection:
            query = sa.select(sa.func.count()).select_from(RUN)
            compiler = self._compiler(connection, database.now(connection))
            counted: int = connection.execute(self._within(query, compiler)).scalar_one()
            return counted

    def unknown_metrics(self) -> dict[str, tuple[str, ...]]:
        """Return which of the `metrics` that were asked for no run has, each with the names that come nearest."""
        with self._searches.database.read() as connection:
            return unknown_metrics(connection, sorted(self._metrics or ()))

    def __iter__(self) -> Iterator[FoundRun]:
        cursor = None
        while True:
            page = self.page(cursor, size=LARGEST_PAGE)
            yield from page.items
            cursor = page.next_cursor
            if cursor is None:
                return

    def to_pandas(self) -> "pd.DataFrame":
        """Return all of the runs as a table, read page by page.

        n rows in the order of the search; columns run, deployment, status and what else tells a run, `duration_s`, then
        `parameters.<name>` and `metrics.<name>`, sorted: NaN where a run has none.
        """
        return table_of(self)

    def _repr_html_(self) -> str:
        page = self.page(size=SHOWN)
        said = f"runs where {self.query}" if self.query else "runs"
        return html_of(page.items, f"{said}, by {self.order_by}", has_more=page.next_cursor is not None)

    @property
    def _name(self) -> str:
        return f"{self._searches.tenant_id}\n{self.order_by}\n{self.query}"

    def _compiler(self, connection: Connection, now: datetime, **options: Any) -> Compiler:
        return Compiler(connection, self.query, now, self._searches.tenant_id, **options)

    def _within(self, query: sa.Select[Any], compiler: Compiler) -> sa.Select[Any]:
        is_sqlite = compiler.connection.dialect.name == "sqlite"
        tenant = without_index(RUN.c.tenant_id) if is_sqlite else RUN.c.tenant_id
        query = query.where(tenant == self._searches.tenant_id, RUN.c.deleted_at.is_(None))
        return query if self._condition is None else query.where(compiler.condition(self._condition))

    def _ids(
        self, connection: Connection, sort: Sort, place: Place | None, now: datetime, count: int
    ) -> list[tuple[UUID, Any, bool]]:
        """Return (id, value, has a value) of the runs behind a place."""
        found: list[tuple[UUID, Any, bool]] = []
        parts = [True, False] if sort.value is not None and sort.may_be_missing else [True]
        if place is not None and not place.has_value:
            parts.remove(True)
        few: list[UUID] | None = None
        for with_value in parts:
            options = {"sorted_metric": sort.sorted_metric(with_value=with_value), "is_by_id": sort.value is None}
            compiler = self._compiler(connection, now, **options)
            if few is None and self._condition is not None:
                few = few_runs(compiler, self._condition)
                if few is not None:
                    sort = sort.of_few(connection.dialect.name)
                    compiler = replace(compiler, sorted_metric=sort.sorted_metric(with_value=with_value))
            query = self._within(sort.runs(with_value=with_value), compiler)
            if isinstance(query.whereclause, sa.False_):
                continue  # such as the runs without a metric that is asked for
            if few is not None:
                query = query.where(Sql(connection.dialect).among(sort.id if with_value else RUN.c.id, "few"))
            after = place if place is not None and place.has_value is with_value else None
            query = sort.in_order(query, with_value=with_value, after=after).limit(count - len(found))
            rows = connection.execute(query, {} if few is None else {"few": few})
            found += [(row.id, row.value, with_value) for row in rows]
            if len(found) == count:
                break
        return found

    def _read(self, connection: Connection, ids: Sequence[UUID]) -> list[FoundRun]:
        if not ids:
            return []
        asked = _ROWS.ask(connection, ids=ids)
        values: dict[UUID, dict[str, float]] = {run_id: {} for run_id in ids}
        by_driver: dict[Any, dict[str, float]] = {**values, **{run_id.hex: values[run_id] for run_id in ids}}
        wanted = self._metrics
        for of_run, name, value in _METRICS.plain_rows(connection, ids=ids):
            if wanted is None or name in wanted:
                by_driver[of_run][name] = math.nan if value is None else value
        by_id = {row.id: row for row in asked.rows()}
        return [FoundRun.of(row, values[run_id]) for run_id in ids if (row := by_id.get(run_id)) is not None]


@dataclass(frozen=True)
class Searches:
    """Searches through the runs of one store."""

    database: Database
    tenant_id: str = "default"

    def search(
        self,
        query: str | None = None,
        *,
        order_by: str | None = None,
        limit: int | None = None,
        metrics: Iterable[str] | None = None,
    ) -> Search:
        """Return the runs for which a query holds; deleted ones never.

        `order_by` is a field or metric, with `-` before it for the largest first; without it the newest come first.
        `metrics` are those that come with each run; without it all of them.

        Raises:
            SearchError: the query cannot be read; the message says where, and what was expected there.
            InvalidInput: the limit is below 1.
        """
        if limit is not None and limit < 1:
            raise InvalidInput(f"limit={limit}: give at least 1, or none for all")
        wanted = frozenset([metrics] if isinstance(metrics, str) else metrics) if metrics is not None else None
        return Search(self, query or "", order_by or NEWEST_FIRST, limit=limit, metrics=wanted)
