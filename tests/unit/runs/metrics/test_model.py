"""What all metrics classes share: values, conventions, definitions."""

import json
import math

import numpy as np
import pytest
from pydantic import ValidationError

from freshline.runs.metrics import (
    METRICS_OF,
    BacktestMetrics,
    Convention,
    ExperimentMetrics,
    MonitoringMetrics,
    OptimizationMetrics,
    PipelineMetrics,
    RiskFreeBasis,
    TrainingMetrics,
)
from freshline.storage.database import dump_json


def test_metrics_with_an_unknown_name_suggest_the_nearest() -> None:
    with pytest.raises(
        ValidationError, match="'val_icc' is no standard metric of TrainingMetrics: did you mean 'val_ic'"
    ):
        TrainingMetrics.model_validate({"val_icc": 0.1})


def test_metrics_with_a_name_like_no_other_point_to_run_log() -> None:
    with pytest.raises(ValidationError, match=r"'zzz' is no standard metric .* run\.log\(\)"):
        TrainingMetrics.model_validate({"zzz": 0.1})


@pytest.mark.parametrize("value", ["much", [1.0], {"a": 1}])
def test_metrics_with_a_value_that_is_no_number_are_refused(value: object) -> None:
    with pytest.raises(ValidationError, match="sharpe_ratio"):
        BacktestMetrics.model_validate({"sharpe_ratio": value})


@pytest.mark.parametrize("value", [-1, 2.5, float("nan")])
def test_metrics_with_a_count_that_is_none_are_refused(value: float) -> None:
    with pytest.raises(ValidationError, match="num_trades"):
        BacktestMetrics.model_validate({"num_trades": value})


@pytest.mark.parametrize(
    "facts",
    [
        {"periods_per_year": 0},
        {"periods_per_year": math.inf},
        {"risk_free_rate": -1.0},
        {"risk_free_rate": math.nan},
        {"ddof": 2},
        {"ddof": -1},
        {"risk_free_basis": "weekly"},
        {"missing": "interpolate"},
        {"periods": 252},
    ],
)
def test_convention_that_cannot_be_is_refused(facts: dict[str, object]) -> None:
    with pytest.raises(ValidationError, match=next(iter(facts))):
        Convention.model_validate(facts)


def test_metrics_are_frozen() -> None:
    metrics = BacktestMetrics(beta=1.0)

    with pytest.raises(ValidationError, match="frozen"):
        metrics.beta = 2.0  # type: ignore[misc]  # that is the point


def test_values_hold_the_numbers_only_and_skip_none() -> None:
    metrics = OptimizationMetrics(effective_n=4.0, iterations=12, solver_status="optimal")

    assert metrics.values() == {"effective_n": 4.0, "iterations": 12.0}
    assert all(type(value) is float for value in metrics.values().values())


def test_values_keep_nan_and_infinities() -> None:
    values = BacktestMetrics(sharpe_ratio=math.nan, sortino_ratio=math.inf, calmar_ratio=-math.inf).values()

    assert math.isnan(values["sharpe_ratio"])
    assert values["sortino_ratio"] == math.inf
    assert values["calmar_ratio"] == -math.inf


def test_metrics_round_trip_through_json_with_nan_and_infinities() -> None:
    metrics = BacktestMetrics(sharpe_ratio=math.nan, sortino_ratio=math.inf, num_trades=3, convention=Convention())

    text = metrics.model_dump_json()

    json.loads(text, parse_constant=lambda name: pytest.fail(f"{name} is not JSON"))
    assert repr(BacktestMetrics.model_validate_json(text)) == repr(metrics)


@pytest.mark.parametrize(
    "scalar", [np.float32(0.5), np.float64(0.5), np.array(0.5)], ids=["float32", "float64", "zero-dimensional"]
)
def test_metrics_given_a_numpy_scalar_hold_a_float(scalar: object) -> None:
    beta = BacktestMetrics.model_validate({"beta": scalar}).beta

    assert type(beta) is float
    assert beta == 0.5


def test_metrics_given_a_numpy_integer_hold_an_int() -> None:
    assert type(PipelineMetrics.model_validate({"rows_fetched": np.int64(7)}).rows_fetched) is int


def test_conventions_without_a_convention_record_the_unit_alone() -> None:
    assert BacktestMetrics(sharpe_ratio=1.0).conventions() == {"sharpe_ratio": {"unit": "1 per √year"}}


def test_conventions_record_what_the_value_depends_on_and_nothing_else() -> None:
    convention = Convention(
        periods_per_year=365, risk_free_rate=0.02, calendar=None, library="mine", library_version="2.1"
    )

    recorded = BacktestMetrics(sharpe_ratio=1.0, beta=0.5, convention=convention).conventions()

    assert recorded["sharpe_ratio"] == {
        "unit": "1 per √year",
        "periods_per_year": 365.0,
        "risk_free_rate": 0.02,
        "risk_free_basis": "annual_compounded",
        "ddof": 1,
        "missing": "refuse",
        "library": "mine",
        "library_version": "2.1",
    }
    assert recorded["beta"] == {"unit": "1", "missing": "refuse", "library": "mine", "library_version": "2.1"}


def test_conventions_record_what_the_definition_fixes_and_what_was_chosen() -> None:
    convention = Convention(details={"kurtosis": {"window_d": 21}})

    recorded = ExperimentMetrics(kurtosis=0.1, convention=convention).conventions()

    assert recorded["kurtosis"] == {"unit": "1", "bias": "adjusted", "excess": True, "window_d": 21}


def test_conventions_are_json_that_the_store_accepts() -> None:
    for kind in METRICS_OF.values():
        names = [
            name for name, definition in kind.definitions().items() if definition.unit not in {"date", "text", "table"}
        ]
        metrics = kind.model_validate({**dict.fromkeys(names, 1), "convention": Convention().computed_here()})

        recorded = metrics.conventions()

        dump_json(recorded)
        assert set(recorded) == set(names) == set(metrics.values())
        assert all(facts["library"] == "freshline" for facts in recorded.values())


def test_computed_here_keeps_earlier_details() -> None:
    convention = Convention(details={"psi": {"bins": 10}}).computed_here({"psi": {"rows": 5}, "ic": {"by": "date"}})

    assert convention.details == {"psi": {"bins": 10, "rows": 5}, "ic": {"by": "date"}}


@pytest.mark.parametrize(
    ("basis", "rate", "per_period"),
    [
        # (1 + 0.21) ** (1 / 2) - 1 = 0.1
        (RiskFreeBasis.ANNUAL_COMPOUNDED, 0.21, 0.1),
        # 0.21 / 2
        (RiskFreeBasis.ANNUAL_SIMPLE, 0.21, 0.105),
        (RiskFreeBasis.PER_PERIOD, 0.1, 0.1),
    ],
)
def test_risk_free_rate_means_what_its_basis_says(basis: RiskFreeBasis, rate: float, per_period: float) -> None:
    convention = Convention(periods_per_year=2, risk_free_rate=rate, risk_free_basis=basis)

    assert convention.risk_free_per_period == pytest.approx(per_period, rel=1e-12)


def test_every_metric_says_its_unit_and_formula() -> None:
    for kind in METRICS_OF.values():
        definitions = kind.definitions()

        assert set(definitions) == set(kind.model_fields) - {"convention"}
        assert all(definition.unit and definition.formula for definition in definitions.values())
        assert all(set(definition.uses) <= set(Convention.model_fields) for definition in definitions.values())


def test_monitoring_without_alerts_says_none_were_looked_for() -> None:
    assert MonitoringMetrics(psi=0.1).alerts is None
