"""How predictions compare with what came: errors, rank correlation, confusion.

Pure functions on numbers; must not know models or runs. Missing values on either side leave a sample out.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from ...storage.errors import InvalidInput
from .moments import Array, numbers

NAN = float("nan")


@dataclass(frozen=True)
class RegressionScores:
    """Errors of predicted numbers."""

    rmse: float
    """Root of the mean squared error."""
    mae: float
    """Mean absolute error."""
    r2: float
    """Share of the variance that is explained; negative when worse than the mean."""
    ic: float
    """Spearman's rank correlation."""
    ic_by: str
    """`date` when it is a mean over the rows of wide tables, `all` when all samples were pooled."""
    samples: int
    """Samples with both values."""


@dataclass(frozen=True)
class ClassificationScores:
    """Quality of scores for two classes."""

    accuracy: float
    """Share of right decisions."""
    auc: float
    """Area under the receiver operating characteristic."""
    precision: float
    """Share of predicted positives that are."""
    recall: float
    """Share of positives that were found."""
    f1: float
    """Harmonic mean of precision and recall."""
    samples: int
    """Samples with both values."""


def regression_scores(actual: Any, predicted: Any) -> RegressionScores:
    """Compare predicted with actual values.

    Raises:
        InvalidInput: they differ in shape or labels, or are not numbers.
    """
    truth, guess = paired(actual, predicted)
    by_date = isinstance(actual, pd.DataFrame) and isinstance(predicted, pd.DataFrame) and actual.shape[1] > 1
    present = ~(np.isnan(truth) | np.isnan(guess))
    t, g = truth[present], guess[present]
    if not t.size:
        return RegressionScores(NAN, NAN, NAN, NAN, "date" if by_date else "all", 0)
    with np.errstate(all="ignore"):
        error = t - g
        spread = float(((t - t.mean()) ** 2).sum()) if t.min() != t.max() else 0.0
        squared = float((error**2).sum())
        return RegressionScores(
            rmse=float(np.sqrt(squared / t.size)),
            mae=float(np.abs(error).mean()),
            r2=1.0 - squared / spread if spread > 0.0 else NAN,
            ic=mean_of_present(row_ic(guess, truth)) if by_date else rank_correlation(g, t),
            ic_by="date" if by_date else "all",
            samples=int(t.size),
        )


def classification_scores(actual: Any, score: Any, *, threshold: float) -> ClassificationScores:
    """Compare scores with two classes; positive is true or above 0.

    Raises:
        InvalidInput: they differ in shape or labels, or are not numbers.
    """
    truth, guess = paired(actual, score)
    present = ~(np.isnan(truth) | np.isnan(guess))
    is_positive, s = truth[present] > 0, guess[present]
    called = s >= threshold
    hits, alarms = int((is_positive & called).sum()), int((~is_positive & called).sum())
    misses, n = int((is_positive & ~called).sum()), s.size
    return ClassificationScores(
        accuracy=ratio(n - alarms - misses, n),
        auc=_auc(is_positive, s),
        precision=ratio(hits, hits + alarms),
        recall=ratio(hits, hits + misses),
        f1=ratio(2 * hits, 2 * hits + alarms + misses),
        samples=n,
    )


def paired(first: Any, second: Any) -> tuple[Array, Array]:
    """Return both as arrays of one shape.

    Raises:
        InvalidInput: they differ in shape or labels, or are not numbers.
    """
    labelled = (pd.Series, pd.DataFrame)
    if isinstance(first, labelled) and isinstance(second, labelled):
        same = first.index.equals(second.index)
        if same and isinstance(first, pd.DataFrame) and isinstance(second, pd.DataFrame):
            same = first.columns.equals(second.columns)
        if not same:
            raise InvalidInput(
                f"the rows or columns of the two sides differ (shapes {first.shape} and {second.shape}): "
                f"align them first, for example with first.align(second, join='inner')"
            )
    left, right = numbers(first, "the actual values"), numbers(second, "the predicted values")
    if left.shape != right.shape:
        raise InvalidInput(f"the two sides differ in shape, {left.shape} and {right.shape}: they must be of one length")
    return left, right


def rank_correlation(first: Array, second: Array) -> float:
    """Return Spearman's correlation of two arrays without NaN; NaN below 2 values or without spread."""
    return float(row_ic(first[None, :], second[None, :])[0]) if first.size else NAN


def row_ic(first: Array, second: Array) -> Array:
    """Return Spearman's correlation of each pair of rows, over the columns that both have; NaN where undefined."""
    absent = np.isnan(first) | np.isnan(second)
    ranks = [
        pd.DataFrame(np.where(absent, np.nan, side)).rank(axis=1).to_numpy(dtype=np.float64) for side in (first, second)
    ]
    count = (~absent).sum(axis=1)
    # The mean of the ranks 1..n is (n + 1) / 2, also with ties.
    middle = ((count + 1) / 2)[:, None]
    x, y = (np.where(absent, 0.0, side - middle) for side in ranks)
    spread = np.sqrt((x**2).sum(axis=1) * (y**2).sum(axis=1))
    result = np.full(len(count), np.nan)
    np.divide((x * y).sum(axis=1), spread, out=result, where=spread > 0.0)
    return np.asarray(np.clip(result, -1.0, 1.0), dtype=np.float64)


def mean_of_present(values: Array) -> float:
    """Return the mean of the values that are not NaN; NaN without any."""
    present = values[~np.isnan(values)]
    return float(present.mean()) if present.size else NAN


def ratio(part: float, whole: float) -> float:
    """Return part / whole, NaN when `whole` is 0."""
    return part / whole if whole else NAN


def _auc(is_positive: npt.NDArray[np.bool_], score: Array) -> float:
    positives, negatives = int(is_positive.sum()), int((~is_positive).sum())
    if not positives or not negatives:
        return NAN
    ranks = pd.Series(score).rank().to_numpy(dtype=np.float64)
    above = float(ranks[is_positive].sum()) - positives * (positives + 1) / 2
    return above / (positives * negatives)
