"""The probabilistic and the deflated Sharpe ratio, against the papers' own examples and arithmetic that is shown."""

import math
from statistics import NormalDist

import numpy as np
import pandas as pd
import pytest
import scipy.stats

from freshline.runs.metrics import Convention, backtest_metrics, deflated_sharpe_ratio, probabilistic_sharpe_ratio
from freshline.runs.metrics.sharpe import expected_best, probability_above
from freshline.storage.errors import InvalidInput


def _returns(seed: int = 0, count: int = 500, mean: float = 5e-4) -> pd.Series:
    generator = np.random.default_rng(seed)
    return pd.Series(mean + 0.01 * generator.standard_t(5, count), index=pd.bdate_range("2020-01-01", periods=count))


def test_deflated_sharpe_ratio_with_a_trial_that_is_no_number_is_refused() -> None:
    with pytest.raises(InvalidInput, match="the Sharpe ratios of the trials must be numbers only"):
        deflated_sharpe_ratio(_returns(), ["good"])  # type: ignore[list-item]  # that is the point


def test_probabilistic_sharpe_ratio_of_unusable_returns_is_refused() -> None:
    with pytest.raises(InvalidInput, match="1 missing of 3"):
        probabilistic_sharpe_ratio(pd.Series([0.1, math.nan, 0.2]))


def test_probability_equals_the_example_of_the_2012_paper() -> None:
    # 24 monthly returns, Sharpe ratio 0.458 a month, skewness -2.448, kurtosis 10.164: 0.913;
    # had they been normal, 0.982.
    skewed = probability_above(0.458, 0.0, observations=24, skewness=-2.448, kurtosis=10.164)
    normal = probability_above(0.458, 0.0, observations=24, skewness=0.0, kurtosis=3.0)

    assert skewed == pytest.approx(0.913, abs=5e-4)
    assert normal == pytest.approx(0.982, abs=5e-4)


def test_deflation_equals_the_example_of_the_2014_paper() -> None:
    # 5 years of 250 days, annual Sharpe ratio 2.5, skewness -3, kurtosis 10; the best of 100 trials whose annual Sharpe
    # ratios have variance 1/2. Benchmark 0.1132 a day, deflated Sharpe ratio 0.9004.
    trials = np.array([-1.0, 1.0] * 50)
    trials *= math.sqrt(0.5) / trials.std(ddof=1)
    benchmark = expected_best(trials) / math.sqrt(250)

    deflated = probability_above(2.5 / math.sqrt(250), benchmark, observations=1250, skewness=-3.0, kurtosis=10.0)

    assert benchmark == pytest.approx(0.1132, abs=5e-5)
    assert deflated == pytest.approx(0.9004, abs=5e-5)


def test_probabilistic_sharpe_ratio_equals_its_formula_with_scipys_moments() -> None:
    convention = Convention(risk_free_rate=0.02)
    excess = _returns().to_numpy() - (1.02 ** (1 / 252) - 1)
    sharpe = excess.mean() / excess.std(ddof=1)
    skewness, kurtosis = scipy.stats.skew(excess), scipy.stats.kurtosis(excess, fisher=False)
    spread = math.sqrt(1 - skewness * sharpe + (kurtosis - 1) / 4 * sharpe**2)
    expected = NormalDist().cdf((sharpe - 0.5 / math.sqrt(252)) * math.sqrt(499) / spread)

    computed = probabilistic_sharpe_ratio(_returns(), benchmark_sharpe=0.5, convention=convention)

    assert computed == pytest.approx(expected, rel=1e-12)


def test_probabilistic_sharpe_ratio_of_a_symmetric_series_follows_by_hand() -> None:
    # Returns 3, 1, -1, 1 %: mean 0.01; deviations 2, 0, -2, 0 %; std (ddof 1) = √(8 / 3) %; SR = √(3 / 8) = 0.612372.
    # Skewness 0; kurtosis = (32 / 4) / (8 / 4)² = 2. z = SR √3 / √(1 + (2 - 1) / 4 · 3 / 8) = 1.060660 / 1.045825
    # = 1.014185; from the table Φ(1.01) = 0.843752, and 0.239551 · 0.004185 - 0.000002 more: 0.844753.
    metrics = backtest_metrics(pd.Series([0.03, 0.01, -0.01, 0.01]))

    assert metrics.probabilistic_sharpe_ratio == pytest.approx(0.844753, abs=1e-6)


def test_deflated_sharpe_ratio_of_a_single_trial_is_the_probabilistic_one() -> None:
    assert deflated_sharpe_ratio(_returns(), [1.3]) == probabilistic_sharpe_ratio(_returns())
    assert deflated_sharpe_ratio(_returns(), []) == probabilistic_sharpe_ratio(_returns())


def test_deflated_sharpe_ratio_falls_with_the_number_of_trials() -> None:
    generator = np.random.default_rng(1)
    trials = generator.normal(0.0, 0.5, 1_000)

    found = [deflated_sharpe_ratio(_returns(), trials[:count]) for count in (5, 50, 1_000)]

    assert probabilistic_sharpe_ratio(_returns()) > found[0] > found[1] > found[2]


def test_deflated_sharpe_ratio_counts_a_trial_without_a_sharpe_ratio() -> None:
    trials = [0.1, 0.5, -0.3, 0.9]

    assert deflated_sharpe_ratio(_returns(), [*trials, math.nan]) < deflated_sharpe_ratio(_returns(), trials)


def test_expected_best_is_near_the_mean_of_simulated_maxima() -> None:
    generator = np.random.default_rng(2)
    maxima = generator.normal(0.0, 1.0, (4_000, 50)).max(axis=1)
    trials = np.array([-1.0, 1.0] * 25)

    # The closed form is an approximation: within 2 % here.
    assert expected_best(trials / trials.std(ddof=1)) == pytest.approx(maxima.mean(), rel=0.02)


@pytest.mark.parametrize(
    ("sharpe", "skewness", "kurtosis", "observations"),
    [
        (math.nan, 0.0, 3.0, 10),
        (math.inf, 0.0, 3.0, 10),
        (1.0, math.nan, 3.0, 10),
        # (1 - γ₃ / 2 · SR)² = 0: a series of two values
        (1.0, 2.0, 5.0, 10),
        (1.0, 0.0, 3.0, 1),
    ],
)
def test_probability_of_what_is_undefined_is_nan(
    sharpe: float, skewness: float, kurtosis: float, observations: int
) -> None:
    found = probability_above(sharpe, 0.0, observations=observations, skewness=skewness, kurtosis=kurtosis)

    assert math.isnan(found)
