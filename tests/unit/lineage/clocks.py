"""What the moments of freshness policies are compared with: time stepped through minute by minute, day by day.

Shares nothing with the implementation but the standard library's zones, and for exchanges the table of sessions.
"""

import calendar
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from functools import cache
from zoneinfo import ZoneInfo

MINUTE, HOUR, DAY = timedelta(minutes=1), timedelta(hours=1), timedelta(days=1)
ZONES = (
    "UTC",
    "America/New_York",
    "America/Santiago",  # midnight is skipped
    "America/St_Johns",  # a half-hour zone
    "Atlantic/Azores",
    "Africa/Casablanca",  # clocks change for Ramadan
    "Antarctica/Troll",  # by two hours
    "Asia/Beirut",
    "Asia/Kolkata",
    "Australia/Lord_Howe",  # by half an hour
    "Europe/London",
    "Pacific/Apia",  # left out the 30th of December 2011
)
FIRST, LAST = datetime(2007, 1, 1, tzinfo=UTC), datetime(2036, 12, 31, tzinfo=UTC)


@cache
def changes(name: str) -> tuple[datetime, ...]:
    """About when the clocks of a zone change, to the hour."""
    zone = ZoneInfo(name)
    found = []
    day = FIRST
    while day < LAST:
        if day.astimezone(zone).utcoffset() != (day + DAY).astimezone(zone).utcoffset():
            hour = day
            while hour.astimezone(zone).utcoffset() == (hour + HOUR).astimezone(zone).utcoffset():
                hour += HOUR
            found.append(hour)
        day += DAY
    return tuple(found)


def shown(moment: datetime, zone: ZoneInfo) -> datetime:
    """What the clocks show, fold and all."""
    return moment.astimezone(zone).replace(tzinfo=None)


def walls_at(moment: datetime, zone: ZoneInfo) -> list[datetime]:
    """The wall times that come about at a whole minute: the one shown for the first time, and those jumped over."""
    now, before = shown(moment, zone), shown(moment - MINUTE, zone)
    skipped = (now - before) // MINUTE - 1
    jumped = [before + n * MINUTE for n in range(1, skipped + 1)]
    return jumped + ([now] if now.fold == 0 else [])


@dataclass(frozen=True)
class CronFields:
    """A cron expression as sets; None is a star."""

    minute: frozenset[int] | None
    hour: frozenset[int] | None
    day: frozenset[int] | None
    month: frozenset[int] | None
    weekday: frozenset[int] | None
    """Sunday is 0."""

    def text(self) -> str:
        fields = (self.minute, self.hour, self.day, self.month, self.weekday)
        return " ".join("*" if field is None else ",".join(map(str, sorted(field))) for field in fields)

    def is_on(self, day: date) -> bool:
        by_day = self.day is None or day.day in self.day
        by_weekday = self.weekday is None or (day.weekday() + 1) % 7 in self.weekday
        # When both are given, either will do.
        is_day = (by_day or by_weekday) if self.day is not None and self.weekday is not None else by_day and by_weekday
        return is_day and (self.month is None or day.month in self.month)

    def is_due(self, wall: datetime) -> bool:
        return (
            self.is_on(wall.date())
            and (self.hour is None or wall.hour in self.hour)
            and (self.minute is None or wall.minute in self.minute)
        )


def next_cron(fields: CronFields, zone: ZoneInfo, after: datetime) -> datetime:
    moment = after.replace(second=0, microsecond=0)
    while True:
        moment += MINUTE
        if moment.minute == 0:
            near = {(shown(moment, zone) + n * DAY).date() for n in (-1, 0, 1, 2)}
            if not any(fields.is_on(day) for day in near):
                moment += DAY - MINUTE
                continue
        # An hourly one is due when the clocks really show it; another one at the first time, or at the jump.
        walls = [shown(moment, zone)] if fields.hour is None else walls_at(moment, zone)
        if any(fields.is_due(wall) for wall in walls):
            return moment


def first_shown(day: date, at: time, zone: ZoneInfo) -> datetime:
    wall = datetime.combine(day, at)
    moment = wall.replace(tzinfo=UTC) - 27 * HOUR
    while wall not in walls_at(moment, zone):
        moment += MINUTE
    return moment


def next_on(is_on, at: time, zone: ZoneInfo, after: datetime) -> datetime:
    """The first moment later than `after` that is `at` on a day of which `is_on` is true."""
    day = shown(after, zone).date() - 2 * DAY
    while True:
        if is_on(day) and (moment := first_shown(day, at, zone)) > after:
            return moment
        day += DAY


def is_last_of_month(day: date) -> bool:
    return (day + DAY).month != day.month


def is_day_of_month(day: date, number: int) -> bool:
    return day.day == number or (is_last_of_month(day) and day.day < number)


def ends_quarter(day: date) -> bool:
    return is_last_of_month(day) and day.month in (3, 6, 9, 12)


def is_in_month_of_quarter(day: date, month: int) -> bool:
    return ([1, 2, 3] * 4)[day.month - 1] == month


def is_weekday(day: date, name: str) -> bool:
    return calendar.day_name[day.weekday()].lower() == name
