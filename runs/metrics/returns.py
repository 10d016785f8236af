"""The arithmetic on a series of simple returns, and what a usable series is.

Pure functions on float64 arrays without NaN; must not know metrics classes. Where `empyrical-reloaded` has the same
statistic the values agree, the undefined cases included. None of them warns.
"""

from typing import Any

import numpy as np
import pandas as pd

from ...storage.errors import InvalidInput
from .model import Convention, Missing
from .moments import Array, numbers, std

NAN = float("nan")
_REGAINED = 1e-12  # relative: a peak that is missed by rounding alone is regained
_SPACING_ROWS = 20  # fewer rows say too little about their spacing


def clean(returns: Any, convention: Convention, *, what: str = "the returns") -> pd.Series:
    """Return the series as float64 without NaN, treated as `convention.missing` says; the index is kept.

    Raises:
        InvalidInput: NaN that may not be there, an infinite return, an index that is not ascending, or dates whose
            spacing contradicts `periods_per_year` by more than a factor of 2.
    """
    given = returns if isinstance(returns, pd.Series) else pd.Series(returns, dtype=object)
    index = given.index
    if not (index.is_monotonic_increasing and index.is_unique):
        raise InvalidInput(
            f"{what} must have an ascending index without repeated dates: sort them and drop repetitions"
        )
    series = pd.Series(numbers(given, what), index=index)
    endless = series.index[np.isinf(series.to_numpy())]
    if len(endless):
        raise InvalidInput(
            f"{what} are infinite on {_dates(endless)}: a price of 0 before? Leave that asset out or fix it"
        )
    _check_spacing(index, convention, what)
    if len(series) and np.isnan(series.iloc[0]) and convention.missing is not Missing.ZERO:
        series = series.iloc[1:]  # what pct_change leaves: no return yet
    absent = series.index[series.isna()]
    if len(absent) and convention.missing is Missing.REFUSE:
        raise InvalidInput(
            f"{what} have {len(absent)} missing of {len(series)}, on {_dates(absent)}: fill them, or say with "
            f"Convention(missing='drop') or Convention(missing='zero') what they mean"
        )
    return series.fillna(0.0) if convention.missing is Missing.ZERO else series.dropna()


def clean_benchmark(benchmark: Any, returns: pd.Series, convention: Convention) -> pd.Series:
    """Return the benchmark's returns on exactly the dates of `returns`.

    Raises:
        InvalidInput: it lacks one of these dates, or is not usable itself.
    """
    what = "the benchmark's returns"
    given = benchmark if isinstance(benchmark, pd.Series) else pd.Series(benchmark, index=returns.index, dtype=object)
    absent = returns.index.difference(given.index)
    if len(absent):
        raise InvalidInput(
            f"the benchmark has no return on {len(absent)} of the {len(returns)} dates, {_dates(absent)}: "
            f"cut the returns to the dates that both have, or complete the benchmark"
        )
    if not given.index.is_unique:
        raise InvalidInput(f"{what} have repeated dates: drop repetitions")
    matched = pd.Series(numbers(given.reindex(returns.index), what), index=returns.index)
    unusable = matched.index[~np.isfinite(matched.to_numpy())]
    if convention.missing is Missing.ZERO:
        matched = matched.fillna(0.0)
        unusable = matched.index[~np.isfinite(matched.to_numpy())]
    if len(unusable):
        raise InvalidInput(
            f"{what} are missing or infinite on {_dates(unusable)}, where the strategy has a return: fill them"
        )
    return matched


def total_return(r: Array) -> float:
    """Return Π (1 + r) − 1; NaN for an empty series."""
    return _growth(r) - 1.0 if r.size else NAN


def cagr(r: Array, periods_per_year: float) -> float:
    """Return the growth per year; NaN for an empty series, or when wealth ended below 0."""
    growth = _growth(r)
    if not r.size or growth < 0.0:
        return NAN
    with np.errstate(over="ignore"):
        return float(np.float64(growth) ** (1.0 / (r.size / periods_per_year)) - 1.0)


def volatility(r: Array, periods_per_year: float, *, ddof: int) -> float:
    """Return std(r) · √periods_per_year; NaN for fewer than two returns."""
    return std(r, ddof=ddof) * float(np.sqrt(periods_per_year)) if r.size >= 2 else NAN


def ratio_of_mean_to_std(excess: Array, periods_per_year: float, *, ddof: int) -> float:
    """Return mean / std · √periods_per_year: the Sharpe ratio of excess returns, the information ratio of active ones.

    Without variance ±inf by the sign of the mean, NaN when that is 0; NaN for fewer than two returns.
    """
    if excess.size < 2:
        return NAN
    return _quotient(float(excess.mean()), std(excess, ddof=ddof)) * float(np.sqrt(periods_per_year))


def sortino_ratio(excess: Array, periods_per_year: float) -> float:
    """Return mean / root mean square of the losses, annualised; inf without losses, NaN below two returns."""
    if excess.size < 2:
        return NAN
    downside = float(np.sqrt((np.minimum(excess, 0.0) ** 2).mean()))
    return _quotient(float(excess.mean()), downside) * float(np.sqrt(periods_per_year))


def calmar_ratio(r: Array, periods_per_year: float) -> float:
    """Return cagr / |max_drawdown|; NaN without a drawdown, or when it would be infinite."""
    deepest = max_drawdown(r)
    value = cagr(r, periods_per_year) / abs(deepest) if deepest < 0.0 else NAN
    return value if np.isfinite(value) else NAN


def drawdowns(r: Array) -> Array:
    """Return wealth / highest wealth so far − 1 for each return; wealth starts at 1."""
    with np.errstate(all="ignore"):
        wealth = np.concatenate([[1.0], np.cumprod(1.0 + r)])
        return np.asarray(wealth / np.maximum.accumulate(wealth) - 1.0, dtype=np.float64)[1:]


def max_drawdown(r: Array) -> float:
    """Return the deepest drawdown, not above 0; NaN for an empty series."""
    return float(drawdowns(r).min()) if r.size else NAN


def avg_drawdown(r: Array) -> float:
    """Return the mean of the deepest points of all drawdowns, 0 without any; NaN for an empty series."""
    if not r.size:
        return NAN
    depth = drawdowns(r)
    troughs = [depth[start:end].min() for start, end in _episodes(depth)]
    return float(np.mean(troughs)) if troughs else 0.0


def drawdown_duration(r: Array) -> float:
    """Return the length in rows of the longest drawdown, 0 without any; NaN for an empty series."""
    if not r.size:
        return NAN
    return float(max((end - start for start, end in _episodes(drawdowns(r))), default=0))


def value_at_risk(r: Array, cutoff: float = 0.05) -> float:
    """Return the `cutoff` quantile of the returns, interpolated linearly; NaN for an empty series."""
    return float(np.percentile(r, 100.0 * cutoff)) if r.size else NAN


def conditional_value_at_risk(r: Array, cutoff: float = 0.05) -> float:
    """Return the mean of the ⌊(n − 1) · cutoff⌋ + 1 lowest returns; NaN for an empty series."""
    if not r.size:
        return NAN
    last = int((r.size - 1) * cutoff)
    return float(np.partition(r, last)[: last + 1].mean())


def beta(r: Array, b: Array) -> float:
    """Return cov(r, b) / var(b); NaN below two returns or without variance of b."""
    if r.size < 2:
        return NAN
    residual = b - b.mean()
    variance = float((residual**2).mean())
    return float((residual * r).mean()) / variance if variance >= 1e-30 else NAN


def alpha(excess: Array, benchmark_excess: Array, periods_per_year: float) -> float:
    """Return the mean of what beta does not explain, compounded over a year; NaN where beta is."""
    if excess.size < 2:
        return NAN
    unexplained = float((excess - beta(excess, benchmark_excess) * benchmark_excess).mean())
    with np.errstate(all="ignore"):
        return float(np.power(np.float64(1.0 + unexplained), periods_per_year) - 1.0)


def _growth(r: Array) -> float:
    with np.errstate(all="ignore"):
        return float(np.prod(1.0 + r))


def _quotient(part: float, whole: float) -> float:
    if whole != 0.0:
        return part / whole
    return part * float("inf")  # the infinity of part's sign; 0 * inf is NaN


def _episodes(depth: Array) -> list[tuple[int, int]]:
    """Return (start, end) of each unbroken run of rows below an earlier peak; `end` is exclusive."""
    below = np.concatenate([[False], depth < -_REGAINED, [False]]).astype(np.int8)
    steps = np.diff(below)
    starts, ends = np.flatnonzero(steps == 1), np.flatnonzero(steps == -1)
    return [(int(start), int(end)) for start, end in zip(starts, ends, strict=True)]


def _check_spacing(index: pd.Index, convention: Convention, what: str) -> None:
    if not isinstance(index, pd.DatetimeIndex) or len(index) < _SPACING_ROWS:
        return
    years = (index[-1] - index[0]) / pd.Timedelta(days=365.25)
    observed = (len(index) - 1) / years
    stated = convention.periods_per_year
    if not 0.5 <= observed / stated <= 2.0:
        raise InvalidInput(
            f"{what} have about {observed:,.0f} rows per year, but periods_per_year is {stated:g}: "
            f"set Convention(periods_per_year=…) to what one row is, or resample the returns"
        )


def _dates(index: pd.Index) -> str:
    shown = [str(label.date()) if isinstance(label, pd.Timestamp) else str(label) for label in index[:3]]
    return ", ".join(shown) + (f" and {len(index) - 3} more" if len(index) > 3 else "")
