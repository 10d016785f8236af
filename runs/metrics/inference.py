"""Metrics of an InferenceRun: what a model predicted, and how fast."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from .model import DAILY, Convention, Metrics, measure

if TYPE_CHECKING:
    import numpy.typing as npt
    import pandas as pd


class InferenceMetrics(Metrics):
    """What was predicted; missing predictions are left out."""

    num_predictions: int | None = measure("predictions", "predictions that are not missing", ge=0)
    mean_prediction: float | None = measure("of the target", "Σ prediction / n")
    std_prediction: float | None = measure(
        "of the target", "√(Σ (prediction − mean)² / (n − ddof)); 0 when all are equal", uses=["ddof"]
    )
    confidence_mean: float | None = measure("of the confidence", "mean of the confidences that the model gave")
    latency_ms: float | None = measure("ms", "mean wall time of one call of the model; one call may predict many rows")


def inference_metrics(
    predictions: "pd.DataFrame | pd.Series | npt.ArrayLike",
    *,
    confidence: "pd.DataFrame | pd.Series | npt.ArrayLike | None" = None,
    latency_ms: float | Sequence[float] | None = None,
    convention: Convention = DAILY,
) -> InferenceMetrics:
    """Describe predictions. `latency_ms` is the time of one call, or of each of several.

    Raises:
        InvalidInput: something in it is not a number.
    """
    from .moments import describe, numbers
    from .scores import mean_of_present

    array = numbers(predictions, "the predictions")
    stats = describe(array, ddof=convention.ddof)
    missing = round(array.size * stats.missing_pct / 100.0) if array.size else 0
    sure = mean_of_present(numbers(confidence, "the confidences").ravel()) if confidence is not None else None
    calls = numbers(latency_ms, "the latencies").ravel() if latency_ms is not None else None
    return InferenceMetrics(
        num_predictions=array.size - missing,
        mean_prediction=stats.mean,
        std_prediction=stats.std,
        confidence_mean=sure,
        latency_ms=mean_of_present(calls) if calls is not None else None,
        convention=convention.computed_here(),
    )
