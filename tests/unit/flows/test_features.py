import numpy as np
import pandas as pd
import pytest

from freshline.flows.features import FEATURES, add_targets, build_features
from freshline.flows.panels import month_ends
from freshline.flows.signals import momentum
from freshline.storage.errors import InvalidInput
from tests.unit.flows.made import random_prices


@pytest.fixture(scope="module")
def prices() -> pd.DataFrame:
    return random_prices()


def test_build_features_other_assets_are_named(prices):
    with pytest.raises(InvalidInput, match="must have the same assets; they differ in A5"):
        build_features(momentum(prices).drop(columns="A5"), prices)


def test_build_features_prices_that_lack_a_day_are_refused(prices):
    signal = momentum(prices)
    last = month_ends(signal.index)[-1]
    with pytest.raises(InvalidInput, match=f"prices has no row for {last:%Y-%m-%d}"):
        build_features(signal, prices.drop(last))


def test_build_features_one_row_per_month_end_and_asset(prices):
    signal = momentum(prices)

    features = build_features(signal, prices)

    dates = month_ends(signal.index)
    assert features.columns.tolist() == ["date", "asset", *FEATURES]
    assert features["date"].tolist() == list(dates.repeat(6))
    assert features["asset"].tolist() == list(prices.columns) * len(dates)
    by_date = features.groupby("date")[list(FEATURES)]
    assert by_date.mean().abs().max().max() < 1e-12
    assert by_date.std(ddof=0).sub(1).abs().max().max() < 1e-12


def test_build_features_column_order_of_the_signal_does_not_matter(prices):
    signal = momentum(prices)

    assert build_features(signal[signal.columns[::-1]], prices).equals(build_features(signal, prices))


def test_build_features_equal_pandas_rolling_windows(prices):
    signal = momentum(prices)

    features = build_features(signal, prices)

    def scored(table):
        rows = table.loc[features["date"].unique()]
        return rows.sub(rows.mean(axis=1), axis=0).div(rows.std(axis=1, ddof=0), axis=0).to_numpy().ravel()

    daily = prices.pct_change()
    assert features["momentum"].to_numpy() == pytest.approx(scored(signal))
    assert features["reversal"].to_numpy() == pytest.approx(scored(-prices.pct_change(21)))
    assert features["volatility"].to_numpy() == pytest.approx(scored(daily.rolling(63).std(ddof=1)))


def test_build_features_asset_without_history_is_left_out():
    prices = random_prices(days=600, assets=4)
    prices.iloc[:500, 3] = np.nan

    features = build_features(momentum(prices), prices)

    assert set(features["asset"]) == {"A0", "A1", "A2"}


@pytest.mark.parametrize("horizon_d", [0, -5])
def test_add_targets_horizon_not_positive_is_refused(prices, horizon_d):
    features = build_features(momentum(prices), prices)
    with pytest.raises(InvalidInput, match=f"at least 1 trading day, not {horizon_d}"):
        add_targets(features, prices, horizon_d=horizon_d)


def test_add_targets_are_the_following_returns_less_their_mean(prices):
    features = build_features(momentum(prices), prices)

    samples = add_targets(features, prices, horizon_d=21)

    forward = prices.shift(-21) / prices - 1
    expected = forward.sub(forward.mean(axis=1), axis=0).loc[samples["date"].unique()].to_numpy().ravel()
    assert samples["target"].to_numpy() == pytest.approx(expected, nan_ok=True)


def test_add_targets_are_known_on_the_day_that_ends_the_horizon(prices):
    features = build_features(momentum(prices), prices)

    samples = add_targets(features, prices, horizon_d=21)

    first, last = samples.iloc[0], samples.iloc[-1]
    assert first["realised_on"] == prices.index[prices.index.get_loc(first["date"]) + 21]
    assert pd.isna(last["realised_on"])
    assert np.isnan(last["target"])
