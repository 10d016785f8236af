"""Single faults, each at its worst moment: what the kill harness meets rarely, or not at all."""

import os
import signal
import sys
from contextlib import closing
from datetime import UTC, datetime, timedelta

import psycopg
import pytest
import sqlalchemy as sa

from freshline.deployments.gateway import FlowRunState
from freshline.runs.execution import RunExecution
from freshline.runs.result import Result
from freshline.runs.service import RunExecutionService
from freshline.storage import compiled, connections
from freshline.storage.faults import watched
from tests.factories import Graph, declared
from tests.faults import checker
from tests.faults.acts import content
from tests.faults.harness import Harness
from tests.faults.tables import RUN

on_postgres = pytest.mark.parametrize("database_url", ["postgres"], indirect=True)
HOUR = timedelta(hours=1)


@pytest.fixture
def harness(database_url):
    """A kill harness whose Prefect answers."""
    made = Harness(database_url, seed=1)
    made.prefect.loses_answers = False
    with closing(made):
        yield made


def claimed(database):
    """A run of the only deployment, held by a worker."""
    Graph(database, declared("refresh/prices"))
    return RunExecution(database).claim(RunExecutionService(database).submit("refresh/prices").id, worker="one").run


def records(database):
    """(runs, what is wrong with them)."""
    with database.read() as connection:
        runs = connection.execute(sa.select(RUN).order_by(RUN.c.id)).all()
        return runs, checker.wrong_records(connection, runs)


def end_backend(url):
    """The database drops the connection that is in a transaction."""
    conninfo = sa.make_url(url).set(drivername="postgresql").render_as_string(hide_password=False)
    ended = (
        "SELECT count(pg_terminate_backend(pid, 5000)) FROM pg_stat_activity "
        "WHERE datname = current_database() AND pid <> pg_backend_pid() AND xact_start IS NOT NULL"
    )
    with psycopg.connect(conninfo, autocommit=True) as connection:
        assert connection.execute(ended).fetchone() == (1,)


class OnceAt:
    """Do something at a point when it is reached for the first time."""

    def __init__(self, point, act):
        self.point = point
        self.act = act
        self.reached = 0

    def __call__(self, point):
        if point == self.point:
            self.reached += 1
            if self.reached == 1:
                self.act()


# SQLite has no connection that could be lost: its database is a file that this process has open.
@on_postgres
@pytest.mark.parametrize("point", ["complete.locked", "complete.before_commit"])
def test_connection_lost_before_commit_of_complete_publishes_one_version(database, database_url, point):
    run = claimed(database)
    lost = OnceAt(point, lambda: end_backend(database_url))
    with watched(lost):
        ended = RunExecution(database).complete(run.id, run.fence, Result(artifacts=[content("1")]))
    assert (ended.status, lost.reached) == ("completed", 2)
    assert records(database)[1] == []


def test_reconciler_killed_at_every_point_of_an_automatic_refresh_leaves_one_run(database_url):
    by_itself = {"refresh/momentum": {"quiet": "0s", "at_most_every": "1h"}}
    with closing(Harness(database_url, seed=1, auto_refresh=by_itself)) as harness:
        harness.prefect.loses_answers = False
        harness.work_on(harness.dispatched())
        harness.submit("refresh/momentum")
        harness.come_to_rest()
        for _ in range(2):  # the second has other content
            harness.work_on(harness.dispatched())
        for point in ("begin", "locked", "before_commit", "committed"):
            fate = {"kill_at": f"auto_refresh.{point}"}
            assert harness.do("reconcile", fate=fate) == ("killed", f"auto_refresh.{point}")
        harness.come_to_rest()
        runs, wrong = records(harness.database)
        assert [(run.status, run.actor[:4]) for run in runs if run.trigger == "cascade"] == [("completed", "run-")]
        assert wrong == []


@pytest.fixture
def lose_reply_to_commit(monkeypatch):
    """A function that makes the next commit reach the database, while its reply does not come back."""
    ordered = []
    end = connections._end

    def lose(connection, *, commit):
        if commit and ordered:
            ordered.clear()
            compiled.land(connection)
            driver = connection.connection.driver_connection
            driver.commit()
            driver.close()
        end(connection, commit=commit)

    monkeypatch.setattr(connections, "_end", lose)
    yield lambda: ordered.append(True)
    assert not ordered, "a commit came, and its reply was lost"


@on_postgres
def test_reply_to_commit_of_complete_lost_publishes_one_version(database, lose_reply_to_commit):
    run = claimed(database)
    lose_reply_to_commit()
    ended = RunExecution(database).complete(run.id, run.fence, Result(artifacts=[content("1")]))
    assert ended.status == "completed"
    assert records(database)[1] == []


@on_postgres
@pytest.mark.parametrize(("will_retry", "status"), [(False, "failed"), (True, "retrying")])
def test_reply_to_commit_of_fail_lost_leaves_the_run_as_it_was_told(database, lose_reply_to_commit, will_retry, status):
    run = claimed(database)
    lose_reply_to_commit()
    ended = RunExecution(database).fail(run.id, run.fence, ValueError("no"), "Traceback", will_retry=will_retry)
    assert ended.status == status
    assert records(database)[1] == []


def test_worker_stopped_beyond_its_lease_is_fenced_when_it_goes_on(harness):
    flow_run = harness.dispatched()
    assert harness.work_on(flow_run, fate={"park_at": "record.committed"})[0] == "parked"
    ((actor, order),) = harness.parked()
    os.kill(actor.process.pid, signal.SIGSTOP)
    actor.call_on(harness.now)
    harness.now += timedelta(seconds=61)
    harness.do("reconcile")
    harness.do("dispatch")
    os.kill(actor.process.pid, signal.SIGCONT)
    assert actor.await_outcome(order) == ("done", "fenced")
    runs, wrong = records(harness.database)
    assert [(run.status, run.stop_reason, run.version_id) for run in runs] == [("failed", "lease_expired", None)]
    assert wrong == []
    assert harness.prefect.read_flow_run(flow_run.id).state_type == FlowRunState.CRASHED


# On SQLite the file is local: the clock of this machine is the clock of its database.
@on_postgres
@pytest.mark.parametrize("off_by", [-HOUR, HOUR], ids=["an hour behind", "an hour ahead"])
def test_worker_whose_clock_is_off_by_an_hour_gets_a_lease_by_the_clock_of_the_database(database, monkeypatch, off_by):
    class WrongClock(datetime):
        @classmethod
        def now(cls, tz=None):
            return datetime.now(tz) + off_by

    for name, module in list(sys.modules.items()):
        if name.startswith("freshline.") and getattr(module, "datetime", None) is datetime:
            monkeypatch.setattr(module, "datetime", WrongClock)
    run = claimed(database)
    beaten = RunExecution(database).heartbeat(run.id, run.fence)
    with database.read() as connection:
        now = connection.execute(sa.text("SELECT clock_timestamp()")).scalar_one().astimezone(UTC)
    for row in (run, beaten):
        assert timedelta(seconds=50) < row.lease_until - now <= timedelta(seconds=60)


@pytest.mark.parametrize(
    ("outcome", "point"),
    [
        ("complete", "claim.begin"),
        ("complete", "claim.before_commit"),
        ("complete", "complete.committed"),
        ("fail", "fail.committed"),
        ("retry", "fail.committed"),
    ],
)
def test_worker_without_a_lease_that_nobody_notices_to_be_lost_comes_to_its_end(harness, outcome, point):
    assert harness.work_on(harness.dispatched(), outcome, fate={"kill_at": point})[0] == "killed"
    harness.come_to_rest()
    assert harness.faults() == []
