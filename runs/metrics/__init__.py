"""The standard metrics of each run type: typed, with units, formulas and the conventions that they were computed with.

    PipelineMetrics      pipeline_metrics(fetched, ...)
    ExperimentMetrics    experiment_metrics(values)
    TrainingMetrics      training_metrics(train=, validation=), classification_metrics(validation)
    InferenceMetrics     inference_metrics(predictions, ...)
    MonitoringMetrics    monitoring_metrics(sample, reference=, predictions=, outcomes=, ...)
    OptimizationMetrics  optimization_metrics(weights, ...)
    BacktestMetrics      backtest_metrics(returns, benchmark=, trades=, weights=, ...)

Names are loaded when they are first used: importing this imports nothing else, and the classes need no pandas.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .backtest import BacktestMetrics, backtest_metrics
    from .drift import drift_table, ks_statistic, psi, psi_threshold
    from .experiment import ExperimentMetrics, experiment_metrics
    from .histogram import Histogram
    from .inference import InferenceMetrics, inference_metrics
    from .model import Convention, Definition, Metrics, Missing, RiskFreeBasis
    from .monitoring import Alert, Limits, MonitoringMetrics, MonitoringType, monitoring_metrics
    from .optimization import OptimizationMetrics, optimization_metrics
    from .pipeline import PipelineMetrics, pipeline_metrics
    from .registry import METRICS_OF
    from .sharpe import deflated_sharpe_ratio, probabilistic_sharpe_ratio
    from .skill import ic_by_date
    from .training import TrainingMetrics, classification_metrics, training_metrics

_HOME = {
    "METRICS_OF": "registry",
    "Alert": "monitoring",
    "BacktestMetrics": "backtest",
    "Convention": "model",
    "Definition": "model",
    "ExperimentMetrics": "experiment",
    "Histogram": "histogram",
    "InferenceMetrics": "inference",
    "Limits": "monitoring",
    "Metrics": "model",
    "Missing": "model",
    "MonitoringMetrics": "monitoring",
    "MonitoringType": "monitoring",
    "OptimizationMetrics": "optimization",
    "PipelineMetrics": "pipeline",
    "RiskFreeBasis": "model",
    "TrainingMetrics": "training",
    "backtest_metrics": "backtest",
    "classification_metrics": "training",
    "deflated_sharpe_ratio": "sharpe",
    "drift_table": "drift",
    "experiment_metrics": "experiment",
    "ic_by_date": "skill",
    "inference_metrics": "inference",
    "ks_statistic": "drift",
    "monitoring_metrics": "monitoring",
    "optimization_metrics": "optimization",
    "pipeline_metrics": "pipeline",
    "probabilistic_sharpe_ratio": "sharpe",
    "psi": "drift",
    "psi_threshold": "drift",
    "training_metrics": "training",
}

__all__ = [
    "METRICS_OF",
    "Alert",
    "BacktestMetrics",
    "Convention",
    "Definition",
    "ExperimentMetrics",
    "Histogram",
    "InferenceMetrics",
    "Limits",
    "Metrics",
    "Missing",
    "MonitoringMetrics",
    "MonitoringType",
    "OptimizationMetrics",
    "PipelineMetrics",
    "RiskFreeBasis",
    "TrainingMetrics",
    "backtest_metrics",
    "classification_metrics",
    "deflated_sharpe_ratio",
    "drift_table",
    "experiment_metrics",
    "ic_by_date",
    "inference_metrics",
    "ks_statistic",
    "monitoring_metrics",
    "optimization_metrics",
    "pipeline_metrics",
    "probabilistic_sharpe_ratio",
    "psi",
    "psi_threshold",
    "training_metrics",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f".{_HOME[name]}", __name__), name)


def __dir__() -> list[str]:
    return __all__
