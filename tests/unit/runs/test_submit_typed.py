"""Each run type has a typed call of its own: facts of its columns, checked before anything is recorded."""

from dataclasses import replace
from datetime import date
from uuid import uuid4

import pytest
import sqlalchemy as sa
from pydantic import ValidationError

from freshline.runs import store
from freshline.runs.details import (
    SCHEMA_OF,
    TABLE_OF,
    BacktestDetail,
    ExperimentDetail,
    InferenceDetail,
    MonitoringDetail,
    PipelineDetail,
    PortfolioOptimizationDetail,
    TrainingDetail,
)
from freshline.runs.service import RunExecutionService
from freshline.storage.database import Database
from freshline.storage.errors import InvalidInput, NotFound
from freshline.storage.words import DeploymentKind
from tests.databases import new_database_url
from tests.factories import Graph, declared

DAY = date(2022, 1, 3)

CALLS = {
    "submit_pipeline_run": ("refresh/prices", PipelineDetail(first_data_date=DAY, rows_processed=3)),
    "submit_experiment_run": ("preview/study", ExperimentDetail(start_date=DAY, rows_computed=3)),
    "submit_training_run": ("training/alpha", TrainingDetail(start_date=DAY, num_features=3)),
    "submit_inference_run": ("inference/alpha", InferenceDetail(start_date=DAY, num_predictions=3)),
    "submit_monitoring_run": ("monitoring/alpha", MonitoringDetail(start_date=DAY, monitoring_type="model_drift")),
    "submit_portfolio_optimization_run": (
        "optimize/weights",
        PortfolioOptimizationDetail(start_date=DAY, constraints={"max": 0.1}),
    ),
    "submit_backtest_run": ("backtest/book", BacktestDetail(start_date=DAY, initial_capital=1e6)),
}


@pytest.fixture(scope="module", params=["sqlite", "postgres"])
def database(request, tmp_path_factory):
    opened = Database(new_database_url(request, tmp_path_factory.mktemp("typed")), sqlite_synchronous="OFF")
    Graph(opened, *(replace(declared(key), policy=None) for key, _ in CALLS.values()))
    yield opened
    opened.dispose()


@pytest.fixture
def service(database):
    return RunExecutionService(database)


def recorded(database):
    with database.read() as connection:
        tables = [store.RUN, *(table.__table__ for table in TABLE_OF.values())]
        return [connection.execute(sa.select(sa.func.count()).select_from(table)).scalar_one() for table in tables]


def detail_of(database, run):
    table = TABLE_OF[DeploymentKind(run.kind)].__table__
    with database.read() as connection:
        return connection.execute(sa.select(table).where(table.c.run_id == run.id)).one()._asdict()


def test_every_run_type_has_its_call():
    kinds = {key.partition("/")[0] for key, _ in CALLS.values()}
    assert kinds == set(DeploymentKind)
    assert [SCHEMA_OF[DeploymentKind(key.partition("/")[0])] for key, _ in CALLS.values()] == [
        type(detail) for _, detail in CALLS.values()
    ]


@pytest.mark.parametrize("form", ["detail", "mapping"])
@pytest.mark.parametrize("call", CALLS)
def test_typed_call_records_the_type_with_its_facts(database, service, call, form):
    key, detail = CALLS[call]
    facts = detail.model_dump(exclude_unset=True)
    run = getattr(service, call)(key, detail=detail if form == "detail" else facts)
    assert (run.status, run.type) == ("pending", TABLE_OF[DeploymentKind(run.kind)].__name__)
    stored = detail_of(database, run)
    assert {name: stored[name] for name in facts} == facts
    others = {name: value for name, value in stored.items() if name not in {*facts, "run_id", "update_mode"}}
    assert set(others.values()) <= {None}


OTHERS = [(call, other) for call in CALLS for other in CALLS if call != other]


@pytest.mark.parametrize(("call", "other"), OTHERS)
def test_typed_call_for_a_deployment_of_another_kind_is_refused(database, service, call, other):
    before = recorded(database)
    with pytest.raises(InvalidInput, match=rf"{CALLS[other][0]} makes a \w+Run, not a \w+"):
        getattr(service, call)(CALLS[other][0])
    assert recorded(database) == before


@pytest.mark.parametrize("has_facts", [True, False])
@pytest.mark.parametrize(("call", "other"), OTHERS)
def test_typed_call_with_the_detail_of_another_type_is_refused(database, service, call, other, has_facts):
    key, detail = CALLS[call]
    # Even one without facts, or with facts whose columns this type has too.
    strange = CALLS[other][1] if has_facts else type(CALLS[other][1])()
    before = recorded(database)
    wanted, given = type(detail).__name__, type(strange).__name__
    with pytest.raises(InvalidInput, match=rf"a \w+Run has no {given}: give a {wanted}$"):
        getattr(service, call)(key, detail=strange)
    assert recorded(database) == before


@pytest.mark.parametrize(
    ("call", "facts", "message"),
    [
        ("submit_backtest_run", {"start_dat": "2022-01-03"}, r"BacktestRun\.start_dat='2022-01-03': .* 'start_date'\?"),
        (
            "submit_backtest_run",
            {"gpu": 1},
            r"BacktestRun\.gpu=1: .*it has benchmark, end_date, initial_capital, num_trades, start_date",
        ),
        ("submit_backtest_run", {"start_date": "soon"}, r"BacktestRun\.start_date='soon': .*give a date, such as"),
        ("submit_backtest_run", {"num_trades": 1.5}, r"BacktestRun\.num_trades=1\.5: .*give a whole number"),
        ("submit_backtest_run", {"num_trades": 2**31}, r"num_trades=2147483648: .*32 bits; give a whole number"),
        ("submit_backtest_run", {"initial_capital": "much"}, r"initial_capital='much': .*give a number"),
        ("submit_backtest_run", {"benchmark": 5}, r"BacktestRun\.benchmark=5: .*give text"),
        ("submit_backtest_run", {"benchmark": "a\0b"}, r"benchmark='a\\x00b': NUL .*give text"),
        ("submit_backtest_run", {"benchmark": "\ud800"}, r"benchmark='\\ud800': .*lone surrogates .*give text"),
        ("submit_pipeline_run", {"rows_processed": 2**63}, r"rows_processed=9223372036854775808: .*64 bits"),
        ("submit_pipeline_run", {"rows_inserted": -(2**31) - 1}, r"rows_inserted=-2147483649: .*32 bits"),
        ("submit_training_run", {"model_digest": b"\xff"}, r"TrainingRun\.model_digest=b'\\xff': .*give text"),
        ("submit_inference_run", {"model_version_id": "v3"}, r"model_version_id='v3': .*give the id of a version"),
        ("submit_monitoring_run", {"alerts": {"a": 1}}, r"MonitoringRun\.alerts=\{'a': 1\}: .*give a list of objects"),
        ("submit_portfolio_optimization_run", {"weights": [1]}, r"weights=\[1\]: .*give an object"),
        ("submit_portfolio_optimization_run", {"weights": {"AAPL": float("nan")}}, r"JSON"),
    ],
)
def test_fact_that_no_column_takes_is_refused_with_column_value_and_fix(database, service, call, facts, message):
    before = recorded(database)
    with pytest.raises(InvalidInput, match=message):
        getattr(service, call)(CALLS[call][0], detail=facts)
    assert recorded(database) == before


def test_detail_that_is_wrong_is_refused_when_it_is_made():
    with pytest.raises(ValidationError, match="num_trades"):
        BacktestDetail(num_trades="many")
    with pytest.raises(ValidationError, match="start_dat"):
        BacktestDetail(start_dat=DAY)


def test_version_that_does_not_exist_is_no_fact(database, service):
    before = recorded(database)
    with pytest.raises(NotFound, match="There is no version"):
        service.submit_inference_run("inference/alpha", detail=InferenceDetail(model_version_id=uuid4()))
    assert recorded(database) == before


def test_numbers_at_the_limits_and_nan_are_stored_alike_on_both_databases(database, service):
    facts = {"rows_processed": 2**63 - 1, "rows_inserted": -(2**31)}
    found = detail_of(database, service.submit_pipeline_run("refresh/prices", detail=PipelineDetail(**facts)))
    assert {name: found[name] for name in facts} == facts
    detail = BacktestDetail(initial_capital=float("nan"), num_trades=2**31 - 1)
    stored = detail_of(database, service.submit_backtest_run("backtest/book", detail=detail))
    assert (stored["initial_capital"], stored["num_trades"]) == (None, 2**31 - 1)
