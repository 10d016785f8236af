import time

import numpy as np
import pandas as pd
import pytest

from freshline.flows.engine import drifted, equal_weight_returns, simulate
from freshline.flows.long_short import momentum_ls
from freshline.storage.errors import InvalidInput
from tests.unit.flows.made import panel, random_prices


@pytest.fixture
def prices() -> pd.DataFrame:
    return panel({"A": [10, 10, 11, 11, 22], "B": [20, 20, 20, 15, 15]})


def decided(columns, *, days) -> pd.DataFrame:
    weights = panel(columns)
    return weights.set_index(pd.bdate_range("2020-01-01", periods=5, name="date")[days])


@pytest.mark.parametrize("cost_bps", [-1.0, float("nan"), float("inf")])
def test_simulate_cost_out_of_range_is_refused(prices, cost_bps):
    with pytest.raises(InvalidInput, match=f"cost_bps must be 0 or more basis points, not {cost_bps}"):
        simulate(decided({"A": [1]}, days=[0]), prices, cost_bps=cost_bps)


def test_simulate_trade_at_the_close_it_uses_is_refused(prices):
    with pytest.raises(InvalidInput, match="cannot trade at the close it uses, not 0"):
        simulate(decided({"A": [1]}, days=[0]), prices, delay_d=0)


def test_simulate_no_weights_is_refused(prices):
    with pytest.raises(InvalidInput, match="no weights to trade"):
        simulate(decided({"A": [1]}, days=[0]).iloc[:0], prices)


def test_simulate_decision_without_a_later_day_is_refused(prices):
    with pytest.raises(
        InvalidInput, match=r"1 trading day\(s\) later to trade at; extend the prices beyond 2020-01-07"
    ):
        simulate(decided({"A": [1]}, days=[4]), prices)


def test_simulate_decision_on_no_trading_day_is_refused(prices):
    weights = decided({"A": [1]}, days=[0])
    with pytest.raises(InvalidInput, match="prices has no row for 2020-01-01"):
        simulate(weights, prices.iloc[1:])


def test_simulate_unknown_asset_is_refused(prices):
    with pytest.raises(InvalidInput, match="prices has no column for C"):
        simulate(decided({"A": [0.5], "C": [0.5]}, days=[0]), prices)


def test_simulate_missing_weight_is_refused(prices):
    with pytest.raises(InvalidInput, match="weight of B on 2020-01-01 is missing; write 0"):
        simulate(decided({"A": [1], "B": [np.nan]}, days=[0]), prices)


@pytest.mark.parametrize("day", [1, 2, 3])
def test_simulate_held_asset_without_price_is_refused(prices, day):
    prices.iloc[day, 1] = np.nan
    # B is bought on day 1 and sold on day 3.
    weights = decided({"A": [0, 1], "B": [1, 0]}, days=[0, 2])
    with pytest.raises(InvalidInput, match=r"B is held on 2020-01-0.*but has no price"):
        simulate(weights, prices)


@pytest.mark.parametrize("day", [0, 4])
def test_simulate_asset_without_price_while_it_is_not_held_is_allowed(prices, day):
    weights = decided({"A": [0, 1], "B": [1, 0]}, days=[0, 2])
    expected = simulate(weights, prices).daily_returns["net"]
    prices.iloc[day, 1] = np.nan

    assert simulate(weights, prices).daily_returns["net"].equals(expected)


def test_simulate_by_hand(prices):
    weights = decided({"A": [0.5, 1.0], "B": [0.5, 0.0]}, days=[0, 2])

    found = simulate(weights, prices, cost_bps=100)

    # Day 1: buy half and half: 1 % of 1. Day 2: A +10 %: +5 %, weights 0.55/1.05 and 0.5/1.05.
    # Day 3: B -25 %: 0.55 and 0.375 of 1.05: 0.925/1.05; then to A alone: trade 2 * 0.375/0.925. Day 4: A doubles.
    daily = found.daily_returns
    assert daily.index.tolist() == prices.index[1:].tolist()
    assert daily["gross"].tolist() == pytest.approx([0.0, 0.05, 0.925 / 1.05 - 1, 1.0])
    assert daily["turnover"].tolist() == pytest.approx([0.5, 0.0, 0.375 / 0.925, 0.0])
    assert daily["cost"].tolist() == pytest.approx([0.01, 0.0, 2 * 0.375 / 0.925 * 0.01, 0.0])
    assert daily["benchmark"].tolist() == pytest.approx([0.0, 0.05, -0.125, 0.5])
    cost = 1 - 2 * 0.375 / 0.925 * 0.01
    equity = [0.99, 0.99 * 1.05, 0.99 * 0.925 * cost, 0.99 * 0.925 * cost * 2]
    assert found.equity_curve["equity"].tolist() == pytest.approx(equity)
    assert found.equity_curve["drawdown"].tolist() == pytest.approx([-0.01, 0.0, equity[2] / equity[1] - 1, 0.0])
    assert found.weights_history["A"].tolist() == pytest.approx([0.5, 0.55 / 1.05, 1.0, 1.0])


def test_simulate_earns_nothing_before_the_day_after_the_decision(prices):
    found = simulate(decided({"A": [1.0]}, days=[1]), prices, cost_bps=0)

    # A rises by 10 % on the day of the trade: the decision of the day before does not earn it.
    assert found.daily_returns["net"].tolist() == pytest.approx([0.0, 0.0, 1.0])


def test_simulate_longer_delay_trades_later(prices):
    found = simulate(decided({"A": [1.0]}, days=[0]), prices, cost_bps=0, delay_d=3)

    assert found.daily_returns.index[0] == prices.index[3]
    assert found.daily_returns["net"].tolist() == pytest.approx([0.0, 1.0])


def test_simulate_short_position_drifts_with_what_it_owes(prices):
    found = simulate(decided({"A": [-0.5], "B": [0.5]}, days=[0]), prices, cost_bps=0)

    # Day 2: A +10 % costs 5 %; day 3: B -25 % costs 0.125 of 0.95; day 4: A doubles: 0.55 of 0.825.
    assert found.equity_curve["equity"].tolist() == pytest.approx([1.0, 0.95, 0.825, 0.275])
    assert found.weights_history["A"].iloc[-1] == pytest.approx(-1.1 / 0.275)


def test_simulate_equity_that_is_lost_stays_lost():
    prices = panel({"A": [10, 10, 30, 5, 5]})

    found = simulate(decided({"A": [-1.0, 1.0]}, days=[0, 2]), prices)

    assert found.daily_returns["net"].tolist()[1:] == [-1.0, 0.0, 0.0]
    assert found.equity_curve["equity"].tolist()[1:] == [0.0, 0.0, 0.0]
    assert (found.weights_history.iloc[1:] == 0).all(axis=None)


def test_simulate_last_decision_traded_on_the_last_day_pays_and_earns_nothing(prices):
    found = simulate(decided({"A": [1.0, 0.0]}, days=[0, 3]), prices, cost_bps=100)

    assert found.daily_returns.iloc[-1][["gross", "cost"]].tolist() == pytest.approx([1.0, 0.01])


def test_simulate_equals_a_day_by_day_loop():
    prices = random_prices(days=260, assets=5)
    rng = np.random.default_rng(1)
    dates = prices.index[[3, 30, 31, 60, 200]]
    weights = pd.DataFrame(rng.normal(0, 0.4, size=(5, 5)), index=dates, columns=prices.columns)

    found = simulate(weights, prices, cost_bps=7)

    shares, cash, equity = np.zeros(5), 1.0, []
    for day, row in enumerate(prices.to_numpy()):
        worth = cash + shares @ row
        if day and prices.index[day - 1] in weights.index:
            target = weights.loc[prices.index[day - 1]].to_numpy()
            paid = np.abs(target * worth - shares * row).sum() * 7e-4
            worth -= paid
            shares = target * worth / row
            cash = worth - shares @ row
        equity.append(worth)
    assert found.equity_curve["equity"].to_numpy() == pytest.approx(np.array(equity[4:]), rel=1e-12)


def test_simulate_trades_add_up_to_the_equity():
    prices = random_prices(days=700)
    rng = np.random.default_rng(2)
    weights = pd.DataFrame(
        rng.choice([-0.3, 0.0, 0.2, 0.5], size=(30, 6)), index=prices.index[10:610:20], columns=prices.columns
    )

    found = simulate(weights, prices, cost_bps=25)

    assert found.trades["pnl"].sum() == pytest.approx(found.equity_curve["equity"].iloc[-1] - 1, abs=1e-12)


def test_simulate_33_years_of_20_stocks_takes_well_under_two_seconds(real_prices, real_momentum):
    weights = momentum_ls(real_momentum, real_prices)

    began = time.process_time()
    simulate(weights, real_prices)

    assert time.process_time() - began < 1.0


def test_drifted_weights_add_up_to_one_when_all_is_invested():
    after = drifted(np.array([0.5, 0.5]), np.array([1.1, 0.9]))

    assert after.tolist() == pytest.approx([0.55, 0.45])


def test_drifted_cash_does_not_grow():
    assert drifted(np.array([0.5]), np.array([2.0])).tolist() == pytest.approx([1.0 / 1.5])


def test_drifted_asset_that_is_not_held_may_have_no_price():
    assert drifted(np.array([1.0, 0.0]), np.array([1.5, np.nan])).tolist() == [1.0, 0.0]


def test_equal_weight_returns_leave_out_assets_without_price():
    prices = panel({"A": [10, 11, 11], "B": [np.nan, 10, 12]})

    assert equal_weight_returns(prices).tolist() == pytest.approx([0.0, 0.1, 0.1])
