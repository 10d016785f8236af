"""Our side of a run's life: a store with one deployment, whose runs are led from their submission to completion.

What happens to a real run that is shorter than a heartbeat, without the flow's process and without Prefect's server
(the gateway is the one in memory that the tests use): submit, outbox claimed and settled, claim with gate and pins, the
metrics, and the completion, which publishes a version. These are six transactions, five of them durable: a hold on an
entry of the outbox may be lost.
"""

from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import Any
from uuid import UUID

from freshline.deployments.gateway import FlowRunFacts
from freshline.lineage import registry
from freshline.runs.dispatcher import Dispatcher
from freshline.runs.migrate import ensure_schema
from freshline.runs.port import DirectPort
from freshline.runs.result import Result
from freshline.runs.service import RunExecutionService
from freshline.storage.database import Database
from freshline.storage.filesystem import ObjectStore
from freshline.storage.words import DeploymentKind, ResourceKind
from tests.fakes import FakeGateway

KEY = "refresh/bench"
KIND = DeploymentKind.REFRESH
PARAMETERS = {f"p{number}": number for number in range(10)}
_METRICS = {f"m{number}": number * 0.5 for number in range(10)}


class Prefect(FakeGateway):
    """The one in memory; it knows the flow run that it made last, as a worker is told."""

    newest: UUID

    def create_flow_run(self, deployment_id: UUID, **options: Any) -> FlowRunFacts:
        """Create a flow run, and keep its id."""
        made = super().create_flow_run(deployment_id, **options)
        self.newest = made.id
        return made


@dataclass(frozen=True)
class Lives:
    """The store."""

    database: Database
    gateway: Prefect
    objects: ObjectStore

    @classmethod
    def open(cls, database: Database, directory: Path) -> "Lives":
        """Migrate the store and register the deployment."""
        ensure_schema(database)
        gateway = Prefect()
        facts = gateway.add_deployment("bench/bench", parameters={name: {"type": "integer"} for name in PARAMETERS})
        declared = registry.Declared(
            key=KEY,
            kind=KIND,
            resource="bench",
            resource_kind=ResourceKind.DATASET,
            declaration_digest="bench",
            declaration={},
            parameter_schema=dict(facts.parameter_schema),
            policy=None,
            edges=[],
            prefect_name=facts.prefect_name,
            prefect_deployment_id=facts.id,
        )
        database.write(
            lambda connection: registry.register(
                connection, [declared], tenant_id="default", project="default", now=database.now(connection)
            )
        )
        return cls(database, gateway, ObjectStore((directory / "objects").as_uri()))

    def live(self, runs: int) -> UUID:
        """Lead this many runs through their life, one after another; return the id of the last one."""
        service = RunExecutionService(self.database)
        dispatcher = Dispatcher(self.database, self.gateway)
        port = DirectPort(self.database, self.objects, self.gateway)
        assert runs > 0, "there is a last one"
        for _ in range(runs):
            run = service.submit(KEY, PARAMETERS)
            sent = dispatcher.pass_once()
            assert sent == 1, "the run was not dispatched"
            claim = port.claim(self.gateway.begin(self.gateway.newest))
            assert claim.may_start, "the gate refused"
            assert claim.run.id == run.id, "the flow run is another run's"
            port.record(run.id, claim.run.fence, metrics=_METRICS)
            port.complete(run.id, claim.run.fence, Result())
        return run.id

    def rate(self, runs: int) -> float:
        """Return runs per second over this many lives."""
        began = perf_counter()
        self.live(runs)
        return runs / (perf_counter() - began)

    def submit_rate(self, runs: int) -> float:
        """Return runs per second over this many submissions, one after another; they stay pending."""
        service = RunExecutionService(self.database)
        began = perf_counter()
        for _ in range(runs):
            service.submit(KEY, PARAMETERS)
        return runs / (perf_counter() - began)
