"""Reading outside of flows: tables, files and folders of versions and runs, on the store that the environment names.

A reference is `refresh/prices` (the current version), `refresh/prices@v3`, `@v1.2.0` (a label), `@champion` (an
alias), or `run-…`: what that run wrote, published or not. What it means is said by `resolving`; owns how one of its
artifacts is chosen and given. Nothing that is read here is recorded.
"""

import warnings
from collections.abc import Iterable, Mapping
from datetime import date, datetime
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import UUID

from .artifacts import ArtifactRecord
from .errors import InvalidInput, NotFound
from .forms import Form, read_as
from .local_copies import LocalCopies
from .local_copies import download as download_to
from .models import ArtifactKind
from .parquet import Where
from .referenced import store_of
from .resolving import Resolved, resolve
from .settings import Settings
from .stored import StoredTable

if TYPE_CHECKING:
    import pyarrow.dataset


class WithdrawnVersion(UserWarning):
    """What was read belongs to a version that somebody has declared wrong."""


def read(
    reference: str | UUID,
    *,
    table: str | None = None,
    columns: Iterable[str] | None = None,
    where: Where | None = None,
    until: date | None = None,
    as_: Form = "pandas",
    data_date: date | None = None,
    at: datetime | str | None = None,
    settings: Settings | None = None,
) -> Any:
    """Return a table of a version or of a run that has ended.

    Args:
        reference: `refresh/prices`, `refresh/prices@v3`, `@v1.2.0`, `@champion`, or `run-…`.
        table: which of several; needed unless one table is published.
        columns: only these, in this order.
        where: only rows for which this holds: an Arrow expression, or tuples such as `[("close", ">", 10)]`.
        until: only rows whose data date is not later.
        as_: pandas, arrow, polars, batches (a reader, for what is larger than memory) or scan (an Arrow dataset).
        data_date: instead of the current version, the one for this day: the last that speaks of no later one.
        at: instead of the version that is current, or that the alias names now, the one of this moment: a datetime, or
            text such as `2026-11-23T08:00` (on this machine's clock unless it says otherwise).
        settings: of another store than the environment's.

    Warns:
        WithdrawnVersion: the version was named by number, label, run or moment, and was withdrawn.

    Raises:
        InvalidInput: no reference, several tables, no table, a moment to come, or a condition that does not fit.
        NotFound: no such deployment, version, run, table or column; the message has the nearest names.
        Conflict: the run has not ended, or the alias names a version that was withdrawn.
        DataRemoved: retention or a deletion took the data.
        ObjectMissing, ObjectCorrupt: the object store does not have what was written.
        StoreUnavailable, StoreVersion: there is no store, or one of another version of Freshline.
    """
    found = _resolved(reference, data_date=data_date, at=at, settings=settings)
    stored = _table(found, reference, table)
    return read_as(found.objects, stored, as_, columns=columns, where=where, until=until)


def scan(
    reference: str | UUID,
    *,
    table: str | None = None,
    where: Where | None = None,
    until: date | None = None,
    data_date: date | None = None,
    at: datetime | str | None = None,
    settings: Settings | None = None,
) -> "pyarrow.dataset.Dataset":
    """Return a table as an Arrow dataset, which DuckDB and polars read too; arguments and errors as of `read`.

    The columns are in plain form (dictionaries decoded). Damage that is found while it is read is an Arrow error, which
    does not name the object: `freshline verify` does.
    """
    return read(
        reference, table=table, where=where, until=until, as_="scan", data_date=data_date, at=at, settings=settings
    )


def fragment_paths(
    reference: str | UUID,
    *,
    table: str | None = None,
    data_date: date | None = None,
    at: datetime | str | None = None,
    settings: Settings | None = None,
) -> list[str]:
    """Return where a table's Parquet files are, in the order of its rows; arguments and errors as of `read`.

    Local paths, or URLs such as `s3://…` for a store elsewhere: what DuckDB, polars and pyarrow take. Nothing checks
    what they get; dictionaries are plain there.
    """
    found = _resolved(reference, data_date=data_date, at=at, settings=settings)
    stored = _table(found, reference, table)
    store = store_of(found.objects, stored)
    place = store.url_of if store.local_root is None else store.path_of  # DuckDB reads no %20 in a file:// URL
    return [place(fragment.name) for fragment in stored.fragments]


def contents(
    reference: str | UUID,
    *,
    data_date: date | None = None,
    at: datetime | str | None = None,
    settings: Settings | None = None,
) -> tuple[ArtifactRecord, ...]:
    """Return the artifacts of a version (what is published) or of a run (all), by name; errors as of `read`."""
    return tuple(_resolved(reference, data_date=data_date, at=at, settings=settings).artifacts.values())


def open(
    reference: str | UUID,
    name: str,
    *,
    data_date: date | None = None,
    at: datetime | str | None = None,
    settings: Settings | None = None,
) -> Path:
    """Return a local, verified copy of a file or folder; it lives as long as this process. `read` has the rest.

    Raises:
        InvalidInput: it is a table.
        NotFound: there is no such file or folder.
    """
    found = _resolved(reference, data_date=data_date, at=at, settings=settings)
    return _copies().add(found.objects, content_in(found.name, found.artifacts, name, unpublished=_unpublished(found)))


def download(
    reference: str | UUID,
    name: str,
    to: Path | str,
    *,
    data_date: date | None = None,
    at: datetime | str | None = None,
    settings: Settings | None = None,
) -> Path:
    """Write a file, a folder, or a table as one Parquet file, to a path where nothing is yet; return the path.

    All or nothing: what is at the path afterwards was checked. Other arguments and errors as of `read`.

    Raises:
        InvalidInput: something is at the path, or it cannot be written.
        NotFound: there is no such artifact.
    """
    found = _resolved(reference, data_date=data_date, at=at, settings=settings)
    path = Path(to)
    if path.is_symlink() or path.exists():
        raise InvalidInput(f"{path} is there already: choose a path where nothing is")
    artifact = found.artifacts.get(name)
    if artifact is not None and artifact.kind == ArtifactKind.TABLE:
        from .exporting import export_table

        export_table(found.objects, artifact.stored_table(), path)
    else:
        content = content_in(found.name, found.artifacts, name, unpublished=_unpublished(found))
        download_to(found.objects, content.stored_content(), path)
    return path


def table_in(
    whose: str, artifacts: Mapping[str, ArtifactRecord], name: str | None, *, opened_by: str, unpublished: str = ""
) -> ArtifactRecord:
    """Return the table of that name, or the only one that is published.

    For messages: `opened_by` is the call that opens a file of it, and `unpublished` says what else there is.

    Raises:
        InvalidInput: there are several, or none.
        NotFound: none has this name.
    """
    tables = {one.name: one for one in artifacts.values() if one.kind == ArtifactKind.TABLE}
    if not tables:
        files = [one.name for one in artifacts.values()]
        instead = f"; open its {artifacts[files[0]].kind}: {opened_by}, {files[0]!r})" if files else ""
        raise InvalidInput(f"{whose} has no table{instead}{unpublished}")
    if name is None:
        published = [one for one in tables.values() if one.publish]
        if len(published) == 1 or len(tables) == 1:
            return (published or list(tables.values()))[0]
        raise InvalidInput(f"{whose} has several tables: say table=…, one of: {', '.join(sorted(tables))}")
    if name in artifacts and name not in tables:
        artifacts[name].stored_table()
    if name not in tables:
        raise NotFound(f"table in {whose} (it has {', '.join(sorted(tables))}{unpublished})", name, known=tables)
    return tables[name]


def content_in(
    whose: str, artifacts: Mapping[str, ArtifactRecord], name: str, *, unpublished: str = ""
) -> ArtifactRecord:
    """Return the file or folder of that name.

    Raises:
        InvalidInput: it is a table.
        NotFound: there is none.
    """
    if name in artifacts:
        artifacts[name].stored_content()
        return artifacts[name]
    known = [one.name for one in artifacts.values() if one.kind != ArtifactKind.TABLE]
    has = ", ".join(known) or "none"
    raise NotFound(f"file or folder in {whose} (it has {has}{unpublished}) called", name, known=known)


def _table(found: Resolved, reference: str | UUID, name: str | None) -> StoredTable:
    opened_by = f"storage.open({str(reference)!r}"
    artifact = table_in(found.name, found.artifacts, name, opened_by=opened_by, unpublished=_unpublished(found))
    return artifact.stored_table()


def _resolved(
    reference: str | UUID, *, data_date: date | None, at: datetime | str | None, settings: Settings | None
) -> Resolved:
    found = resolve(reference, data_date=data_date, at=at, settings=settings)
    if found.warning is not None:
        warnings.warn(found.warning, WithdrawnVersion, stacklevel=3)
    return found


def _unpublished(found: Resolved) -> str:
    if not found.unpublished:
        return ""
    return f"; not published, and read by {found.run}: {', '.join(found.unpublished)}"


@cache
def _copies() -> LocalCopies:
    """Return the copies of this process; Python removes them at its end."""
    return LocalCopies()
