"""Distributions of what studies compute and models predict, against pandas and scipy."""

import math
from typing import Any

import numpy as np
import pandas as pd
import pytest
import scipy.stats

from freshline.runs.metrics import Convention, experiment_metrics, inference_metrics
from freshline.storage.errors import InvalidInput


@pytest.mark.parametrize("values", [pd.Series(["a", "b"]), pd.DataFrame({"x": [1.0], "y": ["b"]}), ["a"]])
def test_experiment_of_text_is_refused(values: Any) -> None:
    with pytest.raises(InvalidInput, match="the computed values must be numbers only"):
        experiment_metrics(values)


def test_inference_of_text_is_refused() -> None:
    with pytest.raises(InvalidInput, match="the predictions must be numbers only"):
        inference_metrics(["up"])


SAMPLES: dict[str, pd.Series] = {
    "normal": pd.Series(np.random.default_rng(0).standard_normal(1_000)),
    "skewed": pd.Series(np.random.default_rng(1).lognormal(0.0, 1.0, 500)),
    "fat-tailed": pd.Series(np.random.default_rng(2).standard_t(3, 2_000)),
    "small-numbers": pd.Series(1e-150 * np.random.default_rng(3).standard_normal(50)),
    "far-from-zero": pd.Series(1e6 + np.random.default_rng(4).standard_normal(400)),
    "four": pd.Series([1.0, 2.0, 4.0, 9.0]),
    "with-gaps": pd.Series([1.0, math.nan, 2.5, 4.0, math.nan, 9.0, 3.0]),
    "integers": pd.Series([1, 2, 2, 3, 9]),
}


@pytest.mark.parametrize("sample", SAMPLES.values(), ids=SAMPLES.keys())
def test_experiment_metrics_equal_scipy(sample: pd.Series) -> None:
    present = sample.dropna().to_numpy(dtype=float)
    scaled = present / np.abs(present).max()  # scipy's powers of very small numbers vanish

    metrics = experiment_metrics(sample)

    assert metrics.values() == pytest.approx(
        {
            "rows_computed": len(sample),
            "nan_pct": 100 * (1 - len(present) / len(sample)),
            "mean": present.mean(),
            "std": present.std(ddof=1),
            "min": present.min(),
            "max": present.max(),
            "skewness": scipy.stats.skew(scaled, bias=False),
            "kurtosis": scipy.stats.kurtosis(scaled, bias=False),
        },
        rel=1e-8,
    )


@pytest.mark.parametrize("name", ["normal", "skewed", "fat-tailed", "four", "with-gaps", "integers"])
def test_experiment_metrics_equal_pandas(name: str) -> None:
    sample = SAMPLES[name]

    values = experiment_metrics(sample).values()

    expected = {"mean": sample.mean(), "std": sample.std(), "skewness": sample.skew(), "kurtosis": sample.kurt()}
    assert {statistic: values[statistic] for statistic in expected} == pytest.approx(expected, rel=1e-9)


def test_experiment_pools_the_columns_and_counts_the_rows() -> None:
    frame = pd.DataFrame({"x": [1.0, math.nan], "y": [3.0, 5.0]})

    metrics = experiment_metrics(frame)

    assert (metrics.rows_computed, metrics.nan_pct, metrics.mean) == (2, 25.0, 3.0)
    assert (metrics.min, metrics.max) == (1.0, 5.0)


def test_experiment_with_ddof_zero_divides_by_all_values() -> None:
    # Deviations -1, 1: Σ² = 2, / 2.
    assert experiment_metrics([1.0, 3.0], convention=Convention(ddof=0)).std == 1.0


@pytest.mark.parametrize("values", [[], [math.nan, math.nan]])
def test_experiment_without_values_is_nan(values: list[float]) -> None:
    metrics = experiment_metrics(values)

    assert metrics.rows_computed == len(values)
    assert metrics.nan_pct == pytest.approx(100.0 if values else math.nan, nan_ok=True)
    statistics = (metrics.mean, metrics.std, metrics.min, metrics.max, metrics.skewness, metrics.kurtosis)
    assert all(value is not None and math.isnan(value) for value in statistics)


@pytest.mark.parametrize("count", [1, 2, 3, 100])
def test_experiment_of_equal_values_has_no_shape(count: int) -> None:
    metrics = experiment_metrics([0.1] * count)

    assert metrics.std == pytest.approx(0.0 if count > 1 else math.nan, nan_ok=True, abs=0.0)
    assert metrics.skewness is not None
    assert math.isnan(metrics.skewness)
    assert metrics.kurtosis is not None
    assert math.isnan(metrics.kurtosis)


@pytest.mark.parametrize(
    ("count", "has_skewness", "has_kurtosis"), [(2, False, False), (3, True, False), (4, True, True)]
)
def test_experiment_of_few_values_has_the_moments_that_they_define(
    count: int, has_skewness: bool, has_kurtosis: bool
) -> None:
    metrics = experiment_metrics([1.0, 2.0, 4.0, 9.0][:count])

    assert metrics.skewness is not None
    assert metrics.kurtosis is not None
    assert math.isfinite(metrics.skewness) is has_skewness
    assert math.isfinite(metrics.kurtosis) is has_kurtosis


def test_experiment_with_infinite_values_says_so_without_a_warning() -> None:
    metrics = experiment_metrics([1.0, math.inf, 2.0, 3.0])

    assert metrics.mean == metrics.max == math.inf
    assert metrics.std is not None
    assert math.isnan(metrics.std)
    assert metrics.nan_pct == 0.0


def test_experiment_records_which_moments_it_computed() -> None:
    recorded = experiment_metrics([1.0, 2.0]).conventions()

    assert recorded["std"]["ddof"] == 1
    assert (recorded["kurtosis"]["bias"], recorded["kurtosis"]["excess"]) == ("adjusted", True)


def test_inference_describes_the_predictions_that_are_there() -> None:
    metrics = inference_metrics(
        pd.DataFrame({"a": [1.0, math.nan], "b": [2.0, 6.0]}),
        confidence=[0.5, 0.7, math.nan],
        latency_ms=[10.0, 30.0],
    )

    assert metrics.num_predictions == 3
    assert metrics.mean_prediction == 3.0
    # Deviations -2, -1, 3: √(14 / 2)
    assert metrics.std_prediction == pytest.approx(math.sqrt(7))
    assert metrics.confidence_mean == pytest.approx(0.6)
    assert metrics.latency_ms == 20.0


def test_inference_of_one_call_takes_its_latency() -> None:
    metrics = inference_metrics([1.0], latency_ms=12.5)

    assert metrics.latency_ms == 12.5
    assert metrics.confidence_mean is None


def test_inference_of_nothing_counts_none() -> None:
    metrics = inference_metrics([])

    assert metrics.num_predictions == 0
    assert metrics.mean_prediction is not None
    assert math.isnan(metrics.mean_prediction)
