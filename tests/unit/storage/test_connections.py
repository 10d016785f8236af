"""Connections are kept between transactions, and none outlives the store that opened it."""

import threading

import sqlalchemy as sa

from freshline.storage.database import Database


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
