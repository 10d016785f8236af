"""What becomes of metric values at each end of a tracked body, whatever is away then."""

import time
from collections.abc import Callable
from typing import Any

import pytest
import sqlalchemy as sa

from freshline.flows import RunContext, sending
from freshline.runs.models import RunUsage
from freshline.runs.points.left_behind import LeftBehind
from freshline.runs.points.models import MetricChunk, MetricStream
from freshline.runs.points.reading import SeriesReader
from freshline.runs.points.recording import PointRecording
from freshline.runs.points.spool import Spools
from freshline.runs.port import DirectPort
from freshline.storage.errors import StoreUnavailable
from freshline.storage.ids import new_id
from tests.unit.flows.test_attempt import Worker, worker

__all__ = ["worker"]

on_sqlite = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
"""For what does not depend on the database."""


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Threads that spool and send at once."""
    monkeypatch.setattr(sending, "SPOOL_S", 0.01)
    monkeypatch.setattr(sending, "_SEND_S", 0.01)
    monkeypatch.setattr(sending, "_LEAVE_S", 10.0)


@pytest.fixture
def spools(tmp_path, monkeypatch: pytest.MonkeyPatch) -> Spools:
    """The folder that every port of the test has."""
    made = Spools(tmp_path, new_id())
    begin = DirectPort.__init__
    monkeypatch.setattr(DirectPort, "__init__", lambda *given, **options: begin(*given, **options, spools=made))
    return made


def reader(worker: Worker) -> SeriesReader:
    return SeriesReader(worker.database, worker.objects)


def series(worker: Worker) -> list[float]:
    return reader(worker).series(worker.run.id)["value"].to_pylist()


def count(worker: Worker, table: Any) -> int:
    with worker.database.read() as connection:
        return connection.execute(sa.select(sa.func.count()).select_from(table.__table__)).scalar_one()


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def test_values_that_went_ahead_are_in_the_table_of_the_completed_run(worker, spools):
    def body(run: RunContext) -> None:
        run.log(loss=2.0)
        until(lambda: count(worker, MetricChunk) == 1)
        assert series(worker) == [2.0]
        run.log(loss=1.0)

    worker.start(body)
    assert worker.run.status == "completed"
    assert series(worker) == [2.0, 1.0]
    assert (count(worker, MetricChunk), count(worker, MetricStream)) == (0, 1)
    assert not spools.has_files()


@on_sqlite
def test_short_run_leaves_its_values_in_its_table_alone(worker, spools, monkeypatch):
    monkeypatch.setattr(sending, "SPOOL_S", 60.0)
    worker.start(lambda run: run.log(loss=1.0))
    assert series(worker) == [1.0]
    assert (count(worker, MetricChunk), count(worker, MetricStream)) == (0, 0)
    assert not spools.directory.exists()


def test_values_of_an_attempt_that_failed_are_kept_with_those_of_the_next(worker, spools):
    worker.retries = 1

    def fail(run: RunContext) -> None:
        run.log(loss=2.0)
        raise ValueError("no luck")

    with pytest.raises(ValueError, match="no luck"):
        worker.start(fail)
    assert series(worker) == [2.0]
    assert reader(worker).metrics(worker.run.id).latest[0].value == 2.0
    worker.start(lambda run: run.log(loss=1.0))
    assert (worker.run.status, worker.run.attempt) == ("completed", 2)
    assert series(worker) == [2.0, 1.0]


@on_sqlite
def test_object_store_that_is_away_leaves_the_values_in_the_database(worker, spools, monkeypatch, caplog):
    monkeypatch.setattr("freshline.storage.parquet.write_table", away)
    worker.start(lambda run: run.log(loss=1.0))
    assert worker.run.status == "completed"
    assert "stay in chunks" in caplog.text
    assert series(worker) == [1.0]
    assert not spools.has_files()


def away(*_given: Any, **_options: Any) -> Any:
    raise StoreUnavailable("the store is away")


@on_sqlite
def test_failed_run_whose_values_cannot_be_sent_leaves_them_to_the_next_start(worker, spools, monkeypatch):
    def fail(run: RunContext) -> None:
        run.log(loss=1.0)
        raise ValueError("no luck")

    record = PointRecording.record
    monkeypatch.setattr(PointRecording, "record", away)
    with pytest.raises(ValueError, match="no luck"):
        worker.start(fail)
    monkeypatch.setattr(PointRecording, "record", record)
    assert (worker.run.status, series(worker), spools.has_files()) == ("failed", [], True)
    LeftBehind(spools, PointRecording(worker.database)).pass_once()
    assert (series(worker), spools.has_files()) == ([1.0], False)


@on_sqlite
def test_claim_sends_what_another_process_left(worker, spools, monkeypatch):
    worker.retries = 1

    def die(run: RunContext) -> None:
        run.log(loss=2.0)
        until(spools.has_files)
        raise KeyboardInterrupt

    with monkeypatch.context() as without:
        without.setattr(PointRecording, "record", away)
        with pytest.raises(KeyboardInterrupt):
            worker.start(die)
    assert spools.has_files()

    def go_on(run: RunContext) -> None:
        until(lambda: not spools.has_files())
        assert series(worker) == [2.0]
        run.log(loss=1.0)

    worker.start(go_on)
    assert series(worker) == [2.0, 1.0]


@on_sqlite
def test_values_that_were_dropped_are_counted_on_the_record(worker, monkeypatch):
    monkeypatch.setattr(sending, "MOST_UNSPOOLED", 1)
    monkeypatch.setattr(PointRecording, "record", away)

    def body(run: RunContext) -> None:
        for step in range(3):
            run.log(step, loss=1.0)
            run._sender.spool()

    worker.start(body)
    with worker.database.read() as connection:
        usage = connection.execute(sa.select(RunUsage.__table__)).one()
    assert usage.counters == {"metric_values_dropped": 2}
    assert series(worker) == [1.0]


def test_table_holds_what_a_body_in_a_test_has_logged():
    from freshline import testing
    from freshline.flows import track

    @track.training
    def body(run: RunContext) -> None:
        run.log(loss=2.0)
        until(lambda: bool(run._port.sent_points(run.id)))
        run.log(loss=1.0)

    assert testing.run(body).tables["metrics"]["value"].tolist() == [2.0, 1.0]
