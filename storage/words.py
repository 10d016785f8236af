"""The closed vocabularies that several rooms share; `docs/reference/words.md` explains them.

A word that only one room uses lives in that room.
"""

from enum import StrEnum


class ResourceKind(StrEnum):
    """What is kept up to date."""

    DATASET = "dataset"
    """Rows that come from a source or from other datasets."""
    SIGNAL = "signal"
    """A number per asset and date that is meant to predict something."""
    EXPERIMENT = "experiment"
    """A study whose result is read by people."""
    MODEL = "model"
    """Something fitted; it may have a training, an inference and a monitoring deployment."""
    OPTIMIZER = "optimizer"
    """A rule that turns predictions into portfolio weights."""
    BACKTEST = "backtest"
    """A simulation of trading on weights over past prices."""


class DeploymentKind(StrEnum):
    """How a resource is run; the first half of a deployment's key."""

    REFRESH = "refresh"
    """Bring a dataset or signal up to date: a PipelineRun."""
    PREVIEW = "preview"
    """Compute an experiment: an ExperimentRun."""
    TRAINING = "training"
    """Fit a model: a TrainingRun."""
    INFERENCE = "inference"
    """Predict with a model: an InferenceRun."""
    MONITORING = "monitoring"
    """Watch a model or dataset: a MonitoringRun."""
    OPTIMIZE = "optimize"
    """Choose weights: a PortfolioOptimizationRun."""
    BACKTEST = "backtest"
    """Simulate: a BacktestRun."""


class EdgeKind(StrEnum):
    """What a deployment takes from its upstream."""

    DATA = "data"
    """Its rows."""
    SCHEMA = "schema"
    """Its columns and types only."""
    FEATURE = "feature"
    """Inputs of a model."""
    SIGNAL = "signal"
    """Predictions or scores."""


class OnStale(StrEnum):
    """What the gate does when an upstream is not ready."""

    REFUSE = "refuse"
    """End the run as refused, naming the upstream and the reason."""
    WAIT = "wait"
    """Start when the upstreams are ready, holding no worker meanwhile."""
    REFRESH = "refresh"
    """Run the upstreams that are not ready first, then this run."""
    FORCE = "force"
    """Run anyway; the record says who said so."""


class IfReady(StrEnum):
    """What a trigger does when the deployment itself is ready."""

    RUN = "run"
    """Run again."""
    SKIP = "skip"
    """End the run as skipped."""


class UpdateMode(StrEnum):
    """How a refresh brings its table up to date."""

    INCREMENTAL = "incremental"
    """Fetch and write only what is new."""
    FULL = "full"
    """Fetch and write everything."""


class Trigger(StrEnum):
    """What started a run."""

    SUBMITTED = "submitted"
    """A call of Freshline's service, command line or API."""
    MANUAL = "manual"
    """A click in the Prefect UI, or `prefect deployment run`."""
    SCHEDULE = "schedule"
    """A schedule of the Prefect deployment."""
    AUTOMATION = "automation"
    """A Prefect automation."""
    CASCADE = "cascade"
    """Another run needed this deployment to be ready, or it became stale and is refreshed by itself."""
    BACKFILL = "backfill"
    """A range of data dates that was asked for."""
    SUBFLOW = "subflow"
    """Another flow called this one."""
    PUBLISH = "publish"
    """Somebody published a version of an external resource."""


class Removal(StrEnum):
    """What took the data of a version or an artifact."""

    RETENTION = "retention"
    """A rule that says how long they are kept: the record stays, the data are gone."""
    DELETION = "deletion"
    """Their run was deleted; as long as it is not erased, that can be taken back."""


AUTO_REFRESH = "auto_refresh"
"""The trigger's name, and the key in the catalogue, of a deployment that is refreshed by itself."""
