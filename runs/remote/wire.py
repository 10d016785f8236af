"""What a worker and the server say to each other, as JSON: one model a message, and the way from and to our records.

Knows no HTTP. Values that JSON has no word for travel as text: NaN and the infinities by their names, bytes as base64,
moments with their zone.
"""

import json
from collections.abc import Mapping, Sequence
from datetime import date, datetime
from types import SimpleNamespace
from typing import Annotated, Any, Literal, Self
from uuid import UUID

import sqlalchemy as sa
from pydantic import Base64Bytes, BaseModel, ConfigDict, Field, TypeAdapter

from ...lineage.models import Deployment
from ...lineage.versions import Input
from ...storage.artifacts import ArtifactRecord, stored_from_json
from ...storage.database import UtcDateTime
from ...storage.models import ArtifactKind
from .. import run_events as events
from ..author_events import RecordableEvent
from ..execution import Claim
from ..gate import Decision
from ..intake import FlowCall
from ..models import Run
from ..points.chunks import MOST_POINTS, Chunk, SentChunk, SeriesTaken
from ..port import UpstreamVersion
from ..recording import SavedState
from ..result import Read, Result
from ..steps import StepCount

_RUN: sa.Table = Run.__table__  # type: ignore[attr-defined]
_DEPLOYMENT: sa.Table = Deployment.__table__  # type: ignore[attr-defined]

Fence = Annotated[int, Field(ge=0, le=2**63 - 1, description="What the claim drew.")]
PointNumber = Annotated[
    int, Field(ge=0, le=2**62, description="Of a metric value: every column holds what is behind it.")
]
Numbers = dict[str, float]
LoggedEvent = Annotated[RecordableEvent | events.ProgressReported, Field(discriminator="kind")]
"""What a body may write into the log of its run."""


class Message(BaseModel):
    """The root of all messages: unknown fields are refused, and numbers may be none."""

    model_config = ConfigDict(extra="forbid", ser_json_inf_nan="strings", frozen=True)


class ArtifactMessage(Message):
    """An `ArtifactRecord`."""

    name: str
    kind: ArtifactKind
    stored: dict[str, Any]
    digest: str
    publish: bool = True
    removed_reason: str | None = None

    @classmethod
    def of(cls, record: ArtifactRecord) -> Self:
        """Return the message of a record."""
        return cls(
            name=record.name,
            kind=record.kind,
            stored=json.loads(record.stored.to_json()),
            digest=record.digest,
            publish=record.publish,
            removed_reason=record.removed_reason,
        )

    def record(self) -> ArtifactRecord:
        """Return the record.

        Raises:
            InvalidInput: what it says of its objects cannot be used, or a newer program wrote it.
        """
        return ArtifactRecord(
            name=self.name,
            stored=stored_from_json(self.kind, json.dumps(self.stored)),
            digest=self.digest,
            publish=self.publish,
            removed_reason=self.removed_reason,
        )


class StoreMessage(Message):
    """The store that a server works on."""

    store_id: UUID
    heartbeat_s: float
    lease_s: float


class ClaimRequest(Message):
    """A start of a tracked flow's function, and who makes it."""

    call: FlowCall
    worker: str = Field(max_length=250)
    provenance: dict[str, str] | None = None
    store_id: UUID | None = None
    """The store that the deployment was registered in."""


class ClaimMessage(Message):
    """A `Claim`, with the token of the run where its body may start."""

    run: dict[str, Any]
    deployment: dict[str, Any]
    decision: Decision | None
    may_start: bool
    pins: tuple[Input, ...]
    token: str | None = Field(default=None, repr=False)

    @classmethod
    def of(cls, claim: Claim, *, token: str | None) -> Self:
        """Return the message of a claim."""
        return cls(
            run=_plain_row(_RUN, claim.run),
            deployment=_plain_row(_DEPLOYMENT, claim.deployment),
            decision=claim.decision,
            may_start=claim.may_start,
            pins=claim.pins,
            token=token,
        )

    def claim(self) -> Claim:
        """Return the claim; its rows have the columns as attributes, as those of a database do."""
        return Claim(
            _row(_RUN, self.run),
            _row(_DEPLOYMENT, self.deployment),
            self.decision,
            may_start=self.may_start,
            pins=self.pins,
        )


class HeldMessage(Message):
    """The fence of whoever asks."""

    fence: Fence


class BeatMessage(Message):
    """What a renewal of the lease gave."""

    asked: Literal["cancel", "pause"] | None


class UpstreamMessage(Message):
    """An `UpstreamVersion`."""

    role: str
    upstream_id: UUID
    key: str
    version_id: UUID
    number: int
    artifacts: list[ArtifactMessage]

    @classmethod
    def of(cls, version: UpstreamVersion) -> Self:
        """Return the message of a version."""
        return cls(
            role=version.role,
            upstream_id=version.upstream_id,
            key=version.key,
            version_id=version.version_id,
            number=version.number,
            artifacts=[ArtifactMessage.of(record) for record in version.artifacts.values()],
        )

    def version(self) -> UpstreamVersion:
        """Return the version."""
        artifacts = {message.name: message.record() for message in self.artifacts}
        return UpstreamVersion(self.role, self.upstream_id, self.key, self.version_id, self.number, artifacts)


class RecordMessage(HeldMessage):
    """Events, latest metric values and progress."""

    entries: list[LoggedEvent] = []
    metrics: Numbers | None = None
    progress: float | None = None


class MessageMessage(HeldMessage):
    """A message of the run."""

    role: str
    content: str


class CheckpointMessage(HeldMessage):
    """A state to be saved."""

    state: dict[str, Any]


class SavedMessage(Message):
    """A `SavedState`."""

    checkpoint_id: str
    attempt: int
    state: dict[str, Any]

    @classmethod
    def of(cls, saved: SavedState) -> Self:
        """Return the message of a state."""
        return cls(checkpoint_id=saved.checkpoint_id, attempt=saved.attempt, state=dict(saved.state))

    def saved(self) -> SavedState:
        """Return the state."""
        return SavedState(self.checkpoint_id, self.attempt, self.state)


class NewestMessage(Message):
    """The state that was saved last; null: none was."""

    saved: SavedMessage | None


class NumberMessage(Message):
    """The number of what was saved."""

    number: int


class EndMessage(Message):
    """The number behind the last metric value that the store has."""

    end: int


class PointsMessage(HeldMessage):
    """A chunk of metric values, and the latest value of each name in it."""

    first: PointNumber
    rows: int = Field(ge=1, le=MOST_POINTS)
    payload: Base64Bytes
    latest: Numbers = {}

    @classmethod
    def of(cls, fence: int, chunk: Chunk, latest: Mapping[str, float]) -> "PointsMessage":
        """Return the message of a chunk."""
        # Not validated: its payload is not base64 yet.
        return PointsMessage.model_construct(
            fence=fence, first=chunk.first, rows=chunk.rows, payload=chunk.payload, latest=dict(latest)
        )

    def chunk(self) -> Chunk:
        """Return the chunk."""
        return Chunk(self.first, self.rows, self.payload)


class SentPointsMessage(Message):
    """A `SentChunk`."""

    fence: Fence
    first: int
    rows: int
    payload: Base64Bytes

    @classmethod
    def of(cls, chunk: SentChunk) -> "SentPointsMessage":
        """Return the message of a chunk."""
        # Not validated: its payload is not base64 yet.
        return SentPointsMessage.model_construct(
            fence=chunk.fence, first=chunk.first, rows=chunk.rows, payload=chunk.payload
        )

    def chunk(self) -> SentChunk:
        """Return the chunk."""
        return SentChunk(self.first, self.rows, self.payload, self.fence)


class CompleteMessage(HeldMessage):
    """A `Result`."""

    artifacts: list[ArtifactMessage] = []
    reads: list[Read] = []
    metrics: Numbers = {}
    conventions: dict[str, dict[str, Any]] = {}
    detail: dict[str, Any] = {}
    outputs: dict[str, Any] = {}
    base_version_id: UUID | None = None
    appends: bool = False
    source_delayed: bool = False
    counters: Numbers = {}
    step_counters: list[StepCount] = []
    first_output_ns: int | None = None
    series_ends: dict[Fence, PointNumber] | None = None
    """Of a `SeriesTaken`."""

    @classmethod
    def of(cls, fence: int, result: Result) -> Self:
        """Return the message of a result."""
        return cls(
            fence=fence,
            artifacts=artifact_messages(result.artifacts),
            reads=list(result.reads),
            metrics=dict(result.metrics),
            conventions={name: dict(facts) for name, facts in result.conventions.items()},
            detail=dict(result.detail),
            outputs=dict(result.outputs),
            base_version_id=result.base_version_id,
            appends=result.appends,
            source_delayed=result.source_delayed,
            counters=dict(result.counters),
            step_counters=list(result.step_counters),
            first_output_ns=result.first_output_ns,
            series_ends=None if result.series is None else dict(result.series.ends),
        )

    def result(self) -> Result:
        """Return the result."""
        return Result(
            artifacts=artifact_records(self.artifacts),
            reads=self.reads,
            metrics=self.metrics,
            conventions=self.conventions,
            detail=self.detail,
            outputs=self.outputs,
            base_version_id=self.base_version_id,
            appends=self.appends,
            source_delayed=self.source_delayed,
            counters=self.counters,
            step_counters=self.step_counters,
            first_output_ns=self.first_output_ns,
            series=None if self.series_ends is None else SeriesTaken(self.series_ends),
        )


class FailMessage(HeldMessage):
    """The error of a body, and what it leaves all the same."""

    error_type: str = Field(max_length=250)
    error_message: str
    traceback: str
    will_retry: bool
    artifacts: list[ArtifactMessage] = []
    traceback_ref: str | None = None
    counters: Numbers | None = None
    step_counters: list[StepCount] = []
    resume_due_at: datetime | None = None

    def error(self) -> BaseException:
        """Return an error of this name and message: the class itself is known in the worker's process alone."""
        kind = type(self.error_type, (Exception,), {})
        error: BaseException = kind(self.error_message)
        return error


def artifact_messages(records: Sequence[ArtifactRecord]) -> list[ArtifactMessage]:
    """Return the messages of records."""
    return [ArtifactMessage.of(record) for record in records]


def artifact_records(messages: Sequence[ArtifactMessage]) -> list[ArtifactRecord]:
    """Return the records of messages."""
    return [message.record() for message in messages]


_MOMENT, _DAY, _ID = TypeAdapter(datetime), TypeAdapter(date), TypeAdapter(UUID)
_ADAPTER_OF: dict[type, TypeAdapter[Any]] = {datetime: _MOMENT, date: _DAY, UUID: _ID}


def _plain_row(table: sa.Table, row: Any) -> dict[str, Any]:
    """Return in JSON's types what a row has of a table's columns: a claim reads no more than it needs."""
    values: dict[str, Any] = {}
    known = row._asdict()
    for column in table.c:
        if column.name not in known:
            continue
        value = known[column.name]
        adapter = _ADAPTER_OF.get(type(value))
        values[column.name] = value if adapter is None else adapter.dump_python(value, mode="json")
    return values


def _row(table: sa.Table, values: Mapping[str, Any]) -> Any:
    """Return what `_plain_row` was given; columns that this program does not know are left out."""
    read: dict[str, Any] = {}
    for column in table.c:
        if column.name not in values:
            continue
        value = values[column.name]
        adapter = _adapter_of(column.type) if isinstance(value, str) else None
        read[column.name] = value if adapter is None else adapter.validate_python(value)
    return SimpleNamespace(**read)


def _adapter_of(kind: sa.types.TypeEngine[Any]) -> TypeAdapter[Any] | None:
    """Return what reads the text of a column's value; None: it is text or JSON itself."""
    if isinstance(kind, UtcDateTime):
        return _MOMENT
    if isinstance(kind, sa.Uuid):
        return _ID
    return _DAY if isinstance(kind, sa.Date) else None
