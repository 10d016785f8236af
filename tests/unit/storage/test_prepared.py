"""Statements prepared by hand on Postgres behave as psycopg's own, whatever else happens on their connection."""

import uuid
from datetime import UTC, datetime

import pytest
import sqlalchemy as sa
from sqlalchemy import exc
from sqlalchemy.dialects import postgresql

from freshline.storage.database import Database
from freshline.storage.errors import InvalidInput
from freshline.storage.prepared import Prepared
from freshline.storage.statement import Statement

_ECHO = Statement(lambda _: sa.select(sa.bindparam("text", type_=sa.String).label("text")))
_ADD = Statement(lambda _: sa.select((sa.bindparam("a", type_=sa.Integer) + 1).label("sum")))
_BROKEN = Statement(lambda _: sa.select(sa.literal_column("1 / 0").label("never")))


@pytest.fixture
def postgres(postgres_url):
    opened = Database(f"{postgres_url}/template_freshline", pool_size=1)
    yield opened
    opened.dispose()


def test_text_of_a_statement_gets_numbered_parameters_and_single_percent_signs():
    made = Prepared("SELECT %(a)s::INTEGER, %(b)s, %(a)s, 7 %% 3")
    assert (made.query, made.parameters) == (b"SELECT $1::INTEGER, $2, $1, 7 % 3", ("a", "b"))


def test_statement_is_still_known_after_others_were_rolled_back(postgres):
    with postgres.read() as connection:
        assert _ADD.scalar(connection, a=1) == 2

    def undone():
        with postgres.transaction() as connection:
            connection.execute(sa.text("SELECT 1"))
            raise ZeroDivisionError

    for _ in range(8):
        with pytest.raises(ZeroDivisionError):
            undone()
    with postgres.read() as connection:
        assert _ADD.scalar(connection, a=2) == 3


def test_statement_that_fails_is_an_error_of_sqlalchemys_and_the_next_transaction_goes_on(postgres):
    with pytest.raises(exc.DBAPIError, match="division by zero"), postgres.read() as connection:
        _BROKEN.scalar(connection)
    with postgres.read() as connection:
        assert _ECHO.scalar(connection, text="after") == "after"


def test_connection_that_must_not_prepare_does_not(postgres_url):
    url = sa.make_url(f"{postgres_url}/template_freshline")
    opened = Database(url.update_query_dict({"prepare_threshold": "none"}).render_as_string(hide_password=False))
    try:
        with opened.read() as connection:
            assert _ADD.scalar(connection, a=1) == 2
            assert connection.execute(sa.text("SELECT count(*) FROM pg_prepared_statements")).scalar_one() == 0
    finally:
        opened.dispose()


def test_preparing_that_is_no_word_is_refused_with_what_to_write():
    with pytest.raises(InvalidInput, match=r"prepare_threshold=never cannot be used.*prepare_threshold=none"):
        Database("postgresql://127.0.0.1/somewhere?prepare_threshold=never")


@pytest.mark.parametrize(
    ("type_", "value"),
    [
        (sa.String(), "it's % and \\ and ümlaut"),
        (sa.Integer(), -7),
        (sa.BigInteger(), 2**40),
        (sa.Boolean(), True),
        (sa.Float(), 0.1),
        (sa.Uuid(), uuid.UUID(int=5)),
        (sa.DateTime(timezone=True), datetime(2026, 3, 29, 1, 30, tzinfo=UTC)),
        (postgresql.JSONB(), {"a": [1, None, "ü"]}),
        (postgresql.ARRAY(sa.Uuid()), [uuid.UUID(int=1), uuid.UUID(int=2)]),
        (postgresql.ARRAY(sa.Uuid()), []),
        (sa.String(), None),
    ],
    ids=str,
)
def test_value_comes_back_as_it_went(postgres, type_, value):
    echo = Statement(lambda _: sa.select(sa.cast(sa.bindparam("value", type_=type_), type_).label("value")))
    with postgres.read() as connection:
        assert echo.scalar(connection, value=value) == value
