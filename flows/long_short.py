"""The plain long-short: buy the assets with the highest signal, sell those with the lowest.

A strategy is a pure function that turns upstream tables, by role, into target weights per decision date. Knows
nothing of runs.
"""

import numpy as np
import pandas as pd

from ..storage.errors import InvalidInput
from .panels import check_panel, dates_of, month_ends, rows_at, values_of


def momentum_ls(
    momentum: pd.DataFrame, prices: pd.DataFrame, *, share: float = 0.2, calendar: str = "XNYS"
) -> pd.DataFrame:
    """Return dollar-neutral weights at each month-end: half of the equity long, half short.

    The `share` of the assets with the highest signal is bought and as many with the lowest are sold, in equal
    weights, so that the weights of a date add up to 0 and their sizes to 1. Equal signals go by column order.

    Args:
        momentum: the signal; index `date`, one column per asset; NaN takes no part.
        prices: index `date`; must cover the dates of the signal.
        share: the share of the assets on each side, above 0 and up to 0.5; at least one asset.
        calendar: the exchange whose sessions say whether the last date ends its month.

    Returns:
        one row per month-end; index `date`; the columns of `momentum`, float64 [shares of the equity]. A date on
        which fewer than two assets have a signal holds nothing.

    Raises:
        InvalidInput: a table or the share cannot be used.
    """
    if not 0 < share <= 0.5:
        raise InvalidInput(f"share must be above 0 and at most 0.5, not {share}")
    signal = check_panel(momentum, name="momentum")
    dates = month_ends(dates_of(signal), calendar=calendar)
    rows_at(dates_of(check_panel(prices, name="prices", positive=True)), dates, name="prices")
    scores = values_of(signal.loc[dates])
    known = np.isfinite(scores)
    count = known.sum(axis=1, keepdims=True)
    each_side = np.where(count >= 2, np.maximum((count * share).astype(int), 1), 0)
    order = np.argsort(np.where(known, scores, np.inf), axis=1, kind="stable")
    rank = np.argsort(order, axis=1, kind="stable")  # 0 has the lowest signal; unknown ones come last
    long = known & (rank >= count - each_side)
    short = known & (rank < each_side)
    size = 0.5 / np.maximum(each_side, 1)
    return pd.DataFrame((long.astype(float) - short) * size, index=dates, columns=signal.columns)
