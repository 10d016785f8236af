"""References to versions: by number, label and alias, which cannot be taken for one another."""

import pytest
import sqlalchemy as sa

from freshline.lineage import references
from freshline.lineage.models import Alias, Version
from freshline.lineage.references import Reference, check_alias, check_label, parse
from freshline.storage.errors import InvalidInput, NotFound
from tests.factories import Graph, declared


@pytest.fixture
def graph(database):
    made = Graph(database, declared("training/alpha"), declared("refresh/prices"))
    for content in ("one", "two", "three"):
        made.publish("training/alpha", content)

    def name(connection):
        version, of_alpha = Version.__table__, Version.__table__.c.deployment_id == made.id("training/alpha")
        second = connection.execute(sa.select(version.c.id).where(of_alpha, version.c.number == 2)).scalar_one()
        connection.execute(sa.update(version).where(of_alpha, version.c.number == 1).values(label="v1.2.3"))
        connection.execute(
            sa.insert(Alias.__table__).values(
                deployment_id=made.id("training/alpha"), partition="", name="champion", version_id=second
            )
        )

    database.write(name)
    return made


def number_of(graph, reference):
    with graph.database.read() as connection:
        return references.resolve(connection, reference, tenant_id="default").number


@pytest.mark.parametrize(
    "text",
    [
        "", "@v1", "@champion", "training/alpha@", "training/alpha@12", "training/alpha@1.2.3", "training/alpha@v",
        "training/alpha@v1@v2", "training/alpha@v1.2", "training/alpha@v1.2.3.4", "training/alpha@v01.2.3",
        "training/alpha@Champion", "training/alpha@v2-candidate", "training/alpha@v1x", "training/alpha@-1",
        "training/alpha@the champion", "training/alpha@v\u0661", "training/alpha\0", "training/\ud800@v1",
        "training/alpha@champion\n",
    ],
)  # fmt: skip
def test_reference_that_cannot_be_read_is_refused(text):
    with pytest.raises(InvalidInput, match=r"is no version|is neither a number"):
        parse(text)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("training/alpha", Reference("training/alpha")),
        ("training/alpha@v12", Reference("training/alpha", number=12)),
        ("training/alpha@v1.2.3", Reference("training/alpha", label="v1.2.3")),
        ("training/alpha@v1.2.3-rc.1", Reference("training/alpha", label="v1.2.3-rc.1")),
        ("training/alpha@champion", Reference("training/alpha", alias="champion")),
        ("training/alpha@vendor", Reference("training/alpha", alias="vendor")),
    ],
)
def test_reference_is_read_in_one_way_only(text, expected):
    assert parse(text) == expected


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("v12", "looks like the number"),
        ("v1.2.3", "looks like the number"),
        ("v2-candidate", "looks like the number"),
        ("latest", "the latest version is meant by the deployment's key"),
        ("current", "the current version is meant by the deployment's key"),
        ("Champion", "lower-case"),
        ("", "lower-case"),
        ("9lives", "lower-case"),
        ("the best", "lower-case"),
        ("a" * 65, "lower-case"),
        ("ch\u00e4mpion", "lower-case"),
        ("champion\n", "lower-case"),
    ],
)
def test_name_that_cannot_be_an_alias_is_refused(name, message):
    with pytest.raises(InvalidInput, match=message):
        check_alias(name)


@pytest.mark.parametrize("label", ["v1", "v1.2", "1.2.3", "v1.2.3.4", "v1.02.3", "champion", "", "v1.2.3-", "v1.2.3 "])
def test_text_that_cannot_be_a_label_is_refused(label):
    with pytest.raises(InvalidInput, match=r"is no label; write three numbers behind a v"):
        check_label(label)


@pytest.mark.parametrize("name", ["champion", "prod-2026", "a", "vendor", "very_long_but_fine"])
def test_every_alias_is_read_as_an_alias(name):
    assert parse(f"training/alpha@{check_alias(name)}").alias == name


@pytest.mark.parametrize("label", ["v0.0.1", "v1.2.3", "v10.20.30-rc.1", "v1.0.0-alpha"])
def test_every_label_is_read_as_a_label(label):
    assert parse(f"training/alpha@{check_label(label)}").label == label


@pytest.mark.parametrize(
    ("reference", "number"),
    [
        ("training/alpha", 3),
        ("training/alpha@v1", 1),
        ("training/alpha@v1.2.3", 1),
        ("training/alpha@champion", 2),
    ],
)
def test_resolve_finds_the_version_that_is_meant(graph, reference, number):
    assert number_of(graph, reference) == number


@pytest.mark.parametrize(
    ("reference", "message"),
    [
        ("training/alpa@champion", r"no deployment 'training/alpa'. Did you mean 'training/alpha'"),
        ("training/alpha@v4", r"no version 'training/alpha@v4'. Did you mean 'training/alpha@v3'"),
        ("training/alpha@v99999999999999999999", "no version"),
        ("training/alpha@v1.2.4", r"no version 'training/alpha@v1.2.4'. Did you mean 'training/alpha@v1.2.3'"),
        ("training/alpha@champoin", r"alias of training/alpha \(its aliases are champion\) 'champoin'. Did you mean"),
        ("refresh/prices@champion", r"alias of refresh/prices \(it has none\) 'champion'"),
        ("refresh/prices@v1", "no version"),
        ("refresh/prices", "no version 'refresh/prices'"),
    ],
)
def test_resolve_of_what_is_not_there_says_what_is(graph, reference, message):
    with graph.database.read() as connection, pytest.raises(NotFound, match=message):
        references.resolve(connection, reference, tenant_id="default")


def test_resolve_finds_the_versions_of_a_retired_deployment(graph):
    graph.register(declared("refresh/prices"))
    assert number_of(graph, "training/alpha@champion") == 2


def test_resolve_for_another_tenant_finds_nothing(graph):
    with graph.database.read() as connection, pytest.raises(NotFound):
        references.resolve(connection, "training/alpha@v1", tenant_id="other")
