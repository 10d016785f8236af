from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from freshline.flows import alpha
from freshline.flows.drift import alpha_monitor, dump_reference, load_reference, reference_of
from freshline.flows.signals import momentum
from freshline.runs.metrics import Histogram, MonitoringType
from freshline.storage.errors import InvalidInput
from tests.unit.flows.made import random_prices

NOW = datetime(2018, 9, 1, tzinfo=UTC)


@pytest.fixture(scope="module")
def signal() -> pd.DataFrame:
    return momentum(random_prices(days=1200, assets=20))


@pytest.fixture(scope="module")
def trained(signal: pd.DataFrame) -> alpha.Trained:
    return alpha.train(signal, random_prices(days=1200, assets=20), min_months=24)


@pytest.fixture(scope="module")
def reference(trained: alpha.Trained) -> dict[str, Histogram]:
    return reference_of(trained.train)


@pytest.fixture(scope="module")
def samples(trained: alpha.Trained, signal: pd.DataFrame) -> pd.DataFrame:
    return alpha.predict(trained.bundle, signal, random_prices(days=1200, assets=20)).samples


@pytest.mark.parametrize("content", [b"", b"[]", b'{"momentum": {"edges": [1]}}'])
def test_load_reference_of_something_else_is_refused(tmp_path: Path, content):
    path = tmp_path / "reference.json"
    path.write_bytes(content)
    with pytest.raises(InvalidInput, match=r"reference.json is not a reference of histograms.*train the model again"):
        load_reference(path)


def test_monitor_window_not_positive_is_refused(samples, reference, signal):
    with pytest.raises(InvalidInput, match="window_months must be at least 1, not 0"):
        alpha_monitor(samples, reference, signal, now=NOW, window_months=0)


def test_monitor_without_predictions_says_what_to_run(samples, reference, signal):
    with pytest.raises(InvalidInput, match="nothing to watch: run the inference first"):
        alpha_monitor(samples.iloc[:0], reference, signal, now=NOW)


def test_monitor_reference_of_an_unknown_column_is_refused(samples, reference, signal):
    with pytest.raises(InvalidInput, match="no column 'beta'"):
        alpha_monitor(samples, {"beta": reference["momentum"]}, signal, now=NOW)


def test_reference_round_trip_is_exact_and_repeatable(tmp_path: Path, reference, trained):
    path = tmp_path / "reference.json"
    path.write_bytes(dump_reference(reference))

    assert load_reference(path) == reference
    assert dump_reference(reference_of(trained.train)) == path.read_bytes()


def test_monitor_without_drift_raises_nothing(samples, reference, signal):
    checked = alpha_monitor(samples, reference, signal, now=NOW)

    assert checked.metrics.monitoring_type is MonitoringType.MODEL_DRIFT
    assert checked.metrics.drift_score < 1
    assert checked.metrics.alerts == ()
    assert checked.alerts.empty
    assert checked.alerts.columns.tolist() == ["type", "metric", "subject", "value", "limit", "message"]
    assert checked.drift["feature"].tolist() == ["momentum", "reversal", "volatility", "prediction"]


def test_monitor_shifted_feature_is_named(samples, reference, signal):
    moved = samples.assign(reversal=samples["reversal"] + 3.0)

    checked = alpha_monitor(moved, reference, signal, now=NOW)

    assert checked.alerts[["type", "metric", "subject"]].to_numpy().tolist() == [["model_drift", "psi", "reversal"]]
    assert checked.drift.set_index("feature")["is_drifted"].to_dict() == {
        "momentum": False,
        "reversal": True,
        "volatility": False,
        "prediction": False,
    }


def test_monitor_counts_only_the_window(samples, reference, signal):
    months = samples["date"].unique()
    old = samples["date"] < months[-6]
    moved = samples.assign(reversal=samples["reversal"].where(~old, 99.0))

    recent = alpha_monitor(moved, reference, signal, now=NOW, window_months=6, overlap_months=1)
    longer = alpha_monitor(moved, reference, signal, now=NOW, window_months=12, overlap_months=1)

    assert recent.metrics.drift_score < 1 < longer.metrics.drift_score
    assert recent.drift["rows"].unique().tolist() == [120]


def test_monitor_overlapping_rows_count_once(samples, reference, signal):
    alone, shared = (
        alpha_monitor(samples, reference, signal, now=NOW, overlap_months=months).drift["psi_threshold"]
        for months in (1, 12)
    )

    assert shared.to_numpy() == pytest.approx(12 * alone.to_numpy())


def test_monitor_quality_is_that_of_the_signal(samples, reference, signal):
    holes = signal.copy()
    holes.iloc[-100:, :10] = np.nan

    checked = alpha_monitor(samples, reference, holes, now=NOW, window_months=6)

    rows = int((signal.index >= samples["date"].unique()[-6]).sum())
    assert checked.metrics.missing_pct == pytest.approx(100 * 1000 / (rows * 20))
    assert checked.alerts["metric"].tolist() == ["missing_pct"]
    assert checked.alerts["type"].tolist() == ["data_quality"]
    assert checked.metrics.conventions()["outlier_pct"]["reference"] == "sample"


def test_monitor_age_is_counted_from_the_last_date(samples, reference, signal):
    last = signal.index[-1].to_pydatetime().replace(tzinfo=UTC)

    checked = alpha_monitor(samples, reference, signal, now=last.replace(hour=18))

    assert checked.metrics.staleness_h == 18.0


def test_monitor_performance_is_that_of_predictions_that_came_due(samples, reference, signal):
    perfect = samples.assign(target=samples["prediction"].where(samples["target"].notna()))

    checked = alpha_monitor(perfect, reference, signal, now=NOW)

    assert (checked.metrics.ic, checked.metrics.hit_rate, checked.metrics.direction_accuracy) == (1.0, 1.0, 1.0)


def test_monitor_overlap_that_is_ignored_raises_false_alarms(real_prices, real_momentum):
    trained = alpha.train(real_momentum, real_prices)
    samples = alpha.predict(trained.bundle, real_momentum, real_prices).samples
    reference = reference_of(trained.train)
    months = samples["date"].unique()

    def alarms(overlap_months: int) -> int:
        windows = [samples[samples["date"].isin(months[end - 24 : end])] for end in range(24, len(months) + 1, 24)]
        return sum(
            alpha_monitor(window, reference, real_momentum, now=NOW, overlap_months=overlap_months)
            .drift["is_drifted"]
            .any()
            for window in windows
        )

    assert alarms(1) > 10
    assert alarms(12) <= 1
