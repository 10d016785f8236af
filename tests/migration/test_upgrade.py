"""From the first schema to the newest, with data: nothing is lost, the guards hold, and older programs go on."""

import itertools
import os
import signal
from contextlib import contextmanager
from datetime import timedelta
from multiprocessing import get_context

import psycopg
import pytest
import sqlalchemy as sa
from alembic import command
from sqlalchemy.exc import IntegrityError
from sqlmodel import SQLModel

from freshline.runs import migrate
from freshline.runs.details import SCHEMA_OF, TABLE_OF, run_type
from freshline.runs.migrate import HEAD, current_revision, ensure_schema, upgrade
from freshline.runs.queries import Queries
from freshline.runs.status import LEASED, TERMINAL, TRANSITIONS, RunStatus
from freshline.storage.database import Database
from freshline.storage.errors import StoreVersion
from freshline.storage.ids import new_id
from freshline.storage.words import DeploymentKind
from tests.factories import START

FIRST = "0001"
NEW_TABLES = {"step", "run_usage", "run_message", "checkpoint", "version_act", "alias", "alias_move"}
DETAILS = {
    DeploymentKind.REFRESH: {"update_mode": "full", "rows_inserted": 3},
    DeploymentKind.PREVIEW: {"rows_computed": 3},
    DeploymentKind.TRAINING: {"num_features": 3},
    DeploymentKind.INFERENCE: {"num_predictions": 3},
    DeploymentKind.MONITORING: {"monitoring_type": "model_drift", "alerts": [{"feature": "x"}]},
    DeploymentKind.OPTIMIZE: {"solver_status": "optimal", "constraints": {"max": 0.1}},
    DeploymentKind.BACKTEST: {"start_date": START.date(), "num_trades": 3},
}


def empty_url(request, directory):
    if request.param == "sqlite":
        return f"sqlite:///{directory / 'freshline.db'}"
    url, name = request.getfixturevalue("postgres_url"), f"old_{new_id().hex}"
    conninfo = url.replace("postgresql+psycopg", "postgresql") + "/postgres"
    with psycopg.connect(conninfo, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name} TEMPLATE template0")
    return f"{url}/{name}"


class Old:
    """A store of the first schema, and a program that knows no other: each statement names that schema's columns."""

    def __init__(self, url):
        self.url = url
        self.database = Database(url, sqlite_synchronous="OFF")
        with self.database.transaction() as connection:
            config = migrate._config()
            config.attributes["connection"] = connection
            command.upgrade(config, FIRST)
            found = sa.inspect(connection)
            columns = {name: [one["name"] for one in found.get_columns(name)] for name in found.get_table_names()}
        models, metadata = SQLModel.metadata.tables, sa.MetaData()
        self.tables = {
            name: sa.Table(name, metadata, *(sa.Column(column, models[name].c[column].type) for column in names))
            for name, names in columns.items()
            if name != "alembic_version"
        }
        self.deployments = {}
        self.insert("store", id=new_id(), created_at=START)
        for kind in DeploymentKind:
            self.deployments[kind] = new_id()
            resource = new_id()
            self.insert(
                "resource", id=resource, tenant_id="default", name=f"{kind}-x", kind="dataset", created_at=START
            )
            self.insert(
                "deployment", id=self.deployments[kind], tenant_id="default", key=f"{kind}/x", kind=kind,
                resource_id=resource, project="default", external=False, declaration={}, declaration_digest="d",
                parameter_schema={"type": "object"}, created_at=START, registered_at=START,
            )  # fmt: skip
            self.insert(
                "deployment_state", deployment_id=self.deployments[kind], partition="", freshness="not_initialized",
                activity="idle", fence=0, next_fence=1, next_number=1, source_delayed=False,
            )  # fmt: skip

    def insert(self, table, **values):
        self.do(sa.insert(self.tables[table]).values(**values))

    def do(self, statement):
        return self.database.write(lambda connection: connection.execute(statement).rowcount)

    def submit(self, kind):
        """A pending run with its detail and first event."""
        run_id = new_id()
        self.insert(
            "run", id=run_id, tenant_id="default", project="default", deployment_id=self.deployments[kind],
            partition="", type=run_type(kind), trigger="submitted", actor="ada", generation=0, status="pending",
            parameters={"n": 1}, request={}, tags=["a"], attempt=0, created_at=START, last_seq=1,
        )  # fmt: skip
        self.insert(TABLE_OF[kind].__tablename__, run_id=run_id, **DETAILS[kind])
        self.event(run_id, 1, "run_submitted", trigger="submitted", trigger_name=None)
        return run_id

    def event(self, run_id, seq, kind, **payload):
        self.insert("run_event", run_id=run_id, seq=seq, kind=kind, payload=payload, actor="ada", at=START)

    def claim(self, run_id):
        run = self.tables["run"]
        moved = self.do(
            sa.update(run)
            .where(run.c.id == run_id, run.c.status == "pending")
            .values(
                status="running", attempt=1, fence=1, lease_owner="w", lease_until=START + timedelta(minutes=1),
                heartbeat_at=START, started_at=START, last_seq=2,
            )
        )  # fmt: skip
        if moved:
            self.event(run_id, 2, "run_started", attempt=1, fence=1, worker="w")
        return moved

    def complete(self, run_id):
        run = self.tables["run"]
        moved = self.do(
            sa.update(run)
            .where(run.c.id == run_id, run.c.status == "running", run.c.fence == 1)
            .values(
                status="completed", stop_reason="completed", ended_at=START, lease_until=None, lease_owner=None,
                last_seq=3,
            )
        )  # fmt: skip
        if moved:
            self.insert("metric", run_id=run_id, name="rows", value=3.0, at=START)
            self.event(run_id, 3, "run_completed", stop_reason="completed")
        return moved

    def content(self):
        """Every row in every table, as far as the first schema knows it."""
        with self.database.read() as connection:
            return {
                name: sorted(map(repr, connection.execute(sa.select(table)).all()))
                for name, table in self.tables.items()
            }

    def facts(self):
        """Revision, tables and triggers."""
        triggers = {
            "sqlite": "SELECT name, sql FROM sqlite_master WHERE type = 'trigger' ORDER BY name",
            "postgresql": "SELECT tgname, tgenabled::text FROM pg_trigger WHERE NOT tgisinternal ORDER BY tgname",
        }[self.database.dialect]
        with self.database.read() as connection:
            names = sorted(sa.inspect(connection).get_table_names())
            found = [tuple(row) for row in connection.execute(sa.text(triggers))]
            return current_revision(connection), names, found


@pytest.fixture(params=["sqlite", "postgres"])
def old(request, tmp_path):
    made = Old(empty_url(request, tmp_path))
    yield made
    made.database.dispose()


def lasting(triggers):
    """Triggers that no revision changes; of the one on SQLite that lets a deletion through since 0007, its name."""
    return {("run_is_final",) if trigger[0] == "run_is_final" else trigger for trigger in triggers}


def with_runs(old):
    """One run of each type that ended, and one that runs; return their ids."""
    ended = {kind: old.submit(kind) for kind in DeploymentKind}
    for run_id in ended.values():
        assert (old.claim(run_id), old.complete(run_id)) == (1, 1)
    running = old.submit(DeploymentKind.REFRESH)
    assert old.claim(running) == 1
    return ended, running


def column(old, run_id, name):
    with old.database.read() as connection:
        run = SQLModel.metadata.tables["run"]
        return connection.execute(sa.select(run.c[name]).where(run.c.id == run_id)).scalar_one()


def test_first_schema_is_told_the_command_and_left_alone(old):
    before = old.facts()
    with pytest.raises(StoreVersion, match=r"older schema 0001: run `freshline db upgrade`"):
        ensure_schema(old.database)
    assert old.facts() == before


def test_upgrade_keeps_every_row_and_says_of_which_kind_each_run_is(old):
    ended, running = with_runs(old)
    before = old.content()
    assert all(before[table.__tablename__] for table in TABLE_OF.values())
    upgrade(old.database)
    assert old.content() == before
    assert {kind: column(old, run_id, "kind") for kind, run_id in ended.items()} == {kind: kind for kind in ended}
    assert column(old, running, "kind") == "refresh"
    assert old.facts()[0] == HEAD
    assert set(old.facts()[1]) >= NEW_TABLES


def test_runs_of_the_first_schema_are_read_whole_afterwards(old):
    ended, running = with_runs(old)
    upgrade(old.database)
    queries = Queries(old.database)
    for kind, run_id in ended.items():
        report = queries.report(run_id)
        assert {name: report.detail[name] for name in DETAILS[kind]} == DETAILS[kind]
        assert set(SCHEMA_OF[kind].model_fields) <= set(report.detail) | {"run_id"}
        assert (report.run.workflow, report.run.metadata_, report.run.background) == ({}, {}, True)
        assert [event.kind for _, event in queries.events(run_id)] == ["run_submitted", "run_started", "run_completed"]
        assert report.usage.num_steps == 0
    assert queries.report(running).run.status == "running"


def test_run_that_was_running_completes_after_the_upgrade(old):
    _, running = with_runs(old)
    upgrade(old.database)
    assert old.complete(running) == 1
    assert column(old, running, "status") == "completed"


def test_upgrade_leaves_the_triggers_as_they_were(old):
    with_runs(old)
    before = old.facts()[2]
    assert before
    upgrade(old.database)
    assert lasting(old.facts()[2]) >= lasting(before)


# The guards, by the way of the upgrade.


@pytest.fixture(scope="module", params=["sqlite", "postgres"])
def upgraded(request, tmp_path_factory):
    made = Old(empty_url(request, tmp_path_factory.mktemp("upgraded")))
    with_runs(made)
    upgrade(made.database)
    yield made
    made.database.dispose()


def state(status):
    """What a row in this status must have beside."""
    has_ended = status in TERMINAL
    return {
        "status": status,
        "lease_until": START if status in LEASED else None,
        "ended_at": START if has_ended else None,
        "stop_reason": "error" if has_ended else None,
    }


def placed(old, status):
    """A run that was written in this status, as no program does it."""
    run_id = new_id()
    old.insert(
        "run", id=run_id, tenant_id="default", project="default", deployment_id=old.deployments["refresh"],
        partition="", type="PipelineRun", trigger="submitted", actor="ada", generation=0, parameters={}, request={},
        tags=[], attempt=0, created_at=START, last_seq=1, **state(status),
    )  # fmt: skip
    return run_id


@pytest.mark.parametrize(("source", "target"), list(itertools.product(RunStatus, RunStatus)))
def test_upgraded_database_refuses_each_illegal_transition(upgraded, source, target):
    run, run_id = upgraded.tables["run"], placed(upgraded, source)
    move = sa.update(run).where(run.c.id == run_id).values(**state(target))
    if target in TRANSITIONS[source] or (source == target and source not in TERMINAL):
        assert upgraded.do(move) == 1
        assert column(upgraded, run_id, "status") == target
    else:
        with pytest.raises(IntegrityError, match=r"a run that has ended|the status of a run cannot"):
            upgraded.do(move)
        assert column(upgraded, run_id, "status") == source


@pytest.mark.parametrize("status", sorted(TERMINAL))
@pytest.mark.parametrize(
    "change", [{"kind": "backtest"}, {"error_message": "late"}, {"last_seq": 9}, {"pause_requested_at": START}]
)
def test_upgraded_database_lets_no_ended_run_change(upgraded, status, change):
    run, run_id = SQLModel.metadata.tables["run"], placed(upgraded, status)
    ((name, _),) = change.items()
    before = column(upgraded, run_id, name)
    with pytest.raises(IntegrityError, match="a run that has ended does not change"):
        upgraded.do(sa.update(run).where(run.c.id == run_id).values(**change))
    assert column(upgraded, run_id, name) == before


def test_upgraded_database_lets_no_run_of_the_first_schema_change(upgraded):
    run = SQLModel.metadata.tables["run"]
    with upgraded.database.read() as connection:
        ended = connection.execute(sa.select(run.c.id).where(run.c.version_id.is_(None), run.c.last_seq == 3)).scalars()
        run_ids = list(ended)
    assert len(run_ids) >= len(DeploymentKind)
    for run_id in run_ids:
        with pytest.raises(IntegrityError, match="a run that has ended does not change"):
            upgraded.do(sa.update(run).where(run.c.id == run_id).values(kind=""))


# A program of the first schema on a database of the newest.


def publish(old, number, kind):
    """A version, as a program of the first schema inserts it."""
    version_id = new_id()
    old.insert(
        "version", id=version_id, deployment_id=old.deployments[kind], partition="", number=number, run_id=new_id(),
        fence=number, digest="d", declaration_digest="d", created_at=START,
    )  # fmt: skip
    return version_id


@pytest.mark.parametrize("kind", list(DeploymentKind))
def test_older_program_goes_on_with_the_upgraded_database(old, kind):
    upgrade(old.database)
    publish(old, 1, kind)
    run_id = old.submit(kind)
    assert (old.claim(run_id), old.claim(run_id)) == (1, 0)
    assert (old.complete(run_id), old.complete(run_id), column(old, run_id, "status")) == (1, 0, "completed")
    new = {name: column(old, run_id, name) for name in ("workflow", "metadata", "background", "duration_ns")}
    assert new == {"workflow": {}, "metadata": {}, "background": True, "duration_ns": None}
    report = Queries(old.database).report(run_id)
    assert (report.run.type, report.metrics) == (run_type(kind), {"rows": 3.0})
    assert {name: report.detail[name] for name in DETAILS[kind]} == DETAILS[kind]


# Interrupted.

MIDDLES = (
    "ALTER TABLE RUN ADD",
    "CREATE TABLE STEP",
    "CREATE INDEX",
    "UPDATE RUN SET KIND",
    "CREATE TABLE VERSION_ACT",
    "CREATE TRIGGER",
    "UPDATE ALEMBIC_VERSION",
)


@contextmanager
def interrupted_after(database, beginning, interrupt):
    """Do something after the first statement that begins so."""

    def watch(_connection, _cursor, sql, *_rest):
        if " ".join(sql.split()).replace('"', "").upper().startswith(beginning):
            interrupt()

    sa.event.listen(database.engine, "after_cursor_execute", watch)
    try:
        yield
    finally:
        sa.event.remove(database.engine, "after_cursor_execute", watch)


def fail():
    raise InterruptedError("the power of the test failed")


@pytest.mark.parametrize("beginning", MIDDLES)
def test_upgrade_that_died_in_the_middle_leaves_the_first_schema_and_runs_again(old, beginning):
    with_runs(old)
    facts, content = old.facts(), old.content()
    with pytest.raises(InterruptedError), interrupted_after(old.database, beginning, fail):
        upgrade(old.database)
    assert (old.facts(), old.content()) == (facts, content)
    upgrade(old.database)
    assert (old.facts()[0], old.content()) == (HEAD, content)
    assert lasting(old.facts()[2]) >= lasting(facts[2])


@pytest.mark.parametrize("beginning", ["CREATE TABLE STEP", "UPDATE RUN SET KIND"])
def test_upgrade_whose_process_was_killed_in_the_middle_runs_again(old, beginning):
    ended, _ = with_runs(old)
    facts, content = old.facts(), old.content()
    old.database.dispose()
    process = get_context("spawn").Process(target=_upgrade_until_killed, args=(old.url, beginning))
    process.start()
    process.join(timeout=60)
    assert process.exitcode == -signal.SIGKILL
    assert (old.facts(), old.content()) == (facts, content)
    upgrade(old.database)
    assert (old.facts()[0], old.content()) == (HEAD, content)
    assert lasting(old.facts()[2]) >= lasting(facts[2])
    run = SQLModel.metadata.tables["run"]
    with pytest.raises(IntegrityError, match="a run that has ended"):
        old.do(sa.update(run).where(run.c.id == ended[DeploymentKind.BACKTEST]).values(kind=""))


def _upgrade_until_killed(url, beginning):
    database = Database(url)
    with interrupted_after(database, beginning, lambda: os.kill(os.getpid(), signal.SIGKILL)):
        upgrade(database)
