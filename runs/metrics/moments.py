"""Mean, spread and shape of a set of numbers, with the cases in which they are undefined.

Pure functions on numpy arrays; must not know metrics or conventions.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from ...storage.errors import InvalidInput

Array = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Description:
    """Statistics of the values that are present; NaN where undefined."""

    missing_pct: float
    """100 · missing / all."""
    mean: float
    """Arithmetic mean."""
    std: float
    """Standard deviation."""
    min: float
    """Smallest."""
    max: float
    """Largest."""
    skewness: float
    """Adjusted Fisher-Pearson."""
    kurtosis: float
    """Adjusted, excess."""


def numbers(values: Any, what: str) -> Array:
    """Return `values` as float64; missing values of any kind become NaN.

    Raises:
        InvalidInput: something in it is not a number; the message names `what`.
    """
    try:
        if hasattr(values, "to_numpy"):
            return np.asarray(values.to_numpy(dtype=np.float64, na_value=np.nan))
        return np.asarray(values, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise InvalidInput(f"{what} must be numbers only: {error}. Select the numeric columns first") from None


def describe(values: Array, *, ddof: int) -> Description:
    """Describe all values of an array of any shape; infinities make what they touch infinite or NaN."""
    flat = values.ravel()
    present = flat[~np.isnan(flat)]
    n = present.size
    if n == 0:
        share = 100.0 if flat.size else np.nan
        return Description(share, np.nan, np.nan, np.nan, np.nan, np.nan, np.nan)
    with np.errstate(all="ignore"):
        return Description(
            missing_pct=100.0 * (flat.size - n) / flat.size,
            mean=float(present.mean()),
            std=std(present, ddof=ddof),
            min=float(present.min()),
            max=float(present.max()),
            skewness=_adjusted_skewness(present),
            kurtosis=_adjusted_kurtosis(present),
        )


def std(values: Array, *, ddof: int) -> float:
    """Return the standard deviation; exactly 0 when all values are equal, NaN with n <= ddof values.

    The mean of equal values can differ from them in its last bit. Without the exact zero that residue would turn an
    undefined ratio into a number near 1e15.
    """
    if values.size <= ddof:
        return float("nan")
    if values.min() == values.max():
        return 0.0 if np.isfinite(values[0]) else float("nan")
    with np.errstate(all="ignore"):
        return float(values.std(ddof=ddof))


def skewness(values: Array) -> float:
    """Return m₃ / m₂^1.5 of the population; NaN when all values are equal."""
    return _standardised(values, 3)


def kurtosis(values: Array) -> float:
    """Return m₄ / m₂² of the population, 3 for a normal distribution; NaN when all values are equal."""
    return _standardised(values, 4)


def _standardised(values: Array, order: int) -> float:
    if values.size == 0 or values.min() == values.max():
        return float("nan")
    with np.errstate(all="ignore"):
        centred = values - values.mean()
        scale = np.abs(centred).max()
        if not np.isfinite(scale) or scale == 0.0:
            return float("nan")
        centred = centred / scale  # else the powers of very small or large values leave the range of float64
        return float((centred**order).mean() / (centred**2).mean() ** (order / 2))


def _adjusted_skewness(values: Array) -> float:
    n = values.size
    return float("nan") if n < 3 else float(np.sqrt(n * (n - 1)) / (n - 2) * skewness(values))


def _adjusted_kurtosis(values: Array) -> float:
    n = values.size
    if n < 4:
        return float("nan")
    return float((n - 1) / ((n - 2) * (n - 3)) * ((n + 1) * (kurtosis(values) - 3.0) + 6.0))
