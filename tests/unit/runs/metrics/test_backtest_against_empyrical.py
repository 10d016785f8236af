"""Every backtest metric that empyrical has agrees with it to 1e-9 on the same returns, with the same conventions."""

import warnings
from collections.abc import Callable
from typing import Any

import empyrical
import numpy as np
import pandas as pd
import pytest

from freshline.runs.metrics import BacktestMetrics, Convention, Missing, RiskFreeBasis, backtest_metrics

Equal = Callable[[pd.Series, pd.Series, float, float], float]

# name -> the same by empyrical, of returns, benchmark, risk-free rate of a period and periods per year.
PEERS: dict[str, Equal] = {
    "total_return": lambda r, b, rf, p: empyrical.cum_returns_final(r),
    "cagr": lambda r, b, rf, p: empyrical.cagr(r, annualization=p),
    "volatility": lambda r, b, rf, p: empyrical.annual_volatility(r, annualization=p),
    "sharpe_ratio": lambda r, b, rf, p: empyrical.sharpe_ratio(r, risk_free=rf, annualization=p),
    "sortino_ratio": lambda r, b, rf, p: empyrical.sortino_ratio(r, required_return=rf, annualization=p),
    "calmar_ratio": lambda r, b, rf, p: empyrical.calmar_ratio(r, annualization=p),
    "max_drawdown": lambda r, b, rf, p: empyrical.max_drawdown(r),
    "var_95": lambda r, b, rf, p: empyrical.value_at_risk(r, cutoff=0.05),
    "cvar_95": lambda r, b, rf, p: empyrical.conditional_value_at_risk(r, cutoff=0.05),
    "alpha": lambda r, b, rf, p: empyrical.alpha(r, b, risk_free=rf, annualization=p),
    "beta": lambda r, b, rf, p: empyrical.beta(r, b, risk_free=rf),
    # empyrical calls it the excess Sharpe ratio and does not annualise it.
    "information_ratio": lambda r, b, rf, p: empyrical.excess_sharpe(r, b) * np.sqrt(p),
    # The volatility of the active returns; empyrical has no name of its own for it.
    "tracking_error": lambda r, b, rf, p: empyrical.annual_volatility(r - b, annualization=p),
}
# What empyrical does not have is held against arithmetic by hand, in test_backtest_by_hand and test_sharpe.
BY_HAND = {
    "avg_drawdown",
    "drawdown_duration_d",
    "num_trades",
    "win_rate",
    "profit_factor",
    "avg_trade_return",
    "turnover",
    "avg_holding_period_d",
    "probabilistic_sharpe_ratio",
}

CONVENTIONS = {
    "daily": Convention(),
    "calendar-days": Convention(periods_per_year=365, calendar=None),
    "risk-free": Convention(risk_free_rate=0.03),
    "risk-free-simple": Convention(risk_free_rate=0.03, risk_free_basis=RiskFreeBasis.ANNUAL_SIMPLE),
    "risk-free-daily": Convention(risk_free_rate=1e-4, risk_free_basis=RiskFreeBasis.PER_PERIOD),
}


def _days(count: int) -> pd.DatetimeIndex:
    return pd.bdate_range("2015-01-01", periods=count)


def _noise(seed: int, count: int, *, tails: float = 30.0, mean: float = 3e-4) -> pd.Series:
    generator = np.random.default_rng(seed)
    return pd.Series(mean + 0.01 * generator.standard_t(tails, count), index=_days(count))


def _clustered(seed: int, count: int) -> pd.Series:
    """Returns as markets have them: fat tails, calm and wild times, days without any move."""
    generator = np.random.default_rng(seed)
    scale, returns = 0.01, []
    for shock in generator.standard_t(4, count):
        returns.append(scale * float(shock))
        scale = np.sqrt(2e-6 + 0.9 * scale**2 + 0.05 * min(returns[-1] ** 2, 0.01))
    series = pd.Series(returns, index=_days(count)).clip(lower=-0.2)
    series.iloc[::17] = 0.0
    return series


def _prices() -> pd.Series:
    from skfolio.datasets import load_sp500_dataset

    return load_sp500_dataset()["JPM"].pct_change().iloc[1:]


SERIES: dict[str, Callable[[], pd.Series]] = {
    "normal": lambda: _noise(1, 1_000),
    "short": lambda: _noise(2, 30),
    "losing": lambda: _noise(3, 500, mean=-2e-3),
    "fat-tailed": lambda: _noise(4, 2_500, tails=2.5),
    "clustered": lambda: _clustered(5, 3_000),
    "stock": _prices,
    "two-days": lambda: pd.Series([0.01, -0.02], index=_days(2)),
    "one-day": lambda: pd.Series([0.01], index=_days(1)),
    "empty": lambda: pd.Series([], index=_days(0), dtype=float),
    "only-losses": lambda: -_noise(6, 200).abs() - 1e-6,
    "only-gains": lambda: _noise(7, 200).abs() + 1e-6,
    "constant": lambda: pd.Series(0.001, index=_days(50)),
    "constant-loss": lambda: pd.Series(-0.001, index=_days(50)),
    "all-zero": lambda: pd.Series(0.0, index=_days(50)),
    "ruin": lambda: pd.Series([0.01, -1.0, 0.02, 0.0], index=_days(4)),
}


def _benchmark(returns: pd.Series) -> pd.Series:
    generator = np.random.default_rng(99)
    return pd.Series(0.4 * returns + 0.008 * generator.standard_normal(len(returns)), index=returns.index)


def _by_empyrical(name: str, returns: pd.Series, benchmark: pd.Series, convention: Convention) -> float:
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")  # the peer's warnings, not ours
        return float(PEERS[name](returns, benchmark, convention.risk_free_per_period, convention.periods_per_year))


def test_backtest_metrics_are_each_compared_with_empyrical_or_by_hand() -> None:
    assert set(PEERS) | BY_HAND == set(BacktestMetrics.definitions())
    assert not set(PEERS) & BY_HAND


@pytest.mark.parametrize("convention", CONVENTIONS.values(), ids=CONVENTIONS.keys())
@pytest.mark.parametrize("make", SERIES.values(), ids=SERIES.keys())
def test_backtest_metrics_equal_empyrical(make: Callable[[], pd.Series], convention: Convention) -> None:
    returns = make()
    benchmark = _benchmark(returns)

    values = backtest_metrics(returns, benchmark=benchmark, convention=convention).values()

    expected = {name: _by_empyrical(name, returns, benchmark, convention) for name in PEERS}
    assert {name: values[name] for name in PEERS} == pytest.approx(expected, rel=1e-9, abs=1e-12, nan_ok=True)


@pytest.mark.parametrize("benchmark", [0.0, 0.002], ids=["zero", "constant"])
def test_backtest_metrics_with_a_constant_benchmark_equal_empyrical(benchmark: float) -> None:
    returns = _noise(8, 300)
    flat = pd.Series(benchmark, index=returns.index)

    values = backtest_metrics(returns, benchmark=flat).values()

    names = ("alpha", "beta", "information_ratio", "tracking_error")
    expected = {name: _by_empyrical(name, returns, flat, Convention()) for name in names}
    assert {name: values[name] for name in names} == pytest.approx(expected, rel=1e-9, abs=1e-12, nan_ok=True)
    assert np.isnan(values["beta"])


def test_backtest_metrics_against_itself_equal_empyrical() -> None:
    returns = _noise(9, 300)

    values = backtest_metrics(returns, benchmark=returns).values()

    assert values["beta"] == pytest.approx(1.0, rel=1e-12)
    assert values["alpha"] == pytest.approx(0.0, abs=1e-12)
    assert values["tracking_error"] == 0.0
    assert np.isnan(values["information_ratio"])
    assert np.isnan(_by_empyrical("information_ratio", returns, returns, Convention()))


def _with_gaps(returns: pd.Series) -> pd.Series:
    broken = returns.copy()
    broken.iloc[[0, 5, 6, 90, -1]] = np.nan
    return broken


@pytest.mark.parametrize("missing", [Missing.DROP, Missing.ZERO])
def test_backtest_metrics_of_gaps_equal_empyrical_on_the_series_that_the_convention_means(missing: Missing) -> None:
    gaps = _with_gaps(_noise(10, 400))
    benchmark = _benchmark(_noise(10, 400))
    meant = gaps.dropna() if missing is Missing.DROP else gaps.fillna(0.0)

    values = backtest_metrics(gaps, benchmark=benchmark, convention=Convention(missing=missing)).values()

    expected = {name: _by_empyrical(name, meant, benchmark.loc[meant.index], Convention()) for name in PEERS}
    assert {name: values[name] for name in PEERS} == pytest.approx(expected, rel=1e-9, abs=1e-12)


def test_backtest_metrics_of_dropped_gaps_equal_what_empyrical_skips() -> None:
    """empyrical skips NaN in these; in the others it counts the gaps as time, or gives NaN."""
    gaps = _with_gaps(_noise(11, 400))

    values = backtest_metrics(gaps, convention=Convention(missing=Missing.DROP)).values()

    names = ("total_return", "volatility", "sharpe_ratio", "sortino_ratio", "max_drawdown", "cvar_95")
    expected = {name: _by_empyrical(name, gaps, gaps, Convention()) for name in names}
    assert {name: values[name] for name in names} == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("seed", range(40))
def test_backtest_metrics_of_any_random_series_equal_empyrical(seed: int) -> None:
    generator = np.random.default_rng(1_000 + seed)
    count = int(generator.integers(2, 800))
    scale = float(10.0 ** generator.uniform(-5, -1.3))
    returns = pd.Series(np.maximum(scale * generator.standard_t(3, count), -0.99), index=_days(count))
    benchmark = _benchmark(returns)
    convention = Convention(risk_free_rate=float(generator.uniform(-0.01, 0.05)))

    values: dict[str, Any] = backtest_metrics(returns, benchmark=benchmark, convention=convention).values()

    expected = {name: _by_empyrical(name, returns, benchmark, convention) for name in PEERS}
    assert {name: values[name] for name in PEERS} == pytest.approx(expected, rel=1e-9, abs=1e-13, nan_ok=True)
