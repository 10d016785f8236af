"""How the values of a freshness policy are written: durations, times of day, days, zones and lists of moments.

Owns what is read of them and the sentence in which one is refused. Knows no policy. prefect.yaml is read by PyYAML, to
which an unquoted 18:00 is the number 1080, and 2026-03-18 a date.
"""

import re
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from typing import Annotated
from zoneinfo import ZoneInfo

from pydantic import PlainValidator

from ..storage.durations import LONGEST, read_duration
from ..storage.errors import nearest_names
from .occurrences import instant_of

_CLOCK = re.compile(r"(\d\d?):(\d\d)")
_WEEKDAYS = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")
_DAYS_OF_LONGEST_MONTH = 31
_LAST = "last"
_MOST_LAG = timedelta(days=366)
_MOST_LISTED = 1000
_DAY = timedelta(days=1)


@dataclass(frozen=True)
class DayOfQuarter:
    """A day in the first, second or third month of each quarter."""

    month: int
    day: int
    """31 is the last one, whatever the month."""


def _duration(value: object) -> timedelta:
    if isinstance(value, timedelta):
        return value
    found = read_duration(value)
    if found > LONGEST:
        raise ValueError(f"{value!r} is longer than 100 years; leave the policy out if the version holds for good")
    return found


def check_zone(value: object) -> str:
    """Return the name of a time zone that exists.

    Raises:
        ValueError: there is no such zone.
    """
    try:
        ZoneInfo(value)  # type: ignore[arg-type]  # what is no text is refused by it
    except (OSError, ValueError, KeyError, TypeError, AttributeError):  # a missing zone is a KeyError
        raise ValueError(f"{value!r} is not a time zone; write it like America/New_York or UTC") from None
    return str(value)


def _clock(value: object) -> time:
    if isinstance(value, time) and value.tzinfo is None:
        return value
    if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 24 * 60:
        shown = f"{value // 60:02}:{value % 60:02}"
        raise ValueError(f'{value} is what YAML reads {shown} as; quote it: "{shown}"')
    match = _CLOCK.fullmatch(value.strip()) if isinstance(value, str) else None
    if match is None or int(match[1]) > 23 or int(match[2]) > 59:
        raise ValueError(f'{value!r} is not a time of day; write it like "18:00"')
    return time(int(match[1]), int(match[2]))


def _weekday(value: object) -> int:
    word = value.strip().lower() if isinstance(value, str) else ""
    for number, name in enumerate(_WEEKDAYS):
        if word in (name, name[:3]):
            return number
    near = nearest_names(word, _WEEKDAYS)
    hint = f"did you mean {' or '.join(near)}?" if near else "write it like monday"
    raise ValueError(f"{value!r} is not a weekday; {hint}")


def _day_of_month(value: object) -> int:
    if value == _LAST:
        return _DAYS_OF_LONGEST_MONTH
    if isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= _DAYS_OF_LONGEST_MONTH:
        return value
    raise ValueError(f"{value!r} is not a day of a month; write a number from 1 to 31, or last")


def _day_of_quarter(value: object) -> timedelta | DayOfQuarter:
    if isinstance(value, timedelta | DayOfQuarter):
        return value
    if isinstance(value, dict):
        if set(value) != {"month", "day"} or value["month"] not in (1, 2, 3) or isinstance(value["month"], bool):
            raise ValueError("a day of a quarter is written like {month: 2, day: 15}; its month is 1, 2 or 3")
        return DayOfQuarter(value["month"], _day_of_month(value["day"]))
    try:
        lag = _duration(value)
    except ValueError:
        lag = timedelta.max
    if lag % _DAY or lag > _MOST_LAG:
        raise ValueError(
            f"{value!r} is neither days after a quarter's end, like 45d (at most 366d), nor a day in each quarter, "
            "like {month: 2, day: 15}"
        )
    return lag


def _listed(value: object) -> tuple[date, ...]:
    if not isinstance(value, list | tuple) or not value:
        raise ValueError("must be a list of dates, like [2026-03-18, 2026-06-17]")
    if len(value) > _MOST_LISTED:
        raise ValueError(f"lists {len(value):,} moments; the most are {_MOST_LISTED:,}")
    return tuple(_day_or_moment(item) for item in value)


def _day_or_moment(item: object) -> date:
    if isinstance(item, date):
        return item
    if isinstance(item, str):
        for read in (date.fromisoformat, datetime.fromisoformat):
            try:
                return read(item.strip())
            except ValueError:
                pass
    raise ValueError(f"{item!r} is neither a date nor a moment; write it like 2026-03-18 or 2026-03-18T14:00")


Duration = Annotated[timedelta, PlainValidator(_duration)]
Zone = Annotated[str, PlainValidator(check_zone)]
Clock = Annotated[time, PlainValidator(_clock)]
Weekday = Annotated[int, PlainValidator(_weekday)]
"""Monday is 0."""
DayOfMonth = Annotated[int, PlainValidator(_day_of_month)]
"""31 is the last one, whatever the month."""
QuarterDay = Annotated[timedelta | DayOfQuarter, PlainValidator(_day_of_quarter)]
"""Whole days after the last day of a quarter, or a day in it."""
Listed = Annotated[tuple[date, ...], PlainValidator(_listed)]
"""Dates and datetimes as written: without a zone they are local."""


def moment_of(listed: date, at: time | None, zone: ZoneInfo) -> datetime:
    """Return the moment (UTC) that a date or datetime of a list means; a date has its time of day from `at`."""
    if not isinstance(listed, datetime):
        assert at is not None, "a list with a date in it has a time of day"
        return instant_of(datetime.combine(listed, at), zone)
    return instant_of(listed, zone) if listed.tzinfo is None else listed.astimezone(UTC)
