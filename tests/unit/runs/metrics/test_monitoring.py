"""What a monitoring run finds, and what it raises."""

import math
from datetime import UTC, date, datetime
from typing import Any

import numpy as np
import pandas as pd
import pytest
from pydantic import ValidationError

from freshline.runs.details import valid_detail
from freshline.runs.metrics import Alert, Histogram, Limits, MonitoringMetrics, MonitoringType, monitoring_metrics
from freshline.storage.errors import InvalidInput
from freshline.storage.words import DeploymentKind

WIDE = pd.DataFrame([[1.0, 2.0, 3.0], [1.0, 2.0, 3.0]], index=pd.bdate_range("2024-01-01", periods=2))


def _normal(seed: int, count: int, *, mean: float = 0.0) -> pd.Series:
    return pd.Series(np.random.default_rng(seed).normal(mean, 1.0, count))


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        ({"predictions": WIDE}, "predictions was given without outcomes"),
        ({"outcomes": WIDE}, "outcomes was given without predictions"),
        ({"last_data_at": date(2024, 1, 1)}, "last_data_at was given without now"),
        ({"reference": {}}, "reference was given without sample"),
    ],
)
def test_monitoring_with_half_of_its_inputs_is_refused(inputs: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidInput, match=message):
        monitoring_metrics(**inputs)


@pytest.mark.parametrize("facts", [{"false_alarm": 0.0}, {"false_alarm": 1.0}, {"missing_pct": -1.0}, {"psi": 0.1}])
def test_limits_that_cannot_be_are_refused(facts: dict[str, float]) -> None:
    with pytest.raises(ValidationError, match=next(iter(facts))):
        Limits.model_validate(facts)


def test_monitoring_of_nothing_finds_nothing() -> None:
    metrics = monitoring_metrics()

    assert metrics.values() == {}
    assert metrics.alerts == ()
    assert metrics.monitoring_type is MonitoringType.DATA_QUALITY


def test_monitoring_of_a_sample_like_the_reference_raises_nothing() -> None:
    reference = {"x": Histogram.from_sample(_normal(0, 2_000))}

    metrics = monitoring_metrics(pd.DataFrame({"x": _normal(1, 500)}), reference=reference)

    assert metrics.alerts == ()
    assert metrics.monitoring_type is MonitoringType.MODEL_DRIFT
    assert metrics.drift_score is not None
    assert metrics.drift_score < 1.0
    assert metrics.missing_pct == metrics.duplicate_pct == 0.0


def test_monitoring_reports_the_worst_column_and_an_alert_for_it() -> None:
    reference = {name: Histogram.from_sample(_normal(seed, 2_000)) for seed, name in enumerate(["same", "moved"])}
    sample = pd.DataFrame({"same": _normal(2, 500), "moved": _normal(3, 500, mean=1.0)})

    metrics = monitoring_metrics(sample, reference=reference)

    assert metrics.alerts is not None
    (alert,) = metrics.alerts
    assert (alert.type, alert.metric, alert.subject) == (MonitoringType.MODEL_DRIFT, "psi", "moved")
    assert alert.value == metrics.psi
    assert metrics.drift_score == pytest.approx(alert.value / alert.limit)
    assert alert.message.startswith("moved has drifted: PSI ")
    assert metrics.ks_statistic is not None
    # The largest distance of two normal distributions one apart is 0.383, at the middle between them.
    assert metrics.ks_statistic == pytest.approx(0.383, abs=0.05)


def test_monitoring_of_a_column_without_values_reports_what_the_others_say() -> None:
    reference = {name: Histogram.from_sample(_normal(0, 500)) for name in ("x", "gone")}
    sample = pd.DataFrame({"x": _normal(1, 200), "gone": math.nan})

    metrics = monitoring_metrics(sample, reference=reference)

    assert metrics.psi is not None
    assert math.isfinite(metrics.psi)
    assert metrics.alerts is not None
    assert [alert.metric for alert in metrics.alerts] == ["missing_pct"]


def test_monitoring_raises_an_alert_for_each_limit_that_is_crossed() -> None:
    sample = pd.DataFrame({"x": [1.0, 2.0, 3.0, math.nan, 900.0, 2.0]}, index=[0, 1, 2, 3, 4, 4])

    metrics = monitoring_metrics(
        sample,
        predictions=WIDE,
        outcomes=-WIDE,
        last_data_at=date(2024, 1, 1),
        now=datetime(2024, 1, 3, tzinfo=UTC),
        limits=Limits(staleness_h=24.0, ic=0.0),
    )

    assert metrics.alerts is not None
    assert [(alert.metric, alert.type.value) for alert in metrics.alerts] == [
        ("missing_pct", "data_quality"),
        ("outlier_pct", "data_quality"),
        ("duplicate_pct", "data_quality"),
        ("staleness_h", "data_quality"),
        ("ic", "performance"),
    ]
    assert metrics.alerts[3].message == "48 hours since the last data; the limit is 24"


def test_monitoring_with_limits_of_none_raises_nothing() -> None:
    off = Limits(missing_pct=None, outlier_pct=None, duplicate_pct=None)

    metrics = monitoring_metrics(pd.DataFrame({"x": [1.0, math.nan]}, index=[0, 0]), limits=off)

    assert metrics.missing_pct == 50.0
    assert metrics.alerts == ()


def test_monitoring_of_predictions_is_about_performance() -> None:
    metrics = monitoring_metrics(predictions=WIDE, outcomes=WIDE * 0.01)

    assert metrics.monitoring_type is MonitoringType.PERFORMANCE
    assert (metrics.ic, metrics.hit_rate, metrics.direction_accuracy) == (1.0, 1.0, 1.0)
    assert metrics.psi is None
    assert metrics.conventions()["ic"] | {"library_version": ""} == {
        "unit": "1",
        "method": "spearman",
        "by": "date",
        "dates": 2,
        "library": "freshline",
        "library_version": "",
    }


def test_monitoring_records_how_the_threshold_was_calibrated() -> None:
    reference = {"x": Histogram.from_sample(_normal(0, 500), bins=5)}

    recorded = monitoring_metrics(pd.DataFrame({"x": _normal(1, 200)}), reference=reference, overlap=2.0).conventions()

    assert recorded["psi"]["bins"] == 5
    chosen = {name: recorded["drift_score"][name] for name in ("false_alarm", "columns", "overlap")}
    assert chosen == {"false_alarm": 0.01, "columns": 1, "overlap": 2.0}
    assert recorded["outlier_pct"]["reference"] == "training"


def test_monitoring_metrics_round_trip_and_fit_the_columns_of_their_run() -> None:
    alert = Alert(type=MonitoringType.MODEL_DRIFT, metric="psi", value=math.inf, limit=0.1, message="moved")
    metrics = MonitoringMetrics(psi=math.nan, alerts=(alert,), monitoring_type=MonitoringType.MODEL_DRIFT)

    facts = metrics.model_dump(mode="json", include={"alerts", "monitoring_type"})

    assert repr(MonitoringMetrics.model_validate_json(metrics.model_dump_json())) == repr(metrics)
    assert valid_detail(DeploymentKind.MONITORING, facts)["monitoring_type"] == "model_drift"
