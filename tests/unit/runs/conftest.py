"""A store with a small registered graph, a Prefect in memory, and a worker that does what a tracked flow does."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import pandas as pd
import pytest

from freshline.deployments.gateway import FlowRunFacts
from freshline.runs.dispatcher import Dispatcher
from freshline.runs.execution import Claim
from freshline.runs.intake import FlowCall
from freshline.runs.models import Run
from freshline.runs.port import DirectPort
from freshline.runs.queries import Queries
from freshline.runs.repair.reconcile import Reconciler
from freshline.runs.result import Read, Result
from freshline.runs.service import RunExecutionService
from freshline.storage.artifacts import ArtifactRecord
from freshline.storage.database import Database
from freshline.storage.filesystem import ObjectStore
from freshline.storage.ids import new_id
from freshline.storage.parquet import write_table
from tests.factories import START, Graph, declared
from tests.fakes import FakeGateway

KEYS = ("refresh/calendar", "refresh/prices", "refresh/momentum", "backtest/book")


@dataclass
class World:
    """Everything that a run meets, with a clock that stands still until it is moved."""

    database: Database
    gateway: FakeGateway
    graph: Graph
    objects: ObjectStore
    moment: datetime = START

    @property
    def service(self) -> RunExecutionService:
        return RunExecutionService(self.database)

    @property
    def queries(self) -> Queries:
        return Queries(self.database)

    @property
    def port(self) -> DirectPort:
        return DirectPort(self.database, self.objects, self.gateway)

    def pass_time(self, elapsed: timedelta) -> None:
        self.moment += elapsed

    def dispatch(self) -> int:
        """Let the dispatcher send everything that is due."""
        sent = 0
        while step := Dispatcher(self.database, self.gateway).pass_once():
            sent += step
        return sent

    def reconcile(self, **options: Any) -> Any:
        return Reconciler(self.database, self.gateway, **options).pass_once()

    def flow_run_of(self, run: Run) -> FlowRunFacts:
        """The flow run that Prefect has for a dispatched run."""
        found = self.gateway.read_flow_run(self.service.get(run.id).flow_run_id)
        assert found is not None
        return found

    def start(self, run: Run) -> Claim:
        """Dispatch a run and let a worker claim it."""
        self.dispatch()
        return self.claim(self.flow_run_of(run).id)

    def claim(self, flow_run_id: UUID) -> Claim:
        """A worker starts the flow run, and claims as its first act."""
        return self.port.claim(FlowCall.of_deployment(self.gateway.begin(flow_run_id)))

    def result(self, content: Any = 1, *, claim: Claim | None = None, **options: Any) -> Result:
        """What a body leaves that wrote one table of this content and read all its pins."""
        stored = write_table(self.objects, pd.DataFrame({"x": [content]}))
        pins = self.port.pins(claim.run.id) if claim is not None else {}
        reads = [Read(role, pin.upstream_id, pin.version_id) for role, pin in pins.items()]
        return Result(artifacts=[ArtifactRecord.of_table("data", stored)], reads=reads, **options)

    def complete(self, claim: Claim, content: Any = 1, **options: Any) -> None:
        self.port.complete(claim.run.id, claim.run.fence, self.result(content, claim=claim, **options))
        self.gateway.end(claim.run.flow_run_id)

    def run_through(self, key: str, content: Any = 1, **options: Any) -> Run:
        """Submit, dispatch, claim and complete."""
        run = self.service.submit(key, **options)
        self.complete(self.start(run), content)
        return self.service.get(run.id)

    def kinds(self, run_id: UUID) -> list[str]:
        """The kinds of the run's events, in order."""
        return [event.kind for _, event in self.queries.events(run_id)]


@pytest.fixture
def world(database_url: str) -> Iterator[World]:
    """Prices, a momentum signal and a backtest of a book."""
    made = make_world(database_url)
    yield made
    made.database.dispose()


def make_world(database_url: str) -> World:
    moments: list[World] = []
    database = Database(database_url, clock=lambda: moments[0].moment, sqlite_synchronous="OFF")
    gateway = FakeGateway(clock=lambda: moments[0].moment)
    upstream: Mapping[str, list[str]] = {
        "refresh/calendar": [],
        "refresh/prices": [],
        "refresh/momentum": ["refresh/prices"],
        "backtest/book": ["refresh/momentum", "refresh/prices"],
    }
    deployments = []
    for key in KEYS:
        facts = gateway.add_deployment(f"flow/{key.replace('/', '-')}")
        deployments.append(replace(declared(key, upstream[key]), prefect_deployment_id=facts.id))
    world = World(database, gateway, None, ObjectStore(f"memory://{new_id()}"))  # type: ignore[arg-type]
    moments.append(world)
    world.graph = Graph(database, *deployments)
    return world
