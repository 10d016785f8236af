"""The whole life of a run with 10 parameters and 10 metrics, one after another, on a Postgres that syncs to the disk.

One server on loopback with Postgres' own defaults, a database for each subject; each says what its own connection has.
What ours does is in `lives`. It keeps its plans, as the floor does, and is measured with those of a store that is in
use: Postgres has looked at the tables once before, which it does by itself within a minute.
"""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from . import durability
from .comparisons import Comparison, Kind
from .environments import peer_process
from .floors.run_life import PostgresRuns
from .harness import FLOOR, OURS, PEER, Setting, Subject, Subjects, Work
from .lives import Lives
from .servers import postgres_with_ours

RUNS = 50
"""Lives in a round of ours and of the peer."""
FLOOR_RUNS = 200
"""The floor is faster: a round of it should take as long as a clock can tell."""


@contextmanager
def prepare(setting: Setting) -> Iterator[Subjects]:
    """Start the server, and open a database for each."""
    with ExitStack() as exits:
        server, database = exits.enter_context(postgres_with_ours())
        lives = Lives.open(database, setting.directory)
        server.make_database("floor")
        raw = PostgresRuns(server.conninfo("floor"))
        exits.callback(raw.close)
        lives.live(RUNS)
        raw.rate(RUNS)
        server.analyze("ours")
        server.analyze("floor")
        subjects = {
            OURS: Subject(
                "submit, dispatch, claim, metrics, complete",
                lambda: lives.rate(RUNS),
                durability.of_database(database),
            ),
            FLOOR: Subject(
                "psycopg, five commits", lambda: raw.rate(FLOOR_RUNS), durability.of_psycopg(raw.connection)
            ),
        }
        if setting.with_peers:
            peer = exits.enter_context(peer_process("mlflow", "run_life", [server.mlflow_url(), str(RUNS)]))
            subjects[PEER] = Subject(peer.name, peer.measure, peer.durability)
        yield subjects


WORK = Work(
    name="run_life_postgres",
    what="a run's life: submitted, started, 10 parameters, 10 metrics, completed",
    unit="runs/s",
    higher_is_better=True,
    prepare=prepare,
    comparisons=(
        Comparison(Kind.RATIO, OURS, FLOOR, target=0.6),
        Comparison(Kind.RATIO, OURS, PEER, target=5.0),
    ),
)
