"""When something is due next: wall-clock times of a zone, days of a week, month or quarter, cron expressions.

Owns what becomes of a local time that the clocks skip or show twice. Knows no policy, no exchange and no table.

    skipped (clocks go forward)    it is due at the moment at which the clocks jump
    shown twice (clocks go back)   it is due the first time

An hourly cron expression counts real hours instead: nothing is due for a skipped hour, a repeated one is due twice.
"""

import calendar
from collections.abc import Callable, Iterable, Iterator
from datetime import MAXYEAR, UTC, date, datetime, time, timedelta
from zoneinfo import ZoneInfo

_DAY = timedelta(days=1)
_SECOND = timedelta(seconds=1)
_EVERY_HOUR = ["*"]
_CRON_FIELDS = 5
_TOO_LATE = "the moment is after the year 9999"


def instant_of(wall: datetime, zone: ZoneInfo) -> datetime:
    """Return the moment (UTC) at which the clocks of a zone show a local time; see above for those that they do not."""
    moment = wall.replace(tzinfo=zone, fold=0).astimezone(UTC)
    return moment if _shown(moment, zone) == wall else _jump_over(wall, zone)


def end_of(day: date, zone: ZoneInfo) -> datetime:
    """Return the moment (UTC) at which a day ends in a zone."""
    return instant_of(datetime.combine(day + _DAY, time()), zone)


def next_on(days_from: Callable[[date], Iterable[date]], at: time, zone: ZoneInfo, *, after: datetime) -> datetime:
    """Return the first moment (UTC) later than `after` at which it is `at` on one of the days.

    `days_from` gives the days from one on, ascending, for as long as there are dates.

    Raises:
        OverflowError: it would be after the year 9999.
    """
    # The day before: a moment that the clocks skipped is due on the next day where they skip a whole one.
    days = days_from(_shown(after, zone).date() - _DAY)
    moments = (instant_of(datetime.combine(day, at), zone) for day in days)
    found = next((moment for moment in moments if moment > after), None)
    if found is None:
        raise OverflowError(_TOO_LATE)
    return found


def weekdays_from(day: date, weekday: int) -> Iterator[date]:
    """Give the days from this one on that are a weekday, Monday being 0."""
    day += timedelta(days=(weekday - day.weekday()) % 7)
    while True:
        yield day
        day += timedelta(days=7)


def days_of_month_from(day: date, of_month: int) -> Iterator[date]:
    """Give the days from this one on with a number in their month; the last day of a month that is shorter."""
    for year, month in _months_from(day):
        found = _day_in(year, month, of_month)
        if found >= day:
            yield found


def days_of_quarter_from(day: date, month_of_quarter: int, of_month: int) -> Iterator[date]:
    """Give the days from this one on with a number in the first, second or third month of a quarter, as in a month."""
    for year, month in _months_from(day):
        found = _day_in(year, month, of_month)
        if (month - 1) % 3 + 1 == month_of_quarter and found >= day:
            yield found


def days_after_quarters_from(day: date, lag: timedelta) -> Iterator[date]:
    """Give the days from this one on that come `lag` after the last day of a quarter."""
    for ended in days_of_quarter_from(day - lag, 3, 31):
        yield ended + lag


def check_cron(expression: str) -> None:
    """Refuse what is no cron expression of five fields, or is never due.

    Raises:
        ValueError: saying so.
    """
    from croniter import CroniterError, croniter

    fields = expression.split()
    # croniter reads more: seconds, years, and a random time where there is an R or an H.
    is_plain = expression.startswith("@") or (
        len(fields) == _CRON_FIELDS and not any(field[0] in "rRhH" for field in fields)
    )
    if not is_plain or not croniter.is_valid(expression):
        raise ValueError(f"{expression!r} is not a cron expression of five fields")
    try:
        croniter(expression, datetime(2024, 1, 1)).get_next(datetime)
    except CroniterError:
        raise ValueError(f"{expression!r} is never due: there is no such day") from None


def next_cron(expression: str, zone: ZoneInfo, *, after: datetime) -> datetime:
    """Return the first moment (UTC) later than `after` at which a cron expression, in local time, is due.

    Raises:
        OverflowError: it would be after the year 9999.
    """
    from croniter import croniter

    find = _next_hourly if croniter.expand(expression)[0][1] == _EVERY_HOUR else _next_daily
    try:
        return find(expression, zone, after=after)
    except ValueError:  # of an expression that is due at times
        raise OverflowError(_TOO_LATE) from None


def _next_daily(expression: str, zone: ZoneInfo, *, after: datetime) -> datetime:
    from croniter import croniter

    walls = croniter(expression, _shown(after, zone))
    while (moment := instant_of(walls.get_next(datetime), zone)) <= after:
        pass  # its first time was before the clocks went back
    return moment


def _next_hourly(expression: str, zone: ZoneInfo, *, after: datetime) -> datetime:
    from croniter import croniter

    wall = _shown(after, zone)
    # What is shown again by clocks that are about to go back is due although its local time is earlier than this one.
    repeated = wall - _shown(after + _DAY, zone) + _DAY
    walls = croniter(expression, wall - max(repeated, timedelta()))
    best: datetime | None = None
    while True:
        due: datetime = walls.get_next(datetime)
        both = [due.replace(tzinfo=zone, fold=fold).astimezone(UTC) for fold in (0, 1)]
        if best is not None and min(both) >= best:
            return best
        real = [moment for moment in both if moment > after and _shown(moment, zone) == due]
        best = min([*real, *([best] if best else [])], default=None)


def _shown(moment: datetime, zone: ZoneInfo) -> datetime:
    """Return what the clocks of a zone show, without the zone."""
    return moment.astimezone(zone).replace(tzinfo=None, fold=0)


def _jump_over(wall: datetime, zone: ZoneInfo) -> datetime:
    """Return the moment at which the clocks jump over a local time, to the second."""
    first = wall.replace(tzinfo=zone, fold=1).astimezone(UTC)
    last = wall.replace(tzinfo=zone, fold=0).astimezone(UTC)
    first, last = first.replace(microsecond=0) - _SECOND, last.replace(microsecond=0) + _SECOND
    while last - first > _SECOND:
        middle = first + (last - first) // _SECOND // 2 * _SECOND
        if _shown(middle, zone) < wall:
            first = middle
        else:
            last = middle
    return last


def _months_from(day: date) -> Iterator[tuple[int, int]]:
    year, month = day.year, day.month
    while year <= MAXYEAR:
        yield year, month
        year, month = (year + 1, 1) if month == 12 else (year, month + 1)


def _day_in(year: int, month: int, of_month: int) -> date:
    return date(year, month, min(of_month, calendar.monthrange(year, month)[1]))
