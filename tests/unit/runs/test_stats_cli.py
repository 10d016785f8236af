"""`freshline stats` and `runs.statistics`: what is shown, JSON, and errors of one line."""

import json
import shutil
from pathlib import Path

import pytest
from click.testing import CliRunner

from freshline import runs
from freshline.runs.cli import cli
from freshline.storage.errors import InvalidInput, NotFound
from tests.pages import code, read
from tests.unit.runs.conftest import World, make_world


@pytest.fixture(scope="module")
def store(sqlite_template: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home with two runs of prices, one of which was cancelled, and one of a calendar [with] brackets."""
    home = tmp_path_factory.mktemp("home")
    shutil.copy(sqlite_template, home / "freshline.db")
    world: World = make_world(f"sqlite:///{home / 'freshline.db'}")
    world.run_through("refresh/prices")
    world.service.cancel(world.service.submit("refresh/prices").id)
    world.run_through("refresh/calendar")
    world.database.dispose()
    return home


@pytest.fixture
def here(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FRESHLINE_HOME", str(store))


def ask(*arguments: str) -> str:
    done = CliRunner().invoke(cli, ["stats", "--since", "2026-01-01", "--until", "2026-01-06", *arguments])
    assert done.exit_code == 0, done.output
    return done.output


def rows(output: str) -> list[list[str]]:
    return [[cell.strip() for cell in line.split("  ") if cell.strip()] for line in output.splitlines()]


def test_stats_show_a_row_for_each_deployment(here: None) -> None:
    shown = rows(ask())
    assert ["Runs from 2026-01-01 00:00 to 2026-01-06 00:00 UTC"] in shown
    assert ["refresh/prices", "2", "1", "0", "1", "0.0%", "0 s", "0 s", "0 s"] in shown
    assert ["refresh/calendar", "1", "1", "0", "0", "0.0%", "0 s", "0 s", "0 s"] in shown


def test_stats_show_types_and_days_when_asked_for(here: None) -> None:
    assert ["PipelineRun", "2026-01-05", "3", "2", "0", "1", "0.0%", "0 s", "0 s", "0 s"] in rows(
        ask("--by", "type", "--trend")
    )
    assert [row[:2] for row in rows(ask("--by", "nothing", "--deployment", "refresh/calendar"))][-2] == ["all", "1"]


def test_stats_as_json_have_the_keys_of_the_record(here: None) -> None:
    found = json.loads(ask("--json", "--type", "PipelineRun"))
    assert found.keys() == {"since", "until", "group_by", "groups", "num_without_trend"}
    (prices, _) = found["groups"]
    assert prices["statuses"] == {"completed": 1, "cancelled": 1}
    assert prices["trend"][0]["day"] == "2026-01-05"


def test_stats_of_what_is_not_there_are_refused(here: None) -> None:
    for arguments, kind in (
        (["--deployment", "refresh/nothing"], NotFound),
        (["--since", "tomorrow"], InvalidInput),
        (["--type", "Run"], InvalidInput),
        (["--since", "1d", "--until", "2d"], InvalidInput),
    ):
        assert isinstance(CliRunner().invoke(cli, ["stats", *arguments]).exception, kind)
    assert CliRunner().invoke(cli, ["stats", "--by", "day"]).exit_code == 2


def test_statistics_that_the_guide_shows_are_tables(here: None, monkeypatch: pytest.MonkeyPatch) -> None:
    (text,) = code(read("how-to/monitor-freshline.md"), "python", "statistics")
    exec(compile(text, "monitor-freshline.md", "exec"), {})
    assert runs.statistics(since="2026-01-01").to_pandas(trend=True)["num_runs"].sum() == 3
