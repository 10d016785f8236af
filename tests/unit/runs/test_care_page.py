"""The guide to keeping, deleting and verifying: its Python and its commands run, and its YAML can be read."""

import shlex
import shutil

import pytest
import sqlalchemy as sa
import yaml

from freshline.deployments import blocks
from freshline.deployments.document import read_document
from freshline.deployments.retention import read_defaults, rule_for
from freshline.lineage.models import Deployment
from freshline.runs import interface
from freshline.runs.cli import EXIT_FAILED, cli
from freshline.runs.composition import Freshline
from freshline.storage.settings import Settings
from freshline.storage.words import DeploymentKind
from tests.pages import code, read
from tests.unit.runs.conftest import KEYS, make_world

PAGE = "how-to/keep-and-delete.md"


@pytest.fixture
def ticks(request, tmp_path, monkeypatch):
    """Four versions of ticks, which have the rule of the guide, in the store that the environment names."""
    shutil.copy(request.getfixturevalue("sqlite_template"), tmp_path / "freshline.db")
    assert "refresh/calendar" in KEYS
    made = make_world(f"sqlite:///{tmp_path / 'freshline.db'}")
    for content in range(4):
        made.run_through("refresh/calendar", content)
    is_it = Deployment.__table__.c.key == "refresh/calendar"
    with made.database.transaction() as connection:
        values = {"key": "refresh/ticks", "retention": {"keep_last": 3}}
        connection.execute(sa.update(Deployment.__table__).where(is_it).values(values))
    store = Freshline(Settings(), made.database, made.objects)
    monkeypatch.setattr(interface, "shared_freshline", lambda: store)
    yield made
    made.database.dispose()


def test_python_of_the_guide_runs_in_order(ticks, capsys):
    made = {"__name__": "shown"}
    for text in code(read(PAGE), "python", "check"):
        exec(compile(text, PAGE, "exec"), made)
    assert "by ann: a wrong feed; `freshline delete --restore run-" in capsys.readouterr().out
    assert len(code(read(PAGE), "python")) == len(code(read(PAGE), "python", "check"))


def test_commands_of_the_guide_run_in_order(ticks, capsys):
    calls = [shlex.split(line)[1:] for text in code(read(PAGE), "sh") for line in text.splitlines()]
    assert len(calls) == 11
    for call in calls:
        assert cli.main(call, standalone_mode=False) in (0, None, EXIT_FAILED if "--status" in call else 0)
    assert "let go the data of 1 runs" in capsys.readouterr().out


@pytest.mark.parametrize("page", [PAGE, "reference/catalogue.md"])
def test_rules_that_a_page_shows_can_be_read(tmp_path, page):
    shown = [text for text in code(read(page), "yaml") if text.startswith("retention:")]
    assert len(shown) == 1
    path = tmp_path / "prefect.yaml"
    path.write_text(shown[0])
    defaults = read_defaults(read_document(path))
    assert rule_for(None, DeploymentKind.BACKTEST, defaults) == {"keep_days": 30, "keep_last": 5}
    for entry in yaml.safe_load(shown[0]).get("deployments", []):
        block = blocks.read_block(entry["resource"], deployment="shown", line=None)
        assert rule_for(block.retention, block.runs, defaults) == {"keep_last": 3}
