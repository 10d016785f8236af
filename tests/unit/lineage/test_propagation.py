"""How a change spreads: wave by wave, no further than it must, to what the rule says of everything; both databases."""

import gc
import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from graphlib import TopologicalSorter

import pytest
import sqlalchemy as sa

from freshline.lineage import propagation, staleness, versions
from freshline.lineage.models import Cause, Deployment, DeploymentState, Edge, Freshness, Version, VersionInput
from freshline.lineage.rule import DeploymentFacts, FoundCause, InputFacts, UpstreamFacts, causes_of, freshness_of
from freshline.storage.ids import new_id
from tests.factories import Graph, declared
from tests.faults.contention import at_once, await_blocked

CAUSE, DEPLOYMENT, EDGE = Cause.__table__, Deployment.__table__, Edge.__table__
STATE, VERSION, INPUT = DeploymentState.__table__, Version.__table__, VersionInput.__table__
READY, STALE = Freshness.READY, Freshness.STALE
on_postgres = pytest.mark.parametrize("database_url", ["postgres"], indirect=True)


def by_the_rule(connection, now):
    """Key -> (freshness, causes): the rule applied to every deployment there is, upstreams first."""
    state = {row.deployment_id: row for row in connection.execute(sa.select(STATE))}
    deployment = {row.id: row for row in connection.execute(sa.select(DEPLOYMENT))}
    version = {row.id: row for row in connection.execute(sa.select(VERSION))}
    roles = {node: {} for node in deployment}
    for edge in connection.execute(sa.select(EDGE)):
        roles[edge.deployment_id][edge.role] = edge.upstream_id
    read = {}
    for row in connection.execute(sa.select(INPUT)):
        one = version[row.input_version_id]
        withdrawn = one.id if one.withdrawn_at else None
        read.setdefault(row.version_id, {})[row.role] = InputFacts(one.digest, row.upstream_id, withdrawn)
    upstreams, judged = {}, {}
    for node in TopologicalSorter({node: set(read_from.values()) for node, read_from in roles.items()}).static_order():
        at = state[node]
        current = version.get(at.version_id)
        facts = DeploymentFacts(
            version_id=at.version_id,
            declaration_changed=current is not None
            and current.declaration_digest != deployment[node].declaration_digest,
            lapsed=at.lapses_at is not None and at.lapses_at <= now,
            source_delayed=at.source_delayed,
            upstreams=roles[node],
            inputs=read.get(at.version_id, {}),
        )
        causes = causes_of(facts, upstreams)
        freshness = freshness_of(facts, causes)
        upstreams[node] = UpstreamFacts(
            current and current.digest,
            at.version_id,
            current and current.run_id,
            is_stale=freshness == STALE,
            is_retired=deployment[node].retired_at is not None,
        )
        judged[deployment[node].key] = (freshness, {tuple(cause) for cause in causes})
    return judged


def stored(connection):
    """Key -> (freshness, causes), as they are stored."""
    query = sa.select(DEPLOYMENT.c.key, STATE.c.freshness).join(STATE, STATE.c.deployment_id == DEPLOYMENT.c.id)
    found = {row.key: (row.freshness, set()) for row in connection.execute(query)}
    columns = (CAUSE.c[name] for name in FoundCause._fields)
    query = sa.select(DEPLOYMENT.c.key, *columns).join(DEPLOYMENT, DEPLOYMENT.c.id == CAUSE.c.deployment_id)
    for key, *cause in connection.execute(query):
        found[key][1].add(tuple(cause))
    return found


def random_catalogue(chance, number):
    """Deployments in an order in which each reads up to three earlier ones."""
    keys = [f"refresh/n{at}" for at in range(number)]
    return [declared(key, chance.sample(keys[:at], min(at, chance.randrange(4)))) for at, key in enumerate(keys)]


def random_step(chance, graph, catalogue):
    """Publish, withdraw, retire, restore, change a declaration or an edge, or let time pass."""
    keys = [one.key for one in catalogue]
    match chance.randrange(10):
        case 0:
            catalogue[:] = random_catalogue(chance, len(catalogue))
            graph.register(*catalogue)
        case 1:
            graph.register(*(one for one in catalogue if chance.random() < 0.9))
        case 2:
            graph.pass_time(timedelta(hours=1))
            graph.register(*catalogue)
        case 3:
            withdraw_any(chance, graph)
        case _:
            key = chance.choice([one for one in keys if one in graph.declared])
            graph.publish(key, chance.choice("abc"))


def withdraw_any(chance, graph):
    """Withdraw a version that is somebody's current one; its readers lose what they read."""

    def work(connection):
        query = sa.select(STATE.c.deployment_id, STATE.c.version_id).where(STATE.c.version_id.is_not(None))
        rows = connection.execute(query.order_by(STATE.c.deployment_id)).all()
        if rows:
            node, version_id = chance.choice(rows)
            connection.execute(sa.update(VERSION).where(VERSION.c.id == version_id).values(withdrawn_at=graph.now))
            # Also who read it in a role that is gone.
            read = sa.select(STATE.c.deployment_id).join(INPUT, INPUT.c.version_id == STATE.c.version_id)
            readers = connection.execute(read.where(INPUT.c.input_version_id == version_id)).scalars()
            staleness.propagate(connection, {node, *readers}, now=graph.now)

    graph.database.write(work)


@pytest.mark.parametrize("seed", range(4))
def test_propagation_of_random_changes_stores_what_the_rule_says_of_everything(database, seed, monkeypatch):
    monkeypatch.setattr(propagation, "_ROWS_AT_ONCE", 2)
    chance = random.Random(seed)
    catalogue = random_catalogue(chance, 12)
    graph = Graph(database, *catalogue)
    for one in catalogue:
        graph.publish(one.key, "a")
    for _ in range(20):
        random_step(chance, graph, catalogue)
        with database.read() as connection:
            assert stored(connection) == by_the_rule(connection, graph.now)


def test_staleness_that_comes_by_a_short_and_a_long_way_is_that_of_both(database):
    """One way makes the last one stale, the other one ready: whichever comes first, both count in the end."""
    graph = Graph(
        database,
        declared("refresh/source"),
        declared("refresh/behind", ["refresh/source"]),
        declared("refresh/ahead", ["refresh/source"]),
        declared("refresh/longer", ["refresh/ahead"]),
        declared("refresh/last", ["refresh/behind", "refresh/longer"]),
    )
    first = graph.publish("refresh/source", "first").version_id
    graph.publish("refresh/behind", "b")
    graph.publish("refresh/source", "second")
    for key in ("refresh/ahead", "refresh/longer", "refresh/last"):
        graph.publish(key, key)
    assert graph.causes("refresh/last") == [("upstream_stale", "behind")]
    graph.publish("refresh/source", "first")
    assert graph.causes("refresh/last") == [("upstream_stale", "longer")]
    graph.publish("refresh/ahead", "refresh/ahead", reads={"source": first})
    assert graph.freshness()["refresh/last"] == READY


def test_change_of_nobodys_staleness_ends_at_the_direct_readers(database):
    keys = [f"refresh/n{number}" for number in range(4)]
    graph = Graph(database, *(declared(key, keys[at - 1 : at] if at else ()) for at, key in enumerate(keys)))
    graph.publish_all(*keys)
    asked = []
    with watched(propagation, "readers_of", asked):
        graph.publish(keys[0], f"{keys[0]}:1")
        assert asked == []
        graph.publish(keys[0], "other")
    # Whoever read the source, and from there each time those who became stale; the last one has no readers.
    assert asked == [[graph.id(key)] for key in keys[1:]]


@contextmanager
def watched(module: object, name: str, asked: list[object]) -> Iterator[None]:
    """Note what a function is asked for meanwhile."""
    function: Callable[..., object] = getattr(module, name)

    def noted(connection, deployment_ids):
        asked.append(list(deployment_ids))
        return function(connection, deployment_ids)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, name, noted)
        yield


def test_many_readers_become_stale_and_ready_again_with_nothing_left(database, monkeypatch):
    monkeypatch.setattr(propagation, "_ROWS_AT_ONCE", 50)
    middle = [f"refresh/m{number}" for number in range(130)]
    graph = Graph(
        database,
        declared("refresh/source"),
        *(declared(key, ["refresh/source"]) for key in middle),
        declared("backtest/all", middle),
    )
    graph.publish_all("refresh/source", *middle, "backtest/all")
    graph.publish("refresh/source", "other")
    assert [one for one, freshness in graph.freshness().items() if freshness != STALE] == ["refresh/source"]
    assert len(graph.causes("backtest/all")) == len(middle)
    graph.publish("refresh/source", "refresh/source:1")
    assert set(graph.freshness().values()) == {READY}
    with database.read() as connection:
        assert connection.execute(sa.select(sa.func.count()).select_from(CAUSE)).scalar_one() == 0


@pytest.mark.parametrize("role", ["null", "NULL", 'a"b', "a\\b", "a,b", "{a}", "a b", "größe", "$1", "%s", "':x"])
def test_cause_in_a_role_of_any_characters_is_stored_and_removed(database, role):
    graph = Graph(database, declared("refresh/prices"), declared("refresh/momentum", {role: "refresh/prices"}))
    graph.publish_all("refresh/prices", "refresh/momentum")
    graph.publish("refresh/prices", "other")
    assert graph.causes("refresh/momentum") == [("input_changed", role)]
    graph.publish("refresh/prices", "refresh/prices:1")
    assert graph.causes("refresh/momentum") == []


def test_propagation_from_nothing_changes_nothing(database):
    graph = Graph(database, declared("refresh/prices"))
    assert database.write(lambda connection: staleness.propagate(connection, [], now=graph.now)) == []


@on_postgres
def test_reader_that_appears_below_while_the_locks_are_awaited_becomes_stale_too(database, database_url):
    """source -> middle -> (new) late: the edge is committed after the source's completion has looked downstream."""
    graph = Graph(
        database, declared("refresh/source"), declared("refresh/middle", ["refresh/source"]), declared("refresh/late")
    )
    graph.publish_all("refresh/source", "refresh/middle")
    middle, late = graph.id("refresh/middle"), graph.id("refresh/late")

    def read_middle():
        def work(connection):
            affected = staleness.lock_affected(connection, [late], upstreams=[middle])
            await_blocked(database_url)  # the completion of the source wants the lock of the middle
            read = versions.Input("refresh/middle", middle, versions.current_version(connection, middle).id)
            new = versions.NewVersion(late, new_id(), 1, "l", "declaration-1", inputs=[read])
            versions.publish(connection, new, now=graph.now)
            versions.observe_edges(connection, late, [read])
            staleness.recompute(connection, affected, now=graph.now)

        database.write(work)

    def move_source():
        await_lock_of(database, middle)
        return database.write(lambda connection: late in published(connection, graph, "refresh/source").locked)

    assert at_once(read_middle, move_source) == [None, True]
    assert graph.causes("refresh/late") == [("upstream_stale", "refresh/middle")]
    with database.read() as connection:
        assert stored(connection) == by_the_rule(connection, graph.now)


def await_lock_of(database, node):
    """Wait until somebody holds the lock of this deployment's state."""
    free = sa.select(STATE.c.deployment_id).where(STATE.c.deployment_id == node)
    free = free.with_for_update(skip_locked=True, key_share=True)
    is_free = True
    while is_free:
        with database.transaction() as connection:
            is_free = bool(connection.execute(free).all())


def published(connection, graph, key):
    """Publish other content, as a completing run does; return what was locked for it."""
    node = graph.id(key)
    affected = staleness.lock_affected(connection, [node])
    fence = versions.current_version(connection, node).fence + 1
    versions.publish(connection, versions.NewVersion(node, new_id(), fence, "other", "declaration-1"), now=graph.now)
    staleness.recompute(connection, affected, now=graph.now)
    return affected


@pytest.mark.parametrize("is_on", [True, False])
def test_collector_is_paused_for_many_and_left_as_it_was(is_on):
    was_on = gc.isenabled()
    (gc.enable if is_on else gc.disable)()
    try:
        with propagation.uncollected() as expect:
            expect(1)
            assert gc.isenabled() is is_on
            expect(1_000)
            with propagation.uncollected() as expect_too:
                expect_too(1_000)
            assert not gc.isenabled()
        assert gc.isenabled() is is_on
    finally:
        (gc.enable if was_on else gc.disable)()


def test_collector_is_resumed_after_an_error():
    def fail():
        with propagation.uncollected() as expect:
            expect(1_000)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert gc.isenabled()
