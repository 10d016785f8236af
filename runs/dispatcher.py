"""The dispatcher: takes what the outbox holds to Prefect.

Several may run at once: each entry is claimed with a token, sent, and settled by whoever holds the token. Sending
twice is harmless: a dispatch carries an idempotency key, the other messages state what is to be.
"""

import logging
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.engine import Connection, Row

from ..deployments.gateway import FlowRunState, Gateway
from ..lineage.models import Deployment
from ..storage.database import Database
from ..storage.errors import Conflict, FreshlineError, InvalidInput, NotFound
from ..storage.ids import show_run_id
from . import events, outbox, store
from .ending import end_run
from .intake import RUN_LABEL
from .outbox import Topic
from .request import join_parameters
from .status import RunStatus, StopReason

_LOGGER = logging.getLogger(__name__)
_DEPLOYMENT = Deployment.__table__  # type: ignore[attr-defined]
_MAX_ATTEMPTS = 200


@dataclass(frozen=True)
class Dispatcher:
    """Sends what is due."""

    database: Database
    gateway: Gateway

    def pass_once(self, *, limit: int = 20) -> int:
        """Send up to `limit` due entries; return how many were sent."""
        entries = self.database.write(
            lambda connection: outbox.claim(connection, now=self.database.now(connection), limit=limit)
        )
        return sum(self._send(entry) for entry in entries)

    def _send(self, entry: Row[Any]) -> bool:
        try:
            match Topic(entry.topic):
                case Topic.DISPATCH:
                    self._dispatch(entry)
                case Topic.RESUME:
                    self._with_flow_run(entry, self.gateway.resume)
                case Topic.CANCEL:
                    self._with_flow_run(entry, self.gateway.cancel)
                case Topic.CRASH:
                    self._with_flow_run(entry, self._crash)
        except (InvalidInput, NotFound) as refusal:
            self._give_up(entry, refusal)
            return False
        except FreshlineError as failure:
            if entry.attempts >= _MAX_ATTEMPTS:
                self._give_up(entry, failure)
            else:
                self._postpone(entry, failure)
            return False
        return True

    def _postpone(self, entry: Row[Any], failure: Exception) -> None:
        _LOGGER.warning("%s of %s is tried again: %s", entry.topic, show_run_id(entry.run_id), failure)

        def work(connection: Connection) -> None:
            outbox.postpone(connection, entry, error=str(failure), now=self.database.now(connection))

        self.database.write(work)

    def _dispatch(self, entry: Row[Any]) -> None:
        with self.database.read() as connection:
            run = store.get_run(connection, entry.run_id)
            target = connection.execute(sa.select(_DEPLOYMENT).where(_DEPLOYMENT.c.id == run.deployment_id)).one()
            own_store = store.store_id(connection)
        if run.status != RunStatus.PENDING or run.flow_run_id is not None:
            self.database.write(lambda connection: outbox.settle(connection, entry))
            return
        # Prefect's key is unique per flow, not per deployment, and its parameters are not compared.
        flow_run = self.gateway.create_flow_run(
            target.prefect_deployment_id,
            parameters=join_parameters(run.parameters, run.request, target.declaration.get("renamed", {})),
            idempotency_key=f"{own_store}:{target.prefect_deployment_id}:{run.id}:{run.attempt}",
            labels={RUN_LABEL: str(run.id)},
            tags=run.tags,
            name=show_run_id(run.id),
        )

        def recorded(connection: Connection) -> None:
            if not outbox.settle(connection, entry):
                return
            current = store.get_run(connection, run.id)
            dispatched = events.RunDispatched(flow_run_id=flow_run.id)
            now = self.database.now(connection)
            if (
                store.change(connection, run.id, [dispatched], actor="dispatcher", now=now, flow_run_id=flow_run.id)
                is None
                and current.status == RunStatus.CANCELLED
            ):
                # It was cancelled while its flow run was being created.
                self._enqueue_cancel(connection, run.id, flow_run.id)

        self.database.write(recorded)

    def _enqueue_cancel(self, connection: Connection, run_id: UUID, flow_run_id: UUID) -> None:
        outbox.enqueue(
            connection,
            Topic.CANCEL,
            run_id,
            dedupe_key=f"cancel:{flow_run_id}",
            now=self.database.now(connection),
            payload={"flow_run_id": str(flow_run_id)},
        )

    def _with_flow_run(self, entry: Row[Any], send: Any) -> None:
        with self.database.read() as connection:
            run = store.get_run(connection, entry.run_id)
        flow_run_id = UUID(entry.payload["flow_run_id"]) if "flow_run_id" in entry.payload else run.flow_run_id
        if flow_run_id is not None:
            try:
                send(flow_run_id)
            except Conflict:
                flow_run = self.gateway.read_flow_run(flow_run_id)
                if flow_run is not None and not flow_run.has_ended and entry.topic == Topic.RESUME:
                    raise  # not suspended yet: its process is on its way out
        self.database.write(lambda connection: outbox.settle(connection, entry))

    def _crash(self, flow_run_id: UUID) -> None:
        message = "its worker was not heard of for a whole lease"
        self.gateway.set_state(flow_run_id, FlowRunState.CRASHED, message=message)

    def _give_up(self, entry: Row[Any], error: Exception) -> None:
        _LOGGER.error("%s of %s is given up: %s", entry.topic, show_run_id(entry.run_id), error)
        reason, error_type, message = StopReason.NOT_DISPATCHED, type(error).__name__, str(error)[:4000]

        def work(connection: Connection) -> None:
            if not outbox.bury(connection, entry, error=message) or entry.topic != Topic.DISPATCH:
                return
            end_run(
                connection,
                entry.run_id,
                RunStatus.FAILED,
                reason,
                events.RunFailed(stop_reason=reason, error_type=error_type, message=message),
                actor="dispatcher",
                now=self.database.now(connection),
                error_type=error_type,
                error_message=message,
            )

        self.database.write(work)
