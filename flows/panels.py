"""Panels: wide tables with one row per trading day and one column per asset.

Owns their checks, the rebalance dates and the standardisation across assets. Knows no market data, no model and
nothing of runs.

Every function that turns a panel into numbers works on rows alone (a row's result never depends on another row's
position in memory), so that the same prices give the same bytes however long the table is.
"""

import warnings
from functools import lru_cache

import numpy as np
import numpy.typing as npt
import pandas as pd

from ..storage.errors import InvalidInput

Array = npt.NDArray[np.float64]

DATE = "date"
"""The name of a panel's index, and of the date column of a long table."""


def check_panel(table: object, *, name: str, positive: bool = False) -> pd.DataFrame:
    """Return the table as a panel: index `date`, strictly increasing; columns are assets, float64.

    A column `date` becomes the index. Missing values (NaN) are kept: an asset that is not listed yet.

    Raises:
        InvalidInput: no table, no dates, dates out of order or twice, text, infinite values; with `positive`
            also values that are zero or less. The message names the first place.
    """
    if not isinstance(table, pd.DataFrame):
        raise InvalidInput(f"{name} must be a DataFrame of dates x assets, not {type(table).__name__}")
    panel = table.set_index(DATE) if DATE in table.columns else table
    index = panel.index
    if not isinstance(index, pd.DatetimeIndex):
        raise InvalidInput(f"{name} has no dates: give it a DatetimeIndex, or a column {DATE!r} of dates")
    if index.tz is not None:
        raise InvalidInput(f"the dates of {name} have the time zone {index.tz}; trading days have none")
    if panel.columns.has_duplicates:
        twice = panel.columns[panel.columns.duplicated()][0]
        raise InvalidInput(f"{name} has the column {twice!r} twice; keep one")
    later = np.diff(index.to_numpy()) > np.timedelta64(0)
    if not later.all():
        place = int(np.flatnonzero(~later)[0])
        raise InvalidInput(
            f"the dates of {name} must increase, but {index[place]:%Y-%m-%d} is followed by "
            f"{index[place + 1]:%Y-%m-%d}; sort them and drop duplicates"
        )
    try:
        floats = panel.astype("float64")
    except (TypeError, ValueError) as error:
        raise InvalidInput(f"{name} must hold numbers: {error}") from None
    numbers = values_of(floats)
    bad = np.isinf(numbers)
    if positive:
        bad |= numbers <= 0
    if bad.any():
        row, column = (int(at[0]) for at in np.nonzero(bad))
        wanted = "positive and finite" if positive else "finite"
        raise InvalidInput(
            f"{name} must be {wanted}, but {panel.columns[column]} on {index[row]:%Y-%m-%d} is "
            f"{numbers[row, column]}; correct or blank the value"
        )
    return floats.rename_axis(index=DATE, columns=None)


def dates_of(panel: pd.DataFrame) -> pd.DatetimeIndex:
    """Return the index of a checked panel."""
    return pd.DatetimeIndex(panel.index)


def values_of(panel: pd.DataFrame) -> Array:
    """Return the numbers as a row-major array.

    pandas keeps columns together or apart depending on how a table was made; sums over a row would then differ
    in the last bit.
    """
    return np.ascontiguousarray(panel.to_numpy(dtype="float64"))


def month_ends(dates: pd.DatetimeIndex, *, calendar: str = "XNYS") -> pd.DatetimeIndex:
    """Return the last trading day of each month: the days on which the shipped flows decide.

    A date counts when the next one lies in another month. For the last date, whose successor is not known yet,
    the exchange's calendar decides, so that cutting the dates at any day never changes what came before.

    Raises:
        InvalidInput: there is no such calendar.
    """
    if dates.empty:
        return dates
    months = (dates.year * 12 + dates.month).to_numpy()
    last_of_month = np.append(months[1:] != months[:-1], _is_last_session(dates[-1], calendar))
    return dates[last_of_month]


def standardised(values: Array) -> Array:
    """Return each row minus its mean, divided by its standard deviation (ddof=0); NaN stays out of both.

    A row with fewer than two values, or without any spread, has no z-score: all NaN.
    """
    known = np.isfinite(values)
    count = np.maximum(known.sum(axis=1, keepdims=True), 1)
    mean = np.where(known, values, 0.0).sum(axis=1, keepdims=True) / count
    deviation = np.where(known, values - mean, 0.0)
    spread = np.sqrt((deviation**2).sum(axis=1, keepdims=True) / count)
    # Equal values leave a spread of rounding errors, which would be blown up to scores of about 1.
    scale = np.abs(np.where(known, values, 0.0)).max(axis=1, keepdims=True, initial=0.0)
    usable = known & (spread > 1e-12 * scale)
    return np.where(usable, deviation / np.where(spread > 0, spread, 1.0), np.nan)


def trailing_return(prices: pd.DataFrame, *, start_d: int, end_d: int = 0) -> Array:
    """Return the simple return from `start_d` to `end_d` rows before each row; NaN where there is no such row."""
    numbers = values_of(prices)
    result = np.full(numbers.shape, np.nan)
    if len(numbers) > start_d:
        stop = len(numbers) - end_d
        result[start_d:] = numbers[start_d - end_d : stop] / numbers[: len(numbers) - start_d] - 1.0
    return result


def rows_at(dates: pd.DatetimeIndex, wanted: pd.DatetimeIndex, *, name: str) -> npt.NDArray[np.intp]:
    """Return the row of each wanted date.

    Raises:
        InvalidInput: a wanted date is not among the dates; `name` says whose dates those are.
    """
    rows = dates.get_indexer(wanted)
    if (rows < 0).any():
        missing = wanted[rows < 0][0]
        raise InvalidInput(f"{name} has no row for {missing:%Y-%m-%d}; both tables must cover the same trading days")
    return rows


def _is_last_session(date: pd.Timestamp, calendar: str) -> bool:
    sessions = _sessions_of_year(calendar, date.year)
    return bool(date >= sessions[sessions.month == date.month][-1])


@lru_cache(maxsize=256)
def _sessions_of_year(calendar: str, year: int) -> pd.DatetimeIndex:
    with warnings.catch_warnings():
        # exchange_calendars 4.x meets deprecations of pandas 3.1 inside.
        warnings.simplefilter("ignore")
        import exchange_calendars

        try:
            found = exchange_calendars.get_calendar(calendar, start=f"{year}-01-01", end=f"{year}-12-31")
        except exchange_calendars.errors.InvalidCalendarName:
            raise InvalidInput(f"{calendar!r} is not a calendar of exchange_calendars, such as XNYS or XLON") from None
        return pd.DatetimeIndex(found.sessions)
