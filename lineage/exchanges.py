"""The sessions of exchanges: on which days they trade, and when each session closes.

Owns what is assumed of days of which `exchange_calendars` does not know yet: some exchanges publish their holidays a
year at a time. Knows no policy and no table. The first question about an exchange takes a while: about a second to
import the package, and some tenths of it to compute the exchange's holidays.
"""

import warnings
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, date, datetime, time, timedelta
from functools import lru_cache
from itertools import count, islice
from textwrap import shorten
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo

from ..storage.errors import InvalidInput, nearest_names
from .occurrences import instant_of

_DAY = timedelta(days=1)
_YEARS_AT_ONCE = 2
_FIRST_YEAR, _LAST_YEAR = 1800, 2249
"""Where pandas, which the package builds on, still has room: a table may have a sentinel such as 9999-12-31 in it."""


class Session(NamedTuple):
    """A day on which an exchange trades."""

    day: date
    closes_at: datetime
    """UTC."""


def check_exchange(name: str) -> None:
    """Refuse a calendar that does not exist, or of which the installed package cannot compute the sessions.

    Raises:
        InvalidInput: saying so.
    """
    import exchange_calendars

    known = exchange_calendars.get_calendar_names()
    if name not in known:
        near = nearest_names(name, known) or ("XNYS", "XLON")
        raise InvalidInput(f"{name!r} is not a calendar of exchange_calendars, such as {' or '.join(near)}")
    _known(name, datetime.now(UTC).year)


def close_after_day(name: str, day: date, *, sessions: int) -> datetime:
    """Return when the last of so many sessions after a day closes (UTC)."""
    later = (session.closes_at for session in _sessions_from(name, day.year) if session.day > day)
    return next(islice(later, sessions - 1, None))


def close_after(name: str, moment: datetime, *, sessions: int) -> datetime:
    """Return when the last of so many sessions closes that close later than a moment (UTC)."""
    # A session may close on the UTC day before its own, or on the one after.
    first_year = (moment - _DAY).year
    later = (session.closes_at for session in _sessions_from(name, first_year) if session.closes_at > moment)
    return next(islice(later, sessions - 1, None))


def _sessions_from(name: str, year: int) -> Iterator[Session]:
    """Give all sessions from a year on, without end: those that are known, then those that are assumed."""
    until = date(_LAST_YEAR, 12, 31)
    begin = date(year, 1, 1)
    for first in range(min(max(year, _FIRST_YEAR), _LAST_YEAR - 1), _LAST_YEAR, _YEARS_AT_ONCE):
        known = _known(name, first)
        yield from known.sessions
        if known.until is not None:
            until = known.until
            break
    yield from _assumed(name, until, begin=begin)


class _Known(NamedTuple):
    sessions: tuple[Session, ...]
    until: date | None
    """The last day of which anything is known, when that lies before the end of what was asked for."""


@lru_cache(maxsize=64)
def _known(name: str, year: int) -> _Known:
    """Return the sessions of some years from this one on, as far as they are known."""
    first, last = date(year, 1, 1), date(year + _YEARS_AT_ONCE - 1, 12, 31)
    try:
        return _Known(_sessions_of(_calendar(name, first, last)), None)
    except ValueError:
        pass  # not computable for all of these years: for how many, the package says only once it has a calendar
    begin, end = _bounds(name)
    until = end if end is not None and end < last else None
    first, last = max(first, begin or first), min(last, end or last)
    return _Known(_sessions_of(_calendar(name, first, last)) if first < last else (), until)


def _assumed(name: str, known_until: date, *, begin: date) -> Iterator[Session]:
    """Give a session for each usual weekday after the last day that is known: no holiday, the usual close."""
    habits = _habits(name, known_until)
    first = max(known_until + _DAY, begin)
    for ahead in count():
        day = first + ahead * _DAY
        if day.weekday() in habits.weekdays:
            yield Session(day, instant_of(datetime.combine(day, time()) + habits.closes_after, habits.zone))


class _Habits(NamedTuple):
    weekdays: frozenset[int]
    closes_after: timedelta
    """Local time of the usual close, from the begin of the session's day."""
    zone: ZoneInfo


@lru_cache(maxsize=64)
def _habits(name: str, known_until: date) -> _Habits:
    calendar = _calendar(name, known_until - timedelta(days=364), known_until)
    zone = ZoneInfo(str(calendar.tz))
    sessions = _sessions_of(calendar)
    weekdays = Counter(session.day.weekday() for session in sessions)
    closes = Counter(
        session.closes_at.astimezone(zone).replace(tzinfo=None) - datetime.combine(session.day, time())
        for session in sessions
    )
    # A session or two at a weekend are exceptions.
    usual = frozenset(weekday for weekday, times in weekdays.items() if times > 10)
    return _Habits(usual, closes.most_common(1)[0][0], zone)


def _sessions_of(calendar: Any) -> tuple[Session, ...]:
    closes = calendar.closes
    return tuple(
        Session(day.date(), close.to_pydatetime().astimezone(UTC))
        for day, close in zip(closes.index, closes, strict=True)
    )


def _bounds(name: str) -> tuple[date | None, date | None]:
    """Return the first and the last day of which the package knows anything, where it says so."""
    try:
        calendar = _calendar(name)
    except ValueError as error:
        raise _not_computable(name, error) from None
    begin, end = calendar.bound_min(), calendar.bound_max()
    return begin.date() if begin is not None else None, end.date() if end is not None else None


def _calendar(name: str, first: date | None = None, last: date | None = None) -> Any:
    import exchange_calendars

    with warnings.catch_warnings():
        # exchange_calendars 4.13 uses what pandas 3.1 deprecates.
        warnings.filterwarnings("ignore", message="Series.values returning")
        try:
            return exchange_calendars.get_calendar(name, start=first, end=last)
        except NotImplementedError as error:
            raise _not_computable(name, error) from None


def _not_computable(name: str, error: Exception) -> InvalidInput:
    return InvalidInput(
        f"the installed exchange_calendars lists the calendar {name!r} and cannot compute it "
        f"({shorten(str(error), 80)}); choose another one"
    )
