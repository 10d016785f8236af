"""What was published and what was said of it stays: the database refuses what the service would not do."""

import pytest
import sqlalchemy as sa
from sqlalchemy.exc import IntegrityError
from sqlmodel import SQLModel

from tests.factories import START, Graph, declared

KEY = "training/alpha"


@pytest.fixture
def graph(database):
    """Version 1 has a label, an act and an alias that moved."""
    made = Graph(database, declared(KEY), declared("refresh/prices"))
    version_id = made.publish(KEY, "one").version_id
    made.publish(KEY, "two")
    made.publish("refresh/prices", "one")
    entry = {"number": 1, "actor": "ada", "reason": "", "at": START}
    alias = {"deployment_id": made.id(KEY), "partition": "", "name": "champion"}
    do(database, sa.update(table("version")).where(table("version").c.id == version_id).values(label="v1.0.0"))
    do(database, sa.insert(table("version_act")).values(version_id=version_id, kind="labelled", **entry))
    do(database, sa.insert(table("alias_move")).values(**alias, to_version_id=version_id, **entry))
    return made


def table(name):
    return SQLModel.metadata.tables[name]


def do(database, statement):
    return database.write(lambda connection: connection.execute(statement).rowcount)


def labelled(**values):
    version = table("version")
    return sa.update(version).where(version.c.label == "v1.0.0").values(**values)


@pytest.mark.parametrize("name", ["version_act", "alias_move"])
@pytest.mark.parametrize("act", ["update", "delete"])
def test_history_of_versions_does_not_change(graph, name, act):
    entries = table(name)
    with pytest.raises(IntegrityError, match=r"stays? recorded"):
        do(graph.database, sa.update(entries).values(actor="eve") if act == "update" else sa.delete(entries))
    with graph.database.read() as connection:
        assert connection.execute(sa.select(entries.c.actor)).scalars().all() == ["ada"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"label": "v2.0.0"}, "the label of a version does not change"),
        ({"label": None}, "the label of a version does not change"),
        ({"digest": "other"}, "a version that was published does not change"),
        ({"number": 9}, "a version that was published does not change"),
        ({"fence": 99}, "a version that was published does not change"),
        ({"declaration_digest": "other"}, "a version that was published does not change"),
    ],
)
def test_published_version_does_not_change(graph, change, message):
    with pytest.raises(IntegrityError, match=message):
        do(graph.database, labelled(**change))


def test_version_can_be_withdrawn_and_restored(graph):
    for withdrawn_at in (START, None):
        assert do(graph.database, labelled(withdrawn_at=withdrawn_at)) == 1


def test_label_is_that_of_one_version_of_its_deployment(graph):
    version = table("version")

    def label_in(key):
        free = sa.and_(version.c.deployment_id == graph.id(key), version.c.label.is_(None))
        return sa.update(version).where(free).values(label="v1.0.0")

    assert do(graph.database, label_in("refresh/prices")) == 1
    with pytest.raises(IntegrityError, match=r"(?i)unique"):
        do(graph.database, label_in(KEY))
