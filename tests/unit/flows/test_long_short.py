import numpy as np
import pytest

from freshline.flows.long_short import momentum_ls
from freshline.storage.errors import InvalidInput
from tests.unit.flows.made import panel, random_prices


@pytest.mark.parametrize("share", [0.0, -0.1, 0.6])
def test_momentum_ls_share_out_of_range_is_refused(share):
    prices = random_prices(days=30)
    with pytest.raises(InvalidInput, match=f"share must be above 0 and at most 0.5, not {share}"):
        momentum_ls(prices, prices, share=share)


def test_momentum_ls_prices_that_lack_a_decision_day_are_refused():
    prices = random_prices(days=60)
    with pytest.raises(InvalidInput, match="prices has no row for 2014-01-31"):
        momentum_ls(prices, prices.drop("2014-01-31"))


def test_momentum_ls_buys_the_highest_and_sells_the_lowest():
    signal = panel({"A": [2], "B": [-1], "C": [0], "D": [1], "E": [-2]}, start="2020-01-31")

    weights = momentum_ls(signal, signal.abs() + 1)

    assert weights.iloc[0].to_dict() == {"A": 0.5, "B": 0.0, "C": 0.0, "D": 0.0, "E": -0.5}


def test_momentum_ls_is_dollar_neutral_on_every_month_end(real_momentum, real_prices):
    weights = momentum_ls(real_momentum, real_prices)

    assert len(weights) == 384
    assert weights.sum(axis=1).abs().max() < 1e-12
    assert weights.abs().sum(axis=1).to_numpy() == pytest.approx(1.0)
    assert ((weights != 0).sum(axis=1) == 8).all()


def test_momentum_ls_asset_without_signal_takes_no_part():
    signal = panel({"A": [2], "B": [np.nan], "C": [0]}, start="2020-01-31")

    weights = momentum_ls(signal, signal.fillna(0) + 1)

    assert weights.iloc[0].to_dict() == {"A": 0.5, "B": 0.0, "C": -0.5}


def test_momentum_ls_single_signal_holds_nothing():
    signal = panel({"A": [2], "B": [np.nan]}, start="2020-01-31")

    assert (momentum_ls(signal, signal.fillna(0) + 1) == 0).all(axis=None)


def test_momentum_ls_equal_signals_go_by_column_order():
    signal = panel({"A": [1], "B": [1], "C": [1]}, start="2020-01-31")

    assert momentum_ls(signal, signal).iloc[0].to_dict() == {"A": -0.5, "B": 0.0, "C": 0.5}
