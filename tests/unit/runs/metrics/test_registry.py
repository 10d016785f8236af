"""Which class belongs to which kind, under which names, and what importing them costs."""

import subprocess
import sys

import pytest

from freshline.runs import metrics
from freshline.runs.details import TABLE_OF
from freshline.storage.words import DeploymentKind

NAMES = {
    DeploymentKind.REFRESH: (
        "rows_fetched rows_inserted rows_updated rows_deleted last_data_date bytes_processed duration_s"
    ),
    DeploymentKind.PREVIEW: "rows_computed nan_pct mean std min max skewness kurtosis",
    DeploymentKind.TRAINING: (
        "train_rmse train_mae train_r2 train_ic val_rmse val_mae val_r2 val_ic accuracy auc precision recall f1 "
        "num_features training_samples validation_samples feature_importance"
    ),
    DeploymentKind.INFERENCE: "num_predictions mean_prediction std_prediction confidence_mean latency_ms",
    DeploymentKind.MONITORING: (
        "psi ks_statistic drift_score missing_pct outlier_pct duplicate_pct staleness_h direction_accuracy ic ic_ir "
        "hit_rate monitoring_type alerts"
    ),
    DeploymentKind.OPTIMIZE: (
        "expected_return expected_volatility expected_sharpe diversification_ratio effective_n concentration "
        "gross_exposure net_exposure long_weight short_weight turnover solver_status iterations active_constraints"
    ),
    DeploymentKind.BACKTEST: (
        "total_return cagr volatility sharpe_ratio sortino_ratio calmar_ratio information_ratio max_drawdown "
        "avg_drawdown drawdown_duration_d var_95 cvar_95 num_trades win_rate profit_factor avg_trade_return turnover "
        "avg_holding_period_d alpha beta tracking_error probabilistic_sharpe_ratio"
    ),
}


def test_metrics_module_without_the_name_says_so() -> None:
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        metrics.nothing  # type: ignore[attr-defined]  # noqa: B018  # that is the point


def test_every_kind_has_a_class_named_after_its_run_type() -> None:
    assert set(metrics.METRICS_OF) == set(DeploymentKind)
    for kind, table in TABLE_OF.items():
        expected = table.__name__.removesuffix("Run").removeprefix("Portfolio") + "Metrics"
        assert metrics.METRICS_OF[kind].__name__ == expected


@pytest.mark.parametrize("kind", DeploymentKind)
def test_every_standard_metric_has_its_name(kind: DeploymentKind) -> None:
    assert list(metrics.METRICS_OF[kind].definitions()) == NAMES[kind].split()


def test_exported_names_are_sorted_and_exist() -> None:
    constants, classes, functions = [], [], []
    for name in metrics.__all__:
        assert getattr(metrics, name) is not None
        (constants if name.isupper() else classes if name[0].isupper() else functions).append(name)

    assert metrics.__all__ == [*sorted(constants), *sorted(classes), *sorted(functions)]
    assert dir(metrics) == sorted(metrics.__all__)


def test_importing_the_classes_imports_neither_pandas_nor_prefect() -> None:
    program = (
        "import sys, freshline.runs.metrics as metrics; metrics.METRICS_OF; metrics.Histogram; "
        "print(sorted({'numpy', 'pandas', 'prefect', 'scipy', 'sklearn'} & set(sys.modules)))"
    )

    found = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)

    assert found.stdout.strip() == "[]"


def test_computing_imports_no_field_library() -> None:
    program = (
        "import sys, pandas, freshline.runs.metrics as metrics; [getattr(metrics, name) for name in metrics.__all__]; "
        "metrics.backtest_metrics(pandas.Series([0.01, -0.02]), benchmark=pandas.Series([0.01, 0.0])); "
        "metrics.training_metrics(train=([1.0, 2.0], [1.0, 3.0])); "
        "print(sorted({'prefect', 'scipy', 'sklearn', 'skfolio', 'empyrical'} & set(sys.modules)))"
    )

    found = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)

    assert found.stdout.strip() == "[]"
