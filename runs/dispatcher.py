"""The dispatcher: takes what the outbox holds to Prefect.

Several may run at once: each entry is claimed with a token, sent, and settled by whoever holds the token. Sending
twice is harmless: a dispatch carries an idempotency key, the other messages state what is to be.
"""

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.engine import Connection, Row

from ..deployments.gateway import FlowRunState, Gateway
from ..lineage.models import Deployment
from ..storage import faults
from ..storage.compiled import Answer
from ..storage.database import Database
from ..storage.errors import Conflict, FreshlineError, InvalidInput, NotFound
from ..storage.faults import Guard
from ..storage.ids import new_id, show_run_id
from ..storage.statement import Statement
from . import outbox, store
from . import run_events as events
from .creation import secrets_of
from .ending import end_run
from .intake import RUN_LABEL
from .logs import run_event
from .outbox import Topic
from .request import join_parameters
from .status import RunStatus, StopReason

_LOGGER = logging.getLogger(__name__)
_DEPLOYMENT = Deployment.__table__  # type: ignore[attr-defined]
_MAX_ATTEMPTS = 200

_SENT = ("id", "deployment_id", "status", "stop_reason", "attempt", "flow_run_id", "parameters", "request", "tags")
"""What of a run is needed to send it."""
_RUNS_TO_SEND = Statement(
    lambda sql: (
        sa.select(
            *(store.RUN.c[name] for name in _SENT),
            _DEPLOYMENT.c.prefect_deployment_id,
            _DEPLOYMENT.c.declaration,
            sa.select(store.STORE.c.id).scalar_subquery().label("store_id"),
        )
        .join(_DEPLOYMENT, _DEPLOYMENT.c.id == store.RUN.c.deployment_id)
        .where(sql.within(store.RUN.c.id, outbox.run_ids_in_hold(sql)))
    )
)


@dataclass(frozen=True)
class Dispatcher:
    """Sends what is due."""

    database: Database
    gateway: Gateway

    def pass_once(self, *, limit: int = 20) -> int:
        """Send up to `limit` due entries; return how many were sent."""
        faults.reach("dispatch.begin")

        def work(connection: Connection) -> tuple[outbox.Hold, Answer]:
            # Nobody waits for either: they come with the reply to the commit.
            hold = outbox.claim(connection, now=self.database.known_now(connection), limit=limit)
            return hold, _RUNS_TO_SEND.ask(connection, **hold.mark)

        # A hold that is lost with the database's last moments is a hold that has run out.
        hold, asked = self.database.write(work, durable=False)
        faults.reach("dispatch.claimed")
        runs = {row.id: row for row in asked.rows()}
        return sum(self._send(entry, runs[entry.run_id]) for entry in hold.entries())

    def _send(self, entry: Row[Any], run: Row[Any]) -> bool:
        try:
            match Topic(entry.topic):
                case Topic.DISPATCH:
                    self._dispatch(entry, run)
                case Topic.RESUME:
                    self._with_flow_run(entry, run, self.gateway.resume)
                case Topic.CANCEL:
                    self._with_flow_run(entry, run, self.gateway.cancel)
                case Topic.CRASH:
                    self._with_flow_run(entry, run, partial(self._crash, run.id))
                case Topic.END:
                    self._with_flow_run(entry, run, partial(self._end, run.id, entry.payload))
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

    def _dispatch(self, entry: Row[Any], run: Row[Any]) -> None:
        if run.status != RunStatus.PENDING or run.flow_run_id is not None:
            self.database.write(lambda connection: outbox.settle(connection, entry))
            return
        # Prefect's key is unique per flow, not per deployment, and its parameters are not compared.
        faults.reach("dispatch.before_call")
        named = run.id if faults.is_on(Guard.DISPATCH_KEY) else new_id()
        flow_run = self.gateway.create_flow_run(
            run.prefect_deployment_id,
            # Without the secrets, which are not recorded: Prefect has those of the deployment.
            parameters=join_parameters(
                {name: value for name, value in run.parameters.items() if name not in secrets_of(run)},
                run.request,
                run.declaration.get("renamed", {}),
            ),
            idempotency_key=f"{run.store_id}:{run.prefect_deployment_id}:{named}:{run.attempt}",
            labels={RUN_LABEL: str(run.id)},
            tags=run.tags,
            name=show_run_id(run.id),
        )

        faults.reach("dispatch.called")

        def recorded(connection: Connection) -> None:
            dispatched = events.RunDispatched(flow_run_id=flow_run.id)
            settled = outbox.settle(connection, entry)
            locked = store.ask_locked(connection, run.id).first()
            now = self.database.now(connection)
            if not settled.changed() or locked is None:
                return
            if locked.ended_at is None:
                store.amend(connection, locked, [dispatched], actor="dispatcher", now=now, flow_run_id=flow_run.id)
            elif locked.status == RunStatus.CANCELLED:
                # It was cancelled while its flow run was being created.
                self._enqueue_cancel(connection, run.id, flow_run.id)
            faults.reach("dispatch.before_commit")

        self.database.write(recorded)
        run_event(_LOGGER, f"dispatched as flow run {flow_run.id}", run=run, actor="dispatcher")
        faults.reach("dispatch.settled")

    def _enqueue_cancel(self, connection: Connection, run_id: UUID, flow_run_id: UUID) -> None:
        outbox.enqueue(
            connection,
            Topic.CANCEL,
            run_id,
            dedupe_key=f"cancel:{flow_run_id}",
            now=self.database.now(connection),
            payload={"flow_run_id": str(flow_run_id)},
        )

    def _with_flow_run(self, entry: Row[Any], run: Row[Any], send: Any) -> None:
        flow_run_id = UUID(entry.payload["flow_run_id"]) if "flow_run_id" in entry.payload else run.flow_run_id
        if flow_run_id is not None:
            try:
                send(flow_run_id)
            except Conflict:
                flow_run = self.gateway.read_flow_run(flow_run_id)
                if flow_run is not None and not flow_run.has_ended and entry.topic == Topic.RESUME:
                    with self.database.read() as connection:
                        is_lost = outbox.is_to_be_forced(connection, run.id)
                    if not is_lost:  # else what ends it would wait behind this entry for ever
                        raise  # not suspended yet: its process is on its way out
        self.database.write(lambda connection: outbox.settle(connection, entry))

    def _crash(self, run_id: UUID, flow_run_id: UUID) -> None:
        """Force a flow run that nobody will end to Crashed: its worker is lost, or does not heed its cancellation."""
        flow_run = self.gateway.read_flow_run(flow_run_id)
        if flow_run is not None and not flow_run.has_ended and not self._has_newer_run(run_id, flow_run_id):
            message = "its worker was lost, or did not stop: Freshline has ended the run"
            self.gateway.set_state(flow_run_id, FlowRunState.CRASHED, message=message)

    def _end(self, run_id: UUID, payload: Mapping[str, Any], flow_run_id: UUID) -> None:
        """Force a flow run to an end that is still in the very state in which its process was lost."""
        flow_run = self.gateway.read_flow_run(flow_run_id)
        if flow_run is None or flow_run.state_at is None or flow_run.state_at.isoformat() != payload["since"]:
            return
        if not self._has_newer_run(run_id, flow_run_id):
            state, name = FlowRunState(payload["state"]), payload["name"]
            self.gateway.set_state(flow_run_id, state, name=name, message=payload["message"])

    def _has_newer_run(self, run_id: UUID, flow_run_id: UUID) -> bool:
        """True when the flow run was started again since: what was said about the run that it had is void."""
        with self.database.read() as connection:
            newest = store.newest_run_of_flow_run(connection, flow_run_id)
        return newest is not None and newest.id != run_id

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
