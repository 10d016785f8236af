"""The shipped flows on the shipped prices, each on what the one before it left; without any server."""

from collections.abc import Callable, Mapping
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from freshline.deployments.catalog import Catalog, load_catalog
from freshline.flows import testing
from freshline.flows.backtest import backtest
from freshline.flows.inference import inference
from freshline.flows.monitoring import monitoring
from freshline.flows.optimize import optimize
from freshline.flows.preview import preview
from freshline.flows.refresh import refresh
from freshline.flows.training import training
from freshline.lineage.freshness import parse_policy
from freshline.storage.errors import InvalidInput, NotFound
from tests.unit.flows.made import random_prices

FLOWS: Mapping[str, Any] = {
    "refresh": refresh,
    "preview": preview,
    "training": training,
    "inference": inference,
    "optimize": optimize,
    "backtest": backtest,
    "monitoring": monitoring,
}
AS_OF = date(2021, 12, 31)


@pytest.fixture(scope="module")
def catalog() -> Catalog:
    return load_catalog(Path(__file__).parents[3] / "prefect.yaml", check_policy=parse_policy)


Run = Callable[..., testing.TestResult]


@pytest.fixture(scope="module")
def run_one(catalog: Catalog) -> Run:
    """Run one deployment of the catalogue on what its upstreams published."""

    def run(key: str, done: Mapping[str, testing.TestResult], **said: Any) -> testing.TestResult:
        spec = catalog.get(key)
        inputs = {edge.role: published(done[edge.key]) for edge in spec.upstream}
        parameters = {**spec.parameters, **said.pop("parameters", {})}
        return testing.run(
            FLOWS[spec.runs],
            inputs=inputs,
            callables=spec.callables,
            **{"data_as_of": AS_OF, "parameters": parameters} | said,
        )

    return run


@pytest.fixture(scope="module")
def chain(catalog: Catalog, run_one: Run) -> dict[str, testing.TestResult]:
    done: dict[str, testing.TestResult] = {}
    for spec in catalog.deployments:
        done[spec.key] = run_one(spec.key, done)
    return done


def published(result: testing.TestResult) -> dict[str, Any]:
    content = {**result.tables, **result.files}
    return {item.name: content[item.name] for item in result.result.artifacts if item.publish}


def test_shipped_catalogue_declares_the_chain(catalog):
    found = {spec.key: {edge.key for edge in spec.upstream} for spec in catalog.deployments}

    assert found == {
        "refresh/prices": set(),
        "refresh/momentum": {"refresh/prices"},
        "preview/momentum-study": {"refresh/momentum", "refresh/prices"},
        "training/alpha": {"refresh/momentum", "refresh/prices"},
        "inference/alpha": {"training/alpha", "refresh/momentum", "refresh/prices"},
        "optimize/book": {"inference/alpha", "refresh/prices"},
        "backtest/book": {"optimize/book", "refresh/prices"},
        "backtest/momentum-ls": {"refresh/momentum", "refresh/prices"},
        "monitoring/alpha": {"inference/alpha", "training/alpha", "refresh/momentum"},
    }
    assert all(spec.schedules and spec.work_pool == "local" for spec in catalog.deployments)
    assert [spec.prefect_name for spec in catalog.deployments] == [spec.key for spec in catalog.deployments]


def test_shipped_flows_describe_every_parameter():
    for flow in FLOWS.values():
        properties = flow.parameters.model_dump()["properties"]
        assert {"update_mode", "if_ready", "on_stale", "data_as_of"} <= properties.keys()
        assert "run" not in properties
        assert all(said.get("description") for said in properties.values()), flow.name


def test_chain_ends_on_the_data_date(chain):
    for key in ("refresh/prices", "refresh/momentum", "optimize/book", "inference/alpha", "backtest/book"):
        dates = [item.last_data_date for item in chain[key].result.artifacts if item.last_data_date is not None]
        assert max(dates) == AS_OF, key


def test_chain_reads_every_declared_upstream(catalog, chain):
    for spec in catalog.deployments:
        assert {read.role for read in chain[spec.key].result.reads} == {edge.role for edge in spec.upstream}


def test_study_reports_distribution_and_rank_ic(chain):
    study = chain["preview/momentum-study"]

    assert study.metrics["mean"] == pytest.approx(0.0, abs=1e-12)
    assert study.metrics["std"] == pytest.approx(1.0, abs=1e-4)
    assert study.metrics["rows_computed"] == len(chain["refresh/momentum"].tables["test"])
    assert {f"rank_ic_{days}d" for days in (1, 5, 21, 63)} <= study.metrics.keys()
    assert set(study.tables) >= {"rank_ic", "quantile_returns", "preview"}


def test_training_publishes_models_and_reference_only(chain):
    found = chain["training/alpha"]

    assert {item.name for item in found.result.artifacts if item.publish} == {"models.skops", "reference.json"}
    assert {"validation", "feature_importance", "refits"} <= found.tables.keys()
    assert found.metrics["num_features"] == 3
    assert found.metrics["training_samples"] > 7000
    assert -0.1 < found.metrics["val_ic"] < 0.1


def test_training_twice_has_equal_digests(chain, run_one):
    again = run_one("training/alpha", chain)

    first, second = (
        {item.name: item.digest for item in result.result.artifacts} for result in (chain["training/alpha"], again)
    )
    assert first == second


def test_training_with_new_months_between_refits_publishes_the_same_content(chain, run_one):
    done = dict(chain)
    for key in ("refresh/prices", "refresh/momentum", "training/alpha"):
        done[key] = run_one(key, done, data_as_of=date(2022, 2, 28))

    before, after = (
        {item.name: item.digest for item in result["training/alpha"].result.artifacts if item.publish}
        for result in (chain, done)
    )
    assert done["training/alpha"].metrics["validation_samples"] > chain["training/alpha"].metrics["validation_samples"]
    assert before == after


def test_inference_predicts_every_month_end_since_the_first_fit(chain):
    found = chain["inference/alpha"]

    assert set(published(found)) == {"predictions", "samples"}
    assert found.metrics["num_predictions"] == found.tables["predictions"].size == 337 * 20
    assert found.tables["predictions"].index[-1] == pd.Timestamp(AS_OF)
    assert found.metrics["latency_ms"] > 0


def test_optimize_records_solver_turnover_and_constraints(chain):
    found = chain["optimize/book"]

    assert set(published(found)) == {"weights"}
    assert found.tables["solver"]["status"].eq("optimal").all()
    assert found.result.detail["solver_status"] == "optimal"
    assert found.result.detail["constraints"]["max_weight"] == 0.15
    assert found.metrics["gross_exposure"] == pytest.approx(1.0)
    last = found.tables["solver"].iloc[-1]
    for name in ("expected_return", "expected_volatility", "turnover", "iterations", "active_constraints"):
        assert found.metrics[name] == pytest.approx(last[name]), name


@pytest.mark.parametrize("key", ["backtest/book", "backtest/momentum-ls"])
def test_backtest_publishes_tables_that_agree(chain, key):
    found = chain[key]

    assert set(published(found)) == {"daily_returns", "equity_curve", "weights_history", "trades"}
    daily, curve, trades = (found.tables[name] for name in ("daily_returns", "equity_curve", "trades"))
    assert found.metrics["total_return"] == pytest.approx(curve["equity"].iloc[-1] - 1)
    assert found.metrics["max_drawdown"] == pytest.approx(curve["drawdown"].min())
    assert found.metrics["num_trades"] == len(trades)
    assert found.metrics["turnover"] == pytest.approx(daily["turnover"].sum() / len(daily) * 252)
    assert found.metrics["avg_holding_period_d"] == pytest.approx(
        trades.loc[trades["exit_date"].notna(), "holding_period_d"].mean()
    )
    assert found.result.detail["end_date"] == AS_OF


def test_backtest_without_prices_is_refused():
    with pytest.raises(InvalidInput, match="declare an upstream in the role `prices`"):
        testing.run(backtest, inputs={"weights": random_prices(days=5)})


def test_backtest_without_weights_is_refused():
    with pytest.raises(InvalidInput, match="declare a `strategy`, or an upstream in the role `weights`"):
        testing.run(backtest, inputs={"prices": random_prices(days=5)})


@pytest.mark.parametrize("key", ["preview/momentum-study", "training/alpha", "optimize/book", "monitoring/alpha"])
def test_flow_without_its_callable_is_refused(chain, catalog, key):
    spec = catalog.get(key)
    inputs = {edge.role: published(chain[edge.key]) for edge in spec.upstream}
    with pytest.raises(NotFound, match="callable"):
        testing.run(FLOWS[spec.runs], inputs=inputs)


def test_monitoring_watches_features_and_prediction(chain):
    found = chain["monitoring/alpha"]

    assert set(published(found)) == {"drift", "alerts", "report.md"}
    assert found.tables["drift"]["feature"].tolist() == ["momentum", "reversal", "volatility", "prediction"]
    assert found.metrics["staleness_h"] == 24.0
    assert found.result.detail["monitoring_type"] == "model_drift"
    assert len(found.result.detail["alerts"]) == len(found.tables["alerts"])
    assert found.files["report.md"].startswith(b"# Monitoring")


def test_monitoring_of_an_earlier_day_knows_no_later_outcome(chain, run_one):
    then = date(2020, 6, 30)

    found = run_one("monitoring/alpha", chain, data_as_of=then)

    samples = chain["inference/alpha"].tables["samples"]
    known = samples[samples["realised_on"] <= pd.Timestamp(then)]
    dates = samples.loc[samples["date"] <= pd.Timestamp(then), "date"].unique()[-24:]
    by_date = [
        rows["prediction"].corr(rows["target"], method="spearman")
        for date, rows in known.groupby("date")
        if date in dates
    ]
    assert len(by_date) < 24
    assert found.metrics["ic"] == pytest.approx(np.mean(by_date))
