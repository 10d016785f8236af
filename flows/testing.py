# ruff: noqa: ARG002 - the memory port has the methods of BodyPort, whatever it needs of their arguments
"""Run a tracked flow's body in a unit test, without any server.

    result = freshline.testing.run(train, inputs={"signal": frame}, parameters={"lookback_d": 60})
    assert result.metrics["val_ic"] > 0
    result.tables["predictions"]        # as pandas
    result.counters, result.messages, result.checkpoints

Tables and files go to a memory filesystem of their own; nothing outlives the result.
"""

import asyncio
import inspect
import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import Any
from uuid import UUID

from ..runs import author_events
from ..runs import run_events as events
from ..runs.points.chunks import Chunk, SentChunk
from ..runs.points.spool import Spool
from ..runs.port import UpstreamVersion
from ..runs.recording import SavedState
from ..runs.result import Result
from ..storage import parquet
from ..storage.artifacts import ArtifactRecord
from ..storage.database import dump_json
from ..storage.declared import declared_tables
from ..storage.errors import InvalidInput, NotFound
from ..storage.filesystem import ObjectStore
from ..storage.ids import new_id
from ..storage.stored import StoredFolder, StoredTable
from ..storage.words import UpdateMode
from .callables import import_callable
from .context import RunContext
from .identity import RunIdentity
from .lease import Lease
from .writing import column_names, save


@dataclass(frozen=True)
class TestResult:
    """What the body left."""

    __test__ = False  # not a test case, whatever its name says to pytest

    metrics: Mapping[str, float]
    """Returned and logged values."""
    tables: Mapping[str, Any]
    """Written tables, as pandas."""
    files: Mapping[str, bytes]
    """Saved files."""
    folders: Mapping[str, Mapping[str, bytes]]
    """Saved folders: path in the folder -> bytes."""
    counters: Mapping[str, float]
    """What was counted, in tasks and outside of them."""
    messages: Sequence[tuple[str, str]]
    """(role, content), in order."""
    checkpoints: Sequence[Mapping[str, Any]]
    """The states that were saved, the newest last."""
    events: Sequence[events.Event]
    """Progress, messages, checkpoints and the author's own events, in order."""
    result: Result
    """The whole, as a run would publish it."""


def run(
    flow: Any,
    *,
    inputs: Mapping[str, Any] | None = None,
    parameters: Mapping[str, Any] | None = None,
    callables: Mapping[str, Callable[..., Any] | str] | None = None,
    current: Mapping[str, Any] | None = None,
    data_as_of: date | None = None,
    update_mode: UpdateMode | str = UpdateMode.INCREMENTAL,
    checkpoint: Mapping[str, Any] | None = None,
    schema: Mapping[str, Any] | None = None,
) -> TestResult:
    """Run the body of a tracked flow (the flow itself, or its undecorated function) and return what it left.

    `inputs` maps each role to a table, or to a mapping of tables (anything that `run.write` takes), files (bytes or a
    path) and folders (a path). `current` maps names to the tables of the deployment's current version, for incremental
    bodies. `callables` maps a name to a function or its dotted path. With `checkpoint` this is a second attempt, whose
    predecessor had saved that state. `schema` is that of the `resource:` block, with canonical type names.

    Raises:
        InvalidInput: the flow is not tracked.
        Whatever the body raises.
    """
    function = getattr(flow, "fn", flow)
    body = getattr(function, "__freshline_body__", None)
    if body is None:
        raise InvalidInput(f"{flow!r} is not tracked: decorate its function with @track.<kind>")
    kind = function.__freshline_kind__
    port = _MemoryPort(inputs or {}, current or {})
    if checkpoint is not None:
        port.keep_checkpoint(checkpoint)
    named = dict(callables or {})
    identity = RunIdentity(
        id=new_id(),
        fence=1,
        deployment_id=new_id(),
        deployment=f"{kind}/test",
        kind=kind,
        attempt=1 if checkpoint is None else 2,
        update_mode=UpdateMode(update_mode),
        data_as_of=data_as_of,
        base_version_id=new_id() if current else None,
        schema=declared_tables({"schema": schema}),
    )
    context = _Context(identity, port, Lease(lambda: None, interval_s=3600), named)
    try:
        returned = body(context, **dict(parameters or {}))
        if inspect.iscoroutine(returned):
            returned = asyncio.run(returned)
        result = context.result(returned)
    finally:
        context.close()
    return _collect(port, result, saved_before=0 if checkpoint is None else 1)


class _Context(RunContext):
    """A RunContext whose callables may be functions."""

    def __init__(self, identity: RunIdentity, port: "_MemoryPort", lease: Lease, named: Mapping[str, Any]) -> None:
        super().__init__(identity, port, lease)
        self._named = named

    def callable(self, name: str) -> Callable[..., Any]:
        found = self._named.get(name)
        if found is None:
            raise NotFound("callable given to testing.run", name, known=self._named)
        called: Callable[..., Any] = import_callable(found) if isinstance(found, str) else found
        return called


@dataclass
class _MemoryPort:
    """BodyPort without a database: inputs are versions 1, everything recorded is kept."""

    inputs: Mapping[str, Any]
    current_tables: Mapping[str, Any]
    objects: ObjectStore = field(default_factory=lambda: ObjectStore(f"memory://freshline-test-{new_id()}"))
    recorded: list[events.Event] = field(default_factory=list)
    messages: list[tuple[str, str]] = field(default_factory=list)
    checkpoints: list[SavedState] = field(default_factory=list)
    sent: list[SentChunk] = field(default_factory=list)

    def pins(self, run_id: UUID) -> Mapping[str, UpstreamVersion]:
        return {role: self._version(role, content) for role, content in self.inputs.items()}

    def resolve(self, reference: str) -> UpstreamVersion:
        raise NotFound("input given to testing.run", reference, known=self.inputs)

    def version(self, version_id: UUID) -> UpstreamVersion:
        return self._version("", self.current_tables)

    def record(
        self,
        run_id: UUID,
        fence: int,
        entries: Sequence[events.Event] = (),
        *,
        metrics: Mapping[str, float] | None = None,
        progress: float | None = None,
    ) -> None:
        self.recorded.extend(entries)

    def add_message(self, run_id: UUID, fence: int, role: str, content: str) -> None:
        self.messages.append((role, content))
        self.recorded.append(author_events.MessageAdded(role=role, content_length=len(content)))

    def save_checkpoint(self, run_id: UUID, fence: int, state: Mapping[str, Any]) -> int:
        saved = self.keep_checkpoint(state)
        self.recorded.append(author_events.CheckpointSaved(checkpoint_id=saved.checkpoint_id))
        return len(self.checkpoints)

    def newest_checkpoint(self, run_id: UUID) -> SavedState | None:
        return self.checkpoints[-1] if self.checkpoints else None

    def open_spool(self, run_id: UUID, fence: int) -> Spool:
        raise OSError("nothing of a test is spooled")

    def record_points(self, run_id: UUID, fence: int, chunk: Chunk, latest: Mapping[str, float]) -> int:
        self.sent = [one for one in self.sent if one.first < chunk.first]
        self.sent.append(SentChunk(chunk.first, chunk.rows, chunk.payload, fence=fence))
        return chunk.end

    def sent_points(self, run_id: UUID) -> Sequence[SentChunk]:
        return self.sent

    def keep_checkpoint(self, state: Mapping[str, Any]) -> SavedState:
        """Keep a state as a database would: as JSON, apart from what the body does with it afterwards."""
        saved = SavedState(str(len(self.checkpoints) + 1), 1, json.loads(dump_json(dict(state))))
        self.checkpoints.append(saved)
        return saved

    def _version(self, role: str, content: Any) -> UpstreamVersion:
        parts = content if isinstance(content, Mapping) else {"data": content}
        artifacts = {name: self._artifact(name, part) for name, part in parts.items()}
        return UpstreamVersion(role, new_id(), f"refresh/{role or 'test'}", new_id(), 1, artifacts)

    def _artifact(self, name: str, part: Any) -> ArtifactRecord:
        if isinstance(part, bytes | Path):
            return ArtifactRecord.of_file(name, save(self.objects, part), publish=True)
        has_date = "date" in column_names(part)
        stored = parquet.write_table(self.objects, part, data_date="date" if has_date else None)
        return ArtifactRecord.of_table(name, stored, publish=True)


def _collect(port: _MemoryPort, result: Result, *, saved_before: int) -> TestResult:
    tables, saved, folders = {}, {}, {}
    for artifact in result.artifacts:
        stored = artifact.stored
        if isinstance(stored, StoredTable):
            tables[artifact.name] = parquet.to_pandas(port.objects, stored)
        elif isinstance(stored, StoredFolder):
            folders[artifact.name] = {file.path: port.objects.read_bytes(file.name) for file in stored.files}
        else:
            saved[artifact.name] = port.objects.read_bytes(stored.name)
    counters: Counter[str] = Counter()
    for counted in [result.counters, *(step.counters for step in result.step_counters)]:
        counters.update(counted)
    return TestResult(
        metrics=dict(result.metrics),
        tables=tables,
        files=saved,
        folders=folders,
        counters=dict(counters),
        messages=tuple(port.messages),
        checkpoints=tuple(one.state for one in port.checkpoints[saved_before:]),
        events=tuple(port.recorded),
        result=result,
    )
