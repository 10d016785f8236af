"""Metrics of fitted models, against scikit-learn and scipy."""

import math

import numpy as np
import pandas as pd
import pytest
import scipy.stats
import sklearn.metrics

from freshline.runs.metrics import TrainingMetrics, classification_metrics, training_metrics
from freshline.storage.errors import InvalidInput


def _regression(seed: int, count: int) -> tuple[pd.Series, pd.Series]:
    generator = np.random.default_rng(seed)
    actual = pd.Series(generator.standard_normal(count))
    return actual, 0.3 * actual + pd.Series(generator.standard_normal(count)).round(1)


def _classes(seed: int, count: int) -> tuple[pd.Series, pd.Series]:
    generator = np.random.default_rng(seed)
    actual = pd.Series(generator.random(count) < 0.3)
    return actual, (0.3 * actual + 0.7 * pd.Series(generator.random(count))).round(2)


def test_training_metrics_of_different_lengths_are_refused() -> None:
    with pytest.raises(InvalidInput, match=r"differ in shape, \(2,\) and \(3,\)"):
        training_metrics(validation=([1.0, 2.0], [1.0, 2.0, 3.0]))


def test_training_metrics_of_different_labels_are_refused() -> None:
    with pytest.raises(InvalidInput, match=r"rows or columns of the two sides differ .* align"):
        training_metrics(validation=(pd.Series([1.0, 2.0]), pd.Series([1.0, 2.0], index=[1, 2])))


def test_training_metrics_of_text_are_refused() -> None:
    with pytest.raises(InvalidInput, match="the predicted values must be numbers only"):
        training_metrics(validation=([1.0], ["up"]))


@pytest.mark.parametrize("threshold", [math.nan, math.inf])
def test_classification_with_an_impossible_threshold_is_refused(threshold: float) -> None:
    with pytest.raises(InvalidInput, match="threshold"):
        classification_metrics(([1, 0], [0.2, 0.8]), threshold=threshold)


@pytest.mark.parametrize(("seed", "count"), [(1, 5), (2, 300), (3, 5_000)])
def test_training_metrics_of_a_regressor_equal_scikit_learn_and_scipy(seed: int, count: int) -> None:
    train, validation = _regression(seed, count), _regression(seed + 100, count)

    values = training_metrics(train=train, validation=validation, features=["a", "b"]).values()

    expected: dict[str, float] = {"num_features": 2, "training_samples": count, "validation_samples": count}
    for prefix, pair in (("train", train), ("val", validation)):
        expected[f"{prefix}_rmse"] = sklearn.metrics.root_mean_squared_error(*pair)
        expected[f"{prefix}_mae"] = sklearn.metrics.mean_absolute_error(*pair)
        expected[f"{prefix}_r2"] = sklearn.metrics.r2_score(*pair)
        expected[f"{prefix}_ic"] = scipy.stats.spearmanr(*pair).statistic
    assert values == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize(("seed", "count"), [(1, 20), (2, 300), (3, 5_000)])
def test_classification_metrics_equal_scikit_learn(seed: int, count: int) -> None:
    actual, score = _classes(seed, count)
    called = score >= 0.4

    values = classification_metrics((actual, score), threshold=0.4, features=3).values()

    assert values == pytest.approx(
        {
            "accuracy": sklearn.metrics.accuracy_score(actual, called),
            "auc": sklearn.metrics.roc_auc_score(actual, score),
            "precision": sklearn.metrics.precision_score(actual, called),
            "recall": sklearn.metrics.recall_score(actual, called),
            "f1": sklearn.metrics.f1_score(actual, called),
            "validation_samples": count,
            "num_features": 3,
        },
        rel=1e-9,
    )


def test_classification_metrics_follow_by_hand() -> None:
    # Positive 0.9, 0.4; negative 0.6, 0.1. From 0.5 on: 0.9 and 0.6 are called positive: TP 1, FP 1, FN 1, TN 1.
    # Pairs ordered right: 0.9 over 0.6, 0.9 over 0.1, 0.4 over 0.1: 3 of 4.
    metrics = classification_metrics(([1, 0, 1, 0], [0.9, 0.6, 0.4, 0.1]))

    assert (metrics.accuracy, metrics.precision, metrics.recall, metrics.f1) == (0.5, 0.5, 0.5, 0.5)
    assert metrics.auc == 0.75
    assert metrics.val_rmse is None
    assert metrics.conventions()["precision"]["threshold"] == 0.5


def test_classification_takes_minus_one_as_the_negative_class() -> None:
    assert classification_metrics(([1, -1], [0.9, 0.1])).auc == 1.0


def test_classification_of_one_class_is_undefined_where_it_divides_by_nothing() -> None:
    metrics = classification_metrics(([0, 0], [0.1, 0.2]))

    assert metrics.accuracy == 1.0
    undefined = (metrics.auc, metrics.precision, metrics.recall, metrics.f1)
    assert all(value is not None and math.isnan(value) for value in undefined)


def test_classification_of_no_samples_is_nan() -> None:
    metrics = classification_metrics(([], []))

    assert metrics.validation_samples == 0
    assert metrics.accuracy is not None
    assert math.isnan(metrics.accuracy)


def test_training_metrics_leave_out_samples_that_one_side_lacks() -> None:
    metrics = training_metrics(validation=([1.0, math.nan, 3.0, 4.0], [1.0, 2.0, math.nan, 6.0]))

    assert metrics.validation_samples == 2
    # Errors 0 and 2: √(4 / 2), 2 / 2.
    assert (metrics.val_rmse, metrics.val_mae) == (pytest.approx(math.sqrt(2)), 1.0)
    assert metrics.train_rmse is None


def test_training_metrics_of_a_constant_target_have_no_r2_and_no_ic() -> None:
    metrics = training_metrics(validation=([0.1] * 3, [0.2, 0.3, 0.4]))

    assert metrics.val_r2 is not None
    assert math.isnan(metrics.val_r2)
    assert metrics.val_ic is not None
    assert math.isnan(metrics.val_ic)


def test_training_metrics_of_no_samples_are_nan() -> None:
    metrics = training_metrics(train=([], []))

    assert metrics.training_samples == 0
    assert metrics.train_rmse is not None
    assert math.isnan(metrics.train_rmse)


def test_ic_of_wide_tables_is_the_mean_over_dates() -> None:
    actual = pd.DataFrame([[1.0, 2.0, 3.0], [30.0, 20.0, 10.0]])
    predicted = pd.DataFrame([[1.0, 2.0, 3.0], [10.0, 20.0, 30.0]])

    metrics = training_metrics(validation=(actual, predicted))

    # 1 on the first date, -1 on the second; pooled it would be 0.86.
    assert metrics.val_ic == pytest.approx(0.0)
    assert metrics.conventions()["val_ic"]["by"] == "date"
    assert training_metrics(validation=(actual[0], predicted[0])).conventions()["val_ic"]["by"] == "all"


def test_feature_importance_table_is_ordered_by_importance() -> None:
    metrics = TrainingMetrics(feature_importance={"a": 0.1, "b": np.float64(0.7), "c": 0.1})

    table = metrics.feature_importance_table()

    assert table.to_dict("list") == {"feature": ["b", "a", "c"], "importance": [0.7, 0.1, 0.1], "rank": [1, 2, 3]}
    assert metrics.values() == {}


def test_feature_importance_table_without_importance_is_empty() -> None:
    table = TrainingMetrics().feature_importance_table()

    assert list(table.columns) == ["feature", "importance", "rank"]
    assert len(table) == 0


def test_training_metrics_count_the_features_of_the_importance() -> None:
    assert training_metrics(feature_importance={"a": 1.0, "b": 0.0}).num_features == 2
