"""Signals: a number per asset and date that is meant to predict something.

A signal is a pure function of panels, called with the tables of its upstreams by role. Knows nothing of runs.
"""

import pandas as pd

from ..storage.errors import InvalidInput
from .panels import check_panel, standardised, trailing_return


def momentum(prices: pd.DataFrame, *, lookback_d: int = 252, skip_d: int = 21) -> pd.DataFrame:
    """Return the cross-sectional momentum score: the trailing return, z-scored over the assets of each date.

    The return runs from `lookback_d` to `skip_d` rows before the date (12 months to 1 month: the last month is
    left out because it tends to reverse). The standard deviation has ddof=0.

    Args:
        prices: n rows; index `date`, one column per asset, float64 [USD].
        lookback_d: where the return begins, in trading days before the date.
        skip_d: where it ends, in trading days before the date.

    Returns:
        n - lookback_d rows; index `date`; the columns of `prices`, float64 [standard deviations], NaN where an
        asset has no price at either end.

    Raises:
        InvalidInput: the prices cannot be used, or there are not more than `lookback_d` rows.

    Source: Jegadeesh & Titman (1993), "Returns to Buying Winners and Selling Losers".
    """
    if not 0 <= skip_d < lookback_d:
        raise InvalidInput(f"skip_d must be at least 0 and less than lookback_d={lookback_d}, not {skip_d}")
    panel = check_panel(prices, name="prices", positive=True)
    if len(panel) <= lookback_d:
        raise InvalidInput(
            f"momentum needs more than {lookback_d} days of prices, but there are {len(panel)}; "
            "begin earlier, or choose a later data_as_of"
        )
    scores = standardised(trailing_return(panel, start_d=lookback_d, end_d=skip_d))
    return pd.DataFrame(scores[lookback_d:], index=panel.index[lookback_d:], columns=panel.columns)
