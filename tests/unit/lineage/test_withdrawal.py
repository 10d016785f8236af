"""Withdrawal: the pointer falls back to what still holds, and whoever read the version is stale, on both databases."""

import random
from concurrent.futures import ThreadPoolExecutor
from datetime import date, timedelta
from threading import Barrier

import pytest
import sqlalchemy as sa

from freshline.lineage import acts, references, staleness, versions, withdrawal
from freshline.lineage.models import DeploymentState, Freshness, Version
from freshline.storage.errors import Conflict, InvalidInput
from freshline.storage.ids import new_id
from tests.factories import Graph, declared

READY, STALE, NOT_INITIALIZED = Freshness.READY, Freshness.STALE, Freshness.NOT_INITIALIZED
PRICES, MOMENTUM, BOOK = "refresh/prices", "refresh/momentum", "backtest/book"


@pytest.fixture
def chain(database):
    graph = Graph(database, declared(PRICES), declared(MOMENTUM, [PRICES]), declared(BOOK, [MOMENTUM]))
    graph.publish_all(PRICES, MOMENTUM, BOOK)
    return graph


def judge(graph, act, number, key=PRICES, *, reason="the vendor was wrong"):
    def work(connection):
        version = references.resolve(connection, f"{key}@v{number}", tenant_id="default")
        return act(connection, version, reason=reason, actor="ada", now=graph.now)

    return graph.database.write(work)


def withdraw(graph, number, key=PRICES, **options):
    return judge(graph, withdrawal.withdraw, number, key, **options)


def restore(graph, number, key=PRICES, **options):
    return judge(graph, withdrawal.restore, number, key, **options)


def current(graph, key=PRICES):
    with graph.database.read() as connection:
        row = versions.current_version(connection, graph.id(key))
    return row.number if row is not None else None


def state(graph, key=PRICES):
    table = DeploymentState.__table__
    with graph.database.read() as connection:
        return connection.execute(sa.select(table).where(table.c.deployment_id == graph.id(key))).one()


def history(graph, number, key=PRICES):
    with graph.database.read() as connection:
        version = references.resolve(connection, f"{key}@v{number}", tenant_id="default")
        return [(act.kind.value, act.actor, act.reason) for act in acts.acts_of(connection, version.id)]


def test_withdrawal_falls_back_to_the_newest_version_that_holds_and_marks_who_read_it(chain):
    chain.publish(PRICES, "bad")
    chain.publish(MOMENTUM, "of the bad")
    chain.publish(BOOK, "of the bad")
    judged = withdraw(chain, 2)
    assert (judged.number, judged.current, judged.moved, judged.read_by) == (2, 1, True, (MOMENTUM,))
    assert current(chain) == 1
    assert chain.freshness() == {PRICES: READY, MOMENTUM: STALE, BOOK: STALE}
    assert chain.causes(MOMENTUM) == [("input_changed", "prices"), ("withdrawn", "prices")]
    assert chain.causes(BOOK) == [("upstream_stale", "momentum")]
    assert {change.key: change.after for change in judged.changes} == {MOMENTUM: STALE, BOOK: STALE}


def test_withdrawn_causes_clear_when_the_reader_runs_again(chain):
    chain.publish(PRICES, "bad")
    chain.publish(MOMENTUM, "of the bad")
    withdraw(chain, 2)
    chain.publish(MOMENTUM, f"{MOMENTUM}:1")
    chain.publish(BOOK, f"{BOOK}:1")
    assert set(chain.freshness().values()) == {READY}


def test_withdrawal_that_leaves_the_digest_that_was_read_makes_the_reader_ready_again(chain):
    chain.publish(PRICES, "bad")
    assert chain.freshness()[MOMENTUM] == STALE
    judged = withdraw(chain, 2)
    assert set(chain.freshness().values()) == {READY}
    assert {change.key: change.after for change in judged.changes} == {MOMENTUM: READY, BOOK: READY}


def test_withdrawal_of_an_equal_digest_marks_only_who_read_that_version(chain):
    chain.publish(PRICES, f"{PRICES}:1")
    withdraw(chain, 2)
    assert set(chain.freshness().values()) == {READY}, "momentum read version 1, which holds"
    withdraw(chain, 1)
    assert chain.causes(MOMENTUM) == [("withdrawn", "prices")]


def test_withdrawal_of_every_version_leaves_what_never_ran(chain):
    judged = withdraw(chain, 1)
    assert (judged.current, judged.moved) == (None, True)
    assert chain.freshness() == {PRICES: NOT_INITIALIZED, MOMENTUM: STALE, BOOK: STALE}
    assert chain.causes(PRICES) == []
    assert chain.causes(MOMENTUM) == [("withdrawn", "prices")]
    assert (state(chain).version_id, state(chain).lapses_at, state(chain).source_delayed) == (None, None, False)
    chain.publish(PRICES, "good", fence=2)
    assert (current(chain), chain.freshness()[PRICES]) == (2, READY)


def test_withdrawal_of_an_older_version_leaves_the_pointer(chain):
    chain.publish(PRICES, "newer")
    judged = withdraw(chain, 1)
    assert (judged.current, judged.moved) == (2, False)
    assert chain.causes(MOMENTUM) == [("input_changed", "prices"), ("withdrawn", "prices")]


def test_withdrawal_again_changes_nothing_and_keeps_the_first_reason(chain):
    withdraw(chain, 1, reason="first")
    judged = withdraw(chain, 1, reason="second")
    assert (judged.moved, judged.changes) == (False, ())
    assert history(chain, 1) == [("withdrawn", "ada", "first")]
    version = Version.__table__
    with chain.database.read() as connection:
        reasons = connection.execute(sa.select(version.c.withdrawn_reason).where(version.c.withdrawn_at.is_not(None)))
        assert reasons.scalars().all() == ["first"]


def test_restore_undoes_a_withdrawal_and_both_are_recorded(chain):
    chain.publish(PRICES, "bad")
    chain.publish(MOMENTUM, "of the bad")
    chain.publish(BOOK, "of the bad")
    before = state(chain)
    withdraw(chain, 2)
    judged = restore(chain, 2, reason="it was right after all")
    assert (judged.current, judged.moved) == (2, True)
    assert set(chain.freshness().values()) == {READY}
    assert state(chain) == before
    assert history(chain, 2) == [
        ("withdrawn", "ada", "the vendor was wrong"),
        ("restored", "ada", "it was right after all"),
    ]


def test_restore_of_what_was_not_withdrawn_changes_nothing(chain):
    judged = restore(chain, 1)
    assert (judged.moved, judged.changes, history(chain, 1)) == (False, (), [])


def test_version_built_on_a_withdrawn_base_is_not_current_either(chain):
    base = chain.publish(PRICES, "base + a").version_id
    chain.publish(PRICES, "base + a + b", base=base)
    withdraw(chain, 2)
    assert current(chain) == 1
    restore(chain, 2)
    assert current(chain) == 3


def test_fallback_takes_an_append_that_the_withdrawn_one_had_superseded(chain):
    base = chain.publish(PRICES, "base").version_id
    chain.publish(PRICES, "base + wrong", base=base)
    superseded = chain.publish(PRICES, "base + right", base=base, fence=99)
    assert not superseded.is_current
    withdraw(chain, 3)
    assert current(chain) == 4


def test_fallback_does_not_take_an_append_that_lost_to_one_that_holds(chain):
    base = chain.publish(PRICES, "base").version_id
    first = chain.publish(PRICES, "base + a", base=base).version_id
    chain.publish(PRICES, "base + b", base=base, fence=99)
    chain.publish(PRICES, "base + a + wrong", base=first, fence=100)
    withdraw(chain, 5)
    assert current(chain) == 3, "version 4 lacks the rows of version 3"


def test_fallback_does_not_take_what_was_never_to_become_current(chain):
    chain.publish(PRICES, "a replay")
    chain.publish(PRICES, "bad")
    version = Version.__table__
    of_prices = version.c.deployment_id == chain.id(PRICES)

    def mark(connection):
        connection.execute(sa.update(version).where(of_prices, version.c.number == 2).values(may_become_current=False))

    chain.database.write(mark)
    withdraw(chain, 3)
    assert current(chain) == 1


def test_append_to_a_base_that_is_withdrawn_meanwhile_is_superseded(chain):
    base = chain.publish(PRICES, "base").version_id
    withdraw(chain, 2)
    assert not chain.publish(PRICES, "base + a", base=base, fence=9).is_current
    assert current(chain) == 1


def test_slower_run_with_newer_pins_than_the_fallback_becomes_current(chain):
    chain.publish(PRICES, "bad", fence=9)
    withdraw(chain, 2)
    assert chain.publish(PRICES, "slower", fence=5).is_current
    assert current(chain) == 3


def test_result_of_a_run_that_was_reading_what_is_withdrawn_is_stale_at_once(chain):
    read = chain.publish(PRICES, "bad").version_id
    withdraw(chain, 2)
    chain.publish(MOMENTUM, "of the bad", reads={"prices": read})
    assert chain.causes(MOMENTUM) == [("input_changed", "prices"), ("withdrawn", "prices")]


def publish_reading(graph, key, content, role, upstream, version_id, fence):
    """A version of `key` that read a version which its deployment does not declare, as a completing run records it."""

    def work(connection):
        node = graph.id(key)
        affected = staleness.lock_affected(connection, [node], upstreams=[graph.id(upstream)])
        reads = [versions.Input(role, graph.id(upstream), version_id)]
        new = versions.NewVersion(node, new_id(), fence, content, "declaration-1", inputs=reads)
        versions.publish(connection, new, now=graph.now)
        versions.observe_edges(connection, node, reads)
        staleness.recompute(connection, affected, now=graph.now)

    graph.database.write(work)


@pytest.mark.parametrize("role", ["refresh/prices@v1", "refresh/prices@champion", "refresh/prices"])
def test_withdrawn_version_that_was_read_without_being_declared_is_a_cause(database, role):
    graph = Graph(database, declared(PRICES), declared(BOOK))
    read = graph.publish(PRICES, "bad").version_id
    publish_reading(graph, BOOK, "of the bad", role, PRICES, read, 1)
    judged = withdraw(graph, 1)
    assert (judged.read_by, graph.causes(BOOK)) == ((BOOK,), [("withdrawn", role)])
    restore(graph, 1)
    assert graph.freshness()[BOOK] == READY


@pytest.mark.parametrize("role", ["refresh/prices@v1", "prices"])
def test_fallback_to_a_version_that_read_what_is_withdrawn_at_once_is_stale(database, role):
    graph = Graph(database, declared(PRICES), declared(BOOK, [PRICES] if role == "prices" else []))
    read = graph.publish(PRICES, "bad").version_id
    publish_reading(graph, BOOK, "of the bad", role, PRICES, read, 1)
    graph.publish(BOOK, "later", reads={})
    barrier = Barrier(2)

    def take_back(key, number):
        barrier.wait(timeout=30)
        withdraw(graph, number, key)

    with ThreadPoolExecutor(2) as pool:
        for done in [pool.submit(take_back, PRICES, 1), pool.submit(take_back, BOOK, 2)]:
            done.result(timeout=60)
    assert current(graph, BOOK) == 1
    assert graph.causes(BOOK) == [("withdrawn", role)]


def test_lapse_follows_the_pointer(database):
    graph = Graph(database, declared(PRICES, policy={"max_age": "1d"}), declared(MOMENTUM, [PRICES]))
    graph.publish_all(PRICES, MOMENTUM)
    first = state(graph).lapses_at
    graph.pass_time(timedelta(hours=20))
    graph.publish(PRICES, "bad")
    second = state(graph).lapses_at
    graph.pass_time(timedelta(hours=1))
    withdraw(graph, 2)
    assert (state(graph).lapses_at, graph.freshness()[PRICES]) == (first, READY)
    restore(graph, 2)
    assert state(graph).lapses_at == second
    graph.pass_time(timedelta(hours=4))
    withdraw(graph, 2)
    assert graph.causes(PRICES) == [("expired", "")], "what holds is older than its policy allows"


def test_delay_of_the_source_follows_the_pointer(database):
    graph = Graph(database, declared(PRICES))
    graph.publish(PRICES, "one", data_end=date(2026, 1, 2))
    graph.publish(PRICES, "bad")
    version = Version.__table__

    def mark(connection):
        connection.execute(sa.update(version).where(version.c.number == 1).values(source_delayed=True))

    database.write(mark)
    withdraw(graph, 2)
    assert graph.freshness()[PRICES] == Freshness.SOURCE_DELAYED
    restore(graph, 2)
    assert graph.freshness()[PRICES] == READY


def give_label(graph, number, name):
    def work(connection):
        version = references.resolve(connection, f"{PRICES}@v{number}", tenant_id="default")
        return acts.label(connection, version, name, key=PRICES, reason="", actor="ada", now=graph.now)

    return graph.database.write(work)


def test_label_is_given_once_and_stays(chain):
    chain.publish(PRICES, "two")
    with pytest.raises(InvalidInput, match="is no label"):
        give_label(chain, 1, "v1")
    assert give_label(chain, 1, "v1.0.0")
    assert not give_label(chain, 1, "v1.0.0")
    with pytest.raises(Conflict, match=r"refresh/prices@v1 has the label v1.0.0 already; a label stays as it is"):
        give_label(chain, 1, "v1.0.1")
    with pytest.raises(Conflict, match=r"refresh/prices@v1 has the label v1.0.0 already; a label stays where it is"):
        give_label(chain, 2, "v1.0.0")
    assert history(chain, 1) == [("labelled", "ada", "")]
    assert history(chain, 2) == []


@pytest.mark.parametrize("seed", range(6))
def test_pointer_is_where_it_would_be_had_the_withdrawn_versions_never_been(database, seed):
    """Random publications, appends, withdrawals and restorations."""
    chance = random.Random(seed)
    graph = Graph(database, declared(PRICES))
    published, withdrawn = [], set()
    fences = list(range(1, 13))
    chance.shuffle(fences)
    for fence in fences:
        base = chance.choice([None, *published])
        made = graph.publish(PRICES, f"{fence}", fence=fence, base=base.version_id if base else None)
        published.append(made)
        number = chance.randint(1, len(published))
        if chance.random() < 0.5:
            (restore if number in withdrawn else withdraw)(graph, number)
            withdrawn ^= {number}
        expected, highest = None, 0
        for one, of_base in bases(graph):
            if one.number not in withdrawn and one.fence > highest and of_base in (None, expected):
                expected, highest = one.number, one.fence
        assert (current(graph), state(graph).fence) == (expected, highest)


def bases(graph):
    """The versions in their order, each with the number of its base."""
    version = Version.__table__
    with graph.database.read() as connection:
        rows = connection.execute(sa.select(version).order_by(version.c.number)).all()
    numbers = {row.id: row.number for row in rows}
    return [(row, numbers.get(row.base_version_id)) for row in rows]


def test_withdrawal_and_the_completion_of_a_reader_at_once_leave_no_false_freshness(database):
    graph = Graph(database, declared(PRICES), declared(MOMENTUM, [PRICES]))
    graph.publish_all(PRICES, MOMENTUM)
    for turn in range(3):
        read = graph.publish(PRICES, f"bad {turn}", fence=turn + 2).version_id
        number, barrier = current(graph), Barrier(2)

        def complete(read=read, turn=turn, barrier=barrier):
            barrier.wait(timeout=30)
            graph.publish(MOMENTUM, f"of the bad {turn}", reads={"prices": read})

        def take_back(number=number, barrier=barrier):
            barrier.wait(timeout=30)
            withdraw(graph, number)

        with ThreadPoolExecutor(2) as pool:
            for done in [pool.submit(complete), pool.submit(take_back)]:
                done.result(timeout=60)
        assert ("withdrawn", "prices") in graph.causes(MOMENTUM)


def test_two_who_withdraw_the_last_two_versions_at_once_leave_none(chain):
    chain.publish(PRICES, "two")
    barrier = Barrier(2)

    def take_back(number):
        barrier.wait(timeout=30)
        withdraw(chain, number)

    with ThreadPoolExecutor(2) as pool:
        for done in [pool.submit(take_back, 1), pool.submit(take_back, 2)]:
            done.result(timeout=60)
    assert (current(chain), chain.freshness()[PRICES]) == (None, NOT_INITIALIZED)


def test_reader_of_an_append_on_what_was_withdrawn_is_stale_though_nothing_is_current_upstream(database):
    graph = Graph(database, declared(PRICES), declared(MOMENTUM, [PRICES]), declared(BOOK, [MOMENTUM]))
    base = graph.publish(PRICES, "wrong")
    graph.publish(PRICES, "wrong and more", base=base.version_id)
    graph.publish_all(MOMENTUM, BOOK)
    withdraw(graph, 1)
    assert graph.freshness() == {PRICES: NOT_INITIALIZED, MOMENTUM: STALE, BOOK: STALE}
