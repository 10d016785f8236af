"""`freshline runs`: what it prints of a search, as a table and as JSON, and of one that is not understood."""

import json
import shutil

import click
import pytest

from freshline.runs import interface
from freshline.runs.cli import EXIT_USAGE, cli, main
from freshline.runs.composition import Freshline
from freshline.runs.searching.errors import SearchError
from freshline.storage.ids import show_run_id
from freshline.storage.settings import Settings
from tests.unit.runs.conftest import make_world


@pytest.fixture(scope="module")
def searched(request, tmp_path_factory):
    """Two runs of prices with different metrics, and a run of the calendar with none."""
    path = tmp_path_factory.mktemp("searched") / "freshline.db"
    shutil.copy(request.getfixturevalue("sqlite_template"), path)
    world = make_world(f"sqlite:///{path}")
    world.ids = []
    for loss in (0.5, 0.25):
        claim = world.start(world.service.submit("refresh/prices", tags=["[red]x"]))
        world.complete(claim, metrics={"loss": loss, "rows": 3.0})
        world.ids.append(claim.run.id)
    world.ids.append(world.run_through("refresh/calendar").id)
    yield world
    world.database.dispose()


@pytest.fixture
def call(searched, monkeypatch, capsys):
    made = Freshline(Settings(), searched.database, searched.objects)
    monkeypatch.setattr(interface, "shared_freshline", lambda: made)

    def said(*arguments):
        assert not cli.main(["runs", *arguments], standalone_mode=False)
        return capsys.readouterr().out

    return said


def test_runs_prints_what_the_search_finds_in_its_order_with_metrics_as_columns(searched, call):
    shown = call("loss > 0", "--order-by", "-loss", "--metrics", "loss, rows")
    first, second, third = (shown.find(show_run_id(run_id)) for run_id in searched.ids)
    assert 0 < first < second
    assert third == -1
    assert "0.25" in shown


def test_runs_of_a_deployment_are_those_of_its_key(searched, call):
    shown = json.loads(call("refresh/calendar", "--json"))
    assert [(one["deployment"], one["version"], one["metrics"]) for one in shown] == [("refresh/calendar", 1, {})]
    assert shown[0]["id"] == str(searched.ids[2])


def test_runs_as_json_have_the_record_the_version_and_the_metrics(searched, call):
    shown = json.loads(call("loss is not null", "--order-by", "loss", "--json"))
    assert [one["metrics"] for one in shown] == [{"loss": 0.25, "rows": 3.0}, {"loss": 0.5, "rows": 3.0}]
    assert [one["version"] for one in shown] == [2, 1]
    assert {"status", "parameters", "created_at", "tags"} <= shown[0].keys()
    assert [one["metrics"] for one in json.loads(call("--metrics", "rows", "--limit", "1", "--json"))] == [{}]


@pytest.mark.parametrize("query", ["staus = failed", "loss >", "refresh/pric", "tags has 'x"])
def test_runs_that_cannot_be_searched_for_are_one_line_and_a_wrong_call(call, monkeypatch, capsys, query):
    with pytest.raises(SearchError):
        call(query)
    monkeypatch.setattr("sys.argv", ["freshline", "runs", query])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == EXIT_USAGE
    assert len(capsys.readouterr().err.splitlines()) == 1


@pytest.mark.parametrize("more", [(), ("--json",)])
def test_metric_that_no_run_has_is_a_warning_with_the_nearest_name(call, capsys, more):
    def said(*arguments):
        assert not cli.main(["runs", *arguments, *more], standalone_mode=False)
        return capsys.readouterr().err

    assert said("--metrics", "los,rows") == "Warning: no run has a metric 'los'; did you mean 'loss'?\n"
    assert said("--metrics", "zzz") == "Warning: no run has a metric 'zzz'\n"
    # Somebody has it, if nobody of those that are listed.
    assert said("refresh/calendar", "--metrics", "loss") == ""
    assert said("--metrics", "loss") == ""


def test_limit_beyond_a_page_is_a_wrong_call(call):
    with pytest.raises(click.UsageError, match="501 is not in the range"):
        call("--limit", "501")
