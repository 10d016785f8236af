"""Values on their way into the database and out of it: JSON that is refused, and columns that are converted once."""

import math
from datetime import UTC, datetime, timedelta, timezone
from uuid import UUID
from zoneinfo import ZoneInfo

import pytest
import sqlalchemy as sa

from freshline.storage.compiled import row_type
from freshline.storage.database import UtcDateTime, dump_json, json_type, load_json
from freshline.storage.errors import NotStorable
from freshline.storage.statement import Statement
from freshline.storage.words import Trigger


def nested(levels):
    value = 0
    for _ in range(levels):
        value = [value]
    return value


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ({"a": [1, math.nan]}, "nan is no number in JSON"),
        (-math.inf, "-inf is no number in JSON"),
        ({"a": {1: "b"}}, "JSON keys are text; 1 is not"),
        ({"a": [{"b": "c\0"}]}, "text with a NUL character"),
        ({"a\0": 1}, "text with a NUL character"),
        ({"a\0": 2**64}, "text with a NUL character"),
        ("\0", "text with a NUL character"),
        (["\ud800"], "not JSON that can be stored: .*surrogates"),
        ({"a": datetime(2026, 1, 5, tzinfo=UTC)}, "a datetime"),
        ([UUID(int=1)], "a UUID"),
        (b"a", "a bytes"),
        (nested(33), "nested deeper than 32 levels"),
        ("a" * 262_144, "the limit is 262,144"),
    ],
    ids=[
        "NaN",
        "infinity",
        "key",
        "NUL in a value",
        "NUL in a key",
        "NUL beside a large integer",
        "NUL alone",
        "surrogate",
        "moment",
        "id",
        "bytes",
        "depth",
        "size",
    ],
)
def test_value_that_is_no_json_of_both_databases_is_refused(value, said):
    with pytest.raises(NotStorable, match=said):
        dump_json(value)


@pytest.mark.parametrize(
    "value",
    [{}, [], None, 1.5, 2**64, "\\u0000", {"\\": ["\\\\u0000"], "ü": (1, None, True)}, nested(32), [Trigger.MANUAL]],
    ids=["{}", "[]", "null", "number", "large integer", "letters of NUL", "mixed", "depth", "word"],
)
def test_json_comes_back_as_it_went(database, value):
    expected = load_json(dump_json(value))
    echo = Statement(
        lambda _: (
            sa.select(sa.cast(sa.bindparam("value", type_=json_type()), json_type()).label("value"))
            if database.dialect == "postgresql"
            else sa.select(sa.bindparam("value", type_=json_type()).label("value"))
        )
    )
    with database.read() as connection:
        assert echo.scalar(connection, value=value) == expected


def test_number_that_sqlite_makes_of_json_is_that_number():
    assert [load_json(5), load_json(0.5)] == [5, 0.5]


@pytest.mark.parametrize("zone", [UTC, timezone(timedelta(hours=5, minutes=30)), ZoneInfo("Europe/Berlin")], ids=str)
@pytest.mark.parametrize("fold", [0, 1])
def test_moment_comes_back_as_that_of_utc(database, zone, fold):
    moment = datetime(2026, 10, 25, 2, 30, fold=fold, tzinfo=zone)  # an hour that Berlin has twice
    echo = Statement(
        lambda _: sa.select(sa.type_coerce(sa.bindparam("at", type_=UtcDateTime()), UtcDateTime()).label("at"))
    )
    with database.read() as connection:
        found = echo.scalar(connection, at=moment)
    assert (found, found.tzinfo) == (moment.astimezone(UTC), UTC)


def test_column_is_converted_when_it_is_first_asked_for_and_then_kept():
    asked = []

    def convert(given):
        asked.append(given)
        return given.upper()

    row = row_type(["id", "name", "none"], {1: convert, 2: convert})((1, "a", None))
    assert asked == []
    assert (row.name, row.name, row.none, row.id) == ("A", "A", None, 1)
    assert asked == ["a"]
