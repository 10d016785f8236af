"""What cannot be searched for: one line that says where, what was expected there, and what comes near."""

import base64
import json
import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from freshline.runs.searching.errors import SearchError
from freshline.runs.searching.grammar import parse
from freshline.runs.searching.ordering import _fingerprint
from freshline.runs.searching.searches import Searches
from freshline.storage.errors import InvalidInput
from tests.databases import new_database_url
from tests.unit.runs.conftest import make_world
from tests.unit.runs.searched import TEXTS


@pytest.fixture(scope="module", params=["sqlite", "postgres"])
def searches(request, tmp_path_factory):
    """A store with two runs, one of which has published a version and has a metric."""
    world = make_world(new_database_url(request, tmp_path_factory.mktemp("searched")))
    world.service.submit("refresh/momentum", if_ready="run")
    run = world.service.submit("refresh/prices")
    world.complete(world.start(run), metrics={"sharpe_ratio": 1.0})
    yield Searches(world.database)
    world.database.dispose()


UNREADABLE = [
    ("sharpe_ratio >", 14, r"it ends where a value is expected"),
    ("sharpe_ratio 1", 13, r"'1' stands where a comparison \(= != < <= > >= in has like contains is\) is expected"),
    ("sharpe_ratio", 12, r"it ends where a comparison"),
    ("> 1", 0, r"'>' stands where a field or metric or \( is expected"),
    ("status = 'failed", 9, r"\"'failed\" stands where a value is expected, or its quote is not closed"),
    ("status = failed type = x", 16, r"'type' stands where and, or or the end is expected"),
    ("status = failed and", 19, r"it ends where a field or metric or \( is expected"),
    ("(status = failed", 16, r"it ends where and, or or \) is expected"),
    ("status = failed)", 15, r"'\)' stands where and, or or the end is expected"),
    ("status in ()", 11, r"'\)' stands where a value is expected"),
    ("status in (failed", 17, r"it ends where a comma or \) is expected"),
    ("status is 3", 10, r"'3' stands where null or nan is expected"),
    ("status not has 3", 11, r"'has' stands where in, like or contains is expected"),
    ("a = 1.2.3", 4, r"'1.2.3' stands where a value"),
    ("a. = 3", 3, r"'=' stands where a field or metric is expected"),
    ("a ~ 3", 2, r"'~' stands where a comparison"),
    ("deployment = backtest/book", 21, r"'/book' stands where .* is expected; .* in quotes: 'backtest/book'"),
    ("(inputs has refresh/prices@v1)", 19, r"a value with such signs stands in quotes: 'refresh/prices@v1'"),
    ("git_commit = 3f2a", 13, r"a value is expected; a value with such signs stands in quotes: '3f2a'"),
    (
        "val-ic > 1",
        3,
        r"'-ic' stands where a comparison .*; a name with such signs stands in double quotes: \"val-ic\"",
    ),
    ("status = 'failed'; DROP TABLE run", 17, r"';' stands where and, or or the end"),
    ("a = 1 -- comment", 6, r"'--' stands where and"),
    ("a = 1 /* b */", 6, r"'/\*' stands where and"),
    ("a = 'x\0'", 6, r"NUL character"),
    ("a = '\ud800'", 5, r"half a surrogate pair"),
    ("a = 1 and " * 101 + "a = 1", 0, r"more than 100 comparisons"),
    ("not " * 51 + "a = 1", 0, r"nested deeper than 50 levels"),
    ("a in (" + "1, " * 500 + "1)", 1506, r"more than 500 values in one list"),
    ("a = 1 and parameters" + ".a" * 20 + " = 1", 10, r"a name of more than 20 parts"),
    ("a" * 10_001, 10_000, r"10,001 characters; at most 10,000"),
]


@pytest.mark.parametrize(("text", "position", "said"), UNREADABLE, ids=range(len(UNREADABLE)))
def test_search_that_cannot_be_read_says_where_and_what_was_expected(text, position, said):
    with pytest.raises(SearchError, match=said) as caught:
        parse(text)
    assert caught.value.position == position
    assert "\n" not in str(caught.value)


def test_parentheses_nest_as_deep_as_a_search_is_long():
    nested = parse("(" * 4_000 + "a = 1" + ")" * 4_000)
    assert (str(nested.name), nested.operator, nested.count) == ("a", "=", 1)


def test_error_shows_the_text_with_a_caret_below_the_place():
    with pytest.raises(SearchError) as caught:
        parse("status = failed\nand staus ~ 3")
    text, caret = caught.value.pointed().splitlines()
    assert text == "    status = failed and staus ~ 3"
    assert text[caret.index("^")] == "~"
    assert caught.value.__notes__ == [caught.value.pointed()]


MISUNDERSTOOD = [
    ("staus = failed", r"no field 'staus', and no run has such a metric; did you mean 'status'"),
    ("sharp_ratio > 1", r"no field 'sharp_ratio'.*did you mean 'sharpe_ratio'"),
    ("status = faild", r"'faild' is no status: pending, .*; did you mean 'failed'\?"),
    ("status = 'faild'", r"did you mean 'failed'\?"),
    ("kind = backtests", r"did you mean 'backtest'"),
    ("status like 'f%'", r"status cannot be compared with like; with =, !=, in, is null"),
    ("status > failed", r"status cannot be compared with >"),
    (
        "deployment = 'refresh/price'",
        r"character 14: There is no deployment 'refresh/price'. Did you mean 'refresh/prices'",
    ),
    ("resource = prize", r"There is no resource 'prize'. Did you mean 'prices'"),
    ("inputs has 'refresh/price@v1'", r"There is no deployment 'refresh/price'"),
    ("inputs has 'refresh/prices@v9'", r"There is no version 'refresh/prices@v9'. Did you mean 'refresh/prices@v1'"),
    ("inputs has 'refresh/prices@champion'", r"its aliases|it has none"),
    ("inputs has 'refresh/prices@!'", r"neither a number like v12"),
    ("inputs = 'refresh/prices'", r"inputs cannot be compared with =; with has"),
    ("outputs has 3", r"outputs is text"),
    ("created_at > yesterday", r"created_at is a time, and 'yesterday' is none: write 2026-01-05"),
    ("created_at > 3", r"created_at is a time"),
    ("created_at > 2026-13-45", r"created_at is a time"),
    ("created_at > -9999999999w", r"created_at is a time"),
    ("created_at > -3000w4d and created_at > '0001-01-01T00:00+14:00'", r"created_at is a time"),
    ("duration > 5", r"duration is a duration, such as 90s"),
    ("duration > 9999999w", r"duration is a duration"),
    ("sharpe_ratio > high", r"sharpe_ratio is compared with a number, not with 'high'"),
    ("sharpe_ratio > 5m", r"sharpe_ratio is compared with a number"),
    ("sharpe_ratio contains 'x'", r"sharpe_ratio cannot be compared with contains"),
    ("progress is nan", r"progress cannot be compared with is nan"),
    ("attempt = 'one'", r"attempt is compared with a number"),
    ("actor = 3", r"actor is text: write it in quotes, '3'"),
    ("id = 'run-3'", r"'run-3' is not a run id"),
    ("id = 3", r"id is text"),
    ("background = 1", r"background is true or false, not '1'"),
    ("background < true", r"background cannot be compared with <"),
    ("tags = 'x'", r"tags cannot be compared with =; with has"),
    ("tags.a.b = 'x'", r"write tags.<name> = 'value'"),
    ("parameters = 3", r"parameters holds several values: write parameters.<name>"),
    ("parameters.days > -7d", r"parameters.days holds no durations or times"),
    ("parameters.flag > true", r"true and false have no order"),
    ("parameters.days like 3", r"like looks into text"),
    ("parameters.days is nan", r"cannot be compared with is nan"),
    ("attempt.x = 3", r"attempt has no 'x': it is a number"),
    ("inputs.x has 'refresh/prices'", r"inputs has no 'x'"),
    ("metrics > 1", r"write metrics.<name>"),
    ("actor = null", r"at character 9: null is no value: write actor is null, or 'null' in quotes"),
    ("actor != NULL", r"write actor is not null"),
    ("actor in (ann, null)", r"at character 16: null is no value: write actor is null"),
    ("parameters.days = null", r"write parameters.days is null"),
    ("ended_at = null", r"write ended_at is null"),
    ("deployment = null", r"write deployment is null"),
]


@pytest.mark.parametrize(("text", "said"), MISUNDERSTOOD, ids=range(len(MISUNDERSTOOD)))
def test_search_for_what_is_not_there_says_what_comes_near(searches, text, said):
    search = searches.search(text)
    with pytest.raises(SearchError, match=said) as caught:
        search.page()
    assert "\n" not in str(caught.value)
    with pytest.raises(SearchError, match=said):
        search.count()


@pytest.mark.parametrize(
    ("order_by", "said"),
    [
        ("--status", r"'-status' stands where a field or metric is expected"),
        ("status desc", r"'desc' stands where the end is expected"),
        ("-val-ic", r"'-ic' stands where the end is expected; a name with such signs .* double quotes: \"val-ic\""),
        ("stats", r"did you mean 'status'"),
        ("tags", r"runs cannot be ordered by tags"),
        ("parameters.days", r"runs cannot be ordered by parameters.days"),
        ("inputs", r"runs cannot be ordered by inputs"),
        ("1", r"'1' stands where a field or metric"),
    ],
)
def test_order_that_is_none_is_refused(searches, order_by, said):
    with pytest.raises(SearchError, match=said):
        searches.search(order_by=order_by).page()


@pytest.mark.parametrize("size", [0, -1, 501])
def test_page_of_an_impossible_size_is_refused(searches, size):
    with pytest.raises(InvalidInput, match="give a size from 1 to 500"):
        searches.search().page(size=size)


def test_limit_below_one_is_refused(searches):
    with pytest.raises(InvalidInput, match="limit=0: give at least 1"):
        searches.search(limit=0)


def test_text_that_reads_null_is_found_in_quotes(searches):
    assert searches.search("actor = 'null' or parameters.x = 'null'").count() == 0
    assert searches.search("actor = 'null' or attempt = 0").count() == 1


def cursor(*parts):
    return base64.urlsafe_b64encode(json.dumps(parts).encode()).decode().rstrip("=")


NOW = "2026-01-05T12:00:00+00:00"
RUN_ID = "0" * 32


@pytest.mark.parametrize(
    "forged",
    [
        "",
        "é",
        "x",
        "bm8",
        *TEXTS,
        cursor(),
        cursor("f", NOW, 1, True, 1.0),
        cursor("f", "2026-01-05", 1, True, 1.0, RUN_ID),
        cursor("f", NOW, -1, True, 1.0, RUN_ID),
        cursor("f", NOW, 1, 1, 1.0, RUN_ID),
        cursor("f", NOW, 1, True, "nan", RUN_ID),
        cursor("f", NOW, 1, True, "1; DROP TABLE run", RUN_ID),
        cursor("f", NOW, 1, True, [1], RUN_ID),
        cursor("f", NOW, 1, True, 1.0, "no id"),
        cursor("f", NOW, 1, True, 1.0, 3),
        cursor("f", NOW, 1, True, 1.0, RUN_ID),
    ],
)
def test_cursor_that_was_not_given_out_is_refused(searches, forged):
    with pytest.raises(InvalidInput, match=r"is no cursor|of another search"):
        searches.search(order_by="sharpe_ratio").page(forged)


@pytest.mark.parametrize(
    ("order_by", "value"),
    [
        ("attempt", 1 << 31),
        ("attempt", 1.5),
        ("version", "inf"),
        ("sharpe_ratio", math.nan),
        ("actor", "\ud800"),
        ("background", -1),
        ("created_at", "0001-01-01T00:00:00+14:00"),
        ("ended_at", "9999-12-31T23:59:59-14:00"),
    ],
)
def test_cursor_with_what_the_field_cannot_hold_is_refused(searches, order_by, value):
    search = searches.search(order_by=order_by)
    known = search.page(size=1).next_cursor
    parts = json.loads(base64.urlsafe_b64decode(known + "=" * (-len(known) % 4)))
    with pytest.raises(InvalidInput, match="is no cursor"):
        search.page(cursor(*parts[:3], True, value, parts[5]))


@pytest.mark.parametrize("now", ["0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-14:00"])
def test_cursor_that_begins_outside_of_the_years_is_refused(searches, now):
    search = searches.search("created_at > today", order_by="-created_at")
    with pytest.raises(InvalidInput, match="is no cursor"):
        search.page(cursor(_fingerprint(search._name), now, 0, True, NOW, RUN_ID))


PARTS = [
    None, True, -1, 0, 1, 7, 1 << 53, 1 << 64, 1e300, math.inf, math.nan, "", "a", "\0", "\ud800", "inf", RUN_ID, NOW,
    "2026-01-05", "0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-14:00", "9999-12-31T23:59:59+00:00", [], [1], {},
]  # fmt: skip
ORDERS = ["id", "-created_at", "ended_at", "background", "attempt", "actor", "status", "version", "data_as_of",
          "duration", "progress", "parent", "sharpe_ratio", "deployment"]  # fmt: skip


@settings(max_examples=80, deadline=None)
@given(
    order_by=st.sampled_from(ORDERS),
    query=st.sampled_from(["", "created_at > -7d", "created_at > today"]),
    values=st.tuples(*[st.sampled_from(PARTS)] * 4),
    forged=st.sets(st.integers(0, 3)),
)
def test_forged_cursor_of_the_right_search_is_refused_or_gives_a_page(searches, order_by, query, values, forged):
    """What tells a cursor of this search is no secret: anybody can put anything into one."""
    search = searches.search(query, order_by=order_by)
    usual = (NOW, 0, 1, RUN_ID)
    now, count, value, run_id = (values[at] if at in forged else usual[at] for at in range(4))
    forged_cursor = cursor(_fingerprint(search._name), now, count, True, value, run_id)
    try:
        num_found = len(search.page(forged_cursor).items)
    except InvalidInput as error:
        said = str(error)
    else:
        said = "is no cursor" if num_found <= 2 else f"{num_found} runs"
    assert "is no cursor" in said
