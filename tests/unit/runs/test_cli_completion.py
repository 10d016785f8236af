"""What a shell completes: commands, options, deployments and runs; and nothing, silently, where there is no store."""

import subprocess

import pytest
from click.shell_completion import ShellComplete
from click.testing import CliRunner

from freshline.runs.cli import cli
from freshline.storage.ids import show_run_id
from tests import commands
from tests.unit.runs.test_cli import environment

PRICES, BOOK = "refresh/prices", "backtest/book"


def completed(*words):
    """What the last word may become."""
    *args, incomplete = words
    return [one.value for one in ShellComplete(cli, {}, "freshline", "").get_completions(list(args), incomplete)]


@pytest.fixture
def store(world, database_url, monkeypatch, tmp_path):
    """The store that the environment names."""
    monkeypatch.setenv("FRESHLINE_DATABASE_URL", database_url)
    monkeypatch.setenv("FRESHLINE_HOME", str(tmp_path / "home"))
    return world


def test_commands_and_options_are_completed(monkeypatch):
    assert completed("ex") == ["expiring", "explain"]
    assert completed("runs", "--li") == ["--limit"]
    assert completed("completion", "z") == ["zsh"]
    assert completed("submit", BOOK, "--on-stale", "re") == ["refuse", "refresh"]


def test_deployments_and_runs_are_completed_from_the_store(store):
    run = store.service.submit(PRICES)
    shown = show_run_id(run.id)
    assert completed("submit", "refresh/") == ["refresh/calendar", "refresh/momentum", PRICES]
    assert completed("submit", "%") == []
    assert completed("show", "run-") == [shown]
    assert completed("show", shown[:-3]) == [shown]
    assert completed("show", "run-ffff") == []
    assert completed("explain", "") == [BOOK, "refresh/calendar", "refresh/momentum", PRICES]
    assert completed("lineage", shown[:12]) == [shown]


@pytest.mark.parametrize(
    "variables",
    [
        {},
        {"FRESHLINE_DATABASE_URL": "postgresql+psycopg://user:s3cret@127.0.0.1:9/db"},
        {"FRESHLINE_DATABASE_URL": "sqlite:////nowhere/at/all.db"},
        {"FRESHLINE_LEASE_S": "long"},
    ],
)
def test_nothing_is_completed_where_no_store_answers(variables, monkeypatch, tmp_path, capfd):
    monkeypatch.setenv("FRESHLINE_HOME", str(tmp_path))
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert completed("submit", "refresh/") == []
    assert completed("show", "") == []
    assert list(tmp_path.iterdir()) == []
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
def test_installed_command_answers_the_script_that_it_prints(store, database_url, tmp_path):
    asked = environment(tmp_path, {"FRESHLINE_DATABASE_URL": database_url})
    words = {"_FRESHLINE_COMPLETE": "bash_complete", "COMP_WORDS": "freshline submit refresh/p", "COMP_CWORD": "2"}
    done = commands.freshline(tmp_path, [], asked | words)
    assert (done.stdout, done.stderr, done.returncode) == (f"plain,{PRICES}\n", "", 0)
    script = commands.freshline(tmp_path, ["completion", "bash"], asked).stdout
    checked = subprocess.run(["bash", "-n"], input=script, text=True, capture_output=True, timeout=30, check=False)
    assert (checked.returncode, checked.stderr) == (0, "")


@pytest.mark.parametrize("shell", ["bash", "fish", "zsh"])
def test_script_of_each_shell_calls_back(shell):
    assert f"_FRESHLINE_COMPLETE={shell}_complete" in CliRunner().invoke(cli, ["completion", shell]).stdout
