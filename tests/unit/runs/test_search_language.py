"""The search language means on both databases what a plain Python evaluation of it says."""

import math
import operator
import re
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from freshline.runs.searching.searches import Searches
from freshline.storage.database import Database
from tests.databases import new_database_url
from tests.factories import START
from tests.unit.runs.searched import KEYS, NAMES, TEXTS, known_runs, write

COUNT = 60
COMPARE = {
    "=": operator.eq,
    "!=": operator.ne,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}
RUNS = known_runs(7, COUNT)


@pytest.fixture(scope="module", params=["sqlite", "postgres"])
def searches(request, tmp_path_factory):
    url = new_database_url(request, tmp_path_factory.mktemp("searched"))
    database = Database(url, clock=lambda: START, sqlite_synchronous="OFF")
    write(database, RUNS)
    yield Searches(database)
    database.dispose()


@dataclass
class Asked:
    """A condition as text, and what it says of a run."""

    text: str
    holds: Any

    def __repr__(self):
        return self.text


def quoted(text):
    return "'" + text.replace("'", "''") + "'"


def compared(names, read, values, written, operators=tuple(COMPARE)):
    """A field compared with one value, or with several; what is not there compares false."""

    def one(name, sign, value):
        def holds(run):
            found = read(run, name)
            return found is not None and bool(COMPARE[sign](found, value))

        return Asked(f"{name} {sign} {written(value)}", holds)

    def several(name, given):
        listed = ", ".join(written(value) for value in given)
        return Asked(f"{name} in ({listed})", lambda run: read(run, name) is not None and read(run, name) in given)

    names, values = st.sampled_from(names), st.sampled_from(values)
    return st.builds(one, names, st.sampled_from(operators), values) | st.builds(
        several, names, st.lists(values, min_size=1, max_size=3)
    )


def is_null(names, read):
    return st.sampled_from(names).map(lambda name: Asked(f"{name} is null", lambda run: read(run, name) is None))


def metric(run, name):
    value = run.metrics.get(name.removeprefix('metrics."').removesuffix('"'))
    return None if value is None or math.isnan(value) else value


def metric_of(run):
    return metric(run, "sharpe_ratio")


def plain(run, name):
    return getattr(run, name)


def seconds(run, _name):
    return None if run.duration_ns is None else run.duration_ns // 10**9


def matches(pattern, text):
    """LIKE, as the language has it: % and _, a backslash takes the next sign as it is."""
    made, position = "", 0
    while position < len(pattern):
        sign = pattern[position]
        if sign == "\\" and position + 1 < len(pattern):
            position += 1
            made += re.escape(pattern[position])
        else:
            made += {"%": ".*", "_": "."}.get(sign, re.escape(sign))
        position += 1
    return re.fullmatch(made, text, re.DOTALL) is not None


def looked_into(names, read):
    """`like` and `contains`, of patterns that are the texts themselves and of parts of them."""
    patterns = st.sampled_from([*TEXTS, "%a%", "a_b", "_", "\\%", "a\\%b", "%\\", "[a]%", "%?%", "~%"])

    def like(name, pattern):
        return Asked(
            f"{name} like {quoted(pattern)}",
            lambda run: isinstance(read(run, name), str) and matches(pattern, read(run, name)),
        )

    def contains(name, part):
        return Asked(
            f"{name} contains {quoted(part)}",
            lambda run: isinstance(read(run, name), str) and part in read(run, name),
        )

    names = st.sampled_from(names)
    return st.builds(like, names, patterns) | st.builds(contains, names, patterns)


PATHS = {
    "parameters.days": ("days",),
    "parameters.name": ("name",),
    "parameters.flag": ("flag",),
    'parameters."odd key"': ("odd key",),
    "parameters.nested.days": ("nested", "days"),
    "parameters.nested.deep.name": ("nested", "deep", "name"),
    "parameters.listed": ("listed",),
    "parameters.missing.days": ("missing", "days"),
}
MISSING = object()


def at(run, path):
    found = run.parameters
    for part in PATHS[path]:
        if not isinstance(found, dict) or part not in found:
            return None
        found = found[part]
    return found


def json_kind(value):
    return "flag" if isinstance(value, bool) else "number" if isinstance(value, int | float) else type(value).__name__


def same(a, b):
    return json_kind(a) == json_kind(b) and a == b


def written_json(value):
    if isinstance(value, bool):
        return str(value).lower()
    return quoted(value) if isinstance(value, str) else repr(value)


def in_parameters():
    def one(path, sign, value):
        def holds(run):
            found = at(run, path)
            if sign == "!=":
                return found is not None and not same(found, value)
            return json_kind(found) == json_kind(value) and COMPARE[sign](found, value)

        return Asked(f"{path} {sign} {written_json(value)}", holds)

    def among(path, values):
        listed = ", ".join(map(written_json, values))
        return Asked(f"{path} in ({listed})", lambda run: any(same(at(run, path), value) for value in values))

    def has(path, value):
        def holds(run):
            found = at(run, path)
            return isinstance(found, list) and any(same(one, value) for one in found)

        return Asked(f"{path} has {written_json(value)}", holds)

    paths = st.sampled_from(list(PATHS))
    numbers, flags, texts = st.sampled_from((0, 1, 20, -3, 0.5, 20.0, 10**15)), st.booleans(), st.sampled_from(TEXTS)
    ordered = st.builds(one, paths, st.sampled_from(list(COMPARE)), numbers | texts)
    equated = st.builds(one, paths, st.sampled_from(("=", "!=")), flags)
    return (
        ordered
        | equated
        | st.builds(among, paths, st.lists(numbers | flags | texts, min_size=1, max_size=3))
        | st.builds(has, paths, numbers | flags | texts)
        | looked_into(list(PATHS), at)
        | is_null(list(PATHS), at)
    )


def labels():
    def has(label):
        return Asked(f"tags has {quoted(label)}", lambda run: label in run.tags)

    def named(value):
        return Asked(
            f"tags.team = {quoted(value)}", lambda run: f"team={value}" in run.tags or f"team:{value}" in run.tags
        )

    return st.sampled_from((*TEXTS, "team=quant")).map(has) | st.sampled_from(("quant", "x", "y")).map(named)


def versions():
    def of(number):
        read = ("refresh/prices", number)
        return Asked(f"inputs has 'refresh/prices@v{number}'", lambda run: read in run.inputs)

    anything = Asked("inputs has 'refresh/prices'", lambda run: bool(run.inputs))
    return st.sampled_from((1, 2, 3)).map(of) | st.just(anything)


TIMES = {
    "-7d": START - timedelta(days=7),
    "-2h": START - timedelta(hours=2),
    "today": START.replace(hour=0),
    "2026-01-05": datetime(2026, 1, 5, tzinfo=UTC),
    "2026-01-05T13:00+01:00": START,
    "'2026-01-05T12:00:00Z'": START,
}
DATES = {"-7d": START.date() - timedelta(days=7), "today": START.date(), "2026-01-05": date(2026, 1, 5)}
DURATIONS = {"0s": 0, "1s": 1, "90s": 90, "1m30s": 90, "1h": 3600, "2h": 7200}
METRIC_NAMES = [f'metrics."{name}"' for name in NAMES] + ["metrics.unheard_of"]
FLOATS = (-1.5, 0.0, 0.1, 0.5, 1.0, 2, 1e300, math.inf, -math.inf)
STATUSES = ("completed", "failed", "running", "pending", "cancelled", "refused")


def of(table, names, read):
    """A field compared with values that are written otherwise than Python's."""
    by_value = {}
    for text, value in table.items():
        by_value.setdefault(value, text)
    return compared(names, read, list(by_value), by_value.__getitem__)


TERMS = st.one_of(
    compared(METRIC_NAMES, metric, FLOATS, repr),
    is_null(METRIC_NAMES, metric),
    st.sampled_from(METRIC_NAMES).map(
        lambda name: Asked(
            f"{name} is nan", lambda run: math.isnan(run.metrics.get(name.removeprefix('metrics."')[:-1], 0.0))
        )
    ),
    compared(["status"], plain, STATUSES, str, ("=", "!=")),
    compared(["deployment"], plain, KEYS, quoted, ("=", "!=")),
    compared(["actor", "error_message"], plain, TEXTS, quoted),
    compared(["background"], plain, (True, False), lambda value: str(value).lower(), ("=", "!=")).filter(
        lambda asked: " in " not in asked.text
    ),
    looked_into(["actor", "error_message", "deployment"], plain),
    is_null(["error_message", "started_at", "ended_at", "stop_reason", "progress", "data_as_of"], plain),
    compared(["progress", "attempt"], plain, (0, 0.5, 1, 2), repr),
    of(TIMES, ["created_at", "started_at", "ended_at"], plain),
    of(DATES, ["data_as_of"], plain),
    of(DURATIONS, ["duration"], seconds),
    in_parameters(),
    labels(),
    versions(),
)


def joined(parts):
    def all_of(asked):
        return Asked(" and ".join(f"({one.text})" for one in asked), lambda run: all(one.holds(run) for one in asked))

    def any_of(asked):
        return Asked(" OR ".join(f"({one.text})" for one in asked), lambda run: any(one.holds(run) for one in asked))

    def none_of(asked):
        return Asked(f"not ({asked.text})", lambda run: not asked.holds(run))

    several = st.lists(parts, min_size=2, max_size=3)
    return several.map(all_of) | several.map(any_of) | parts.map(none_of)


CONDITIONS = st.recursive(TERMS, joined, max_leaves=6)
ORDERS = {
    "id": lambda run: run.id,
    "created_at": lambda run: run.created_at,
    "started_at": lambda run: run.started_at,
    "duration": lambda run: run.duration_ns,
    "progress": lambda run: run.progress,
    "error_message": lambda run: run.error_message,
    "deployment": lambda run: run.deployment,
    "background": lambda run: run.background,
    "data_as_of": lambda run: run.data_as_of,
    'metrics."val loss"': lambda run: metric(run, "val loss"),
    "metrics.sharpe_ratio": lambda run: metric(run, "sharpe_ratio"),
    "metrics.unheard_of": lambda run: None,
}


def in_order(runs, order_by):
    """Those with a value in its order, then those without, ties by their ids, all in one direction."""
    name, is_descending = order_by.removeprefix("-"), order_by.startswith("-")
    value = ORDERS[name]
    with_value = [run for run in runs if value(run) is not None]
    without = [run for run in runs if value(run) is None]
    return sorted(with_value, key=lambda run: (value(run), run.id), reverse=is_descending) + sorted(
        without, key=lambda run: run.id, reverse=is_descending
    )


def check(searches, asked, order_by, size):
    wanted = [run.id for run in in_order([one for one in RUNS if not one.is_deleted and asked.holds(one)], order_by)]
    search = searches.search(asked.text, order_by=order_by)
    found, cursor = [], None
    while True:
        page = search.page(cursor, size=size)
        found += [run.id for run in page.items]
        cursor = page.next_cursor
        if cursor is None:
            break
    assert found == wanted
    assert search.count() == len(wanted)


ASKED = given(
    asked=CONDITIONS,
    order_by=st.builds(str.__add__, st.sampled_from(("", "-")), st.sampled_from(list(ORDERS))),
    size=st.sampled_from((7, 500)),
)
QUICK = settings(max_examples=40, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
LONG = settings(max_examples=4_000, deadline=None, suppress_health_check=list(HealthCheck))


@QUICK
@ASKED
def test_search_finds_what_python_finds_in_the_same_order(searches, asked, order_by, size):
    check(searches, asked, order_by, size)


@pytest.mark.slow
@pytest.mark.timeout(1800)
@LONG
@ASKED
def test_search_finds_what_python_finds_many_times(searches, asked, order_by, size):
    check(searches, asked, order_by, size)


@pytest.mark.parametrize("field", ["actor", "error_message", "parameters.name"])
def test_whatever_people_write_is_found_as_it_is_and_nothing_else(searches, field):
    read = at if field in PATHS else plain
    for text in TEXTS:
        for sign in ("=", "contains"):
            asked = Asked(
                f"{field} {sign} {quoted(text)}",
                lambda run, sign=sign, text=text: (
                    isinstance(read(run, field), str)
                    and (text in read(run, field) if sign == "contains" else text == read(run, field))
                ),
            )
            check(searches, asked, "-id", 500)
        escaped = "".join(f"\\{sign}" if sign in "%_\\" else sign for sign in text)
        pattern = Asked(f"{field} like {quoted(escaped)}", lambda run, text=text: read(run, field) == text)
        check(searches, pattern, "-id", 500)
    assert searches.search().count() == sum(not run.is_deleted for run in RUNS)


def test_what_is_not_there_compares_false_in_parameters(searches):
    for path in PATHS:
        check(searches, Asked(f"{path} is null", lambda run, path=path: at(run, path) is None), "-id", 500)
        for value in (20, "a", True):
            asked = Asked(
                f"{path} != {written_json(value)}",
                lambda run, path=path, value=value: at(run, path) is not None and not same(at(run, path), value),
            )
            check(searches, asked, "-id", 500)


def test_metric_that_orders_the_runs_is_compared_as_any_other(searches):
    name = "metrics.sharpe_ratio"
    asked = [
        Asked(f"{name} {sign} 0.5", lambda run, sign=sign: (v := metric_of(run)) is not None and COMPARE[sign](v, 0.5))
        for sign in COMPARE
    ]
    asked += [
        Asked(f"{name} is null", lambda run: metric_of(run) is None),
        Asked(f"{name} is not null", lambda run: metric_of(run) is not None),
        Asked(f"{name} is nan", lambda run: math.isnan(run.metrics.get("sharpe_ratio", 0.0))),
        Asked(f"not {name} > 0.5", lambda run: not (metric_of(run) or 0.0) > 0.5),
    ]
    for one in asked:
        check(searches, one, f"-{name}", 7)


def test_few_runs_are_looked_up_and_many_are_read_in_order_alike(searches, monkeypatch):
    asked = [
        Asked("metrics.loss > 0", lambda run: (metric(run, "loss") or 0) > 0),
        Asked("status = failed", lambda run: run.status == "failed"),
        Asked("started_at > -7d", lambda run: run.started_at is not None and run.started_at > TIMES["-7d"]),
        Asked("inputs has 'refresh/prices@v2'", lambda run: ("refresh/prices", 2) in run.inputs),
        Asked("deployment = 'backtest/book'", lambda run: run.deployment == "backtest/book"),
    ]
    for few in (0, 1_000):
        monkeypatch.setattr("freshline.runs.searching.candidates.FEW", few)
        for one in asked:
            for order_by in ("-id", "metrics.sharpe_ratio"):
                check(searches, one, order_by, 30)


@pytest.mark.parametrize("field", ["deployment", "resource"])
def test_no_run_is_without_its_deployment(searches, field):
    kept = sum(not run.is_deleted for run in RUNS)
    assert searches.search(f"{field} is null").count() == 0
    assert searches.search(f"{field} is not null").count() == kept
    assert len(list(searches.search(f"{field} is not null"))) == kept


def test_lists_are_compared_with_what_is_inside_of_json_however_long_they_are(searches):
    texts, numbers = [f"'{number}'" for number in range(490)], [str(number) for number in range(100, 500)]

    def found(path, *among):
        values = f"({', '.join([*among, *texts])})"
        return searches.search(f"{path} in {values} or {path} in ({', '.join(numbers)})").count()

    def known(*values):
        days = [run.parameters.get("days") for run in RUNS if not run.is_deleted]
        return sum(any(same(one, value) for value in values) for one in days)

    assert found("parameters.days", "1", "20.0", "true", "'a'") == known(1, 20, True, "a")
    assert found("parameters.days", "false") == known(False)
    team = [run for run in RUNS if not run.is_deleted and {"team=quant", "team:quant"} & {*run.tags}]
    assert found("tags.team", "'quant'") == len(team) > 0
