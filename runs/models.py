"""The tables of the runs: the record, its typed details, its events, what it read, and what is to be sent.

run ──1 pipeline_run | experiment_run | … (one detail table per run type, in `details`)
 ├──1 run_usage        what its steps and counters add up to
 ├──< run_event        numbered from 1 without gaps
 ├──< step             Prefect's task runs
 ├──< run_message      messages, for flows that talk, in `author_models`
 ├──< checkpoint       states from which a later attempt goes on
 ├──< run_input        pinned and actually read versions
 ├──< run_dependency   upstreams that a waiting run waits for
 ├──< metric           latest value per name
 ├──< metric_stream    what each attempt has logged until now, in `points/models`
 │     └──< metric_chunk
 └──< run_act          deleted, restored, erased: by whom and why, in `care.models`
chore                  what is done now and then, such as garbage collection, in `care.models`
outbox                 what leaves: written with the change that causes it
backfill               a range of data dates to run, in `backfill_models`
 └──< backfill_date    one of them, with the run that it got
"""

from datetime import date, datetime
from typing import Any
from uuid import UUID

import sqlalchemy as sa
from sqlmodel import Field, SQLModel

from ..storage.database import UtcDateTime, json_type
from .status import ENDED_BADLY, LEASED, TERMINAL


def _in(statuses: frozenset[Any]) -> str:
    return "(" + ", ".join(f"'{status}'" for status in sorted(statuses)) + ")"


def _index_where(condition: str, name: str, *columns: str) -> sa.Index:
    """Return an index of the rows for which a condition holds, on both databases."""
    where = sa.text(condition)
    return sa.Index(name, *columns, sqlite_where=where, postgresql_where=where)


def _empty_object(**column: Any) -> Any:
    """Return a column of JSON that is an empty object until somebody says more."""
    return Field(sa_type=json_type(), default_factory=dict, sa_column_kwargs={"server_default": "{}", **column})


class Store(SQLModel, table=True):
    """The identity of this database: a worker that reaches another one must not write to it."""

    id: UUID = Field(primary_key=True)
    created_at: datetime = Field(sa_type=UtcDateTime)


class Run(SQLModel, table=True):
    """One execution of a deployment; immutable once its status is terminal."""

    __table_args__ = (
        sa.UniqueConstraint("tenant_id", "idempotency_key"),
        sa.UniqueConstraint("flow_run_id", "generation"),
        sa.CheckConstraint(f"(status IN {_in(TERMINAL)}) = (ended_at IS NOT NULL)", name="ended"),
        sa.CheckConstraint(f"(status IN {_in(TERMINAL)}) = (stop_reason IS NOT NULL)", name="stop_reason"),
        # A run that never beat is not immortal.
        sa.CheckConstraint(f"(status IN {_in(LEASED)}) = (lease_until IS NOT NULL)", name="leased"),
        _index_where(f"status IN {_in(LEASED)}", "ix_run_lease_until", "lease_until"),
        _index_where(f"status IN {_in(LEASED)}", "ix_run_leased", "deployment_id"),
        _index_where("ended_at IS NULL", "ix_run_active", "deployment_id"),
        sa.Index("ix_run_deployment_id_id", "deployment_id", "id"),
        _index_where("replay_of IS NOT NULL", "ix_run_replay_of", "replay_of"),
        _index_where("deleted_at IS NOT NULL AND erased_at IS NULL", "ix_run_deleted_at", "deleted_at"),
        _index_where("ended_at IS NOT NULL", "ix_run_ended_at", "ended_at"),
        sa.Index("ix_run_created_at", "created_at", "id"),
        _index_where("started_at IS NOT NULL", "ix_run_started_at", "started_at", "id"),
        _index_where(f"status IN {_in(ENDED_BADLY)}", "ix_run_ended_badly", "status", "id"),
    )

    id: UUID = Field(primary_key=True)
    """UUIDv7: sorts by creation; shown and accepted as `run-…` too."""
    tenant_id: str
    """Whose it is."""
    project: str
    """The project that it belongs to."""
    deployment_id: UUID = Field(foreign_key="deployment.id")
    """What it is a run of."""
    partition: str = ""
    """Reserved; empty."""
    type: str
    """PipelineRun, BacktestRun…: follows from the deployment's kind."""
    kind: str = Field(default="", sa_column_kwargs={"server_default": sa.text("''")})
    """The deployment's kind: refresh, backtest…"""
    trigger: str
    """What started it."""
    trigger_name: str | None = None
    """Which schedule or automation, as Prefect says."""
    actor: str
    """Who asked for it: a name that was given, `prefect`, or the run that needed or called it."""
    parent_id: UUID | None = Field(default=None, foreign_key="run.id", index=True)
    """The run that called or needed it."""
    retry_of: UUID | None = Field(default=None, foreign_key="run.id")
    """The ended run whose flow run was started again by hand."""
    replay_of: UUID | None = None
    """The completed run that it repeats on the versions that that one read; its result never becomes current."""
    generation: int = 0
    """How often its flow run had been started again by hand after its end."""
    status: str
    """Where it is in its life."""
    stop_reason: str | None = None
    """Why it ended; set at the end and only then."""
    parameters: dict[str, Any] = Field(sa_type=json_type())
    """The flow's own, secrets redacted; the deployment's where the request had none."""
    request: dict[str, Any] = Field(sa_type=json_type())
    """What was asked of Freshline: update_mode, if_ready, on_stale, data_as_of."""
    workflow: dict[str, Any] = _empty_object()
    """What of the deployment's declaration configures the work: entrypoint, callables, parameters."""
    metadata_: dict[str, Any] = _empty_object(name="metadata")
    """Whatever the caller attaches; Freshline does not read it."""
    background: bool = Field(default=True, sa_column_kwargs={"server_default": sa.true()})
    """Nobody waits for it: false for a subflow and for a call in a script."""
    subscription_id: UUID | None = None
    """Reserved: nothing fills it yet, nor the four of the callback."""
    callback_url: str | None = None
    """Who is to be told of its end."""
    callback_sent_at: datetime | None = Field(default=None, sa_type=UtcDateTime)
    """When that was last tried."""
    callback_status_code: int | None = None
    """What the receiver answered."""
    callback_error: str | None = None
    """Why it could not be told."""
    outputs: dict[str, Any] | None = Field(default=None, sa_type=json_type())
    """What the body returned besides tables and numbers, such as a solver's status."""
    tags: list[str] = Field(sa_type=json_type())
    """Free labels."""
    decision: dict[str, Any] | None = Field(default=None, sa_type=json_type())
    """The gate's verdict with its evidence, also when it said yes: what it saw of every upstream, and who overrode.

    Renewed when it differs."""
    data_as_of: date | None = None
    """No later row is read."""
    idempotency_key: str | None = None
    """The same key gives the same run."""
    request_sha256: str | None = None
    """Digest of the request that came with the key."""
    flow_run_id: UUID | None = Field(default=None)
    """Prefect's id of the flow run; none for a plain call."""
    attempt: int = 0
    """How often the body was started; 0 before the first claim."""
    fence: int | None = Field(default=None, sa_type=sa.BigInteger)
    """Drawn when it was claimed: a higher one read newer data."""
    declaration_digest: str | None = None
    """Digest of the deployment's declaration, when it was claimed."""
    base_version_id: UUID | None = Field(default=None, foreign_key="version.id")
    """The version that was current when it was claimed."""
    version_id: UUID | None = Field(default=None, foreign_key="version.id")
    """The version that it published."""
    lease_owner: str | None = None
    """Host and process that hold it."""
    lease_until: datetime | None = Field(default=None, sa_type=UtcDateTime)
    """When the lease ends unless it is renewed, by the database's clock."""
    heartbeat_at: datetime | None = Field(default=None, sa_type=UtcDateTime)
    """When the worker was last heard of."""
    cancel_requested_at: datetime | None = Field(default=None, sa_type=UtcDateTime)
    """When its cancellation was asked for."""
    pause_requested_at: datetime | None = Field(default=None, sa_type=UtcDateTime)
    """When its pause was asked for; null again when its next attempt begins."""
    resume_due_at: datetime | None = Field(default=None, sa_type=UtcDateTime)
    """When Prefect is to start its next attempt."""
    progress: float | None = None
    """Share of the work that is done, 0 to 1, as `run.progress` says."""
    error_type: str | None = None
    """Class of the exception of the last attempt that failed."""
    error_message: str | None = None
    """Its message; of a refused run the reason."""
    error_traceback: str | None = None
    """The last 20,000 characters of its traceback."""
    traceback_ref: str | None = None
    """Name of the run's artifact that holds the whole traceback."""
    git_commit: str | None = None
    """Commit of the working directory that the body ran in; `+` behind it: with changes."""
    code_digest: str | None = None
    """Digest of the flow's and the callables' source files as they were deployed."""
    environment_digest: str | None = None
    """Digest of Python's version, the platform and every installed distribution."""
    final_state_digest: str | None = None
    """Digest of all that the run left: published artifacts, outputs and metrics. Equal digests: an equal result."""
    created_at: datetime = Field(sa_type=UtcDateTime)
    """When it was recorded."""
    started_at: datetime | None = Field(default=None, sa_type=UtcDateTime)
    """When its body was first started."""
    ended_at: datetime | None = Field(default=None, sa_type=UtcDateTime)
    """When its status became terminal."""
    duration_ns: int | None = Field(default=None, sa_type=sa.BigInteger)
    """Nanoseconds from the first start of its body to its end, by the database's clock; null: it never started."""
    first_output_ns: int | None = Field(default=None, sa_type=sa.BigInteger)
    """Nanoseconds from the start of the last attempt to its first metric, table or file, by the worker's clock."""
    last_seq: int = 0
    """The number of its last event."""
    deleted_at: datetime | None = Field(default=None, sa_type=UtcDateTime)
    """Since when it is deleted: left out of every list, its data unreadable; null again when that is taken back."""
    erased_at: datetime | None = Field(default=None, sa_type=UtcDateTime)
    """When it was deleted for good: what nobody else's record needs is gone from this row and from beside it."""

    def _repr_html_(self) -> str:
        from .interface import html_of

        return html_of(self)


class RunEvent(SQLModel, table=True):
    """One entry in a run's log."""

    __tablename__ = "run_event"

    run_id: UUID = Field(primary_key=True, foreign_key="run.id")
    seq: int = Field(primary_key=True)
    """1, 2, 3… without gaps: drawn from the run's row in the transaction that writes the event."""
    kind: str
    """What happened, in the past tense."""
    payload: dict[str, Any] = Field(sa_type=json_type())
    """The event's own facts."""
    actor: str
    """Who did it."""
    at: datetime = Field(sa_type=UtcDateTime)
    """When, by the database's clock."""


class Step(SQLModel, table=True):
    """One task run of the run's flow, as Prefect reports it."""

    __table_args__ = (_index_where("status IN ('pending', 'retrying', 'running')", "ix_step_open", "run_id"),)

    run_id: UUID = Field(primary_key=True, foreign_key="run.id")
    task_run_id: UUID = Field(primary_key=True)
    """Prefect's id."""
    name: str
    """The task run's name, such as `fit-0`."""
    status: str
    """Where it is, as Prefect says."""
    attempt: int = 0
    """How often Prefect started it."""
    started_at: datetime | None = Field(default=None, sa_type=UtcDateTime)
    """When it began."""
    ended_at: datetime | None = Field(default=None, sa_type=UtcDateTime)
    """When it ended."""
    duration_ns: int | None = Field(default=None, sa_type=sa.BigInteger)
    """Nanoseconds that it ran, by Prefect's clock."""
    message: str | None = None
    """What Prefect says of its state."""
    counters: dict[str, Any] = _empty_object()
    """What the body counted in it: name -> number."""


class RunUsage(SQLModel, table=True):
    """What a run's steps and counters add up to."""

    __tablename__ = "run_usage"

    run_id: UUID = Field(primary_key=True, foreign_key="run.id")
    num_steps: int = 0
    """Steps."""
    num_failed_steps: int = 0
    """Those that failed or crashed."""
    step_ns: int = Field(default=0, sa_type=sa.BigInteger)
    """Nanoseconds of all steps together."""
    step_names: list[str] = Field(sa_type=json_type(), default_factory=list, sa_column_kwargs={"server_default": "[]"})
    """The tasks that were used, each once, sorted."""
    counters: dict[str, Any] = _empty_object()
    """What was counted, in steps and outside of them: name -> number."""


class RunInput(SQLModel, table=True):
    """A version that a run was to read in a role, and whether it did."""

    __tablename__ = "run_input"
    __table_args__ = (sa.Index("ix_run_input_version_id", "version_id"),)

    run_id: UUID = Field(primary_key=True, foreign_key="run.id")
    role: str = Field(primary_key=True)
    """What the run calls it."""
    upstream_id: UUID = Field(foreign_key="deployment.id")
    """The deployment that it comes from."""
    version_id: UUID = Field(foreign_key="version.id")
    """The version."""
    pinned: bool
    """Fixed when the run was claimed; false when it was read without having been declared."""
    read: bool
    """The body read it."""


class RunDependency(SQLModel, table=True):
    """An upstream that a waiting run waits for."""

    __tablename__ = "run_dependency"
    __table_args__ = (sa.Index("ix_run_dependency_upstream_id", "upstream_id"),)

    run_id: UUID = Field(primary_key=True, foreign_key="run.id")
    upstream_id: UUID = Field(primary_key=True, foreign_key="deployment.id")
    """The upstream that is not ready."""
    upstream_run_id: UUID | None = Field(default=None, foreign_key="run.id", index=True)
    """The run that refreshes it; null when it is awaited without being refreshed."""


class Metric(SQLModel, table=True):
    """The latest value of one metric of a run."""

    # With the run: values are read in their order, and equal ones in that of the runs.
    __table_args__ = (sa.Index("ix_metric_name_value_run_id", "name", "value", "run_id"),)

    run_id: UUID = Field(primary_key=True, foreign_key="run.id")
    name: str = Field(primary_key=True)
    """The metric."""
    value: float | None
    """The value; null is NaN, which SQLite cannot hold."""
    convention: dict[str, Any] | None = Field(default=None, sa_type=json_type())
    """Unit and how it was computed."""
    at: datetime = Field(sa_type=UtcDateTime)
    """When it was recorded."""


class Outbox(SQLModel, table=True):
    """Something that is to leave for Prefect, written in the transaction that causes it."""

    __table_args__ = (
        sa.UniqueConstraint("dedupe_key"),
        _index_where("state = 'due'", "ix_outbox_due_at", "due_at"),
    )

    id: UUID = Field(primary_key=True)
    topic: str
    """dispatch, resume, cancel, crash, end."""
    run_id: UUID = Field(foreign_key="run.id", index=True)
    """The run that it is about; entries about one run leave in the order of their ids."""
    dedupe_key: str
    """The same entry is written once."""
    payload: dict[str, Any] = Field(sa_type=json_type())
    """The topic's own facts."""
    state: str = "due"
    """due, done, or dead after too many attempts."""
    attempts: int = 0
    """How often it was tried."""
    claim_token: UUID | None = None
    """Whoever sends it now; only the holder may settle it."""
    due_at: datetime = Field(sa_type=UtcDateTime)
    """Not before; a claim moves it ahead, so that a dead sender's entry is tried again."""
    last_error: str | None = None
    """What went wrong last."""
