"""From what was written to a condition on runs, as a bound expression of SQLAlchemy.

Every comparison is true or false, never unknown: one with a value that is not there is false, `!=` as well, and `not`
turns that round. A name that is no field is one of a metric, and has to be that of one somewhere: `metrics.` before it
says that it may be new.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from ...lineage import references
from ...storage.errors import InvalidInput, NotFound, nearest_names
from ...storage.statement import Statement, one_of
from ..models import Metric, RunInput
from ..status import ACTIVE, ENDED_BADLY
from .errors import SearchError
from .fields import (
    DEPLOYMENT,
    FIELDS,
    METRIC_OPERATORS,
    METRICS,
    OPERATORS,
    RESOURCE,
    RUN,
    WITH_PATHS,
    Field,
    Kind,
)
from .grammar import Comparison, Condition, Form, Name, Not, Operator, Value
from .matching import Clause, compared, compared_text, found_beside, json_holds, without_index
from .values import Values

METRIC = Metric.__table__  # type: ignore[attr-defined]
INPUT = RunInput.__table__  # type: ignore[attr-defined]

_ONE: sa.ColumnElement[int] = sa.literal_column("1")
_MOST_NAMES = 1_000
_EQUATING = (Operator.EQUAL, Operator.IN)
_NAMING = (*_EQUATING, Operator.UNEQUAL)
_RANGING = (*_EQUATING, Operator.LESS, Operator.AT_MOST, Operator.MORE, Operator.AT_LEAST)
_INDEXED = {
    **dict.fromkeys(("created_at", "started_at", "ended_at"), _RANGING),
    **dict.fromkeys(("id", "parent", "replay_of"), _EQUATING),
    "outputs": (Operator.HAS,),
}
"""Field -> what an index finds of it."""
_HAS_METRIC = Statement(lambda _: sa.select(_ONE).where(METRIC.c.name == sa.bindparam("wanted")).limit(1))


@dataclass(frozen=True)
class SortedMetric:
    """A metric that the query reads from a joined row anyway, or one that its runs do not have."""

    name: str
    value: Any
    """The column; None where the runs have no value of it."""


@dataclass(frozen=True)
class Compiler:
    """Compiles the conditions of one search."""

    connection: Connection
    text: str
    now: datetime
    tenant_id: str
    sorted_metric: SortedMetric | None = None
    is_by_id: bool = False
    """The runs are read in the order of their ids: the indexes that have it as well may be used."""
    hides_indexes: bool = True
    """SQLite keeps no account of values, and takes any index to be selective: it is to read in order."""
    _values: Values = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_values", Values(self.text, self.now))

    def condition(self, condition: Condition) -> Clause:
        """Return the condition.

        Raises:
            SearchError: it names what is not there, or compares what cannot be compared.
        """
        if isinstance(condition, Comparison):
            return self._comparison(condition)
        if isinstance(condition, Not):
            return sa.not_(sa.func.coalesce(self.condition(condition.item), sa.false()))
        parts = [self.condition(item) for item in condition.items]
        return sa.and_(*parts) if condition.is_all else sa.or_(*parts)

    def rows(self, comparison: Comparison) -> tuple[Any, Sequence[Clause]] | None:
        """Return where an index finds the runs of a comparison, and perhaps more: a column of ids, and the conditions.

        None when no index does, or when the order of the runs follows from it.
        """
        metric = metric_named(self.connection, comparison.name, self.text)
        operator = comparison.operator
        if metric is not None:
            is_at_hand = self.sorted_metric is not None and self.sorted_metric.name == metric
            is_found = not is_at_hand and operator in (*_RANGING, Operator.IS_NAN)
            return (METRIC.c.run_id, self._metric_is(metric, comparison)) if is_found else None
        name = comparison.name.parts[0]
        if len(comparison.name.parts) > 1:
            return None
        if name == "inputs" and operator == Operator.HAS:
            _, version = self._referred(FIELDS[name], comparison)
            return None if version is None else (INPUT.c.run_id, [INPUT.c.version_id == version.id])
        if name == "status" and operator in _EQUATING:
            words = {self._values.of(FIELDS[name], value) for value in comparison.values}
            is_found = words <= ACTIVE or (words <= ENDED_BADLY and not self.is_by_id)
        elif name in ("deployment", "resource"):
            is_found = operator in _EQUATING and not self.is_by_id
        else:
            is_found = operator in _INDEXED.get(name, ())
        seen = replace(self, hides_indexes=False)
        return (RUN.c.id, [seen.condition(comparison)]) if is_found else None

    def _comparison(self, comparison: Comparison) -> Clause:
        metric = metric_named(self.connection, comparison.name, self.text)
        if metric is not None:
            return self._metric(metric, comparison)
        found = field_named(comparison.name, self.text)
        self._check_null(comparison)
        path = comparison.name.parts[1:]
        if path:
            return self._label(path, comparison) if found.kind == Kind.TAGS else self._json(found, path, comparison)
        self._check_operator(found.name, comparison, OPERATORS[found.kind])
        if found.kind == Kind.JSON:
            raise self._refused(f"{found.name} holds several values: write {found.name}.<name>", comparison)
        if found.kind == Kind.TAGS:
            return self._has_label(self._values.said(found.name, comparison.values[0]))
        return self._versions(found, comparison) if found.kind == Kind.VERSIONS else self._field(found, comparison)

    def _field(self, found: Field, comparison: Comparison) -> Clause:
        if found.name in ("deployment", "resource") and comparison.operator in _NAMING:
            return self._named(found, comparison)
        plain = self._plain(found, comparison)
        if found.beside is None or comparison.operator == Operator.IS_NULL:
            return plain
        return found_beside(sa.select(_ONE).select_from(found.beside).where(found.on, plain))

    def _plain(self, found: Field, comparison: Comparison) -> Clause:
        operator = comparison.operator
        if operator == Operator.IS_NULL:
            return self._is_missing(found)
        values = [self._values.of(found, value) for value in comparison.values]
        if found.kind == Kind.TEXT:
            return compared_text(self._dialect, found.column, operator, values)
        # A number may be written larger than the column's type holds.
        type_ = sa.Float() if found.kind == Kind.NUMBER else found.column.type
        column = found.column if found.beside is not None else self._column(found.column)
        clause = compared(column, operator, values, type_)
        if found.name == "status" and operator in _EQUATING:
            # Indexes are on these.
            if ACTIVE.issuperset(values):
                return sa.and_(clause, RUN.c.ended_at.is_(None))
            if ENDED_BADLY.issuperset(values):
                column = self._column(RUN.c.status, is_in_order=True)
                return sa.and_(compared(column, operator, values, type_), one_of(RUN.c.status, ENDED_BADLY))
        return clause

    def _column(self, column: Any, *, is_in_order: bool = False) -> Any:
        """Return a column, without its index where reading in order is better than by it.

        `is_in_order`: for one value of it, the index has the runs in the order of their ids.
        """
        if not self.hides_indexes or self._dialect != "sqlite" or (is_in_order and self.is_by_id):
            return column
        return without_index(column)

    def _is_missing(self, found: Field) -> Clause:
        column: sa.ColumnElement[Any] = RUN.c.version_id if found.name == "version" else found.column
        # A run without its deployment there is not; their table is not among those that are read.
        return sa.false() if found.beside is not None and found.name != "version" else column.is_(None)

    def _metric(self, metric: str, comparison: Comparison) -> Clause:
        operator = comparison.operator
        self._check_operator(metric, comparison, METRIC_OPERATORS)
        values = [self._values.number(metric, value) for value in comparison.values]
        at_hand = self.sorted_metric
        if at_hand is not None and at_hand.name == metric and operator != Operator.IS_NAN:
            if at_hand.value is None:
                return sa.true() if operator == Operator.IS_NULL else sa.false()
            return sa.false() if operator == Operator.IS_NULL else compared(at_hand.value, operator, values, sa.Float())
        # Looked up run by run, never gathered for all runs before: most searches end with a page.
        of_run = sa.select().where(METRIC.c.run_id == RUN.c.id, METRIC.c.name == metric).correlate(RUN)
        if operator == Operator.IS_NULL:
            return of_run.add_columns(METRIC.c.value).scalar_subquery().is_(None)
        is_nan = operator == Operator.IS_NAN
        holds = METRIC.c.value.is_(None) if is_nan else compared(METRIC.c.value, operator, values, sa.Float())
        return sa.func.coalesce(of_run.add_columns(holds).scalar_subquery(), sa.false())

    def _metric_is(self, metric: str, comparison: Comparison) -> list[Clause]:
        if comparison.operator == Operator.IS_NAN:
            return [METRIC.c.name == metric, METRIC.c.value.is_(None)]
        values = [self._values.number(metric, value) for value in comparison.values]
        return [METRIC.c.name == metric, compared(METRIC.c.value, comparison.operator, values, sa.Float())]

    def _json(self, found: Field, path: tuple[str, ...], comparison: Comparison) -> Clause:
        self._check_operator(str(comparison.name), comparison, OPERATORS[Kind.JSON])
        values = [self._values.plain(str(comparison.name), value) for value in comparison.values]
        first = values[0] if values else None
        if comparison.operator in (Operator.LIKE, Operator.CONTAINS) and not isinstance(first, str):
            raise self._refused(f"{comparison.operator} looks into text: write it in quotes", comparison.values[0])
        if isinstance(first, bool) and comparison.operator not in (*_NAMING, Operator.HAS):
            raise self._refused("true and false have no order", comparison.values[0])
        return json_holds(self._dialect, found.column, path, comparison.operator, values)

    def _label(self, path: tuple[str, ...], comparison: Comparison) -> Clause:
        """Return the condition on a label that is written `name=value` or `name:value`."""
        if len(path) > 1 or comparison.operator not in (Operator.EQUAL, Operator.IN):
            raise self._refused("write tags.<name> = 'value', for a label name=value or name:value", comparison)
        labels = [f"{path[0]}{sign}{value.text}" for value in comparison.values for sign in ("=", ":")]
        return self._has_label(*labels)

    def _has_label(self, *labels: str) -> Clause:
        return json_holds(self._dialect, RUN.c.tags, (), Operator.HAS, labels)

    def _named(self, found: Field, comparison: Comparison) -> Clause:
        """Return the condition on deployments that are named: they are looked up, so that a typing error shows."""
        column: sa.ColumnElement[Any] = self._column(RUN.c.deployment_id, is_in_order=True)
        ids = [one for value in comparison.values for one in self._deployments(found, value)]
        if comparison.operator == Operator.UNEQUAL:
            return column.not_in(ids)
        return column == ids[0] if len(ids) == 1 else column.in_(ids)

    def _deployments(self, found: Field, value: Value) -> list[Any]:
        name = self._values.said(found.name, value)
        source = DEPLOYMENT.join(RESOURCE, RESOURCE.c.id == DEPLOYMENT.c.resource_id)
        query = sa.select(DEPLOYMENT.c.id).select_from(source).where(DEPLOYMENT.c.tenant_id == self.tenant_id)
        ids = list(self.connection.execute(query.where(found.column == name)).scalars())
        if not ids:
            known = sa.select(found.column).select_from(source).where(DEPLOYMENT.c.tenant_id == self.tenant_id)
            raise self._unknown(NotFound(found.name, name, known=set(self.connection.execute(known).scalars())), value)
        return ids

    def _versions(self, found: Field, comparison: Comparison) -> Clause:
        deployment_id, version = self._referred(found, comparison)
        if found.name == "outputs":
            if version is not None:
                publishes: Clause = RUN.c.id == sa.literal(version.run_id, RUN.c.id.type)
                return publishes
            column = self._column(RUN.c.deployment_id, is_in_order=True)
            return sa.and_(column == sa.literal(deployment_id, column.type), RUN.c.version_id.is_not(None))
        upstream, read = self._column(INPUT.c.upstream_id), self._column(INPUT.c.version_id)
        is_it = upstream == deployment_id if version is None else read == version.id
        # As `inputs` says: what the body read of a run that published, else what is pinned or read until now.
        is_read = sa.or_(INPUT.c.read, RUN.c.version_id.is_(None))
        return _beside_run(INPUT.c.run_id, is_it, is_read)

    def _referred(self, found: Field, comparison: Comparison) -> tuple[UUID, Any | None]:
        """Return the deployment that a reference names, and the row of its version if it names one."""
        (value,) = comparison.values
        reference = self._values.said(found.name, value)
        try:
            parsed = references.parse(reference)
            deployment_id = references.deployment_of(self.connection, parsed.key, tenant_id=self.tenant_id)
            if parsed.is_current:
                return deployment_id, None
            return deployment_id, references.resolve(self.connection, reference, tenant_id=self.tenant_id)
        except (InvalidInput, NotFound) as error:
            raise self._unknown(error, value) from None

    @property
    def _dialect(self) -> str:
        return self.connection.dialect.name

    def _check_operator(self, name: str, comparison: Comparison, allowed: Iterable[Operator]) -> None:
        if comparison.operator not in allowed:
            listed = ", ".join(one for one in Operator if one in allowed)
            raise self._refused(f"{name} cannot be compared with {comparison.operator!s}; with {listed}", comparison)

    def _check_null(self, comparison: Comparison) -> None:
        """Let pass a comparison without the bare word null, which everywhere else means that there is nothing."""
        for value in comparison.values:
            if value.form == Form.WORD and value.text.lower() == "null":
                instead = "is not null" if comparison.operator == Operator.UNEQUAL else "is null"
                hint = f"write {comparison.name!s} {instead}, or 'null' in quotes where that is the text"
                raise self._refused(f"null is no value: {hint}", value)

    def _refused(self, message: str, place: Comparison | Value) -> SearchError:
        return SearchError(message, self.text, place.name.at if isinstance(place, Comparison) else place.at)

    def _unknown(self, error: Exception, value: Value) -> SearchError:
        return SearchError(str(error).rstrip("."), self.text, value.at)


def field_named(name: Name, text: str) -> Field:
    """Return the field that is named.

    Raises:
        SearchError: it has a path where none belongs.
    """
    found = FIELDS[name.parts[0]]
    if len(name.parts) > 1 and found.name not in WITH_PATHS and found.kind != Kind.TAGS:
        raise SearchError(f"{found.name} has no {name.parts[1]!r}: it is {found.kind}", text, name.at)
    return found


def metric_named(connection: Connection, name: Name, text: str) -> str | None:
    """Return the metric that is named; None when it is a field.

    Raises:
        SearchError: it is no field, and no run has such a metric.
    """
    first = name.parts[0]
    if not name.is_quoted and first in FIELDS:
        return None
    if not name.is_quoted and first == METRICS:
        if len(name.parts) == 1:
            raise SearchError("write metrics.<name>, a name with other signs in double quotes", text, name.at)
        return ".".join(name.parts[1:])
    metric = str(name)
    if _HAS_METRIC.first(connection, wanted=metric) is None:
        known = [*FIELDS, *metric_names(connection)]
        raise SearchError(
            f"there is no field {metric[:80]!r}, and no run has such a metric", text, name.at, known=known
        )
    return metric


def unknown_metrics(connection: Connection, names: Iterable[str]) -> dict[str, tuple[str, ...]]:
    """Return the names that no run has a metric of, each with the metrics that come nearest."""
    unknown = [name for name in names if _HAS_METRIC.first(connection, wanted=name) is None]
    known = metric_names(connection) if unknown else []
    return {name: nearest_names(name, known) for name in unknown}


def metric_names(connection: Connection) -> list[str]:
    """Return the names of all metrics, each read with one step through the index; at most 1,000."""
    first = sa.select(sa.func.min(METRIC.c.name).label("name")).cte("names", recursive=True)
    following = sa.select(sa.func.min(METRIC.c.name)).where(METRIC.c.name > first.c.name).scalar_subquery()
    names = first.union_all(sa.select(following).where(first.c.name.is_not(None)))
    query = sa.select(names.c.name).where(names.c.name.is_not(None)).limit(_MOST_NAMES)
    return list(connection.execute(query).scalars())


def _beside_run(run_id: Any, *holds: Clause) -> Clause:
    return found_beside(sa.select(_ONE).where(run_id == RUN.c.id, *holds))
