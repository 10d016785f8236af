"""Our side of metric values: a run that a worker has claimed, whose body logs through `run.log`.

As in a real run: with its spool on the disk and its two threads, and the store that a flow's port reaches. Without the
flow's process, Prefect's server and the renewal of the lease. A run ends when the store has acknowledged each of its
values, which is part of what is timed; its table of metrics is written when it completes, which is not.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from time import perf_counter, perf_counter_ns

from freshline.flows.context import RunContext
from freshline.flows.identity import RunIdentity
from freshline.flows.lease import Lease
from freshline.runs import store
from freshline.runs.dispatcher import Dispatcher
from freshline.runs.points.reading import SeriesReader
from freshline.runs.points.spool import Spools
from freshline.runs.port import DirectPort
from freshline.runs.service import RunExecutionService
from freshline.storage.database import Database

from .lives import KEY, KIND, PARAMETERS, Lives

Body = Callable[[RunContext], None]


@dataclass(frozen=True)
class LoggedRuns:
    """The store, and the folder of its spools."""

    lives: Lives
    spools: Spools

    @classmethod
    def open(cls, database: Database, directory: Path) -> "LoggedRuns":
        """Migrate the store, register the deployment, and make the spools below the directory."""
        lives = Lives.open(database, directory)
        with database.read() as connection:
            return cls(lives, Spools(directory, store.store_id(connection)))

    def begin(self) -> RunContext:
        """Submit, dispatch and claim a run; return what its body would get."""
        database, gateway, objects = self.lives.database, self.lives.gateway, self.lives.objects
        RunExecutionService(database).submit(KEY, PARAMETERS)
        Dispatcher(database, gateway).pass_once()
        port = DirectPort(database, objects, gateway, spools=self.spools)
        claim = port.claim(gateway.begin(gateway.newest))
        assert claim.may_start, "the gate refused"
        identity = RunIdentity(
            id=claim.run.id,
            fence=claim.run.fence,
            deployment_id=claim.deployment.id,
            deployment=KEY,
            kind=KIND,
        )
        return RunContext(identity, port, Lease(lambda: None, interval_s=3600))

    def rate(self, body: Body, points: int) -> float:
        """Return how many values a second a body logs that logs so many, until the store has all of them.

        Raises:
            AssertionError: not all of them are readable then.
        """
        run = self.begin()
        began = perf_counter()
        body(run)
        run._sender.spool()
        is_sent = run._sender.send()
        took_s = perf_counter() - began
        assert is_sent, "the store did not take the values"
        found = SeriesReader(self.lives.database, self.lives.objects).series(run.id)
        assert found.num_rows == points, f"{found.num_rows:,} of {points:,} values are readable"
        self._end(run)
        return points / took_s

    def cost_us(self, values: int) -> float:
        """Return the median microseconds that a call of `run.log` with one value takes its caller."""
        run = self.begin()
        log, costs = run.log, []
        for step in range(values):
            value = step * 0.5
            began = perf_counter_ns()
            log(step, loss=value)
            costs.append(perf_counter_ns() - began)
        self._end(run)
        return median(costs) / 1000

    def _end(self, run: RunContext) -> None:
        run._port.complete(run.id, run._identity.fence, run.result(None))  # type: ignore[attr-defined]  # a RunPort
        run.published()
        run.close()


def wide(names: int, steps: int) -> Body:
    """Return a body that logs so many metrics in each of so many steps, one call a step."""
    values = {f"m{number}": number * 0.5 for number in range(names)}

    def body(run: RunContext) -> None:
        for step in range(steps):
            run.log(step, **values)

    return body


def one_by_one(steps: int) -> Body:
    """Return a body that logs one value a call."""

    def body(run: RunContext) -> None:
        for step in range(steps):
            run.log(step, loss=step * 0.5)

    return body
