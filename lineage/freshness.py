"""Freshness policies: until when does a version hold?

A policy is written in prefect.yaml as one of

    {max_age: 1d}                                                   since the run, or `of: data` since the data date
    {cron: "0 18 * * 1-5", timezone: America/New_York}              a new version is due at every occurrence
    {weekly: friday, at: "18:00", timezone: Europe/London}
    {monthly: last, at: "18:00"}                                    on a day of the month
    {quarterly: 45d, at: "18:00"}                                   days after a quarter's end, or a day in each quarter
    {irregular: [2026-03-18, 2026-06-17], at: "14:00"}              at moments that are listed
    {calendar: XNYS, sessions: 1}                                   the data date may lag this many exchange sessions

each with `grace`, `warn` and `fail`. The kind gives the moment at which a new version is due, `grace` moves it; `warn`
and `fail` count from there: from the first on the version holds with a warning, from the second on it does not hold.
The moment of lapse is computed when a version is published, so that "what expires before Monday?" is an index look-up.
Knows no table; `policy_fields` owns how the values are written, `occurrences` and `exchanges` compute the moments.
"""

import json
from abc import abstractmethod
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from functools import lru_cache
from typing import Any, Literal, Self
from zoneinfo import ZoneInfo

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from ..storage.durations import as_written
from ..storage.errors import InvalidInput, nearest_names
from . import exchanges, occurrences
from .policy_fields import Clock, DayOfMonth, Duration, Listed, QuarterDay, Weekday, Zone, moment_of

_NOTHING = timedelta(0)


@dataclass(frozen=True)
class Moments:
    """What becomes of a version as time passes; both null when it holds for good."""

    warns_at: datetime | None
    """From then on it holds with a warning; null without `warn`."""
    lapses_at: datetime | None
    """From then on it does not hold."""


class _Policy(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    grace: Duration = _NOTHING
    """How much later than its kind says a new version is due."""
    warn: Duration | None = None
    """How long after that readers are warned; without it they never are."""
    fail: Duration = _NOTHING
    """How long after that the version is stale."""

    @model_validator(mode="after")
    def _warns_before_it_fails(self) -> Self:
        if self.warn is not None and self.warn >= self.fail:
            raise ValueError(
                f"`warn` ({as_written(self.warn)}) must be shorter than `fail` ({as_written(self.fail)}), or nobody "
                "is ever warned"
            )
        return self

    def lapses_at(self, *, run_at: datetime, data_date: date | None) -> datetime | None:
        """Return when a version published at `run_at` with this last data date lapses; null when it never does."""
        return self.moments(run_at=run_at, data_date=data_date).lapses_at

    def moments(self, *, run_at: datetime, data_date: date | None) -> Moments:
        """Return when a version published at `run_at` with this last data date is warned of, and when it lapses."""
        try:
            due_at = self._due_at(run_at=run_at, data_date=data_date)
            if due_at is None:
                return Moments(None, None)
            late_at = due_at + self.grace
            return Moments(late_at + self.warn if self.warn is not None else None, late_at + self.fail)
        except OverflowError:
            # A table may have a sentinel such as 9999-12-31 in it: what is published must not fail by that.
            return Moments(None, None)

    def warns_at(self, *, lapses_at: datetime | None) -> datetime | None:
        """Return when a version is warned of that lapses then: cheaper than `moments`, whatever the kind."""
        return None if lapses_at is None or self.warn is None else lapses_at - self.fail + self.warn

    def check(self) -> None:
        """Refuse what only a computation shows to be wrong; a stored policy has passed.

        Raises:
            InvalidInput: naming the value and the fix.
        """

    @abstractmethod
    def _due_at(self, *, run_at: datetime, data_date: date | None) -> datetime | None:
        """Return when the next version is due, without grace; null when none is."""


class MaxAge(_Policy):
    """A version holds for a fixed time."""

    max_age: Duration
    of: Literal["run", "data"] = "run"
    """Counted from the end of the run, or from the end of the last data date (UTC)."""

    def _due_at(self, *, run_at: datetime, data_date: date | None) -> datetime | None:
        if self.of == "run":
            return run_at + self.max_age
        return None if data_date is None else occurrences.end_of(data_date, ZoneInfo("UTC")) + self.max_age


class _Recurring(_Policy):
    """A new version is due at certain moments."""

    timezone: Zone = "UTC"
    of: Literal["run", "data"] = "run"
    """The next of these moments after the end of the run, or after the end of the last data date (local)."""

    def _due_at(self, *, run_at: datetime, data_date: date | None) -> datetime | None:
        zone = ZoneInfo(self.timezone)
        if self.of == "run":
            return self._next(zone, after=run_at)
        return None if data_date is None else self._next(zone, after=occurrences.end_of(data_date, zone))

    @abstractmethod
    def _next(self, zone: ZoneInfo, *, after: datetime) -> datetime | None:
        """Return the first of the moments that is later."""


class Cron(_Recurring):
    """A new version is due at every occurrence of a cron expression."""

    cron: str

    @field_validator("cron")
    @classmethod
    def _readable(cls, value: str) -> str:
        occurrences.check_cron(value)
        return value

    def _next(self, zone: ZoneInfo, *, after: datetime) -> datetime:
        return occurrences.next_cron(self.cron, zone, after=after)


class Weekly(_Recurring):
    """A new version is due on a day of each week."""

    weekly: Weekday
    at: Clock

    def _next(self, zone: ZoneInfo, *, after: datetime) -> datetime:
        return occurrences.next_on(lambda day: occurrences.weekdays_from(day, self.weekly), self.at, zone, after=after)


class Monthly(_Recurring):
    """A new version is due on a day of each month, the last one of a month that is shorter."""

    monthly: DayOfMonth
    at: Clock

    def _next(self, zone: ZoneInfo, *, after: datetime) -> datetime:
        return occurrences.next_on(
            lambda day: occurrences.days_of_month_from(day, self.monthly), self.at, zone, after=after
        )


class Quarterly(_Recurring):
    """A new version is due on a day of each quarter, or so many days after each quarter's end."""

    quarterly: QuarterDay
    at: Clock

    def _next(self, zone: ZoneInfo, *, after: datetime) -> datetime:
        when = self.quarterly
        if isinstance(when, timedelta):
            return occurrences.next_on(
                lambda day: occurrences.days_after_quarters_from(day, when), self.at, zone, after=after
            )
        return occurrences.next_on(
            lambda day: occurrences.days_of_quarter_from(day, when.month, when.day), self.at, zone, after=after
        )


class Irregular(_Recurring):
    """A new version is due at moments that are listed; after the last one a version holds for good."""

    irregular: Listed
    at: Clock | None = None
    """The time of day of what is listed without one."""

    @model_validator(mode="after")
    def _complete(self) -> Self:
        bare = [listed for listed in self.irregular if not isinstance(listed, datetime)]
        if bare and self.at is None:
            raise ValueError(f'`irregular` lists {bare[0]} without a time of day; write `at: "18:00"` beside it')
        return self

    def _next(self, zone: ZoneInfo, *, after: datetime) -> datetime | None:
        later = []
        for listed in self.irregular:
            with suppress(OverflowError):  # a sentinel beyond the calendar must not hide the others
                later.append(moment_of(listed, self.at, zone))
        return min((moment for moment in later if moment > after), default=None)


class Calendar(_Policy):
    """The data date may lag behind the last closed session of an exchange."""

    calendar: str
    """A calendar of `exchange_calendars`: XNYS, XLON, CMES, 24/7…"""
    sessions: int = Field(default=1, ge=1, le=1000, strict=True)
    """The close of this many sessions after the data date makes the version stale."""
    of: Literal["run", "data"] = "data"
    """The sessions after the last data date, or those that close after the end of the run."""

    def check(self) -> None:
        """Refuse a calendar that does not exist, or cannot be computed.

        Raises:
            InvalidInput: naming the value and the fix.
        """
        exchanges.check_exchange(self.calendar)

    def _due_at(self, *, run_at: datetime, data_date: date | None) -> datetime | None:
        if self.of == "run":
            return exchanges.close_after(self.calendar, run_at, sessions=self.sessions)
        if data_date is None:
            return None
        return exchanges.close_after_day(self.calendar, data_date, sessions=self.sessions)


Policy = MaxAge | Cron | Weekly | Monthly | Quarterly | Irregular | Calendar

_KINDS: Mapping[str, type[Policy]] = {
    "max_age": MaxAge,
    "cron": Cron,
    "weekly": Weekly,
    "monthly": Monthly,
    "quarterly": Quarterly,
    "irregular": Irregular,
    "calendar": Calendar,
}


def parse_policy(written: Mapping[str, Any]) -> Policy:
    """Return the policy that a `freshness:` block means, checked as a whole.

    Raises:
        InvalidInput: the block cannot be read; the message names the value and the fix.
    """
    policy = stored_policy(written)
    policy.check()
    return policy


def stored_policy(written: Mapping[str, Any]) -> Policy:
    """Return the policy that a block means which was checked when it was registered: cheap the second time.

    Raises:
        InvalidInput: the block cannot be read.
    """
    try:
        return _read_text(json.dumps(written, sort_keys=True))
    except TypeError:  # not from a database: it has dates or durations in it
        return _read(written)


@lru_cache(maxsize=1024)
def _read_text(text: str) -> Policy:
    return _read(json.loads(text))


def _read(written: Mapping[str, Any]) -> Policy:
    kinds = [name for name in _KINDS if name in written]
    if len(kinds) != 1:
        near = [known for name in written for known in nearest_names(name, _KINDS)] if not kinds else []
        hint = f"; did you mean {near[0]}?" if near else ""
        raise InvalidInput(
            f"a freshness policy has exactly one of {', '.join(_KINDS)}; "
            f"this one has {', '.join(kinds) or 'none'}{hint}"
        )
    model = _KINDS[kinds[0]]
    try:
        return model.model_validate(dict(written))
    except ValidationError as error:
        first = error.errors()[0]
    name = ".".join(("freshness", *(str(part) for part in first["loc"])))
    match first["type"]:
        case "missing":
            problem = f'is needed beside `{kinds[0]}`; write it like {name.rpartition(".")[2]}: "18:00"'
        case "extra_forbidden":
            near = list(nearest_names(name.rpartition(".")[2], model.model_fields))
            hint = f"did you mean {' or '.join(near)}?" if near else f"known: {', '.join(sorted(model.model_fields))}"
            problem = f"is not for a `{kinds[0]}` policy; {hint}"
        case _:
            problem = first["msg"].removeprefix("Value error, ")
    raise InvalidInput(f"{name}: {problem}")
