"""Metrics as people meet them: the command line, the functions of `freshline.runs`, and the guide."""

import json
import math
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from freshline import runs
from freshline.runs import composition, interface
from freshline.runs.care.deletion import Deletions
from freshline.runs.cli import cli
from freshline.runs.cli.measuring import sparkline
from freshline.runs.cli.output import show
from freshline.runs.models import Run
from freshline.storage import removal
from freshline.storage.errors import DataRemoved, InvalidInput, NotFound, RunDeleted
from freshline.storage.ids import show_run_id
from freshline.storage.words import Removal
from tests.pages import code, read
from tests.unit.runs.test_point_sending import Attempt

pytestmark = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)


@pytest.fixture
def attempt(world, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Attempt:
    """A run that lives, and has sent three losses and an infinity, in the store that the environment names."""
    made = composition.Freshline(composition.load_settings(), world.database, world.objects)
    monkeypatch.setattr(interface, "shared_freshline", lambda: made)
    begun = Attempt(world, tmp_path)
    begun.log(3.0, 2.5, math.nan)
    begun.log(math.inf, name="[worst]")
    begun.sender.spool()
    begun.sender.send()
    return begun


def call(run: Run | str, *arguments: str) -> Result:
    named = run if isinstance(run, str) else show_run_id(run.id)
    return CliRunner().invoke(cli, ["metrics", named, *arguments], catch_exceptions=False)


def test_latest_values_are_shown_with_the_number_of_all(attempt):
    done = call(attempt.run)
    assert done.exit_code == 0
    assert "[worst]" in done.output
    assert "4 values were logged over time" in done.output
    told = json.loads(call(attempt.run, "--json").output)
    assert (told["num_points"], told["status"]) == (4, "running")
    assert [(one["name"], one["value"]) for one in told["latest"]] == [("[worst]", "Infinity"), ("loss", "NaN")]


def test_series_is_shown_as_a_table_with_bars_and_as_json(attempt):
    done = call(attempt.run, "loss", "[worst]", "--limit", "2")
    assert "loss: 3 values, 2.5 to 3" in done.output
    assert "1 earlier" in done.output
    assert "█▁ " in done.output
    rows = json.loads(call(attempt.run, "loss", "--json").output)
    assert [(row["name"], row["step"], row["value"]) for row in rows] == [
        ("loss", 0, 3.0), ("loss", 1, 2.5), ("loss", 2, "NaN"),
    ]  # fmt: skip


@pytest.mark.parametrize("arguments", [(), ("loss",), ("--follow",)])
def test_metrics_of_a_deleted_run_are_not_shown(attempt, arguments):
    attempt.world.port.fail(attempt.run.id, attempt.claim.run.fence, ValueError("end"), "", will_retry=False)
    Deletions(attempt.world.database).delete(attempt.run.id, reason="a wrong feed", actor="ann")
    with pytest.raises(RunDeleted, match="by ann: a wrong feed"):
        call(attempt.run, *arguments)


def test_followed_run_prints_a_line_a_value_until_it_has_ended(attempt):
    attempt.complete()
    lines = call(attempt.run, "--follow").output.splitlines()
    assert [line.split("  ", 1)[1] for line in lines] == [
        "loss  step 0  3", "loss  step 1  2.5", "loss  step 2  nan", "[worst]  step 0  inf",
    ]  # fmt: skip
    rows = [json.loads(line) for line in call(attempt.run, "loss", "--follow", "--json").output.splitlines()]
    assert [row["value"] for row in rows] == [3.0, 2.5, "NaN"]


@pytest.mark.parametrize("more", [(), ("--json",)])
def test_followed_metric_that_was_never_logged_is_an_error_once_the_run_has_ended(attempt, more):
    attempt.complete()
    with pytest.raises(NotFound, match=r"called 'los'\. Did you mean 'loss'"):
        call(attempt.run, "[worst]", "los", "--follow", *more)
    assert len(call(attempt.run, "[worst]", "--follow", *more).output.splitlines()) == 1


def test_followed_metric_that_is_logged_later_is_no_error(attempt):
    waited = []

    def sleep(_):
        waited.append(1)
        if len(waited) == 1:
            attempt.log(1.0, name="late")
            attempt.sender.spool()
            attempt.sender.send()
        else:
            attempt.complete()

    parts = list(attempt.reader.follow(attempt.run.id, ["late"], sleep=sleep))
    assert [part["value"].to_pylist() for part in parts] == [[1.0]]


@pytest.mark.parametrize(("value", "shown"), [
    (0.0, "0"), (1234.5, "1,234.5"), (0.25, "0.25"), (3e-05, "3e-05"), (-1e-06, "-1e-06"), (2e20, "2e+20"),
    (math.inf, "inf"), (math.nan, "nan"),
])  # fmt: skip
def test_number_is_shown_as_what_it_is_however_small(database_url, value, shown):
    assert show(value) == shown


def test_metric_that_was_not_logged_is_a_wrong_call(attempt):
    with pytest.raises(NotFound, match="Did you mean 'loss'"):  # `main` prints it, and exits with 2
        call(attempt.run, "los")


@pytest.mark.parametrize("run_id", ["run-00000000-0000-7000-8000-000000000000", "run-17"])
def test_run_that_there_is_not_is_named(attempt, run_id):
    for act in (runs.latest_metrics, runs.series):
        with pytest.raises((NotFound, InvalidInput), match=run_id):
            act(run_id)


def test_run_whose_data_retention_removed_still_has_its_latest_values(attempt):
    attempt.complete()
    with attempt.world.database.transaction() as connection:
        removal.mark(connection, attempt.run.id, Removal.RETENTION, "it is old", now=attempt.world.moment)
        removal.release(connection, attempt.run.id)
    found = runs.latest_metrics(attempt.run.id)
    assert ([one.name for one in found.latest], found.num_points) == (["[worst]", "loss"], 4)
    with pytest.raises(DataRemoved, match="it is old"):
        runs.series(attempt.run.id)


def test_series_comes_as_pandas_or_arrow_and_as_nothing_else(attempt):
    frame = runs.series(attempt.run.id, "loss")
    assert list(frame.columns) == ["name", "step", "value", "at"]
    assert frame["value"].tolist()[:2] == [3.0, 2.5]
    assert runs.series(show_run_id(attempt.run.id), ["loss", "[worst]"], as_="arrow").num_rows == 4
    wrong: Any = "polars"
    with pytest.raises(InvalidInput, match="as pandas or arrow"):
        runs.series(attempt.run.id, as_=wrong)


def test_run_that_logged_nothing_has_an_empty_series(attempt):
    other = attempt.world.service.submit("refresh/calendar")
    assert len(runs.series(other.id)) == 0
    assert runs.latest_metrics(other.id).num_points == 0


def test_guide_shows_a_test_that_passes(database_url):
    (text,) = code(read("how-to/log-metrics.md"), "python", "check")
    made: dict[str, Any] = {"__name__": "shown"}
    exec(compile(text, "log-metrics.md", "exec"), made)
    made["test_training_logs_its_loss"]()


@pytest.mark.parametrize(
    ("values", "shown"),
    [
        ([], ""), ([1.0], "▁"), ([1.0, 1.0], "▁▁"), ([0.0, 1.0], "▁█"), ([math.nan, 1.0, math.inf], " ▁ "),
        ([float(number) for number in range(120)], None),
        ([0.0, 0.0, 1.0, *[0.0] * 116], "▁█" + "▁" * 58),
    ],
)  # fmt: skip
def test_sparkline_has_a_bar_for_each_stretch(database_url, values, shown):
    assert len(sparkline(values)) == min(60, len(values))
    assert shown is None or sparkline(values) == shown
