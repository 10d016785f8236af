"""What tells two runs apart: every section, equal content under other numbers, and what only one of them has."""

import math
from dataclasses import replace

import pandas as pd
import pytest

from freshline.runs.comparing import Section
from freshline.runs.execution import RunExecution
from freshline.runs.result import Result
from freshline.storage.artifacts import ArtifactRecord
from freshline.storage.errors import InvalidInput, NotFound
from freshline.storage.ids import show_run_id
from freshline.storage.parquet import write_table
from tests.factories import declared

PRICES, MOMENTUM, BOOK = "refresh/prices", "refresh/momentum", "backtest/book"


def differing(comparison):
    return {(fact.section.value, fact.name): (fact.a, fact.b) for fact in comparison.differences}


def run_with(world, frame, *, metrics=None, outputs=None, **options):
    """Run the prices so that they publish this table."""
    claim = world.start(world.service.submit(PRICES, **options))
    table = ArtifactRecord.of_table("data", write_table(world.objects, frame))
    world.port.complete(
        claim.run.id, claim.run.fence, Result(artifacts=[table], metrics=metrics or {}, outputs=outputs or {})
    )
    return world.service.get(claim.run.id)


@pytest.mark.parametrize(
    ("run_id", "error", "said"),
    [
        ("refresh/prices", InvalidInput, "'refresh/prices' is not a run id"),
        ("run-00000000-0000-7000-8000-000000000000", NotFound, "There is no run"),
    ],
)
def test_comparison_with_what_is_no_run_says_so(world, run_id, error, said):
    run = world.service.submit(PRICES)
    for pair in ((run.id, run_id), (run_id, run.id)):
        with pytest.raises(error, match=said):
            world.queries.compare(*pair)


def test_run_is_equal_to_itself_and_to_a_rerun_with_the_same_result(world):
    first, second = world.run_through(PRICES), world.run_through(PRICES)
    for other in (first, second):
        comparison = world.queries.compare(first.id, other.id)
        assert list(comparison.differences) == []
        assert comparison.has_equal_outputs
        assert comparison.sentence().endswith("are equal in everything that is recorded of them")


def test_parameters_and_request_differ_by_name(world):
    wide = replace(declared(PRICES, parameters=["days", "lag"]), prefect_deployment_id=None)
    known = world.graph.declared[PRICES]
    others = [item for key, item in world.graph.declared.items() if key != PRICES]
    world.graph.register(replace(known, parameter_schema=wide.parameter_schema), *others)
    first = world.service.submit(PRICES, {"days": 5, "lag": 1})
    second = world.service.submit(PRICES, {"days": 20}, data_as_of="2024-01-31", update_mode="full")
    comparison = world.queries.compare(first.id, second.id)
    assert differing(comparison) == {
        ("parameters", "days"): (5, 20),
        ("parameters", "lag"): (1, None),
        ("request", "data_as_of"): (None, "2024-01-31"),
        ("request", "update_mode"): ("incremental", "full"),
    }
    facts = {fact.name: fact for fact in comparison.section(Section.PARAMETERS)}
    assert (facts["days"].change, facts["lag"].note) == (15.0, "only in the first")


def test_inputs_differ_by_content_and_not_by_number(world):
    world.run_through(PRICES, 1)
    first = world.run_through(MOMENTUM, 1)
    world.run_through(PRICES, 1)
    same = world.run_through(MOMENTUM, 1)
    world.run_through(PRICES, 2)
    other = world.run_through(MOMENTUM, 1)
    comparison = world.queries.compare(first.id, same.id)
    assert differing(comparison) == {}
    (fact,) = comparison.section(Section.INPUTS)
    assert (fact.a, fact.b, fact.note) == (
        "refresh/prices@v1",
        "refresh/prices@v2",
        "another version with the same content",
    )
    assert differing(world.queries.compare(first.id, other.id)) == {
        ("inputs", "prices"): ("refresh/prices@v1", "refresh/prices@v3")
    }


def test_inputs_further_up_are_compared_by_deployment(world):
    others = [item for key, item in world.graph.declared.items() if key != BOOK]
    book = replace(world.graph.declared[BOOK], edges=world.graph.declared[BOOK].edges[:1])
    world.graph.register(*others, book)
    for content in (1, 2):
        world.run_through(PRICES, content)
        world.run_through(MOMENTUM, 7)
        run = world.run_through(BOOK, content)
    first, second = [run.id for key, run in reversed(world.queries.runs()) if key == BOOK]
    assert second == run.id
    found = differing(world.queries.compare(first, second))
    assert found["upstream_inputs", PRICES] == ("v1", "v2")
    # Momentum came to the same content from other prices.
    assert ("inputs", "momentum") not in found


def test_run_that_has_not_published_is_compared_by_what_it_pinned(world):
    world.run_through(PRICES, 1)
    first = world.start(world.service.submit(MOMENTUM)).run
    world.run_through(PRICES, 2)
    second = world.run_through(MOMENTUM, 1)
    found = differing(world.queries.compare(first.id, second.id))
    assert found["inputs", "prices"] == ("refresh/prices@v1", "refresh/prices@v2")
    assert found["outcome", "status"] == ("running", "completed")
    assert found["outputs", "data"][0] is None


def test_metrics_have_their_change_and_nan_equals_nan(world):
    frame = pd.DataFrame({"x": [1]})
    first = run_with(world, frame, metrics={"sharpe": 1.0, "ic": math.nan, "old": 1.0, "worst": math.inf})
    second = run_with(world, frame, metrics={"sharpe": 1.5, "ic": math.nan, "new": 2.0, "worst": 2.0})
    comparison = world.queries.compare(first.id, second.id)
    facts = {fact.name: fact for fact in comparison.section("metrics")}
    assert {name: fact.is_equal for name, fact in facts.items()} == {
        "ic": True, "new": False, "old": False, "sharpe": False, "worst": False,
    }  # fmt: skip
    assert facts["sharpe"].change == 0.5
    assert facts["worst"].change is None
    assert (facts["new"].note, facts["old"].note) == ("only in the second", "only in the first")


def test_schema_differs_by_column_and_by_order(world):
    first = run_with(world, pd.DataFrame({"a": [1], "b": [2.0], "c": ["x"]}))
    second = run_with(world, pd.DataFrame({"a": [1.5], "b": [2.0], "d": ["x"]}))
    third = run_with(world, pd.DataFrame({"c": ["x"], "b": [2.0], "a": [1]}))
    found = {
        fact.name: (fact.a, fact.b, fact.note) for fact in world.queries.compare(first.id, second.id).section("schema")
    }
    assert found.keys() == {"data", "data.a", "data.c", "data.d"}
    assert found["data.a"] == ("int64", "float64", "")
    assert found["data.c"][2] == "only in the first"
    (order,) = world.queries.compare(first.id, third.id).section("schema")
    assert (order.is_equal, order.note) == (False, "the same columns in another order")


def test_outputs_differ_by_digest_and_have_the_change_of_rows(world):
    first = run_with(world, pd.DataFrame({"x": [1]}), outputs={"solver": "optimal"})
    second = run_with(world, pd.DataFrame({"x": [1, 2, 3]}), outputs={"solver": "infeasible"})
    comparison = world.queries.compare(first.id, second.id)
    assert not comparison.has_equal_outputs
    facts = {fact.name: fact for fact in comparison.section("outputs")}
    assert facts["data"].change == 2.0
    assert facts["data"].b.endswith("3 rows")
    assert (facts["solver"].a, facts["solver"].b) == ("optimal", "infeasible")
    assert comparison.sentence().endswith("differ in outputs (2)")


def test_code_and_environment_differ_by_what_the_claims_recorded(world):
    runs = []
    for commit, environment in (("abc", "e1"), ("def+", "e2")):
        run = world.service.submit(PRICES)
        world.dispatch()
        execution = RunExecution(world.database)
        execution.claim(run.id, provenance={"git_commit": commit, "environment_digest": environment}, worker="test")
        runs.append(run.id)
        known = world.graph.declared
        others = [item for key, item in known.items() if key != PRICES]
        world.graph.register(replace(known[PRICES], declaration_digest="changed"), *others)
    assert differing(world.queries.compare(*runs)) == {
        ("code", "git_commit"): ("abc", "def+"),
        ("code", "declaration_digest"): ("declaration-1", "changed"),
        ("environment", "digest"): ("e1", "e2"),
    }


def test_true_is_not_one(world):
    frame = pd.DataFrame({"x": [1]})
    first = run_with(world, frame, outputs={"converged": True})
    second = run_with(world, frame, outputs={"converged": 1})
    assert differing(world.queries.compare(first.id, second.id)) == {("outputs", "converged"): (True, 1)}


def test_runs_of_two_deployments_can_be_compared(world):
    comparison = world.queries.compare(world.run_through(PRICES).id, world.run_through(MOMENTUM).id)
    assert differing(comparison)["request", "deployment"] == (PRICES, MOMENTUM)
    assert (comparison.deployment_a, comparison.deployment_b) == (PRICES, MOMENTUM)


def test_comparison_is_a_table_and_a_view_in_a_notebook(world):
    first = run_with(world, pd.DataFrame({"x": [1]}), outputs={"note": "<b>"})
    second = run_with(world, pd.DataFrame({"x": [2]}), outputs={"note": ""})
    comparison = world.queries.compare(first.id, second.id)
    table = comparison.to_pandas()
    assert list(table.columns) == ["section", "name", "a", "b", "is_equal", "change", "note"]
    assert len(table) == len(comparison.facts)
    assert set(table.loc[~table["is_equal"], "section"]) == {"outputs"}
    shown = comparison._repr_html_()
    assert "&lt;b&gt;" in shown
    assert "<b>" not in shown


def test_several_runs_are_compared_with_the_first_one(world):
    first = run_with(world, pd.DataFrame({"a": [1], "b": [2.0]}), metrics={"loss": 1.0})
    same = run_with(world, pd.DataFrame({"a": [1], "b": [2.0]}), metrics={"loss": 1.0})
    other = run_with(world, pd.DataFrame({"a": [1.5], "b": [2.0]}), metrics={"loss": 2.0, "gain": 3.0})
    table = world.queries.compare_all([first.id, same.id, show_run_id(other.id)])
    found = {(fact.section.value, fact.name): fact.values for fact in table.differences}
    assert found[("metrics", "loss")] == (1.0, 1.0, 2.0)
    assert found[("metrics", "gain")] == (None, None, 3.0)
    assert found[("schema", "data.a")] == ("int64", "int64", "float64")
    assert ("schema", "data.b") not in found
    assert all(fact.is_equal for fact in table.section("request"))
    assert table.sentence() == "these 3 runs differ in metrics (2), schema (2), outputs (1)"
    frame = table.to_pandas()
    assert list(frame.columns) == ["section", "name", "is_equal", *map(show_run_id, (first.id, same.id, other.id))]
    assert "<table>" in table._repr_html_()
    assert world.queries.compare_all([first.id, same.id]).sentence() == (
        "these 2 runs are equal in everything that is recorded of them"
    )


def test_several_runs_agree_with_pairs_of_them(world):
    runs = [run_with(world, pd.DataFrame({"a": [content]}), metrics={"x": float(content)}) for content in (1, 2)]
    runs.append(world.run_through(MOMENTUM))
    table = world.queries.compare_all([run.id for run in runs])
    told = {(fact.section, fact.name): fact for fact in table.facts}
    for at, run in enumerate(runs[1:], start=1):
        for fact in world.queries.compare(runs[0].id, run.id).facts:
            values = told[fact.section, fact.name].values
            assert (values[0], values[at]) == (fact.a, fact.b)


@pytest.mark.parametrize(
    ("pick", "said"),
    [
        (lambda run_id: [run_id], "1 runs were given: from 2 to 50"),
        (lambda run_id: [run_id, show_run_id(run_id)], "was given twice"),
        (lambda run_id: [run_id] * 51, "51 runs were given"),
    ],
)
def test_runs_that_cannot_be_compared_are_refused(world, pick, said):
    with pytest.raises(InvalidInput, match=said):
        world.queries.compare_all(pick(world.service.submit(PRICES).id))
