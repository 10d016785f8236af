"""RunContext: what a tracked flow's body works with.

Reads go through the pins, writes go to the object store at once and become visible when the run completes. Collects
what the body reads, writes and logs; the tracked flow hands it over at the end. Knows Freshline only through `RunPort`.
"""

import logging
import os
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from importlib import import_module
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal, TypeVar
from uuid import UUID

from ..runs import events
from ..runs.execution import Read, Result
from ..runs.port import RunPort, UpstreamVersion
from ..storage import files, parquet
from ..storage.artifacts import ArtifactRecord
from ..storage.errors import Fenced, InvalidInput, NotFound
from ..storage.stored import StoredTable
from ..storage.words import DeploymentKind, UpdateMode
from .lease import Lease
from .series import MetricSeries

T = TypeVar("T")
Form = Literal["pandas", "arrow", "polars", "scan"]
WriteMode = Literal["overwrite", "append"]

_PROGRESS_INTERVAL_S = 1.0
_DATA_DATE = "date"


@dataclass(frozen=True)
class RunIdentity:
    """Which run this is, as its claim said."""

    id: UUID
    fence: int
    deployment_id: UUID
    deployment: str
    """Key of the deployment."""
    kind: DeploymentKind
    attempt: int = 1
    update_mode: UpdateMode = UpdateMode.INCREMENTAL
    data_as_of: date | None = None
    base_version_id: UUID | None = None
    callables: Mapping[str, str] = field(default_factory=dict)
    """Name -> dotted path, from the deployment's declaration."""


class RunContext:
    """The run that a body executes: read its inputs, write its outputs, log its metrics."""

    def __init__(self, identity: RunIdentity, port: RunPort, lease: Lease) -> None:
        self.logger = logging.getLogger(f"freshline.{identity.deployment}")
        self._identity = identity
        self._port = port
        self._lease = lease
        self._pins = dict(port.pins(identity.id))
        self._reads: dict[str, Read] = {}
        self._written: dict[str, ArtifactRecord] = {}
        self._described: dict[str, Any] = {}
        self._series = MetricSeries()
        self._base_used = False
        self._source_delayed = False
        self._scratch = TemporaryDirectory(prefix="freshline-", ignore_cleanup_errors=True)
        self._progress_at = 0.0

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
        return self._pins

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
        read without having been declared. `table` names one of several; `columns` and `where` (a pyarrow
        expression) reach the Parquet files.

        Raises:
            NotFound: there is no such role, version or table.
            ObjectMissing, ObjectCorrupt: the object store does not have what was written.
        """
        self._lease.check()
        stored = _table_of(self._upstream(role), table)
        wanted = list(columns) if columns is not None else None
        objects, until = self._port.objects, self.data_as_of if stored.data_date is not None else None
        if as_ == "pandas":
            return parquet.to_pandas(objects, stored, columns=wanted, where=where, until=until)
        if as_ == "scan":
            if wanted is not None:
                raise InvalidInput("as_='scan' gives a dataset of all columns: choose columns when you read from it")
            return parquet.scan(objects, stored, where=where, until=until)
        arrow = parquet.read_table(objects, stored, columns=wanted, where=where, until=until)
        if as_ == "arrow":
            return arrow
        if as_ == "polars":
            import polars

            return polars.from_arrow(arrow)
        raise InvalidInput(f"as_={as_!r}: a table is read as pandas, arrow, polars or scan")

    def open(self, role: str, name: str) -> Path:
        """Return a local, verified copy of a file of an upstream's pinned version; it lives as long as the run.

        Raises:
            NotFound: there is no such role, version or file.
            ObjectMissing, ObjectCorrupt: the object store does not have what was written.
        """
        self._lease.check()
        upstream = self._upstream(role)
        artifact = upstream.artifacts.get(name)
        if artifact is None or artifact.kind != "file":
            known = [other.name for other in upstream.artifacts.values() if other.kind == "file"]
            raise NotFound(f"file in {upstream.key}@v{upstream.number}", name, known=known)
        target = Path(self._scratch.name, str(len(list(Path(self._scratch.name).iterdir()))))
        files.download_file(self._port.objects, artifact.stored_file(), target)
        return target

    def current(self, name: str) -> StoredTable | None:
        """Return what this deployment's version held under `name` when the run was claimed; null before the first."""
        base = self._identity.base_version_id
        artifact = self._port.version(base).artifacts.get(name) if base is not None else None
        return artifact.stored_table() if artifact is not None and artifact.kind == "table" else None

    def write(
        self,
        name: str,
        data: Any,
        *,
        data_date: str | None = None,
        mode: WriteMode = "overwrite",
        publish: bool = True,
    ) -> None:
        """Write a table as Parquet; it is visible when the run completes.

        `data` is a pandas, Arrow or polars table, or an iterator of record batches. `data_date` names the column
        (or index) of data dates; without it, that is `date` where there is one. `append` adds to the table of that
        name in this deployment's current version, whose fragments are shared. With `publish=False` the table belongs to
        the run but not to the version's content.

        Raises:
            NotStorable: Parquet cannot hold the data without loss.
            InvalidInput: the name is taken or not usable, or appended columns differ.
        """
        self._lease.check()
        self._check_name(name)
        base = self.current(name) if mode == "append" else None
        if data_date is None and base is None and _DATA_DATE in column_names(data):
            data_date = _DATA_DATE
        stored = parquet.write_table(self._port.objects, data, base=base, data_date=data_date)
        self._base_used |= base is not None
        self._written[name] = ArtifactRecord.of_table(name, stored, publish=publish)

    def save(
        self,
        name: str,
        content: Path | str | bytes,
        *,
        media_type: str | None = None,
        digest: str | None = None,
        publish: bool = True,
    ) -> None:
        """Store a file (a path, or its bytes); it is visible when the run completes.

        `digest` replaces the sha256 of the bytes in the version's digest, for files that differ from run to run
        although they mean the same.
        """
        self._lease.check()
        self._check_name(name)
        source = Path(content) if isinstance(content, str) else content
        stored = files.save_file(self._port.objects, source, media_type=media_type)
        self._written[name] = ArtifactRecord.of_file(name, stored, publish=publish, digest=digest)

    def log(self, step: int | None = None, **metrics: float) -> None:
        """Log metric values, in memory; the latest ones are sent with the next heartbeat, the series at the end.

        Raises:
            InvalidInput: a value is no number.
        """
        self._lease.check()
        self._series.add(step, metrics)

    def describe(self, **facts: Any) -> None:
        """Record facts of this run's type, such as `start_date` of a BacktestRun; see `runs/details`."""
        self._described.update(facts)

    def note(self, name: str, **data: Any) -> None:
        """Append an event of the author's own to the run's log."""
        self._record([events.AuthorEvent(name=name, data=data)])

    def source_delayed(self, last_data_date: date | None = None) -> None:
        """Say that the source was asked and had nothing new."""
        self._source_delayed = True
        self.logger.info("the source has nothing after %s", last_data_date)

    def progress(self, items: Iterable[T], *, total: int | None = None, label: str | None = None) -> Iterator[T]:
        """Yield the items with a progress bar here and progress events there, at most one a second."""
        from rich.console import Console
        from rich.progress import track as bar

        expected = total if total is not None else _length_of(items)
        console = Console(stderr=True)
        shown = bar(
            items,
            description=label or self.deployment,
            total=expected,
            console=console,
            disable=not console.is_terminal,
        )
        for done, item in enumerate(shown, start=1):
            self._lease.check()
            yield item
            if expected:
                self._report(done / expected, label)

    def result(self, metrics: Any) -> Result:
        """Return what the body left; `metrics` is what it returned."""
        from .outcome import outcome_of

        artifacts = dict(self._written)
        if self._series:
            table = parquet.write_table(self._port.objects, self._series.to_arrow())
            artifacts["metrics"] = ArtifactRecord.of_table("metrics", table, publish=False)
        return outcome_of(
            metrics,
            kind=self.kind,
            artifacts=tuple(artifacts.values()),
            reads=tuple(self._reads.values()),
            upstreams=self._pins,
            logged=self._series.latest,
            described={**self._described, **self._own_facts()},
            base_version_id=self._identity.base_version_id if self._base_used else None,
            source_delayed=self._source_delayed,
        )

    def pending_metrics(self) -> dict[str, float]:
        """Return the latest values that were not sent yet, and count them as sent."""
        return self._series.take_unsent()

    def close(self) -> None:
        """Remove the local copies."""
        self._scratch.cleanup()

    def _own_facts(self) -> dict[str, Any]:
        return {"update_mode": self.update_mode.value} if self.kind == DeploymentKind.REFRESH else {}

    def _upstream(self, role: str) -> UpstreamVersion:
        # A version that is asked for by its number is that version, whatever was pinned before.
        upstream = self._pins.get(role) if "@" not in role else None
        if upstream is None:
            if "/" not in role:
                raise NotFound("pinned upstream", role, known=self._pins)
            upstream = self._port.resolve(role)
        self._reads[role] = Read(role, upstream.upstream_id, upstream.version_id)
        return upstream

    def _check_name(self, name: str) -> None:
        if not 1 <= len(name) <= 250 or not name.isprintable():
            raise InvalidInput(f"the artifact name {name[:50]!r}… must have 1 to 250 printable characters")
        if name in self._written:
            raise InvalidInput(f"this run has written {name!r} already; give the second one another name")

    def _report(self, share: float, label: str | None) -> None:
        now = time.monotonic()
        if now - self._progress_at < _PROGRESS_INTERVAL_S and share < 1.0:
            return
        self._progress_at = now
        share = min(1.0, share)
        reported = events.ProgressReported(progress=share, label=label)
        self._record([reported], metrics=self.pending_metrics(), progress=share)

    def _record(self, entries: Sequence[events.Event], **values: Any) -> None:
        """Send events; a store that is away for a moment must not end a body that is well."""
        try:
            self._port.record(self.id, self._identity.fence, entries, **values)
        except (Fenced, InvalidInput):
            raise
        except Exception:
            self.logger.warning("an event of the run could not be sent; the run carries on", exc_info=True)


def import_callable(path: str) -> Callable[..., Any]:
    """Return the function that a dotted path names, from the project's own folders too."""
    # Prefect has the working directory on sys.path while it loads a module entrypoint, and not when the body runs.
    if (here := os.getcwd()) not in sys.path:
        sys.path.insert(0, here)
    module, _, function = path.rpartition(".")
    found: Callable[..., Any] = getattr(import_module(module), function)
    return found


def _table_of(upstream: UpstreamVersion, name: str | None) -> StoredTable:
    tables = {
        artifact.name: artifact
        for artifact in upstream.artifacts.values()
        if artifact.kind == "table" and artifact.publish
    }
    if name is None and len(tables) == 1:
        name = next(iter(tables))
    if name is None:
        shown = ", ".join(sorted(tables)) or "none"
        raise InvalidInput(
            f"{upstream.key}@v{upstream.number} has several tables or none: say table=…, one of: {shown}"
        )
    if name not in tables:
        raise NotFound(f"table in {upstream.key}@v{upstream.number}", name, known=tables)
    return tables[name].stored_table()


def column_names(data: Any) -> list[Any]:
    """Return the columns of a table, the index levels of pandas among them; none for a stream."""
    if hasattr(data, "index") and hasattr(data, "columns"):
        return [*data.index.names, *data.columns]
    schema = getattr(data, "schema", None)
    return list(getattr(schema, "names", None) or (schema if isinstance(schema, dict) else []))


def _length_of(items: Iterable[Any]) -> int | None:
    try:
        return len(items)  # type: ignore[arg-type]  # that is the question
    except TypeError:
        return None
