"""What has lapsed becomes a cause once; what will lapse is known beforehand, by an index."""

import threading
from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
import sqlalchemy as sa

from freshline import lineage
from freshline.lineage import lapse, staleness
from freshline.lineage.models import Deployment, DeploymentState, Freshness, Version
from freshline.storage.errors import InvalidInput
from freshline.storage.ids import new_id
from tests.factories import START, Graph, declared

DAY, HOUR = timedelta(days=1), timedelta(hours=1)
READY, STALE = Freshness.READY, Freshness.STALE


@pytest.fixture
def graph(database):
    """Prices that hold for a day, and two that read them; the book holds for two days itself."""
    made = Graph(
        database,
        declared("refresh/prices", policy={"max_age": "1d"}),
        declared("refresh/momentum", ["refresh/prices"]),
        declared("backtest/book", ["refresh/momentum"], policy={"max_age": "1d", "warn": "6h", "fail": "1d"}),
    )
    made.publish_all("refresh/prices", "refresh/momentum", "backtest/book")
    return made


def turn(graph):
    return graph.database.write(lambda connection: lapse.turn_due(connection, now=graph.now))


def test_policy_that_lapses_is_a_cause_and_what_reads_it_is_stale(graph):
    graph.pass_time(DAY - timedelta(microseconds=1))
    assert turn(graph) == []
    graph.pass_time(timedelta(microseconds=1))
    (found,) = turn(graph)
    assert (found.key, found.number, found.lapsed_at, found.was) == ("refresh/prices", 1, START + DAY, READY)
    assert graph.causes("refresh/prices") == [("expired", "")]
    assert graph.causes("refresh/momentum") == [("upstream_stale", "prices")]
    assert graph.causes("backtest/book") == [("upstream_stale", "momentum")]
    assert turn(graph) == []


def test_policy_that_lapses_of_what_is_stale_already_is_a_cause_as_well(graph):
    graph.publish("refresh/prices", "other")
    assert graph.causes("backtest/book") == [("upstream_stale", "momentum")]
    graph.pass_time(2 * DAY)
    turned = {found.key: found.was for found in turn(graph)}
    assert turned == {"refresh/prices": READY, "backtest/book": STALE}
    assert graph.causes("backtest/book") == [("expired", ""), ("upstream_stale", "momentum")]
    assert turn(graph) == []


def test_each_version_lapses_once(graph):
    for content in ("second", "third"):
        graph.pass_time(DAY)
        assert [found.key for found in turn(graph) if found.key == "refresh/prices"] == ["refresh/prices"]
        graph.publish("refresh/prices", content)
        assert graph.freshness()["refresh/prices"] == READY


def test_version_that_was_published_meanwhile_has_not_lapsed(graph):
    graph.pass_time(DAY)
    graph.publish("refresh/prices", "new")
    assert turn(graph) == []
    assert graph.freshness()["refresh/prices"] == READY


def test_policy_that_is_made_longer_takes_its_cause_back_and_lapses_again(graph):
    graph.pass_time(DAY)
    turn(graph)
    rest = [item for key, item in graph.declared.items() if key != "refresh/prices"]
    graph.register(declared("refresh/prices", policy={"max_age": "2d"}), *rest)
    assert graph.freshness()["refresh/prices"] == READY
    assert turn(graph) == []
    graph.pass_time(DAY)
    assert "refresh/prices" in {found.key for found in turn(graph)}


def test_lapses_are_turned_some_at_a_time(database, monkeypatch):
    monkeypatch.setattr(lapse, "AT_ONCE", 2)
    keys = [f"refresh/d{number}" for number in range(5)]
    graph = Graph(database, *(declared(key, policy={"max_age": "1d"}) for key in keys))
    graph.publish_all(*keys)
    graph.pass_time(DAY)
    turned = [[found.key for found in turn(graph)] for _ in range(4)]
    assert sorted(len(part) for part in turned) == [0, 1, 2, 2]
    assert sorted(key for part in turned for key in part) == keys


def test_lapses_that_several_turn_at_once_are_turned_once(database):
    keys = [f"refresh/d{number}" for number in range(8)]
    readers = [declared(f"backtest/b{number}", keys, policy={"max_age": "1d"}) for number in range(4)]
    graph = Graph(database, *(declared(key, policy={"max_age": "1d"}) for key in keys), *readers)
    graph.publish_all(*keys, *(reader.key for reader in readers))
    graph.pass_time(DAY)
    turned, begin = [], threading.Barrier(4)

    def sweep():
        begin.wait()
        while found := turn(graph):
            turned.extend(one.key for one in found)

    threads = [threading.Thread(target=sweep) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(turned) == sorted([*keys, *(reader.key for reader in readers)])
    assert ("expired", "") in graph.causes("backtest/b0")
    assert set(graph.freshness().values()) == {STALE}


def expiring(graph, before, **options):
    with graph.database.read() as connection:
        return lapse.expiring(connection, before, tenant_id="default", now=graph.now, **options)


def test_expiring_by_a_moment_that_has_passed_is_refused(graph):
    with pytest.raises(InvalidInput, match=r"has passed \(it is 20.*\); name a later moment"):
        expiring(graph, graph.now)


def test_expiring_lists_what_lapses_by_then_the_first_one_first(graph):
    book, prices = "backtest/book", "refresh/prices"
    assert expiring(graph, START + DAY - timedelta(microseconds=1)) == []
    assert [row.deployment for row in expiring(graph, START + DAY)] == [prices]
    found = expiring(graph, START + 3 * DAY)
    assert [(row.deployment, row.lapses_at) for row in found] == [(prices, START + DAY), (book, START + 2 * DAY)]
    assert (found[0].warns_at, found[1].warns_at) == (None, START + DAY + 6 * HOUR)
    assert (found[1].version, found[1].freshness, found[1].published_at) == (1, READY, START)
    assert found[1].policy == {"max_age": "1d", "warn": "6h", "fail": "1d"}
    assert list(found.to_pandas()["deployment"]) == [prices, book]


def test_expiring_leaves_out_what_has_lapsed_unless_asked_for(graph):
    graph.pass_time(DAY)
    turn(graph)
    assert [row.deployment for row in expiring(graph, graph.now + DAY)] == ["backtest/book"]
    found = expiring(graph, graph.now, include_lapsed=True)
    assert [(row.deployment, row.freshness) for row in found] == [("refresh/prices", STALE)]


def test_expiring_leaves_out_what_is_retired_and_other_tenants(graph):
    graph.register(graph.declared["refresh/prices"], graph.declared["refresh/momentum"])
    assert [row.deployment for row in expiring(graph, START + 3 * DAY)] == ["refresh/prices"]
    with graph.database.read() as connection:
        assert lapse.expiring(connection, START + 3 * DAY, tenant_id="another", now=START) == []


def test_expiring_is_asked_of_a_notebooks_store(graph):
    graph.database._clock = lambda: graph.now
    found = lineage.expiring(START + DAY, database=graph.database)
    assert [row.deployment for row in found] == ["refresh/prices"]
    local = START.astimezone(ZoneInfo("Asia/Tokyo")) + DAY
    text = local.replace(tzinfo=None).isoformat()
    assert lineage.expiring(text, timezone="Asia/Tokyo", database=graph.database) == found


def test_question_what_expires_is_answered_from_the_index(database):
    many = 3000
    deployments = [
        Deployment(
            id=new_id(), tenant_id="default", key=f"refresh/d{at}", kind="refresh", project="default",
            resource_id=None, declaration={}, declaration_digest="d", parameter_schema={},
            policy={"max_age": "1d"}, created_at=START, registered_at=START,
        )
        for at in range(many)
    ]  # fmt: skip
    graph = Graph(database, declared("refresh/prices"))
    with database.transaction() as connection:
        some = connection.execute(sa.select(Deployment.__table__)).one()
        rows = [one.model_dump() | {"resource_id": some.resource_id} for one in deployments]
        connection.execute(sa.insert(Deployment.__table__), rows)
        versions = [
            Version(
                id=new_id(), deployment_id=one.id, number=1, run_id=new_id(), fence=1, digest="d",
                declaration_digest="d", created_at=START,
            ).model_dump()
            for one in deployments
        ]  # fmt: skip
        connection.execute(sa.insert(Version.__table__), versions)
        states = [
            DeploymentState(
                deployment_id=version["deployment_id"], version_id=version["id"], lapses_at=START + at * HOUR
            ).model_dump()
            for at, version in enumerate(versions)
        ]
        connection.execute(sa.insert(DeploymentState.__table__), states)
    if database.dialect != "sqlite":
        with database.engine.connect() as connection:
            connection.exec_driver_sql("ANALYZE")
    assert len(expiring(graph, START + 10 * HOUR)) == 10
    with database.read() as connection:
        asked = []
        sa.event.listen(connection, "before_cursor_execute", lambda *call: asked.append(call[2:4]))
        lapse.expiring(connection, START + 10 * HOUR, tenant_id="default", now=START)
        ((text, parameters),) = asked
        explain = "EXPLAIN QUERY PLAN" if database.dialect == "sqlite" else "EXPLAIN"
        plan = "\n".join(map(str, connection.exec_driver_sql(f"{explain} {text}", parameters)))
    assert "ix_deployment_state_lapses_at" in plan


@pytest.mark.parametrize(
    ("written", "zone", "message"),
    [
        ("Monday", None, "'Monday' is no moment; write it like 2026-11-23T08:00"),
        ("2026-11-23T25:00", None, "is no moment"),
        ("", None, "'' is no moment"),
        ("2026-11-23T08:00", "New York", "timezone: 'New York' is not a time zone"),
    ],
)
def test_moment_that_cannot_be_read_is_refused(written, zone, message):
    with pytest.raises(InvalidInput) as caught:
        lapse.moment_named(written, timezone=zone)
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("written", "zone", "expected"),
    [
        ("2026-11-23T08:00", "America/New_York", datetime(2026, 11, 23, 13, tzinfo=UTC)),
        ("2026-11-23", "Asia/Tokyo", datetime(2026, 11, 22, 15, tzinfo=UTC)),
        ("2026-11-23T08:00+01:00", None, datetime(2026, 11, 23, 7, tzinfo=UTC)),
        ("2026-11-23T08:00+01:00", "Asia/Tokyo", datetime(2026, 11, 23, 7, tzinfo=UTC)),
        ("2026-03-08T02:30", "America/New_York", datetime(2026, 3, 8, 7, tzinfo=UTC)),  # the clocks skip it
        (datetime(2026, 11, 23, 8), "UTC", datetime(2026, 11, 23, 8, tzinfo=UTC)),
    ],
)
def test_moment_is_read_in_its_zone(written, zone, expected):
    assert lapse.moment_named(written, timezone=zone) == expected


def test_moment_without_a_zone_is_the_machines():
    assert lapse.moment_named("2026-11-23T08:00") == datetime(2026, 11, 23, 8).astimezone()


def test_data_date_that_does_not_move_lapses_though_the_source_was_asked(database):
    graph = Graph(database, declared("refresh/prices", policy={"calendar": "24/7", "grace": "2h"}))
    graph.publish("refresh/prices", "one", data_end=date(2026, 1, 4))
    with database.read() as connection:
        state = connection.execute(sa.select(DeploymentState.__table__)).one()
    assert state.lapses_at == datetime(2026, 1, 6, 2, tzinfo=UTC)


def test_lapse_is_not_undone_by_a_transaction_that_began_before_it(database):
    graph = Graph(database, declared("refresh/prices", policy={"max_age": "1h"}))
    graph.publish("refresh/prices", "1")
    before, after = graph.now + timedelta(minutes=59), graph.now + timedelta(minutes=61)
    database.write(lambda connection: lapse.turn_due(connection, now=after))
    database.write(lambda connection: staleness.propagate(connection, [graph.id("refresh/prices")], now=before))
    assert graph.freshness() == {"refresh/prices": Freshness.STALE}
