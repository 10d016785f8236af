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
from ..storage.stored import StoredFile, StoredTable

Form = Literal["pandas", "arrow", "polars", "scan"]


class Reading:
    """The pinned versions of one run, and the local copies of files, which live until `close`."""

    def __init__(self, port: BodyPort, run_id: UUID, *, until: date | None, base_version_id: UUID | None) -> None:
        self._port = port
        self._run_id = run_id
        self._until = until
        self._base_version_id = base_version_id
        self._reads: dict[str, Read] = {}
        self._resolved: dict[str, UpstreamVersion] = {}
        self._scratch: TemporaryDirectory[str] | None = None
        self._copies = 0
        self._lock = threading.Lock()

    @cached_property
    def pins(self) -> Mapping[str, UpstreamVersion]:
        """The pinned version of each upstream, by role; fixed by the claim, asked for when they are first needed."""
        return dict(self._port.pins(self._run_id))

    @property
    def reads(self) -> tuple[Read, ...]:
        """Each role that was read, with the version that it gave: the same one every time."""
        return tuple(self._reads.values())

    def table(self, role: str, name: str | None, *, columns: Iterable[str] | None, where: Any, form: Form) -> Any:
        """See `RunContext.read`."""
        upstream = self._upstream(role)
        stored = _table_of(upstream, name)
        if stored.data_date is None:
            self._check_known_days(upstream, stored)
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
        self._check_known_days(upstream, artifact.stored)
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

    def _check_known_days(self, upstream: UpstreamVersion, stored: StoredTable | StoredFile) -> None:
        """Refuse what its publisher says is of a later day than the run may read, where nothing tells which rows."""
        if self._until is not None and stored.last_data_date is not None and stored.last_data_date > self._until:
            raise InvalidInput(
                f"{upstream.key}@v{upstream.number} speaks of {stored.last_data_date}, after data_as_of {self._until}, "
                "and has no column of dates to cut it at: read the version of that day by its number"
            )

    def _upstream(self, role: str) -> UpstreamVersion:
        upstream = self._pinned(role)
        if upstream is not None:
            role = upstream.role
        else:
            if "/" not in role:
                raise NotFound("pinned upstream", role, known=self.pins)
            with self._lock:
                # What a name means may move while the body runs: asked for again, it is what it was at first.
                if role not in self._resolved:
                    self._resolved[role] = self._port.resolve(role)
                upstream = self._resolved[role]
        self._reads[role] = Read(role, upstream.upstream_id, upstream.version_id)
        return upstream

    def _pinned(self, role: str) -> UpstreamVersion | None:
        if role in self.pins:
            return self.pins[role]
        # By its key a declared upstream is the version that was pinned, not one that is newer since. What is asked for
        # by number, label or alias is that version, whatever was pinned; only a replay has pinned it in that very role.
        if "@" in role:
            return None
        return next((pin for pin in self.pins.values() if pin.key == role and "@" not in pin.role), None)


def _table_of(upstream: UpstreamVersion, name: str | None) -> StoredTable:
    tables = {
        artifact.name: artifact
        for artifact in upstream.artifacts.values()
        if artifact.kind == "table" and artifact.publish
    }
    if not tables and (opened := [item.name for item in upstream.artifacts.values() if item.kind == "file"]):
        raise InvalidInput(
            f"{upstream.key}@v{upstream.number} has no table; open its file: run.open({upstream.role!r}, {opened[0]!r})"
        )
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
