"""The command line as people meet it: exit codes, one clear line, JSON, no traceback."""

import json
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest
import sqlalchemy as sa

from freshline.runs import composition
from freshline.storage.database import Database
from tests import commands

CATALOGUE = """
deployments:
  - name: prices
    entrypoint: freshline.flows.refresh.refresh
    work_pool: {name: local}
    resource: {name: prices, kind: dataset, runs: refresh, UNKNOWN}
"""


def environment(home: Path, variables: Mapping[str, str]) -> dict[str, str]:
    env = {name: value for name, value in os.environ.items() if not name.startswith(("FRESHLINE_", "PREFECT_"))}
    return (
        env
        | {"FRESHLINE_HOME": str(home), "PREFECT_API_URL": "http://127.0.0.1:9/api", "PREFECT_HOME": str(home)}
        | variables
    )


def freshline(home: Path, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """Call the command in a process of its own."""
    return commands.freshline(home, arguments, environment(home, variables))


def installed(home: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Call the command that is installed."""
    command = Path(sys.executable).with_name("freshline")
    return subprocess.run(
        [command, *arguments],
        env=environment(home, {}),
        capture_output=True,
        text=True,
        timeout=120,
        cwd=home,
        check=False,
    )


@pytest.fixture
def database_url(request, tmp_path):
    """The command line opens the same service on both databases: SQLite, whose default place it finds by itself."""
    shutil.copy(request.getfixturevalue("sqlite_template"), tmp_path / "freshline.db")
    return f"sqlite:///{tmp_path / 'freshline.db'}"


@pytest.fixture
def home(world, tmp_path):
    """A home whose store is the small world's."""
    return tmp_path


@pytest.mark.parametrize("call", [freshline, installed])
def test_submit_of_an_unknown_deployment_suggests_and_exits_2(home, call):
    done = call(home, "submit", "backtest/bok")
    assert done.returncode == 2
    assert done.stderr == "Error: There is no deployment 'backtest/bok'. Did you mean 'backtest/book'?\n"


def test_submit_that_the_gate_refuses_exits_3_with_the_reason(home):
    done = freshline(home, "submit", "refresh/momentum")
    assert done.returncode == 3
    assert "refused (upstream_not_ready): refresh/prices has no version yet" in done.stdout


def test_submit_gives_json_with_the_run(home):
    done = freshline(home, "submit", "refresh/prices", "--key", "k", "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["status"] == "pending"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("submit", "refresh/prices", "-p", "lookback"), "write NAME=VALUE"),
        (("submit", "refresh/prices", "-p", "x=1"), "declares no parameter 'x'"),
        (("submit", "refresh/prices", "--on-stale", "maybe"), "'maybe' is not one of"),
        (("submit", "refresh/prices", "--data-as-of", "soon"), "does not match the format"),
        (("show", "run-17"), "'run-17' is not a run id"),
        (("show", "run-00000000-0000-7000-8000-000000000000"), "There is no run"),
        (("lineage", "refresh/prices@v3"), "There is no version 'refresh/prices@v3'"),
        (("explain", "refresh/price"), "Did you mean 'refresh/prices'"),
        (("deploy", "nowhere.yaml"), "nowhere.yaml"),
        (("init", "--resource", "daily"), "DEPLOYMENT=KIND/RUNS/NAME"),
        (("nonsense",), "No such command 'nonsense'"),
    ],
)
def test_bad_call_is_one_clear_message_and_exits_2(home, arguments, message):
    done = freshline(home, *arguments)
    assert done.returncode == 2, done.stderr
    assert message in done.stderr
    assert "Traceback" not in done.stderr


def test_answers_of_an_empty_store_are_tables_and_json(home):
    assert "refresh/prices" in freshline(home, "status").stdout
    assert json.loads(freshline(home, "runs", "--json").stdout) == []
    explained = freshline(home, "explain", "refresh/prices")
    assert "refresh/prices is not_initialized" in explained.stdout


def test_catalogue_with_an_error_deploys_nothing_and_names_deployment_and_line(home):
    (home / "prefect.yaml").write_text(CATALOGUE.replace("UNKNOWN", "upstream: {x: refresh/pries}"))
    done = freshline(home, "deploy")
    assert done.returncode == 2
    assert "line 6" in done.stderr
    assert "'prices'" in done.stderr
    assert "refresh/pries" in done.stderr
    assert "Traceback" not in done.stderr


def test_deploy_without_a_server_is_one_line(home):
    (home / "prefect.yaml").write_text(CATALOGUE.replace(", UNKNOWN", ""))
    done = freshline(home, "deploy")
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].startswith("Error: ")
    assert "127.0.0.1:9" in done.stderr
    assert "Traceback" not in done.stderr


def test_database_of_a_newer_version_is_one_line(home):
    database = Database(f"sqlite:///{home / 'freshline.db'}")
    database.write(lambda connection: connection.execute(sa.text("UPDATE alembic_version SET version_num = '9999'")))
    database.dispose()
    for command in (["status"], ["db", "upgrade"]):
        done = freshline(home, *command)
        assert done.returncode == 1
        assert "it was made by a newer one" in done.stderr
        assert len(done.stderr.splitlines()) == 1


def test_port_in_use_is_one_line(tmp_path):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        done = freshline(tmp_path, "demo", "--directory", str(tmp_path / "demo"), "--port", str(port))
    assert done.returncode == 1
    assert f"{port}" in done.stderr
    assert len([line for line in done.stderr.splitlines() if line.startswith("Error: ")]) == 1
    assert "Traceback" not in done.stderr


def test_directory_that_cannot_be_written_is_one_line(tmp_path):
    (tmp_path / "file").write_text("in the way")
    done = freshline(tmp_path, "demo", "--directory", str(tmp_path / "file" / "demo"))
    assert done.returncode == 1
    assert "cannot be written" in done.stderr
    assert "Traceback" not in done.stderr


def test_setting_that_cannot_be_used_names_the_variable(tmp_path):
    done = freshline(tmp_path, "status", FRESHLINE_LEASE_S="long")
    assert done.returncode == 2
    assert "FRESHLINE_LEASE_S='long'" in done.stderr


def test_database_that_cannot_be_reached_is_one_line_without_the_password(tmp_path):
    url = "postgresql+psycopg://user:s3cret@127.0.0.1:9/db"
    done = freshline(tmp_path, "status", FRESHLINE_DATABASE_URL=url)
    assert done.returncode == 1
    assert "cannot open the database" in done.stderr
    assert "s3cret" not in done.stderr
    assert "Traceback" not in done.stderr


def test_store_is_opened_once_per_process(monkeypatch, tmp_path):
    monkeypatch.setenv("FRESHLINE_HOME", str(tmp_path))
    first = composition.shared_freshline()
    try:
        assert composition.shared_freshline() is first
    finally:
        first.database.dispose()
