"""Aliases: set, moved and removed with a record of each move, on both databases."""

from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import pytest
import sqlalchemy as sa

from freshline.lineage import aliases, references, withdrawal
from freshline.lineage.models import Alias
from freshline.storage.errors import Conflict, InvalidInput, NotFound
from tests.factories import START, Graph, declared

KEY = "training/alpha"


@pytest.fixture
def graph(database):
    made = Graph(database, declared(KEY), declared("training/beta"))
    for content in ("one", "two", "three"):
        made.publish(KEY, content)
    return made


def put(graph, number, name="champion", *, expected=None, actor="ada", reason=""):
    def work(connection):
        version = references.resolve(connection, f"{KEY}@v{number}", tenant_id="default")
        return aliases.set_alias(
            connection, version, name, key=KEY, expected=expected, actor=actor, reason=reason, now=graph.now
        )

    return graph.database.write(work)


def take(graph, name="champion", *, expected=None):
    def work(connection):
        reference = references.parse(f"{KEY}@{name}")
        return aliases.remove_alias(
            connection, graph.id(KEY), reference, expected=expected, actor="eve", reason="gone", now=graph.now
        )

    return graph.database.write(work)


def named(graph):
    with graph.database.read() as connection:
        return {record.name: record.number for record in aliases.aliases_of(connection, graph.id(KEY))}


def moves(graph, name="champion"):
    with graph.database.read() as connection:
        steps = aliases.moves_of(connection, graph.id(KEY), references.parse(f"{KEY}@{name}"))
    return [(step.step, step.from_number, step.to_number, step.actor) for step in steps]


@pytest.mark.parametrize("name", ["v12", "v1.2.3", "latest", "Champion"])
def test_name_that_cannot_be_an_alias_leaves_no_trace(graph, name):
    with pytest.raises(InvalidInput, match="cannot be an alias"):
        put(graph, 1, name)
    assert named(graph) == {}


def test_alias_of_a_withdrawn_version_is_refused(graph):
    with graph.database.read() as connection:
        version = references.resolve(connection, f"{KEY}@v3", tenant_id="default")
    graph.database.write(lambda c: withdrawal.withdraw(c, version, reason="bad labels", actor="ada", now=graph.now))
    with pytest.raises(Conflict, match=r"training/alpha@v3 was withdrawn \(bad labels\)"):
        put(graph, 3)
    assert named(graph) == {}


def test_move_that_expects_another_version_moves_nothing_and_says_who_did(graph):
    put(graph, 1)
    put(graph, 2, expected=1)
    with pytest.raises(Conflict, match=r"@champion names v2 since ada moved it at 2026-01-05 12:00 UTC, not v1"):
        put(graph, 3, expected=1, actor="bob")
    with pytest.raises(Conflict, match=r"@champion names v2 .*, not no version as expected"):
        put(graph, 3, expected=aliases.NO_VERSION)
    with pytest.raises(Conflict, match=r"@challenger names no version, not v1"):
        put(graph, 3, "challenger", expected=1)
    assert named(graph) == {"champion": 2}
    assert len(moves(graph)) == 2


def test_removal_of_an_alias_that_is_not_there_names_those_that_are(graph):
    put(graph, 1)
    with pytest.raises(NotFound, match=r"its aliases are champion"):
        take(graph, "challenger")
    with pytest.raises(Conflict, match="names v1"):
        take(graph, expected=2)
    assert named(graph) == {"champion": 1}


def test_moves_of_an_alias_that_never_was_are_not_found(graph):
    with pytest.raises(NotFound, match="it has none"):
        moves(graph)


def test_alias_keeps_who_moved_it_from_where_to_where_and_why(graph):
    assert put(graph, 1, expected=aliases.NO_VERSION, reason="first")
    assert put(graph, 3, actor="bob", reason="better IC")
    assert take(graph) == 3
    assert put(graph, 2)
    assert moves(graph) == [(1, None, 1, "ada"), (2, 1, 3, "bob"), (3, 3, None, "eve"), (4, None, 2, "ada")]
    with graph.database.read() as connection:
        (record,) = aliases.aliases_of(connection, graph.id(KEY))
        steps = aliases.moves_of(connection, graph.id(KEY), references.parse(f"{KEY}@champion"))
    assert (record.number, record.moved_by, record.moved_at, record.is_withdrawn) == (2, "ada", START, False)
    assert [step.reason for step in steps] == ["first", "better IC", "gone", ""]


def test_alias_that_names_the_version_already_is_left_alone_whatever_was_expected(graph):
    put(graph, 2)
    assert not put(graph, 2, expected=1, actor="bob")
    assert moves(graph) == [(1, None, 2, "ada")]


def test_removed_alias_is_not_listed_but_its_moves_are(graph):
    put(graph, 1)
    take(graph)
    assert named(graph) == {}
    assert len(moves(graph)) == 2


def test_aliases_of_two_deployments_do_not_meet(graph):
    graph.publish("training/beta", "b")
    put(graph, 1)

    def work(connection):
        version = references.resolve(connection, "training/beta", tenant_id="default")
        aliases.set_alias(
            connection, version, "champion", key="training/beta", expected=0, actor="ada", reason="", now=graph.now
        )

    graph.database.write(work)
    assert named(graph) == {"champion": 1}
    with graph.database.read() as connection:
        assert aliases.names_of(connection, [v.version_id for v in aliases.aliases_of(connection, graph.id(KEY))])


@pytest.mark.parametrize("expected", [1, None], ids=["both expect v1", "whatever it is"])
def test_two_people_who_move_an_alias_at_once_follow_one_another(graph, expected):
    put(graph, 1)
    barrier = Barrier(2)

    def move(number):
        barrier.wait(timeout=30)
        try:
            return put(graph, number, expected=expected, actor=f"of v{number}")
        except Conflict:
            return False

    with ThreadPoolExecutor(2) as pool:
        moved = [done.result(timeout=60) for done in [pool.submit(move, 2), pool.submit(move, 3)]]
    made = moves(graph)
    assert sum(moved) == len(made) - 1 == (1 if expected else 2)
    # Each move begins where the one before ended: none was lost.
    assert [step[1] for step in made[1:]] == [step[2] for step in made[:-1]]
    assert named(graph) == {"champion": made[-1][2]}
    with graph.database.read() as connection:
        assert connection.execute(sa.select(sa.func.count()).select_from(Alias.__table__)).scalar_one() == 1
