"""The seven run types: which deployment kind makes which, and the columns of its own that each has.

SQLModel has no table inheritance worth using: each type is a 1:1 table beside `run`. Its facts are stated once, in a
schema class that validates (a table class does not); the table adds the run's id.
"""

import math
import reprlib
from collections.abc import Mapping
from datetime import date
from typing import Any, get_args, get_origin
from uuid import UUID

import sqlalchemy as sa
from pydantic import ConfigDict, ValidationError
from sqlmodel import Field, SQLModel

from ..storage.database import json_type
from ..storage.errors import InvalidInput, nearest_names
from ..storage.words import DeploymentKind


class Detail(SQLModel):
    """What all details share: unknown facts are refused, absent ones are null."""

    model_config = ConfigDict(extra="forbid")  # type: ignore[assignment]  # SQLModel's own config type adds keys


class PipelineDetail(Detail):
    """Facts of a PipelineRun."""

    update_mode: str | None = None
    """incremental or full."""
    last_data_date: date | None = None
    """Last data date of the version."""
    rows_inserted: int | None = None
    """New rows."""
    first_data_date: date | None = None
    """First data date of the version."""
    rows_processed: int | None = Field(default=None, sa_type=sa.BigInteger)
    """Rows that it looked at."""


class ExperimentDetail(Detail):
    """Facts of an ExperimentRun."""

    rows_computed: int | None = None
    """Rows that the study looked at."""
    start_date: date | None = None
    """First data date of what it published."""
    end_date: date | None = None
    """Last data date of what it published."""


class TrainingDetail(Detail):
    """Facts of a TrainingRun."""

    num_features: int | None = None
    """Features of the model."""
    training_samples: int | None = None
    """Samples that it was fitted on."""
    validation_samples: int | None = None
    """Samples that it was judged on."""
    start_date: date | None = None
    """First data date of what it published."""
    end_date: date | None = None
    """Last data date of what it published."""
    model_digest: str | None = None
    """Digest of the fitted model's file."""


class InferenceDetail(Detail):
    """Facts of an InferenceRun."""

    num_predictions: int | None = None
    """Rows predicted."""
    model_version_id: UUID | None = Field(default=None, foreign_key="version.id")
    """The version of the model that predicted: the upstream of kind training."""
    start_date: date | None = None
    """First data date of what it published."""
    end_date: date | None = None
    """Last data date of what it published."""


class MonitoringDetail(Detail):
    """Facts of a MonitoringRun."""

    monitoring_type: str | None = None
    """model_drift, data_quality or performance."""
    alerts: list[dict[str, Any]] | None = Field(default=None, sa_type=json_type())
    """What was raised."""
    start_date: date | None = None
    """First data date of what it published."""
    end_date: date | None = None
    """Last data date of what it published."""
    reference_version_id: UUID | None = Field(default=None, foreign_key="version.id")
    """The version that the watched data are compared with."""


class PortfolioOptimizationDetail(Detail):
    """Facts of a PortfolioOptimizationRun."""

    solver_status: str | None = None
    """What the solver said."""
    constraints: dict[str, Any] | None = Field(default=None, sa_type=json_type())
    """The limits that the weights obey."""
    turnover: float | None = None
    """Turnover of the last rebalance."""
    start_date: date | None = None
    """First data date of what it published."""
    end_date: date | None = None
    """Last data date of what it published."""
    objective: str | None = None
    """What is minimised or maximised."""
    weights: dict[str, Any] | None = Field(default=None, sa_type=json_type())
    """The last weights, asset -> share, when they are few."""


class BacktestDetail(Detail):
    """Facts of a BacktestRun."""

    start_date: date | None = None
    """First day of the simulation."""
    end_date: date | None = None
    """Last day of the simulation."""
    num_trades: int | None = None
    """Trades made."""
    initial_capital: float | None = None
    """Capital on the first day, in the currency of the prices."""
    benchmark: str | None = None
    """What the returns are compared with."""


class PipelineRun(PipelineDetail, table=True):
    """Brings a dataset or signal up to date."""

    __tablename__ = "pipeline_run"
    run_id: UUID = Field(primary_key=True, foreign_key="run.id")


class ExperimentRun(ExperimentDetail, table=True):
    """Computes an experiment."""

    __tablename__ = "experiment_run"
    run_id: UUID = Field(primary_key=True, foreign_key="run.id")


class TrainingRun(TrainingDetail, table=True):
    """Fits a model."""

    __tablename__ = "training_run"
    run_id: UUID = Field(primary_key=True, foreign_key="run.id")


class InferenceRun(InferenceDetail, table=True):
    """Predicts with a model."""

    __tablename__ = "inference_run"
    run_id: UUID = Field(primary_key=True, foreign_key="run.id")


class MonitoringRun(MonitoringDetail, table=True):
    """Watches a model or dataset."""

    __tablename__ = "monitoring_run"
    run_id: UUID = Field(primary_key=True, foreign_key="run.id")


class PortfolioOptimizationRun(PortfolioOptimizationDetail, table=True):
    """Chooses portfolio weights."""

    __tablename__ = "portfolio_optimization_run"
    run_id: UUID = Field(primary_key=True, foreign_key="run.id")


class BacktestRun(BacktestDetail, table=True):
    """Simulates trading over past prices."""

    __tablename__ = "backtest_run"
    run_id: UUID = Field(primary_key=True, foreign_key="run.id")


TABLE_OF: Mapping[DeploymentKind, type[SQLModel]] = {
    DeploymentKind.REFRESH: PipelineRun,
    DeploymentKind.PREVIEW: ExperimentRun,
    DeploymentKind.TRAINING: TrainingRun,
    DeploymentKind.INFERENCE: InferenceRun,
    DeploymentKind.MONITORING: MonitoringRun,
    DeploymentKind.OPTIMIZE: PortfolioOptimizationRun,
    DeploymentKind.BACKTEST: BacktestRun,
}
"""The detail table of each kind; its class name is the run type."""

SCHEMA_OF: Mapping[DeploymentKind, type[Detail]] = {
    DeploymentKind.REFRESH: PipelineDetail,
    DeploymentKind.PREVIEW: ExperimentDetail,
    DeploymentKind.TRAINING: TrainingDetail,
    DeploymentKind.INFERENCE: InferenceDetail,
    DeploymentKind.MONITORING: MonitoringDetail,
    DeploymentKind.OPTIMIZE: PortfolioOptimizationDetail,
    DeploymentKind.BACKTEST: BacktestDetail,
}
"""What validates the facts of each kind."""

_WORDS: Mapping[Any, str] = {
    bool: "true or false",
    int: "a whole number",
    float: "a number",
    str: "text",
    date: "a date, such as 2026-01-31",
    UUID: "the id of a version",
    list: "a list of objects",
    dict: "an object",
}
"""What a column of each type takes."""


def run_type(kind: DeploymentKind | str) -> str:
    """Return the run type of a deployment kind, such as `BacktestRun`."""
    return TABLE_OF[DeploymentKind(kind)].__name__


def kind_of(run: Any) -> DeploymentKind:
    """Return the kind of a run; a program of the first schema writes its type alone."""
    return DeploymentKind(run.kind or next(kind for kind in TABLE_OF if run_type(kind) == run.type))


def valid_detail(kind: DeploymentKind | str, facts: Detail | Mapping[str, Any]) -> dict[str, Any]:
    """Return the facts that were given, validated; those of them that belong to no column are refused.

    NaN becomes null, which SQLite would make of it anyway.

    Raises:
        InvalidInput: a fact is unknown to this run type, has the wrong type, or is more than its column holds, or the
            facts are those of another run type.
    """
    if not facts:
        return {}
    schema = SCHEMA_OF[DeploymentKind(kind)]
    if isinstance(facts, Detail):
        if not isinstance(facts, schema):
            raise InvalidInput(f"a {run_type(kind)} has no {type(facts).__name__}: give a {schema.__name__}")
        facts = facts.model_dump(exclude_unset=True)
    try:
        detail = schema.model_validate(dict(facts))
    except ValidationError as error:
        first = error.errors()[0]
        name, message = str(first["loc"][0]), first["msg"]
        raise InvalidInput(_refusal(kind, name, first["input"], message[:1].lower() + message[1:])) from None
    given = detail.model_dump(exclude_unset=True)
    for name, value in given.items():
        _check_fits(kind, name, value)
    return {name: None if isinstance(value, float) and math.isnan(value) else value for name, value in given.items()}


def _refusal(kind: DeploymentKind | str, name: str, value: Any, why: str) -> str:
    """Return the message about a fact that cannot be used: column, value, reason and what to give instead."""
    columns = SCHEMA_OF[DeploymentKind(kind)].model_fields
    subject = f"{run_type(kind)}.{name}={reprlib.repr(value)}"
    if name in columns:
        return f"{subject}: {why}; give {_takes(columns[name].annotation)}"
    near = nearest_names(name, columns)
    return f"{subject}: there is no such column; " + (
        f"did you mean {near[0]!r}?" if near else f"it has {', '.join(sorted(columns))}"
    )


def _takes(annotation: Any) -> str:
    """Return what a column of this type takes, in words."""
    (wanted,) = (one for one in get_args(annotation) if one is not type(None))
    return _WORDS[get_origin(wanted) or wanted]


def _check_fits(kind: DeploymentKind | str, name: str, value: Any) -> None:
    """Refuse what one of the two databases could not hold in this column.

    Raises:
        InvalidInput: an integer is too large, or text has a character that Postgres refuses.
    """
    column = TABLE_OF[DeploymentKind(kind)].__table__.c[name]  # type: ignore[attr-defined]
    if isinstance(value, int):
        bits = 64 if isinstance(column.type, sa.BigInteger) else 32
        if not -(2 ** (bits - 1)) <= value < 2 ** (bits - 1):
            raise InvalidInput(_refusal(kind, name, value, f"it does not fit into {bits} bits"))
    if isinstance(value, str) and ("\0" in value or value.encode(errors="replace").decode() != value):
        raise InvalidInput(_refusal(kind, name, value, "NUL and lone surrogates cannot be stored"))
