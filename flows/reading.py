"""What a body reads of the versions that its run has pinned (tables, files, folders), and which of them it did read."""

import threading
from collections.abc import Iterable, Mapping
from datetime import date
from functools import cached_property
from pathlib import Path
from typing import Any
from uuid import UUID

from ..runs.port import BodyPort, UpstreamVersion
from ..runs.result import Read
from ..storage.artifacts import ArtifactRecord
from ..storage.errors import InvalidInput, NotFound
from ..storage.forms import Form, read_as
from ..storage.local_copies import LocalCopies
from ..storage.reading import content_in, table_in
from ..storage.stored import StoredTable


class Reading:
    """The pinned versions of one run, and the local copies of files, which live until `close`."""

    def __init__(self, port: BodyPort, run_id: UUID, *, until: date | None, base_version_id: UUID | None) -> None:
        self._port = port
        self._run_id = run_id
        self._until = until
        self._base_version_id = base_version_id
        self._reads: dict[str, Read] = {}
        self._resolved: dict[str, UpstreamVersion] = {}
        self._copies = LocalCopies()
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
        opened_by = f"run.open({upstream.role!r}"
        artifact = table_in(_name_of(upstream), _published(upstream), name, opened_by=opened_by)
        stored = artifact.stored_table()
        if stored.data_date is None:
            self._check_known_days(upstream, artifact)
        until = self._until if stored.data_date is not None else None
        return read_as(self._port.objects, stored, form, columns=columns, where=where, until=until)

    def file(self, role: str, name: str) -> Path:
        """See `RunContext.open`."""
        upstream = self._upstream(role)
        artifact = content_in(_name_of(upstream), _published(upstream), name)
        self._check_known_days(upstream, artifact)
        return self._copies.add(self._port.objects, artifact)

    def current(self, name: str) -> StoredTable | None:
        """See `RunContext.current`."""
        base = self._base_version_id
        artifact = self._port.version(base).artifacts.get(name) if base is not None else None
        return artifact.stored_table() if artifact is not None and artifact.kind == "table" else None

    def close(self) -> None:
        """Remove the local copies."""
        self._copies.close()

    def _check_known_days(self, upstream: UpstreamVersion, artifact: ArtifactRecord) -> None:
        """Refuse what its publisher says is of a later day than the run may read, where nothing tells which rows."""
        last = artifact.last_data_date
        if self._until is not None and last is not None and last > self._until:
            raise InvalidInput(
                f"{_name_of(upstream)} speaks of {last}, after data_as_of {self._until}, and has no column "
                "of dates to cut it at: read the version of that day by its number"
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


def _name_of(upstream: UpstreamVersion) -> str:
    return f"{upstream.key}@v{upstream.number}"


def _published(upstream: UpstreamVersion) -> Mapping[str, ArtifactRecord]:
    """Return what belongs to the version: what was not published is in no digest, so nobody would become stale."""
    return {name: artifact for name, artifact in upstream.artifacts.items() if artifact.publish}
