"""The rule of staleness, stored and propagated, on both databases."""

from dataclasses import replace
from datetime import timedelta

import pytest
import sqlalchemy as sa

from freshline.lineage import staleness, versions
from freshline.lineage.models import CauseKind, Deployment, Freshness, Version
from freshline.lineage.rule import DeploymentFacts, InputFacts, UpstreamFacts, causes_of, freshness_of
from freshline.storage.ids import new_id
from tests.factories import Graph, declared

READY, STALE, NOT_INITIALIZED = Freshness.READY, Freshness.STALE, Freshness.NOT_INITIALIZED

CHAIN = (
    declared("refresh/prices"),
    declared("refresh/momentum", ["refresh/prices"]),
    declared("backtest/book", ["refresh/momentum", "refresh/prices"]),
)


@pytest.fixture
def chain(database):
    graph = Graph(database, *CHAIN)
    graph.publish_all("refresh/prices", "refresh/momentum", "backtest/book")
    return graph


def facts(**changes):
    known = {
        "version_id": new_id(),
        "declaration_changed": False,
        "lapsed": False,
        "source_delayed": False,
        "upstreams": {},
        "inputs": {},
    }
    return DeploymentFacts(**{**known, **changes})


def _read(digest, **more):
    return InputFacts(digest, upstream_id=new_id(), **more)


def upstream(digest="a", *, stale=False, retired=False):
    return UpstreamFacts(digest=digest, version_id=new_id(), run_id=new_id(), is_stale=stale, is_retired=retired)


def test_rule_without_a_version_finds_nothing_and_is_not_initialized():
    empty = facts(version_id=None, declaration_changed=True, lapsed=True)
    assert causes_of(empty, {}) == []
    assert freshness_of(empty, []) == NOT_INITIALIZED


@pytest.mark.parametrize(
    ("read", "current", "expected"),
    [
        (_read("a"), upstream("a"), []),
        (_read("a"), upstream("b"), [CauseKind.INPUT_CHANGED]),
        (_read("a"), upstream("a", stale=True), [CauseKind.UPSTREAM_STALE]),
        (_read("a"), upstream("b", stale=True), [CauseKind.INPUT_CHANGED, CauseKind.UPSTREAM_STALE]),
        (_read("a"), upstream("b", retired=True), [CauseKind.MISSING_INPUT]),
        (_read("a", withdrawn_version_id=new_id()), upstream("a"), [CauseKind.WITHDRAWN]),
        (None, upstream("b"), []),
        (_read("a"), upstream(None), [CauseKind.INPUT_CHANGED]),
    ],
)
def test_rule_for_one_upstream_finds_the_causes(read, current, expected):
    node = new_id()
    inputs = {"data": replace(read, upstream_id=node)} if read is not None else {}
    found = causes_of(facts(upstreams={"data": node}, inputs=inputs), {node: current})
    assert [cause.kind for cause in found] == expected
    assert all(cause.role == "data" and cause.upstream_id == node for cause in found)


def test_rule_for_a_role_that_means_another_upstream_now_finds_no_change_of_what_was_read():
    before, now = new_id(), new_id()
    found = causes_of(
        facts(upstreams={"data": now}, inputs={"data": InputFacts("a", upstream_id=before)}), {now: upstream("b")}
    )
    assert found == []


def test_rule_for_a_withdrawn_version_that_no_edge_leads_to_finds_it_all_the_same():
    read, withdrawn = new_id(), new_id()
    found = causes_of(facts(inputs={"refresh/prices@v1": InputFacts("a", read, withdrawn)}), {})
    assert [(one.kind, one.role, one.upstream_id, one.origin_version_id) for one in found] == [
        (CauseKind.WITHDRAWN, "refresh/prices@v1", read, withdrawn)
    ]


def test_rule_of_declaration_and_policy_finds_both():
    found = causes_of(facts(declaration_changed=True, lapsed=True), {})
    assert [cause.kind for cause in found] == [CauseKind.DECLARATION_CHANGED, CauseKind.EXPIRED]


def test_freshness_without_causes_tells_a_delayed_source_from_ready():
    assert freshness_of(facts(), []) == READY
    assert freshness_of(facts(source_delayed=True), []) == Freshness.SOURCE_DELAYED


def test_publish_makes_the_whole_chain_ready(chain):
    assert set(chain.freshness().values()) == {READY}


def test_publish_of_other_content_makes_everything_downstream_stale_with_a_cause_at_every_hop(chain):
    chain.publish("refresh/prices", "new")
    assert chain.freshness() == {"refresh/prices": READY, "refresh/momentum": STALE, "backtest/book": STALE}
    assert chain.causes("refresh/momentum") == [("input_changed", "prices")]
    assert chain.causes("backtest/book") == [("input_changed", "prices"), ("upstream_stale", "momentum")]


def test_publish_of_equal_content_leaves_everything_ready(chain):
    chain.publish("refresh/prices", "refresh/prices:1")
    assert set(chain.freshness().values()) == {READY}


def test_rerun_to_an_equal_digest_clears_what_was_stale_only_because_of_it(chain):
    chain.publish("refresh/prices", "new")
    chain.publish("refresh/momentum", "refresh/momentum:1")
    assert chain.freshness()["refresh/momentum"] == READY
    assert chain.causes("backtest/book") == [("input_changed", "prices")]


def test_return_to_the_digest_that_was_read_clears_without_running(chain):
    chain.publish("refresh/prices", "new")
    chain.publish("refresh/prices", "refresh/prices:1")
    assert set(chain.freshness().values()) == {READY}


def test_version_built_on_what_moved_meanwhile_is_stale_at_once(chain):
    before = chain.publish("refresh/prices", "second").version_id
    chain.publish("refresh/prices", "third")
    chain.publish("refresh/momentum", "built on the second", reads={"prices": before})
    assert chain.causes("refresh/momentum") == [("input_changed", "prices")]


def test_older_run_that_finishes_last_does_not_become_current(chain):
    newer = chain.publish("refresh/prices", "newer", fence=9)
    older = chain.publish("refresh/prices", "older", fence=8)
    assert newer.is_current
    assert not older.is_current
    with chain.database.read() as connection:
        assert versions.current_version(connection, chain.id("refresh/prices")).id == newer.version_id


def test_append_on_a_base_that_is_not_current_any_more_is_superseded(chain):
    base = chain.publish("refresh/prices", "base").version_id
    first = chain.publish("refresh/prices", "base + a", base=base)
    second = chain.publish("refresh/prices", "base + b", base=base, fence=99)
    assert first.is_current
    assert not second.is_current


def test_declaration_changed_and_reverted_makes_stale_and_ready_again(chain):
    changed = declared("refresh/momentum", ["refresh/prices"], digest="declaration-2")
    chain.register(CHAIN[0], changed, CHAIN[2])
    assert chain.causes("refresh/momentum") == [("declaration_changed", "")]
    assert chain.causes("backtest/book") == [("upstream_stale", "momentum")]
    chain.register(*CHAIN)
    assert set(chain.freshness().values()) == {READY}


def test_retired_upstream_is_a_missing_input_until_it_is_restored(chain):
    chain.register(declared("backtest/book", ["refresh/momentum", "refresh/prices"]), CHAIN[1])
    assert chain.causes("refresh/momentum") == [("missing_input", "prices")]
    chain.register(*CHAIN)
    assert set(chain.freshness().values()) == {READY}


def test_lapsed_policy_is_a_cause_until_the_next_version(database):
    graph = Graph(database, declared("refresh/prices", policy={"max_age": "1d", "grace": "1h"}))
    graph.publish("refresh/prices", "one")
    graph.pass_time(timedelta(hours=24))
    database.write(lambda c: staleness.propagate(c, [graph.id("refresh/prices")], now=graph.now))
    assert graph.freshness() == {"refresh/prices": READY}
    graph.pass_time(timedelta(hours=1))
    database.write(lambda c: staleness.propagate(c, [graph.id("refresh/prices")], now=graph.now))
    assert graph.causes("refresh/prices") == [("expired", "")]
    graph.publish("refresh/prices", "two")
    assert graph.freshness() == {"refresh/prices": READY}


def test_withdrawn_input_is_a_cause(chain):
    version = Version.__table__
    with chain.database.read() as connection:
        prices = versions.current_version(connection, chain.id("refresh/prices"))

    def withdraw(connection):
        connection.execute(sa.update(version).where(version.c.id == prices.id).values(withdrawn_at=chain.now))
        staleness.propagate(connection, [chain.id("refresh/prices")], now=chain.now)

    chain.database.write(withdraw)
    assert chain.causes("refresh/momentum") == [("withdrawn", "prices")]


def test_cause_that_stays_keeps_the_time_when_it_arose(chain):
    chain.publish("refresh/prices", "new")
    arisen = chain.now
    chain.pass_time(timedelta(hours=1))
    database = chain.database
    database.write(lambda c: staleness.propagate(c, [chain.id("refresh/prices")], now=chain.now))
    from freshline.lineage.models import Cause

    cause = Cause.__table__
    with database.read() as connection:
        assert set(connection.execute(sa.select(cause.c.since)).scalars()) == {arisen}


def test_diamond_is_recomputed_from_both_sides(database):
    graph = Graph(
        database,
        declared("refresh/top"),
        declared("refresh/left", ["refresh/top"]),
        declared("refresh/right", ["refresh/top"]),
        declared("backtest/bottom", ["refresh/left", "refresh/right"]),
    )
    keys = ("refresh/top", "refresh/left", "refresh/right", "backtest/bottom")
    graph.publish_all(*keys)
    graph.publish("refresh/top", "new")
    graph.publish("refresh/left", "refresh/left:1")
    assert graph.causes("backtest/bottom") == [("upstream_stale", "right")]
    graph.publish("refresh/right", "refresh/right:1")
    assert set(graph.freshness().values()) == {READY}


def test_external_deployments_are_part_of_the_graph(database):
    graph = Graph(database, declared("refresh/vendor", external=True), declared("refresh/clean", ["refresh/vendor"]))
    graph.publish_all("refresh/vendor", "refresh/clean")
    graph.publish("refresh/vendor", "new")
    assert graph.causes("refresh/clean") == [("input_changed", "vendor")]
    with database.read() as connection:
        row = connection.execute(sa.select(Deployment.__table__).where(Deployment.__table__.c.external)).one()
        assert row.prefect_deployment_id is None


def test_policy_that_changes_counts_from_the_version_that_is_there(database):
    graph = Graph(database, declared("refresh/prices"))
    graph.publish("refresh/prices", "one")
    graph.pass_time(timedelta(hours=3))
    graph.register(declared("refresh/prices", policy={"max_age": "1h"}))
    assert graph.causes("refresh/prices") == [("expired", "")]
    graph.register(declared("refresh/prices"))
    assert graph.freshness() == {"refresh/prices": READY}


def test_prefect_deployment_of_a_renamed_resource_is_that_of_the_new_one(database):
    from freshline.lineage import registry

    old = declared("refresh/prices")
    graph = Graph(database, old)
    graph.register(replace(declared("refresh/closes"), prefect_deployment_id=old.prefect_deployment_id))
    with database.read() as connection:
        found = registry.ask_deployment_by_prefect_id(connection, old.prefect_deployment_id).first()
    assert found.key == "refresh/closes"


def test_two_completions_that_add_an_edge_and_move_its_upstream_leave_no_false_freshness(database):
    """One transaction adds calendar -> momentum while another publishes a new calendar."""
    from concurrent.futures import ThreadPoolExecutor
    from threading import Barrier

    graph = Graph(database, declared("refresh/calendar"), declared("refresh/momentum"))
    first = graph.publish("refresh/calendar", "1")
    barrier = Barrier(2)

    def read_calendar():
        def work(connection):
            deployment, calendar = graph.id("refresh/momentum"), graph.id("refresh/calendar")
            affected = staleness.lock_affected(connection, [deployment], upstreams=[calendar])
            reads = [versions.Input("refresh/calendar", calendar, first.version_id)]
            new = versions.NewVersion(deployment, new_id(), 1, "m", "declaration-1", inputs=reads)
            versions.publish(connection, new, now=graph.now)
            versions.observe_edges(connection, deployment, reads)
            staleness.recompute(connection, affected, now=graph.now)

        barrier.wait(timeout=30)
        database.write(work)

    def move_calendar():
        barrier.wait(timeout=30)
        graph.publish("refresh/calendar", "2")

    with ThreadPoolExecutor(2) as pool:
        for done in [pool.submit(read_calendar), pool.submit(move_calendar)]:
            done.result(timeout=60)
    assert graph.causes("refresh/momentum") == [("input_changed", "refresh/calendar")]
