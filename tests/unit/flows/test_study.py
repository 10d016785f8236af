import numpy as np
import pandas as pd
import pytest

from freshline.flows.signals import momentum
from freshline.flows.study import momentum_study
from freshline.storage.errors import InvalidInput
from tests.unit.flows.made import panel, random_prices


@pytest.mark.parametrize("horizons_d", [(), (0,), (21, -1)])
def test_study_horizon_not_positive_is_refused(horizons_d):
    prices = random_prices(days=300)
    with pytest.raises(InvalidInput, match="horizons_d must be one or more counts"):
        momentum_study(momentum(prices), prices, horizons_d=horizons_d)


def test_study_unknown_asset_is_named():
    prices = random_prices(days=300)
    with pytest.raises(InvalidInput, match="prices has no column for A0"):
        momentum_study(momentum(prices), prices.drop(columns="A0"))


def test_study_perfect_foresight_has_rank_ic_one():
    prices = random_prices(days=120)
    foresight = (prices.shift(-5) / prices - 1).dropna()

    study = momentum_study(foresight, prices, horizons_d=(5,))

    row = study.rank_ic.iloc[0]
    assert (row["horizon_d"], row["mean_ic"], row["hit_rate"]) == (5, 1.0, 1.0)
    assert row["dates"] == 23  # of 115 dates every fifth: none is counted twice
    returns = study.quantile_returns["mean_return"].tolist()
    assert returns == sorted(returns)


def test_study_quantile_returns_by_hand():
    prices = panel({name: [100, 100 + gain] for name, gain in zip("ABCDE", range(5), strict=True)})
    signal = panel({name: [score] for name, score in zip("ABCDE", [5, 4, 3, 2, 1], strict=True)})

    study = momentum_study(signal, prices, horizons_d=(1,))

    # The highest signal has the lowest return: 0 %, 2 points below the mean of 2 %.
    assert study.quantile_returns["mean_return"].tolist() == pytest.approx([0.02, 0.01, 0.0, -0.01, -0.02])
    assert study.rank_ic["mean_ic"].tolist() == [-1.0]


def test_study_values_and_preview_are_those_of_the_signal():
    prices = random_prices(days=300, assets=4)
    signal = momentum(prices)

    study = momentum_study(signal, prices)

    assert study.values.equals(signal)
    last = study.preview[study.preview["date"] == signal.index[-1]].set_index("asset")
    assert last["signal"].to_dict() == signal.iloc[-1].to_dict()
    assert last["rank"].idxmin() == signal.iloc[-1].idxmax()


def test_study_horizon_beyond_the_prices_has_no_dates():
    prices = random_prices(days=260)

    study = momentum_study(momentum(prices), prices, horizons_d=(1, 63))

    longest = study.rank_ic.set_index("horizon_d").loc[63]
    assert longest["dates"] == 0
    assert np.isnan(longest["mean_ic"])


def test_study_of_real_prices_covers_all_horizons(real_prices, real_momentum):
    study = momentum_study(real_momentum, real_prices)

    assert study.rank_ic["horizon_d"].tolist() == [1, 5, 21, 63]
    assert study.rank_ic["mean_ic"].abs().max() < 0.2
    assert isinstance(study.preview["date"].iloc[-1], pd.Timestamp)
