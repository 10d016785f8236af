"""A run's metric values over time, read as one series: from its table `metrics`, and from chunks that are not in it."""

import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any, Literal
from uuid import UUID

from sqlalchemy.engine import Connection, Row

from ...storage.artifacts import ArtifactRecord, artifact_of
from ...storage.database import Database
from ...storage.errors import NotFound
from ...storage.filesystem import ObjectStore
from ...storage.ids import show_run_id
from ...storage.stored import StoredTable
from .. import contents
from ..care import acts
from ..contents import metric_value
from ..status import RunStatus
from . import sent
from .chunks import SERIES, SentChunk, decode, schema

if TYPE_CHECKING:
    import pyarrow as pa

SeriesForm = Literal["pandas", "arrow"]

_POLL_S = 0.5


@dataclass(frozen=True)
class LatestMetric:
    """The latest value of one metric of a run."""

    name: str
    value: float
    unit: str | None
    convention: dict[str, Any] | None
    at: datetime


@dataclass(frozen=True)
class RunMetrics:
    """A run's metrics as they are now."""

    run_id: UUID
    status: str
    latest: list[LatestMetric]
    """By name."""
    num_points: int
    """Values that were logged over time, of all metrics."""


@dataclass(frozen=True)
class _Found:
    """Where the parts of a series are, from one snapshot."""

    run: Row[Any]
    table: StoredTable | None
    chunks: list[SentChunk]


@dataclass(frozen=True)
class SeriesReader:
    """Reads series of one store."""

    database: Database
    objects: ObjectStore
    tenant_id: str = "default"

    def metrics(self, run_id: UUID | str) -> RunMetrics:
        """Return the latest values of a run with their conventions, and how many were logged.

        Raises:
            NotFound: there is no such run.
            RunDeleted: it was deleted; the message says by whom and why.
        """
        with self.database.read() as connection:
            run = acts.readable_run(connection, run_id, tenant_id=self.tenant_id)
            rows = contents.metrics_of(connection, [run.id])
            num_points = sent.count_points(connection, run.id)
            record = _record_of(connection, run.id)
        latest = [
            LatestMetric(row.name, metric_value(row), (row.convention or {}).get("unit"), row.convention, row.at)
            for row in rows
        ]
        # The record says so also when retention has let go the table itself.
        return RunMetrics(run.id, run.status, latest, num_points + ((record.rows or 0) if record is not None else 0))

    def series(self, run_id: UUID | str, names: Iterable[str] | None = None) -> "pa.Table":
        """Return what a run has logged until now, in the order in which it was logged, attempt by attempt.

        n rows; columns name: string, step: int64, value: float64, at: timestamp[us, UTC], by the worker's clock. What
        arrived after the run had completed comes last. `names` are the only metrics that are wanted.

        Raises:
            NotFound: there is no such run, or it has no metric of such a name; the message has the nearest.
            RunDeleted: it was deleted; the message says by whom and why.
            DataRemoved: retention has let go what it had logged.
            ObjectMissing, ObjectCorrupt: the object store does not have what was written.
        """
        with self.database.read() as connection:
            found = self._find(connection, run_id)
        if names is None:
            return self._whole(found)
        wanted = list(dict.fromkeys(names))
        table = self._whole(found, wanted)
        have = set(table["name"].unique().to_pylist())
        for name in wanted:
            if name not in have:
                raise _unknown(found.run, name, self._whole(found)["name"].unique().to_pylist())
        return table

    def follow(
        self,
        run_id: UUID | str,
        names: Iterable[str] | None = None,
        *,
        sleep: Callable[[float], object] = time.sleep,
    ) -> Iterator["pa.Table"]:
        """Yield what a run has logged, and then what is new, until it has ended; each part as `series` gives it.

        Raises:
            NotFound: there is no such run; or it has ended, and a metric of such a name was never logged.
            RunDeleted: it was deleted; the message says by whom and why.
        """
        wanted = None if names is None else list(names)
        ends: dict[int, int] = {}
        num_seen = 0
        known: set[str] = set()
        while True:
            with self.database.read() as connection:
                found = self._find(connection, run_id, after=ends)
            if found.table is not None:
                # It holds what was seen as chunks, in the same order.
                part = self._whole(found).slice(num_seen)
            else:
                part = _joined([_from(chunk, ends.get(chunk.fence, 0)) for chunk in found.chunks])
                ends |= {chunk.fence: chunk.end for chunk in found.chunks}
            num_seen += part.num_rows
            known.update(part["name"].unique().to_pylist())
            part = _only(part, wanted)
            if part.num_rows:
                yield part
            if RunStatus(found.run.status).is_terminal:
                for name in wanted or ():
                    if name not in known:
                        raise _unknown(found.run, name, known)
                return
            sleep(_POLL_S)

    def _find(self, connection: Connection, run_id: UUID | str, *, after: dict[int, int] | None = None) -> _Found:
        run = acts.readable_run(connection, run_id, tenant_id=self.tenant_id)
        table = _table_of(connection, run.id)
        chunks = sent.chunks_of_run(connection, run.id, after=None if table is not None else after)
        return _Found(run, table, list(chunks))

    def _whole(self, found: _Found, names: list[str] | None = None) -> "pa.Table":
        parts = [_only(decode(chunk.payload), names) for chunk in found.chunks]
        if found.table is not None:
            from ...storage import parquet

            if names is None:
                table = parquet.read_table(self.objects, found.table)
            else:
                import pyarrow.compute as pc

                table = parquet.read_table(self.objects, found.table, where=pc.field("name").isin(names))
            parts.insert(0, table.cast(schema()))
        return _joined(parts)


def _unknown(run: Row[Any], name: str, known: Iterable[str]) -> NotFound:
    return NotFound(f"metric over time of {show_run_id(run.id)} called", name, known=known)


def _table_of(connection: Connection, run_id: UUID) -> StoredTable | None:
    found = _record_of(connection, run_id)
    return None if found is None else found.stored_table()


def _record_of(connection: Connection, run_id: UUID) -> ArtifactRecord | None:
    return artifact_of(connection, run_id, SERIES)


def _from(chunk: SentChunk, first: int) -> "pa.Table":
    """Return the points of a chunk from this number on: small chunks become one long, part of which was seen."""
    return decode(chunk.payload).slice(max(0, first - chunk.first))


def _only(table: "pa.Table", names: list[str] | None) -> "pa.Table":
    if names is None:
        return table
    import pyarrow.compute as pc

    return table.filter(pc.field("name").isin(names))


def _joined(parts: list["pa.Table"]) -> "pa.Table":
    import pyarrow as pa

    return pa.concat_tables(parts) if parts else schema().empty_table()
