"""The main job: the shipped chain on real prices, twice, with a month of new prices in between.

What happens and in which order; what is printed is the command line's business.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from uuid import UUID

from ..lineage.reasons import Explanation
from ..storage.errors import FreshlineError
from ..storage.ids import show_run_id
from ..storage.words import OnStale
from .embedded import Embedded
from .models import Run
from .queries import RunReport
from .status import RunStatus

CATALOGUE = Path(__file__).parent.parent / "prefect.yaml"
"""The catalogue that ships with the package."""

FIRST_MONTH_ENDS = date(2022, 11, 30)
SECOND_MONTH_ENDS = date(2022, 12, 28)
"""The bundled prices end here."""

BOOK = "backtest/book"
PRICES = "refresh/prices"
ALSO = ("preview/momentum-study", "backtest/momentum-ls", "monitoring/alpha")
"""What has nothing downstream: submitted when the book is done."""

_TIMEOUT_S = 900.0

Watch = Callable[[str, Sequence[UUID]], None]
"""Called with a title and the runs to wait for; returns when they have ended."""


@dataclass(frozen=True)
class FirstPass:
    """After the first pass: everything ran once."""

    book: RunReport
    runs: list[tuple[str, Run]]
    """(deployment, run), oldest first."""


@dataclass(frozen=True)
class SecondPass:
    """After new prices arrived and the book ran again."""

    prices: RunReport
    became_stale: list[Explanation]
    """After the prices were refreshed, before the book ran again."""
    book: RunReport
    runs: list[tuple[str, Run]]
    """(deployment, run) of the second pass, oldest first."""


@dataclass(frozen=True)
class Demo:
    """The scenario on a stack that is up and has the catalogue deployed."""

    embedded: Embedded
    watch: Watch | None = None

    def first_pass(self) -> FirstPass:
        """Backtest the book with everything that it needs, then what stands beside it.

        Raises:
            FreshlineError: a run did not complete.
        """
        book = self._submit(BOOK, FIRST_MONTH_ENDS)
        self._wait("The book, and everything upstream of it", [book])
        also = [self._submit(key, FIRST_MONTH_ENDS) for key in ALSO]
        self._wait("The study, a plain long-short, and the monitoring", also)
        return FirstPass(self.embedded.queries.report(book), self._runs())

    def second_pass(self) -> SecondPass:
        """Let a month of prices arrive, see what became stale, and backtest the book again.

        Raises:
            FreshlineError: a run did not complete.
        """
        queries = self.embedded.queries
        before = {run.id for _, run in self._runs()}
        prices = self._submit(PRICES, SECOND_MONTH_ENDS)
        self._wait("A month of new prices", [prices])
        stale = [queries.explain(row.key) for row in queries.status() if row.freshness == "stale"]
        book = self._submit(BOOK, SECOND_MONTH_ENDS)
        self._wait("The book again, with what became stale upstream of it", [book])
        again = [(key, run) for key, run in self._runs() if run.id not in before]
        return SecondPass(queries.report(prices), stale, queries.report(book), again)

    def _submit(self, deployment: str, data_as_of: date) -> UUID:
        run = self.embedded.service.submit(deployment, on_stale=OnStale.REFRESH, data_as_of=data_as_of, actor="demo")
        return run.id

    def _wait(self, title: str, run_ids: Sequence[UUID]) -> None:
        if self.watch is not None:
            self.watch(title, run_ids)
        for run_id in run_ids:
            run = self.embedded.queries.wait(run_id, timeout_s=_TIMEOUT_S)
            if run.status != RunStatus.COMPLETED:
                raise FreshlineError(
                    f"{show_run_id(run.id)} {run.status} ({run.stop_reason}): {run.error_message}; "
                    f"logs are in {self.embedded.directory / 'logs'}"
                )

    def _runs(self) -> list[tuple[str, Run]]:
        return list(reversed(self.embedded.queries.runs(limit=200)))
