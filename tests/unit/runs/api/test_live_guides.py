"""The guides to streams and to monitoring are true: their code runs, and they list what there is."""

import re
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

from freshline.runs.api.serving import Serving
from freshline.runs.api.streams import MAX_STREAMS
from freshline.runs.composition import Freshline
from freshline.runs.health import Condition, questions_of
from freshline.runs.live.feeds import PROJECT_BUFFER, RUN_BUFFER
from freshline.storage.settings import Settings
from tests.asking import Asking
from tests.pages import code, read
from tests.unit.runs.conftest import World

MONITOR, WATCH = read("how-to/monitor-freshline.md"), read("how-to/watch-runs-live.md")


@pytest.fixture
def database_url(sqlite_template: Path, tmp_path: Path) -> str:
    shutil.copy(sqlite_template, tmp_path / "freshline.db")
    return f"sqlite:///{tmp_path / 'freshline.db'}"


def test_client_that_the_guide_shows_follows_a_run_to_its_end(
    world: World, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = world.run_through("refresh/prices")
    with Serving(Freshline(Settings(home=tmp_path), world.database, world.objects), port=0) as serving:
        made: dict[str, Any] = {"server": serving.url, "run_id": run.id}
        for title in ("follow", "use"):
            (text,) = code(WATCH, "python", title)
            exec(compile(text, "watch-runs-live.md", "exec"), made)
    printed = capsys.readouterr().out.splitlines()
    assert printed == [f"{number} {kind}" for number, kind in enumerate(world.kinds(run.id), start=1)]


def test_guide_to_streams_has_the_bounds_of_the_code() -> None:
    assert f"{RUN_BUFFER} entries" in WATCH
    assert f"{PROJECT_BUFFER:,} runs and deployments" in WATCH
    assert f"holds {MAX_STREAMS:,} streams" in WATCH


def test_guide_to_monitoring_lists_the_metrics_with_their_labels_and_no_other(world: World, api: Asking) -> None:
    world.reconcile()
    api.get("/runs")
    text = api.request("GET", "//metrics").text
    found = {
        family.name: tuple(sorted({label for sample in family.samples for label in sample.labels} - {"le"}))
        for family in text_string_to_metric_families(text)
        if family.name.startswith("freshline_") and not family.name.endswith("_created")
    }
    table = re.findall(r"^\| `(freshline_\w+)` \|([^|]*)\|", MONITOR, re.MULTILINE)
    assert {name: tuple(sorted(re.findall(r"`(\w+)`", labels))) for name, labels in table} == found
    rules = yaml.safe_load(code(MONITOR, "yaml", "alerts.yml")[0])["groups"][0]["rules"]
    named = {name for rule in rules for name in re.findall(r"freshline_\w+", rule["expr"])}
    assert named <= found.keys()
    assert len(rules) == 6


def test_guide_to_monitoring_lists_the_checks_and_their_statuses(world: World, tmp_path: Path) -> None:
    freshline = Freshline(Settings(home=tmp_path), world.database, world.objects)
    said = re.findall(r"^\| `(\w+)` \| [a-z]", MONITOR.partition("## Prometheus")[0], re.MULTILINE)
    assert said == [*questions_of(freshline, world.gateway), *Condition]
