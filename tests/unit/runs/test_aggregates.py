"""Counts, failures, durations, days and usage of runs, alike on both databases and equal to numpy's."""

from collections.abc import Iterator, Sequence
from datetime import UTC, date, datetime, timedelta
from typing import Any

import numpy as np
import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from freshline.runs import aggregates, store
from freshline.runs.aggregate_reports import Statistics
from freshline.runs.aggregates import statistics_of
from freshline.runs.care.deletion import Deletions
from freshline.runs.models import RunUsage
from freshline.storage.database import Database
from freshline.storage.errors import InvalidInput, NotFound
from freshline.storage.ids import new_id
from tests.factories import START, Graph, declared

USAGE = RunUsage.__table__  # type: ignore[attr-defined]
KEYS = ("refresh/prices", "backtest/book")
TYPES = {"refresh/prices": "PipelineRun", "backtest/book": "BacktestRun"}


class Made:
    """A store in which runs are put as they are to be counted."""

    def __init__(self, database: Database) -> None:
        self.database = database
        graph = Graph(database, *(declared(key) for key in KEYS))
        self.ids = {key: graph.id(key) for key in KEYS}
        self.database._clock = lambda: START

    def put(self, key: str = KEYS[0], **values: Any) -> Any:
        return self.put_all([values], key=key)[0]

    def put_all(self, runs: Sequence[dict[str, Any]], *, key: str = KEYS[0]) -> list[Any]:
        whole = []
        for given_ in runs:
            status = given_.get("status", "completed")
            ends = {"ended_at": START, "stop_reason": "error"}
            is_over = status in ("completed", "failed", "cancelled", "skipped", "refused")
            whole.append(
                {
                    "id": new_id(),
                    "tenant_id": "default",
                    "project": "default",
                    "deployment_id": self.ids[key],
                    "partition": "",
                    "type": TYPES[key],
                    "kind": key.partition("/")[0],
                    "trigger": "manual",
                    "actor": "test",
                    "generation": 0,
                    "attempt": 1,
                    "status": status,
                    "parameters": {},
                    "request": {},
                    "tags": [],
                    "created_at": START - timedelta(hours=1),
                    "last_seq": 0,
                    "duration_ns": None,
                    **(ends if is_over else {"ended_at": None, "stop_reason": None}),
                    **given_,
                }
            )
        if whole:
            with self.database.transaction() as connection:
                connection.execute(sa.insert(store.RUN), whole)
        return [row["id"] for row in whole]

    def clear(self) -> None:
        with self.database.transaction() as connection:
            connection.execute(sa.delete(USAGE))
            connection.execute(sa.delete(store.RUN))

    def ask(self, **options: Any) -> Statistics:
        return statistics_of(self.database, **options)


@pytest.fixture
def made(database: Database) -> Iterator[Made]:
    return Made(database)


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(durations=st.lists(st.integers(0, 2**62), min_size=1, max_size=120))
def test_percentiles_are_those_of_numpy(made: Made, durations: list[int]) -> None:
    made.clear()
    made.put_all([{"duration_ns": took} for took in durations])
    made.put_all([{"duration_ns": 7, "status": "failed"}, {"duration_ns": None}])
    (group,) = made.ask().groups
    wanted = np.percentile(np.array(durations), [50, 95, 99], method="inverted_cdf")
    assert [group.p50_s, group.p95_s, group.p99_s] == [float(took) / 1e9 for took in wanted.tolist()]
    assert group.max_s == max(durations) / 1e9
    assert group.mean_s == pytest.approx(sum(durations) / len(durations) / 1e9)
    (day,) = group.trend or ()
    assert (day.p50_s, day.p95_s, day.p99_s) == (group.p50_s, group.p95_s, group.p99_s)


def test_counts_and_failure_rate_are_of_each_group(made: Made) -> None:
    made.put_all([{"status": "completed"}] * 3 + [{"status": "failed"}, {"status": "cancelled"}, {"status": "pending"}])
    made.put(KEYS[1], status="skipped")
    prices, book = made.ask(group_by="deployment").groups
    assert (prices.group, prices.num_runs) == ("refresh/prices", 6)
    assert prices.statuses == {"pending": 1, "completed": 3, "failed": 1, "cancelled": 1}
    assert prices.failure_rate == 0.25
    assert (book.group, book.failure_rate, book.p50_s) == ("backtest/book", None, None)
    assert [one.group for one in made.ask(group_by="type").groups] == ["PipelineRun", "BacktestRun"]
    (all_,) = made.ask(group_by="nothing").groups
    assert (all_.group, all_.num_runs) == ("all", 7)


def test_trend_has_a_row_for_each_day_in_utc(made: Made) -> None:
    for at, status in (("2026-01-03T23:59:59", "failed"), ("2026-01-04T00:00:00", "completed")):
        made.put(status=status, created_at=datetime.fromisoformat(at).replace(tzinfo=UTC), duration_ns=10**9)
    (group,) = made.ask().groups
    assert [(one.day, one.statuses, one.failure_rate, one.p50_s) for one in group.trend or ()] == [
        (date(2026, 1, 3), {"failed": 1}, 1.0, None),
        (date(2026, 1, 4), {"completed": 1}, 0.0, 1.0),
    ]
    (without,) = made.ask(trend=False).groups
    assert without.trend is None


def test_only_the_busiest_groups_have_a_trend_when_there_are_many(made: Made, monkeypatch: pytest.MonkeyPatch) -> None:
    made.put_all([{}, {}])
    made.put(KEYS[1])
    monkeypatch.setattr(aggregates, "_TREND_ROWS", 1)
    found = made.ask()
    assert [one.trend is None for one in found.groups] == [False, True]
    assert found.num_without_trend == 1


def test_span_counts_its_first_moment_and_not_its_last(made: Made) -> None:
    begin, end = START - timedelta(days=2), START - timedelta(days=1)
    for at in (begin - timedelta(microseconds=1), begin, end - timedelta(microseconds=1), end):
        made.put(created_at=at)
    (group,) = made.ask(since=begin, until=end).groups
    assert group.num_runs == 2
    assert [one.num_runs for one in made.ask(since="36h", until="2026-01-05").groups] == [2]
    assert made.ask(since="3d").groups[0].num_runs == 4
    assert made.ask(since="-36h").groups[0].num_runs == 2
    assert made.ask(since=timedelta(hours=24)).groups[0].num_runs == 1
    assert made.ask(since=date(2026, 1, 3), until="2026-01-04T12:00:00Z").groups[0].num_runs == 3
    assert made.ask(until=START + timedelta(days=1)).since == START - timedelta(days=29)


def test_only_one_deployment_or_type_counts_when_asked_for(made: Made) -> None:
    made.put()
    made.put(KEYS[1])
    assert [one.group for one in made.ask(deployment="backtest/book").groups] == ["backtest/book"]
    assert [one.group for one in made.ask(type_="PipelineRun").groups] == ["refresh/prices"]
    assert made.ask(type_="PipelineRun", deployment="backtest/book").groups == []


def test_deleted_runs_and_those_of_others_do_not_count(made: Made) -> None:
    deleted = made.put(status="failed")
    made.put(tenant_id="somebody-else")
    made.put()
    Deletions(made.database).delete(deleted, reason="a trial")
    assert [one.num_runs for one in made.ask().groups] == [1]


def test_usage_is_summed_over_the_runs_of_a_group(made: Made) -> None:
    runs = [made.put(), made.put(), made.put(KEYS[1]), made.put()]
    usage = [
        {"num_steps": 2, "num_failed_steps": 1, "step_ns": 2**62, "counters": {"tokens": 5, 'it\'s "q"': 0.5}},
        {"num_steps": 3, "num_failed_steps": 0, "step_ns": 2**62, "counters": {"tokens": 2**50}},
        {"num_steps": 1, "num_failed_steps": 0, "step_ns": 5, "counters": {}},
    ]
    with made.database.transaction() as connection:
        for run_id, row in zip(runs, usage, strict=False):
            connection.execute(sa.insert(USAGE).values(run_id=run_id, step_names=[], **row))
    prices, book = made.ask().groups
    assert (prices.num_steps, prices.num_failed_steps) == (5, 1)
    assert prices.step_s == pytest.approx(2**63 / 1e9)
    assert prices.counters == {'it\'s "q"': 0.5, "tokens": 2**50 + 5}
    assert (book.num_steps, book.counters) == (1, {})


def test_tables_have_a_column_for_each_status_and_counter(made: Made) -> None:
    made.put_all([{"duration_ns": 10**9}, {"status": "failed"}])
    run = made.put(KEYS[1])
    with made.database.transaction() as connection:
        connection.execute(sa.insert(USAGE).values(run_id=run, counters={"tokens": 5}, step_names=[]))
    found = made.ask()
    table = found.to_pandas().set_index("group")
    assert table.loc["refresh/prices", ["num_runs", "num_completed", "num_failed", "p95_s"]].tolist() == [2, 1, 1, 1.0]
    assert table.loc["backtest/book", "counter_tokens"] == 5
    days = found.to_pandas(trend=True)
    assert list(days.columns[:3]) == ["group", "day", "num_runs"]
    assert len(days) == 2
    assert "<td>refresh/prices</td>" in found._repr_html_()
    assert "<th>failure rate</th>" in found._repr_html_()


def test_store_without_runs_has_no_groups(made: Made) -> None:
    assert made.ask().groups == []
    assert made.ask().to_pandas().empty


def test_question_that_means_nothing_is_refused(made: Made) -> None:
    refused: list[tuple[dict[str, Any], str]] = [
        ({"group_by": "day"}, "group_by='day': runs are counted by deployment, type, nothing"),
        ({"type_": "BacktstRun"}, "did you mean 'BacktestRun'?"),
        ({"type_": "x"}, "the types are PipelineRun,"),
        ({"since": "yesterday"}, "since: 'yesterday' is no moment; .*or how long ago, such as 7d"),
        ({"until": ""}, "until: '' is no moment"),
        ({"since": "2026-01-04", "until": "2026-01-04"}, "is not before until="),
        ({"since": "9999-12-31T23:59:59-12:00"}, "outside of the years"),
        ({"since": "1d", "until": "2d"}, "is not before until="),
    ]
    for options, said in refused:
        with pytest.raises(InvalidInput, match=said):
            made.ask(**options)


def test_span_from_the_beginning_of_time_is_understood(made: Made) -> None:
    made.put()
    assert made.ask(since="0001-01-01").groups[0].num_runs == 1
    assert made.ask(since="100000w").groups[0].num_runs == 1


def test_deployment_that_does_not_exist_is_refused_with_the_nearest(made: Made) -> None:
    with pytest.raises(NotFound, match="backtest/book"):
        made.ask(deployment="backtest/bok")
