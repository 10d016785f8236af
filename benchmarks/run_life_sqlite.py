"""The whole life of a run with 10 parameters and 10 metrics, one after another, on SQLite.

Ours is what happens to a real run of about one heartbeat, without the flow's process and without Prefect's server (the
gateway is the one in memory that the tests use): submit, outbox claimed and settled, claim with gate and pins, one
heartbeat that brings the metrics, and the completion, which publishes a version. These are eight transactions.
"""

from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter

import sqlalchemy as sa

from freshline.lineage import registry
from freshline.runs.dispatcher import Dispatcher
from freshline.runs.execution import Result
from freshline.runs.migrate import ensure_schema
from freshline.runs.port import DirectPort
from freshline.runs.service import RunExecutionService
from freshline.storage.database import Database
from freshline.storage.filesystem import ObjectStore
from freshline.storage.settings import Settings
from freshline.storage.words import DeploymentKind, ResourceKind
from tests.fakes import FakeGateway

from .environments import peer_process
from .floors.run_life import RawRuns
from .harness import Subject, Subjects, Work

RUNS = 100
"""Lives in a round of ours and of the peer."""
FLOOR_RUNS = 1000
"""The floor is faster: a round of it should take as long as a clock can tell."""

_KEY = "refresh/bench"
_NAMES = tuple(f"p{number}" for number in range(10))
_PARAMETERS = {name: number for number, name in enumerate(_NAMES)}
_METRICS = {f"m{number}": number * 0.5 for number in range(10)}
_SYNCHRONOUS = ("OFF", "NORMAL", "FULL", "EXTRA")


@dataclass(frozen=True)
class Lives:
    """A store with one deployment, whose runs are led from their submission to their completion."""

    database: Database
    gateway: FakeGateway
    objects: ObjectStore

    @classmethod
    def open(cls, database: Database, directory: Path) -> "Lives":
        """Migrate the store and register the deployment."""
        ensure_schema(database)
        gateway = FakeGateway()
        facts = gateway.add_deployment("bench/bench", parameters={name: {"type": "integer"} for name in _NAMES})
        declared = registry.Declared(
            key=_KEY,
            kind=DeploymentKind.REFRESH,
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

    def live(self, runs: int) -> None:
        """Lead this many runs through their life, one after another."""
        service = RunExecutionService(self.database)
        dispatcher = Dispatcher(self.database, self.gateway)
        port = DirectPort(self.database, self.objects, self.gateway)
        for _ in range(runs):
            run = service.submit(_KEY, _PARAMETERS)
            sent = dispatcher.pass_once()
            assert sent == 1, "the run was not dispatched"
            flow_run_id = service.get(run.id).flow_run_id
            assert flow_run_id is not None
            claim = port.claim(self.gateway.begin(flow_run_id))
            assert claim.may_start, "the gate refused"
            port.pins(run.id)
            port.record(run.id, claim.run.fence, metrics=_METRICS)
            port.heartbeat(run.id, claim.run.fence)
            port.complete(run.id, claim.run.fence, Result(metrics=_METRICS))

    def rate(self) -> float:
        """Return runs per second over one round."""
        began = perf_counter()
        self.live(RUNS)
        return RUNS / (perf_counter() - began)

    def pragmas(self) -> tuple[str, str]:
        """Return (journal_mode, synchronous) as the connection has them."""
        with self.database.read() as connection:
            journal = connection.execute(sa.text("PRAGMA journal_mode")).scalar_one()
            synchronous = connection.execute(sa.text("PRAGMA synchronous")).scalar_one()
        return str(journal), _SYNCHRONOUS[synchronous]


@contextmanager
def prepare(directory: Path, with_peers: bool) -> Iterator[Subjects]:  # noqa: FBT001 - the harness calls it
    """Open our store with the settings that it ships with, and the floor with the same ones."""
    settings = Settings.model_construct()
    database = Database(f"sqlite:///{directory / 'ours.db'}", sqlite_synchronous=settings.sqlite_synchronous)
    try:
        lives = Lives.open(database, directory)
        journal, synchronous = lives.pragmas()
        with closing(RawRuns(directory / "floor.db", journal=journal, synchronous=synchronous)) as raw:
            ours = Subject("submit, dispatch, claim, heartbeat, complete", lives.rate, _said(journal, synchronous))
            floor = Subject("sqlite3, five commits", lambda: raw.rate(FLOOR_RUNS), _said(*raw.pragmas()))
            if not with_peers:
                yield Subjects(ours, floor)
                return
            with peer_process("mlflow", "run_life", [f"sqlite:///{directory / 'mlflow.db'}", str(RUNS)]) as peer:
                yield Subjects(ours, floor, Subject(peer.name, peer.measure, peer.durability))
    finally:
        database.dispose()


def _said(journal: str, synchronous: str) -> str:
    return f"SQLite journal_mode={journal.upper()}, synchronous={synchronous}"


WORK = Work(
    name="run_life_sqlite",
    what="a run's life: submitted, started, 10 parameters, 10 metrics, completed",
    unit="runs/s",
    higher_is_better=True,
    prepare=prepare,
)
