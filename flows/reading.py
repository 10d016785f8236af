"""What a body reads: tables and files of the versions that its run has pinned, and which of them it did read."""

import threading
from collections.abc import Iterable, Mapping
from datetime import date
from functools import cached_property
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal
from uuid import UUID

from ..runs.port import BodyPort, UpstreamVersion
from ..runs.result import Read
from ..storage import files, parquet
from ..storage.errors import InvalidInput, NotFound
from ..storage.stored import StoredTable

Form = Literal["pandas", "arrow", "polars", "scan"]


class Reading:
    """The pinned versions of one run, and the local copies of files, which live until `close`."""

    def __init__(self, port: BodyPort, run_id: UUID, *, until: date | None, base_version_id: UUID | None) -> None:
        self._port = port
        self._run_id = run_id
        self._until = until
        self._base_version_id = base_version_id
        self._reads: dict[str, Read] = {}
        self._scratch: TemporaryDirectory[str] | None = None
        self._copies = 0
        self._lock = threading.Lock()

    @cached_property
    def pins(self) -> Mapping[str, UpstreamVersion]:
        """The pinned version of each upstream, by role; fixed by the claim, asked for when they are first needed."""
        return dict(self._port.pins(self._run_id))

    @property
    def reads(self) -> tuple[Read, ...]:
        """Each role that was read, with the version that it gave last."""
        return tuple(self._reads.values())

    def table(self, role: str, name: str | None, *, columns: Iterable[str] | None, where: Any, form: Form) -> Any:
        """See `RunContext.read`."""
        stored = _table_of(self._upstream(role), name)
        wanted = list(columns) if columns is not None else None
        objects, until = self._port.objects, self._until if stored.data_date is not None else None
        if form == "pandas":
            return parquet.to_pandas(objects, stored, columns=wanted, where=where, until=until)
        if form == "scan":
            if wanted is not None:
                raise InvalidInput("as_='scan' gives a dataset of all columns: choose columns when you read from it")
            return parquet.scan(objects, stored, where=where, until=until)
        arrow = parquet.read_table(objects, stored, columns=wanted, where=where, until=until)
        if form == "arrow":
            return arrow
        if form == "polars":
            import polars

            return polars.from_arrow(arrow)
        raise InvalidInput(f"as_={form!r}: a table is read as pandas, arrow, polars or scan")

    def file(self, role: str, name: str) -> Path:
        """See `RunContext.open`."""
        upstream = self._upstream(role)
        artifact = upstream.artifacts.get(name)
        if artifact is None or artifact.kind != "file":
            known = [other.name for other in upstream.artifacts.values() if other.kind == "file"]
            raise NotFound(f"file in {upstream.key}@v{upstream.number}", name, known=known)
        with self._lock:
            if self._scratch is None:
                self._scratch = TemporaryDirectory(prefix="freshline-", ignore_cleanup_errors=True)
            self._copies += 1
            target = Path(self._scratch.name, str(self._copies))
        files.download_file(self._port.objects, artifact.stored_file(), target)
        return target

    def current(self, name: str) -> StoredTable | None:
        """See `RunContext.current`."""
        base = self._base_version_id
        artifact = self._port.version(base).artifacts.get(name) if base is not None else None
        return artifact.stored_table() if artifact is not None and artifact.kind == "table" else None

    def close(self) -> None:
        """Remove the local copies."""
        if self._scratch is not None:
            self._scratch.cleanup()

    def _upstream(self, role: str) -> UpstreamVersion:
        # A version that is asked for by its number is that version, whatever was pinned before.
        upstream = self.pins.get(role) if "@" not in role else None
        if upstream is None:
            if "/" not in role:
                raise NotFound("pinned upstream", role, known=self.pins)
            upstream = self._port.resolve(role)
        self._reads[role] = Read(role, upstream.upstream_id, upstream.version_id)
        return upstream


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
