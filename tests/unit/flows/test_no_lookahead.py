"""Nothing decided on a date may depend on a later row: all rows after it are replaced by random numbers, and what was
decided must stay equal to the last byte.

Features, predictions and long-short weights of a date need a window of prices around it, which ends well after the
date. The optimiser's path is checked step by step: when each choice stays equal given the weights before it, the whole
path does. Every rebalance date is checked, and every model refitted on each of them, in the tests marked slow, which
take minutes. The normal run takes one date in eleven, so that each month of the year has its turn again and again, and
refits around every refit: what decides is the same code on all of them.
"""

from collections.abc import Iterable

import numpy as np
import pandas as pd
import pytest

from freshline.flows import alpha
from freshline.flows.bundle import Bundle
from freshline.flows.engine import simulate
from freshline.flows.features import FEATURES, add_targets, build_features
from freshline.flows.long_short import momentum_ls
from freshline.flows.panels import month_ends
from freshline.flows.portfolio import Mandate, choose_weights, drift_to, optimize_book
from freshline.flows.signals import momentum
from tests.unit.flows.made import same_bytes, scrambled_after

_BEFORE, _AFTER = 330, 70
"""Rows of prices around a date: enough for the longest look back (252 + 63), and for three months after it."""

in_steps = pytest.mark.parametrize("step", [11, pytest.param(1, marks=pytest.mark.slow)])
"""One rebalance date in eleven; each of them."""


@pytest.fixture(scope="module")
def trained(real_momentum: pd.DataFrame, real_prices: pd.DataFrame) -> alpha.Trained:
    return alpha.train(real_momentum, real_prices)


@pytest.fixture(scope="module")
def predicted(trained: alpha.Trained, real_momentum: pd.DataFrame, real_prices: pd.DataFrame) -> alpha.Predicted:
    return alpha.predict(trained.bundle, real_momentum, real_prices)


@pytest.fixture(scope="module")
def rebalance_dates(real_momentum: pd.DataFrame) -> pd.DatetimeIndex:
    return month_ends(pd.DatetimeIndex(real_momentum.index))


def around(prices: pd.DataFrame, date: pd.Timestamp) -> pd.DataFrame:
    """The prices around a date, those after it replaced."""
    row = prices.index.get_loc(date)
    return scrambled_after(prices.iloc[max(0, row - _BEFORE) : row + _AFTER], date, seed=row)


def at(table: pd.DataFrame, date: pd.Timestamp) -> pd.DataFrame:
    return table[table["date"] == date].reset_index(drop=True)


def in_force(bundle: Bundle, date: pd.Timestamp) -> Bundle:
    """The models that were fitted on or before the date."""
    models = {fitted: model for fitted, model in bundle.models.items() if fitted <= date}
    return Bundle(features=bundle.features, horizon_d=bundle.horizon_d, models=models)


def check_models(dates: Iterable[pd.Timestamp], trained: alpha.Trained, prices: pd.DataFrame) -> None:
    for date in dates:
        changed = scrambled_after(prices.iloc[: prices.index.get_loc(date) + _AFTER], date)
        again = alpha.train(momentum(changed), changed)
        assert in_force(again.bundle, date).digest() == in_force(trained.bundle, date).digest(), date


@in_steps
def test_signal_features_and_long_short_of_rebalance_dates_ignore_what_follows(
    step, rebalance_dates, real_momentum, real_prices
):
    features = build_features(real_momentum, real_prices)
    weights = momentum_ls(real_momentum, real_prices)

    for date in rebalance_dates[::step]:
        changed = around(real_prices, date)
        signal = momentum(changed)
        assert same_bytes(signal.loc[[date]], real_momentum.loc[[date]]), date
        assert same_bytes(at(build_features(signal, changed), date)[list(FEATURES)], at(features, date)[list(FEATURES)])
        assert same_bytes(momentum_ls(signal, changed).loc[[date]], weights.loc[[date]]), date


@in_steps
def test_predictions_of_rebalance_dates_ignore_what_follows(step, predicted, trained, real_prices):
    for date in predicted.predictions.index[::step]:
        changed = around(real_prices, date)
        models = in_force(trained.bundle, date)

        again = alpha.predict(models, momentum(changed), changed)

        assert same_bytes(again.predictions.loc[[date]], predicted.predictions.loc[[date]]), date


def test_models_around_every_refit_ignore_what_follows(trained, real_prices, rebalance_dates):
    refits = rebalance_dates.get_indexer(trained.bundle.refit_dates)
    # The refit itself, and on the way round the months before and after one.
    chosen = [rebalance_dates[row + number % 3 - 1] for number, row in enumerate(refits, start=1)]

    check_models([date for date in chosen if date >= trained.bundle.refit_dates[0]], trained, real_prices)


@pytest.mark.slow
def test_models_of_every_rebalance_date_ignore_what_follows(trained, real_prices, rebalance_dates):
    first = trained.bundle.refit_dates[0]

    check_models(rebalance_dates[rebalance_dates >= first], trained, real_prices)


@pytest.mark.slow
def test_weights_of_every_rebalance_date_ignore_what_follows(predicted, real_prices):
    mandate = Mandate()
    book = optimize_book(predicted.predictions, real_prices, mandate=mandate)

    previous, decided = np.zeros(20), None
    for date, expected in book.weights.iterrows():
        row = real_prices.index.get_loc(date)
        prices = scrambled_after(real_prices.iloc[row - mandate.lookback_d : row + _AFTER], date, seed=row)
        predictions = scrambled_after(predicted.predictions, date, seed=row)
        before = previous if decided is None else drift_to(previous, prices, decided=decided, until=date)
        choice = choose_weights(predictions, prices, date, before=before, mandate=mandate)
        assert choice.weights.tobytes() == expected.to_numpy().tobytes(), date
        previous, decided = choice.weights, date


# The path from the first row on, and one that begins in the middle; a later one takes longest and begins there as well.
@pytest.mark.parametrize("date", ["1996-03-29", "2008-09-30", pytest.param("2020-02-28", marks=pytest.mark.slow)])
def test_whole_chain_up_to_a_date_ignores_what_follows(date, trained, predicted, real_momentum, real_prices):
    stop = real_prices.index.get_loc(pd.Timestamp(date))
    start = stop - 900 if stop > 2000 else 0
    mandate = Mandate()
    changed = scrambled_after(real_prices, pd.Timestamp(date))
    # A path depends on where it starts: both begin on the same date.
    dates = predicted.predictions.index[predicted.predictions.index > real_prices.index[start]]
    first = dates[0]
    until = pd.Timestamp(date) + pd.Timedelta(days=100)

    def chain(prices: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame]:
        prices = prices.loc[:until]
        signal = momentum(prices)
        predictions = alpha.predict(alpha.train(signal, prices).bundle, signal, prices).predictions.loc[first:]
        weights = optimize_book(predictions, prices, mandate=mandate).weights
        return predictions.loc[:date], weights.loc[:date], simulate(weights, prices).daily_returns.loc[:date]

    for before, after in zip(chain(real_prices), chain(changed), strict=True):
        assert len(before) > 1
        assert same_bytes(before, after)


def test_scrambling_changes_what_follows(real_prices, real_momentum):
    date = pd.Timestamp("2008-09-30")
    changed = around(real_prices, date)

    assert changed.loc[:date].equals(real_prices.loc[changed.index[0] : date])
    assert not np.isclose(changed.loc[date:].iloc[1:], real_prices.loc[changed.index].loc[date:].iloc[1:]).any(
        axis=None
    )
    targets, others = (
        at(add_targets(build_features(momentum(prices), prices), prices), date)["target"]
        for prices in (real_prices, changed)
    )
    assert not np.isclose(targets, others).any()


def test_models_without_the_embargo_would_be_caught(trained, real_prices, real_momentum, monkeypatch):
    # All samples up to the refit, whether their target is known or not.
    monkeypatch.setattr(alpha, "_known_at", lambda samples, date: samples[samples["date"] <= date].dropna())
    leaking = alpha.train(real_momentum, real_prices)
    date = leaking.bundle.refit_dates[3]

    with pytest.raises(AssertionError):
        check_models([date], leaking, real_prices)
