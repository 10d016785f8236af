"""The forms of the answers about runs: what a client reads, field by field.

Owns names, types and units as they stand in OpenAPI, and how our records become them; asks no database.
Times are UTC, ISO 8601 with `Z`; a run's id is `run-…`. A metric's value that is no finite number is the text `NaN`,
`Infinity` or `-Infinity`: JSON has no such numbers, and null would say that there is no value.
"""

from collections.abc import Mapping
from datetime import date, datetime
from typing import Annotated, Any, Generic, TypeVar
from uuid import UUID

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, PlainSerializer, WithJsonSchema

from ...storage.ids import show_run_id
from ..json_numbers import WORDS, in_json
from ..models import Run
from ..status import RunStatus, StepStatus
from .access import PREFIX

T = TypeVar("T")

_NANOSECONDS = 1e9

ShownRunId = Annotated[
    UUID,
    PlainSerializer(show_run_id, return_type=str),
    WithJsonSchema(
        {"type": "string", "pattern": "^run-[0-9a-f-]{36}$", "examples": ["run-0199b3c2-7d3e-7c4b-9a55-0f6d1c2b3a49"]}
    ),
]
"""A run's id as people see it."""

Number = Annotated[
    float,
    WithJsonSchema({"anyOf": [{"type": "number"}, {"type": "string", "enum": list(WORDS.values())}]}),
]
"""A value that may be no finite number."""


def plain(value: Any) -> Any:
    """Return a value of any form with words in the place of numbers that JSON does not have."""
    if isinstance(value, float):
        return in_json(value)
    if isinstance(value, dict):
        return {name: plain(item) for name, item in value.items()}
    return [plain(item) for item in value] if isinstance(value, list | tuple) else value


Plain = Annotated[Any, BeforeValidator(plain)]
"""A value of any form."""


Column = Annotated[list[str], Field(min_length=2, max_length=2)]
"""Name and type of a column."""


class Document(BaseModel):
    """What all answers share."""

    model_config = ConfigDict(ser_json_inf_nan="strings", json_schema_serialization_defaults_required=True)


class ListPage(Document, Generic[T]):
    """One page of a list."""

    items: list[T]
    next_cursor: str | None = Field(
        default=None, description="Give it as `cursor` to read on; null: this was the last page."
    )


class RunLinks(Document):
    """Where to go from a run; paths on this server, but for Prefect's page."""

    self: str = Field(description="The run's document.")
    events: str = Field(description="Its log.")
    stream: str = Field(description="Its log as it grows (server-sent events).")
    page: str = Field(description="The run's page for people.")
    prefect: str | None = Field(default=None, description="Its flow run in Prefect's page; null: there is none yet.")


class RunSummary(Document):
    """One run, as lists show it."""

    id: ShownRunId
    deployment: str = Field(description="Key of the deployment.", examples=["backtest/book"])
    project: str
    type: str = Field(examples=["BacktestRun"])
    kind: str = Field(description="The deployment's kind.", examples=["backtest"])
    status: RunStatus
    stop_reason: str | None = Field(description="Why it ended; null: it has not.")
    trigger: str = Field(description="What started it.", examples=["submitted"])
    trigger_name: str | None = Field(description="Which schedule, automation or backfill.")
    actor: str = Field(description="Who asked for it.")
    parent_id: ShownRunId | None = Field(description="The run that called or needed it.")
    retry_of: ShownRunId | None = Field(description="The ended run whose flow run was started again by hand.")
    replay_of: ShownRunId | None = Field(description="The run that it repeats.")
    background: bool = Field(description="Nobody waits for it.")
    parameters: dict[str, Any]
    tags: list[str]
    metadata: dict[str, Any] = Field(description="The caller's own.")
    data_as_of: date | None = Field(description="Nothing later was read.")
    progress: Number | None = Field(description="Share of the work that is done, 0 to 1.")
    attempt: int = Field(description="How often its body was started.")
    version: int | None = Field(description="Number of the version that it published.")
    metrics: dict[str, Number] = Field(
        description="Latest values by name; in a list those that were asked for with `metrics`."
    )
    error_type: str | None
    error_message: str | None
    created_at: datetime
    started_at: datetime | None
    ended_at: datetime | None
    duration_s: float | None = Field(description="Seconds from the first start of its body to its end.")
    last_seq: int = Field(description="The number of its last event.")
    links: RunLinks


_MADE = {"deployment", "version", "metrics", "links", "metadata", "duration_s"}
_AS_IN_ROW = tuple(name for name in RunSummary.model_fields if name not in _MADE)


class CreatedRun(Document):
    """A run that was asked for."""

    id: ShownRunId
    status: RunStatus
    stop_reason: str | None = Field(description="Why it has ended already: skipped, or refused by the gate.")
    reason: str | None = Field(description="What the gate said.")
    created_at: datetime
    stream_url: str = Field(description="Its log as it grows (server-sent events).")
    url: str = Field(description="Its document.")


class EventDocument(Document):
    """One entry of a run's log."""

    seq: int = Field(description="1, 2, 3… without gaps.")
    kind: str = Field(description="What happened, in the past tense.", examples=["run_started"])
    at: datetime
    actor: str = Field(description="Who did it.")
    payload: dict[str, Any] = Field(description="The event's own facts.")


class StepDocument(Document):
    """One task run of the run's flow, as Prefect reports it."""

    task_run_id: UUID
    name: str
    status: StepStatus
    attempt: int
    started_at: datetime | None
    ended_at: datetime | None
    duration_s: float | None
    message: str | None
    counters: dict[str, Number]


class MessageDocument(Document):
    """One message of a run whose flow talks."""

    number: int = Field(description="The number of its event.")
    role: str
    content: str
    at: datetime


class UsageDocument(Document):
    """What a run's steps and counters add up to."""

    num_steps: int
    num_failed_steps: int
    step_s: float = Field(description="Seconds of all steps together.")
    step_names: list[str] = Field(description="The tasks that were used, each once.")
    counters: dict[str, Number]


class MetricDocument(Document):
    """The latest value of one metric."""

    name: str
    value: Number
    unit: str | None
    convention: dict[str, Any] | None = Field(description="How it was computed.")
    at: datetime


class MetricsDocument(Document):
    """A run's metrics as they are now."""

    items: list[MetricDocument]
    num_points: int = Field(description="Values that were logged over time, of all metrics.")


class SeriesDocument(Document):
    """What was logged under one name, in the order in which it was logged."""

    name: str
    steps: list[int]
    values: list[Number]
    at: list[datetime]
    num_points: int = Field(description="How many values there are; of more than `max_points` these are some.")


class SeriesList(Document):
    """A run's metrics over time."""

    items: list[SeriesDocument]


class ArtifactDocument(Document):
    """A table, file or folder that a run wrote."""

    id: UUID
    name: str
    kind: str = Field(description="table, file or folder.")
    publish: bool = Field(description="It belongs to the published version, not to the run alone.")
    digest: str
    rows: int | None
    size_bytes: int
    media_type: str
    columns: list[Column] | None = Field(description="Name and type of each column of a table.")
    first_data_date: date | None
    last_data_date: date | None
    removed_reason: str | None = Field(description="Why its data cannot be read any more; null: they can.")
    content_url: str = Field(description="Its bytes: a table as one Parquet file, a folder as a zip archive.")
    preview_url: str | None = Field(description="The first rows of a table.")


class PreviewDocument(Document):
    """The first rows of a table."""

    columns: list[Column] = Field(description="Name and type, in order.")
    rows: list[list[Plain]] = Field(
        description="Cells in the order of the columns; times as ISO 8601, decimals as text, bytes as base64."
    )
    num_rows: int = Field(description="Rows of the whole table.")


class ReadDocument(Document):
    """One role of a run: what was pinned in it, what was read in it."""

    role: str
    deployment: str
    pinned: int | None = Field(description="Number of the version that the claim pinned.")
    read: int | None = Field(description="Number of the version that the body read.")
    agreement: str = Field(description="as_pinned, not_read, not_pinned or other_version.")
    is_withdrawn: bool


class InputDocument(Document):
    """A version that went into a run."""

    depth: int = Field(description="1 for what was read directly.")
    role: str
    deployment: str
    number: int
    run_id: ShownRunId = Field(description="The run that published it.")
    digest: str
    data_end: date | None
    created_at: datetime
    is_current: bool = Field(description="It still holds: it is current, or has the same content as the current one.")
    is_withdrawn: bool


class RunDocument(RunSummary):
    """One run with what belongs to it; its steps, log and inputs down to the sources have addresses of their own."""

    request: dict[str, Any] = Field(description="What Freshline was asked: update_mode, if_ready, on_stale…")
    workflow: dict[str, Any] = Field(description="What the declaration says of the work.")
    decision: dict[str, Any] | None = Field(description="The gate's verdict with its evidence.")
    detail: dict[str, Plain] = Field(description="The facts of its type.")
    outputs: dict[str, Any] | None = Field(description="What the body returned besides tables and numbers.")
    conventions: dict[str, dict[str, Any]] = Field(description="Unit and computation of its metrics, by name.")
    schema_diff: dict[str, Any] | None = Field(description="How its version's columns differ from the one before.")
    reads: list[ReadDocument] = Field(description="What its claim pinned and what its body read.")
    artifacts: list[ArtifactDocument]
    usage: UsageDocument
    error_traceback: str | None
    flow_run_id: UUID | None
    generation: int
    fence: int | None
    git_commit: str | None
    code_digest: str | None
    declaration_digest: str | None
    environment_digest: str | None
    final_state_digest: str | None
    first_output_s: float | None = Field(description="Seconds from the start of its last attempt to its first output.")
    heartbeat_at: datetime | None
    lease_until: datetime | None
    cancel_requested_at: datetime | None
    pause_requested_at: datetime | None
    resume_due_at: datetime | None


def run_url(run_id: UUID) -> str:
    """Return the path of a run's document."""
    return f"{PREFIX}/runs/{show_run_id(run_id)}"


def links_of(run: Any, *, prefect: str | None = None) -> RunLinks:
    """Return where to go from a run; `prefect` is its flow run's page there."""
    run_id = run.id
    url, page = run_url(run_id), f"/runs/{show_run_id(run_id)}"
    return RunLinks(self=url, events=f"{url}/events", stream=f"{url}/stream", page=page, prefect=prefect)


def summary_of(
    run: Any, *, deployment: str, version: int | None, metrics: Mapping[str, float], prefect: str | None = None
) -> RunSummary:
    """Return a run as lists show it; `run` is its record or its row."""
    return RunSummary(**_summary(run, deployment=deployment, version=version, metrics=metrics, prefect=prefect))


def seconds(nanoseconds: int | None) -> float | None:
    """Return nanoseconds as seconds."""
    return None if nanoseconds is None else nanoseconds / _NANOSECONDS


def fields_of(run: Run, *, prefect: str | None, **more: Any) -> dict[str, Any]:
    """Return the fields of a run's document that stand in its row, and those of its summary."""
    names = RunDocument.model_fields.keys() - RunSummary.model_fields.keys() - {"first_output_s"}
    own = {name: getattr(run, name) for name in names if hasattr(run, name)}
    return _summary(run, prefect=prefect, **more) | own | {"first_output_s": seconds(run.first_output_ns)}


def _summary(
    run: Any, *, deployment: str, version: int | None, metrics: Mapping[str, float], prefect: str | None
) -> dict[str, Any]:
    return {
        **{name: getattr(run, name) for name in _AS_IN_ROW},
        "deployment": deployment,
        "version": version,
        "metrics": dict(metrics),
        "metadata": run.metadata_ if isinstance(run, Run) else run.metadata,
        "duration_s": seconds(run.duration_ns),
        "links": links_of(run, prefect=prefect),
    }
