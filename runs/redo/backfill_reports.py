"""What is said of a backfill: how far it is, and each of its dates.

Knows rows as `backfill_rows` gives them, and no SQL.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any
from uuid import UUID

from . import backfill_rows
from .backfill_models import BackfillStatus


@dataclass(frozen=True)
class DateReport:
    """One date of a backfill."""

    data_date: date
    status: str
    """`planned`, or the status of its run."""
    run_id: UUID | None
    tries: int
    """How many runs it has had."""
    reason: str | None
    """Why its run ended, or its error."""


@dataclass(frozen=True)
class BackfillReport:
    """A backfill as it is now."""

    id: UUID
    deployment: str
    status: BackfillStatus
    reason: str | None
    """Why it was stopped, or how many dates failed."""
    first: date
    last: date
    calendar: str | None
    every: str | None
    limit: int
    max_failures: int
    actor: str
    created_at: datetime
    ended_at: datetime | None
    counts: Mapping[str, int]
    """How many dates are `planned`, `under_way`, or ended as `completed`, `failed`…"""
    dates: tuple[DateReport, ...] = ()
    """Each date, in order; empty in lists."""

    @property
    def name(self) -> str:
        """The id as people see it."""
        return backfill_rows.show_id(self.id)

    @property
    def num_dates(self) -> int:
        """How many dates it has."""
        return sum(self.counts.values())

    @property
    def num_done(self) -> int:
        """How many of them ended well."""
        return sum(self.counts.get(status, 0) for status in backfill_rows.GOOD)


def date_report_of(row: Any) -> DateReport:
    """Return one date, from a row of `backfill_rows.dates_of`."""
    reason = why(row) if row.run_id is not None and row.status not in backfill_rows.GOOD else None
    return DateReport(row.data_date, row.status or "planned", row.run_id, row.tries, reason or None)


def report_of(row: Any, counts: Mapping[str, int], dates: tuple[DateReport, ...] = ()) -> BackfillReport:
    """Return a backfill, from its row and what its dates are."""
    return BackfillReport(
        id=row.id,
        deployment=row.key,
        status=BackfillStatus(row.status),
        reason=row.reason,
        first=row.first_date,
        last=row.last_date,
        calendar=row.calendar,
        every=row.every,
        limit=row.most_at_once,
        max_failures=row.max_failures,
        actor=row.actor,
        created_at=row.created_at,
        ended_at=row.ended_at,
        counts=counts,
        dates=dates,
    )


def why(run: Any) -> str:
    """Return why a run ended: its error, else its stop reason."""
    reason: str = run.error_message or run.stop_reason or ""
    return reason
