"""`freshline doctor`: what it tries, what it says of what is broken, and that it leaves nothing behind."""

import json
import re
from datetime import UTC, datetime, timedelta

import pytest
import sqlalchemy as sa
from click.testing import CliRunner

from freshline.runs import checkup
from freshline.runs.cli import cli
from freshline.storage.database import Database
from freshline.storage.probe import Outcome, probe
from freshline.storage.settings import Settings

SECRET = "correct-horse-battery-staple"


@pytest.fixture(autouse=True)
def prefect_version(monkeypatch) -> dict[str, str]:
    """What Prefect's API answers: its own version, unless a test says otherwise."""
    import prefect

    from freshline.deployments import connection

    answers = {"/admin/version": prefect.__version__}
    monkeypatch.setattr(connection, "ask", lambda path, api_url=None: answers[path])
    return answers


@pytest.fixture
def settings(tmp_path) -> Settings:
    return Settings(home=tmp_path / "home")


def found(settings, area, name) -> checkup.Check:
    (check,) = [one for one in checkup.check_up(settings) if (one.area, one.name) == (area, name)]
    return check


def test_machine_without_anything_is_sound_and_stays_as_it_is(settings, tmp_path):
    checks = list(checkup.check_up(settings))
    assert checkup.is_sound(checks)
    assert "is not there yet" in checks[0].detail
    assert list(tmp_path.iterdir()) == []


def test_database_in_use_is_looked_at(settings, database, monkeypatch):
    monkeypatch.setattr(checkup, "_SLOW_S", 3600.0)  # how fast this machine is says nothing
    settings = settings.model_copy(update={"database_url": secret_url(database)})
    checks = [one for one in checkup.check_up(settings) if one.area == "database"]
    assert [one.name for one in checks] == ["connect", "latency", "schema", "store", "clock"]
    assert {one.outcome for one in checks} == {Outcome.OK}
    monkeypatch.setattr(checkup, "_SLOW_S", 0.0)
    slow = found(settings, "database", "latency")
    assert (slow.outcome, "takes long" in slow.detail) == (Outcome.NOTE, True)


def secret_url(database):
    from pydantic import SecretStr

    return SecretStr(database.engine.url.render_as_string(hide_password=False))


@pytest.mark.parametrize(
    ("revision", "said"), [("0001", "run `freshline db upgrade`"), ("9999", "newer Freshline: install that")]
)
def test_schema_of_another_program_is_broken(settings, tmp_path, sqlite_template, revision, said):
    home = tmp_path / "home"
    home.mkdir()
    (home / "freshline.db").write_bytes(sqlite_template.read_bytes())
    database = Database(f"sqlite:///{home / 'freshline.db'}")
    set_revision = sa.text("UPDATE alembic_version SET version_num = :revision").bindparams(revision=revision)
    database.write(lambda connection: connection.execute(set_revision))
    database.dispose()
    check = found(settings, "database", "schema")
    assert check.outcome == Outcome.BROKEN
    assert said in check.detail


def test_database_of_another_store_is_broken(settings, tmp_path, sqlite_template):
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "freshline.db").write_bytes(sqlite_template.read_bytes())
    check = found(settings.model_copy(update={"store_id": "another"}), "database", "store")
    assert check.outcome == Outcome.BROKEN
    assert "FRESHLINE_STORE_ID is another: correct FRESHLINE_DATABASE_URL" in check.detail


@pytest.mark.parametrize(
    "url",
    [
        f"postgresql+psycopg://me:{SECRET}@127.0.0.1:9/x",
        f"postgresql+psycopg://127.0.0.1:9/x?user=me&password={SECRET}",
        "sqlite:////dev/null/x.db",
        "nonsense",
    ],
)
def test_database_that_cannot_be_reached_says_what_to_do_without_the_password(url):
    settings = Settings(database_url=url, artifacts_url="memory://doctor")
    check = found(settings, "database", "connect")
    assert check.outcome == Outcome.BROKEN
    assert "FRESHLINE_DATABASE_URL" in check.detail
    assert SECRET not in check.detail


def test_clocks_that_differ_are_a_note():
    now = datetime(2026, 1, 5, tzinfo=UTC)
    assert checkup._clock(now, now + timedelta(seconds=1)).outcome == Outcome.OK
    check = checkup._clock(now, now + timedelta(hours=1))
    assert (check.outcome, "+3600.0 s: set it" in check.detail) == (Outcome.NOTE, True)


def test_prefect_of_another_version_is_a_note(settings, prefect_version):
    prefect_version["/admin/version"] = "2.20.0"
    check = found(settings, "prefect", "API")
    assert check.outcome == Outcome.NOTE
    assert "version 2.20.0" in check.detail


def test_object_store_that_cannot_be_written_is_broken_and_the_rest_is_not_tried(tmp_path):
    (tmp_path / "file").write_text("in the way")
    settings = Settings(home=tmp_path, artifacts_url=(tmp_path / "file" / "x").as_uri())
    checks = [one for one in checkup.check_up(settings) if one.area == "objects"]
    assert [(one.name, one.outcome) for one in checks] == [("open", Outcome.OK), ("write", Outcome.BROKEN)]
    assert "FRESHLINE_ARTIFACTS_URL" in checks[-1].detail
    assert not checkup.is_sound(checks)


def test_block_without_a_prefect_is_broken(settings, monkeypatch):
    from freshline.deployments import credentials
    from freshline.storage.errors import PrefectError

    def fail(reference, *, protocol):
        raise PrefectError("Prefect cannot be reached; start it")

    monkeypatch.setattr(credentials, "block_options", fail)
    named = settings.model_copy(update={"artifacts_url": "s3://bucket", "artifacts_block": "aws-credentials/x"})
    check = found(named, "objects", "open")
    assert (check.outcome, check.detail) == (Outcome.BROKEN, "Prefect cannot be reached; start it")


def test_settings_are_shown_without_a_secret(monkeypatch):
    for name in ("S3_ACCESS_KEY_ID", "S3_SECRET_ACCESS_KEY", "S3_SESSION_TOKEN"):
        monkeypatch.setenv(f"FRESHLINE_{name}", SECRET)
    monkeypatch.setenv("FRESHLINE_DATABASE_URL", f"postgresql+psycopg://me:{SECRET}@db/x")
    monkeypatch.setenv("FRESHLINE_ARTIFACTS_OPTIONS", json.dumps({"secret": SECRET}))
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
    shown = checkup.shown_settings(Settings())
    assert SECRET not in str(shown)
    assert shown["FRESHLINE_DATABASE_URL"] == "postgresql+psycopg://me:***@db/x"
    assert shown["FRESHLINE_S3_ACCESS_KEY_ID"] == shown["AWS_SECRET_ACCESS_KEY"] == "set"
    assert shown["FRESHLINE_TENANT_ID"] == "default"


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("FRESHLINE_ARTIFACTS_URL", f"s3://me:{SECRET}@bucket/x", "s3://me:***@bucket/x"),
        ("FRESHLINE_S3_ENDPOINT_URL", f"http://me:{SECRET}@s3.internal", "http://me:***@s3.internal"),
        (
            "FRESHLINE_DATABASE_URL",
            f"postgresql+psycopg://db/x?user=me&password={SECRET}",
            "postgresql+psycopg://db/x?user=me",
        ),
        ("FRESHLINE_DATABASE_URL", f"me:{SECRET}@db", "set"),
    ],
)
def test_setting_with_a_secret_where_none_belongs_is_shown_without_it(monkeypatch, name, value, expected):
    monkeypatch.setenv(name, value)
    assert checkup.shown_settings(Settings())[name] == expected


def test_command_with_a_database_that_is_no_url_says_what_to_do(tmp_path):
    env = {"FRESHLINE_HOME": str(tmp_path / "home"), "FRESHLINE_DATABASE_URL": "nonsense"}
    done = CliRunner().invoke(cli, ["doctor"], env=env, standalone_mode=False)
    assert (done.return_value, done.exception) == (1, None)
    assert "correct FRESHLINE_DATABASE_URL" in " ".join(done.output.split())


def test_command_prints_every_check_and_ends_with_0(tmp_path):
    done = CliRunner().invoke(cli, ["doctor"], env={"FRESHLINE_HOME": str(tmp_path / "home")})
    assert done.exit_code == 0, done.output
    assert "Everything works." in done.output
    assert re.search(r"objects +conditional write +ok", done.output)


def test_command_as_json_ends_with_1_when_something_is_broken(tmp_path):
    (tmp_path / "file").write_text("in the way")
    env = {"FRESHLINE_HOME": str(tmp_path), "FRESHLINE_ARTIFACTS_URL": (tmp_path / "file").as_uri()}
    done = CliRunner().invoke(cli, ["doctor", "--json"], env=env, standalone_mode=False)
    assert done.return_value == 1
    told = json.loads(done.stdout)
    assert told["ok"] is False
    assert [one["outcome"] for one in told["checks"] if one["name"] == "write"] == ["broken"]


def test_store_in_use_keeps_its_folders(tmp_path):
    from freshline.storage.filesystem import ObjectStore

    store = ObjectStore((tmp_path / "root").as_uri())
    store.put_bytes(b"x", "objects/x")
    assert {one.outcome for one in probe(store)} == {Outcome.OK}
    assert sorted(path.name for path in (tmp_path / "root").iterdir()) == ["objects", "staging"]


def test_store_that_does_not_answer_is_asked_no_more_than_needed():
    from freshline.storage.errors import ArtifactError
    from freshline.storage.filesystem import ObjectStore

    class Silent(ObjectStore):
        def __init__(self) -> None:
            super().__init__("memory://silent")
            self.asked = []

        def put_bytes(self, content, name):
            self.asked.append("put")
            raise ArtifactError("it does not answer")

        def delete(self, name):
            self.asked.append("delete")
            raise ArtifactError("it does not answer")

    store = Silent()
    assert [one.name for one in probe(store)] == ["open", "write"]
    assert store.asked == ["put", "delete"]
