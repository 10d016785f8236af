"""Returns, benchmarks, trades and weights that cannot be used, and the series on the edge of it."""

import math

import numpy as np
import pandas as pd
import pytest

from freshline.runs.metrics import Convention, Missing, backtest_metrics
from freshline.storage.errors import InvalidInput


def _returns(*values: float) -> pd.Series:
    return pd.Series(values, index=pd.bdate_range("2024-01-01", periods=len(values)), dtype=float)


def test_returns_with_nan_inside_are_refused_with_the_dates() -> None:
    with pytest.raises(InvalidInput, match=r"1 missing of 3, on 2024-01-02: .*Convention\(missing='drop'\)"):
        backtest_metrics(_returns(0.01, math.nan, 0.02))


def test_returns_with_many_nan_name_the_first_three_dates() -> None:
    with pytest.raises(InvalidInput, match="on 2024-01-02, 2024-01-03, 2024-01-04 and 2 more"):
        backtest_metrics(_returns(0.01, *[math.nan] * 5))


def test_returns_of_nan_alone_are_refused() -> None:
    with pytest.raises(InvalidInput, match="2 missing of 2"):
        backtest_metrics(_returns(math.nan, math.nan, math.nan))


@pytest.mark.parametrize("value", [math.inf, -math.inf])
@pytest.mark.parametrize("missing", Missing)
def test_returns_that_are_infinite_are_refused_whatever_the_convention(value: float, missing: Missing) -> None:
    with pytest.raises(InvalidInput, match="infinite on 2024-01-02"):
        backtest_metrics(_returns(0.01, value), convention=Convention(missing=missing))


def test_returns_that_are_no_numbers_are_refused() -> None:
    with pytest.raises(InvalidInput, match="the returns must be numbers only"):
        backtest_metrics(pd.Series(["much", "little"]))


def test_returns_out_of_order_are_refused() -> None:
    with pytest.raises(InvalidInput, match="ascending index"):
        backtest_metrics(_returns(0.01, 0.02, 0.03).iloc[::-1])


def test_returns_with_a_repeated_date_are_refused() -> None:
    returns = _returns(0.01, 0.02)

    with pytest.raises(InvalidInput, match="repeated dates"):
        backtest_metrics(pd.concat([returns, returns]).sort_index())


def test_returns_with_a_missing_date_are_refused() -> None:
    index = pd.DatetimeIndex(["2024-01-01", None])

    with pytest.raises(InvalidInput, match="ascending index"):
        backtest_metrics(pd.Series([0.01, 0.02], index=index))


@pytest.mark.parametrize(
    ("frequency", "stated", "observed"), [("h", 252, "8,766"), ("W", 252, "52"), ("ME", 252, "12"), ("D", 12, "365")]
)
def test_returns_whose_spacing_contradicts_the_convention_are_refused(
    frequency: str, stated: float, observed: str
) -> None:
    index = pd.date_range("2020-01-01", periods=120, freq=frequency)

    with pytest.raises(InvalidInput, match=f"about {observed} rows per year, but periods_per_year is {stated}"):
        backtest_metrics(pd.Series(0.001, index=index), convention=Convention(periods_per_year=stated))


@pytest.mark.parametrize(("frequency", "stated"), [("B", 252), ("D", 365), ("D", 252), ("W", 52), ("ME", 12)])
def test_returns_whose_spacing_fits_the_convention_are_taken(frequency: str, stated: float) -> None:
    index = pd.date_range("2020-01-01", periods=120, freq=frequency)

    metrics = backtest_metrics(pd.Series(0.001, index=index), convention=Convention(periods_per_year=stated))

    assert metrics.cagr == pytest.approx(1.001**stated - 1.0)


def test_benchmark_that_lacks_dates_is_refused_with_the_dates() -> None:
    returns = _returns(0.01, 0.02, 0.03)

    with pytest.raises(InvalidInput, match="no return on 2 of the 3 dates, 2024-01-02, 2024-01-03"):
        backtest_metrics(returns, benchmark=returns.iloc[:1])


def test_benchmark_with_nan_on_a_needed_date_is_refused() -> None:
    with pytest.raises(InvalidInput, match="missing or infinite on 2024-01-02"):
        backtest_metrics(_returns(0.01, 0.02), benchmark=_returns(0.01, math.nan))


def test_benchmark_with_a_repeated_date_is_refused() -> None:
    returns = _returns(0.01, 0.02)

    with pytest.raises(InvalidInput, match="the benchmark's returns have repeated dates"):
        backtest_metrics(returns, benchmark=pd.concat([returns, returns]))


def test_benchmark_with_more_dates_in_another_order_is_matched_by_date() -> None:
    returns = _returns(0.01, 0.02, -0.01)
    longer = _returns(0.01, 0.02, -0.01, 0.5).iloc[::-1]

    assert backtest_metrics(returns, benchmark=longer).beta == pytest.approx(1.0)


def test_trades_without_a_return_column_are_refused() -> None:
    with pytest.raises(InvalidInput, match=r"no column 'return' .* they have \['pnl'\]"):
        backtest_metrics(_returns(0.01), trades=pd.DataFrame({"pnl": [1.0]}))


def test_trades_with_an_infinite_return_are_refused() -> None:
    with pytest.raises(InvalidInput, match="1 trades have an infinite return"):
        backtest_metrics(_returns(0.01), trades=pd.DataFrame({"return": [math.inf, 0.1]}))


def test_trades_in_another_time_zone_than_the_returns_are_refused() -> None:
    trades = pd.DataFrame(
        {
            "return": [0.1],
            "entry_date": pd.DatetimeIndex(["2024-01-01"], tz="UTC"),
            "exit_date": pd.DatetimeIndex(["2024-01-02"], tz="UTC"),
        }
    )

    with pytest.raises(InvalidInput, match="same time zone"):
        backtest_metrics(_returns(0.01, 0.02), trades=trades)


def test_weights_in_long_form_are_refused() -> None:
    with pytest.raises(InvalidInput, match="one row per rebalance date"):
        backtest_metrics(_returns(0.01), weights=pd.DataFrame({"w": [0.5, 0.5]}, index=[1, 1]))


def test_weights_that_are_infinite_are_refused() -> None:
    with pytest.raises(InvalidInput, match="infinite"):
        backtest_metrics(_returns(0.01), weights=pd.DataFrame({"a": [0.5, math.inf]}))


@pytest.mark.parametrize("value", [math.nan, math.inf, -0.1])
def test_turnover_that_cannot_be_is_refused(value: float) -> None:
    with pytest.raises(InvalidInput, match="missing, infinite or negative"):
        backtest_metrics(_returns(0.01), turnover=pd.Series([0.1, value]))


def test_returns_that_begin_with_one_nan_are_taken_without_it() -> None:
    with_first = backtest_metrics(_returns(math.nan, 0.01, -0.02)).values()

    assert with_first == pytest.approx(backtest_metrics(_returns(0.01, -0.02)).values(), nan_ok=True)


@pytest.mark.parametrize("returns", [_returns(), _returns(math.nan)], ids=["empty", "only-the-first-nan"])
def test_backtest_metrics_of_an_empty_series_are_all_nan(returns: pd.Series) -> None:
    values = backtest_metrics(returns, benchmark=returns).values()

    assert len(values) == 16
    assert all(math.isnan(value) for value in values.values())


def test_backtest_metrics_of_one_day_know_its_return_but_no_spread() -> None:
    metrics = backtest_metrics(_returns(-0.01))

    assert metrics.total_return == pytest.approx(-0.01)
    assert metrics.max_drawdown == pytest.approx(-0.01)
    assert metrics.drawdown_duration_d == 1.0
    assert metrics.var_95 == metrics.cvar_95 == -0.01
    undefined = (metrics.volatility, metrics.sharpe_ratio, metrics.sortino_ratio, metrics.probabilistic_sharpe_ratio)
    assert all(value is not None and math.isnan(value) for value in undefined)


def test_backtest_metrics_of_only_gains_have_no_drawdown_and_an_endless_sortino_ratio() -> None:
    metrics = backtest_metrics(_returns(0.01, 0.02, 0.01))

    assert metrics.max_drawdown == metrics.avg_drawdown == metrics.drawdown_duration_d == 0.0
    assert metrics.sortino_ratio == math.inf
    assert metrics.calmar_ratio is not None
    assert math.isnan(metrics.calmar_ratio)


def test_backtest_metrics_of_only_losses_are_under_water_throughout() -> None:
    metrics = backtest_metrics(_returns(-0.01, -0.02, -0.01))

    assert metrics.drawdown_duration_d == 3.0
    assert metrics.max_drawdown == metrics.avg_drawdown == metrics.total_return
    assert metrics.sharpe_ratio is not None
    assert metrics.sharpe_ratio < 0


@pytest.mark.parametrize(("value", "sharpe"), [(0.001, math.inf), (-0.001, -math.inf), (0.0, math.nan)])
def test_backtest_metrics_without_variance_have_an_endless_or_undefined_sharpe_ratio(
    value: float, sharpe: float
) -> None:
    metrics = backtest_metrics(_returns(*[value] * 30))

    assert metrics.sharpe_ratio == pytest.approx(sharpe, nan_ok=True)
    assert metrics.volatility == 0.0
    assert metrics.probabilistic_sharpe_ratio is not None
    assert math.isnan(metrics.probabilistic_sharpe_ratio)


def test_backtest_metrics_after_losing_more_than_everything_have_no_growth_rate() -> None:
    metrics = backtest_metrics(_returns(0.1, -1.5, 0.1))

    assert metrics.total_return == pytest.approx(1.1 * -0.5 * 1.1 - 1.0)
    assert metrics.cagr is not None
    assert math.isnan(metrics.cagr)
    assert metrics.calmar_ratio is not None
    assert math.isnan(metrics.calmar_ratio)


def test_backtest_metrics_beyond_the_range_of_floats_are_infinite_without_a_warning() -> None:
    metrics = backtest_metrics(_returns(*[1e200] * 2, -0.5))

    assert metrics.total_return == math.inf
    assert metrics.cagr == math.inf


def test_backtest_metrics_do_not_change_their_input() -> None:
    returns = _returns(math.nan, 0.01, math.nan, 0.02)
    before = returns.copy()

    backtest_metrics(returns, convention=Convention(missing=Missing.ZERO))

    pd.testing.assert_series_equal(returns, before)


def test_backtest_metrics_of_a_plain_array_are_those_of_the_series() -> None:
    values = np.array([0.01, -0.02, 0.03])

    plain = backtest_metrics(values)  # type: ignore[arg-type]  # an array has no dates, and needs none

    assert plain.values() == backtest_metrics(_returns(*values)).values()
