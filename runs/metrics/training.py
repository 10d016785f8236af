"""Metrics of a TrainingRun: how well a model fits what it was fitted on, and what it was not.

Must not know any model library: it compares numbers that were predicted with numbers that came.
"""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from ...storage.errors import InvalidInput
from .model import DAILY, Convention, Metrics, measure

if TYPE_CHECKING:
    import numpy.typing as npt
    import pandas as pd

    Values = pd.DataFrame | pd.Series | npt.ArrayLike

_RMSE = "√(Σ (actual − predicted)² / n)"
_MAE = "Σ |actual − predicted| / n"
_R2 = "1 − Σ (actual − predicted)² / Σ (actual − mean(actual))²; NaN when all actual values are equal"
_IC = (
    "Spearman's rank correlation of predicted and actual (ties get their mean rank); of wide tables "
    "(one row per date) the mean of the dates' correlations; NaN when either side has no spread"
)
_POSITIVE = "actual true, or above 0; predicted positive when score ≥ threshold"


class TrainingMetrics(Metrics):
    """How a model fits; `train_` on the samples that it was fitted on, `val_` on samples that it had not seen.

    The five metrics of a classifier are on the validation samples. A regressor leaves them None, a classifier the
    others.
    """

    train_rmse: float | None = measure("of the target", f"{_RMSE}, training samples")
    train_mae: float | None = measure("of the target", f"{_MAE}, training samples")
    train_r2: float | None = measure("1", f"{_R2}; training samples")
    train_ic: float | None = measure("1", f"{_IC}; training samples")
    val_rmse: float | None = measure("of the target", f"{_RMSE}, validation samples")
    val_mae: float | None = measure("of the target", f"{_MAE}, validation samples")
    val_r2: float | None = measure("1", f"{_R2}; validation samples")
    val_ic: float | None = measure("1", f"{_IC}; validation samples")
    accuracy: float | None = measure("fraction", f"(TP + TN) / n; {_POSITIVE}")
    auc: float | None = measure(
        "fraction",
        "probability that a positive sample scores higher than a negative one, ties count half; NaN with one class",
        source="Mann & Whitney 1947; equals scikit-learn `roc_auc_score`",
    )
    precision: float | None = measure("fraction", "TP / (TP + FP); NaN when nothing is predicted positive")
    recall: float | None = measure("fraction", "TP / (TP + FN); NaN when nothing is positive")
    f1: float | None = measure("fraction", "2 TP / (2 TP + FP + FN); NaN when nothing is or is predicted positive")
    num_features: int | None = measure("features", "inputs of the model", ge=0)
    training_samples: int | None = measure("rows", "rows that the model was fitted on", ge=0)
    validation_samples: int | None = measure("rows", "rows that `val_` metrics are computed on", ge=0)
    feature_importance: Mapping[str, float] | None = measure(
        "table", "importance by feature name, as the model library defines it"
    )

    def feature_importance_table(self) -> "pd.DataFrame":
        """Return the importance as a table, most important first.

        One row per feature; columns feature: str, importance: float64, rank: int64 from 1.
        """
        import pandas as pd

        rows = list((self.feature_importance or {}).items())
        table = pd.DataFrame(rows, columns=["feature", "importance"]).astype({"importance": "float64"})
        table = table.sort_values("importance", ascending=False, kind="stable", ignore_index=True)
        return table.assign(rank=range(1, len(table) + 1)).astype({"rank": "int64"})


def training_metrics(
    *,
    train: "tuple[Values, Values] | None" = None,
    validation: "tuple[Values, Values] | None" = None,
    features: Sequence[str] | int | None = None,
    feature_importance: Mapping[str, float] | None = None,
    convention: Convention = DAILY,
) -> TrainingMetrics:
    """Judge a regressor. `train` and `validation` are (actual, predicted) of one shape each.

    Two wide tables (rows are dates, columns assets) give the IC per date, averaged; anything else is pooled. Samples
    with a missing value on either side are left out.

    Raises:
        InvalidInput: actual and predicted differ in shape or labels, or are not numbers.
    """
    from .scores import regression_scores

    fitted = regression_scores(*train) if train is not None else None
    judged = regression_scores(*validation) if validation is not None else None
    details = {}
    for prefix, scores in (("train", fitted), ("val", judged)):
        if scores is not None:
            details[f"{prefix}_ic"] = {"method": "spearman", "by": scores.ic_by}
    return TrainingMetrics(
        train_rmse=fitted.rmse if fitted else None,
        train_mae=fitted.mae if fitted else None,
        train_r2=fitted.r2 if fitted else None,
        train_ic=fitted.ic if fitted else None,
        training_samples=fitted.samples if fitted else None,
        val_rmse=judged.rmse if judged else None,
        val_mae=judged.mae if judged else None,
        val_r2=judged.r2 if judged else None,
        val_ic=judged.ic if judged else None,
        validation_samples=judged.samples if judged else None,
        num_features=_count(features, feature_importance),
        feature_importance=feature_importance,
        convention=convention.computed_here(details),
    )


def classification_metrics(
    validation: "tuple[Values, Values]",
    *,
    threshold: float = 0.5,
    training_samples: int | None = None,
    features: Sequence[str] | int | None = None,
    feature_importance: Mapping[str, float] | None = None,
    convention: Convention = DAILY,
) -> TrainingMetrics:
    """Judge a two-class classifier on (actual, score): actual is true or above 0, score grows with its probability.

    Raises:
        InvalidInput: actual and score differ in shape or labels, or are not numbers; the threshold is not finite.
    """
    import math

    from .scores import classification_scores

    if not math.isfinite(threshold):
        raise InvalidInput(
            f"threshold={threshold} is not a finite number: give the score from which a sample is positive"
        )
    scores = classification_scores(*validation, threshold=threshold)
    chosen = {"threshold": threshold}
    return TrainingMetrics(
        accuracy=scores.accuracy,
        auc=scores.auc,
        precision=scores.precision,
        recall=scores.recall,
        f1=scores.f1,
        training_samples=training_samples,
        validation_samples=scores.samples,
        num_features=_count(features, feature_importance),
        feature_importance=feature_importance,
        convention=convention.computed_here(dict.fromkeys(("accuracy", "precision", "recall", "f1"), chosen)),
    )


def _count(features: Sequence[str] | int | None, importance: Mapping[str, float] | None) -> int | None:
    if isinstance(features, int):
        return features
    if features is not None:
        return len(features)
    return len(importance) if importance is not None else None
