import numpy as np
import pandas as pd
import pytest

from freshline.flows.engine import simulate
from tests.unit.flows.made import panel


def trades_of(weights_by_day, prices, *, cost_bps=0.0) -> pd.DataFrame:
    """Decide on each day; what is decided on one is traded on the next."""
    weights = pd.DataFrame(weights_by_day, columns=prices.columns, index=prices.index[: len(weights_by_day)])
    return simulate(weights, prices, cost_bps=cost_bps).trades


def test_trades_position_from_entry_to_exit():
    prices = panel({"A": [10, 10, 11, 12, 13]})

    trades = trades_of([[1.0], [1.0], [0.0]], prices)

    trade = trades.iloc[0]
    assert len(trades) == 1
    assert (trade["asset"], trade["side"]) == ("A", "long")
    assert (trade["entry_date"], trade["exit_date"]) == (prices.index[1], prices.index[3])
    assert (trade["entry_price"], trade["exit_price"], trade["holding_period_d"]) == (10.0, 12.0, 2)
    assert trade["pnl"] == pytest.approx(0.2)
    assert trade["return"] == pytest.approx(0.2 / 1.05)  # capital of 1.0, then 1.1


def test_trades_open_position_has_no_exit_and_no_return():
    prices = panel({"A": [10, 10, 11, 12]})

    trade = trades_of([[1.0]], prices).iloc[0]

    assert pd.isna(trade["exit_date"])
    assert np.isnan(trade["return"])
    assert trade["pnl"] == pytest.approx(0.2)
    assert (trade["exit_price"], trade["holding_period_d"]) == (12.0, 2)


def test_trades_change_of_sign_ends_one_and_opens_another():
    prices = panel({"A": [10, 10, 12, 9]})

    trades = trades_of([[0.5], [-0.5]], prices, cost_bps=100)

    assert trades["side"].tolist() == ["long", "short"]
    assert trades["exit_date"].iloc[0] == trades["entry_date"].iloc[1] == prices.index[2]
    # Long: buys 0.5 for 0.005; 0.995 * 0.5 * 0.2 earned; sells 0.6 of the 1.1 for 1 %.
    before = 0.995 * 1.1
    assert trades["pnl"].iloc[0] == pytest.approx(-0.005 + 0.995 * 0.1 - before * (0.6 / 1.1) * 0.01)
    after = before * (1 - (0.5 + 0.6 / 1.1) * 0.01)
    assert trades["pnl"].iloc[1] == pytest.approx(-before * 0.5 * 0.01 + after * 0.5 * 0.25)


def test_trades_resized_position_stays_one_trade_and_pays_for_it():
    prices = panel({"A": [10, 10, 10, 10, 10]})

    trades = trades_of([[1.0], [0.5], [0.5], [0.0]], prices, cost_bps=100)

    assert len(trades) == 1
    # 1 % of 1.0, of 0.5 of 0.99, and of 0.5 of what is left then.
    left = 0.99 * (1 - 0.005)
    assert trades["pnl"].iloc[0] == pytest.approx(-0.01 - 0.99 * 0.005 - left * 0.005)


def test_trades_reopened_position_is_a_second_trade():
    prices = panel({"A": [10, 10, 11, 12, 13, 14], "B": [5, 5, 5, 5, 5, 5]})

    trades = trades_of([[1, 0], [0, 1], [1, 0], [0, 0]], prices)

    assert trades["asset"].tolist() == ["A", "B", "A"]
    assert trades["exit_date"].tolist() == [prices.index[2], prices.index[3], prices.index[4]]


def test_trades_of_nothing_held_is_an_empty_table_with_its_columns():
    trades = trades_of([[0.0]], panel({"A": [10, 10, 11]}))

    assert trades.empty
    assert {"asset", "side", "entry_date", "exit_date", "pnl", "return"} <= set(trades.columns)


def test_trades_position_of_an_earlier_asset_does_not_end_a_later_ones():
    prices = panel({"A": [10, 10, 10, 10], "B": [10, 10, 10, 10]})

    trades = trades_of([[1, 0], [0, 1]], prices).set_index("asset")

    assert trades.loc["A", "exit_date"] == prices.index[2]
    assert pd.isna(trades.loc["B", "exit_date"])
