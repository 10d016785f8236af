"""A graph that is written from a recording is the one that a registration makes."""

from contextlib import contextmanager, suppress
from uuid import UUID

import pytest
import sqlalchemy as sa

from freshline.lineage import registry
from freshline.lineage.models import AliasMove, Cause, Deployment, DeploymentState, Edge, Resource
from freshline.storage.ids import new_id
from tests.factories import START, declared
from tests.registered import register_again

TABLES = [model.__table__ for model in (Resource, Deployment, DeploymentState, Edge, Cause)]


@contextmanager
def undone(database):
    """A transaction that leaves nothing."""
    with suppress(ZeroDivisionError), database.transaction() as connection:
        yield connection
        raise ZeroDivisionError


def rows(connection):
    """All that a registration writes, with names in place of ids."""
    stored = {table.name: [row._asdict() for row in connection.execute(sa.select(table))] for table in TABLES}
    names = {row["id"]: row.get("key") or row["name"] for row in [*stored["resource"], *stored["deployment"]]}
    return {
        table: sorted(
            (
                {name: names.get(value, value) if isinstance(value, UUID) else value for name, value in row.items()}
                for row in found
            ),
            key=repr,
        )
        for table, found in stored.items()
    }


def ids(connection):
    """Of all deployments, by key."""
    return dict(
        connection.execute(sa.select(Deployment.__table__.c.key, Deployment.__table__.c.id).order_by("id"))
        .tuples()
        .all()
    )


def register(graph):
    """What registers the graph, as the program does."""
    return lambda connection: registry.register(connection, graph, tenant_id="default", project="default", now=START)


def refuse(_connection):
    raise AssertionError("it is not recorded")


@pytest.fixture
def graph():
    """A graph that no other test has, with ids of Prefect of its own each time."""
    token = new_id().hex

    def make():
        return [
            declared("refresh/vendor's", external=True),
            declared("refresh/prices", ["refresh/vendor's"], policy={"max_age": "1d"}, parameters=["100%"]),
            declared("backtest/book", {"weights": "refresh/prices"}, on_stale={"manual": "wait"}, digest=token),
        ]

    return make


@pytest.fixture
def recorded(database, graph):
    """The graph is recorded, and the store is empty again."""
    for _ in range(2):
        with undone(database) as connection:
            register_again(connection, made := graph(), register(made))


def test_graph_from_a_recording_has_the_rows_of_a_registration(database, graph, recorded):
    """Otherwise tests begin with a graph that no catalogue makes."""
    made = graph()
    with undone(database) as connection:
        register(made)(connection)
        expected, keys = rows(connection), ids(connection).keys()
    with undone(database) as connection:
        register_again(connection, made, refuse)
        first = ids(connection)
    with database.transaction() as connection:
        register_again(connection, made, refuse)
        assert rows(connection) == expected
        assert ids(connection).keys() == keys
        assert set(ids(connection).values()).isdisjoint(first.values())
        assert list(ids(connection).values()) == sorted(ids(connection).values())


def test_graph_beside_another_is_registered(database, graph, recorded):
    """A recording knows nothing of what is there already."""
    with database.transaction() as connection:
        register([declared("refresh/rates")])(connection)
        made = graph()
        register_again(connection, made, register(made))
        assert "refresh/rates" in ids(connection)
        with pytest.raises(AssertionError, match="not recorded"):
            register_again(connection, made, refuse)


def test_registration_that_wrote_elsewhere_is_not_recorded(database, graph):
    for _ in range(3):
        made, calls = graph(), []
        with undone(database) as connection:

            def with_more(within, made=made, calls=calls):
                calls.append(register(made)(within))
                deployment_id = ids(within)["refresh/prices"]
                moved = AliasMove(deployment_id=deployment_id, name="x", number=1, actor="a", reason="", at=START)
                within.execute(sa.insert(AliasMove.__table__).values(moved.model_dump()))

            register_again(connection, made, with_more)
            assert len(calls) == 1
