"""Replays: a new run with the versions and parameters of a completed one, to see whether the same comes out.

A replay goes the way of every run: it is dispatched, claimed, and its result is recorded as a version. What it is asked
for is decided here; what its claim pins instead of the current versions, in `replays`; what came out, in
`replay_comparison`. Its result never becomes the current version.
"""

import logging
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy.engine import Connection, Row

from ...lineage import registry, versions
from ...storage.database import Database
from ...storage.errors import InvalidInput, NotFound
from ...storage.ids import parse_run_id, show_run_id
from ...storage.words import IfReady, Trigger
from .. import creation, outbox, store
from ..care import acts
from ..logs import run_event
from ..models import Run
from ..record import as_run
from ..request import HIDDEN, RunRequest, check_key
from ..status import RunStatus
from . import replays

_LOGGER = logging.getLogger(__name__)


@dataclass(frozen=True)
class Replays:
    """Records replays."""

    database: Database
    tenant_id: str = "default"

    def replay(
        self,
        run_id: UUID | str,
        *,
        idempotency_key: str | None = None,
        tags: Iterable[str] = (),
        metadata: Mapping[str, Any] | None = None,
        actor: str = "anonymous",
    ) -> Run:
        """Record a run that repeats a completed one, and have it dispatched; return it as recorded.

        It reads exactly the versions that the other one pinned and read, begins with the same base, and has the same
        parameters and `data_as_of`. The gate is not asked whether they are fresh. With a key that is known already,
        the replay that came with it is returned and nothing happens.

        Raises:
            NotFound: there is no such run.
            InvalidInput: the run did not complete, its deployment is retired or external or does not declare one of
                its parameters any more, or a version that it read was withdrawn or its objects were deleted; or the
                idempotency key cannot be one.
            IdempotencyConflict: the key came with another request before, or its replay was deleted.
        """
        wanted = parse_run_id(run_id)
        check_key(idempotency_key)

        def work(connection: Connection) -> Row[Any]:
            return self._record(
                connection,
                self._original(connection, wanted),
                idempotency_key=idempotency_key,
                tags=tags,
                metadata=metadata or {},
                actor=actor,
                now=self.database.now(connection),
            )

        row = self.database.write(work)
        run_event(_LOGGER, f"submitted as a replay of {show_run_id(wanted)}", run=row, actor=actor)
        return as_run(row)

    def _original(self, connection: Connection, run_id: UUID) -> Row[Any]:
        run = store.get_run(connection, run_id)
        acts.refuse_deleted(connection, run)
        return run

    def _record(
        self,
        connection: Connection,
        original: Row[Any],
        *,
        idempotency_key: str | None,
        tags: Iterable[str],
        metadata: Mapping[str, Any],
        actor: str,
        now: datetime,
    ) -> Row[Any]:
        known = store.run_by_key(connection, idempotency_key, tenant_id=self.tenant_id) if idempotency_key else None
        if known is not None:
            creation.check_same_request(known, str(idempotency_key), is_same=known.replay_of == original.id)
            return known
        deployment = self._deployment(connection, original)
        hidden = creation.secrets_of(deployment)
        # A secret was not recorded: Prefect has the deployment's own.
        parameters = {
            name: value for name, value in original.parameters.items() if name not in hidden and value != HIDDEN
        }
        creation.check_parameters(deployment, parameters)
        _check_inputs(connection, original)
        request = RunRequest.model_validate(original.request)
        origin = creation.Origin(
            Trigger.SUBMITTED,
            actor,
            idempotency_key=idempotency_key,
            replay_of=original.id,
            base_version_id=original.base_version_id,
        )
        created = creation.create_run(
            connection,
            deployment,
            origin,
            parameters=parameters,
            request=request.model_copy(update={"if_ready": IfReady.RUN}),
            tags=tags,
            metadata=metadata,
            decision=replays.decision_of(connection, original.id, now=now),
            now=now,
        )
        if created is None:
            # Somebody else brought the key at the same moment: theirs is committed, and is seen now.
            return self._record(
                connection,
                original,
                idempotency_key=idempotency_key,
                tags=tags,
                metadata=metadata,
                actor=actor,
                now=now,
            )
        outbox.dispatch(connection, created, now=now)
        return created

    def _deployment(self, connection: Connection, original: Row[Any]) -> Row[Any]:
        """Return the deployment that is to run again, if it can."""
        shown = show_run_id(original.id)
        if original.status != RunStatus.COMPLETED:
            raise InvalidInput(
                f"{shown} is {original.status}: only a completed run has a result to compare with; "
                "submit its deployment instead"
            )
        key = store.deployment_key(connection, original.deployment_id)
        try:
            deployment = registry.deployment(connection, key, tenant_id=self.tenant_id)
        except NotFound:
            raise InvalidInput(f"{key}, of which {shown} is a run, was retired: deploy it again") from None
        if deployment.external:
            raise InvalidInput(f"{key}, of which {shown} is a run, is external: Prefect does not run it")
        return deployment


def _check_inputs(connection: Connection, original: Row[Any]) -> None:
    """Refuse a replay whose inputs are not to be had any more.

    Raises:
        InvalidInput: a version that it would read was withdrawn, or an object of it was deleted.
    """
    shown = show_run_id(original.id)
    pins = replays.pins_of(connection, original.id)
    for pin in pins:
        if pin.withdrawn_reason is not None:
            raise InvalidInput(
                f"{shown} read {pin.name} as {pin.role!r}, which was withdrawn: {pin.withdrawn_reason}; "
                f"submit {store.deployment_key(connection, original.deployment_id)} on what is current instead"
            )
    named = {pin.run_id: pin.name for pin in pins}
    if original.base_version_id is not None:
        base = versions.by_id(connection, original.base_version_id)
        key = store.deployment_key(connection, base.deployment_id)
        named.setdefault(base.run_id, f"{key}@v{base.number}")
    for run_id, artifact in sorted(replays.collected(connection, named).items()):
        raise InvalidInput(
            f"{shown} read {named[run_id]}, whose {artifact!r} is gone (retention or a deletion took it): "
            "it cannot be read again"
        )
