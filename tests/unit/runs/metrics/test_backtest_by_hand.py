"""Backtest metrics that no library has, against arithmetic that is shown."""

import math
from itertools import pairwise

import pandas as pd
import pytest

from freshline.runs.metrics import Convention, backtest_metrics

DAYS = pd.bdate_range("2024-01-01", periods=8)


def _returns(*values: float) -> pd.Series:
    return pd.Series(values, index=DAYS[: len(values)], dtype=float)


def test_drawdowns_are_averaged_by_their_deepest_points() -> None:
    # wealth       1.10  0.99  0.88  1.10  1.21   1.089  1.21  1.21
    # peak         1.10  1.10  1.10  1.10  1.21   1.21   1.21  1.21
    # drawdown     0    -0.10 -0.20  0     0     -0.10   0     0
    wealth = [1.0, 1.10, 0.99, 0.88, 1.10, 1.21, 1.089, 1.21, 1.21]
    returns = _returns(*[after / before - 1 for before, after in pairwise(wealth)])

    metrics = backtest_metrics(returns)

    assert metrics.max_drawdown == pytest.approx(-0.20)
    # The deepest points of the two drawdowns: (-0.20 - 0.10) / 2.
    assert metrics.avg_drawdown == pytest.approx(-0.15)
    # The first one lasts two rows, the second one row.
    assert metrics.drawdown_duration_d == 2.0


def test_drawdown_that_still_lasts_counts_up_to_the_last_row() -> None:
    # wealth 1.1, 0.99, 1.0395, 1.0395: three rows below 1.1.
    metrics = backtest_metrics(_returns(0.10, -0.10, 0.05, 0.0))

    assert metrics.drawdown_duration_d == 3.0
    assert metrics.avg_drawdown == pytest.approx(-0.10)


def test_drawdown_on_the_first_day_starts_from_the_opening() -> None:
    # wealth 0.9, 0.99, 1.089: below 1 on two rows.
    metrics = backtest_metrics(_returns(-0.10, 0.10, 0.10))

    assert metrics.max_drawdown == pytest.approx(-0.10)
    assert metrics.drawdown_duration_d == 2.0


def test_peak_that_is_regained_but_for_rounding_ends_the_drawdown() -> None:
    # 1.1 · 0.97 · (1 + 0.03 / 0.97) is 1.1 but for the last bit.
    metrics = backtest_metrics(_returns(0.1, -0.03, 0.03 / 0.97, 0.0, 0.0))

    assert metrics.drawdown_duration_d == 1.0


def test_ddof_zero_divides_by_all_rows() -> None:
    # mean 0.01; deviations ±0.02; Σ² = 0.0008; / 2 = 0.0004; root 0.02 (ddof 1: / 1, root 0.0283).
    metrics = backtest_metrics(_returns(0.03, -0.01), convention=Convention(ddof=0, periods_per_year=4))

    assert metrics.volatility == pytest.approx(0.02 * 2)
    # 0.01 / 0.02 * √4
    assert metrics.sharpe_ratio == pytest.approx(1.0)


TRADES = pd.DataFrame(
    {
        "asset": ["a", "b", "a", "c", "d"],
        "entry_date": DAYS[[0, 0, 3, 2, 6]],
        "exit_date": [DAYS[2], DAYS[1], DAYS[7], DAYS[5], pd.NaT],
        "return": [0.10, -0.05, 0.0, 0.02, math.nan],
        "pnl": [10.0, -20.0, 0.0, 2.0, math.nan],
    }
)


def test_trades_are_judged_on_the_closed_ones() -> None:
    metrics = backtest_metrics(_returns(*[0.01] * 8), trades=TRADES)

    assert metrics.num_trades == 5
    # 2 of the 4 closed trades gained; the one with 0 did not.
    assert metrics.win_rate == 0.5
    # gains 10 + 2, losses 20
    assert metrics.profit_factor == pytest.approx(12 / 20)
    # (0.10 - 0.05 + 0 + 0.02) / 4
    assert metrics.avg_trade_return == pytest.approx(0.0175)
    # rows 2 - 0, 1 - 0, 7 - 3, 5 - 2: (2 + 1 + 4 + 3) / 4
    assert metrics.avg_holding_period_d == 2.5


def test_trades_without_money_take_the_profit_factor_of_their_returns() -> None:
    metrics = backtest_metrics(_returns(*[0.01] * 8), trades=TRADES[["return"]])

    # (0.10 + 0.02) / 0.05
    assert metrics.profit_factor == pytest.approx(2.4)
    assert metrics.avg_holding_period_d is None


def test_open_trade_valued_at_the_last_day_has_no_holding_period_yet() -> None:
    trades = TRADES.assign(exit_date=[DAYS[2], DAYS[1], DAYS[7], DAYS[5], DAYS[7]])

    assert backtest_metrics(_returns(*[0.01] * 8), trades=trades).avg_holding_period_d == 2.5


def test_holding_periods_count_rows_not_calendar_days() -> None:
    # From Friday the 5th to Monday the 8th: one row, three days of the calendar.
    trades = pd.DataFrame({"return": [0.1], "entry_date": ["2024-01-05"], "exit_date": ["2024-01-08"]})

    assert backtest_metrics(_returns(*[0.01] * 8), trades=trades).avg_holding_period_d == 1.0


@pytest.mark.parametrize(("gains", "factor"), [([0.1, 0.0], math.inf), ([0.0], math.nan), ([-0.1], 0.0)])
def test_profit_factor_without_losses_is_endless_or_undefined(gains: list[float], factor: float) -> None:
    metrics = backtest_metrics(_returns(0.01), trades=pd.DataFrame({"return": gains}))

    assert metrics.profit_factor == pytest.approx(factor, nan_ok=True)


def test_no_trades_are_counted_as_none_and_have_no_rates() -> None:
    metrics = backtest_metrics(_returns(0.01, 0.0), trades=TRADES.iloc[:0])

    assert metrics.num_trades == 0
    rates = (metrics.win_rate, metrics.profit_factor, metrics.avg_trade_return, metrics.avg_holding_period_d)
    assert all(value is not None and math.isnan(value) for value in rates)


def test_turnover_of_weights_is_one_way_and_per_year() -> None:
    weights = pd.DataFrame({"a": [1.0, 0.5, 0.5], "b": [0.0, 0.5, math.nan]}, index=DAYS[[0, 2, 4]])

    metrics = backtest_metrics(_returns(*[0.0] * 8), weights=weights, convention=Convention(periods_per_year=16))

    # (1) / 2 for the first purchase, (0.5 + 0.5) / 2, (0 + 0.5) / 2; 8 rows are half a year.
    assert metrics.turnover == pytest.approx((0.5 + 0.5 + 0.25) / 0.5)
    assert metrics.conventions()["turnover"]["drift"] == "ignored"


def test_turnover_that_is_given_replaces_that_of_the_weights() -> None:
    weights = pd.DataFrame({"a": [1.0, 0.0]}, index=DAYS[[0, 2]])
    traded = pd.Series([0.3, 0.1], index=DAYS[[0, 2]])

    metrics = backtest_metrics(
        _returns(*[0.0] * 8), weights=weights, turnover=traded, convention=Convention(periods_per_year=8)
    )

    assert metrics.turnover == pytest.approx(0.4)
    assert metrics.conventions()["turnover"]["drift"] == "as given"


def test_metrics_whose_inputs_are_absent_are_none() -> None:
    metrics = backtest_metrics(_returns(0.01, -0.02, 0.01))

    of_others = {"alpha", "beta", "information_ratio", "tracking_error", "turnover", "avg_holding_period_d"}
    of_trades = {"num_trades", "win_rate", "profit_factor", "avg_trade_return"}
    assert {name for name in metrics.definitions() if getattr(metrics, name) is None} == of_others | of_trades


def test_backtest_metrics_say_that_freshline_computed_them() -> None:
    recorded = backtest_metrics(_returns(0.01, -0.02), convention=Convention(risk_free_rate=0.02)).conventions()

    assert recorded["sharpe_ratio"]["library"] == "freshline"
    assert recorded["sharpe_ratio"]["risk_free_rate"] == 0.02
    assert recorded["sharpe_ratio"]["calendar"] == "XNYS"
