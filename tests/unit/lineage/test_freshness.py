"""Freshness policies: when a version is warned of, when it lapses, and what is refused."""

from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest

from freshline.lineage.freshness import Moments, parse_policy, stored_policy
from freshline.storage.errors import InvalidInput

RUN_AT = datetime(2026, 11, 25, 23, 30, tzinfo=UTC)  # Wednesday evening, the day before Thanksgiving
NEW_YORK = "America/New_York"


def at(*parts):
    return datetime(*parts, tzinfo=UTC)


@pytest.mark.parametrize(
    ("written", "message"),
    [
        ({}, "exactly one of max_age, cron, weekly, monthly, quarterly, irregular, calendar; this one has none"),
        ({"max_age": "1d", "cron": "* * * * *"}, "this one has max_age, cron"),
        ({"maxage": "1d"}, "did you mean max_age?"),
        ({"max_age": "soon"}, "'soon' is not a duration; write it like 90m"),
        ({"max_age": ""}, "is not a duration"),
        ({"max_age": 5}, "5 is not a duration"),
        ({"max_age": "-1d"}, "'-1d' is not a duration"),
        ({"max_age": "999999999999w"}, "longer than 100 years"),
        ({"max_age": "36526d"}, "longer than 100 years"),
        ({"max_age": "1d", "of": "lunch"}, "freshness.of: Input should be 'run' or 'data'"),
        ({"max_age": "1d", "graze": "1h"}, "freshness.graze: is not for a `max_age` policy; did you mean grace?"),
        ({"max_age": "1d", "warn": "2h"}, "`warn` (2h) must be shorter than `fail` (0s), or nobody is ever warned"),
        ({"max_age": "1d", "warn": "36h", "fail": "1d12h"}, "`warn` (1d12h) must be shorter than `fail` (1d12h)"),
        ({"max_age": "1d", "fail": "late"}, "freshness.fail: 'late' is not a duration"),
        ({"cron": "every day"}, "not a cron expression"),
        ({"cron": "0 18 * * 1-5 2026"}, "not a cron expression of five fields"),
        ({"cron": "R 18 * * *"}, "not a cron expression of five fields"),
        ({"cron": "0 0 30 2 *"}, "'0 0 30 2 *' is never due"),
        ({"cron": "0 18 * * *", "timezone": "New York"}, "'New York' is not a time zone"),
        ({"cron": "0 18 * * *", "timezone": "../etc/passwd"}, "is not a time zone"),
        ({"cron": "0 18 * * *", "timezone": "America"}, "is not a time zone"),
        ({"cron": "0 18 * * *", "timezone": 5}, "5 is not a time zone"),
        ({"weekly": "friday"}, 'freshness.at: is needed beside `weekly`; write it like at: "18:00"'),
        ({"weekly": "firday", "at": "18:00"}, "'firday' is not a weekday; did you mean friday"),
        ({"weekly": 5, "at": "18:00"}, "5 is not a weekday; write it like monday"),
        ({"weekly": "fri", "at": 1080}, '1080 is what YAML reads 18:00 as; quote it: "18:00"'),
        ({"weekly": "fri", "at": "24:00"}, "'24:00' is not a time of day"),
        ({"weekly": "fri", "at": "6pm"}, "'6pm' is not a time of day"),
        ({"monthly": 32, "at": "18:00"}, "32 is not a day of a month; write a number from 1 to 31, or last"),
        ({"monthly": True, "at": "18:00"}, "True is not a day of a month"),
        ({"monthly": "first", "at": "18:00"}, "'first' is not a day of a month"),
        ({"quarterly": "36h", "at": "18:00"}, "'36h' is neither days after a quarter's end"),
        ({"quarterly": "367d", "at": "18:00"}, "at most 366d"),
        ({"quarterly": {"month": 4, "day": 1}, "at": "18:00"}, "its month is 1, 2 or 3"),
        ({"quarterly": {"day": 1}, "at": "18:00"}, "written like {month: 2, day: 15}"),
        ({"quarterly": {"month": 1, "day": 0}, "at": "18:00"}, "0 is not a day of a month"),
        ({"irregular": []}, "must be a list of dates"),
        ({"irregular": "2026-03-18"}, "must be a list of dates"),
        ({"irregular": ["2026-03-18"]}, '`irregular` lists 2026-03-18 without a time of day; write `at: "18:00"`'),
        ({"irregular": ["March"], "at": "18:00"}, "'March' is neither a date nor a moment"),
        ({"irregular": ["2026-02-30"], "at": "18:00"}, "'2026-02-30' is neither a date nor a moment"),
        ({"irregular": ["2026-01-01"] * 1001, "at": "18:00"}, "lists 1,001 moments; the most are 1,000"),
        ({"calendar": "NYSE2"}, "'NYSE2' is not a calendar of exchange_calendars, such as"),
        ({"calendar": 5}, "freshness.calendar: Input should be a valid string"),
        ({"calendar": "XNYS", "sessions": 0}, "freshness.sessions"),
        ({"calendar": "XNYS", "sessions": 1001}, "freshness.sessions"),
        ({"calendar": "XNYS", "at": "18:00"}, "freshness.at: is not for a `calendar` policy"),
    ],
)
def test_policy_that_cannot_be_read_is_refused_with_the_value_and_the_fix(written, message):
    with pytest.raises(InvalidInput) as caught:
        parse_policy(written)
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("written", "data_date", "expected"),
    [
        ({"max_age": "1d"}, None, RUN_AT + timedelta(days=1)),
        ({"max_age": "1d12h", "grace": "30m"}, None, RUN_AT + timedelta(days=1, hours=12, minutes=30)),
        ({"max_age": "1w"}, None, RUN_AT + timedelta(weeks=1)),
        ({"max_age": "2h", "of": "data"}, date(2026, 11, 24), at(2026, 11, 25, 2)),
        ({"max_age": "2h", "of": "data"}, None, None),
        ({"cron": "0 18 * * 1-5", "timezone": NEW_YORK}, None, at(2026, 11, 26, 23)),
        ({"cron": "0 18 * * 1-5", "grace": "1h"}, None, at(2026, 11, 26, 19)),
        ({"cron": "@daily"}, None, at(2026, 11, 26)),
        ({"cron": "0 9 * * *", "of": "data"}, date(2026, 11, 25), at(2026, 11, 26, 9)),
        ({"cron": "0 9 * * *", "of": "data"}, None, None),
        ({"weekly": "friday", "at": "18:00", "timezone": "Europe/London"}, None, at(2026, 11, 27, 18)),
        ({"weekly": "Wed", "at": "18:30", "timezone": NEW_YORK}, None, at(2026, 12, 2, 23, 30)),
        ({"weekly": "wednesday", "at": "18:31", "timezone": NEW_YORK}, None, at(2026, 11, 25, 23, 31)),
        ({"monthly": 25, "at": "18:00"}, None, at(2026, 12, 25, 18)),
        ({"monthly": 31, "at": "18:00"}, None, at(2026, 11, 30, 18)),
        ({"monthly": "last", "at": "18:00", "of": "data"}, date(2024, 2, 28), at(2024, 2, 29, 18)),
        ({"monthly": "last", "at": "18:00", "of": "data"}, date(2024, 2, 29), at(2024, 3, 31, 18)),
        ({"quarterly": "0d", "at": "18:00"}, None, at(2026, 12, 31, 18)),
        ({"quarterly": "45d", "at": "18:00"}, None, at(2027, 2, 14, 18)),
        ({"quarterly": "120d", "at": "18:00"}, None, at(2027, 1, 28, 18)),
        ({"quarterly": {"month": 2, "day": "last"}, "at": "18:00"}, None, at(2026, 11, 30, 18)),
        ({"quarterly": {"month": 1, "day": 15}, "at": "18:00"}, None, at(2027, 1, 15, 18)),
        ({"irregular": ["2026-12-16", "2026-11-25"], "at": "14:00", "timezone": NEW_YORK}, None, at(2026, 12, 16, 19)),
        ({"irregular": ["2026-12-16T14:30"], "timezone": NEW_YORK}, None, at(2026, 12, 16, 19, 30)),
        ({"irregular": ["2026-12-16T14:30+02:00"], "timezone": NEW_YORK}, None, at(2026, 12, 16, 12, 30)),
        ({"irregular": [date(2026, 12, 16)], "at": "14:00"}, None, at(2026, 12, 16, 14)),
        ({"irregular": ["2026-11-25"], "at": "14:00"}, None, None),
        # The next session after the 25th is the half day of the 27th, which closes at 13:00 in New York.
        ({"calendar": "XNYS", "sessions": 1, "grace": "2h"}, date(2026, 11, 25), at(2026, 11, 27, 20)),
        ({"calendar": "XNYS", "sessions": 2}, date(2026, 11, 25), at(2026, 11, 30, 21)),
        ({"calendar": "XNYS"}, None, None),
        ({"calendar": "XNYS", "of": "run"}, None, at(2026, 11, 27, 18)),
        ({"calendar": "24/7"}, date(2026, 11, 25), at(2026, 11, 27)),
        ({"calendar": "24/7", "of": "run", "sessions": 2}, None, at(2026, 11, 27)),
    ],
)
def test_policy_lapses_at_its_moment(written, data_date, expected):
    assert parse_policy(written).lapses_at(run_at=RUN_AT, data_date=data_date) == expected


def test_grace_moves_the_deadline_and_warn_and_fail_count_from_there():
    policy = parse_policy({"max_age": "1d", "grace": "1h", "warn": "30m", "fail": "6h"})
    found = policy.moments(run_at=at(2026, 1, 1), data_date=None)
    assert found == Moments(warns_at=at(2026, 1, 2, 1, 30), lapses_at=at(2026, 1, 2, 7))
    assert policy.warns_at(lapses_at=found.lapses_at) == found.warns_at


def test_policy_without_warn_warns_of_nothing():
    policy = parse_policy({"max_age": "1d", "fail": "6h"})
    assert policy.moments(run_at=at(2026, 1, 1), data_date=None) == Moments(None, at(2026, 1, 2, 6))
    assert policy.warns_at(lapses_at=at(2026, 1, 2, 6)) is None


def test_policy_that_is_due_no_more_neither_warns_nor_lapses():
    policy = parse_policy({"irregular": ["2020-01-01T00:00"], "warn": "1h", "fail": "2h"})
    assert policy.moments(run_at=RUN_AT, data_date=None) == Moments(None, None)
    assert policy.warns_at(lapses_at=None) is None


@pytest.mark.parametrize(
    ("expression", "after", "expected"),
    [
        # The clocks of New York go from 02:00 to 03:00 on 8 March 2026: 07:00 UTC.
        ("30 2 * * *", at(2026, 3, 8, 6), at(2026, 3, 8, 7)),
        ("30 2 * * *", at(2026, 3, 8, 7), at(2026, 3, 9, 6, 30)),
        ("*/20 2 * * *", at(2026, 3, 8, 6), at(2026, 3, 8, 7)),
        ("30 * * * *", at(2026, 3, 8, 6, 30), at(2026, 3, 8, 7, 30)),
        # They go from 02:00 back to 01:00 on 1 November 2026: 06:00 UTC.
        ("30 1 * * *", at(2026, 11, 1, 5), at(2026, 11, 1, 5, 30)),
        ("30 1 * * *", at(2026, 11, 1, 5, 30), at(2026, 11, 2, 6, 30)),
        ("30 1 * * *", at(2026, 11, 1, 6, 10), at(2026, 11, 2, 6, 30)),
        ("30 * * * *", at(2026, 11, 1, 5, 30), at(2026, 11, 1, 6, 30)),
        ("10 * * * *", at(2026, 11, 1, 5, 50), at(2026, 11, 1, 6, 10)),
        ("0 18 * * *", at(2026, 10, 31, 12), at(2026, 10, 31, 22)),
        ("0 18 * * *", at(2026, 11, 1, 12), at(2026, 11, 1, 23)),
    ],
)
def test_cron_where_the_clocks_change(expression, after, expected):
    policy = parse_policy({"cron": expression, "timezone": NEW_YORK})
    assert policy.lapses_at(run_at=after, data_date=None) == expected


def test_cron_is_due_later_than_the_run_to_the_microsecond():
    policy = parse_policy({"cron": "0 18 * * *"})
    before = at(2026, 1, 1, 18) - timedelta(microseconds=1)
    assert policy.lapses_at(run_at=before, data_date=None) == at(2026, 1, 1, 18)
    assert policy.lapses_at(run_at=at(2026, 1, 1, 18), data_date=None) == at(2026, 1, 2, 18)


def test_day_that_a_zone_left_out_is_due_when_the_next_one_begins():
    policy = parse_policy({"irregular": ["2011-12-30"], "at": "12:00", "timezone": "Pacific/Apia"})
    began = datetime(2011, 12, 31, tzinfo=ZoneInfo("Pacific/Apia"))
    assert policy.lapses_at(run_at=at(2011, 12, 1), data_date=None) == began


def test_exchange_whose_holidays_are_not_known_yet_is_taken_to_trade_on_its_usual_days():
    # Those of Shanghai are known to the end of a year: after it every Monday to Friday counts, until 15:00.
    policy = parse_policy({"calendar": "XSHG", "sessions": 2})
    beyond = policy.lapses_at(run_at=RUN_AT, data_date=date(2090, 1, 5))  # a Thursday
    assert beyond == at(2090, 1, 9, 7)
    across = parse_policy({"calendar": "XSHG", "sessions": 1000})
    assert across.lapses_at(run_at=RUN_AT, data_date=date(2026, 11, 20)) > at(2030, 9, 1)


def test_exchange_before_its_first_known_session_counts_from_there():
    found = parse_policy({"calendar": "XSHG"}).lapses_at(run_at=RUN_AT, data_date=date(1985, 12, 31))
    assert found == at(1990, 12, 3, 7)


@pytest.mark.parametrize(
    ("name", "data_date", "sessions", "expected"),
    [
        ("XNYS", date(2001, 9, 10), 1, at(2001, 9, 17, 20)),  # closed for four sessions
        ("XNYS", date(2025, 1, 8), 1, at(2025, 1, 10, 21)),  # a day of mourning
        ("XNYS", date(2026, 3, 6), 1, at(2026, 3, 9, 20)),  # daylight saving has begun over the weekend
        ("XLON", date(2026, 12, 23), 1, at(2026, 12, 24, 12, 30)),  # a half day
        ("XLON", date(2026, 12, 24), 1, at(2026, 12, 29, 16, 30)),  # Christmas, and Boxing Day's holiday on Monday
        ("CMES", date(2026, 11, 25), 1, at(2026, 11, 26, 18)),  # Thanksgiving is a half day in Chicago
        ("24/7", date(2024, 2, 28), 1, at(2024, 3, 1)),  # a leap day
    ],
)
def test_calendar_knows_half_days_and_holidays(name, data_date, sessions, expected):
    policy = parse_policy({"calendar": name, "sessions": sessions})
    assert policy.lapses_at(run_at=RUN_AT, data_date=data_date) == expected


@pytest.mark.parametrize("name", ["ASEX", "XTAE"])
def test_exchange_that_the_package_lists_and_cannot_compute_is_refused(name):
    import exchange_calendars

    try:
        exchange_calendars.get_calendar(name)
    except (NotImplementedError, ValueError):
        with pytest.raises(InvalidInput, match=f"lists the calendar '{name}' and cannot compute it"):
            parse_policy({"calendar": name})
    else:
        assert parse_policy({"calendar": name}).lapses_at(run_at=RUN_AT, data_date=date(2026, 11, 20)) is not None


OF_DATA = (
    {"max_age": "1d", "of": "data"},
    {"cron": "0 18 * * 1-5", "of": "data", "timezone": "Pacific/Apia"},
    {"cron": "30 * * * *", "of": "data", "timezone": NEW_YORK},
    {"weekly": "friday", "at": "18:00", "of": "data", "timezone": "Asia/Tokyo"},
    {"monthly": "last", "at": "18:00", "of": "data"},
    {"quarterly": "45d", "at": "18:00", "of": "data"},
    {"quarterly": {"month": 2, "day": 31}, "at": "18:00", "of": "data"},
    {"irregular": ["2026-12-16"], "at": "18:00", "of": "data"},
    {"calendar": "XNYS"},
    {"calendar": "XSHG", "sessions": 3},
    {"calendar": "24/7"},
)


@pytest.mark.parametrize("written", OF_DATA, ids=str)
@pytest.mark.parametrize("data_date", [date.max, date(9999, 12, 30), date(9999, 11, 1), date(2999, 12, 31)])
def test_data_date_that_is_a_sentinel_holds_for_as_long_as_can_be_written(written, data_date):
    found = parse_policy(written).lapses_at(run_at=RUN_AT, data_date=data_date)
    assert found is None or found.date() > data_date


@pytest.mark.parametrize("written", OF_DATA, ids=str)
@pytest.mark.parametrize("data_date", [date(3, 2, 1), date(1700, 1, 1)])
def test_data_date_long_ago_has_lapsed(written, data_date):
    assert parse_policy(written).lapses_at(run_at=RUN_AT, data_date=data_date) < at(2026, 12, 17)


def test_stored_policy_is_read_once():
    written = {"weekly": "friday", "at": "18:00"}
    assert stored_policy(written) is stored_policy(dict(written))
    assert stored_policy(written) == parse_policy(written)
