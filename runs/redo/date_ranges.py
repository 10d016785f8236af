"""The data dates of a range: sessions of an exchange calendar, or every so many days, weeks or months.

Pure functions of dates; knows no table.
"""

import re
import warnings
from calendar import monthrange
from collections.abc import Callable, Iterator
from datetime import date, timedelta

from ...storage.errors import InvalidInput, NotFound

MOST_DATES = 100_000
_STEP = re.compile(r"(\d{1,6})(d|w|mo)")


def dates_between(first: date, last: date, *, calendar: str | None, every: str | None) -> list[date]:
    """Return the dates from `first` to `last`, both included, in order.

    Exactly one of `calendar` (a name of `exchange_calendars`) and `every` (`1d`, `2w`, `1mo`) is given. A step counts
    from `first`; months keep its day, or end with the month where it has no such day.

    Raises:
        InvalidInput: the range is reversed or holds no date or more than 100,000, or the step cannot be read.
        NotFound: there is no such calendar; the message suggests the nearest names.
    """
    if (calendar is None) == (every is None):
        raise InvalidInput("say either a calendar or a step (every), and not both: --calendar XNYS or --every 1d")
    if first > last:
        raise InvalidInput(f"the range from {first} to {last} is reversed: write the earlier date first")
    if calendar is not None:
        found = _sessions(calendar, first, last)
        if not found:
            raise InvalidInput(f"{calendar} has no session from {first} to {last}: choose a longer range")
    else:
        found = list(_steps(first, last, str(every)))
    if len(found) > MOST_DATES:
        raise _too_many(first, last, f"{len(found):,}")
    return found


def _too_many(first: date, last: date, count: str) -> InvalidInput:
    return InvalidInput(
        f"the range from {first} to {last} holds {count} dates; at most {MOST_DATES:,} at once: split it"
    )


def _steps(first: date, last: date, every: str) -> Iterator[date]:
    match = _STEP.fullmatch(every.strip())
    if match is None or int(match[1]) == 0:
        raise InvalidInput(f"every={every!r} is no step: write days, weeks or months like 1d, 2w or 1mo")
    step = int(match[1])
    days = timedelta(weeks=step) if match[2] == "w" else timedelta(days=step)
    at: Callable[[int], date] = (
        (lambda number: _months_after(first, number * step))
        if match[2] == "mo"
        else (lambda number: first + number * days)
    )
    number = 0
    while True:
        try:
            found = at(number)
        except (OverflowError, ValueError):
            return  # after the last date that there is
        if found > last:
            return
        if number == MOST_DATES:
            raise _too_many(first, last, f"more than {MOST_DATES:,}")
        yield found
        number += 1


def _months_after(first: date, months: int) -> date:
    years, month = divmod(first.month - 1 + months, 12)
    year = first.year + years
    return date(year, month + 1, min(first.day, monthrange(year, month + 1)[1]))


def _sessions(name: str, first: date, last: date) -> list[date]:
    import exchange_calendars
    import pandas as pd

    known = exchange_calendars.get_calendar_names()
    if name not in known:
        raise NotFound("calendar of exchange_calendars", name, known=known)
    with warnings.catch_warnings():
        # exchange_calendars 4.13 uses what pandas 3.1 deprecates.
        warnings.filterwarnings("ignore", message="Series.values returning")
        try:
            # A window with room for any run of holidays: a calendar without a session is refused.
            found = exchange_calendars.get_calendar(
                name, start=first - timedelta(days=30), end=last + timedelta(days=30)
            ).sessions
        except (ValueError, OverflowError) as error:
            raise InvalidInput(f"{name} does not reach from {first} to {last}: {error}") from None
    inside = found[(found >= pd.Timestamp(first)) & (found <= pd.Timestamp(last))]
    return [session.date() for session in inside]
