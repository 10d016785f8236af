"""Metrics of an ExperimentRun: the distribution of what a study computed.

Must not know what the study is about.
"""

from typing import TYPE_CHECKING

from .model import DAILY, Convention, Metrics, measure

if TYPE_CHECKING:
    import numpy.typing as npt
    import pandas as pd


class ExperimentMetrics(Metrics):
    """How the computed values are distributed; all columns pooled, NaN left out of all but `nan_pct`."""

    rows_computed: int | None = measure("rows", "rows of the computed table", ge=0)
    nan_pct: float | None = measure("%", "100 · missing values / values, 0 to 100")
    mean: float | None = measure("of the values", "Σ x / n")
    std: float | None = measure("of the values", "√(Σ (x − mean)² / (n − ddof)); 0 when all are equal", uses=["ddof"])
    min: float | None = measure("of the values", "the smallest value")
    max: float | None = measure("of the values", "the largest value")
    skewness: float | None = measure(
        "1",
        "adjusted Fisher-Pearson coefficient: √(n (n − 1)) / (n − 2) · m₃ / m₂^1.5, mₖ = Σ (x − mean)ᵏ / n; "
        "NaN below 3 values or when all are equal",
        fixed={"bias": "adjusted"},
        source="Joanes & Gill 1998 (G1); equals pandas `skew` and scipy `skew(bias=False)`",
    )
    kurtosis: float | None = measure(
        "1",
        "excess (0 for a normal distribution), adjusted: (n − 1) / ((n − 2)(n − 3)) · ((n + 1)(m₄ / m₂² − 3) + 6); "
        "NaN below 4 values or when all are equal",
        fixed={"bias": "adjusted", "excess": True},
        source="Joanes & Gill 1998 (G2); equals pandas `kurt` and scipy `kurtosis(bias=False)`",
    )


def experiment_metrics(
    values: "pd.DataFrame | pd.Series | npt.ArrayLike", *, convention: Convention = DAILY
) -> ExperimentMetrics:
    """Describe the values of a table, a column or an array; rows are its first dimension.

    Without any value all statistics are NaN, and so is `nan_pct`.

    Raises:
        InvalidInput: something in it is not a number.
    """
    from .moments import describe, numbers

    array = numbers(values, "the computed values")
    stats = describe(array, ddof=convention.ddof)
    return ExperimentMetrics(
        rows_computed=array.shape[0] if array.ndim else 1,
        nan_pct=stats.missing_pct,
        mean=stats.mean,
        std=stats.std,
        min=stats.min,
        max=stats.max,
        skewness=stats.skewness,
        kurtosis=stats.kurtosis,
        convention=convention.computed_here(),
    )
