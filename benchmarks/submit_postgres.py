"""`submit` alone, one client, on a Postgres that syncs to the disk, with few, many and very many runs stored before.

A database for each number of stored runs, on one server; the rounds go through all of them, so that a ratio between
two is not one between two moments. Stored runs have ended; submitted ones stay pending, equally many in each. The floor
shares the largest database with ours: the same tables at the same size.
"""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from time import perf_counter

from freshline.runs.service import RunExecutionService
from freshline.storage.database import Database

from . import durability, stored_runs
from .comparisons import Comparison, Kind
from .floors.submit import RawSubmissions
from .harness import FLOOR, OURS, Setting, Subject, Subjects, Work
from .lives import KEY, PARAMETERS, Lives
from .servers import Postgres, durable_postgres

SIZES = [1_000, 100_000, 1_000_000]
"""Stored runs, in rising order."""
SUBMISSIONS = 200
"""In a round of each."""


def role(size: int) -> str:
    """Return the role of ours with so many stored runs; that with most of them is called `ours`."""
    return f"at {size:,}"


@contextmanager
def prepare(sizes: Sequence[int], setting: Setting) -> Iterator[Subjects]:
    """Start the server, and fill a database for each size."""
    with ExitStack() as exits:
        server = exits.enter_context(durable_postgres())
        subjects: dict[str, Subject] = {}
        for size in sizes:
            began = perf_counter()
            lives = fill_database(server, setting.directory, size)
            exits.callback(lives.database.dispose)
            found = stored_runs.count(server.conninfo(f"stored_{size}"))
            setting.tell(f"submit_postgres: {found:,} runs stored in {perf_counter() - began:.0f} s")
            subjects[OURS if size == sizes[-1] else role(size)] = Subject(
                f"service.submit, {found:,} runs stored",
                partial(lives.submit_rate, SUBMISSIONS),
                durability.of_database(lives.database),
            )
        example = RunExecutionService(lives.database).submit(KEY, PARAMETERS).id
        raw = RawSubmissions(server.conninfo(f"stored_{sizes[-1]}"), example, stored_runs.TABLES)
        exits.callback(raw.close)
        subjects[FLOOR] = Subject(
            f"psycopg, the same rows in one commit, {sizes[-1]:,} runs stored",
            lambda: raw.rate(SUBMISSIONS),
            durability.of_psycopg(raw.connection),
        )
        yield subjects


def fill_database(server: Postgres, directory: Path, size: int) -> Lives:
    """Make the database `stored_<size>`, lead one run through its life there, and copy it until there are `size`."""
    name = f"stored_{size}"
    lives = Lives.open(Database(server.make_database(name)), directory / name)
    template = lives.live(1)
    stored_runs.fill(server.conninfo(name), template, copies=size - 1)
    return lives


def work(sizes: Sequence[int] = SIZES) -> Work:
    """Return the work for these numbers of stored runs, at least two, in rising order."""
    return Work(
        name="submit_postgres",
        what=f"a submission of a run with 10 parameters, with {', '.join(f'{size:,}' for size in sizes)} runs stored",
        unit="runs/s",
        higher_is_better=True,
        prepare=partial(prepare, sizes),
        comparisons=(
            *(Comparison(Kind.VALUE, role(size), target=200.0) for size in sizes[:-1]),
            Comparison(Kind.VALUE, OURS, target=200.0),
            Comparison(Kind.RATIO, OURS, role(sizes[0]), target=0.8),
            Comparison(Kind.RATIO, OURS, FLOOR),
        ),
    )
