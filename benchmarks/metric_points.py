"""100,000 metric values logged in batches, until a Postgres that syncs to the disk has them: readable, each of them.

A thousand steps of a hundred metrics. Ours goes the way of a real run: memory, spool, store. The floor copies rows that
lie ready; the peer gets them in calls of a thousand, the most that it takes.
"""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from . import durability
from .comparisons import Comparison, Kind
from .environments import peer_process
from .floors.metric_points import CopiedPoints
from .harness import FLOOR, OURS, PEER, Setting, Subject, Subjects, Work
from .logged_runs import LoggedRuns, wide
from .servers import postgres_with_ours

NAMES = 100
"""Metrics in a step, which is one call of ours."""
STEPS = 1000


@contextmanager
def prepare(setting: Setting) -> Iterator[Subjects]:
    """Start the server, and open a database for each."""
    with ExitStack() as exits:
        server, database = exits.enter_context(postgres_with_ours())
        runs = LoggedRuns.open(database, setting.directory)
        server.make_database("floor")
        copied = CopiedPoints(server.conninfo("floor"))
        exits.callback(copied.close)
        subjects = {
            OURS: Subject(
                f"run.log with {NAMES} metrics, spooled, sent and acknowledged",
                lambda: runs.rate(wide(NAMES, STEPS), NAMES * STEPS),
                durability.of_database(database),
            ),
            FLOOR: Subject(
                "psycopg, COPY of rows that lie ready",
                lambda: copied.rate(NAMES, STEPS),
                durability.of_psycopg(copied.connection),
            ),
        }
        if setting.with_peers:
            peer = exits.enter_context(peer_process("mlflow", "metric_values", [server.mlflow_url()]))
            ask = f"batches {NAMES} {STEPS}"
            subjects[PEER] = Subject(f"{peer.name}, log_batch", lambda: peer.measure(ask), peer.durability)
        yield subjects


WORK = Work(
    name="metric_points",
    what=f"metric values logged in {STEPS:,} steps of {NAMES} metrics, until they are readable in the store",
    unit="values/s",
    higher_is_better=True,
    prepare=prepare,
    comparisons=(
        Comparison(Kind.RATIO, OURS, FLOOR, target=0.3),
        Comparison(Kind.RATIO, OURS, PEER, target=20.0),
    ),
)
