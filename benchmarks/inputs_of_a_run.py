"""All versions that went into a run, through 20 layers, with a million inputs stored; on Postgres.

Layers of deployments, each with equally many versions. A version reads 2 or 3 of the layer above, and every fourth one
something from any earlier layer besides; it reads what was current when it was made. Asked is about runs of the last
layer, each round about others, so that no answer lies ready.
"""

import random
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from time import perf_counter
from typing import Any
from uuid import UUID

import psycopg

from freshline import lineage
from freshline.lineage import registry
from freshline.runs.migrate import ensure_schema
from freshline.storage.database import Database
from freshline.storage.ids import new_id
from freshline.storage.words import DeploymentKind, ResourceKind

from .comparisons import Comparison, Kind
from .floors.inputs import NAMES, SAME_FACTS, RawInputs
from .harness import FLOOR, OURS, Setting, Subject, Subjects, Work
from .servers import Postgres, durable_postgres

DEPTH = 20
WIDTH = 10
"""Deployments in a layer."""
INPUTS = 1_000_000
QUESTIONS = 40
"""In a round of each."""

FACTS = "same facts"
"""The role of a query that gives as much as ours does."""

_MADE_AT = datetime(2026, 1, 1, tzinfo=UTC)


@dataclass(frozen=True)
class Filled:
    """A store with a million inputs."""

    database: Database
    conninfo: str
    runs: Sequence[UUID]
    """Runs of the last layer, in random order."""
    num_inputs: int


@dataclass
class Asking:
    """Asks about one run after another, and begins again at the end."""

    runs: Sequence[UUID]
    position: int = 0

    def next(self, count: int) -> list[UUID]:
        """Return the next runs."""
        taken = [self.runs[(self.position + offset) % len(self.runs)] for offset in range(count)]
        self.position += count
        return taken


@contextmanager
def prepare(num_inputs: int, setting: Setting) -> Iterator[Subjects]:
    """Start the server and fill the database that both ask."""
    with ExitStack() as exits:
        server = exits.enter_context(durable_postgres())
        began = perf_counter()
        filled = fill(server, num_inputs)
        exits.callback(filled.database.dispose)
        setting.tell(f"inputs_of_a_run: {filled.num_inputs:,} inputs stored in {perf_counter() - began:.0f} s")
        names, same_facts = RawInputs(filled.conninfo, NAMES), RawInputs(filled.conninfo, SAME_FACTS)
        exits.callback(names.close)
        exits.callback(same_facts.close)
        known = names.versions(filled.runs[0])
        check(ask(filled.database, filled.runs[0]), known, same_facts.versions(filled.runs[0]))
        asking, asking_names, asking_facts = (Asking(filled.runs) for _ in range(3))
        yield {
            OURS: Subject(
                f"lineage.inputs: {len(known)} versions with roles, depths and whether they hold",
                lambda: per_question(filled.database, asking.next(QUESTIONS)),
                durability=None,
            ),
            FLOOR: Subject(
                f"psycopg, a plain recursive query: {len(known)} versions by name",
                lambda: names.per_question(asking_names.next(QUESTIONS)),
                durability=None,
            ),
            FACTS: Subject(
                "psycopg, a recursive query for the same facts as ours",
                lambda: same_facts.per_question(asking_facts.next(QUESTIONS)),
                durability=None,
            ),
        }


def check(
    ours: Sequence[lineage.InputVersion], names: Sequence[tuple[Any, ...]], facts: Sequence[tuple[Any, ...]]
) -> None:
    """Refuse to measure answers to different questions."""
    assert {(row.key, row.number) for row in ours} == set(names), "the plain query has other versions"
    assert [(row.key, row.number, row.depth, row.role) for row in ours] == [row[:4] for row in facts]


def ask(database: Database, run_id: UUID) -> Sequence[lineage.InputVersion]:
    """Ask what went into a run, as a notebook does."""
    return lineage.inputs(run_id, database=database, tenant_id="default")


def per_question(database: Database, runs: Sequence[UUID]) -> float:
    """Return the milliseconds that one of these questions takes."""
    began = perf_counter()
    for run_id in runs:
        ask(database, run_id)
    return (perf_counter() - began) / len(runs) * 1000


def fill(server: Postgres, num_inputs: int) -> Filled:
    """Make a database with about so many inputs, as one at rest has them: analysed, written to disk."""
    database = Database(server.make_database("inputs"))
    ensure_schema(database)
    chance = random.Random(4)
    upstreams = _graph(chance)
    keys = [f"refresh/d{node}" for node in range(len(upstreams))]
    declared = [
        registry.Declared(
            key=key,
            kind=DeploymentKind.REFRESH,
            resource=key.partition("/")[2],
            resource_kind=ResourceKind.DATASET,
            declaration_digest="declared",
            edges=[registry.DeclaredEdge(f"r{upstream}", keys[upstream]) for upstream in read],
        )
        for key, read in zip(keys, upstreams, strict=True)
    ]
    database.write(
        lambda connection: registry.register(connection, declared, tenant_id="default", project="default", now=_MADE_AT)
    )
    with database.read() as connection:
        rows = registry.deployments(connection, tenant_id="default")
    ids = {row.key: row.id for row in rows}
    deployments = [ids[key] for key in keys]
    generations = max(1, round(num_inputs / sum(map(len, upstreams))))
    conninfo = server.conninfo("inputs")
    runs = _copy(conninfo, deployments, upstreams, generations)
    chance.shuffle(runs)
    return Filled(database, conninfo, runs, generations * sum(map(len, upstreams)))


def _graph(chance: random.Random) -> list[list[int]]:
    """Return what each deployment reads: the first layer nothing."""
    upstreams: list[list[int]] = [[] for _ in range(WIDTH)]
    for layer in range(1, DEPTH + 1):
        above = range((layer - 1) * WIDTH, layer * WIDTH)
        for _ in range(WIDTH):
            read = set(chance.sample(above, chance.choice((2, 3))))
            if chance.random() < 0.25:
                read.add(chance.randrange(layer * WIDTH))
            upstreams.append(sorted(read))
    return upstreams


def _copy(
    conninfo: str, deployments: Sequence[UUID], upstreams: Sequence[Sequence[int]], generations: int
) -> list[UUID]:
    """Write the versions and what they read; return the runs of the last layer."""
    versions = [[new_id() for _ in deployments] for _ in range(generations)]
    runs = []
    with psycopg.connect(conninfo, autocommit=True) as connection:
        with connection.transaction():
            # What is written refers to what is there: it need not be looked up a million times.
            connection.execute("SET LOCAL session_replication_role = replica")
            columns = "id, deployment_id, partition, number, run_id, fence, digest, declaration_digest, created_at"
            with connection.cursor().copy(f"COPY version ({columns}) FROM STDIN") as copy:
                for number, generation in enumerate(versions, start=1):
                    for node, version_id in enumerate(generation):
                        run_id = new_id()
                        if node >= len(deployments) - WIDTH:
                            runs.append(run_id)
                        digest = f"{node}-{number}"
                        copy.write_row(
                            (version_id, deployments[node], "", number, run_id, number, digest, "declared", _MADE_AT)
                        )
            with connection.cursor().copy(
                "COPY version_input (version_id, role, upstream_id, input_version_id) FROM STDIN"
            ) as copy:
                for generation in versions:
                    for node, read in enumerate(upstreams):
                        for upstream in read:
                            copy.write_row(
                                (generation[node], f"r{upstream}", deployments[upstream], generation[upstream])
                            )
            connection.execute(
                "UPDATE deployment_state SET version_id = version.id, fence = version.fence FROM version"
                " WHERE version.deployment_id = deployment_state.deployment_id AND version.number = %s",
                (generations,),
            )
        connection.execute("VACUUM (ANALYZE)")
        connection.execute("CHECKPOINT")
    return runs


def work(num_inputs: int = INPUTS) -> Work:
    """Return the work for about so many stored inputs."""
    return Work(
        name="inputs_of_a_run",
        what=f"all versions that went into a run, through {DEPTH} layers, with {num_inputs:,} inputs stored",
        unit="ms",
        higher_is_better=False,
        prepare=partial(prepare, num_inputs),
        comparisons=(Comparison(Kind.RATIO, OURS, FLOOR, target=3.0), Comparison(Kind.RATIO, OURS, FACTS)),
        turns=3,
    )


WORK = work()
