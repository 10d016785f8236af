"""What a backfill is asked for, and what would run: decided from the records, before anything is recorded."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date, datetime
from typing import Any
from uuid import UUID

from sqlalchemy.engine import Connection, Row

from ...storage.errors import InvalidInput
from ...storage.words import OnStale, Trigger, UpdateMode
from ..request import split_parameters
from ..submission import Submission, target_of
from . import backfill_rows
from .date_ranges import dates_between

_MOST_AT_ONCE = 1_000
_ALLOWED = (OnStale.WAIT, OnStale.REFUSE, OnStale.FORCE)


@dataclass(frozen=True, kw_only=True)
class BackfillRequest:
    """What is asked for."""

    deployment: str
    """Key of the deployment: `backtest/book`."""
    first: date | str
    """Where the range begins: a date, or `2024-01-31`."""
    last: date | str
    """Where it ends; included."""
    calendar: str | None = None
    """The dates are the sessions of this exchange calendar; null: that of the deployment's freshness policy."""
    every: str | None = None
    """The dates follow one another at this distance: `1d`, `2w`, `1mo`. Without any calendar `1d`."""
    limit: int = 1
    """How many runs may be under way. More than one only for runs that do not build on each other's results."""
    again: bool = False
    """Also run the dates that have a run already."""
    parameters: Mapping[str, Any] = field(default_factory=dict)
    """The flow's own parameters."""
    on_stale: OnStale | str | None = None
    """Wait, refuse or force; null: the deployment's default for backfills, else wait."""
    update_mode: UpdateMode | str | None = None
    """Null: in full for what the current version covers already, incremental after it."""
    max_failures: int = 0
    """How many dates may fail before no more are started."""


@dataclass(frozen=True)
class ExistingRun:
    """A date that has a run already."""

    data_date: date
    run_id: UUID
    status: str


@dataclass(frozen=True)
class BackfillPreview:
    """What would run."""

    deployment: str
    calendar: str | None
    every: str | None
    dates: tuple[date, ...]
    """The dates that would get a run, in order."""
    existing: tuple[ExistingRun, ...]
    """The dates that would be left out."""


def plan(
    connection: Connection, request: BackfillRequest, *, tenant_id: str, today: date
) -> tuple[BackfillPreview, Row[Any]]:
    """Return what would run, and the deployment.

    Raises:
        NotFound: there is no such deployment or calendar.
        InvalidInput: something of what was asked for cannot be used; the message says what, and what to write.
    """
    submission = Submission(
        deployment=request.deployment, parameters=request.parameters, update_mode=request.update_mode or "full"
    )
    target = target_of(connection, submission, tenant_id=tenant_id)
    submission.request()
    on_stale_of(request, target)
    if not 1 <= request.limit <= _MOST_AT_ONCE:
        raise InvalidInput(f"limit={request.limit}: from 1 to {_MOST_AT_ONCE:,} runs may be under way")
    if request.max_failures < 0:
        raise InvalidInput(f"max_failures={request.max_failures}: 0 or more dates may fail")
    first, last = as_date(request.first, "first"), as_date(request.last, "last")
    if last > today:
        raise InvalidInput(f"the range ends on {last}, after today ({today}): its data are not there yet")
    calendar, every = request.calendar, request.every
    if calendar is None and every is None:
        calendar = (target.policy or {}).get("calendar")
        every = "1d" if calendar is None else None
    dates = dates_between(first, last, calendar=calendar, every=every)
    defaults, _ = split_parameters(target.declaration.get("parameters", {}), target.declaration.get("renamed", {}))
    known = {}
    if not request.again:
        asked = {**defaults, **request.parameters}
        known = backfill_rows.runs_by_date(connection, target.id, first, last, parameters=asked)
    preview = BackfillPreview(
        deployment=target.key,
        calendar=calendar,
        every=every,
        dates=tuple(one for one in dates if one not in known),
        existing=tuple(ExistingRun(one, *known[one]) for one in dates if one in known),
    )
    return preview, target


def on_stale_of(request: BackfillRequest, target: Row[Any]) -> OnStale:
    """Return what the gate does for each run of a backfill."""
    declared = target.declaration.get("on_stale", {}).get(Trigger.BACKFILL)
    if request.on_stale is None:
        return OnStale(declared) if declared in _ALLOWED else OnStale.WAIT
    try:
        wanted = OnStale(request.on_stale)
    except ValueError:
        raise InvalidInput(f"on_stale={request.on_stale!r}: write {', '.join(_ALLOWED)}") from None
    if wanted not in _ALLOWED:
        raise InvalidInput(
            "on_stale='refresh': a backfill does not refresh its upstreams, which would be brought back to earlier "
            f"data; refresh them first, or write {', '.join(_ALLOWED)}"
        )
    return wanted


def as_date(value: Any, name: str) -> date:
    """Return a date that was given as one, or as text.

    Raises:
        InvalidInput: it is neither; `name` is what the option is called.
    """
    if isinstance(value, datetime):
        return value.date()
    if isinstance(value, date):
        return value
    try:
        return date.fromisoformat(value)
    except (TypeError, ValueError):
        raise InvalidInput(f"{name}={value!r} is not a date; write it like 2024-01-31") from None
