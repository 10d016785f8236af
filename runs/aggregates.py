"""How runs have gone: counts, failures, durations, days and usage, per deployment or per type.

Reads alone, in one snapshot, and only runs that were created in a span of time. The percentiles are those that some run
really took: the shortest duration that at least so many percent of the completed runs did not exceed (the inverse of
the empirical distribution; numpy's `method="inverted_cdf"`). Deleted runs do not count.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import date, datetime, timedelta
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from ..lineage import registry
from ..lineage.lapse import moment_named
from ..lineage.models import Deployment
from ..storage.database import Database
from ..storage.durations import read_duration
from ..storage.errors import InvalidInput, nearest_names
from .aggregate_reports import DayStatistics, GroupBy, GroupStatistics, Statistics
from .details import TABLE_OF
from .models import Run, RunUsage
from .status import RunStatus

_RUN = Run.__table__  # type: ignore[attr-defined]
_USAGE = RunUsage.__table__  # type: ignore[attr-defined]
_DEPLOYMENT = Deployment.__table__  # type: ignore[attr-defined]

_PERCENTS = (50, 95, 99)
_DEFAULT_SPAN = timedelta(days=30)
_TREND_ROWS = 10_000
"""Days of all groups together: of more groups the busiest have a trend."""
_RATED = (RunStatus.COMPLETED, RunStatus.FAILED)

Moment = datetime | date | timedelta | str
"""A moment, or how long ago: `7d`, `2026-11-01`, `2026-11-01T08:00+01:00`; without a time zone, UTC."""


def statistics_of(
    database: Database,
    *,
    tenant_id: str = "default",
    group_by: str = GroupBy.DEPLOYMENT,
    deployment: str | None = None,
    type_: str | None = None,
    since: Moment | None = None,
    until: Moment | None = None,
    trend: bool = True,
) -> Statistics:
    """Return how the runs have gone that were created from `since` (30 days ago) until `until` (now).

    Of one `deployment`, or of one type, where these are given.

    Raises:
        InvalidInput: a value is none, or the span is empty.
        NotFound: there is no such deployment.
    """
    grouping = _grouping(group_by)
    if type_ is not None:
        _check_type(type_)
    with database.read() as connection:
        now = database.now(connection)
        end = now if until is None else _moment("until", until, now=now)
        begin = _before(end, _DEFAULT_SPAN) if since is None else _moment("since", since, now=now)
        if begin >= end:
            raise InvalidInput(f"since={begin.isoformat()} is not before until={end.isoformat()}")
        among = [
            # An expression has no index: SQLite would begin with all runs of the tenant.
            sa.func.coalesce(_RUN.c.tenant_id, "") == tenant_id,
            _RUN.c.deleted_at.is_(None),
            _RUN.c.created_at >= begin,
            _RUN.c.created_at < end,
        ]
        if deployment is not None:
            among.append(_RUN.c.deployment_id == registry.deployment(connection, deployment, tenant_id=tenant_id).id)
        if type_ is not None:
            among.append(_RUN.c.type == type_)
        question = _Question(connection, grouping, tuple(among))
        groups = question.groups()
        num_days = (end - begin).days + 2
        charted = groups[: max(1, _TREND_ROWS // num_days)] if trend else []
        days = question.days([one.group for one in charted])
    named = {one.group: days.get(one.group, ()) for one in charted}
    return Statistics(
        since=begin,
        until=end,
        group_by=grouping,
        groups=[replace(one, trend=named.get(one.group)) for one in groups],
        num_without_trend=len(groups) - len(charted) if trend else 0,
    )


class _Question:
    """The queries about one selection of runs."""

    def __init__(self, connection: Connection, grouping: GroupBy, among: tuple[sa.ColumnElement[bool], ...]) -> None:
        self._connection = connection
        self._is_postgres = connection.dialect.name == "postgresql"
        self._among = among
        self._from: Any = _RUN
        # Postgres groups by no constant.
        self._group: sa.ColumnElement[Any] = sa.func.lower(sa.literal_column("'all'", sa.String()))
        if grouping == GroupBy.TYPE:
            self._group = _RUN.c.type
        elif grouping == GroupBy.DEPLOYMENT:
            self._from = _RUN.join(_DEPLOYMENT, _DEPLOYMENT.c.id == _RUN.c.deployment_id)
            self._group = _DEPLOYMENT.c.key
        self._columns: tuple[sa.ColumnElement[Any], ...] = (self._group.label("grp"),)

    def groups(self) -> list[GroupStatistics]:
        """Return the groups without their trend, the one with most runs first."""
        statuses = self._statuses(self._columns, self._among)
        durations = self._durations(self._columns, self._among)
        steps = {row.grp: row for row in self._connection.execute(self._steps())}
        counters: dict[str, dict[str, float]] = {}
        for row in self._connection.execute(self._counters()):
            counters.setdefault(row.grp, {})[row.name] = float(row.total)
        made = []
        for key, counted in statuses.items():
            (group,) = key
            took, used = durations.get(key), steps.get(group)
            made.append(
                GroupStatistics(
                    group=group,
                    num_runs=sum(counted.values()),
                    statuses=counted,
                    failure_rate=_failure_rate(counted),
                    mean_s=_seconds(took and took.mean),
                    p50_s=_seconds(took and took.p50),
                    p95_s=_seconds(took and took.p95),
                    p99_s=_seconds(took and took.p99),
                    max_s=_seconds(took and took.longest),
                    num_steps=int(used.num_steps) if used is not None else 0,
                    num_failed_steps=int(used.num_failed_steps) if used is not None else 0,
                    step_s=float(used.step_ns) / 1e9 if used is not None else 0.0,
                    counters=dict(sorted(counters.get(group, {}).items())),
                )
            )
        return sorted(made, key=lambda one: (-one.num_runs, one.group))

    def days(self, groups: Sequence[str]) -> dict[str, list[DayStatistics]]:
        """Return the days of these groups, oldest first."""
        if not groups:
            return {}
        columns = (*self._columns, self._day().label("day"))
        among = (*self._among, self._group.in_(list(groups)))
        durations = self._durations(columns, among)
        made: dict[str, list[DayStatistics]] = {}
        for key, counted in sorted(self._statuses(columns, among).items()):
            took = durations.get(key)
            made.setdefault(key[0], []).append(
                DayStatistics(
                    day=date.fromisoformat(key[1]),
                    num_runs=sum(counted.values()),
                    statuses=counted,
                    failure_rate=_failure_rate(counted),
                    p50_s=_seconds(took and took.p50),
                    p95_s=_seconds(took and took.p95),
                    p99_s=_seconds(took and took.p99),
                )
            )
        return made

    def _statuses(
        self, columns: tuple[sa.ColumnElement[Any], ...], among: tuple[sa.ColumnElement[bool], ...]
    ) -> dict[tuple[str, ...], dict[str, int]]:
        query = (
            sa.select(*columns, _RUN.c.status, sa.func.count().label("num"))
            .select_from(self._from)
            .where(*among)
            .group_by(*columns, _RUN.c.status)
        )
        found: dict[tuple[str, ...], dict[str, int]] = {}
        for row in self._connection.execute(query):
            found.setdefault(tuple(row)[: len(columns)], {})[row.status] = row.num
        order = {status: place for place, status in enumerate(RunStatus)}
        return {
            key: dict(sorted(counted.items(), key=lambda one: order[RunStatus(one[0])]))
            for key, counted in found.items()
        }

    def _durations(
        self, columns: tuple[sa.ColumnElement[Any], ...], among: tuple[sa.ColumnElement[bool], ...]
    ) -> dict[tuple[str, ...], Any]:
        ranked = (
            sa.select(
                *columns,
                _RUN.c.duration_ns.label("took"),
                sa.func.row_number().over(partition_by=columns, order_by=_RUN.c.duration_ns).label("place"),
                sa.func.count().over(partition_by=columns).label("num"),
            )
            .select_from(self._from)
            .where(*among, _RUN.c.status == RunStatus.COMPLETED, _RUN.c.duration_ns.is_not(None))
            .subquery("ranked")
        )
        keys = [ranked.c[column.name] for column in columns]
        reached = [
            # In whole numbers: 0.95 is none in binary.
            sa.func.min(sa.case((ranked.c.place * 100 >= ranked.c.num * percent, ranked.c.took))).label(f"p{percent}")
            for percent in _PERCENTS
        ]
        query = sa.select(
            *keys, *reached, sa.func.avg(ranked.c.took).label("mean"), sa.func.max(ranked.c.took).label("longest")
        ).group_by(*keys)
        return {tuple(row)[: len(columns)]: row for row in self._connection.execute(query)}

    def _steps(self) -> Any:
        # As floats: nanoseconds of a million runs are more than 64 bits hold.
        step_ns = sa.func.sum(sa.cast(_USAGE.c.step_ns, sa.Double))
        return (
            sa.select(
                *self._columns,
                sa.func.sum(_USAGE.c.num_steps).label("num_steps"),
                sa.func.sum(_USAGE.c.num_failed_steps).label("num_failed_steps"),
                step_ns.label("step_ns"),
            )
            .select_from(self._from.join(_USAGE, _USAGE.c.run_id == _RUN.c.id))
            .where(*self._among)
            .group_by(*self._columns)
        )

    def _counters(self) -> Any:
        if self._is_postgres:
            listed = sa.func.jsonb_each_text(_USAGE.c.counters).table_valued("key", "value").lateral("counted")
            value: Any = sa.cast(listed.c.value, sa.Numeric)
        else:
            listed = sa.func.json_each(_USAGE.c.counters).table_valued("key", "value").alias("counted")
            value = sa.cast(listed.c.value, sa.Double)
        name = listed.c.key
        return (
            sa.select(*self._columns, name.label("name"), sa.func.sum(value).label("total"))
            .select_from(self._from.join(_USAGE, _USAGE.c.run_id == _RUN.c.id).join(listed, sa.true()))
            .where(*self._among)
            .group_by(*self._columns, name)
        )

    def _day(self) -> sa.ColumnElement[str]:
        if self._is_postgres:
            return sa.func.to_char(sa.func.timezone("UTC", _RUN.c.created_at), "YYYY-MM-DD", type_=sa.String())
        return sa.func.substr(sa.type_coerce(_RUN.c.created_at, sa.String()), 1, 10, type_=sa.String())


def _grouping(group_by: str) -> GroupBy:
    try:
        return GroupBy(group_by)
    except ValueError:
        raise InvalidInput(f"group_by={group_by!r}: runs are counted by {', '.join(GroupBy)}") from None


def _check_type(type_: str) -> None:
    known = [table.__name__ for table in TABLE_OF.values()]
    if type_ not in known:
        near = nearest_names(type_, known)
        hint = f"did you mean {near[0]!r}?" if near else f"the types are {', '.join(known)}"
        raise InvalidInput(f"there is no run type {type_!r}; {hint}")


def _moment(name: str, written: Moment, *, now: datetime) -> datetime:
    if isinstance(written, timedelta):
        return _before(now, abs(written))
    if isinstance(written, str):
        try:
            return _before(now, read_duration(written.strip().removeprefix("-")))
        except ValueError:
            pass  # then it is a moment
    elif not isinstance(written, datetime):
        written = datetime(written.year, written.month, written.day)
    try:
        return moment_named(written, timezone="UTC")
    except InvalidInput as error:
        raise InvalidInput(f"{name}: {error}; or how long ago, such as 7d") from None


def _before(moment: datetime, span: timedelta) -> datetime:
    try:
        return moment - span
    except OverflowError:
        return datetime.min.replace(tzinfo=moment.tzinfo)


def _failure_rate(statuses: Mapping[str, int]) -> float | None:
    rated = sum(statuses.get(status, 0) for status in _RATED)
    return statuses.get(RunStatus.FAILED, 0) / rated if rated else None


def _seconds(nanoseconds: Any) -> float | None:
    return None if nanoseconds is None else float(nanoseconds) / 1e9
