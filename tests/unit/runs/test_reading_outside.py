"""Reading without a flow: which version or run a reference means, what of it is given, and what is refused."""

import json
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pytest

from freshline import storage
from freshline.lineage import interface
from freshline.runs import cli
from freshline.runs.care.deletion import Deletions
from freshline.runs.curation import Curation
from freshline.runs.models import Run
from freshline.runs.redo.replaying import Replays
from freshline.runs.result import Result
from freshline.runs.submission import Submission
from freshline.storage.artifacts import ArtifactRecord
from freshline.storage.errors import Conflict, DataRemoved, InvalidInput, NotFound, StoreUnavailable
from freshline.storage.files import save_file
from freshline.storage.folders import save_folder
from freshline.storage.ids import new_id, show_run_id
from freshline.storage.parquet import write_table
from freshline.storage.settings import Settings
from freshline.storage.words import Trigger
from tests.databases import new_database_url
from tests.factories import START
from tests.unit.runs.conftest import World, make_world

PRICES, MOMENTUM, CALENDAR, BOOK = "refresh/prices", "refresh/momentum", "refresh/calendar", "backtest/book"
DAY = timedelta(days=1)


def prices(days: int) -> pd.DataFrame:
    return pd.DataFrame(
        {"date": pd.date_range("2026-01-01", periods=days), "close": [float(day) for day in range(days)]}
    )


def finish(world: World, run: Run, *artifacts: ArtifactRecord) -> Run:
    claim = world.start(run)
    world.port.complete(run.id, claim.run.fence, Result(artifacts=artifacts))
    world.gateway.end(claim.run.flow_run_id)
    return world.service.get(run.id)


def of_days(world: World, days: int) -> ArtifactRecord:
    return ArtifactRecord.of_table("prices", write_table(world.objects, prices(days), data_date="date"))


@dataclass
class Told:
    """What happened: each act one day after the one before."""

    world: World
    first: Run
    running: Run
    moments: dict[str, datetime]


@pytest.fixture(scope="module", params=["sqlite", "postgres"])
def told(request, tmp_path_factory) -> Iterator[Told]:
    """Four versions of prices; the third was withdrawn, the fourth lost. An alias, a label, a run under way."""
    directory = tmp_path_factory.mktemp("outside")
    world = make_world(new_database_url(request, directory))
    (directory / "model").mkdir()
    (directory / "model" / "weights").write_bytes(b"weights")
    curation = Curation(world.database)
    first = finish(
        world,
        world.service.submit(PRICES),
        of_days(world, 2),
        ArtifactRecord.of_file("report.html", save_file(world.objects, b"<h1>1</h1>", media_type="text/html")),
        ArtifactRecord.of_file("model", save_folder(world.objects, directory / "model")),
        ArtifactRecord.of_table("scratch", write_table(world.objects, pd.DataFrame({"x": [1]})), publish=False),
    )
    moments = {"v1": world.moment}
    curation.set_alias(f"{PRICES}@v1", "champion")
    curation.label(f"{PRICES}@v1", "v1.0.0")
    world.pass_time(DAY)
    finish(world, world.service.submit(PRICES), of_days(world, 3))
    moments["v2"] = world.moment
    world.pass_time(DAY)
    curation.set_alias(f"{PRICES}@v2", "champion")
    finish(world, world.service.submit(PRICES), of_days(world, 4))
    curation.set_alias(f"{PRICES}@v3", "wrong")
    moments["v3"] = world.moment
    world.pass_time(DAY)
    curation.withdraw(f"{PRICES}@v3", "a wrong close")
    moments["withdrawn"] = world.moment
    two = [ArtifactRecord.of_table(name, write_table(world.objects, prices(2))) for name in ("fast", "slow")]
    finish(world, world.service.submit(MOMENTUM), *two)
    running = world.service.submit(CALENDAR)
    world.start(running)
    yield Told(world, first, running, moments)
    world.database.dispose()


@pytest.fixture(autouse=True)
def _here(request, monkeypatch) -> Iterator[None]:
    """The store of the test is the one that the environment names."""
    world = (
        request.getfixturevalue("told").world if "told" in request.fixturenames else request.getfixturevalue("world")
    )
    url = world.database.engine.url.render_as_string(hide_password=False)
    monkeypatch.setenv("FRESHLINE_DATABASE_URL", url)
    monkeypatch.setenv("FRESHLINE_ARTIFACTS_URL", world.objects.url)
    yield
    if url in interface._opened:
        interface._opened.pop(url).dispose()


# What is refused.


@pytest.mark.parametrize(
    ("reference", "options", "error", "message"),
    [
        ("refresh/price", {}, NotFound, "Did you mean 'refresh/prices'"),
        (CALENDAR, {}, NotFound, "no version 'refresh/calendar'"),
        (f"{PRICES}@v9", {}, NotFound, "Did you mean 'refresh/prices@v3'"),
        (f"{PRICES}@best", {}, NotFound, "its aliases are champion, wrong"),
        (f"{PRICES}@wrong", {}, Conflict, r"is version 3, which was withdrawn \(a wrong close\).*refresh/prices@v3"),
        ("prices", {}, InvalidInput, "neither a version nor a run"),
        (f"{PRICES}@", {}, InvalidInput, "is no version; write refresh/prices"),
        (MOMENTUM, {}, InvalidInput, "several tables: say table=…, one of: fast, slow"),
        (MOMENTUM, {"table": "fas"}, NotFound, r"it has fast, slow\).*Did you mean 'fast'"),
        (PRICES, {"table": "report.html"}, NotFound, "no table in refresh/prices@v2"),
        (f"{PRICES}@v1", {"table": "report.html"}, InvalidInput, "'report.html' is a file, no table: open it"),
        (f"{PRICES}@v1", {"table": "model"}, InvalidInput, "'model' is a folder, no table: open it"),
        (f"{PRICES}@v1", {"table": "scratch"}, NotFound, r"not published, and read by run-.*: scratch"),
        (PRICES, {"columns": ["closed"]}, NotFound, "no column 'closed'. Did you mean 'close'"),
        (PRICES, {"columns": "close"}, InvalidInput, r"give a list of names, such as \['close'\]"),
        (PRICES, {"as_": "panda"}, InvalidInput, "read as pandas, arrow, polars, batches or scan"),
        (PRICES, {"as_": "scan", "columns": ["close"]}, InvalidInput, "choose columns when you read from it"),
        (PRICES, {"where": "close > 1"}, InvalidInput, "is no condition"),
        (PRICES, {"where": [("nothing", ">", 1)], "as_": "batches"}, InvalidInput, "does not fit the table's columns"),
        (MOMENTUM, {"table": "fast", "until": date(2026, 1, 1)}, InvalidInput, "a table without a data date"),
        (PRICES, {"at": "yesterday"}, InvalidInput, "'yesterday' is no moment"),
        (PRICES, {"at": date(2026, 1, 1)}, InvalidInput, "is no moment: give a datetime"),
        (PRICES, {"at": datetime(9998, 1, 1, tzinfo=UTC)}, InvalidInput, "has not come yet"),
        (PRICES, {"data_date": START}, InvalidInput, "is no date"),
        (PRICES, {"at": START, "data_date": date(2026, 1, 1)}, InvalidInput, "give one of them"),
        (f"{PRICES}@v1", {"at": START}, InvalidInput, "is one version, whatever the day"),
        (f"{PRICES}@v1.0.0", {"data_date": date(2026, 1, 1)}, InvalidInput, "is one version, whatever the day"),
        (f"{PRICES}@champion", {"data_date": date(2026, 1, 1)}, InvalidInput, "is what the alias names"),
        (PRICES, {"at": START - DAY}, NotFound, r"the first was published at 2026-01-05 12:00:00 UTC"),
        (f"{PRICES}@champion", {"at": START - DAY}, NotFound, "refresh/prices@champion named '2026-01-04"),
        (PRICES, {"data_date": date(2026, 1, 1)}, NotFound, "its first speaks of 2026-01-02; until= cuts the rows"),
        (MOMENTUM, {"data_date": date(2026, 1, 1)}, InvalidInput, "says of which day it speaks"),
    ],
)
def test_what_cannot_be_read_is_one_clear_error(told, reference, options, error, message):
    with pytest.raises(error, match=message):
        storage.read(reference, **options)


def test_run_that_has_not_ended_cannot_be_read(told):
    with pytest.raises(Conflict, match=r"run-.* is running: what it writes can be read when it has ended"):
        storage.read(told.running.id)


def test_run_that_does_not_exist_is_not_found(told):
    with pytest.raises(NotFound, match="There is no run"):
        storage.contents(show_run_id(new_id()))
    with pytest.raises(InvalidInput, match="is one run"):
        storage.contents(told.first.id, at=told.moments["v1"])


def test_run_and_versions_of_another_tenant_are_not_found(told, monkeypatch):
    monkeypatch.setenv("FRESHLINE_TENANT_ID", "somebody-else")
    with pytest.raises(NotFound, match="There is no run"):
        storage.contents(told.first.id)
    with pytest.raises(NotFound, match="no deployment"):
        storage.read(PRICES)


@pytest.mark.parametrize(
    ("name", "error", "message"),
    [
        ("prices", InvalidInput, "'prices' is a table, no file: read it instead"),
        ("repord.html", NotFound, r"it has model, report.html; not published.*Did you mean 'report.html'"),
    ],
)
def test_what_cannot_be_opened_is_one_clear_error(told, tmp_path, name, error, message):
    with pytest.raises(error, match=message):
        storage.open(f"{PRICES}@v1", name)


def test_download_replaces_nothing(told, tmp_path):
    (tmp_path / "there").write_text("mine")
    with pytest.raises(InvalidInput, match="is there already"):
        storage.download(f"{PRICES}@v1", "report.html", tmp_path / "there")
    with pytest.raises(InvalidInput, match="choose a path that you can write"):
        storage.download(f"{PRICES}@v1", "prices", tmp_path / "nowhere" / "prices.parquet")
    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [("there", "mine")]


def test_version_whose_run_was_erased_says_so(world):
    gone = finish(world, world.service.submit(PRICES), of_days(world, 2))
    finish(world, world.service.submit(PRICES), of_days(world, 3))
    deletions = Deletions(world.database)
    deletions.delete(gone.id, actor="ann")
    deletions.erase(gone.id, actor="ann")
    for act in (storage.read, storage.contents, world.port.resolve):
        with pytest.raises(DataRemoved, match=r"was deleted for good on .* by ann"):
            act(f"{PRICES}@v1")


def test_store_that_is_not_there_is_not_made(told, tmp_path, monkeypatch):
    with pytest.raises(StoreUnavailable, match="there is no store at"):
        storage.read(PRICES, settings=Settings(home=tmp_path, database_url=f"sqlite:///{tmp_path}/none.db"))
    assert list(tmp_path.iterdir()) == []


# Which version.


@pytest.mark.parametrize(
    ("reference", "rows"), [(PRICES, 3), (f"{PRICES}@v1", 2), (f"{PRICES}@v1.0.0", 2), (f"{PRICES}@champion", 3)]
)
def test_version_is_read_by_key_number_label_and_alias(told, reference, rows):
    pd.testing.assert_frame_equal(storage.read(reference), prices(rows))


def test_withdrawn_version_is_read_by_its_number_with_a_warning(told):
    with pytest.warns(storage.WithdrawnVersion, match="refresh/prices@v3 was withdrawn at 2026-01-08 .* a wrong close"):
        assert len(storage.read(f"{PRICES}@v3")) == 4


@pytest.mark.parametrize(("act", "rows"), [("v1", 2), ("v2", 3), ("withdrawn", 3)])
def test_version_of_a_moment_is_the_one_that_was_current_then(told, act, rows):
    assert len(storage.read(PRICES, at=told.moments[act])) == rows
    assert len(storage.read(PRICES, at=told.moments[act].isoformat())) == rows


def test_version_of_a_moment_is_that_of_then_although_it_was_withdrawn_since(told):
    with pytest.warns(storage.WithdrawnVersion):
        assert len(storage.read(PRICES, at=told.moments["withdrawn"] - timedelta(seconds=1))) == 4


def test_alias_at_a_moment_is_what_it_named_then(told):
    assert len(storage.read(f"{PRICES}@champion", at=told.moments["v2"])) == 2
    assert len(storage.read(f"{PRICES}@champion", at=told.moments["v3"])) == 3


@pytest.mark.parametrize(("day", "rows"), [(2, 2), (3, 3), (4, 3), (31, 3)])
def test_version_for_a_data_date_speaks_of_no_later_day_and_was_not_withdrawn(told, day, rows):
    assert len(storage.read(PRICES, data_date=date(2026, 1, day))) == rows


def test_data_date_prefers_what_read_last_and_takes_backfills_but_no_replays(world):
    original = finish(world, world.service.submit(PRICES), of_days(world, 5))
    asked = Submission(deployment=PRICES, data_as_of=date(2026, 1, 2), trigger=Trigger.BACKFILL)
    finish(world, world.service.submit_many([asked])[0], of_days(world, 2))
    finish(world, Replays(world.database).replay(original.id), of_days(world, 4))
    corrected = prices(5).assign(close=7.0)
    table = ArtifactRecord.of_table("prices", write_table(world.objects, corrected, data_date="date"))
    finish(world, world.service.submit(PRICES), table)
    found = {day: storage.read(PRICES, data_date=date(2026, 1, day)) for day in (2, 4, 5)}
    assert {day: len(frame) for day, frame in found.items()} == {2: 2, 4: 2, 5: 5}
    assert set(found[5]["close"]) == {7.0}


# Runs.


def test_run_is_read_with_what_it_did_not_publish(told):
    assert [one.name for one in storage.contents(told.first.id)] == ["model", "prices", "report.html", "scratch"]
    assert [one.name for one in storage.contents(f"{PRICES}@v1")] == ["model", "prices", "report.html"]
    assert storage.read(show_run_id(told.first.id), table="scratch")["x"].tolist() == [1]
    assert len(storage.read(told.first.id)) == 2  # the only one that it published


def test_run_that_failed_is_read(told):
    world = told.world
    claim = world.start(world.service.submit(BOOK))
    trace = ArtifactRecord.of_file("traceback", save_file(world.objects, b"Traceback"), publish=False)
    world.port.fail(claim.run.id, claim.run.fence, ValueError("x"), "x", will_retry=False, artifacts=[trace])
    assert storage.open(claim.run.id, "traceback").read_bytes() == b"Traceback"
    with pytest.raises(InvalidInput, match=r"has no table; open its file: storage.open\('run-.*', 'traceback'\)"):
        storage.read(show_run_id(claim.run.id))


# In which form.


def test_table_is_read_in_every_form_with_the_same_choice(told):
    import polars

    options = {"where": [("close", ">=", 1)], "until": date(2026, 1, 2)}
    expected = {"date": [datetime(2026, 1, 2)], "close": [1.0]}
    for form in ("pandas", "arrow", "polars", "batches"):
        found = storage.read(PRICES, columns=["close", "date"], as_=form, **options)
        if form == "pandas":
            assert isinstance(found, pd.DataFrame)
            found = pa.Table.from_pandas(found)
        if form == "polars":
            assert isinstance(found, polars.DataFrame)
            found = found.to_arrow()
        if form == "batches":
            assert isinstance(found, pa.RecordBatchReader)
            found = found.read_all()
        assert found.column_names == ["close", "date"]
        assert found.to_pydict() == expected
    scanned = storage.scan(PRICES, where=pc.field("close") >= 1, until=date(2026, 1, 2))
    assert scanned.to_table().to_pydict() == expected
    assert storage.read(PRICES, as_="scan").count_rows() == 3


def test_fragment_paths_are_in_the_order_of_the_rows(world):
    first = write_table(world.objects, prices(2), data_date="date")
    second = write_table(world.objects, prices(3).iloc[2:], base=first)
    finish(world, world.service.submit(PRICES), ArtifactRecord.of_table("prices", second))
    assert storage.fragment_paths(PRICES) == [world.objects.url_of(part.name) for part in second.fragments]
    assert len(second.fragments) == 2


def test_file_and_folder_are_opened_as_copies_with_their_names(told):
    report = storage.open(f"{PRICES}@v1", "report.html")
    assert (report.name, report.read_bytes()) == ("report.html", b"<h1>1</h1>")
    assert (storage.open(f"{PRICES}@v1", "model") / "weights").read_bytes() == b"weights"
    report.write_bytes(b"changed")
    assert storage.open(f"{PRICES}@v1", "report.html").read_bytes() == b"<h1>1</h1>"


def test_download_writes_files_folders_and_tables(told, tmp_path):
    assert storage.download(f"{PRICES}@v1", "report.html", tmp_path / "report").read_bytes() == b"<h1>1</h1>"
    storage.download(f"{PRICES}@v1", "model", str(tmp_path / "model"))
    assert (tmp_path / "model" / "weights").read_bytes() == b"weights"
    storage.download(f"{PRICES}@v1", "prices", tmp_path / "prices.parquet")
    pd.testing.assert_frame_equal(pd.read_parquet(tmp_path / "prices.parquet"), prices(2))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model", "prices.parquet", "report"]


def test_settings_name_another_store(told, tmp_path, monkeypatch):
    settings = storage.load_settings()
    monkeypatch.setenv("FRESHLINE_DATABASE_URL", f"sqlite:///{tmp_path}/none.db")
    assert len(storage.read(PRICES, settings=settings)) == 3


# On the command line.


@pytest.fixture
def call(monkeypatch, capsys) -> Callable[..., tuple[int, str, str]]:
    """Call the command line; return exit code, output and errors."""

    def call(*arguments: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["freshline", "artifacts", *arguments])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        said = capsys.readouterr()
        return int(ended.value.code or 0), said.out, said.err

    return call


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["refresh/price"], 2, "Did you mean 'refresh/prices'"),
        ([f"{PRICES}@v1", "modle"], 2, "(it has model, prices, report.html) called 'modle'. Did you mean 'model'"),
        ([f"{PRICES}@v1", "modle", "--to", "x"], 2, "Did you mean 'model'"),
        ([PRICES, "--to", "x"], 2, "--to PATH needs the NAME of the artifact"),
        ([PRICES, "prices", "--to", "there"], 2, "there is there already"),
        ([PRICES, "--at", "tomorrow"], 2, "'tomorrow' is no moment"),
        ([PRICES, "--data-date", "2.1.26"], 2, "does not match the format"),
        ([f"{PRICES}@wrong"], 1, "which was withdrawn"),
    ],
)
def test_call_that_cannot_be_answered_is_one_line_with_its_exit_code(
    told, call, tmp_path, monkeypatch, arguments, code, message
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "there").touch()
    exit_code, out, err = call(*arguments)
    assert (exit_code, out) == (code, "")
    assert message in err
    assert "Traceback" not in err


def test_artifacts_are_listed_shown_and_downloaded(told, call, tmp_path):
    listed = json.loads(call(show_run_id(told.first.id), "--json")[1])
    assert [(one["name"], one["kind"], one["publish"]) for one in listed] == [
        ("model", "folder", True), ("prices", "table", True), ("report.html", "file", True), ("scratch", "table", False)
    ]  # fmt: skip
    shown = json.loads(call(f"{PRICES}@v1", "model", "--json")[1])
    assert [(part["path"], part["size_bytes"]) for part in shown["objects"]] == [("weights", 7)]
    for name in ("model", "prices", "report.html"):
        assert name in call(f"{PRICES}@v1")[1]
        assert f"{name} of refresh/prices@v1" in call(f"{PRICES}@v1", name)[1]
        code, out, _ = call(PRICES, name, "--data-date", "2026-01-02", "--to", str(tmp_path / name))
        assert (code, out) == (0, f"refresh/prices {name} is at {tmp_path / name}\n")
    assert (tmp_path / "model" / "weights").read_bytes() == b"weights"
    downloaded = json.loads(call(PRICES, "prices", "--to", str(tmp_path / "2.parquet"), "--json")[1])
    assert len(pd.read_parquet(downloaded["path"])) == 3


def test_warning_about_a_withdrawn_version_is_one_line_on_the_error_stream(told, call):
    code, out, err = call(f"{PRICES}@v3", "--json")
    assert (code, [one["name"] for one in json.loads(out)]) == (0, ["prices"])
    assert err == "Warning: refresh/prices@v3 was withdrawn at 2026-01-08 12:00 UTC: a wrong close\n"
