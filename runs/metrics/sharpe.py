"""How far a Sharpe ratio can be believed: its probability, and its deflation by the number of trials.

Pure functions; must not know where trials are recorded.
"""

from collections.abc import Iterable
from statistics import NormalDist
from typing import Any

import numpy as np

from .model import DAILY, Convention
from .moments import Array, kurtosis, numbers, skewness
from .returns import clean, ratio_of_mean_to_std

NAN = float("nan")
_EULER = float(np.euler_gamma)


def probabilistic_sharpe_ratio(returns: Any, *, benchmark_sharpe: float = 0.0, convention: Convention = DAILY) -> float:
    """Return the probability that the true Sharpe ratio exceeds `benchmark_sharpe` (annualised); NaN without variance.

    Source: Bailey & López de Prado, "The Sharpe Ratio Efficient Frontier", Journal of Risk 15(2), 2012.

    Raises:
        InvalidInput: the returns are not usable, see `returns.clean`.
    """
    excess = clean(returns, convention).to_numpy() - convention.risk_free_per_period
    return probability_of_excess(excess, benchmark_sharpe=benchmark_sharpe, convention=convention)


def probability_of_excess(excess: Array, *, benchmark_sharpe: float = 0.0, convention: Convention = DAILY) -> float:
    """Return the same for returns that are in excess of the risk-free rate already, without NaN."""
    return probability_above(
        ratio_of_mean_to_std(excess, 1.0, ddof=convention.ddof),
        benchmark_sharpe / convention.periods_per_year**0.5,
        observations=excess.size,
        skewness=skewness(excess),
        kurtosis=kurtosis(excess),
    )


def deflated_sharpe_ratio(returns: Any, sharpe_of_trials: Iterable[float], *, convention: Convention = DAILY) -> float:
    """Return the probability that the true Sharpe ratio exceeds what the best of so many trials shows by luck alone.

    `sharpe_of_trials` are the Sharpe ratios of all trials of the same search, this one included, annualised as
    `sharpe_ratio` is recorded. A trial whose Sharpe ratio is NaN or infinite counts as a trial, not in the variance.

    Source: Bailey & López de Prado, "The Deflated Sharpe Ratio", Journal of Portfolio Management 40(5), 2014.

    Raises:
        InvalidInput: the returns are not usable, or a trial's Sharpe ratio is no number.
    """
    trials = numbers(list(sharpe_of_trials), "the Sharpe ratios of the trials")
    return probabilistic_sharpe_ratio(returns, benchmark_sharpe=expected_best(trials), convention=convention)


def expected_best(sharpe_of_trials: Array) -> float:
    """Return the expected highest of so many Sharpe ratios that are all 0 in truth; 0 for fewer than two trials."""
    finite = sharpe_of_trials[np.isfinite(sharpe_of_trials)]
    count = sharpe_of_trials.size
    if finite.size < 2:
        return 0.0
    quantile = NormalDist().inv_cdf
    luck = (1.0 - _EULER) * quantile(1.0 - 1.0 / count) + _EULER * quantile(1.0 - 1.0 / (count * np.e))
    return float(finite.std(ddof=1) * luck)


def probability_above(
    sharpe: float, benchmark_sharpe: float, *, observations: int, skewness: float, kurtosis: float
) -> float:
    """Return Φ((sharpe − benchmark) √(n − 1) / √(1 − γ₃ sharpe + (γ₄ − 1) / 4 · sharpe²)), all of one period.

    `kurtosis` is 3 for a normal distribution. NaN when any input is not finite or the root is not positive.
    """
    spread = 1.0 - skewness * sharpe + (kurtosis - 1.0) / 4.0 * sharpe**2
    if not np.isfinite([spread, benchmark_sharpe]).all() or spread <= 0.0 or observations < 2:
        return NAN
    return NormalDist().cdf((sharpe - benchmark_sharpe) * (observations - 1) ** 0.5 / spread**0.5)
