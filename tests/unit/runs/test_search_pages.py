"""Pages of a search: nothing twice and nothing left out while runs are added; typed, lazy, as a table and as HTML."""

import copy
import dataclasses
import math
import pickle
from datetime import timedelta

import pytest

from freshline.runs.searching.searches import LARGEST_PAGE, Searches
from freshline.storage.database import Database
from freshline.storage.errors import InvalidInput
from tests.factories import START
from tests.unit.runs.searched import add, known_runs, write


class Store:
    """A store to search through, with a clock that is moved by hand."""

    def __init__(self, url):
        self.moment = START
        self.database = Database(url, clock=lambda: self.moment, sqlite_synchronous="OFF")
        self.searches = Searches(self.database)
        self.runs = []

    def write(self, runs):
        write(self.database, runs)
        self.runs = runs

    def add(self, runs):
        """Write runs beside those that are there."""
        from freshline.lineage import registry

        with self.database.read() as connection:
            rows = registry.deployments(connection, tenant_id="default")
        add(self.database, runs, {row.key: row.id for row in rows}, {})
        self.runs = [*self.runs, *runs]

    def ids(self, search, size=3):
        return [found.id for page in self.pages(search, size) for found in page.items]

    def pages(self, search, size):
        cursor, more = None, True
        while more:
            page = search.page(cursor, size=size)
            yield page
            cursor = page.next_cursor
            more = cursor is not None


@pytest.fixture
def store(database_url):
    made = Store(database_url)
    yield made
    made.database.dispose()


def some_runs(count, *, first=0, **facts):
    """Runs that differ in their number alone: none is deleted, none has inputs."""
    runs = known_runs(3, first + count)[first:]
    for run in runs:
        run.is_deleted, run.inputs = False, []
        for name, value in facts.items():
            setattr(run, name, value)
    return runs


@pytest.mark.parametrize("order_by", ["-id", "-sharpe_ratio", "duration"])
def test_pages_give_every_run_once_while_others_are_added(store, order_by):
    runs = some_runs(18)
    store.write(runs[:12])
    search = store.searches.search(order_by=order_by)
    given = []
    for number, page in enumerate(store.pages(search, 3)):
        given += [found.id for found in page.items]
        if number < 3:
            store.add(runs[12 + 2 * number : 14 + 2 * number])
    assert len(given) == len(set(given)), "a run was given twice"
    assert {run.id for run in runs[:12]} <= set(given), "a run that was there was left out"
    # What was added is where a new search has it, as far as it came behind.
    assert [one for one in store.ids(search) if one in given] == given


def test_relative_times_mean_the_same_on_all_pages(store):
    runs = some_runs(6, started_at=START - timedelta(days=6, hours=23))
    store.write(runs)
    search = store.searches.search("started_at > -7d")
    first = search.page(size=2)
    store.moment = START + timedelta(days=3)
    rest = search.page(first.next_cursor, size=10)
    assert len(first.items) + len(rest.items) == 6
    assert search.page().items == []


def test_cursor_of_another_search_is_refused(store):
    store.write(some_runs(3))
    cursor = store.searches.search("attempt >= 0").page(size=1).next_cursor
    for other in (store.searches.search("attempt >= 1"), store.searches.search("attempt >= 0", order_by="id")):
        with pytest.raises(InvalidInput, match="the cursor is one of another search"):
            other.page(cursor)


def test_limit_bounds_all_pages_together(store):
    store.write(some_runs(9))
    search = store.searches.search(limit=7)
    assert [len(page.items) for page in store.pages(search, 3)] == [3, 3, 1]
    assert len(list(search)) == 7
    assert search.count() == 9


def test_deleted_runs_and_those_of_others_are_left_out(store):
    runs = some_runs(4, status="completed", stop_reason="completed", ended_at=START)
    runs[0].is_deleted = True
    store.write(runs)
    assert set(store.ids(store.searches.search())) == {run.id for run in runs[1:]}
    others = Searches(store.database, tenant_id="others").search()
    assert (others.page().items, others.count()) == ([], 0)


def test_search_reads_nothing_before_it_is_asked_and_a_page_at_a_time(store, monkeypatch):
    search = store.searches.search("no_such_field = 3")
    assert search.query == "no_such_field = 3"
    store.write(some_runs(5))
    monkeypatch.setattr("freshline.runs.searching.searches.LARGEST_PAGE", 2)
    sizes = []
    search = store.searches.search()
    page = search.page
    monkeypatch.setattr(search, "page", lambda cursor, size: sizes.append(size) or page(cursor, size=size))
    assert len(list(search)) == 5
    assert sizes == [2, 2, 2]
    assert LARGEST_PAGE == 500


def test_found_run_is_typed_and_has_the_metrics_that_were_asked_for(store):
    (run,) = some_runs(1, metrics={"loss": math.nan, "sharpe_ratio": math.inf, "val loss": 0.5})
    store.write([run])
    (found,) = store.searches.search().page().items
    assert (found.id, found.deployment, found.run.parameters) == (run.id, run.deployment, run.parameters)
    assert found.version is None
    assert math.isnan(found.metrics.pop("loss"))
    assert found.metrics == {"sharpe_ratio": math.inf, "val loss": 0.5}
    (found,) = store.searches.search(metrics=["val loss", "unheard_of"]).page().items
    assert found.metrics == {"val loss": 0.5}


def test_found_run_keeps_its_record_when_it_is_copied_or_sent_elsewhere(store):
    store.write(some_runs(1, metrics={"loss": 0.5}, parameters={"days": 20}))
    (found,) = store.searches.search().page().items
    sent = pickle.loads(pickle.dumps(found))
    for other in (sent, copy.deepcopy(found), dataclasses.replace(found)):
        assert (other.id, other.run.parameters, other.metrics) == (found.id, {"days": 20}, {"loss": 0.5})
        assert other == found
    assert found.run is found.run
    with pytest.raises(AttributeError, match="no_such_field"):
        _ = found.no_such_field


def test_table_has_metrics_and_parameters_as_columns(store):
    runs = some_runs(2)
    runs[0].parameters, runs[0].metrics = {"days": 20}, {"loss": 0.5}
    runs[1].parameters, runs[1].metrics = {"name": "x"}, {"sharpe_ratio": math.nan}
    store.write(runs)
    table = store.searches.search(order_by="id").to_pandas()
    assert list(table["deployment"]) == [run.deployment for run in runs]
    assert [name for name in table.columns if "." in name] == [
        "parameters.days",
        "parameters.name",
        "metrics.loss",
        "metrics.sharpe_ratio",
    ]
    assert table["metrics.loss"].tolist()[0] == 0.5
    assert table["metrics.loss"].isna().tolist() == [False, True]
    assert str(table["created_at"].dtype).endswith("UTC]")
    empty = store.searches.search("tags has nobody").to_pandas()
    assert len(empty) == 0
    assert {"run", "deployment", "duration_s", "version"} <= set(empty.columns)


def test_notebook_shows_what_people_wrote_as_text(store):
    (run,) = some_runs(1, metrics={"<script>alert(1)</script>": 1.0})
    store.write([run])
    shown = store.searches.search("actor != '<img src=x>'")._repr_html_()
    assert "<script" not in shown
    assert "<img" not in shown
    assert "&lt;script&gt;" in shown
    assert f"run-{run.id}" in shown


def test_notebook_shows_metrics_by_their_names_and_in_the_digits_that_people_read(store):
    store.write(some_runs(1, metrics={"max_drawdown": -0.1 * 3}))
    shown = store.searches.search()._repr_html_()
    assert "<th>created at</th>" in shown
    assert "<th>max_drawdown</th>" in shown
    assert "<td>-0.3</td>" in shown


def test_metric_named_like_a_field_is_asked_for_with_its_prefix(store):
    runs = some_runs(2, status="pending", ended_at=None, stop_reason=None, duration_ns=None)
    runs[0].metrics, runs[1].metrics = {"attempt": 7.0, "a.b": 1.0}, {}
    store.write(runs)
    assert store.ids(store.searches.search("metrics.attempt = 7")) == [runs[0].id]
    assert store.ids(store.searches.search("a.b = 1 and not metrics.a.b > 1")) == [runs[0].id]
    assert store.ids(store.searches.search('"attempt" = 7')) == [runs[0].id]


def test_inputs_are_those_that_the_body_read_once_a_run_has_published(world):
    world.run_through("refresh/prices")
    world.run_through("refresh/momentum")
    run = world.service.submit("backtest/book")
    claim = world.start(run)
    searches = Searches(world.database)
    pinned = searches.search("inputs has 'refresh/momentum@v1'")
    assert [found.id for found in pinned] == [run.id]
    reads = [read for read in world.result(claim=claim).reads if read.role == "prices"]
    result = world.result()
    result.reads[:] = reads
    world.port.complete(run.id, claim.run.fence, result)
    assert list(pinned) == []
    assert [
        found.id for found in searches.search("inputs has 'refresh/prices@v1' and deployment = 'backtest/book'")
    ] == [run.id]
    assert [(found.version, found.deployment) for found in searches.search("outputs has 'backtest/book@v1'")] == [
        (1, "backtest/book")
    ]
    assert [found.version for found in searches.search("version is not null", order_by="deployment")] == [1, 1, 1]


def test_alias_means_the_version_that_it_names_now(world):
    from freshline.runs.curation import Curation

    for content in (1, 2):
        world.run_through("refresh/prices", content)
        world.run_through("refresh/momentum", content)
    curation = Curation(world.database)
    search = Searches(world.database).search("inputs has 'refresh/prices@champion'")
    for number in (1, 2):
        curation.set_alias(f"refresh/prices@v{number}", "champion")
        (found,) = search
        assert (found.deployment, found.version) == ("refresh/momentum", number)
