"""Which metrics class belongs to which deployment kind. Imports neither numpy nor pandas."""

from ...storage.words import DeploymentKind
from .backtest import BacktestMetrics
from .experiment import ExperimentMetrics
from .inference import InferenceMetrics
from .model import Metrics
from .monitoring import MonitoringMetrics
from .optimization import OptimizationMetrics
from .pipeline import PipelineMetrics
from .training import TrainingMetrics

METRICS_OF: dict[DeploymentKind, type[Metrics]] = {
    DeploymentKind.REFRESH: PipelineMetrics,
    DeploymentKind.PREVIEW: ExperimentMetrics,
    DeploymentKind.TRAINING: TrainingMetrics,
    DeploymentKind.INFERENCE: InferenceMetrics,
    DeploymentKind.MONITORING: MonitoringMetrics,
    DeploymentKind.OPTIMIZE: OptimizationMetrics,
    DeploymentKind.BACKTEST: BacktestMetrics,
}
"""What a flow of each kind returns."""
