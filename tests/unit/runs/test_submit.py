"""Submitting: one typed run per trigger, the gate's verdicts, refreshing what is stale, idempotency, bad input."""

from contextlib import nullcontext
from datetime import date
from types import SimpleNamespace

import pytest
import sqlalchemy as sa
from jsonschema import Draft202012Validator

from freshline.runs import store
from freshline.runs.creation import check_parameters
from freshline.runs.models import Outbox, RunDependency
from freshline.runs.service import RunExecutionService
from freshline.storage.errors import IdempotencyConflict, IllegalTransition, InvalidInput, NotFound
from freshline.storage.ids import new_id
from freshline.storage.words import IfReady
from tests.factories import Graph, declared


@pytest.fixture
def graph(database):
    return Graph(
        database,
        declared("refresh/prices", parameters=["lookback_d"]),
        declared("refresh/momentum", ["refresh/prices"]),
        declared("training/alpha", ["refresh/momentum", "refresh/prices"]),
        declared("backtest/book", ["training/alpha", "refresh/prices"]),
        declared("refresh/vendor", external=True),
        declared("refresh/clean", ["refresh/vendor"]),
    )


@pytest.fixture
def service(graph):
    return RunExecutionService(graph.database)


def dispatched(graph):
    outbox, run = Outbox.__table__, store.RUN
    query = sa.select(run.c.id).join(outbox, outbox.c.run_id == run.c.id).where(outbox.c.topic == "dispatch")
    with graph.database.read() as connection:
        return set(connection.execute(query).scalars())


def runs_by_key(graph):
    keys = {graph.id(key): key for key in graph.declared}
    with graph.database.read() as connection:
        return {keys[row.deployment_id]: row for row in connection.execute(sa.select(store.RUN))}


def test_submit_with_ready_upstreams_is_pending_and_dispatched(graph, service):
    graph.publish_all("refresh/prices")
    run = service.submit("refresh/momentum", actor="ada")
    assert (run.type, run.status, run.trigger, run.actor) == ("PipelineRun", "pending", "submitted", "ada")
    assert run.decision["verdict"] == "run"
    assert run.decision["upstreams"][0]["version"] == 1
    assert dispatched(graph) == {run.id}


def test_submit_with_a_stale_upstream_is_refused_and_recorded_with_the_reason(graph, service):
    run = service.submit("refresh/momentum")
    assert (run.status, run.stop_reason) == ("refused", "upstream_not_ready")
    assert run.error_message == "refresh/prices has no version yet"
    assert dispatched(graph) == set()


def test_submit_with_force_says_who_overrode(graph, service):
    run = service.submit("refresh/momentum", on_stale="force", actor="ada")
    assert run.status == "pending"
    assert run.decision["reason"] == "forced by ada although refresh/prices has no version yet"


def test_submit_with_wait_is_held_until_the_upstream_is_ready(graph, service):
    run = service.submit("refresh/momentum", on_stale="wait")
    assert run.status == "waiting"
    assert dispatched(graph) == set()


def test_submit_with_skip_of_what_is_ready_is_skipped(graph, service):
    graph.publish_all("refresh/prices", "refresh/momentum")
    run = service.submit("refresh/momentum", if_ready="skip")
    assert (run.status, run.stop_reason) == ("skipped", "already_ready")


def test_submit_with_refresh_plans_each_stale_upstream_once_in_parallel_batches(graph, service):
    run = service.submit("backtest/book", on_stale="refresh", data_as_of=date(2022, 11, 30))
    planned = runs_by_key(graph)
    assert run.status == "waiting"
    assert {key: row.status for key, row in planned.items()} == {
        "refresh/prices": "pending",
        "refresh/momentum": "waiting",
        "training/alpha": "waiting",
        "backtest/book": "waiting",
    }
    assert dispatched(graph) == {planned["refresh/prices"].id}
    assert {row.trigger for key, row in planned.items() if key != "backtest/book"} == {"cascade"}
    assert {row.data_as_of for row in planned.values()} == {date(2022, 11, 30)}
    dependency = RunDependency.__table__
    with graph.database.read() as connection:
        rows = connection.execute(sa.select(dependency)).fetchall()
    keys = {row.id: key for key, row in planned.items()}
    assert {(keys[row.run_id], keys[row.upstream_run_id]) for row in rows} == {
        ("refresh/momentum", "refresh/prices"),
        ("training/alpha", "refresh/momentum"),
        ("training/alpha", "refresh/prices"),
        ("backtest/book", "training/alpha"),
        ("backtest/book", "refresh/prices"),
    }


def test_submit_with_refresh_twice_joins_the_runs_under_way(graph, service):
    service.submit("backtest/book", on_stale="refresh")
    service.submit("backtest/book", on_stale="refresh")
    with graph.database.read() as connection:
        count = connection.execute(sa.select(sa.func.count()).select_from(store.RUN)).scalar_one()
    assert count == 5  # two books; prices, momentum and alpha once


def test_submit_with_refresh_leaves_ready_upstreams_alone(graph, service):
    graph.publish_all("refresh/prices", "refresh/momentum", "training/alpha", "backtest/book")
    graph.publish("refresh/momentum", "new")
    service.submit("backtest/book", on_stale="refresh")
    assert set(runs_by_key(graph)) == {"training/alpha", "backtest/book"}


def test_submit_with_refresh_over_an_external_upstream_is_refused_with_the_fix(graph, service):
    run = service.submit("refresh/clean", on_stale="refresh")
    assert run.status == "refused"
    assert "nothing can refresh refresh/vendor" in run.error_message


def test_submit_with_the_same_key_gives_the_same_run(graph, service):
    first = service.submit("refresh/prices", {"lookback_d": 5}, idempotency_key="k")
    again = service.submit("refresh/prices", {"lookback_d": 5}, idempotency_key="k")
    assert again.id == first.id
    assert dispatched(graph) == {first.id}


@pytest.mark.parametrize(
    "other", [{"parameters": {"lookback_d": 6}}, {"if_ready": "skip"}, {"data_as_of": date(2022, 1, 1)}]
)
def test_submit_with_the_same_key_and_another_request_is_an_error(service, other):
    service.submit("refresh/prices", {"lookback_d": 5}, idempotency_key="k")
    with pytest.raises(IdempotencyConflict, match="use a new key"):
        service.submit("refresh/prices", **{"parameters": {"lookback_d": 5}, "idempotency_key": "k", **other})


def test_submit_with_the_key_of_a_replay_is_an_error(graph, service):
    first = service.submit("refresh/prices", if_ready="run", idempotency_key="k")
    with graph.database.transaction() as connection:
        connection.execute(sa.update(store.RUN).values(replay_of=first.id))
    with pytest.raises(IdempotencyConflict, match="use a new key"):
        service.submit("refresh/prices", if_ready="run", idempotency_key="k")


@pytest.mark.parametrize(
    ("deployment", "options", "error", "message"),
    [
        ("refresh/price", {}, NotFound, "Did you mean 'refresh/prices'"),
        ("refresh/prices", {"parameters": {"lookback": 5}}, InvalidInput, "did you mean 'lookback_d'"),
        ("refresh/prices", {"parameters": {"lookback_d": "five"}}, InvalidInput, "lookback_d='five'"),
        ("refresh/prices", {"parameters": {"on_stale": "force"}}, InvalidInput, "as an option of submit"),
        ("refresh/prices", {"on_stale": "perhaps"}, InvalidInput, "on_stale='perhaps'"),
        ("refresh/prices", {"data_as_of": "soon"}, InvalidInput, "data_as_of='soon'"),
        ("refresh/vendor", {}, InvalidInput, "Prefect does not run it"),
        ("refresh/prices\0", {}, NotFound, "Did you mean 'refresh/prices'"),
        ("refresh/\udcff", {}, NotFound, "There is no deployment 'refresh/\\\\udcff'"),
        ("refresh/prices", {"idempotency_key": ""}, InvalidInput, "the idempotency key '' must have 1 to 250"),
        ("refresh/prices", {"idempotency_key": " "}, InvalidInput, "leave it out for a run of its own"),
        ("refresh/prices", {"idempotency_key": "a\0"}, InvalidInput, "printable characters"),
        ("refresh/prices", {"idempotency_key": "\ud800"}, InvalidInput, "printable characters"),
        ("refresh/prices", {"idempotency_key": "k" * 251}, InvalidInput, "1 to 250 printable"),
    ],
)
def test_submit_of_bad_input_is_refused_and_records_nothing(graph, service, deployment, options, error, message):
    with pytest.raises(error, match=message):
        service.submit(deployment, **options)
    assert runs_by_key(graph) == {}


_DECLARED = [
    *({"type": one, "title": "n", "default": 1} for one in ("integer", "number", "string", "boolean", "array", "null")),
    *({"type": one, "minimum": 2, "minLength": 2} for one in ("integer", "number", "string")),
    {"type": "string", "enum": ["one"]},
    {"type": ["integer", "null"]},
    {"anyOf": [{"type": "integer"}, {"type": "null"}]},
    {"title": "n"},
]
_GIVEN = [None, True, 0, 2, 2**70, 2.0, 2.5, "", "one", IfReady.SKIP, [1], {"n": 1}]


@pytest.mark.parametrize("more", [{}, {"minProperties": 2}, {"patternProperties": {"n": {"type": "integer"}}}])
def test_parameters_are_refused_as_the_schema_says(more):
    for number, declared_as in enumerate(_DECLARED):
        schema = {"type": "object", "properties": {"n": declared_as}, **more}
        deployment = SimpleNamespace(id=new_id(), key="refresh/prices", registered_at=number, parameter_schema=schema)
        for given in ({}, *({"n": value} for value in _GIVEN)):
            is_valid = Draft202012Validator(schema).is_valid(given)
            with nullcontext() if is_valid else pytest.raises(InvalidInput):
                check_parameters(deployment, given)


def test_typed_submit_makes_the_type_or_refuses(graph, service):
    assert service.submit_pipeline_run("refresh/prices").type == "PipelineRun"
    with pytest.raises(InvalidInput, match="PipelineRun"):
        service.submit_backtest_run("refresh/prices")


def test_cancel_of_what_has_not_started_ends_it(graph, service):
    run = service.submit("refresh/prices")
    ended = service.cancel(run.id, actor="ada")
    assert (ended.status, ended.stop_reason) == ("cancelled", "cancelled_by_user")
    with pytest.raises(IllegalTransition, match="has ended"):
        service.cancel(run.id)


def test_cancel_of_an_upstream_refuses_whoever_waited_for_it(graph, service):
    book = service.submit("backtest/book", on_stale="refresh")
    service.cancel(runs_by_key(graph)["refresh/prices"].id)
    found = runs_by_key(graph)
    assert {row.status for key, row in found.items() if key != "refresh/prices"} == {"refused"}
    assert "refresh/prices" in found["refresh/momentum"].error_message
    assert service.get(book.id).stop_reason == "upstream_not_ready"


def test_get_takes_the_id_as_it_is_shown(service):
    run = service.submit("refresh/prices")
    assert service.get(f"run-{run.id}").id == run.id
    with pytest.raises(InvalidInput, match="not a run id"):
        service.get("run-17")
