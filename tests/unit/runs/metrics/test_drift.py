"""Population stability index, Kolmogorov-Smirnov, and the threshold that knows the sample size."""

import math

import numpy as np
import pandas as pd
import pytest
import scipy.stats

from freshline.runs.metrics import Histogram, drift_table, ks_statistic, psi, psi_threshold
from freshline.storage.errors import InvalidInput

BINS = 10


def _sample(seed: int, count: int, *, mean: float = 0.0) -> np.ndarray:
    return np.random.default_rng(seed).normal(mean, 1.0, count)


@pytest.mark.parametrize(("reference", "sample"), [(0, 10), (10, 0), (-1, 10), (math.nan, 10)])
def test_psi_threshold_without_rows_is_refused(reference: float, sample: float) -> None:
    with pytest.raises(InvalidInput, match="must both be above 0"):
        psi_threshold(reference, sample, BINS)


def test_psi_threshold_with_one_bin_is_refused() -> None:
    with pytest.raises(InvalidInput, match="bins=1"):
        psi_threshold(100, 100, 1)


@pytest.mark.parametrize("false_alarm", [0.0, 1.0, -0.1, math.nan])
def test_psi_threshold_with_an_impossible_false_alarm_rate_is_refused(false_alarm: float) -> None:
    with pytest.raises(InvalidInput, match="false_alarm"):
        psi_threshold(100, 100, BINS, false_alarm)


def test_drift_table_without_a_reference_is_refused() -> None:
    with pytest.raises(InvalidInput, match=r"Histogram\.from_sample"):
        drift_table({}, pd.DataFrame({"x": [1.0]}))


def test_drift_table_with_an_absent_column_is_refused() -> None:
    with pytest.raises(InvalidInput, match=r"no column 'x', which the reference has; it has \['y'\]"):
        drift_table({"x": Histogram.from_sample([1.0, 2.0])}, pd.DataFrame({"y": [1.0]}))


def test_drift_table_with_text_is_refused() -> None:
    with pytest.raises(InvalidInput, match="the sample must be numbers only"):
        drift_table({"x": Histogram.from_sample([1.0, 2.0])}, pd.DataFrame({"x": ["a"]}))


@pytest.mark.parametrize("overlap", [0.0, 0.5, math.nan])
def test_drift_table_with_an_impossible_overlap_is_refused(overlap: float) -> None:
    with pytest.raises(InvalidInput, match="overlap"):
        drift_table({"x": Histogram.from_sample([1.0, 2.0])}, pd.DataFrame({"x": [1.0]}), overlap=overlap)


def test_psi_follows_by_hand() -> None:
    reference = Histogram(edges=(0.0,), counts=(6, 2), low_quartile=-1.0, high_quartile=1.0)

    # p = 6.5/9, 2.5/9; of two values below and two above q = 2.5/5, 2.5/5:
    # (0.7222 - 0.5) ln(0.7222 / 0.5) + (0.2778 - 0.5) ln(0.2778 / 0.5) = 0.081716 + 0.130620
    assert psi(reference, [-1.0, -2.0, 1.0, 2.0]) == pytest.approx(0.212336, abs=2e-6)


def test_psi_of_an_equal_distribution_is_zero() -> None:
    reference = Histogram.from_sample(np.arange(100.0))

    assert psi(reference, np.arange(100.0)) == pytest.approx(0.0, abs=1e-15)


def test_psi_of_an_empty_bin_is_finite() -> None:
    assert 0.0 < psi(Histogram.from_sample(np.arange(100.0)), [-5.0] * 50) < math.inf


@pytest.mark.parametrize("sample", [[], [math.nan]])
def test_psi_and_ks_of_no_value_are_nan(sample: list[float]) -> None:
    reference = Histogram.from_sample(np.arange(100.0))

    assert math.isnan(psi(reference, sample))
    assert math.isnan(ks_statistic(reference, sample))
    assert math.isnan(ks_statistic(np.arange(10.0), sample))


def test_psi_notices_a_constant_that_changed() -> None:
    reference = Histogram.from_sample([1.0] * 200)

    assert psi(reference, [1.0] * 50) < psi_threshold(200, 50, 3)
    assert psi(reference, [2.0] * 50) > psi_threshold(200, 50, 3)


@pytest.mark.parametrize("degrees", [1, 2, 3, 4, 9, 19, 99])
@pytest.mark.parametrize("false_alarm", [0.1, 0.05, 0.01, 0.001])
def test_psi_threshold_is_near_the_exact_quantile(degrees: int, false_alarm: float) -> None:
    exact = (1 / 300 + 1 / 60) * scipy.stats.chi2.ppf(1 - false_alarm, degrees)

    # Wilson and Hilferty's approximation is weakest with one degree of freedom, far out in the tail.
    tolerance = 0.01 if degrees >= 9 else 0.031
    assert psi_threshold(300, 60, degrees + 1, false_alarm) == pytest.approx(exact, rel=tolerance)


def _false_alarms(rows: int, *, checks: int) -> tuple[float, float]:
    """Return the shares of checks without drift that the calibrated threshold and the fixed 0.1 call drift."""
    calibrated, fixed = 0, 0
    threshold = psi_threshold(rows, rows, BINS, 0.01)
    generator = np.random.default_rng(rows)
    for _ in range(checks):
        index = psi(Histogram.from_sample(generator.standard_normal(rows)), generator.standard_normal(rows))
        calibrated += index > threshold
        fixed += index > 0.1
    return calibrated / checks, fixed / checks


@pytest.mark.parametrize(("rows", "least", "most"), [(60, 0.85, 1.0), (250, 0.10, 0.35), (1_000, 0.0, 0.001)])
def test_psi_threshold_keeps_its_false_alarm_rate_where_a_fixed_one_does_not(
    rows: int, least: float, most: float
) -> None:
    calibrated, fixed = _false_alarms(rows, checks=1_500)

    # 1 % of 1,500 checks is 15 ± 3.9; 60 rows are few for the approximation, which is then a little cautious.
    assert 0.002 <= calibrated <= 0.02
    assert least <= fixed <= most


@pytest.mark.parametrize(("rows", "shift"), [(60, 1.0), (250, 0.5), (1_000, 0.25)])
def test_psi_threshold_finds_real_drift_that_is_large_for_the_sample(rows: int, shift: float) -> None:
    threshold = psi_threshold(rows, rows, BINS)

    found = [
        psi(Histogram.from_sample(_sample(seed, rows)), _sample(1_000 + seed, rows, mean=shift)) > threshold
        for seed in range(100)
    ]

    assert np.mean(found) > 0.75


@pytest.mark.parametrize(("first", "second"), [(50, 80), (1_000, 30), (7, 7)])
def test_ks_statistic_of_two_samples_equals_scipy(first: int, second: int) -> None:
    one, two = _sample(1, first).round(1), _sample(2, second, mean=0.3).round(1)

    assert ks_statistic(one, two) == pytest.approx(scipy.stats.ks_2samp(one, two).statistic, abs=1e-12)


def test_ks_statistic_against_a_histogram_is_the_distance_at_its_edges() -> None:
    reference = Histogram(edges=(0.0, 1.0), counts=(5, 3, 2), low_quartile=0.0, high_quartile=1.0)

    # Cumulative 0.5, 0.8, 1 against 0.25, 0.75, 1.
    assert ks_statistic(reference, [-1.0, 0.5, 0.7, 3.0]) == pytest.approx(0.25)


def test_ks_statistic_against_a_histogram_is_near_the_exact_one() -> None:
    one, two = _sample(1, 2_000), _sample(2, 500, mean=0.4)
    exact = ks_statistic(one, two)

    binned = ks_statistic(Histogram.from_sample(one, bins=20), two)

    assert exact - 1 / 20 <= binned <= exact


def test_drift_table_tells_the_drifted_column() -> None:
    reference = {name: Histogram.from_sample(_sample(seed, 1_000)) for seed, name in enumerate(["same", "moved"])}
    recent = pd.DataFrame({"moved": _sample(5, 250, mean=1.0), "same": _sample(6, 250), "other": "text"})
    recent.loc[:9, "same"] = math.nan

    table = drift_table(reference, recent)

    assert list(table["feature"]) == ["same", "moved"]
    assert list(table["rows"]) == [240, 250]
    assert list(table["is_drifted"]) == [False, True]
    np.testing.assert_allclose(table["drift_score"], table["psi"] / table["psi_threshold"])
    # Two columns share the false alarm of 1 %.
    assert table["psi_threshold"][1] == pytest.approx(psi_threshold(1_000, 250, BINS, 0.005))
    assert [str(kind) for kind in table.dtypes[1:]] == ["int64", "float64", "float64", "float64", "float64", "bool"]


def test_drift_table_of_a_column_without_values_has_no_score_and_no_alarm() -> None:
    table = drift_table({"x": Histogram.from_sample([1.0, 2.0])}, pd.DataFrame({"x": [math.nan]}))

    assert math.isnan(table["drift_score"][0])
    assert not table["is_drifted"][0]


def test_drift_table_with_overlapping_windows_waits_for_more_evidence() -> None:
    """Means over 21 rows, one per row, repeat each other: counted as independent rows they drift for ever."""
    generator = np.random.default_rng(3)
    alarms = {1.0: 0, 21.0: 0}
    for _ in range(60):
        noise = pd.Series(generator.standard_normal(1_300)).rolling(21).mean().dropna()
        reference, recent = {"x": Histogram.from_sample(noise[:1_000])}, pd.DataFrame({"x": noise[1_020:]})
        for overlap in alarms:
            alarms[overlap] += int(drift_table(reference, recent, overlap=overlap)["is_drifted"].sum())

    assert alarms[1.0] > 40
    assert alarms[21.0] <= 1
