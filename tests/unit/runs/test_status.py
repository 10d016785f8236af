"""The statuses as data: every pair is allowed or refused, in code as in the database."""

import itertools
from datetime import timedelta

import pytest
import sqlalchemy as sa
from sqlalchemy.exc import IntegrityError

from freshline.lineage import registry
from freshline.runs import contents, store
from freshline.runs import run_events as events
from freshline.runs.author_events import AuthorEvent
from freshline.runs.creation import Origin, create_run
from freshline.runs.details import PipelineRun
from freshline.runs.models import RunEvent
from freshline.runs.request import RunRequest
from freshline.runs.status import LEASED, TERMINAL, TRANSITIONS, RunStatus, StopReason, sources_of
from freshline.storage.database import Database
from freshline.storage.words import Trigger
from tests.databases import new_database_url
from tests.factories import START, Graph, declared

# The diagram once more, written independently of the module: source -> targets.
DIAGRAM = {
    "pending": {"running", "waiting", "skipped", "refused", "cancelled", "failed"},
    "waiting": {"pending", "skipped", "refused", "cancelled", "failed"},
    "running": {"completed", "failed", "retrying", "paused", "cancelling"},
    "retrying": {"running", "failed", "cancelled"},
    "paused": {"running", "failed", "cancelled"},
    "cancelling": {"cancelled", "completed", "failed"},
}


def test_transitions_equal_the_diagram():
    drawn = {RunStatus(source): {RunStatus(t) for t in targets} for source, targets in DIAGRAM.items()}
    assert {status: set(targets) for status, targets in TRANSITIONS.items() if targets} == drawn


def test_terminal_statuses_are_those_without_a_way_out():
    assert {"completed", "failed", "cancelled", "skipped", "refused"} == TERMINAL
    assert all(sources_of(status) for status in TERMINAL)


@pytest.fixture(scope="module", params=["sqlite", "postgres"])
def database(request, tmp_path_factory):
    """One store for all pairs: each test has a run of its own in it."""
    url = new_database_url(request, tmp_path_factory.mktemp("status"))
    opened = Database(url, sqlite_synchronous="OFF")
    Graph(opened, declared("refresh/prices"))
    yield opened
    opened.dispose()


@pytest.fixture
def run(database):
    def work(connection):
        deployment = registry.deployment(connection, "refresh/prices", tenant_id="default")
        origin = Origin(Trigger.SUBMITTED, "test")
        return create_run(connection, deployment, origin, parameters={}, request=RunRequest(), now=START)

    return database.write(work)


def place(connection, run_id, status):
    """Put a run into a status by force, as no transition may: the row is written anew."""
    row = {**store.get_run(connection, run_id)._asdict(), "status": status}
    row["lease_until"] = START if status in LEASED else None
    if status in TERMINAL:
        row |= {"ended_at": START, "stop_reason": StopReason.ERROR}
    for table in (RunEvent.__table__, PipelineRun.__table__):
        connection.execute(sa.delete(table).where(table.c.run_id == run_id))
    connection.execute(sa.delete(store.RUN).where(store.RUN.c.id == run_id))
    connection.execute(sa.insert(store.RUN).values(row))


@pytest.mark.parametrize(("source", "target"), list(itertools.product(RunStatus, RunStatus)))
def test_transition_of_each_pair_is_as_the_diagram_says(database, run, source, target):
    values = {"lease_until": START + timedelta(minutes=1)} if target in LEASED else {}
    if target in TERMINAL:
        values["stop_reason"] = StopReason.ERROR

    def work(connection):
        place(connection, run.id, source)
        return store.transition(connection, run.id, target, actor="test", now=START, **values)

    moved = database.write(work)
    if target in DIAGRAM.get(source, ()):
        assert moved.status == target
    else:
        assert moved is None


@pytest.mark.parametrize(("source", "target"), list(itertools.product(RunStatus, RunStatus)))
def test_status_written_past_the_service_is_refused_by_the_database(database, run, source, target):
    row = {"status": target, "lease_until": START if target in LEASED else None}
    if target in TERMINAL:
        row |= {"ended_at": START, "stop_reason": StopReason.ERROR}

    def work(connection):
        connection.execute(sa.update(store.RUN).where(store.RUN.c.id == run.id).values(row))

    database.write(lambda connection: place(connection, run.id, source))
    if target in DIAGRAM.get(source, ()) or (source == target and source not in TERMINAL):
        database.write(work)
    else:
        with pytest.raises(IntegrityError, match=r"a run that has ended|the status of a run cannot"):
            database.write(work)


@pytest.mark.parametrize(
    "values",
    [
        {"status": "completed"},
        {"status": "failed", "ended_at": START},
        {"ended_at": START},
        {"status": "running"},
        {"lease_until": START},
    ],
)
def test_row_that_contradicts_itself_is_refused_by_the_database(database, run, values):
    with pytest.raises(IntegrityError):
        database.write(lambda c: c.execute(sa.update(store.RUN).where(store.RUN.c.id == run.id).values(values)))


def test_transition_with_another_fence_is_refused(database, run):
    def start(connection):
        return store.transition(
            connection, run.id, RunStatus.RUNNING, actor="test", now=START, fence=7, lease_until=START
        )

    def complete(connection, held_fence):
        return store.transition(
            connection,
            run.id,
            RunStatus.COMPLETED,
            actor="test",
            now=START,
            held_fence=held_fence,
            stop_reason=StopReason.COMPLETED,
        )

    database.write(start)
    assert database.write(lambda c: complete(c, 6)) is None
    assert database.write(lambda c: complete(c, 7)).status == "completed"


def test_events_are_numbered_without_gaps_and_only_with_their_transition(database, run):
    def work(connection):
        for n in range(3):
            store.change(connection, run.id, [AuthorEvent(name=f"a{n}")], actor="test", now=START)
        refused = store.transition(
            connection, run.id, RunStatus.COMPLETED, [events.RunReleased()], actor="test", now=START,
            stop_reason=StopReason.COMPLETED,
        )  # fmt: skip
        assert refused is None
        store.change(connection, run.id, [AuthorEvent(name="b"), AuthorEvent(name="c")], actor="test", now=START)

    database.write(work)
    with database.read() as connection:
        log = store.events_of(connection, run.id)
    assert [entry.seq for entry in log] == [1, 2, 3, 4, 5, 6]
    assert [entry.kind for entry in log] == ["run_submitted"] + ["author_event"] * 5


def test_terminal_run_takes_no_event(database, run):
    def work(connection):
        place(connection, run.id, RunStatus.FAILED)
        return store.change(connection, run.id, [AuthorEvent(name="late")], actor="test", now=START)

    assert database.write(work) is None


def test_metric_values_that_are_nan_or_infinite_round_trip(database, run):
    rows = [
        {"name": "nan", "value": None},
        {"name": "plus", "value": float("inf")},
        {"name": "minus", "value": float("-inf")},
    ]
    database.write(lambda c: contents.write_metrics(c, run.id, rows, now=START))
    database.write(lambda c: contents.write_metrics(c, run.id, [{"name": "plus", "value": 1.5}], now=START))
    with database.read() as connection:
        found = {row.name: row.value for row in contents.metrics_of(connection, [run.id])}
    assert found == {"nan": None, "plus": 1.5, "minus": float("-inf")}
