"""Is a table complete, plausible, without repetition and recent? Pure functions; must not know models or runs."""

from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime
from typing import Any

import numpy as np
import pandas as pd

from ...storage.errors import InvalidInput
from .histogram import Histogram
from .moments import numbers

NAN = float("nan")
FENCE = 3.0
"""Interquartile ranges beyond a quartile from which a value is an outlier."""


def missing_pct(sample: pd.DataFrame) -> float:
    """Return 100 · missing cells / cells, of any type; NaN for a table without cells."""
    return 100.0 * float(sample.isna().to_numpy().mean()) if sample.size else NAN


def outlier_pct(
    sample: pd.DataFrame, *, reference: Mapping[str, Histogram] | None = None, fence: float = FENCE
) -> float:
    """Return 100 · outliers / values over the numeric columns; missing cells are neither.

    An outlier lies more than `fence` interquartile ranges below the low or above the high quartile of its column's
    reference, or of the column itself without one. A column whose quartiles are equal is left out: it has no scale.

    Raises:
        InvalidInput: `fence` is not above 0.
    """
    if not fence > 0.0:
        raise InvalidInput(f"fence={fence} must be above 0: 1.5 is strict, 3 finds far outliers only")
    outside = total = 0
    for name, column in sample.select_dtypes("number").items():
        flat = numbers(column, f"column {name!r}")
        values = flat[~np.isnan(flat)]
        if not values.size:
            continue
        known = (reference or {}).get(str(name))
        low, high = (known.low_quartile, known.high_quartile) if known else _quartiles(values)
        reach = fence * (high - low)
        if not reach > 0.0:
            continue
        outside += int(((values < low - reach) | (values > high + reach)).sum())
        total += values.size
    return 100.0 * outside / total if total else NAN


def duplicate_pct(sample: pd.DataFrame, *, keys: Sequence[str] = ()) -> float:
    """Return 100 · rows whose key occurred in an earlier row / rows; NaN for a table without rows.

    The key is the columns `keys`; without them the index label, or the whole row when rows are only numbered.

    Raises:
        InvalidInput: a key column is absent.
    """
    absent = [key for key in keys if key not in sample.columns]
    if absent:
        raise InvalidInput(f"the sample has no key column {absent[0]!r}; it has {list(sample.columns)}")
    if not len(sample):
        return NAN
    if keys or isinstance(sample.index, pd.RangeIndex):
        repeated = sample.duplicated(subset=list(keys) or None)
        return 100.0 * float(repeated.mean())
    return 100.0 * float(sample.index.duplicated().mean())


def staleness_h(last_data_at: date, *, now: datetime) -> float:
    """Return the hours from `last_data_at` to `now`; a plain date counts from its first moment, UTC.

    Negative when the data is from the future.

    Raises:
        InvalidInput: a time without time zone.
    """
    moment = last_data_at
    if not isinstance(moment, datetime):
        moment = datetime(moment.year, moment.month, moment.day, tzinfo=UTC)
    for name, value in (("last_data_at", moment), ("now", now)):
        if value.tzinfo is None:
            raise InvalidInput(f"{name}={value} has no time zone: give an aware time, such as datetime.now(UTC)")
    return (now - moment).total_seconds() / 3600.0


def _quartiles(values: Any) -> tuple[float, float]:
    finite = values[np.isfinite(values)]
    low, high = np.quantile(finite, [0.25, 0.75]) if finite.size else (NAN, NAN)
    return float(low), float(high)
