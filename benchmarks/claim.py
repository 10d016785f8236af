"""A worker claims a run that reads ten upstreams: the gate looks, the pins are written, the lease taken; on Postgres.

One transaction, on a Postgres that syncs to the disk. Ours and the floor have a store each, with the same graph. Runs
are submitted and dispatched between two rounds, which is not timed: the gate has decided at the submission, and sees
the same at the claim. Both stores are the ones that our migrations make, with their indexes, checks and triggers.
"""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from time import perf_counter
from typing import Any
from uuid import UUID

import psycopg

from freshline.deployments.gateway import FlowRunFacts
from freshline.lineage import registry, staleness, versions
from freshline.runs.dispatcher import Dispatcher
from freshline.runs.intake import RUN_LABEL, FlowCall
from freshline.runs.migrate import ensure_schema
from freshline.runs.port import DirectPort
from freshline.runs.service import RunExecutionService
from freshline.storage.database import Database
from freshline.storage.filesystem import ObjectStore
from freshline.storage.ids import new_id
from freshline.storage.words import DeploymentKind, ResourceKind

from . import durability
from .comparisons import Comparison, Kind
from .floors.claim import RawClaims, Started
from .harness import FLOOR, OURS, Setting, Subject, Subjects, Work
from .lives import Prefect
from .servers import durable_postgres

UPSTREAMS = 10
CLAIMS = 50
"""In a round of each."""
_KEY = "backtest/bench"


@dataclass(frozen=True)
class Claims:
    """A store with a deployment that reads ten others, each with a version."""

    database: Database
    gateway: Prefect
    port: DirectPort

    @classmethod
    def open(cls, database: Database) -> "Claims":
        """Migrate the store, and write the graph."""
        ensure_schema(database)
        gateway = Prefect()
        facts = gateway.add_deployment("bench/bench")
        sources = [f"refresh/source{number}" for number in range(UPSTREAMS)]
        declared = [_declared(key) for key in sources] + [_declared(_KEY, reads=sources, prefect_id=facts.id)]
        now = database.write(database.now)
        database.write(
            lambda connection: registry.register(connection, declared, tenant_id="default", project="default", now=now)
        )
        for key in sources:
            database.write(lambda connection, key=key: _publish(connection, key, now))  # type: ignore[misc]
        return cls(database, gateway, DirectPort(database, ObjectStore("memory://claims"), gateway))

    def prepare(self, claims: int) -> list[FlowRunFacts]:
        """Submit and dispatch so many runs; return their flow runs, which have begun."""
        service, dispatcher = RunExecutionService(self.database), Dispatcher(self.database, self.gateway)
        begun = []
        for _ in range(claims):
            service.submit(_KEY)
            assert dispatcher.pass_once() == 1, "the run was not dispatched"
            begun.append(self.gateway.begin(self.gateway.newest))
        return begun

    def per_claim(self, claims: int) -> float:
        """Return the milliseconds that a claim takes, over so many, one after another."""
        begun = self.prepare(claims)
        began = perf_counter()
        for flow_run in begun:
            claimed = self.port.claim(FlowCall.of_deployment(flow_run))
            assert claimed.may_start, "the gate refused"
        return (perf_counter() - began) / claims * 1000


def started(flow_run: FlowRunFacts) -> Started:
    """Return what the floor needs to know of a flow run."""
    assert flow_run.deployment_id is not None, "it is one of a deployment's"
    return Started(flow_run.id, flow_run.deployment_id, UUID(flow_run.labels[RUN_LABEL]))


@contextmanager
def prepare(_setting: Setting) -> Iterator[Subjects]:
    """Start the server, and open a store for each."""
    with ExitStack() as exits:
        server = exits.enter_context(durable_postgres())
        stores = []
        for name in ("ours", "floor"):
            database = Database(server.make_database(name))
            exits.callback(database.dispose)
            stores.append(Claims.open(database))
        ours, theirs = stores
        raw = RawClaims(server.conninfo("floor"))
        exits.callback(raw.close)
        ours.per_claim(2)
        raw.per_claim([started(one) for one in theirs.prepare(2)])
        check(server.conninfo("ours"), server.conninfo("floor"))
        yield {
            OURS: Subject(
                f"DirectPort.claim: gate and pins over {UPSTREAMS} upstreams",
                lambda: ours.per_claim(CLAIMS),
                durability.of_database(ours.database),
            ),
            FLOOR: Subject(
                "psycopg, the same statements in one commit",
                lambda: raw.per_claim([started(one) for one in theirs.prepare(CLAIMS)]),
                durability.of_psycopg(raw.connection),
            ),
        }


def check(ours: str, floor: str) -> None:
    """Refuse to measure claims that leave different records."""
    left = [left_by_claims(conninfo) for conninfo in (ours, floor)]
    assert left[0], "nothing was claimed"
    assert left[0] == left[1], "the floor leaves another record than ours"


def left_by_claims(conninfo: str) -> list[tuple[Any, ...]]:
    """Return what the claims of a store left, but for ids, moments and who claimed."""
    query = """
        SELECT run.status, run.attempt, run.fence, run.declaration_digest, run.last_seq, run.base_version_id,
            run.lease_until - run.started_at, run.heartbeat_at = run.started_at,
            (SELECT array_agg(kind ORDER BY seq) FROM run_event WHERE run_id = run.id),
            (SELECT payload - 'worker' FROM run_event WHERE run_id = run.id AND seq = run.last_seq),
            (SELECT array_agg((role, version.number, pinned, read)::text ORDER BY role)
             FROM run_input JOIN version ON version.id = version_id WHERE run_input.run_id = run.id),
            state.activity, state.next_fence
        FROM run JOIN deployment_state AS state ON state.deployment_id = run.deployment_id ORDER BY run.id
    """
    with psycopg.connect(conninfo) as connection:
        return connection.execute(query).fetchall()


def _declared(key: str, *, reads: list[str] | None = None, prefect_id: UUID | None = None) -> registry.Declared:
    kind, _, name = key.partition("/")
    return registry.Declared(
        key=key,
        kind=DeploymentKind(kind),
        resource=name,
        resource_kind=ResourceKind.BACKTEST if reads else ResourceKind.DATASET,
        declaration_digest="bench",
        edges=[registry.DeclaredEdge(read.partition("/")[2], read) for read in reads or ()],
        prefect_name=f"bench/{name}",
        prefect_deployment_id=prefect_id or new_id(),
    )


def _publish(connection: Any, key: str, now: Any) -> None:
    deployment = registry.deployment(connection, key, tenant_id="default")
    affected = staleness.lock_affected(connection, [deployment.id])
    new = versions.NewVersion(
        deployment_id=deployment.id, run_id=new_id(), fence=1, digest=key, declaration_digest="bench"
    )
    versions.publish(connection, new, now=now)
    staleness.recompute(connection, affected, now=now)


WORK = Work(
    name="claim",
    what=f"a claim with the gate and pins over {UPSTREAMS} upstreams",
    unit="ms",
    higher_is_better=False,
    prepare=prepare,
    comparisons=(Comparison(Kind.RATIO, OURS, FLOOR, target=3.0),),
    turns=3,
)
