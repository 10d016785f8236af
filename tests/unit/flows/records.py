"""A store in which calls of tracked flows under the real Prefect server of `stack` are recorded, and how it is read."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

from freshline.runs.models import Run
from freshline.runs.port import DirectPort
from freshline.runs.queries import Queries
from freshline.runs.status import RunStatus
from freshline.storage.database import Database
from freshline.storage.filesystem import ObjectStore
from freshline.storage.ids import new_id
from freshline.storage.words import Trigger
from tests.factories import Graph, declared
from tests.stack import RunningStack

HEARTBEAT_S = 0.2
"""A body that is to be cancelled hears of it so soon."""


@dataclass
class Records:
    """The store, and what it has recorded."""

    database: Database
    stack: RunningStack

    @property
    def port(self) -> DirectPort:
        objects = ObjectStore(f"memory://{new_id()}")
        return DirectPort(self.database, objects, self.stack.gateway, heartbeat_s=HEARTBEAT_S)

    def of(self, key: str) -> list[Run]:
        """The deployment's runs, oldest first."""
        return [run for _, run in reversed(Queries(self.database).runs(deployment=key))]

    def only(self, key: str) -> Run:
        (run,) = self.of(key)
        return run


@contextmanager
def talking_to(stack: RunningStack) -> Iterator[None]:
    from prefect.events.worker import EventsWorker
    from prefect.settings import PREFECT_FLOWS_HEARTBEAT_FREQUENCY, PREFECT_LOGGING_TO_API_ENABLED, temporary_settings

    settings: dict[Any, Any] = {PREFECT_FLOWS_HEARTBEAT_FREQUENCY: None, PREFECT_LOGGING_TO_API_ENABLED: False}
    with stack.local.activated(), temporary_settings(settings):
        yield
        EventsWorker.drain_all()


def graph_of(database: Database, stack: RunningStack) -> Graph:
    idle = stack.deployments["refresh/idle"].id
    return Graph(
        database,
        *(
            replace(declared(key, upstream), prefect_name=name)
            for key, name, upstream in [
                ("refresh/caller", "caller/caller", ()),
                ("refresh/later", "caller-async/later", ()),
                ("refresh/bonds", "load/bonds", ()),
                ("refresh/stocks", "load/stocks", ()),
                ("training/alpha", "train/alpha", ()),
                ("inference/alpha", "infer/alpha", ()),
                ("monitoring/alpha", "watch/alpha", ()),
                ("backtest/book", "simulate/book", ("refresh/never",)),
                ("refresh/never", "never/never", ()),
                ("refresh/prices", "refresh/prices", ()),
                ("refresh/momentum", "refresh/momentum", ()),
                ("preview/lookbacks", "study/lookbacks", ()),
            ]
        ),
        replace(declared("refresh/idle"), prefect_name="counting/idle", prefect_deployment_id=idle),
    )


def assert_is_child(child: Run, parent: Run) -> None:
    assert (child.trigger, child.parent_id, child.background) == (Trigger.SUBFLOW, parent.id, False)


def assert_was_left_alone(run: Run) -> None:
    """The run's one attempt went through: nobody else claimed it."""
    assert (run.status, run.attempt, run.generation) == (RunStatus.COMPLETED, 1, 0)
