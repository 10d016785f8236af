"""Connections are kept between transactions, and none outlives the store that opened it."""

import threading
from datetime import UTC, datetime, timedelta, timezone

import pytest
import sqlalchemy as sa

from freshline.storage.database import Database, UtcDateTime
from freshline.storage.errors import InvalidInput


def raw_of(connection):
    return connection.connection.driver_connection


def is_closed(raw):
    try:
        raw.execute("SELECT 1")
    except Exception:
        return True
    return False


def test_connection_is_used_again_by_the_next_transaction(database):
    with database.read() as connection:
        first = raw_of(connection)
    with database.transaction() as connection:
        assert raw_of(connection) is first


def test_connection_in_use_while_the_store_is_closed_is_closed_at_the_end_of_its_transaction(database_url):
    closing = Database(database_url, sqlite_synchronous="OFF")
    began, may_end, held = threading.Event(), threading.Event(), []

    def last_words():
        with closing.read() as connection:
            held.append(raw_of(connection))
            began.set()
            may_end.wait(timeout=60)
            connection.execute(sa.text("SELECT 1"))

    thread = threading.Thread(target=last_words)
    thread.start()
    assert began.wait(timeout=60)
    closing.dispose()
    may_end.set()
    thread.join(timeout=60)
    assert is_closed(held[0])


def test_store_that_was_closed_opens_again_when_it_is_used(database):
    with database.read() as connection:
        first = raw_of(connection)
    database.dispose()
    assert is_closed(first)
    with database.read() as connection:
        assert connection.execute(sa.text("SELECT 1")).scalar_one() == 1


@pytest.mark.parametrize(
    ("moment", "said"),
    [
        (datetime.min.replace(tzinfo=timezone(timedelta(hours=14))), "0001-01-01T00:00:00\\+14:00 is not in the years"),
        (datetime.max.replace(tzinfo=timezone(-timedelta(hours=14))), "9999-12-31T23:59:59.999999-14:00 is not in"),
        (datetime(2026, 1, 5), "2026-01-05T00:00:00 has no time zone"),
    ],
    ids=["before the first year", "behind the last year", "naive"],
)
def test_moment_that_no_database_holds_is_refused(database, moment, said):
    with pytest.raises(InvalidInput, match=said), database.read() as connection:
        connection.execute(sa.select(sa.literal(moment, UtcDateTime())))


def test_moments_are_those_of_utc_whatever_the_zone_of_the_session(postgres_url):
    url = sa.make_url(f"{postgres_url}/postgres").update_query_dict({"options": "-c TimeZone=Asia/Kolkata"})
    database = Database(url.render_as_string(hide_password=False))
    try:
        with database.read() as connection:
            (moment,) = connection.execute(sa.text("SELECT now()")).one()
    finally:
        database.dispose()
    assert moment.tzinfo is UTC
