"""Edges with their kind: from prefect.yaml to the graph, declared and observed; cycles are refused with their path."""

from itertools import pairwise

import pytest
import sqlalchemy as sa

from freshline.deployments.catalog import load_catalog
from freshline.lineage import graph as lineage_graph
from freshline.lineage import registry, staleness, versions
from freshline.lineage.models import Edge
from freshline.runs.register import declared_of
from freshline.storage.errors import CatalogError, InvalidInput
from freshline.storage.ids import new_id
from freshline.storage.words import EdgeKind
from tests.factories import START, Graph, declared
from tests.unit.deployments.project import Project

CATALOGUE = """
resources:
  - {external: true, name: vendor, kind: dataset}
deployments:
  - name: prices
    entrypoint: MODULE.refresh
    resource: {name: prices, kind: dataset, runs: refresh, upstream: {raw: {deployment: refresh/vendor, kind: schema}}}
  - name: fit
    entrypoint: MODULE.training
    resource:
      name: alpha
      kind: model
      runs: training
      upstream:
        prices: {deployment: refresh/prices, kind: KIND}
        raw: refresh/vendor
"""


@pytest.fixture
def project(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    made = Project(tmp_path)
    made.write_flows()
    return made


def catalogue(project, kind):
    project.write_yaml(CATALOGUE.replace("KIND", kind))
    return load_catalog(project.directory / "prefect.yaml", check_policy=lambda _: None)


def register(database, catalog):
    specs = [declared_of(spec, None) for spec in catalog.deployments]
    database.write(lambda c: registry.register(c, specs, tenant_id="default", project="default", now=START))


def edges(database):
    """(reader, role) -> (kind, observed)."""
    with database.read() as connection:
        keys = {row.id: row.key for row in registry.deployments(connection, tenant_id="default")}
        rows = connection.execute(sa.select(Edge.__table__)).all()
    return {(keys[row.deployment_id], row.role): (row.kind, row.observed) for row in rows}


def test_edge_of_an_unknown_kind_is_refused_with_the_kinds_that_there_are(project):
    with pytest.raises(
        CatalogError, match=r"line 15, deployment 'fit': .*'rows'; write one of data, schema, feature, signal"
    ):
        catalogue(project, "rows")


@pytest.mark.parametrize("kind", list(EdgeKind))
def test_kind_of_an_edge_comes_from_the_catalogue(project, database, kind):
    register(database, catalogue(project, kind.value))
    assert edges(database) == {
        ("refresh/prices", "raw"): ("schema", False),
        ("training/alpha", "prices"): (kind.value, False),
        ("training/alpha", "raw"): ("data", False),
    }


def test_kind_that_changes_is_written_and_is_another_declaration(project, database):
    before, after = catalogue(project, "data"), catalogue(project, "signal")
    register(database, before)
    register(database, after)
    assert edges(database)["training/alpha", "prices"] == ("signal", False)
    digests = {catalog.get("training/alpha").declaration_digest for catalog in (before, after)}
    assert len(digests) == 2


def observe(graph, key, *upstreams):
    reads = [versions.Input(upstream, graph.id(upstream), new_id()) for upstream in upstreams]

    def work(connection):
        staleness.lock_affected(connection, [graph.id(key)], upstreams=[read.upstream_id for read in reads])
        versions.observe_edges(connection, graph.id(key), reads)

    graph.database.write(work)


def test_edge_that_is_observed_carries_data_until_it_is_declared(database):
    graph = Graph(database, declared("refresh/prices"), declared("training/alpha"))
    observe(graph, "training/alpha", "refresh/prices")
    observe(graph, "training/alpha", "refresh/prices")
    assert edges(database) == {("training/alpha", "refresh/prices"): ("data", True)}
    edge = registry.DeclaredEdge("refresh/prices", "refresh/prices", EdgeKind.FEATURE)
    alpha = declared("training/alpha")
    graph.register(declared("refresh/prices"), type(alpha)(**{**vars(alpha), "edges": [edge]}))
    assert edges(database) == {("training/alpha", "refresh/prices"): ("feature", False)}


def test_observed_edge_that_closes_a_cycle_is_refused_with_the_path_that_it_would_close(database):
    graph = Graph(
        database,
        declared("refresh/a"),
        declared("refresh/b", ["refresh/a"]),
        declared("refresh/c", ["refresh/b"]),
        declared("refresh/aside", ["refresh/a"]),
    )
    with pytest.raises(InvalidInput) as refused:
        observe(graph, "refresh/a", "refresh/c")
    path = str(refused.value).partition(": ")[2].split(" -> ")
    assert path[0] == path[-1]
    reads = {("refresh/b", "refresh/a"), ("refresh/c", "refresh/b"), ("refresh/a", "refresh/c")}
    steps = set(pairwise(path))
    assert steps in (reads, {(upstream, reader) for reader, upstream in reads})
    assert ("refresh/a", "refresh/c") not in edges(database)


def test_declared_edges_that_close_a_cycle_with_an_observed_one_are_refused_and_change_nothing(database):
    graph = Graph(database, declared("refresh/a"), declared("refresh/b"))
    observe(graph, "refresh/a", "refresh/b")
    with pytest.raises(InvalidInput, match=r"cycle: refresh/\w -> refresh/\w -> refresh/\w"):
        graph.register(declared("refresh/a"), declared("refresh/b", ["refresh/a"]))
    assert edges(database) == {("refresh/a", "refresh/b"): ("data", True)}
    with database.read() as connection:
        assert lineage_graph.upstream_of(connection, [graph.id("refresh/b")]) == set()
