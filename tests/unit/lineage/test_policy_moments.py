"""Every kind of policy against an oracle that steps through time, above all where the clocks change."""

import warnings
from datetime import UTC, date, datetime, time, timedelta
from functools import cache
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from freshline.lineage.freshness import parse_policy
from tests.unit.lineage import clocks
from tests.unit.lineage.clocks import DAY, FIRST, LAST, ZONES, CronFields

QUICK = settings(max_examples=40, deadline=None, database=None)
LONG = settings(max_examples=3000, deadline=None, database=None)
EXCHANGES = ("XNYS", "XLON", "CMES", "24/7", "XHKG", "XETR")


@st.composite
def places(draw):
    """A zone, and a moment that is often near a change of its clocks."""
    name = draw(st.sampled_from(ZONES))
    changes = clocks.changes(name)
    if changes and draw(st.integers(0, 3)):
        seconds = draw(st.integers(-30 * 3600, 5 * 3600))
        return name, draw(st.sampled_from(changes)) + timedelta(seconds=seconds)
    return name, FIRST + timedelta(seconds=draw(st.integers(0, int((LAST - FIRST).total_seconds()))))


def some(low, high):
    return st.frozensets(st.integers(low, high), min_size=1, max_size=4)


def star_or(low, high, *, stars):
    return st.one_of(*[st.none()] * stars, some(low, high))


crons = st.builds(
    CronFields,
    minute=star_or(0, 59, stars=1),
    hour=star_or(0, 23, stars=1),
    day=star_or(1, 28, stars=3),
    month=star_or(1, 12, stars=3),
    weekday=star_or(0, 6, stars=3),
)
# Clocks change in the small hours.
times = st.builds(time, st.sampled_from([*range(24), 0, 1, 2, 3]), st.sampled_from([0, 1, 15, 30, 59]))
data_dates = st.dates(date(2007, 1, 1), date(2036, 12, 31))


def check_cron(place, fields):
    name, after = place
    policy = parse_policy({"cron": fields.text(), "timezone": name})
    assert policy.lapses_at(run_at=after, data_date=None) == clocks.next_cron(fields, ZoneInfo(name), after)


def check_days(place, at, written, is_on):
    name, after = place
    policy = parse_policy({**written, "at": at.strftime("%H:%M"), "timezone": name})
    assert policy.lapses_at(run_at=after, data_date=None) == clocks.next_on(is_on, at, ZoneInfo(name), after)


def check_weekly(place, at, weekday):
    check_days(place, at, {"weekly": weekday}, lambda day: clocks.is_weekday(day, weekday))


def check_monthly(place, at, number):
    written = {"monthly": number}
    check_days(place, at, written, lambda day: clocks.is_day_of_month(day, 31 if number == "last" else number))


def check_quarterly_lag(place, at, lag):
    check_days(place, at, {"quarterly": f"{lag}d"}, lambda day: clocks.ends_quarter(day - lag * DAY))


def check_quarterly_day(place, at, month, number):
    def is_on(day):
        return clocks.is_in_month_of_quarter(day, month) and clocks.is_day_of_month(day, number)

    check_days(place, at, {"quarterly": {"month": month, "day": number}}, is_on)


def check_irregular(place, at, around):
    name, after = place
    days = [after.date() + n * DAY for n in around]
    policy = parse_policy({"irregular": [str(day) for day in days], "at": at.strftime("%H:%M"), "timezone": name})
    moments = sorted(clocks.first_shown(day, at, ZoneInfo(name)) for day in days)
    expected = next((moment for moment in moments if moment > after), None)
    assert policy.lapses_at(run_at=after, data_date=None) == expected


def check_data(place, data_date, at, weekday):
    """Of the data date: the first time after the end of that day, as the zone has it."""
    name, after = place
    policy = parse_policy({"weekly": weekday, "at": at.strftime("%H:%M"), "timezone": name, "of": "data"})
    zone = ZoneInfo(name)
    ended = clocks.first_shown(data_date + DAY, time(), zone)
    expected = clocks.next_on(lambda day: clocks.is_weekday(day, weekday), at, zone, ended)
    assert policy.lapses_at(run_at=after, data_date=data_date) == expected


@cache
def closes_of(name, year):
    """The close of every session in three years, stepped through day by day."""
    import exchange_calendars

    with warnings.catch_warnings():
        # exchange_calendars 4.13 uses what pandas 3.1 deprecates.
        warnings.filterwarnings("ignore", message="Series.values returning")
        found = exchange_calendars.get_calendar(name, start=date(year - 1, 1, 1), end=date(year + 3, 12, 31))
    days = [date(year, 1, 1) + n * DAY for n in range(3 * 365)]
    return {day: found.session_close(day).to_pydatetime() for day in days if found.is_session(day)}


def check_calendar(name, year, days, sessions):
    data_date = date(year, 1, 1) + days * DAY
    closes, day = closes_of(name, year), data_date
    for _ in range(sessions):
        day += DAY
        while day not in closes:
            day += DAY
    policy = parse_policy({"calendar": name, "sessions": sessions})
    assert policy.lapses_at(run_at=FIRST, data_date=data_date) == closes[day]


def check_calendar_of_run(name, year, elapsed, sessions):
    run_at = datetime(year, 1, 2, tzinfo=UTC) + elapsed
    closes = sorted(close for close in closes_of(name, year).values() if close > run_at)
    policy = parse_policy({"calendar": name, "sessions": sessions, "of": "run"})
    assert policy.lapses_at(run_at=run_at, data_date=None) == closes[sessions - 1]


many_sessions = st.one_of(st.integers(1, 5), st.integers(1, 120))


CHECKS = {
    "cron": (check_cron, (places(), crons)),
    "weekly": (check_weekly, (places(), times, st.sampled_from(["monday", "friday", "sunday"]))),
    "monthly": (check_monthly, (places(), times, st.one_of(st.integers(1, 31), st.just("last")))),
    "quarterly_lag": (check_quarterly_lag, (places(), times, st.integers(0, 366))),
    "quarterly_day": (check_quarterly_day, (places(), times, st.integers(1, 3), st.integers(1, 31))),
    "irregular": (check_irregular, (places(), times, st.lists(st.integers(-3, 3), min_size=1, max_size=4))),
    "data_date": (check_data, (places(), data_dates, times, st.sampled_from(["monday", "friday", "sunday"]))),
}
CALENDARS = {
    "calendar": (check_calendar, (st.integers(0, 729), many_sessions)),
    "calendar_of_run": (check_calendar_of_run, (st.timedeltas(timedelta(), timedelta(days=729)), many_sessions)),
}


@pytest.mark.parametrize("kind", CHECKS)
def test_moment_is_the_one_that_stepping_through_time_finds(kind):
    check, drawn = CHECKS[kind]
    QUICK(given(*drawn)(check))()


@pytest.mark.slow
@pytest.mark.parametrize("kind", CHECKS)
def test_moment_is_the_one_that_stepping_through_time_finds_for_long(kind):
    check, drawn = CHECKS[kind]
    LONG(given(*drawn)(check))()


@pytest.mark.parametrize("kind", CALENDARS)
def test_close_is_the_one_in_the_table_of_sessions(kind):
    check, drawn = CALENDARS[kind]
    QUICK(given(st.sampled_from(["XNYS", "XLON", "CMES", "24/7"]), st.sampled_from([2012, 2025]), *drawn)(check))()


# The library's calendar of Hong Kong asks pandas for what a later pandas calls otherwise.
@pytest.mark.filterwarnings("ignore:DatetimeIndex.weekday is deprecated")
@pytest.mark.slow
@pytest.mark.parametrize("kind", CALENDARS)
def test_close_is_the_one_in_the_table_of_sessions_for_long(kind):
    check, drawn = CALENDARS[kind]
    LONG(given(st.sampled_from(EXCHANGES), st.integers(2007, 2030), *drawn)(check))()


POLICIES = (
    {"max_age": "36h"},
    {"cron": "0 */6 * * *", "timezone": "Europe/London"},
    {"cron": "17 * * * *", "timezone": "America/New_York"},
    {"weekly": "sunday", "at": "02:30", "timezone": "America/New_York"},
    {"monthly": "last", "at": "01:30", "timezone": "Europe/London"},
    {"quarterly": "45d", "at": "18:00"},
    {"calendar": "24/7", "of": "run", "sessions": 2},
)


@QUICK
@given(
    st.sampled_from(POLICIES),
    st.datetimes(datetime(2008, 1, 1), datetime(2035, 1, 1), timezones=st.just(UTC)),
    st.timedeltas(timedelta(0), timedelta(days=3)),
    *[st.timedeltas(timedelta(0), timedelta(days=2))] * 2,
    st.timedeltas(timedelta(seconds=1), timedelta(days=2)),
)
def test_moments_come_in_order_and_never_earlier_for_a_later_run(written, run_at, later, grace, warn, between):
    grace, warn = (timedelta(seconds=value // timedelta(seconds=1)) for value in (grace, warn))
    levels = {"grace": grace, "warn": warn, "fail": warn + between}
    bare, policy = parse_policy(written), parse_policy({**written, **levels})
    due_at = bare.lapses_at(run_at=run_at, data_date=None)
    found = policy.moments(run_at=run_at, data_date=None)
    assert due_at > run_at
    assert (found.warns_at, found.lapses_at) == (due_at + grace + warn, due_at + grace + warn + between)
    assert policy.warns_at(lapses_at=found.lapses_at) == found.warns_at
    assert bare.lapses_at(run_at=run_at + later, data_date=None) >= due_at


def test_sentinel_in_a_list_of_moments_does_not_hide_the_others():
    policy = parse_policy({"irregular": ["2026-12-18", "9999-12-31"], "at": "23:00", "timezone": "America/New_York"})
    lapses_at = policy.lapses_at(run_at=datetime(2026, 11, 1, tzinfo=UTC), data_date=None)
    assert lapses_at == datetime(2026, 12, 19, 4, tzinfo=UTC)
