"""The inputs of the alpha model: features known at a date, and the return that follows.

Owns what a sample is. Knows no model and nothing of runs.

A sample is an asset on a rebalance date. Its features use rows up to and including that date. Its target is the
return of the following `horizon_d` trading days, and `realised_on` is the first date on which it is known: a model
fitted on date t may use samples with `realised_on` <= t and no others (the embargo).
"""

import numpy as np
import numpy.typing as npt
import pandas as pd

from ..storage.errors import InvalidInput
from .panels import DATE, Array, check_panel, dates_of, month_ends, rows_at, standardised, trailing_return, values_of

FEATURES = ("momentum", "reversal", "volatility")
"""The columns of a sample that the model sees, in its order."""

_REVERSAL_D = 21
_VOLATILITY_D = 63


def build_features(momentum: pd.DataFrame, prices: pd.DataFrame, *, calendar: str = "XNYS") -> pd.DataFrame:
    """Return the features of every asset on every month-end of the momentum signal.

    Each feature is z-scored over the assets of its date (ddof=0):

    - `momentum`: the signal;
    - `reversal`: minus the return of the last 21 trading days;
    - `volatility`: the standard deviation (ddof=1) of the last 63 daily returns.

    Args:
        momentum: the signal; index `date`, one column per asset.
        prices: n rows; index `date`, the same columns, float64 [USD]; covers the dates of the signal.
        calendar: the exchange whose sessions say whether the last date ends its month.

    Returns:
        one row per date and asset, sorted by date, then in the column order of `prices`; columns date:
        datetime64, asset: string, and one float64 [standard deviations] per feature. Samples with a feature
        missing are left out.

    Raises:
        InvalidInput: a table cannot be used, or the two do not cover the same assets and days.
    """
    prices = check_panel(prices, name="prices", positive=True)
    signal = check_panel(momentum, name="momentum")
    if set(signal.columns) != set(prices.columns):
        differing = sorted(map(str, set(signal.columns) ^ set(prices.columns)))
        raise InvalidInput(f"momentum and prices must have the same assets; they differ in {', '.join(differing)}")
    signal = signal[prices.columns]
    dates = month_ends(dates_of(signal), calendar=calendar)
    rows = rows_at(dates_of(prices), dates, name="prices")
    scores = {
        "momentum": values_of(signal.loc[dates]),
        "reversal": -trailing_return(prices, start_d=_REVERSAL_D)[rows],
        "volatility": _volatility(prices, rows),
    }
    table = _long(dates, prices.columns)
    for name in FEATURES:
        table[name] = standardised(scores[name]).ravel()
    return table.dropna(subset=list(FEATURES), ignore_index=True)


def add_targets(features: pd.DataFrame, prices: pd.DataFrame, *, horizon_d: int = 21) -> pd.DataFrame:
    """Return the samples: the features with the columns `target` and `realised_on`.

    `target` is the asset's simple return over the `horizon_d` trading days after the date, minus the mean over
    the assets of that date; float64 [1], NaN while it is not known. `realised_on` is the date on which it
    becomes known; NaT while that lies beyond the prices.

    Raises:
        InvalidInput: the prices do not cover the dates, or the horizon is not positive.
    """
    if horizon_d < 1:
        raise InvalidInput(f"horizon_d must be at least 1 trading day, not {horizon_d}")
    prices = check_panel(prices, name="prices", positive=True)
    dates = pd.DatetimeIndex(features[DATE].unique())
    rows = rows_at(dates_of(prices), dates, name="prices")
    known = rows + horizon_d < len(prices)
    ends = np.where(known, rows + horizon_d, rows)
    numbers = values_of(prices)
    returns = np.where(known[:, None], numbers[ends] / numbers[rows] - 1.0, np.nan)
    listed = np.isfinite(returns)
    mean = np.where(listed, returns, 0.0).sum(axis=1) / np.maximum(listed.sum(axis=1), 1)
    at_date = dates.get_indexer(pd.DatetimeIndex(features[DATE]))
    at_asset = prices.columns.get_indexer(pd.Index(features["asset"]))
    realised = prices.index[ends].to_series(index=dates).where(known)
    return features.assign(
        target=(returns - mean[:, None])[at_date, at_asset],
        realised_on=realised.to_numpy()[at_date],
    )


def _volatility(prices: pd.DataFrame, rows: npt.NDArray[np.intp]) -> Array:
    """Return the standard deviation of the daily returns of the window that ends at each row.

    Each window is summed on its own: a running sum would carry rounding errors from one window to the next.
    """
    daily = trailing_return(prices, start_d=1)
    windows = rows[:, None] + np.arange(1 - _VOLATILITY_D, 1)
    result: Array = daily[np.maximum(windows, 0)].std(axis=1, ddof=1)
    result[rows < _VOLATILITY_D] = np.nan
    return result


def _long(dates: pd.DatetimeIndex, assets: pd.Index) -> pd.DataFrame:
    return pd.DataFrame(
        {
            DATE: dates.repeat(len(assets)),
            "asset": np.tile(assets.to_numpy(dtype=object), len(dates)),
        }
    ).astype({"asset": "str"})
