import numpy as np
import pandas as pd
import pytest
from sklearn.linear_model import Ridge

from freshline.flows import alpha
from freshline.flows.features import FEATURES, add_targets, build_features
from freshline.flows.signals import momentum
from freshline.storage.errors import InvalidInput
from tests.unit.flows.made import random_prices, same_bytes


@pytest.fixture(scope="module")
def prices() -> pd.DataFrame:
    return random_prices(days=1200)


@pytest.fixture(scope="module")
def signal(prices: pd.DataFrame) -> pd.DataFrame:
    return momentum(prices)


@pytest.fixture(scope="module")
def trained(signal: pd.DataFrame, prices: pd.DataFrame) -> alpha.Trained:
    return alpha.train(signal, prices, min_months=12, refit_months=6)


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"refit_months": 0}, "refit_months must be at least 1, not 0"),
        ({"min_months": 0}, "min_months must be at least 1, not 0"),
        ({"penalty": -1.0}, "penalty must be 0 or more, not -1.0"),
        ({"penalty": float("nan")}, "penalty must be 0 or more, not nan"),
        ({"horizon_d": 0}, "horizon_d must be at least 1"),
    ],
)
def test_train_parameter_out_of_range_is_refused(signal, prices, parameters, message):
    with pytest.raises(InvalidInput, match=message):
        alpha.train(signal, prices, **parameters)


def test_train_with_too_few_months_says_how_many(signal, prices):
    with pytest.raises(InvalidInput, match=r"needs 400 months with a known target, but there are 4\d"):
        alpha.train(signal, prices, min_months=400)


def test_train_refits_every_six_months_from_the_first_with_twelve_known(trained, signal, prices):
    samples = add_targets(build_features(signal, prices), prices)
    dates = pd.DatetimeIndex(samples["date"].unique())

    refits = trained.bundle.refit_dates

    known = [samples[samples["realised_on"] <= date]["date"].nunique() for date in dates]
    first = known.index(12)
    assert refits.tolist() == dates[first::6].tolist()


def test_train_uses_only_targets_known_at_the_refit(trained, signal, prices):
    samples = add_targets(build_features(signal, prices), prices).set_index("date")

    for refit in trained.refits.itertuples():
        assert samples.loc[refit.last_date, "realised_on"].max() <= refit.refit_date
        after = samples.index[samples.index > refit.last_date][0]
        assert samples.loc[after, "realised_on"].max() > refit.refit_date or pd.isna(
            samples.loc[after, "realised_on"].max()
        )


def test_train_fits_the_ridge_of_those_samples(trained, signal, prices):
    samples = add_targets(build_features(signal, prices), prices)
    refit = trained.bundle.refit_dates[1]
    known = samples[samples["realised_on"] <= refit]

    by_hand = Ridge(alpha=100.0).fit(known[list(FEATURES)].to_numpy(), known["target"].to_numpy())

    assert trained.bundle.models[refit].coef_ == pytest.approx(by_hand.coef_)


def test_train_validation_is_out_of_sample_and_realised(trained):
    assert trained.validation["date"].min() >= trained.bundle.refit_dates[0]
    assert trained.validation[["target", "prediction"]].notna().all(axis=None)
    assert not trained.validation.duplicated(["date", "asset"]).any()


def test_train_tables_describe_the_newest_model(trained):
    newest = trained.bundle.models[trained.bundle.refit_dates[-1]]

    assert trained.importance["feature"].tolist() == list(FEATURES)
    assert trained.importance["importance"].sum() == pytest.approx(1.0)
    assert trained.refits.iloc[-1][list(FEATURES)].tolist() == newest.coef_.tolist()
    assert trained.refits["samples"].iloc[-1] == len(trained.train)
    assert trained.train["prediction"].to_numpy() == pytest.approx(
        newest.predict(trained.train[list(FEATURES)].to_numpy())
    )


def test_train_twice_has_the_same_digest(trained, signal, prices):
    again = alpha.train(signal, prices, min_months=12, refit_months=6)

    assert again.bundle.digest() == trained.bundle.digest()


def test_train_with_a_new_month_between_refits_has_the_same_digest(trained, signal, prices):
    last_refit = trained.bundle.refit_dates[-1]
    shorter = prices.loc[: last_refit + pd.Timedelta(days=2)]

    earlier = alpha.train(momentum(shorter), shorter, min_months=12, refit_months=6)

    assert len(earlier.validation) < len(trained.validation)
    assert earlier.bundle.digest() == trained.bundle.digest()
    assert earlier.train.equals(trained.train)


def test_predict_before_the_first_fit_is_refused(trained, prices):
    early = prices.loc[: trained.bundle.refit_dates[0] - pd.Timedelta(days=40)]
    with pytest.raises(InvalidInput, match="no month-end on or after the first fit"):
        alpha.predict(trained.bundle, momentum(early), early)


def test_predict_model_of_other_features_is_refused(trained, signal, prices):
    other = alpha.Bundle(features=("beta",), horizon_d=21, models=trained.bundle.models)
    with pytest.raises(InvalidInput, match="takes the features beta, which are not known"):
        alpha.predict(other, signal, prices)


def test_predict_uses_the_newest_model_of_the_date(trained, signal, prices):
    predicted = alpha.predict(trained.bundle, signal, prices)

    refits = trained.bundle.refit_dates
    for date, rows in predicted.samples.groupby("date"):
        model = trained.bundle.models[refits[refits <= date][-1]]
        expected = model.predict(rows[list(FEATURES)].to_numpy())
        assert rows["prediction"].to_numpy() == pytest.approx(expected)
        assert predicted.predictions.loc[date].tolist() == rows["prediction"].tolist()


def test_predict_equals_the_walk_forward_validation(trained, signal, prices):
    samples = alpha.predict(trained.bundle, signal, prices).samples.dropna(ignore_index=True)

    assert same_bytes(samples[["prediction", "target"]], trained.validation[["prediction", "target"]])


def test_predict_covers_every_month_end_from_the_first_fit_on(trained, signal, prices):
    predictions = alpha.predict(trained.bundle, signal, prices).predictions

    dates = pd.DatetimeIndex(build_features(signal, prices)["date"].unique())
    assert predictions.index.tolist() == dates[dates >= trained.bundle.refit_dates[0]].tolist()
    assert predictions.columns.equals(prices.columns)
    assert np.isfinite(predictions).all(axis=None)
