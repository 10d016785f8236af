"""A source publishes other content, and everything downstream is stale with a cause at every hop; on Postgres.

One transaction: the states locked in id order, the version, the causes, the freshness. A database for each size and one
for the floor, all on one server that syncs to the disk. Between two rounds everything is put back as it was, which is
not timed.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from time import perf_counter
from uuid import UUID

import psycopg
from sqlalchemy.engine import Connection

from freshline.lineage import staleness, versions
from freshline.runs.migrate import ensure_schema
from freshline.storage.database import Database
from freshline.storage.ids import new_id

from . import durability, layered_graphs
from .comparisons import Comparison, Kind
from .floors.propagation import RawPropagations
from .harness import FLOOR, OURS, Setting, Subject, Subjects, Work
from .servers import Postgres, durable_postgres

SIZES = [10_000, 100_000]
"""Deployments, in rising order; the floor has the first number."""

_PUT_BACK = (
    "DELETE FROM cause",
    "UPDATE deployment_state SET freshness = 'ready' WHERE freshness = 'stale'",
    "UPDATE deployment_state SET version_id = version.id, fence = 1, next_number = 1 FROM version"
    " WHERE version.deployment_id = deployment_state.deployment_id AND version.number = 1"
    " AND deployment_state.next_number > 1",
    "DELETE FROM version WHERE number > 1",
)


def role(size: int) -> str:
    """Return the role of ours with so many deployments; that with fewest is called `ours`."""
    return f"at {size:,}"


@dataclass(frozen=True)
class Propagations:
    """Ours, in a store with a layered graph."""

    database: Database
    root: UUID

    def publish(self) -> float:
        """Publish other content, with all that follows; return the seconds that it took."""

        def work(connection: Connection) -> None:
            now = self.database.now(connection)
            affected = staleness.lock_affected(connection, [self.root])
            new = versions.NewVersion(
                deployment_id=self.root, run_id=new_id(), fence=2, digest="f" * 64, declaration_digest="declared"
            )
            versions.publish(connection, new, now=now)
            staleness.recompute(connection, affected, now=now)

        began = perf_counter()
        self.database.write(work)
        return perf_counter() - began


@contextmanager
def prepare(sizes: Sequence[int], setting: Setting) -> Iterator[Subjects]:
    """Start the server, and write the graphs."""
    with ExitStack() as exits:
        server = exits.enter_context(durable_postgres())
        subjects: dict[str, Subject] = {}
        for size in sizes:
            began = perf_counter()
            ours = build(server, f"graph_{size}", size)
            exits.callback(ours.database.dispose)
            setting.tell(f"propagation: {size:,} deployments written in {perf_counter() - began:.0f} s")
            subjects[OURS if size == sizes[0] else role(size)] = Subject(
                f"lock, publish, recompute; {size:,} deployments",
                partial(per_descendant, ours.publish, server.conninfo(f"graph_{size}")),
                durability.of_database(ours.database),
            )
        floor = build(server, "floor", sizes[0])
        floor.database.dispose()
        raw = RawPropagations(server.conninfo("floor"), floor.root)
        exits.callback(raw.close)
        subjects[FLOOR] = Subject(
            f"psycopg, the same locks and rows in one commit; {sizes[0]:,} deployments",
            partial(per_descendant, raw.publish, server.conninfo("floor")),
            durability.of_psycopg(raw.connection),
        )
        yield subjects


def build(server: Postgres, name: str, size: int) -> Propagations:
    """Make a database with a graph in which everything is ready."""
    database = Database(server.make_database(name))
    ensure_schema(database)
    layered_graphs.fill(database, server.conninfo(name), size)
    return Propagations(database, layered_graphs.ROOT)


def per_descendant(publish: Callable[[], float], conninfo: str) -> float:
    """Return the microseconds that a publication took for each that it made stale, and put everything back."""
    elapsed_s = publish()
    return elapsed_s / put_back(conninfo) * 1e6


def put_back(conninfo: str) -> int:
    """Make everything ready again, as a database at rest; return how many were stale."""
    with psycopg.connect(conninfo, autocommit=True) as connection:
        row = connection.execute("SELECT count(*) FROM deployment_state WHERE freshness = 'stale'").fetchone()
        stale = row[0] if row is not None else 0
        assert stale, "the publication made nothing stale"
        with connection.transaction():
            for statement in _PUT_BACK:
                connection.execute(statement)
        connection.execute("VACUUM (ANALYZE)")
        connection.execute("CHECKPOINT")
        return int(stale)


def work(sizes: Sequence[int] = SIZES) -> Work:
    """Return the work for these numbers of deployments, in rising order."""
    return Work(
        name="propagation",
        what="a source changes: for each deployment that it makes stale, with the causes",
        unit="µs",
        higher_is_better=False,
        prepare=partial(prepare, sizes),
        comparisons=(
            Comparison(Kind.RATIO, OURS, FLOOR, target=2.0),
            *(Comparison(Kind.RATIO, role(size), OURS, target=1.2) for size in sizes[1:]),
        ),
    )
