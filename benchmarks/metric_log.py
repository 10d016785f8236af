"""Metric values logged one by one: how many a second reach a Postgres that syncs to the disk, and what a call costs.

The first work counts until the store has acknowledged all of them. The second is what the body waits for: the median
of its calls, each of which is timed. What a killed process loses is stated in the documentation, and shown by a test.
"""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial

from . import durability
from .comparisons import Comparison, Kind
from .environments import peer_process
from .harness import OURS, PEER, Setting, Subject, Subjects, Work
from .logged_runs import LoggedRuns, one_by_one
from .servers import postgres_with_ours

VALUES = 50_000
"""In a round of ours."""
PEER_VALUES = 300
"""In a round of the peer, which takes milliseconds for each."""


@contextmanager
def prepare(measure: Callable[[LoggedRuns], float], ask: str, setting: Setting) -> Iterator[Subjects]:
    """Start the server, and open a database for each."""
    with ExitStack() as exits:
        server, database = exits.enter_context(postgres_with_ours())
        runs = LoggedRuns.open(database, setting.directory)
        subjects = {OURS: Subject("run.log, a value a call", lambda: measure(runs), durability.of_database(database))}
        if setting.with_peers:
            peer = exits.enter_context(peer_process("mlflow", "metric_values", [server.mlflow_url()]))
            subjects[PEER] = Subject(
                f"{peer.name}, log_metric", lambda: peer.measure(f"{ask} {PEER_VALUES}"), peer.durability
            )
        yield subjects


def _rate(runs: LoggedRuns) -> float:
    return runs.rate(one_by_one(VALUES), VALUES)


def _cost(runs: LoggedRuns) -> float:
    return runs.cost_us(VALUES)


WORK = Work(
    name="metric_log",
    what="metric values logged one by one, until they are readable in the store",
    unit="values/s",
    higher_is_better=True,
    prepare=partial(prepare, _rate, "one_by_one"),
    comparisons=(Comparison(Kind.RATIO, OURS, PEER, target=50.0),),
)
COST = Work(
    name="metric_log_cost",
    what="what a call that logs one value costs its caller: the median of all calls",
    unit="us",
    higher_is_better=False,
    prepare=partial(prepare, _cost, "cost"),
    comparisons=(Comparison(Kind.VALUE, OURS, target=10.0), Comparison(Kind.RATIO, OURS, PEER)),
)
