"""Freshness policies: when a version lapses, and what is refused."""

from datetime import UTC, date, datetime, timedelta

import pytest

from freshline.lineage.freshness import parse_policy
from freshline.storage.errors import InvalidInput

RUN_AT = datetime(2026, 11, 25, 23, 30, tzinfo=UTC)  # Wednesday evening, the day before Thanksgiving


def at(*parts):
    return datetime(*parts, tzinfo=UTC)


@pytest.mark.parametrize(
    ("written", "data_date", "expected"),
    [
        ({"max_age": "1d"}, None, RUN_AT + timedelta(days=1)),
        ({"max_age": "1d12h", "grace": "30m"}, None, RUN_AT + timedelta(days=1, hours=12, minutes=30)),
        ({"max_age": "1w"}, None, RUN_AT + timedelta(weeks=1)),
        ({"max_age": "2h", "of": "data"}, date(2026, 11, 24), at(2026, 11, 25, 2)),
        ({"max_age": "2h", "of": "data"}, None, None),
        ({"cron": "0 18 * * 1-5", "timezone": "America/New_York"}, None, at(2026, 11, 26, 23)),
        ({"cron": "0 18 * * 1-5", "grace": "1h"}, None, at(2026, 11, 26, 19)),
        # The next session after the 25th is the half day of the 27th, which closes at 13:00 in New York.
        ({"calendar": "XNYS", "sessions": 1, "grace": "2h"}, date(2026, 11, 25), at(2026, 11, 27, 20)),
        ({"calendar": "XNYS", "sessions": 2}, date(2026, 11, 25), at(2026, 11, 30, 21)),
        ({"calendar": "XNYS"}, None, None),
    ],
)
def test_policy_lapses_at_its_moment(written, data_date, expected):
    assert parse_policy(written).lapses_at(run_at=RUN_AT, data_date=data_date) == expected


def test_cron_across_the_end_of_daylight_saving_keeps_the_local_hour():
    policy = parse_policy({"cron": "0 18 * * *", "timezone": "America/New_York"})
    before = datetime(2026, 10, 31, 12, tzinfo=UTC)
    after = datetime(2026, 11, 1, 12, tzinfo=UTC)
    assert policy.lapses_at(run_at=before, data_date=None) == at(2026, 10, 31, 22)
    assert policy.lapses_at(run_at=after, data_date=None) == at(2026, 11, 1, 23)


@pytest.mark.parametrize(
    ("written", "message"),
    [
        ({}, "exactly one of max_age, cron, calendar; this one has none"),
        ({"max_age": "1d", "cron": "* * * * *"}, "this one has max_age, cron"),
        ({"max_age": "soon"}, "'soon' is not a duration; write it like 90m"),
        ({"max_age": ""}, "is not a duration"),
        ({"max_age": 5}, "5 is not a duration"),
        ({"max_age": "1d", "graze": "1h"}, "freshness.graze"),
        ({"cron": "every day"}, "not a cron expression"),
        ({"cron": "0 18 * * *", "timezone": "New York"}, "'New York' is not a time zone"),
        ({"calendar": "NYSE2"}, "not a calendar of exchange_calendars"),
        ({"calendar": "XNYS", "sessions": 0}, "freshness.sessions"),
    ],
)
def test_policy_that_cannot_be_read_is_refused_with_the_value_and_the_fix(written, message):
    with pytest.raises(InvalidInput, match=message.replace("*", r"\*").replace(".", r"\.")):
        parse_policy(written)
