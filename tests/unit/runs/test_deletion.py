"""Deleting runs: softly, back again, and for good; what others rest on stays."""

from datetime import date, timedelta

import pytest
import sqlalchemy as sa

from freshline.lineage import questions
from freshline.runs.care import acts, erasure
from freshline.runs.care.deletion import Deletions
from freshline.runs.care.deletion_reports import Selection
from freshline.runs.curation import Curation
from freshline.runs.models import Run, RunEvent
from freshline.storage.errors import Conflict, DataRemoved, IdempotencyConflict, InvalidInput, NotFound, RunDeleted
from freshline.storage.ids import new_id, show_run_id
from freshline.storage.models import Artifact, ArtifactObject
from tests.databases import new_database_url

RUN = Run.__table__

on_both = pytest.mark.parametrize("database_url", ["sqlite", "postgres"], indirect=True)


@pytest.fixture(params=["sqlite"])
def database_url(request, tmp_path):
    """SQLite, but for the tests that say that they run on both."""
    return new_database_url(request, tmp_path)


@pytest.fixture
def deletions(world):
    return Deletions(world.database)


def older_and_newer(world):
    """Two versions of prices: the first one is not current, and nobody read it."""
    return world.run_through("refresh/prices", 1), world.run_through("refresh/prices", 2)


def read_by_a_signal(world):
    """A version of prices that a version of momentum read; neither is current."""
    prices = world.run_through("refresh/prices", 1)
    signal = world.run_through("refresh/momentum", 10)
    world.run_through("refresh/prices", 2)
    world.run_through("refresh/momentum", 20)
    return prices, signal


def count(world, table, **where):
    found = table.__table__
    query = sa.select(sa.func.count()).select_from(found)
    for name, value in where.items():
        query = query.where(found.c[name] == value)
    with world.database.read() as connection:
        return connection.execute(query).scalar_one()


# Bad input.


def test_deletion_of_an_unknown_run_says_so(deletions):
    with pytest.raises(NotFound, match="There is no run"):
        deletions.delete(new_id())


@pytest.mark.parametrize(
    ("selection", "message"),
    [
        (Selection(), "say which runs"),
        (Selection(status="running"), "no status that a run ends with"),
        (Selection(status="broken"), "'broken'"),
    ],
)
def test_selection_that_cannot_be_used_is_refused(selection, message):
    with pytest.raises(InvalidInput, match=message):
        selection.check()


def test_deletion_without_an_actor_is_refused(world, deletions):
    run, _ = older_and_newer(world)
    with pytest.raises(InvalidInput, match="say the actor"):
        deletions.delete(run.id, actor=" ")


def test_run_that_has_not_ended_is_not_deleted(world, deletions):
    run = world.service.submit("refresh/prices")
    with pytest.raises(Conflict, match=r"it is pending; cancel it first"):
        deletions.delete(run.id)
    assert world.service.get(run.id).deleted_at is None


# Softly.


@on_both
def test_deleted_run_is_left_out_and_said_to_be_deleted_when_asked_for(world, deletions):
    run, newer = older_and_newer(world)
    (doomed,) = deletions.delete(run.id, reason="a wrong feed", actor="ann").runs
    assert (doomed.deployment, doomed.version, doomed.status) == ("refresh/prices", 1, "completed")
    assert [found.id for _, found in world.queries.runs()] == [newer.id]
    for ask in (world.queries.report, world.queries.explain_run, world.queries.inputs, world.service.get):
        with pytest.raises(RunDeleted, match=r"by ann: a wrong feed; `freshline delete --restore run-"):
            ask(run.id)
    (shown,) = deletions.deleted()
    assert (shown.run_id, shown.deleted_by, shown.reason) == (run.id, "ann", "a wrong feed")


def test_data_of_a_deleted_run_cannot_be_read(world, deletions):
    run, _ = older_and_newer(world)
    deletions.delete(run.id, reason="a wrong feed", actor="ann")
    upstream = world.port.resolve("refresh/prices@v1")
    with pytest.raises(DataRemoved, match=r"was deleted on .* by ann: a wrong feed"):
        upstream.artifacts["data"].stored_table()
    assert world.port.resolve("refresh/prices@v2").artifacts["data"].stored_table()


def test_deletion_again_changes_nothing(world, deletions):
    run, _ = older_and_newer(world)
    deletions.delete(run.id, reason="first")
    assert deletions.delete(run.id, reason="second").runs == ()
    with world.database.read() as connection:
        assert [act.reason for act in acts.acts_of(connection, run.id)] == ["first"]


def test_dry_run_says_what_would_go_and_changes_nothing(world, deletions):
    run, newer = older_and_newer(world)
    deletion = deletions.delete(run.id, newer.id, dry_run=True)
    assert [one.run_id for one in deletion.runs] == [run.id]
    assert deletion.runs[0].size_bytes > 0
    assert [one.reasons for one in deletion.refused] == [("it is the current version",)]
    assert world.service.get(run.id).deleted_at is None


def test_current_version_is_not_deleted_until_it_is_withdrawn(world, deletions):
    _, newer = older_and_newer(world)
    with pytest.raises(Conflict, match="it is the current version"):
        deletions.delete(newer.id)
    Curation(world.database).withdraw("refresh/prices@v2", "wrong")
    deletions.delete(newer.id)
    with pytest.raises(RunDeleted):
        world.service.get(newer.id)


def test_version_with_an_alias_or_a_label_is_not_deleted(world, deletions):
    run, _ = older_and_newer(world)
    Curation(world.database).set_alias("refresh/prices@v1", "champion")
    Curation(world.database).label("refresh/prices@v1", "v1.0.0")
    with pytest.raises(Conflict, match=r"the alias champion names it; it has the label v1\.0\.0"):
        deletions.delete(run.id)


def test_deleted_version_gets_no_alias_and_no_label(world, deletions):
    run, _ = older_and_newer(world)
    deletions.delete(run.id)
    with pytest.raises(Conflict, match="has no data any more"):
        Curation(world.database).set_alias("refresh/prices@v1", "champion")
    with pytest.raises(Conflict, match="has no data any more"):
        Curation(world.database).label("refresh/prices@v1", "v1.0.0")


@on_both
def test_version_that_was_read_is_not_deleted_alone(world, deletions):
    prices, signal = read_by_a_signal(world)
    with pytest.raises(Conflict, match="refresh/momentum@v1 read it"):
        deletions.delete(prices.id)
    together = deletions.delete(prices.id, cascade=True)
    assert {one.run_id for one in together.runs} == {prices.id, signal.id}


def test_cascade_that_meets_a_current_version_deletes_nothing(world, deletions):
    prices = world.run_through("refresh/prices", 1)
    world.run_through("refresh/momentum", 10)
    world.run_through("refresh/prices", 2)
    with pytest.raises(Conflict, match=r"refresh/momentum cannot be deleted: it is the current version"):
        deletions.delete(prices.id, cascade=True)
    assert deletions.deleted() == []


@on_both
def test_version_that_a_run_under_way_has_pinned_is_not_deleted(world, deletions):
    prices = world.run_through("refresh/prices", 1)
    world.start(world.service.submit("refresh/momentum"))
    world.run_through("refresh/prices", 2)
    for cascade in (False, True):
        with pytest.raises(Conflict, match="is under way and reads it"):
            deletions.delete(prices.id, cascade=cascade)


def test_deleted_reader_is_no_consumer_any_more(world, deletions):
    prices, signal = read_by_a_signal(world)
    deletions.delete(signal.id)
    with world.database.read() as connection:
        version = questions.version_named(connection, "refresh/prices@v1", tenant_id="default")
        assert questions.consumers_of(connection, version) == []
        with pytest.raises(NotFound, match="version published by"):
            questions.version_named(connection, signal.id, tenant_id="default")
    deletions.delete(prices.id)


def test_deletion_changes_no_freshness(world, deletions):
    prices, signal = read_by_a_signal(world)
    before = world.graph.freshness()
    deletions.delete(prices.id, cascade=True)
    for run in (signal, prices):
        deletions.erase(run.id)
    assert world.graph.freshness() == before


@on_both
def test_key_of_a_deleted_run_stays_taken_until_it_is_erased(world, deletions):
    run = world.run_through("refresh/prices", 1, idempotency_key="k")
    world.run_through("refresh/prices", 2)
    deletions.delete(run.id)
    with pytest.raises(IdempotencyConflict, match="which was deleted: use a new key"):
        world.service.submit("refresh/prices", idempotency_key="k")
    deletions.erase(run.id)
    assert world.service.submit("refresh/prices", idempotency_key="k").id != run.id


# In bulk.


@on_both
def test_bulk_deletion_takes_what_is_selected_and_says_what_stays(world, deletions):
    prices, signal = read_by_a_signal(world)
    failed = world.start(world.service.submit("refresh/prices"))
    world.port.fail(failed.run.id, failed.run.fence, ValueError("no"), "Traceback", will_retry=False)
    told = []
    day = world.moment.date() + timedelta(days=1)
    previewed = deletions.delete_all(Selection(deployment="refresh/prices", before=day), dry_run=True)
    deletion = deletions.delete_all(
        Selection(deployment="refresh/prices", before=day), watch=lambda *so_far: told.append(so_far)
    )
    assert [one.run_id for one in deletion.runs] == [failed.run.id] == [one.run_id for one in previewed.runs]
    assert {one.reasons[0] for one in deletion.refused} == {"it is the current version", "refresh/momentum@v1 read it"}
    assert told == [(3, 3)]
    assert deletions.delete_all(Selection(status="failed")).runs == ()
    assert deletions.delete_all(Selection(before=date(2020, 1, 1))).runs == ()
    # Whoever read a version goes before it.
    world.pass_time(timedelta(hours=1))
    every = deletions.delete_all(Selection(before=day, status="completed"))
    assert {one.run_id for one in every.runs} == {prices.id, signal.id}


# Back again.


def test_restored_run_is_as_it_was(world, deletions):
    run, _ = older_and_newer(world)
    before = world.queries.report(run.id)
    deletions.delete(run.id, reason="by mistake", actor="ann")
    (restored,) = deletions.restore(run.id, reason="it was right", actor="bob")
    assert restored == before.run
    assert world.queries.report(run.id) == before
    assert world.port.resolve("refresh/prices@v1").artifacts["data"].stored_table()
    with world.database.read() as connection:
        told = [(act.kind, act.actor, act.reason) for act in acts.acts_of(connection, run.id)]
    assert told == [("deleted", "ann", "by mistake"), ("restored", "bob", "it was right")]


@on_both
def test_restored_version_becomes_current_when_a_later_one_was_withdrawn_meanwhile(world, deletions):
    world.run_through("refresh/prices", 0)
    second = world.run_through("refresh/prices", 1)
    world.run_through("refresh/prices", 2)
    deletions.delete(second.id)
    judged = Curation(world.database).withdraw("refresh/prices@v3", "wrong")
    assert judged.current == 1  # never one that cannot be read
    deletions.restore(second.id)
    (status,) = [row for row in world.queries.status() if row.key == "refresh/prices"]
    assert status.version == 2


@on_both
def test_run_is_not_restored_without_what_it_read(world, deletions):
    prices, signal = read_by_a_signal(world)
    deletions.delete(prices.id, cascade=True)
    with pytest.raises(Conflict, match=f"read what {show_run_id(prices.id)} wrote, which is deleted too"):
        deletions.restore(signal.id)
    assert len(deletions.restore(signal.id, prices.id)) == 2


# For good.


@on_both
def test_erased_run_leaves_who_it_was_and_nothing_of_what_it_was_given_or_wrote(world, deletions):
    run, _ = older_and_newer(world)
    world.pass_time(timedelta(days=1))
    deletions.delete(run.id, reason="a person asked", actor="ann")
    (erased,) = deletions.erase(run.id, reason="the same", actor="ann")
    assert erased.artifacts == 1
    assert erased.freed_bytes > 0
    with world.database.read() as connection:
        left = connection.execute(sa.select(RUN).where(RUN.c.id == run.id)).one()
        told = [(act.kind, act.facts) for act in acts.acts_of(connection, run.id)]
    assert (left.status, left.ended_at, left.flow_run_id) == (run.status, run.ended_at, run.flow_run_id)
    assert left.version_id is not None
    assert (left.parameters, left.request, left.decision, left.git_commit) == ({}, {}, None, None)
    assert told[0] == ("deleted", {"artifacts": 1, "version": "refresh/prices@v1"})
    assert told[1] == ("erased", {"artifacts": 1, "freed_bytes": erased.freed_bytes})
    assert count(world, RunEvent, run_id=run.id) == 0
    assert count(world, Artifact, owner_id=run.id) == 0
    with pytest.raises(RunDeleted, match="was deleted for good on 2026-01-06 by ann"):
        world.service.get(run.id)
    with pytest.raises(Conflict, match="cannot come back"):
        deletions.restore(run.id)
    assert deletions.erase(run.id) == []


@on_both
def test_every_table_beside_a_run_is_emptied_by_an_erasure(database):
    """A table that is added later is found; what stays is named here."""
    with database.read() as connection:
        names = {table.name for table in erasure.beside(connection)}
    assert {"run_event", "step", "run_usage", "run_message", "checkpoint", "metric", "run_input"} <= names
    assert {"metric_stream", "metric_chunk"} <= names
    assert {"outbox", "pipeline_run", "backtest_run"} <= names
    assert names.isdisjoint({"run", "run_act", "backfill_date", "version"})


def test_run_that_is_not_deleted_is_not_erased(world, deletions):
    run, _ = older_and_newer(world)
    with pytest.raises(Conflict, match="is not deleted: delete it first"):
        deletions.erase(run.id)


def test_run_of_whose_end_prefect_has_not_heard_is_not_erased(world, deletions):
    run = world.service.submit("refresh/prices")
    world.dispatch()
    world.service.cancel(run.id)
    deletions.delete(run.id)
    with pytest.raises(Conflict, match="Prefect has not heard of its end"):
        deletions.erase(run.id)
    world.dispatch()
    assert len(deletions.erase(run.id)) == 1


def test_flow_run_of_an_erased_run_gets_no_second_record(world, deletions):
    run, _ = older_and_newer(world)
    deletions.delete(run.id)
    deletions.erase(run.id)
    assert world.reconcile().adopted == 0
    assert world.reconcile().mirrored == 0


def test_lineage_of_others_does_not_dangle_when_an_input_is_erased(world, deletions):
    prices, signal = read_by_a_signal(world)
    deletions.delete(prices.id, cascade=True)
    deletions.erase(prices.id)
    deletions.erase(signal.id)
    with world.database.read() as connection:
        version = questions.version_named(connection, "refresh/momentum@v1", tenant_id="default")
        (read,) = questions.inputs_of(connection, version)
    assert (read.key, read.number) == ("refresh/prices", 1)


# The database's own guards.


def refuse(world, run_id, values, message):
    """The database itself refuses this change."""
    with pytest.raises(sa.exc.DBAPIError, match=message), world.database.transaction() as connection:
        connection.execute(sa.update(RUN).where(RUN.c.id == run_id).values(**values))


@on_both
def test_database_lets_nothing_of_a_deleted_run_change_but_its_deletion(world, deletions):
    run, _ = older_and_newer(world)
    deletions.delete(run.id)
    for values in (
        {"status": "failed"},
        {"parameters": {"a": 1}},
        {"deleted_at": None, "error_message": "changed"},
        {"erased_at": None, "deleted_at": None, "tags": ["x"]},
    ):
        refuse(world, run.id, values, "a run that has ended does not change")


@on_both
def test_database_lets_an_erasure_change_nothing_that_others_need(world, deletions):
    run, newer = older_and_newer(world)
    deletions.delete(run.id)
    for name, value in {
        "actor": "eve",
        "created_at": world.moment + timedelta(days=9),
        "version_id": newer.version_id,
        "deployment_id": newer.id,
        "flow_run_id": newer.id,
    }.items():
        refuse(world, run.id, {"erased_at": world.moment, name: value}, "a run that has ended does not change")


@on_both
def test_database_erases_no_run_that_is_not_deleted_and_deletes_none_that_is_under_way(world):
    run, _ = older_and_newer(world)
    active = world.service.submit("refresh/prices")
    for run_id, values, message in (
        (run.id, {"erased_at": world.moment}, "has ended does not change"),
        (active.id, {"deleted_at": world.moment}, "has not ended is not deleted"),
        (active.id, {"erased_at": world.moment}, "has not ended is not deleted"),
    ):
        refuse(world, run_id, values, message)


def test_sqlite_guards_every_column_of_a_run_that_has_ended(world):
    """Postgres compares whole rows; a migration that adds a column makes this trigger anew."""
    query = sa.text("SELECT sql FROM sqlite_master WHERE name = 'run_is_final'")
    with world.database.read() as connection:
        marks = connection.execute(query).scalar_one().split("AND NOT (")[1]  # what may be done to one: see 0007
    names = {column.name for column in RUN.c}
    assert {name for name in names if f'NEW."{name}" IS OLD."{name}"' not in marks} == {"deleted_at"}


@on_both
def test_acts_on_a_run_stay_recorded(world, deletions):
    run, _ = older_and_newer(world)
    deletions.delete(run.id)
    for statement in (sa.update(acts._ACT).values(actor="eve"), sa.delete(acts._ACT)):
        with pytest.raises(sa.exc.DBAPIError, match="stays recorded"), world.database.transaction() as connection:
            connection.execute(statement)


def test_objects_of_a_deleted_run_stay_needed_until_it_is_erased(world, deletions):
    run, _ = older_and_newer(world)
    links = count(world, ArtifactObject)
    deletions.delete(run.id)
    assert count(world, ArtifactObject) == links
    deletions.erase(run.id)
    assert count(world, ArtifactObject) < links
