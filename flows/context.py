"""RunContext: what a tracked flow's body works with.

Reads go through the pins, writes go to the object store at once and become visible when the run completes. Collects
what the body reads, writes, logs and counts; the tracked flow hands it over at the end. Each part has its own module:
`reading`, `writing`, `reporting`, `series`, `sending`, `counters`. Knows Freshline only through `RunPort`.
"""

import logging
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from datetime import date
from pathlib import Path
from typing import Any, TypeVar
from uuid import UUID

from ..runs.author_events import AuthorEvent, RecordableEvent
from ..runs.points.chunks import SeriesTaken
from ..runs.port import BodyPort, UpstreamVersion
from ..runs.result import Result
from ..runs.steps import StepCount
from ..storage import parquet
from ..storage.artifacts import ArtifactRecord
from ..storage.errors import InvalidInput, NotFound
from ..storage.files import FileLike
from ..storage.forms import Form
from ..storage.stored import StoredTable
from ..storage.words import DeploymentKind, UpdateMode
from .callables import import_callable
from .counters import Counters
from .identity import RunIdentity
from .lease import Lease
from .progress_bar import shown
from .reading import Reading
from .reporting import Reporting
from .sending import PointSender
from .writing import SERIES, WriteMode, Writing

T = TypeVar("T")

DROPPED = "metric_values_dropped"
"""The counter of metric values that neither the store nor a disk could take."""


class RunContext:
    """The run that a body executes: read its inputs, write its outputs, log its metrics."""

    def __init__(self, identity: RunIdentity, port: BodyPort, lease: Lease, *, system_metrics: bool = False) -> None:
        self.logger = logging.getLogger(f"freshline.{identity.deployment}")
        self._identity = identity
        self._port = port
        self._lease = lease
        self._reading = Reading(port, identity.id, until=identity.data_as_of, base_version_id=identity.base_version_id)
        self._writing = Writing(port.objects, self._reading.current, identity.schema)
        self._sender = PointSender(port, identity.id, identity.fence, self.logger, has_history=identity.attempt > 1)
        self._series = self._sender.series
        self._counters = Counters()
        self._reporting = Reporting(port, identity.id, identity.fence, self.logger)
        self._has_table = False
        self._described: dict[str, Any] = {}
        self._source_delayed = False
        self._first_output_ns: int | None = None
        self._began_ns = time.monotonic_ns()
        self._system = ExitStack()
        if system_metrics:
            from .system_metrics import SystemMetrics

            self._system.enter_context(SystemMetrics(self._series.observe))

    @property
    def id(self) -> UUID:
        """The run's id."""
        return self._identity.id

    @property
    def deployment(self) -> str:
        """Key of the deployment, such as `refresh/prices`."""
        return self._identity.deployment

    @property
    def kind(self) -> DeploymentKind:
        """The deployment's kind."""
        return self._identity.kind

    @property
    def attempt(self) -> int:
        """1 for the first start of the body."""
        return self._identity.attempt

    @property
    def data_as_of(self) -> date | None:
        """No later data date is read; null: no limit."""
        return self._identity.data_as_of

    @property
    def update_mode(self) -> UpdateMode:
        """Whether a refresh brings only what is new."""
        return self._identity.update_mode

    @property
    def inputs(self) -> Mapping[str, UpstreamVersion]:
        """The pinned version of each upstream, by role."""
        return self._reading.pins

    def callable(self, name: str) -> Callable[..., Any]:
        """Return the function that the deployment declares under `name`.

        Raises:
            NotFound: the deployment declares none.
        """
        path = self._identity.callables.get(name)
        if path is None:
            raise NotFound(f"callable in the resource block of {self.deployment}", name, known=self._identity.callables)
        return import_callable(path)

    def read(
        self,
        role: str,
        *,
        table: str | None = None,
        columns: Iterable[str] | None = None,
        where: Any = None,
        as_: Form = "pandas",
    ) -> Any:
        """Return a table of an upstream's pinned version, cut at `data_as_of`.

        `role` is the role of a declared upstream, or a reference such as `refresh/other` that is then recorded as
        read without having been declared. `table` names one of several; `columns` and `where` (an Arrow expression, or
        tuples such as `[("close", ">", 10)]`) reach the Parquet files. `as_` is pandas, arrow, polars, batches (a
        reader of record batches, for what is larger than memory) or scan (an Arrow dataset).

        Raises:
            NotFound: there is no such role, version or table.
            ObjectMissing, ObjectCorrupt: the object store does not have what was written.
        """
        self._lease.check()
        return self._reading.table(role, table, columns=columns, where=where, form=as_)

    def open(self, role: str, name: str) -> Path:
        """Return a local, verified copy of a file or folder of an upstream's pinned version, which lives as long as
        the run.

        Raises:
            NotFound: there is no such role or version, or it has published no such file or folder.
            ObjectMissing, ObjectCorrupt: the object store does not have what was written.
        """
        self._lease.check()
        return self._reading.file(role, name)

    def current(self, name: str) -> StoredTable | None:
        """Return what this deployment's version held under `name` when the run was claimed; null before the first."""
        return self._reading.current(name)

    def write(
        self,
        name: str,
        data: Any,
        *,
        data_date: str | None = None,
        mode: WriteMode = "overwrite",
        key: Iterable[str] | None = None,
        publish: bool = True,
    ) -> None:
        """Write a table as Parquet; it is visible when the run completes.

        `data` is a pandas, Arrow or polars table, or an iterator of record batches. `data_date` names the column
        (or index) of data dates; without it, that is `date` where there is one. With `publish=False` the table belongs
        to the run but not to the version's content.

        `append` and `upsert` continue the table of that name in this deployment's current version, and share what they
        do not change. `append` adds the rows at the end. `upsert` puts each row in the place of the one with the same
        `key`, a list of columns, and adds the others at the end; the key may be left out once it was given. Both may
        bring new columns, which are null in the rows before, and wider types. What continues a version becomes
        current only if that one still is.

        A table that the deployment's `schema` declares must have those columns.

        Raises:
            NotStorable: Parquet cannot hold the data without loss.
            InvalidInput: the name is taken or not usable, the columns do not continue those of the table or are not
                those declared, or a key is null or there twice.
            NotFound: the table has no such column.
        """
        self._lease.check()
        self._writing.table(name, data, data_date=data_date, mode=mode, key=key, publish=publish)
        self._note_output()

    def delete(self, name: str, where: Any, *, publish: bool = True) -> None:
        """Write the table of that name of this deployment's current version without the rows for which `where` holds.

        `where` is as in `read`. A row for which it is null stays. The version becomes current only if the one that it
        was made from still is. Earlier versions keep the rows.

        Raises:
            InvalidInput: the name is taken, there is no such table, its columns are not those that the deployment
                declares, or the condition does not fit them.
        """
        self._lease.check()
        self._writing.without(name, where, publish=publish)
        self._note_output()

    def save(
        self,
        name: str,
        content: FileLike,
        *,
        media_type: str | None = None,
        digest: str | None = None,
        publish: bool = True,
    ) -> None:
        """Store a file or a folder; it is visible when the run completes.

        `content` is a path, bytes, a file opened in binary mode (read from where it stands), or an iterable of bytes:
        files are streamed, however large. `digest` replaces the sha256 of the bytes in the version's digest, for what
        differs from run to run although it means the same.

        Raises:
            NotFound: nothing is at the path.
            InvalidInput: the name is taken or not usable, or the content is; see `save_file` and `save_folder`.
            Conflict: the folder changed while it was stored.
            ArtifactError: the object store cannot be written.
        """
        self._lease.check()
        self._writing.file(name, content, media_type=media_type, digest=digest, publish=publish)
        self._note_output()

    def log(self, step: int | None = None, **metrics: float) -> None:
        """Log metric values: into memory, which takes microseconds. They are spooled and sent in the background.

        Without a step, each metric counts on from its last one, and first from 0. NaN and infinities are values.
        Several threads may log, but no other process: a task of a process pool, Dask or Ray returns what the flow
        then logs.

        Raises:
            InvalidInput: a name, a value or the step cannot be used, or this is another process. Nothing is logged.
        """
        self._lease.check()
        self._series.add(step, metrics)
        if self._first_output_ns is None:
            self._note_output()

    def count(self, **counters: float) -> None:
        """Add to named counters of the run; within a Prefect task, to those of that step too. Several threads may.

        Raises:
            InvalidInput: a value is no finite number.
        """
        self._lease.check()
        self._counters.add(counters)

    def describe(self, **facts: Any) -> None:
        """Record facts of this run's type, such as `start_date` of a BacktestRun; see `runs/details`."""
        self._described.update(facts)

    def emit(self, event: RecordableEvent) -> None:
        """Append an event to the run's log: one of `freshline.runs.author_events`.

        Raises:
            InvalidInput: it is none of them, or holds what JSON cannot.
        """
        if not isinstance(event, RecordableEvent):
            raise InvalidInput(f"{event!r} is no event that a body may record: see freshline.runs.author_events")
        self._lease.check()
        self._reporting.emit(event)

    def note(self, name: str, **data: Any) -> None:
        """Append an event of the author's own to the run's log.

        Raises:
            InvalidInput: the data is not JSON.
        """
        self.emit(AuthorEvent(name=name, data=data))

    def message(self, role: str, content: str) -> None:
        """Append a message to those of the run, for flows that talk: who speaks, and what.

        Raises:
            InvalidInput: it is no text of at most 256 KiB.
        """
        self._lease.check()
        self._reporting.message(role, content)

    def checkpoint(self, state: Mapping[str, Any]) -> None:
        """Save a state, as JSON, from which a later attempt of this run can go on. Earlier ones stay.

        Raises:
            NotStorable: it is not JSON, or more than 256 KiB or 32 levels.
        """
        self._lease.check()
        self._reporting.checkpoint(state)

    def resume_from(self) -> Mapping[str, Any] | None:
        """Return the state that an earlier attempt of this run saved last; null: there is none, begin at the start.

        Raises:
            StoreUnavailable: the database cannot be reached.
        """
        self._lease.check()
        return self._reporting.newest_checkpoint() if self.attempt > 1 else None

    def source_delayed(self, last_data_date: date | None = None) -> None:
        """Say that the source was asked and had nothing new."""
        self._source_delayed = True
        self.logger.info("the source has nothing after %s", last_data_date)

    def progress(self, items: Iterable[T], *, total: int | None = None, label: str | None = None) -> Iterator[T]:
        """Yield the items with a progress bar here and progress events there, at most five a second."""
        for part, item in shown(items, total=total, label=label or self.deployment):
            self._lease.check()
            yield item
            if part is not None:
                self._reporting.progress(part, label)

    def result(self, metrics: Any) -> Result:
        """Return what the body left; `metrics` is what it returned."""
        from .outcome import outcome_of

        self._writing.check_all_declared()
        self._system.close()
        self._reporting.flush()
        artifacts = self._writing.artifacts
        series = self._stored_series()
        if series is not None:
            artifacts += (series[0],)
        return outcome_of(
            metrics,
            kind=self.kind,
            artifacts=artifacts,
            reads=self._reading.reads,
            # A body that read nothing need not ask what it could have read.
            upstreams=self.inputs if self._reading.reads else {},
            logged=self._series.latest,
            described={**self._described, **self._own_facts()},
            base_version_id=self._identity.base_version_id if self._writing.continued else None,
            appends=self._writing.continued,
            source_delayed=self._source_delayed,
            counters=self.counted,
            step_counters=self.counted_in_steps,
            first_output_ns=self._first_output_ns,
            series=series[1] if series is not None else None,
        )

    def flush(self) -> None:
        """Send the progress that waits."""
        self._reporting.flush()

    @property
    def counted(self) -> Mapping[str, float]:
        """What was counted outside of steps, and the metric values that had to be dropped."""
        dropped = self._sender.dropped
        return {**self._counters.of_run, **({DROPPED: dropped} if dropped else {})}

    @property
    def counted_in_steps(self) -> Sequence[StepCount]:
        """What was counted in each step."""
        return self._counters.of_steps

    def published(self) -> None:
        """Forget the metric values that the completed run has in its table; what is not there is sent or spooled."""
        if self._has_table:
            self._sender.discard()
        else:
            self._sender.keep()

    def interrupted(self) -> None:
        """Send or spool the metric values that the attempt leaves."""
        self._system.close()
        self._sender.keep()

    def close(self) -> None:
        """Remove the local copies. Metric values that went nowhere yet are spooled."""
        self._system.close()
        self._sender.close()
        self._reading.close()

    def _stored_series(self) -> tuple[ArtifactRecord, SeriesTaken | None] | None:
        """Store all that was logged as one table; None when that is nothing, or when it cannot be done now."""
        try:
            remaining = self._sender.remaining()
            if remaining is not None:
                table = parquet.write_table(self._port.objects, remaining[0])
                self._has_table = True
                return ArtifactRecord.of_table(SERIES, table, publish=False), remaining[1]
        except Exception as error:
            self.logger.warning("the metric values stay in chunks: no table could be made of them (%s)", error)
        return None

    def _own_facts(self) -> dict[str, Any]:
        return {"update_mode": self.update_mode.value} if self.kind == DeploymentKind.REFRESH else {}

    def _note_output(self) -> None:
        if self._first_output_ns is None:
            self._first_output_ns = time.monotonic_ns() - self._began_ns
