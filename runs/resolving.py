"""What a reference means to somebody who reads outside of a flow: a version by name, moment or data date, or a run.

Owns the choice of the version and what is refused; what is read of it is `storage.reading`'s. Opens the store that the
environment names as a notebook does: it is never made here, and nothing is written.
"""

import threading
from datetime import date, datetime
from typing import Any
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.engine import Connection, Row

from ..lineage import interface, pointer, references, removal
from ..lineage.lapse import moment_named
from ..lineage.models import Version
from ..lineage.questions import is_run, run_named
from ..lineage.references import Reference
from ..storage.artifacts import artifacts_of
from ..storage.database import Database
from ..storage.errors import Conflict, InvalidInput, NotFound
from ..storage.filesystem import ObjectStore
from ..storage.ids import show_run_id
from ..storage.resolving import Resolved
from ..storage.settings import Settings, load_settings
from . import store
from .care import acts
from .composition import open_objects
from .status import RunStatus

_VERSION = Version.__table__  # type: ignore[attr-defined]

_lock = threading.Lock()
_opened: dict[str, tuple[Settings, ObjectStore]] = {}


def resolve(
    reference: str | UUID,
    *,
    data_date: date | None = None,
    at: datetime | str | None = None,
    settings: Settings | None = None,
) -> Resolved:
    """Return what a reference means in the store of the settings, from one snapshot.

    Raises:
        InvalidInput: it is no reference, or asks for a moment or a data date of what is one thing for good.
        NotFound: there is no such deployment, version, label, alias or run.
        Conflict: the run has not ended, or the alias names a version that was withdrawn.
        DataRemoved: the run that wrote the version was deleted for good.
        StoreUnavailable, StoreVersion: there is no store, or one of another version of Freshline.
    """
    settings = settings or load_settings()
    database = interface.opened(settings.resolved_database_url())
    objects = _shared_objects(settings)
    if isinstance(data_date, datetime) or not isinstance(data_date, date | None):
        raise InvalidInput(f"data_date={data_date!r} is no date: give a datetime.date; a moment is asked for with at=")
    if at is not None and data_date is not None:
        raise InvalidInput("at= and data_date= choose the version in two ways: give one of them")
    moment = None if at is None else _moment(at)

    def ask(connection: Connection, tenant_id: str) -> Resolved:
        if is_run(reference):
            if moment is not None or data_date is not None:
                raise InvalidInput(f"{reference} is one run: at= and data_date= choose among versions")
            return _of_run(connection, reference, objects, tenant_id=tenant_id)
        _check_has_passed(database, connection, moment)
        found = references.parse(str(reference))
        row = _version(connection, found, str(reference), moment, data_date, tenant_id=tenant_id)
        return _of_version(connection, found.key, row, objects)

    return interface.answer(ask, database, settings.tenant_id)


def _of_run(connection: Connection, reference: str | UUID, objects: ObjectStore, *, tenant_id: str) -> Resolved:
    run = acts.readable_run(connection, run_named(reference), tenant_id=tenant_id)
    name = show_run_id(run.id)
    if not RunStatus(run.status).is_terminal:
        raise Conflict(f"{name} is {run.status}: what it writes can be read when it has ended")
    version = connection.execute(sa.select(_VERSION).where(_VERSION.c.run_id == run.id)).one_or_none()
    artifacts = {artifact.name: artifact for artifact in artifacts_of(connection, run.id)}
    key = store.deployment_key(connection, run.deployment_id)
    warning = None if version is None else _warning(f"{key}@v{version.number}, which {name} published,", version)
    return Resolved(name=name, objects=objects, artifacts=artifacts, run=name, warning=warning)


def _of_version(connection: Connection, key: str, version: Row[Any], objects: ObjectStore) -> Resolved:
    artifacts = artifacts_of(connection, version.run_id)
    name = f"{key}@v{version.number}"
    removal.refuse_erased(version, name, artifacts)
    return Resolved(
        name=name,
        objects=objects,
        artifacts={artifact.name: artifact for artifact in artifacts if artifact.publish},
        run=show_run_id(version.run_id),
        unpublished=tuple(artifact.name for artifact in artifacts if not artifact.publish),
        warning=_warning(name, version),
    )


def _version(
    connection: Connection,
    found: Reference,
    reference: str,
    moment: datetime | None,
    data_date: date | None,
    *,
    tenant_id: str,
) -> Row[Any]:
    """Return the version that is meant; a withdrawn one when it was named for what it is."""
    is_fixed = found.number is not None or found.label is not None
    if is_fixed and (moment is not None or data_date is not None):
        raise InvalidInput(f"{reference} is one version, whatever the day: leave out at= and data_date=")
    if found.alias is not None and data_date is not None:
        raise InvalidInput(f"{reference} is what the alias names: data_date= chooses among the versions of {found.key}")
    if moment is None and data_date is None:
        row = references.resolve(connection, reference, tenant_id=tenant_id)
        if found.alias is not None and row.withdrawn_at is not None:
            raise Conflict(
                f"{reference} is version {row.number}, which was withdrawn ({row.withdrawn_reason}): move the alias, "
                f"or read {found.key}@v{row.number} by its number"
            )
        return row
    deployment_id = references.deployment_of(connection, found.key, tenant_id=tenant_id)
    if data_date is not None:
        return _of_data_date(connection, deployment_id, found.key, data_date)
    assert moment is not None, "one of them was given"
    if found.alias is not None:
        named = pointer.named_at(connection, deployment_id, found.alias, moment)
        if named is None:
            raise NotFound(f"version that {found.key}@{found.alias} named", f"{moment:%Y-%m-%d %H:%M:%S %Z}".strip())
        return named
    current = pointer.current_at(connection, deployment_id, moment)
    if current is None:
        first = _first(connection, deployment_id, _VERSION.c.created_at)
        since = f" (the first was published at {first:%Y-%m-%d %H:%M:%S} UTC)" if first is not None else ""
        raise NotFound(f"version of {found.key}{since} at", f"{moment:%Y-%m-%d %H:%M:%S %Z}".strip())
    return current


def _of_data_date(connection: Connection, deployment_id: UUID, key: str, day: date) -> Row[Any]:
    """Return the version that speaks of the latest day that is not later; of several, the one that read last.

    It holds or held as the current version, or was made for an earlier day (a backfill). No replay, nothing withdrawn.
    """
    held = {row.id for row in pointer.held(connection, deployment_id)}
    query = (
        sa.select(_VERSION, store.RUN.c.data_as_of, store.RUN.c.replay_of)
        .outerjoin(store.RUN, store.RUN.c.id == _VERSION.c.run_id)
        .where(_VERSION.c.deployment_id == deployment_id, _VERSION.c.partition == "", _VERSION.c.withdrawn_at.is_(None))
    )
    chosen: Row[Any] | None = None
    best: tuple[date, int] | None = None
    days: list[date] = []
    for row in connection.execute(query):
        speaks_of: date | None = row.data_end or row.data_as_of
        is_for_its_day = row.may_become_current is False and row.data_as_of is not None and row.replay_of is None
        if speaks_of is None or not (row.id in held or is_for_its_day):
            continue
        days.append(speaks_of)
        if speaks_of <= day and (best is None or (speaks_of, row.fence) > best):
            chosen, best = row, (speaks_of, row.fence)
    if chosen is None:
        if not days:
            raise InvalidInput(f"no version of {key} says of which day it speaks: choose one by number, or by moment")
        raise NotFound(
            f"version of {key} for the data date (its first speaks of {min(days)}; until= cuts the rows of a version)",
            str(day),
        )
    return chosen


def _first(connection: Connection, deployment_id: UUID, column: sa.Column[Any]) -> Any:
    query = sa.select(sa.func.min(column)).where(_VERSION.c.deployment_id == deployment_id, _VERSION.c.partition == "")
    return connection.execute(query).scalar_one()


def _warning(name: str, version: Row[Any]) -> str | None:
    if version.withdrawn_at is None:
        return None
    return f"{name} was withdrawn at {version.withdrawn_at:%Y-%m-%d %H:%M} UTC: {version.withdrawn_reason}"


def _moment(at: datetime | str) -> datetime:
    if not isinstance(at, datetime | str):
        raise InvalidInput(f"at={at!r} is no moment: give a datetime, or text such as 2026-11-23T08:00")
    return moment_named(at)


def _check_has_passed(database: Database, connection: Connection, moment: datetime | None) -> None:
    if moment is not None and moment > database.now(connection):
        raise InvalidInput(f"{moment:%Y-%m-%d %H:%M:%S %Z} has not come yet: nobody knows which version it will be")


def _shared_objects(settings: Settings) -> ObjectStore:
    """Return the object store of the settings, opened once per process as long as they stay what they are."""
    url = settings.resolved_artifacts_url()
    with _lock:
        known = _opened.get(url)
        if known is None or known[0] != settings:
            known = _opened[url] = settings, open_objects(settings)
        return known[1]
