import numpy as np
import pytest

from freshline.flows.signals import momentum
from freshline.storage.errors import InvalidInput
from tests.unit.flows.made import panel, random_prices


def test_momentum_with_too_few_days_says_how_many():
    with pytest.raises(InvalidInput, match="more than 252 days of prices, but there are 252"):
        momentum(random_prices(days=252))


@pytest.mark.parametrize("skip_d", [-1, 252, 300])
def test_momentum_skip_outside_lookback_is_refused(skip_d):
    with pytest.raises(InvalidInput, match=f"less than lookback_d=252, not {skip_d}"):
        momentum(random_prices(), skip_d=skip_d)


def test_momentum_by_hand():
    prices = panel({"A": [10, 11, 12, 13], "B": [10, 10, 10, 10], "C": [10, 8, 9, 7]})

    scores = momentum(prices, lookback_d=2, skip_d=1)

    # 2020-01-03: returns from the 1st to the 2nd: 10 %, 0 %, -20 %; mean -10/3 %, deviations 40/3, 10/3, -50/3.
    spread = np.sqrt((40**2 + 10**2 + 50**2) / 27)
    assert scores.index.tolist() == prices.index[2:].tolist()
    assert scores.iloc[0].tolist() == pytest.approx([40 / 3 / spread, 10 / 3 / spread, -50 / 3 / spread])


def test_momentum_real_prices_are_scored_from_the_253rd_day_on(real_prices, real_momentum):
    assert real_momentum.shape == (8313 - 252, 20)
    assert real_momentum.index[0] == real_prices.index[252]
    assert real_momentum.notna().all(axis=None)


def test_momentum_unlisted_asset_takes_no_part():
    prices = random_prices(days=300, assets=4)
    prices.iloc[:280, 3] = np.nan

    scores = momentum(prices)

    assert scores["A3"].isna().all()
    assert scores.iloc[:, :3].equals(momentum(prices.iloc[:, :3]))
