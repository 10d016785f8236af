"""Publishing versions of what Prefect does not run: one run each, the same transaction, and what is refused."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pandas as pd
import pytest
import sqlalchemy as sa

from freshline.flows.reading import Reading
from freshline.lineage.models import Freshness
from freshline.runs.care.deletion import Deletions
from freshline.runs.models import Run
from freshline.runs.publication import Publication
from freshline.runs.publishing import Publisher
from freshline.runs.result import Read, Result
from freshline.storage import parquet
from freshline.storage.artifacts import ArtifactRecord
from freshline.storage.errors import (
    ArtifactError,
    Conflict,
    IdempotencyConflict,
    InvalidInput,
    NotFound,
    ObjectCorrupt,
)
from freshline.storage.models import StoredObject
from tests.factories import declared

from .conftest import World, make_world

# The world's clock stands at Monday, 2026-01-05, 12:00 UTC.
FRIDAY = date(2026, 1, 2)
MONDAY = date(2026, 1, 5)


@pytest.fixture
def world(database_url: str) -> Iterator[World]:
    """A vendor's file, a cleaned table that reads it, and a backtest of that; prices, which Prefect refreshes."""
    made = make_world(database_url)
    register(made)
    yield made
    made.database.dispose()


def register(world: World, **vendor: object) -> None:
    upstream = {"refresh/prices": [], "refresh/clean": ["refresh/vendor"], "backtest/book": ["refresh/clean"]}
    known = world.graph.declared
    deployments = []
    for key, reads in upstream.items():
        made = known[key] if key in known else world.gateway.add_deployment(f"flow/{key.replace('/', '-')}")
        prefect_id = made.prefect_deployment_id if key in known else made.id
        deployments.append(replace(declared(key, reads), prefect_deployment_id=prefect_id))
    world.graph.now = world.moment
    world.graph.register(declared("refresh/vendor", external=True, **vendor), *deployments)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A Parquet file of the vendor's."""
    return written(tmp_path / "vendor.parquet", 1.0)


def written(path: Path, *closes: float) -> Path:
    pd.DataFrame({"close": closes}).to_parquet(path)
    return path


def publish(world: World, uri: Path | str, data_date: date | None = FRIDAY, **options: object) -> Publication:
    publisher = Publisher(world.database, world.objects)
    return publisher.publish(options.pop("name", "vendor"), uri=str(uri), data_date=data_date, **options)


def runs(world: World) -> list[Run]:
    return [run for _, run in world.queries.runs(limit=100)]


def complete_clean(world: World, content: object = 1) -> None:
    """A run of `refresh/clean` that read the vendor's version completes."""
    world.run_through("refresh/clean", content)


# What is refused, and that nothing is recorded then.


@pytest.fixture
def nothing_recorded(world: World) -> Iterator[None]:
    before = runs(world)
    yield
    assert runs(world) == before
    status = {row.key: row for row in world.queries.status()}
    assert (status["refresh/vendor"].version, status["refresh/vendor"].activity) == (None, "idle")


@pytest.mark.usefixtures("nothing_recorded")
def test_unknown_resource_is_not_found_and_those_known_are_listed(world, file):
    with pytest.raises(
        NotFound, match=r"no external resource \(there are: refresh/vendor\) called 'vendr'. Did you mean"
    ):
        publish(world, file, name="vendr")


@pytest.mark.usefixtures("nothing_recorded")
@pytest.mark.parametrize("name", ["prices", "refresh/prices", "backtest/book"])
def test_deployment_that_prefect_runs_is_refused(world, file, name):
    with pytest.raises(InvalidInput, match="is run by Prefect: a run publishes its versions"):
        publish(world, file, name=name)


@pytest.mark.usefixtures("nothing_recorded")
def test_key_that_is_empty_is_refused(world, file):
    with pytest.raises(InvalidInput, match="the idempotency key '' must have 1 to 250 printable characters"):
        publish(world, file, idempotency_key="")


@pytest.mark.usefixtures("nothing_recorded")
def test_uri_where_nothing_is_is_not_found(world, tmp_path):
    with pytest.raises(NotFound, match=r"no file or folder at .*missing.parquet"):
        publish(world, tmp_path / "missing.parquet")


@pytest.mark.usefixtures("nothing_recorded")
def test_empty_folder_is_refused(world, tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(InvalidInput, match="is an empty folder"):
        publish(world, tmp_path / "empty")


@pytest.mark.usefixtures("nothing_recorded")
def test_damaged_parquet_is_refused(world, file):
    file.write_bytes(file.read_bytes()[:-1])
    with pytest.raises(InvalidInput, match="damaged, cut off or encrypted"):
        publish(world, file)


@pytest.mark.usefixtures("nothing_recorded")
@pytest.mark.parametrize(
    ("schema", "said"),
    [
        ({"vendor": {"columns": {"close": "float32"}}}, "'close' is float64 instead of float32"),
        ({"prices": {"columns": {"close": "float64"}}}, "declares 'prices', which was not written; written: 'vendor'"),
    ],
)
def test_table_that_is_not_as_declared_is_refused(world, file, schema, said):
    register(world, schema=schema)
    with pytest.raises(InvalidInput, match=said):
        publish(world, file)


@pytest.mark.usefixtures("nothing_recorded")
def test_data_date_in_the_future_is_refused(world, file):
    world.moment = datetime(2026, 1, 5, 9, tzinfo=UTC)
    with pytest.raises(InvalidInput, match=r"2026-01-06 lies in the future \(today is 2026-01-05 at the latest\)"):
        publish(world, file, date(2026, 1, 6))


def test_data_date_of_today_somewhere_on_earth_is_published(world, file):
    world.moment = datetime(2026, 1, 5, 12, tzinfo=UTC)  # the 6th has begun on Kiritimati
    assert publish(world, file, date(2026, 1, 6)).data_date == date(2026, 1, 6)


@pytest.mark.usefixtures("nothing_recorded")
def test_publication_that_no_date_is_known_of_is_refused(world, file):
    with pytest.raises(InvalidInput, match=r"which day does .* speak of\? .* give the data date, or name the date"):
        publish(world, file, None)


@pytest.mark.usefixtures("nothing_recorded")
@pytest.mark.parametrize("wrong", ["2026-01-02", datetime(2026, 1, 2, tzinfo=UTC), 20260102])
def test_data_date_that_is_no_date_is_refused(world, file, wrong):
    with pytest.raises(InvalidInput, match=r"is no date: give a datetime.date"):
        publish(world, file, wrong)


@pytest.mark.usefixtures("nothing_recorded")
def test_rows_after_the_data_date_are_refused(world, tmp_path):
    path = tmp_path / "dated.parquet"
    pd.DataFrame({"date": pd.to_datetime(["2026-01-05"])}).to_parquet(path)
    with pytest.raises(InvalidInput, match=r"has rows until 2026-01-05 \(column 'date'\), after the data date 2026-01"):
        publish(world, path, FRIDAY)


@pytest.mark.usefixtures("nothing_recorded")
def test_data_date_that_stands_for_none_is_refused(world, file):
    with pytest.raises(InvalidInput, match="the data date 0001-01-01 stands for no day"):
        publish(world, file, date.min)


@pytest.mark.usefixtures("nothing_recorded")
@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"digest": ""}, "the digest '' must have 1 to 250 printable characters"),
        ({"digest": "a\0"}, "printable"),
        ({"digest": "abc", "copy": True}, "cannot be copied either"),
        ({"digest": "abc", "data_date": None}, "give the data date too"),
    ],
)
def test_stated_digest_that_cannot_be_meant_is_refused(world, options, said):
    with pytest.raises(InvalidInput, match=said):
        publish(world, "snowflake://db/table", **{"data_date": FRIDAY, **options})


@pytest.mark.usefixtures("nothing_recorded")
def test_secret_in_the_uri_is_refused_and_not_told(world):
    with pytest.raises(InvalidInput, match="a secret is not recorded") as caught:
        publish(world, "postgres://me:hunter2@host/table", digest="abc")
    assert "hunter2" not in str(caught.value)


@pytest.mark.usefixtures("nothing_recorded")
def test_file_that_changes_while_it_is_read_is_not_published(world, file):
    def overwrite(_done: int, _total: int) -> None:
        written(file, 7.0, 8.0)

    with pytest.raises(Conflict, match="changed while it was read: nothing was published"):
        publish(world, file, watch=overwrite)


# What is recorded.


def test_publication_is_one_typed_run_with_a_version(world, file):
    published = publish(world, file, actor="anna")
    (run,) = runs(world)
    assert published.run.id == run.id
    assert (run.type, run.trigger, run.actor) == ("PipelineRun", "publish", "anna")
    assert (run.status, run.stop_reason, run.attempt, run.flow_run_id) == ("completed", "completed", 1, None)
    assert (published.deployment, published.version, published.is_current) == ("refresh/vendor", 1, True)
    assert (published.data_date, published.rows) == (FRIDAY, 1)
    assert run.parameters["uri"] == file.as_uri()
    assert run.outputs == {"uri": file.as_uri(), "kept": "referenced", "digest": "computed"}
    report = world.queries.report(run.id)
    assert report.detail["last_data_date"] == FRIDAY
    assert report.detail["rows_processed"] == 1
    assert world.kinds(run.id) == [
        "run_submitted",
        "gate_decided",
        "run_started",
        "version_published",
        "run_completed",
    ]
    assert world.dispatch() == 0


def test_publication_has_the_digest_of_the_same_table_written_by_a_run(world, file):
    published = publish(world, file)
    (artifact,) = world.queries.report(published.run.id).artifacts
    assert artifact.digest == parquet.write_table(world.objects, pd.DataFrame({"close": [1.0]})).digest


def test_data_date_is_taken_from_the_column_of_dates(world, tmp_path):
    path = tmp_path / "dated.parquet"
    pd.DataFrame({"date": pd.to_datetime(["2025-12-31", "2026-01-02"]), "x": [1, 2]}).to_parquet(path)
    published = publish(world, path, None)
    assert published.data_date == FRIDAY
    report = world.queries.report(published.run.id)
    assert report.detail["first_data_date"] == date(2025, 12, 31)


def test_data_date_may_be_later_than_the_last_row(world, tmp_path):
    path = tmp_path / "dated.parquet"
    pd.DataFrame({"date": pd.to_datetime(["2025-12-31"])}).to_parquet(path)
    assert publish(world, path, FRIDAY).data_date == FRIDAY


def test_column_of_dates_may_be_disregarded(world, tmp_path):
    path = tmp_path / "forecast.parquet"
    pd.DataFrame({"date": pd.to_datetime(["2026-12-31"])}).to_parquet(path)
    with pytest.raises(InvalidInput, match="lies in the future"):
        publish(world, path, None)
    assert publish(world, path, FRIDAY, date_column=None).data_date == FRIDAY


def test_referenced_objects_are_none_of_the_stores(world, file):
    publish(world, file)
    with world.database.read() as connection:
        assert connection.execute(sa.select(StoredObject.__table__)).all() == []
    assert list(world.objects.list()) == []


def test_copy_is_kept_in_the_store(world, file):
    published = publish(world, file, copy=True)
    assert published.run.outputs["kept"] == "copied"
    with world.database.read() as connection:
        (row,) = connection.execute(sa.select(StoredObject.__table__))
    assert [item.name for item in world.objects.list()] == [row.name]


def test_stated_digest_is_said_so_in_the_record(world):
    published = publish(world, "snowflake://db/table", digest="etl-run-77")
    assert published.run.outputs == {"uri": "snowflake://db/table", "kept": "referenced", "digest": "stated"}
    (artifact,) = world.queries.report(published.run.id).artifacts
    assert (artifact.digest, artifact.rows, artifact.last_data_date) == ("etl-run-77", None, FRIDAY)
    assert published.rows is None


# What follows from it.


def test_waiting_run_is_released_by_a_publication(world, file):
    waiting = world.service.submit("refresh/clean", on_stale="wait")
    assert waiting.status == "waiting"
    publish(world, file)
    assert world.service.get(waiting.id).status == "pending"


def test_same_digest_published_again_leaves_downstream_ready(world, file, tmp_path):
    first = publish(world, file)
    complete_clean(world)
    again = publish(world, written(tmp_path / "other-name.parquet", 1.0), MONDAY)
    assert (again.version, again.digest) == (2, first.digest)
    assert world.graph.freshness()["refresh/clean"] == Freshness.READY


def test_copied_and_referenced_publications_of_one_table_are_equal(world, file):
    assert publish(world, file).digest == publish(world, file, copy=True).digest


def test_other_digest_makes_everything_downstream_stale_with_the_publication_as_its_reason(world, file, tmp_path):
    publish(world, file)
    complete_clean(world)
    world.run_through("backtest/book", 1)
    second = publish(world, written(tmp_path / "next.parquet", 2.0), MONDAY)
    assert world.graph.causes("refresh/clean") == [("input_changed", "vendor")]
    assert world.graph.causes("backtest/book") == [("upstream_stale", "clean")]
    (reason,) = world.queries.explain("refresh/clean").reasons
    assert reason.origin_run_id == second.run.id


def test_return_to_the_digest_that_was_read_makes_downstream_ready_again(world, file, tmp_path):
    publish(world, file)
    complete_clean(world)
    publish(world, written(tmp_path / "wrong.parquet", 2.0))
    publish(world, file)
    assert world.graph.freshness()["refresh/clean"] == Freshness.READY


def test_older_data_date_is_refused_unless_it_is_meant(world, file, tmp_path):
    publish(world, file, MONDAY)
    older = written(tmp_path / "older.parquet", 2.0)
    with pytest.raises(Conflict, match=r"refresh/vendor@v1 speaks of 2026-01-05, this one of 2026-01-02 only"):
        publish(world, older, FRIDAY)
    assert len(runs(world)) == 1
    published = publish(world, older, FRIDAY, allow_older=True)
    assert (published.version, published.is_current) == (2, True)
    assert publish(world, older, FRIDAY).version == 3


def test_older_data_date_than_one_that_is_being_published_is_refused(world, file, monkeypatch):
    abandoned = begin_and_die(world, file, MONDAY, monkeypatch)
    with pytest.raises(Conflict, match=f"run-{abandoned.id} speaks of 2026-01-05"):
        publish(world, file, FRIDAY)


def test_calendar_policy_lapses_by_the_data_date(world, file):
    register(world, policy={"calendar": "XNYS", "sessions": 1})
    publish(world, file, FRIDAY)
    (vendor,) = [row for row in world.queries.status() if row.key == "refresh/vendor"]
    assert (vendor.freshness, vendor.version, vendor.data_end) == ("ready", 1, FRIDAY)
    assert vendor.lapses_at == datetime(2026, 1, 5, 21, tzinfo=UTC)
    world.pass_time(timedelta(hours=10))
    world.reconcile()
    assert world.graph.causes("refresh/vendor") == [("expired", "")]
    publish(world, file, MONDAY)
    assert world.graph.freshness()["refresh/vendor"] == Freshness.READY


def test_version_that_has_lapsed_when_it_is_published_is_stale_at_once(world, file):
    register(world, policy={"calendar": "XNYS", "sessions": 1})
    publish(world, file, date(2025, 12, 1))
    assert world.graph.freshness()["refresh/vendor"] == Freshness.STALE


def test_refresh_over_a_stale_publication_says_that_nothing_can_refresh_it(world, file):
    register(world, policy={"max_age": "1d"})
    publish(world, file)
    world.pass_time(timedelta(days=2))
    run = world.service.submit("refresh/clean", on_stale="refresh")
    assert run.status == "refused"
    assert "nothing can refresh refresh/vendor: it is external" in run.error_message


def test_publication_over_itself_cannot_be_submitted(world):
    with pytest.raises(InvalidInput, match="refresh/vendor is external"):
        world.service.submit("refresh/vendor")


# Reading it.


def test_pinned_publication_is_read_by_its_role(world, file):
    publish(world, file)
    claim = world.start(world.service.submit("refresh/clean"))
    publish(world, written(file.with_name("next.parquet"), 2.0))
    reading = Reading(world.port, claim.run.id, until=None, base_version_id=None)
    assert reading.table("vendor", None, columns=None, where=None, form="pandas")["close"].tolist() == [1.0]
    assert [read.role for read in reading.reads] == ["vendor"]
    newest = reading.table("refresh/vendor@v2", None, columns=["close"], where=None, form="arrow")
    assert newest["close"].to_pylist() == [2.0]


def test_result_that_read_an_older_publication_is_stale(world, file):
    publish(world, file)
    claim = world.start(world.service.submit("refresh/clean"))
    publish(world, written(file.with_name("next.parquet"), 2.0))
    world.complete(claim)
    assert world.graph.causes("refresh/clean") == [("input_changed", "vendor")]


def test_publication_that_was_overwritten_says_so_when_it_is_read(world, file):
    publish(world, file)
    claim = world.start(world.service.submit("refresh/clean"))
    written(file, 2.0, 3.0)
    reading = Reading(world.port, claim.run.id, until=None, base_version_id=None)
    with pytest.raises(ObjectCorrupt, match="has changed since it was published"):
        reading.table("vendor", None, columns=None, where=None, form="pandas")


def test_published_file_is_opened_as_a_local_copy(world, tmp_path):
    (tmp_path / "codes.csv").write_text("a,b\n")
    publish(world, tmp_path / "codes.csv")
    claim = world.start(world.service.submit("refresh/clean"))
    reading = Reading(world.port, claim.run.id, until=None, base_version_id=None)
    with pytest.raises(InvalidInput, match=r"refresh/vendor@v1 has no table; open its file: run.open\('vendor', 'ven"):
        reading.table("vendor", None, columns=None, where=None, form="pandas")
    assert reading.file("vendor", "vendor").read_text() == "a,b\n"
    reading.close()


def test_publication_of_a_later_day_is_not_read_by_a_run_that_may_not(world, file):
    publish(world, file, FRIDAY)
    publish(world, written(file.with_name("monday.parquet"), 2.0), MONDAY)
    claim = world.start(world.service.submit("refresh/clean", data_as_of=FRIDAY))
    reading = Reading(world.port, claim.run.id, until=FRIDAY, base_version_id=None)
    with pytest.raises(InvalidInput, match=r"vendor@v2 speaks of 2026-01-05, after data_as_of 2026-01-02, and has no"):
        reading.table("vendor", None, columns=None, where=None, form="pandas")
    older = reading.table("refresh/vendor@v1", None, columns=None, where=None, form="pandas")
    assert older["close"].tolist() == [1.0]


def test_publication_with_a_column_of_dates_is_cut_at_the_day_that_may_be_read(world, tmp_path):
    path = tmp_path / "dated.parquet"
    pd.DataFrame({"date": pd.to_datetime(["2026-01-02", "2026-01-05"]), "x": [1, 2]}).to_parquet(path)
    publish(world, path, MONDAY)
    claim = world.start(world.service.submit("refresh/clean", data_as_of=FRIDAY))
    reading = Reading(world.port, claim.run.id, until=FRIDAY, base_version_id=None)
    assert reading.table("vendor", None, columns=None, where=None, form="pandas")["x"].tolist() == [1]


def test_published_file_of_a_later_day_is_not_opened_by_a_run_that_may_not(world, tmp_path):
    (tmp_path / "codes.csv").write_text("a,b\n")
    publish(world, tmp_path / "codes.csv", MONDAY)
    claim = world.start(world.service.submit("refresh/clean", data_as_of=FRIDAY))
    reading = Reading(world.port, claim.run.id, until=FRIDAY, base_version_id=None)
    with pytest.raises(InvalidInput, match="after data_as_of 2026-01-02"):
        reading.file("vendor", "vendor")


# The same key, and what dies on the way.


def begin_and_die(world: World, file: Path, data_date: date, monkeypatch: pytest.MonkeyPatch, **options: object) -> Run:
    """A publisher dies when its run has begun and before it has completed; return the run."""

    class Killed(BaseException):
        pass

    def die(*_args: object, **_options: object) -> None:
        raise Killed

    with monkeypatch.context() as patched:
        patched.setattr("freshline.runs.publishing._complete", die)
        with pytest.raises(Killed):
            publish(world, file, data_date, **options)
    (run, *_) = runs(world)
    assert run.status == "running"
    return run


def test_same_key_gives_the_same_publication_without_reading_again(world, file):
    first = publish(world, file, idempotency_key="vendor-friday")
    file.unlink()
    again = publish(world, file, idempotency_key="vendor-friday")
    assert again == first
    assert len(runs(world)) == 1


def test_same_key_with_another_request_is_refused(world, file):
    publish(world, file, idempotency_key="k")
    with pytest.raises(IdempotencyConflict, match="came with another request before"):
        publish(world, file, MONDAY, idempotency_key="k")


def test_key_of_a_publication_that_was_deleted_is_refused(world, file):
    first = publish(world, file, idempotency_key="k")
    publish(world, file, MONDAY)
    Deletions(world.database).delete(first.run.id)
    with pytest.raises(IdempotencyConflict, match="which was deleted: use a new key, or restore the run"):
        publish(world, file, idempotency_key="k")


def test_key_of_a_publication_under_way_is_refused_until_its_lease_has_ended(world, file, monkeypatch):
    run = begin_and_die(world, file, FRIDAY, monkeypatch, idempotency_key="k")
    with pytest.raises(Conflict, match="is publishing it under the key 'k' right now: ask again after 12:01:00 UTC"):
        publish(world, file, idempotency_key="k")
    world.pass_time(timedelta(seconds=61))
    published = publish(world, file, idempotency_key="k")
    assert (published.run.id, published.run.attempt, published.version) == (run.id, 2, 1)


def test_key_of_a_publication_that_failed_is_refused(world, file, monkeypatch):
    begin_and_die(world, file, FRIDAY, monkeypatch, idempotency_key="k")
    world.pass_time(timedelta(seconds=200))
    world.reconcile()
    world.pass_time(timedelta(seconds=200))
    world.reconcile()
    (run,) = runs(world)
    assert (run.status, run.stop_reason) == ("failed", "lease_expired")
    with pytest.raises(Conflict, match=r"ended as failed \(lease_expired\): use a new key"):
        publish(world, file, idempotency_key="k")


def test_file_that_changes_when_its_run_has_begun_ends_it_as_failed(world, file, monkeypatch):
    from freshline.runs.execution import RunExecution

    claim = RunExecution.claim

    def overwritten(self: RunExecution, *args: object, **options: object) -> object:
        claimed = claim(self, *args, **options)
        written(file, 7.0, 8.0)
        return claimed

    monkeypatch.setattr(RunExecution, "claim", overwritten)
    with pytest.raises(Conflict, match="changed while it was read"):
        publish(world, file)
    (run,) = runs(world)
    assert (run.status, run.stop_reason, run.error_type) == ("failed", "error", "Conflict")
    assert world.queries.status()[-1].version is None


def test_unreachable_store_leaves_no_record(world, file, monkeypatch):
    def refuse(*_args: object, **_options: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("fsspec.implementations.memory.MemoryFileSystem.pipe_file", refuse)
    with pytest.raises(ArtifactError, match="No space left on device"):
        publish(world, file, copy=True)
    assert runs(world) == []


def test_version_of_a_run_that_read_a_publication_leads_to_it(world, file):
    published = publish(world, file)
    claim = world.start(world.service.submit("refresh/clean"))
    pin = world.port.pins(claim.run.id)["vendor"]
    stored = parquet.write_table(world.objects, pd.DataFrame({"x": [1]}))
    result = Result(
        artifacts=[ArtifactRecord.of_table("data", stored)],
        reads=[Read("vendor", pin.upstream_id, pin.version_id)],
    )
    world.port.complete(claim.run.id, claim.run.fence, result)
    (found,) = world.queries.inputs("refresh/clean")
    assert (found.key, found.number, found.run_id) == ("refresh/vendor", 1, published.run.id)


def attempted(act: Callable[[], Publication]) -> Publication | Conflict:
    try:
        return act()
    except Conflict as conflict:
        return conflict


def test_publishers_at_once_with_one_key_make_one_run(world, file):
    with ThreadPoolExecutor(4) as executor:
        tried = [executor.submit(attempted, lambda: publish(world, file, idempotency_key="k")) for _ in range(8)]
        outcomes = [one.result() for one in tried]
    (run,) = runs(world)
    assert (run.status, run.attempt) == ("completed", 1)
    published = [one for one in outcomes if isinstance(one, Publication)]
    assert {one.run.id for one in published} == {run.id}
    assert all("right now" in str(one) for one in outcomes if isinstance(one, Conflict))


def test_publishers_at_once_without_a_key_make_a_version_each(world, tmp_path):
    files = [written(tmp_path / f"{number}.parquet", float(number)) for number in range(6)]
    with ThreadPoolExecutor(3) as executor:
        published = list(executor.map(lambda path: publish(world, path), files))
    assert sorted(one.version for one in published) == [1, 2, 3, 4, 5, 6]
    ended = runs(world)
    newest = max(ended, key=lambda run: run.fence or 0)
    (vendor,) = [row for row in world.queries.status() if row.key == "refresh/vendor"]
    assert vendor.version == next(one.version for one in published if one.run.id == newest.id)
    assert {run.stop_reason for run in ended} <= {"completed", "superseded"}
