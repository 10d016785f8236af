"""Freshness policies: until when does a version hold?

A policy is written in prefect.yaml as one of

    {max_age: 1d}                                        since the run, or `of: data` since the data date
    {cron: "0 18 * * 1-5", timezone: America/New_York}   a run is due at every occurrence
    {calendar: XNYS, sessions: 1}                        the data date may lag this many exchange sessions

each with `grace` (a delay of the deadline). The moment of lapse is computed when a version is published, so that
"what expires before Monday?" is an index look-up. Knows no table.
"""

import re
import warnings
from collections.abc import Mapping
from datetime import UTC, date, datetime, time, timedelta
from typing import Annotated, Any, Literal
from zoneinfo import ZoneInfo

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, field_validator

from ..storage.errors import InvalidInput

_DURATION = re.compile(r"(?:(\d+)w)?\s*(?:(\d+)d)?\s*(?:(\d+)h)?\s*(?:(\d+)m)?\s*(?:(\d+)s)?", re.IGNORECASE)


def _duration(value: object) -> timedelta:
    if isinstance(value, timedelta):
        return value
    # pandas.Timedelta reads more, but warns of `1d`, and its `1M` is a minute.
    match = _DURATION.fullmatch(value.strip()) if isinstance(value, str) else None
    if match is None or not any(match.groups()):
        raise ValueError(f"{value!r} is not a duration; write it like 90m, 2h, 1d12h or 1w")
    weeks, days, hours, minutes, seconds = (int(group or 0) for group in match.groups())
    return timedelta(weeks=weeks, days=days, hours=hours, minutes=minutes, seconds=seconds)


Duration = Annotated[timedelta, BeforeValidator(_duration)]


class _Policy(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    grace: Duration = timedelta(0)
    """How long after the deadline the version still counts as ready."""


class MaxAge(_Policy):
    """A version holds for a fixed time."""

    max_age: Duration
    of: Literal["run", "data"] = "run"
    """Counted from the end of the run, or from the end of the last data date (UTC)."""

    def lapses_at(self, *, run_at: datetime, data_date: date | None) -> datetime | None:
        """Return when a version published at `run_at` with this last data date lapses."""
        if self.of == "run":
            return run_at + self.max_age + self.grace
        if data_date is None:
            return None
        return datetime.combine(data_date + timedelta(days=1), time(), UTC) + self.max_age + self.grace


class Cron(_Policy):
    """A new version is due at every occurrence of a cron expression."""

    cron: str
    timezone: str = "UTC"

    @field_validator("cron")
    @classmethod
    def _readable(cls, value: str) -> str:
        from croniter import croniter

        if not croniter.is_valid(value):
            raise ValueError(f"{value!r} is not a cron expression of five fields")
        return value

    @field_validator("timezone")
    @classmethod
    def _known_zone(cls, value: str) -> str:
        try:
            ZoneInfo(value)
        except (OSError, ValueError, KeyError):  # a missing zone is a KeyError, a bad name one of the others
            raise ValueError(f"{value!r} is not a time zone") from None
        return value

    def lapses_at(self, *, run_at: datetime, data_date: date | None) -> datetime | None:  # noqa: ARG002
        """Return the first occurrence after `run_at`, plus grace."""
        from croniter import croniter

        local = run_at.astimezone(ZoneInfo(self.timezone))
        due: datetime = croniter(self.cron, local).get_next(datetime)
        return due.astimezone(UTC) + self.grace


class Calendar(_Policy):
    """The data date may lag behind the last closed session of an exchange."""

    calendar: str
    """A calendar of `exchange_calendars`: XNYS, XLON, CMES, 24/7…"""
    sessions: int = Field(default=1, ge=1)
    """The close of this many sessions after the data date makes the version stale."""

    @field_validator("calendar")
    @classmethod
    def _known_calendar(cls, value: str) -> str:
        import exchange_calendars

        if value not in exchange_calendars.get_calendar_names():
            raise ValueError(f"{value!r} is not a calendar of exchange_calendars, such as XNYS or XLON")
        return value

    def lapses_at(self, *, run_at: datetime, data_date: date | None) -> datetime | None:  # noqa: ARG002
        """Return the close of the session `sessions` after the data date, plus grace; null without one."""
        import exchange_calendars
        import pandas as pd

        if data_date is None:
            return None
        # Sessions are sought in a window that holds them with room for any run of holidays.
        end = data_date + timedelta(days=30 + 4 * self.sessions)
        with warnings.catch_warnings():
            # exchange_calendars 4.13 uses what pandas 3.1 deprecates.
            warnings.filterwarnings("ignore", message="Series.values returning")
            calendar = exchange_calendars.get_calendar(self.calendar, start=data_date - timedelta(days=30), end=end)
        later = calendar.sessions[calendar.sessions > pd.Timestamp(data_date)]
        close: datetime = calendar.session_close(later[self.sessions - 1]).to_pydatetime()
        return close.astimezone(UTC) + self.grace


Policy = MaxAge | Cron | Calendar

_KINDS: Mapping[str, type[MaxAge] | type[Cron] | type[Calendar]] = {
    "max_age": MaxAge,
    "cron": Cron,
    "calendar": Calendar,
}


def parse_policy(written: Mapping[str, Any]) -> Policy:
    """Return the policy that a `freshness:` block means.

    Raises:
        InvalidInput: the block cannot be read; the message names the value and the fix.
    """
    kinds = [name for name in _KINDS if name in written]
    if len(kinds) != 1:
        raise InvalidInput(
            f"a freshness policy has exactly one of {', '.join(_KINDS)}; this one has {', '.join(kinds) or 'none'}"
        )
    try:
        return _KINDS[kinds[0]].model_validate(dict(written))
    except ValidationError as error:
        first = error.errors()[0]
        name = ".".join(str(part) for part in first["loc"])
        raise InvalidInput(f"freshness.{name}: {first['msg'].removeprefix('Value error, ')}") from None
