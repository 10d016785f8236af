"""The price source that ships: real prices that come inside the `skfolio` package, so no network is needed.

Owns how a source looks: a function of `since` and `until` that returns the rows in between. Knows nothing of runs.

The stocks are twenty that are in the S&P 500 today, over the decades in which they got there: **survivors**. A rule
tested on them looks better than it would have been, whatever the rule. They demonstrate the chain, not an edge.
"""

from datetime import date
from importlib.util import find_spec
from pathlib import Path

import pandas as pd

from ..storage.errors import InvalidInput
from .extra import needs_quant
from .panels import DATE


def sp500(*, since: date | None = None, until: date | None = None) -> pd.DataFrame:
    """Return daily adjusted closes of 20 large US stocks, 1990-01-02 to 2022-12-28, where since < date <= until.

    The prices are those of survivors: see the module's docstring before reading anything into a Sharpe ratio.

    Args:
        since: the last date that is known already; None for all from the beginning.
        until: the last date to be revealed; None for all that there is.

    Returns:
        n rows, 0 to 8,313; index `date`, ascending trading days of XNYS; 20 columns float64 [USD], none missing.

    Raises:
        MissingExtra: the extra `freshline[quant]` is not installed.
        InvalidInput: `since` or `until` is not a date.

    Source: `skfolio.datasets.load_sp500_dataset`, a file in the package.
    """
    bounds = [_timestamp(since, name="since"), _timestamp(until, name="until")]
    prices = _bundled_prices()
    after, last = bounds
    if after is not None:
        prices = prices[prices.index > after]
    if last is not None:
        prices = prices[prices.index <= last]
    return prices


def _bundled_prices() -> pd.DataFrame:
    """Read the file that `load_sp500_dataset` reads, without the seconds that importing all of skfolio takes."""
    package = find_spec("skfolio")
    for folder in package.submodule_search_locations or () if package is not None else ():
        file = Path(folder, "datasets", "data", "sp500_dataset.csv.gz")
        if file.is_file():
            return pd.read_csv(file, index_col=0, parse_dates=True).rename_axis(index=DATE, columns=None)
    with needs_quant("the source sp500"):
        from skfolio.datasets import load_sp500_dataset
    prices: pd.DataFrame = load_sp500_dataset()  # a release that keeps the file elsewhere
    return prices.rename_axis(index=DATE, columns=None)


def _timestamp(value: date | None, *, name: str) -> pd.Timestamp | None:
    if value is None:
        return None
    if not isinstance(value, date):
        raise InvalidInput(f"{name} must be a date, not {value!r}")
    return pd.Timestamp(value.year, value.month, value.day)
