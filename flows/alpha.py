"""The alpha model: a ridge regression of next month's return, refitted as time goes on.

Owns the walk-forward fit and the out-of-sample prediction, as pure functions of panels. Knows nothing of runs.

Nothing sees the future: a model fitted on date t uses samples whose target is known on t, and a date is predicted by
the newest model fitted on or before it.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from ..storage.errors import InvalidInput
from .bundle import Bundle, load_bundle
from .extra import needs_quant
from .features import FEATURES, add_targets, build_features
from .panels import DATE, Array

if TYPE_CHECKING:
    from sklearn.linear_model import Ridge


@dataclass(frozen=True, slots=True)
class Trained:
    """What a training gives: the models, and the tables that tell how good they are."""

    bundle: Bundle
    train: pd.DataFrame
    """The training sample of the newest model: date, asset, the features, target, prediction (in sample)."""
    validation: pd.DataFrame
    """Every sample predicted by the model in force on its date and realised since: the same columns."""
    importance: pd.DataFrame
    """One row per feature: feature, coefficient (of the newest model), importance (share of |coefficient|)."""
    refits: pd.DataFrame
    """One row per model: refit_date, first_date and last_date of its samples, samples, intercept, and a
    coefficient per feature."""


@dataclass(frozen=True, slots=True)
class Predicted:
    """What an inference gives."""

    predictions: pd.DataFrame
    """A panel: index `date`, the month-ends; float64 [1]: the return over the model's horizon, less the mean over
    the assets."""
    samples: pd.DataFrame
    """The same, long, with what the models saw: date, asset, the features, prediction, target: what came of it, and
    realised_on: the date on which that was known; NaN and NaT until then."""


def train(
    momentum: pd.DataFrame,
    prices: pd.DataFrame,
    *,
    horizon_d: int = 21,
    refit_months: int = 12,
    min_months: int = 36,
    penalty: float = 100.0,
    calendar: str = "XNYS",
) -> Trained:
    """Fit one ridge regression per refit date on all samples realised by then (an expanding window).

    Args:
        momentum: the signal; index `date`, one column per asset.
        prices: index `date`, the same columns, float64 [USD].
        horizon_d: the target is the return of this many trading days, less the mean over the assets.
        refit_months: months between refits.
        min_months: realised months before the first fit.
        penalty: the ridge's weight on the squared coefficients.
        calendar: the exchange whose sessions say whether the last date ends its month.

    Raises:
        InvalidInput: a table or a number cannot be used, or there are too few months for a first fit.
        MissingExtra: the extra `freshline[quant]` is not installed.

    Source: Gu, Kelly & Xiu (2020), "Empirical Asset Pricing via Machine Learning", for the recursive scheme.
    """
    for name, value, least in (("refit_months", refit_months, 1), ("min_months", min_months, 1)):
        if value < least:
            raise InvalidInput(f"{name} must be at least {least}, not {value}")
    if not 0 <= penalty < np.inf:
        raise InvalidInput(f"penalty must be 0 or more, not {penalty}")
    features = build_features(momentum, prices, calendar=calendar)
    samples = add_targets(features, prices, horizon_d=horizon_d)
    models = {
        date: _fit(_known_at(samples, date), penalty=penalty)
        for date in _refit_dates(samples, refit_months=refit_months, min_months=min_months)
    }
    bundle = Bundle(features=FEATURES, horizon_d=horizon_d, models=models)
    newest = bundle.refit_dates[-1]
    columns = [DATE, "asset", *FEATURES, "target", "prediction"]
    fitted = _known_at(samples, newest).reset_index(drop=True)
    predicted = samples.assign(prediction=_predict(bundle, samples))
    realised = predicted.dropna(subset=["prediction", "target"], ignore_index=True)
    in_sample = fitted.assign(prediction=models[newest].predict(_inputs(fitted)))
    return Trained(
        bundle=bundle,
        train=in_sample[columns],
        validation=realised[columns],
        importance=_importance(bundle),
        refits=_refits(bundle, samples),
    )


def predict(model: Path | Bundle, momentum: pd.DataFrame, prices: pd.DataFrame, *, calendar: str = "XNYS") -> Predicted:
    """Predict every month-end from the first refit on, each by the newest model fitted on or before it.

    Args:
        model: the bundle, or the path of its file.
        momentum: the signal; index `date`, one column per asset.
        prices: index `date`, the same columns, float64 [USD].
        calendar: the exchange whose sessions say whether the last date ends its month.

    Raises:
        InvalidInput: the file or a table cannot be used, or no date can be predicted.
        MissingExtra: the extra `freshline[quant]` is not installed.
    """
    bundle = model if isinstance(model, Bundle) else load_bundle(model)
    features = build_features(momentum, prices, calendar=calendar)
    unknown = [name for name in bundle.features if name not in features]
    if unknown:
        raise InvalidInput(
            f"the model takes the features {', '.join(unknown)}, which are not known here; train it again"
        )
    predicted = features.assign(prediction=_predict(bundle, features)).dropna(subset=["prediction"], ignore_index=True)
    if predicted.empty:
        raise InvalidInput(
            f"there is no month-end on or after the first fit of the model, {bundle.refit_dates[0]:%Y-%m-%d}; "
            "choose a later data_as_of"
        )
    wide = predicted.pivot(index=DATE, columns="asset", values="prediction")
    samples = add_targets(predicted, prices, horizon_d=bundle.horizon_d)
    return Predicted(
        predictions=wide.reindex(columns=[name for name in prices.columns if name != DATE]).rename_axis(columns=None),
        samples=samples[[DATE, "asset", *bundle.features, "prediction", "target", "realised_on"]],
    )


def _refit_dates(samples: pd.DataFrame, *, refit_months: int, min_months: int) -> list[pd.Timestamp]:
    """Return every `refit_months`-th rebalance date from the first with `min_months` realised months on.

    Counted from the beginning, so that later dates never move earlier refits.
    """
    dates = pd.DatetimeIndex(samples[DATE].unique())
    realised = pd.DatetimeIndex(samples.dropna(subset=["target"])["realised_on"].unique()).sort_values()
    known = realised.searchsorted(dates, side="right")
    first = int(np.searchsorted(known, min_months, side="left"))
    if first >= len(dates):
        raise InvalidInput(
            f"the first fit needs {min_months} months with a known target, but there are {len(realised)}; "
            "begin earlier, choose a later data_as_of, or lower min_months"
        )
    return list(dates[first::refit_months])


def _known_at(samples: pd.DataFrame, date: pd.Timestamp) -> pd.DataFrame:
    """Return the samples whose target is known on the date: the embargo."""
    return samples[(samples["realised_on"] <= date) & samples["target"].notna()]


def _inputs(samples: pd.DataFrame) -> Array:
    return np.ascontiguousarray(samples[list(FEATURES)].to_numpy(dtype="float64"))


def _fit(samples: pd.DataFrame, *, penalty: float) -> "Ridge":
    with needs_quant("the alpha model"):
        from sklearn.linear_model import Ridge
        from threadpoolctl import threadpool_limits
    # One thread: sums are then taken in the same order on any number of cores.
    with threadpool_limits(1):
        model: Ridge = Ridge(alpha=penalty, solver="cholesky").fit(_inputs(samples), samples["target"].to_numpy())
    return model


def _predict(bundle: Bundle, features: pd.DataFrame) -> Array:
    """Return the predictions; NaN before the first refit.

    One call per date, so that a date's last bit does not depend on how many others there are.
    """
    result = np.full(len(features), np.nan)
    inputs = np.ascontiguousarray(features[list(bundle.features)].to_numpy(dtype="float64"))
    dates = pd.DatetimeIndex(features[DATE])
    starts = np.flatnonzero(np.append(True, dates[1:] != dates[:-1]))
    models = list(bundle.models.values())
    in_force = bundle.refit_dates.searchsorted(dates[starts], side="right") - 1
    for start, stop, which in zip(starts, np.append(starts[1:], len(dates)), in_force, strict=True):
        if which >= 0:
            result[start:stop] = models[which].predict(inputs[start:stop])
    return result


def _importance(bundle: Bundle) -> pd.DataFrame:
    """Return the coefficients of the newest model; features are z-scores, so that they compare."""
    newest = bundle.models[bundle.refit_dates[-1]]
    size = np.abs(newest.coef_)
    share = size / size.sum() if size.sum() > 0 else size
    return pd.DataFrame({"feature": list(FEATURES), "coefficient": newest.coef_, "importance": share})


def _refits(bundle: Bundle, samples: pd.DataFrame) -> pd.DataFrame:
    rows = []
    for date, model in bundle.models.items():
        known = _known_at(samples, date)
        rows.append(
            {
                "refit_date": date,
                "first_date": known[DATE].iloc[0],
                "last_date": known[DATE].iloc[-1],
                "samples": len(known),
                "intercept": float(model.intercept_),
                **dict(zip(FEATURES, map(float, model.coef_), strict=True)),
            }
        )
    return pd.DataFrame(rows)
