"""The graph: closures, batches, cycles; the registry; explanations; what went into a version."""

from uuid import uuid4

import pytest

from freshline.lineage import graph, questions, reasons, references, registry, versions
from freshline.storage.errors import InvalidInput, NotFound
from tests.factories import Graph, declared


@pytest.fixture
def chain(database):
    built = Graph(
        database,
        declared("refresh/prices"),
        declared("refresh/momentum", ["refresh/prices"]),
        declared("training/alpha", ["refresh/momentum", "refresh/prices"]),
        declared("backtest/book", {"model": "training/alpha", "prices": "refresh/prices"}),
    )
    built.publish_all("refresh/prices", "refresh/momentum", "training/alpha", "backtest/book")
    return built


def test_downstream_of_follows_all_paths_and_leaves_the_start_out(chain):
    with chain.database.read() as connection:
        found = graph.downstream_of(connection, [chain.id("refresh/momentum")])
    assert found == {chain.id("training/alpha"), chain.id("backtest/book")}


def test_upstream_of_follows_all_paths_and_leaves_the_start_out(chain):
    with chain.database.read() as connection:
        found = graph.upstream_of(connection, [chain.id("training/alpha")])
    assert found == {chain.id("refresh/momentum"), chain.id("refresh/prices")}


def test_closure_of_nothing_is_nothing(chain):
    with chain.database.read() as connection:
        assert graph.downstream_of(connection, []) == set()


def test_batches_put_independent_deployments_together():
    a, b, c, d = sorted(uuid4() for _ in range(4))
    assert graph.batches({d: [b, c], b: [a], c: [a], a: []}) == [[a], [b, c], [d]]


def test_batches_of_a_cycle_are_refused():
    a, b = uuid4(), uuid4()
    with pytest.raises(InvalidInput, match="cycle"):
        graph.batches({a: [b], b: [a]})


def test_register_of_a_cycle_is_refused_with_its_path_and_changes_nothing(chain):
    before = chain.freshness()
    with pytest.raises(InvalidInput, match=r"refresh/\w+ -> refresh/\w+ -> refresh/\w+"):
        chain.register(
            declared("refresh/prices", ["refresh/momentum"], digest="other"),
            declared("refresh/momentum", ["refresh/prices"]),
        )
    assert chain.freshness() == before


def test_register_of_an_unknown_upstream_suggests_the_nearest(chain):
    with pytest.raises(NotFound, match="refresh/prices"):
        chain.register(declared("refresh/momentum", ["refresh/price"]), declared("refresh/prices"))


def test_register_reports_what_it_did(chain):
    done = chain.register(
        declared("refresh/prices"),
        declared("refresh/momentum", ["refresh/prices"], digest="declaration-2"),
        declared("preview/study", ["refresh/momentum"]),
    )
    assert done == registry.Registered(
        created=("preview/study",),
        changed=("refresh/momentum",),
        unchanged=("refresh/prices",),
        retired=("backtest/book", "training/alpha"),
    )


def test_register_again_changes_nothing(chain):
    done = chain.register(*chain.declared.values())
    assert (done.created, done.changed, done.retired) == ((), (), ())


def test_register_of_one_project_leaves_the_deployments_of_others_alone(chain):
    done = chain.register(declared("preview/study", ["refresh/momentum"]), project="research")
    assert done.created == ("preview/study",)
    assert done.retired == ()
    with chain.database.read() as connection:
        assert registry.reads_of_others(connection, tenant_id="default", project="research") == {
            "refresh/prices": [],
            "refresh/momentum": ["refresh/prices"],
            "training/alpha": ["refresh/momentum", "refresh/prices"],
            "backtest/book": ["training/alpha", "refresh/prices"],
        }


def test_register_of_a_key_of_another_project_is_refused(chain):
    with pytest.raises(InvalidInput, match="refresh/prices belongs to the project 'default'"):
        chain.register(declared("refresh/prices"), project="research")


def test_resources_of_two_kinds_may_have_one_name(database):
    built = Graph(database, declared("optimize/book"), declared("backtest/book", {"weights": "optimize/book"}))
    with database.read() as connection:
        rows = registry.deployments(connection, tenant_id="default")
    assert len({row.resource_id for row in rows}) == len(built.declared) == 2


def test_deployment_that_is_unknown_suggests_the_nearest_names(chain):
    with chain.database.read() as connection, pytest.raises(NotFound) as refusal:
        registry.deployment(connection, "backtest/bok", tenant_id="default")
    assert refusal.value.nearest == ("backtest/book",)


def test_explain_follows_the_chain_to_the_run_that_started_it(chain):
    chain.publish("refresh/prices", "new")
    with chain.database.read() as connection:
        explanation = reasons.explain(connection, chain.id("backtest/book"))
        started_by = versions.current_version(connection, chain.id("refresh/prices")).run_id
    deepest = [reason for _, reason in explanation.lines() if not reason.because]
    assert {reason.origin_run_id for reason in deepest} == {started_by}
    assert "refresh/prices is at v2 now, with other content" in explanation.sentence()


def test_explain_of_what_never_ran_says_so(database):
    built = Graph(database, declared("refresh/prices"))
    with database.read() as connection:
        assert reasons.explain(connection, built.id("refresh/prices")).sentence() == "refresh/prices has no version yet"


def test_inputs_of_a_version_go_down_to_the_sources(chain):
    with chain.database.read() as connection:
        book = references.resolve(connection, "backtest/book@v1", tenant_id="default")
        found = questions.inputs_of(connection, book.id)
        direct = questions.inputs_of(connection, book.id, recursive=False)
    assert {(read.key, read.number) for read in found} == {
        ("training/alpha", 1),
        ("refresh/momentum", 1),
        ("refresh/prices", 1),
    }
    assert {(read.role, read.key) for read in direct} == {("model", "training/alpha"), ("prices", "refresh/prices")}
    assert all(read.is_current for read in found)


def test_inputs_of_an_old_version_say_that_they_hold_no_more(chain):
    chain.publish("refresh/prices", "new")
    with chain.database.read() as connection:
        book = references.resolve(connection, "backtest/book", tenant_id="default")
        found = {read.key: read.is_current for read in questions.inputs_of(connection, book.id)}
    assert found == {"training/alpha": True, "refresh/momentum": True, "refresh/prices": False}


@pytest.mark.parametrize("reference", ["refresh/nothing", "refresh/prices@v7"])
def test_resolve_of_what_does_not_exist_is_not_found(chain, reference):
    with chain.database.read() as connection, pytest.raises(NotFound):
        references.resolve(connection, reference, tenant_id="default")


def test_resolve_of_what_is_no_reference_says_how_to_write_one(chain):
    with chain.database.read() as connection, pytest.raises(InvalidInput, match="refresh/prices@v12"):
        references.resolve(connection, "refresh/prices@12@13", tenant_id="default")
