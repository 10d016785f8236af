"""Versions of what Prefect does not run: somebody says where the data lie, and that they are good.

A publication is a run like any other: claimed with a fence, completed in the same transaction, which publishes the
version, settles what is stale downstream and lets go who waited. What lies there is read and digested before the run
begins, so that what cannot be read leaves no record.
"""

import os
import socket
import traceback
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import date, datetime
from typing import Any
from uuid import UUID

from sqlalchemy.engine import Connection, Row

from ..lineage import registry, staleness, versions
from ..storage import external, found
from ..storage.artifacts import ArtifactRecord
from ..storage.database import Database
from ..storage.declared import check_all_written, declared_tables
from ..storage.errors import Conflict, Fenced, FreshlineError, InvalidInput, NotFound
from ..storage.filesystem import ObjectStore
from ..storage.ids import show_run_id
from ..storage.stored import StoredTable
from ..storage.words import DeploymentKind, IfReady, OnStale, Trigger, UpdateMode
from . import contents, creation, store
from .execution import Claim, FindRun, RunExecution
from .publication import Asked, Publication, check_data_date, checked
from .record import as_run
from .request import RunRequest
from .result import Result
from .status import LEASED, RunStatus

_REQUEST = RunRequest(update_mode=UpdateMode.FULL, if_ready=IfReady.RUN, on_stale=OnStale.REFUSE)
"""Nothing is left to a default: the gate has nothing to ask of what reads nothing."""


@dataclass(frozen=True)
class Publisher:
    """Publishes versions of external resources into one store."""

    database: Database
    objects: ObjectStore
    tenant_id: str = "default"
    lease_s: float = 60.0

    def publish(
        self,
        name: str,
        *,
        uri: str,
        data_date: date | None = None,
        date_column: str | None = external.DATE_COLUMN,
        digest: str | None = None,
        copy: bool = False,
        allow_older: bool = False,
        idempotency_key: str | None = None,
        actor: str = "anonymous",
        watch: external.Watch | None = None,
    ) -> Publication:
        """Publish what lies at a URI as a version of an external resource (`vendor`, or `refresh/vendor`).

        It is read as a whole and referenced where it is, or copied into the store with `copy`. With a key that is
        known already, the publication that came with it is returned and nothing happens. Nothing is recorded of what
        cannot be read.

        Args:
            name: the resource, or its key.
            uri: any fsspec URL, or a local path: a Parquet file, a folder of them (a table), or any other file or
                folder.
            data_date: the last day that it speaks of; needed unless the table has a column of dates.
            date_column: that column; the default need not be there, and none says that there is no such column.
            digest: what stands for the content of what cannot be read from here: then nobody reads it.
            copy: keep a copy in the store, so that later changes at the URI do no harm.
            allow_older: let a version whose data date is before the current one's become the current one.
            idempotency_key: the same key gives the same publication.
            actor: who publishes.
            watch: told how many bytes of how many have been read.

        Raises:
            NotFound: there is no such external resource (those that are known are listed), or nothing at the URI.
            InvalidInput: Prefect runs this deployment; or the URI, what lies there, or the date cannot be used.
            Conflict: it changed while it was read, or the current version speaks of a later day.
            IdempotencyConflict: the key came with another publication before, or that one was deleted.
            ArtifactError: it cannot be read, or the store cannot be written.
        """
        asked = checked(Asked(uri, data_date, date_column, digest, copy, allow_older, idempotency_key, actor))
        with self.database.read() as connection:
            now = self.database.now(connection)
            target = _external(connection, name, tenant_id=self.tenant_id)
            known = _known(connection, target, asked, now=now)
        if known is not None and known.status == RunStatus.COMPLETED:
            return self._publication(known.id)
        check_data_date(asked.data_date, now=now)
        at = None if asked.digest is not None else found.find(asked.uri, store=self.objects)
        artifact = self._artifact(target, asked, at, watch)
        check_data_date(artifact.last_data_date, now=now)
        unchanged = _do_nothing if at is None else lambda: found.check_unchanged(at)
        unchanged()
        execution = RunExecution(self.database, lease_s=self.lease_s)
        finds = _finds(self.database, target, asked, artifact)
        claim = execution.claim(finds, worker=f"{socket.gethostname()}:{os.getpid()}")
        if claim.may_start:
            _complete(execution, claim, _result(asked, artifact, at), unchanged)
        return self._publication(claim.run.id)

    def _artifact(
        self, target: Row[Any], asked: Asked, at: found.Found | None, watch: external.Watch | None
    ) -> ArtifactRecord:
        """Read what is to be published and return its record, with the data date."""
        name = target.key.partition("/")[2]
        if at is None:
            stored: Any = external.stated(asked.uri)
        elif asked.copy:
            stored = external.copy(self.objects, at, date_column=asked.date_column, watch=watch)
        else:
            stored = external.refer_to(at, date_column=asked.date_column, watch=watch)
        told = stored.last_data_date
        if told is not None and asked.data_date is not None and told > asked.data_date:
            raise InvalidInput(
                f"{asked.uri} has rows until {told} (column {stored.data_date!r}), after the data date "
                f"{asked.data_date}: correct the date, or name another date column, or none"
            )
        if told is None and asked.data_date is None:
            raise InvalidInput(
                f"which day does {asked.uri} speak of? No column tells: give the data date, or name the date column"
            )
        stored = replace(stored, last_data_date=asked.data_date or told)
        declared = declared_tables(target.declaration)
        if declared:
            check_all_written(declared, [name])
        if isinstance(stored, StoredTable):
            if name in declared:
                declared[name].check(stored.schema)
            return ArtifactRecord.of_table(name, stored)
        return ArtifactRecord.of_file(name, stored, digest=asked.digest)

    def _publication(self, run_id: UUID) -> Publication:
        with self.database.read() as connection:
            run = store.get_run(connection, run_id)
            version = versions.version_of_run(connection, run_id)
            current = versions.current_version(connection, run.deployment_id)
            key = store.deployment_key(connection, run.deployment_id)
            rows = contents.detail_of(connection, DeploymentKind.REFRESH, run_id).rows_processed
        assert version is not None, "a completed run has published"
        return Publication(
            run=as_run(run),
            deployment=key,
            version=version.number,
            digest=version.digest,
            data_date=version.data_end,
            rows=rows,
            is_current=current is not None and current.id == version.id,
        )


def _external(connection: Connection, name: str, *, tenant_id: str) -> Row[Any]:
    """Return the row of an external deployment."""
    key = name if "/" in name else f"{DeploymentKind.REFRESH}/{name}"
    try:
        row = registry.deployment(connection, key, tenant_id=tenant_id)
    except NotFound:
        known = [row.key for row in registry.deployments(connection, tenant_id=tenant_id) if row.external]
        among = ", ".join(known) or "none yet: list it in prefect.yaml under `resources:` and deploy"
        raise NotFound(f"external resource (there are: {among}) called", name, known=known) from None
    if not row.external:
        raise InvalidInput(
            f"{key} is run by Prefect: a run publishes its versions (`freshline submit {key}`). Only what stands in "
            "prefect.yaml under `resources:` with `external: true` is published by hand"
        )
    return row


def _known(
    connection: Connection, target: Row[Any], asked: Asked, *, now: datetime, lock: bool = False
) -> Row[Any] | None:
    """Return the run of this key when it has completed, or when its publisher is gone and it may be taken up.

    With `lock`, nobody else changes it until this transaction ends.
    """
    if asked.key is None:
        return None
    run = store.run_by_key(connection, asked.key, tenant_id=target.tenant_id)
    if run is None:
        return None
    if lock:
        run = store.get_run(connection, run.id, lock=True)
    is_same = run.request_sha256 == creation.request_sha256(target.key, asked.parameters(), _REQUEST)
    creation.check_same_request(run, asked.key, is_same=is_same)
    if run.status in LEASED and run.lease_until > now:
        raise Conflict(
            f"{show_run_id(run.id)} is publishing it under the key {asked.key!r} right now: ask again after "
            f"{run.lease_until:%H:%M:%S} UTC"
        )
    if RunStatus(run.status).is_terminal and run.status != RunStatus.COMPLETED:
        raise Conflict(
            f"{show_run_id(run.id)}, which came with the key {asked.key!r}, ended as {run.status} ({run.stop_reason}): "
            "use a new key"
        )
    return run


def _finds(database: Database, target: Row[Any], asked: Asked, artifact: ArtifactRecord) -> FindRun:
    """Return what records the run in the transaction that claims it, or finds the one of its key."""
    data_date = artifact.last_data_date
    assert data_date is not None, "it was stated, or a column told"

    def find(connection: Connection) -> tuple[Row[Any], None]:
        now = database.now(connection)
        # The run before the state, in the order in which a completion locks them.
        known = _known(connection, target, asked, now=now, lock=True)
        if known is not None:
            return known, None
        # Publications of one resource follow one another: each sees the data date of the one before.
        staleness.lock_states(connection, [target.id])
        if not asked.allow_older:
            _refuse_older(connection, target, data_date)
        run = creation.create_run(
            connection,
            target,
            creation.Origin(Trigger.PUBLISH, asked.actor, idempotency_key=asked.key, background=False),
            parameters=asked.parameters(),
            request=_REQUEST,
            detail=_detail(artifact),
            now=now,
        )
        if run is None:  # another publication came with the key at the same moment
            run = _known(connection, target, asked, now=now, lock=True)
        assert run is not None, "what prevented the insert is there"
        return run, None

    return find


def _refuse_older(connection: Connection, target: Row[Any], data_date: date) -> None:
    current = versions.current_version(connection, target.id)
    rivals = [(current.data_end, f"{target.key}@v{current.number}")] if current is not None else []
    for run in store.active_runs_of(connection, [target.id]):
        rivals.append((contents.detail_of(connection, target.kind, run.id).last_data_date, show_run_id(run.id)))
    for last, whose in rivals:
        if last is not None and data_date < last:
            raise Conflict(
                f"{whose} speaks of {last}, this one of {data_date} only: an older one does not take its place by "
                "accident. Say that it is meant to (--allow-older, allow_older=True)"
            )


def _result(asked: Asked, artifact: ArtifactRecord, at: found.Found | None) -> Result:
    stored = artifact.stored
    outputs = {
        "uri": at.url if at is not None else asked.uri,
        "kept": "copied" if stored.root is None else "referenced",
        "digest": "computed" if at is not None else "stated",
    }
    # Its detail again: what lay there may be another thing for who takes up an abandoned run.
    return Result(artifacts=[artifact], outputs=outputs, detail=_detail(artifact))


def _detail(artifact: ArtifactRecord) -> dict[str, Any]:
    return {
        "first_data_date": artifact.first_data_date,
        "last_data_date": artifact.last_data_date,
        "rows_processed": artifact.rows,
    }


def _complete(execution: RunExecution, claim: Claim, result: Result, unchanged: Callable[[], None]) -> None:
    """Publish under the claim; what goes wrong ends the run as failed."""
    run_id, fence = claim.run.id, claim.run.fence
    try:
        # The fence says whose data are newer: what was read before it was drawn must still be so.
        unchanged()
        execution.complete(run_id, fence, result)
    except Fenced:
        raise
    except BaseException as error:
        with suppress(FreshlineError):  # the first error is the one to be told
            execution.fail(run_id, fence, error, traceback.format_exc())
        raise


def _do_nothing() -> None:
    """What was not read cannot have changed."""
