"""The order of a search, and the place in it from which a page goes on.

Runs with a value come first, in its order; then those without one, in the order of their ids. Ties go by the id, in the
same direction. Each part is a range of an index, and a place in it stays where it is when runs are added.
"""

import base64
import hashlib
import json
import math
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime
from typing import Any
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from ...storage.errors import InvalidInput
from .compiling import METRIC, SortedMetric, field_named, metric_named
from .errors import SearchError
from .fields import RUN, Kind
from .grammar import parse_order
from .matching import found_beside, in_code_points, without_index

NEWEST_FIRST = "-id"

_SORTED = METRIC.alias("sorted")
"""The metric that runs are ordered by; the conditions ask for others."""


@dataclass(frozen=True)
class Sort:
    """What runs are ordered by."""

    id: Any
    """The column of their id, of the table that the order is read from."""
    value: Any
    """The column of the value; None when they are ordered by their ids alone."""
    kind: Kind
    is_descending: bool
    may_be_missing: bool
    metric: str | None = None
    beside: Any = None
    on: Any = None

    def runs(self, *, with_value: bool) -> sa.Select[Any]:
        """Return the ids, as `id`, and values, as `value`, of all runs with a value or of all without."""
        value = sa.null() if self.value is None or not with_value else self.value
        query = sa.select(self.id.label("id"), value.label("value"))
        if self.metric is not None:
            is_it = sa.and_(_SORTED.c.run_id == RUN.c.id, _SORTED.c.name == self.metric, _SORTED.c.value.is_not(None))
            if with_value:
                return query.select_from(_SORTED).join(RUN, is_it)
            others = sa.select(RUN.c.id.label("id"), value.label("value"))
            return others.where(sa.not_(found_beside(sa.select(_SORTED.c.name).where(is_it))))
        query = query.select_from(RUN)
        if self.beside is not None:
            query = query.join(self.beside, self.on, isouter=self.may_be_missing)
        if self.may_be_missing:
            query = query.where(self.value.is_not(None) if with_value else self.value.is_(None))
        return query

    def of_few(self, dialect: str) -> "Sort":
        """Return the same order for few runs that are known: they are looked up, and sorted."""
        return self if self.value is None or dialect != "sqlite" else replace(self, value=without_index(self.value))

    def in_order(self, query: sa.Select[Any], *, with_value: bool, after: "Place | None") -> sa.Select[Any]:
        """Return the query in this order, from behind a place on."""
        run_id = self.id if with_value else RUN.c.id
        columns = [run_id] if self.value is None or not with_value else [self.value, run_id]
        if after is not None:
            behind = [sa.literal(after.run_id, RUN.c.id.type)]
            if len(columns) > 1:
                behind.insert(0, sa.literal(after.value, self._type))
            # One column is compared as it is: a row of one is written as no row.
            at, to = (columns[0], behind[0]) if len(columns) == 1 else (sa.tuple_(*columns), sa.tuple_(*behind))
            query = query.where(at < to if self.is_descending else at > to)
        return query.order_by(*(column.desc() if self.is_descending else column.asc() for column in columns))

    def sorted_metric(self, *, with_value: bool) -> SortedMetric | None:
        """Return what the conditions can read of the metric that the runs are ordered by."""
        return None if self.metric is None else SortedMetric(self.metric, self.value if with_value else None)

    @property
    def _type(self) -> Any:
        return sa.Text() if self.kind == Kind.TEXT else self.value.type

    def written(self, value: Any) -> Any:
        """Return a value as JSON holds it."""
        if isinstance(value, datetime | date):
            return value.isoformat()
        if isinstance(value, float) and math.isinf(value):
            return str(value)
        return value.hex if isinstance(value, UUID) else value

    def read(self, written: Any) -> Any:  # noqa: PLR0911 - one line per kind
        """Return a value that was written so; raises ValueError or TypeError for anything else."""
        match self.kind:
            case Kind.TIME:
                moment = datetime.fromisoformat(written)
                if moment.tzinfo is None:
                    raise ValueError("a time without its zone")
                return moment.astimezone(UTC)
            case Kind.DATE:
                return date.fromisoformat(written)
            case Kind.ID:
                return UUID(hex=written)
            case Kind.NUMBER:
                return _whole(written, 31) if isinstance(self.value.type, sa.Integer) else _number(written)
            case Kind.DURATION:
                return _whole(written, 63)
            case Kind.FLAG:
                return _flag(written)
            case _:
                if not isinstance(written, str) or "\0" in written:
                    raise TypeError("no text")
                written.encode()  # half a surrogate pair is in no database
                return written


def sort_of(connection: Connection, order_by: str) -> Sort:
    """Return what `-sharpe_ratio` orders by.

    Raises:
        SearchError: there is no such field or metric, or it has no order.
    """
    order = parse_order(order_by)
    metric = metric_named(connection, order.name, order_by)
    if metric is not None:
        value = _SORTED.c.value
        return Sort(_SORTED.c.run_id, value, Kind.NUMBER, order.is_descending, may_be_missing=True, metric=metric)
    found = field_named(order.name, order_by)
    if not found.is_sortable or len(order.name.parts) > 1:
        raise SearchError(f"runs cannot be ordered by {order.name!s}", order_by, order.name.at)
    if found.name == "id":
        return Sort(RUN.c.id, None, Kind.ID, order.is_descending, may_be_missing=False)
    is_text = found.kind in (Kind.TEXT, Kind.WORD)
    column = in_code_points(connection.dialect.name, found.column) if is_text else found.column
    kind = Kind.TEXT if is_text else found.kind
    missing = found.may_be_missing
    return Sort(RUN.c.id, column, kind, order.is_descending, missing, beside=found.beside, on=found.on)


@dataclass(frozen=True)
class Place:
    """Where a page ended."""

    now: datetime
    """When the first page was asked for: `-7d` means the same on all of them."""
    num_before: int
    """How many runs were given until there."""
    has_value: bool
    """The last of them is one with a value of what they are ordered by."""
    value: Any
    run_id: UUID


def cursor_of(place: Place, sort: Sort, search: str) -> str:
    """Return a place as text that means nothing to anybody else."""
    written = [
        _fingerprint(search),
        place.now.isoformat(),
        place.num_before,
        place.has_value,
        sort.written(place.value),
        place.run_id.hex,
    ]
    return base64.urlsafe_b64encode(json.dumps(written, separators=(",", ":")).encode()).decode().rstrip("=")


def place_of(cursor: str, sort: Sort, search: str) -> Place:
    """Return the place that a cursor of the same search names.

    Raises:
        InvalidInput: it is no cursor, or one of another search.
    """
    try:
        read = json.loads(base64.urlsafe_b64decode(cursor.encode("ascii") + b"=" * (-len(cursor) % 4)))
        fingerprint, now, num_before, has_value, value, run_id = read
        moment = datetime.fromisoformat(now)
        is_whole = isinstance(num_before, int) and moment.tzinfo is not None and isinstance(has_value, bool)
        moment = moment.astimezone(UTC)  # OverflowError: its year in UTC is not between 1 and 9999
        if not is_whole or not 0 <= num_before < 1 << 53:
            raise ValueError("parts of another type")
        found = sort.read(value) if has_value and sort.value is not None else None
        place = Place(moment, num_before, has_value, found, UUID(hex=run_id))
    except (ValueError, TypeError, AttributeError, RecursionError, OverflowError):
        raise InvalidInput(
            f"{cursor[:40]!r} is no cursor: give what came as next_cursor with the page before"
        ) from None
    if fingerprint != _fingerprint(search):
        raise InvalidInput("the cursor is one of another search: ask for the first page without one")
    return place


def _fingerprint(search: str) -> str:
    return hashlib.sha256(search.encode()).hexdigest()[:16]


def _whole(written: Any, bits: int) -> int:
    if not isinstance(written, int) or abs(written) >= 1 << bits:
        raise ValueError("no whole number that the column holds")
    return written


def _flag(written: Any) -> bool:
    if not isinstance(written, bool):
        raise TypeError("neither true nor false")
    return written


def _number(written: Any) -> float | int:
    if isinstance(written, bool) or not isinstance(written, int | float | str):
        raise TypeError("no number")
    if isinstance(written, float) and math.isnan(written):
        raise ValueError("no number")
    if isinstance(written, str) and written not in ("inf", "-inf"):
        raise ValueError("no number")
    return float(written) if not isinstance(written, int) or abs(written) >= 1 << 63 else written
