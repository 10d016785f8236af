"""A page of 50 runs out of many, each with ten metrics: the newest, those of a metric in its order, and the hundredth.

On SQLite and on Postgres, a store for each number of runs; the rounds go through all of them. What is asked is the same
on both sides, and the answers are compared before anything is measured. Each question is asked for other values, so
that no answer lies ready.
"""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from itertools import count
from time import perf_counter
from typing import Any
from uuid import UUID

from freshline.runs.migrate import ensure_schema
from freshline.runs.searching.searches import Page, Searches
from freshline.storage.database import Database

from . import big_store
from .big_rows import Size
from .comparisons import Comparison, Kind
from .floors import search as floors
from .harness import FLOOR, OURS, Setting, Subject, Subjects, Work
from .servers import durable_postgres

SIZES = (100_000,)
"""Stored runs; with several, in rising order, growth is measured as well."""
QUESTIONS = 20
"""In a round of each."""
NUMBER = 100
"""Of the later page."""

_METRIC = "sharpe_ratio"
ORDER = f"-{_METRIC}"
_BOUNDS = 10


@dataclass
class Asked:
    """One store, asked by both sides."""

    searches: Searches
    raw: floors.RawSearch
    places: Mapping[float, tuple[str | None, tuple[Any, ...]]]
    """Bound of the metric -> where the later page begins: the cursor, and the value and id before it."""

    def bound(self, number: int) -> float:
        """Return one of the bounds that are asked for."""
        return list(self.places)[number % len(self.places)]

    def newest(self, _number: int) -> Page:
        """Ask for the newest runs."""
        return self.searches.search().page()

    def of_metric(self, number: int) -> Page:
        """Ask for the runs with the highest metric."""
        return self.searches.search(of_metric(self.bound(number)), order_by=ORDER).page()

    def later(self, number: int) -> Page:
        """Ask for the hundredth page of these."""
        bound = self.bound(number)
        return self.searches.search(of_metric(bound), order_by=ORDER).page(self.places[bound][0])

    def raw_newest(self, _number: int) -> list[Any]:
        """Ask for the newest runs in SQL."""
        return self.raw.page(floors.NEWEST)

    def raw_of_metric(self, number: int) -> list[Any]:
        """Ask for the runs with the highest metric in SQL."""
        return self.raw.page(floors.METRIC, (_METRIC, self.bound(number)))

    def raw_later(self, number: int) -> list[Any]:
        """Ask for the hundredth page of these in SQL."""
        bound = self.bound(number)
        return self.raw.page(floors.BEHIND, (_METRIC, bound, *self.places[bound][1]))

    def pairs(self) -> dict[str, tuple[Callable[[int], Page], Callable[[int], list[Any]]]]:
        """Return what is asked, by both sides."""
        return {
            "newest": (self.newest, self.raw_newest),
            "metric": (self.of_metric, self.raw_of_metric),
            "later": (self.later, self.raw_later),
        }


def of_metric(bound: float) -> str:
    """Return the search for the runs whose metric is above a bound."""
    return f"{_METRIC} > {bound}"


def role(question: str, size: int, sizes: Sequence[int]) -> str:
    """Return the role of ours for a question; the newest runs of the largest store are called `ours`."""
    if size != sizes[-1]:
        return f"{question} at {size:,}"
    return OURS if question == "newest" else question


def floor_of(question: str) -> str:
    """Return the role of the floor of a question, which the largest store has."""
    return FLOOR if question == "newest" else f"{FLOOR} of {question}"


@contextmanager
def prepare(dialect: str, sizes: Sequence[int], setting: Setting) -> Iterator[Subjects]:
    """Fill a store for each size, and compare the answers."""
    with ExitStack() as exits:
        server = exits.enter_context(durable_postgres()) if dialect == "postgres" else None
        subjects: dict[str, Subject] = {}
        for size in sizes:
            path = str(setting.directory / f"{size}.db")
            name = f"searched_{size}"
            database = Database(f"sqlite:///{path}" if server is None else server.make_database(name))
            exits.callback(database.dispose)
            ensure_schema(database)
            began = perf_counter()
            fill(database, size)
            setting.tell(f"search_{dialect}: {size:,} runs stored in {perf_counter() - began:.0f} s")
            raw = floors.RawSearch(database.dialect, path if server is None else server.conninfo(name))
            exits.callback(raw.close)
            asked = asked_of(database, raw)
            check(asked)
            for question, (ours, floor) in asked.pairs().items():
                subjects[role(question, size, sizes)] = Subject(
                    f"runs.search, {question}, {size:,} runs stored", partial(per_question, ours, count()), None
                )
                if size == sizes[-1]:
                    subjects[floor_of(question)] = Subject(
                        f"hand-written SQL, {question}, {size:,} runs stored",
                        partial(per_question, floor, count()),
                        None,
                    )
        yield subjects


def fill(database: Database, size: int) -> None:
    """Fill a migrated store with so many runs, and leave it as one at rest."""
    big_store.fill(database, Size(runs=size, deployments=min(2_000, size // 10), inputs_every=10, events_every=100))
    with database.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        if database.dialect == "sqlite":
            # Nobody lets SQLite look at what a store has: it is to plan as it does there.
            connection.exec_driver_sql("DROP TABLE sqlite_stat1")
            connection.exec_driver_sql("PRAGMA wal_checkpoint(TRUNCATE)")
        else:
            connection.exec_driver_sql("VACUUM (ANALYZE)")
            connection.exec_driver_sql("CHECKPOINT")
    database.dispose()


def asked_of(database: Database, raw: floors.RawSearch, *, bounds: int = _BOUNDS) -> Asked:
    """Return a store ready to be asked for so many bounds: the later pages are found once."""
    searches = Searches(database)
    places: dict[float, tuple[str | None, tuple[Any, ...]]] = {}
    for number in range(bounds):
        bound = round(0.5 + number / (10 * bounds), 4)
        search = searches.search(of_metric(bound), order_by=ORDER)
        page = search.page()
        for _ in range(NUMBER - 2):
            page = search.page(page.next_cursor)
        last = page.items[-1]
        places[bound] = (page.next_cursor, (last.metrics[_METRIC], last.id))
    return Asked(searches, raw, places)


def check(asked: Asked) -> None:
    """Refuse to measure answers to different questions."""
    for question, (ours, floor) in asked.pairs().items():
        mine = [(one.id, one.deployment, one.version, one.metrics) for one in ours(1).items]
        theirs = floor(1)
        assert len(mine) == 50, f"{question}: a page of {len(mine)}"
        assert [_plain(one) for one in mine] == [_plain(one) for one in theirs], question


def per_question(ask: Callable[[int], object], numbers: Iterator[int]) -> float:
    """Return the milliseconds that one of these questions takes."""
    began = perf_counter()
    for _ in range(QUESTIONS):
        ask(next(numbers))
    return (perf_counter() - began) / QUESTIONS * 1000


def _plain(one: tuple[UUID, str, int | None, Mapping[str, float | None]]) -> tuple[Any, ...]:
    """Return the metrics with NaN as the database has it."""
    *facts, metrics = one
    return *facts, {name: None if value is None or math.isnan(value) else value for name, value in metrics.items()}


def works(sizes: Sequence[int] = SIZES) -> dict[str, Work]:
    """Return the works, by name: with several sizes, growth is compared too."""
    questions = ("newest", "metric", "later")
    comparisons = [Comparison(Kind.RATIO, role(one, sizes[-1], sizes), floor_of(one), target=3.0) for one in questions]
    comparisons += [
        Comparison(Kind.RATIO, role(one, sizes[-1], sizes), role(one, size, sizes), target=1.5)
        for size in sizes[:-1]
        for one in questions
    ]
    return {
        f"search_{dialect}": Work(
            name=f"search_{dialect}",
            what=f"a page of 50 runs with ten metrics each, out of {sizes[-1]:,}",
            unit="ms",
            higher_is_better=False,
            prepare=partial(prepare, dialect, sizes),
            comparisons=comparisons,
        )
        for dialect in ("sqlite", "postgres")
    }
