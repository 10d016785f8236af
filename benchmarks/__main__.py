"""`python -m benchmarks`: measure, show a table, keep a line per work.

Read from the environment: BENCH=name runs one work; PEERS=1 adds the peers; ROUNDS=n instead of the work's own number;
STORED=n,m,… instead of the numbers of stored runs that `submit_postgres` and `search` fill, and `rest` the last of.
"""

import os
import platform
import sqlite3
import sys
import tempfile
from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path

from . import (
    claim,
    flow_overhead,
    inputs_of_a_run,
    metric_log,
    metric_points,
    page_graph,
    propagation,
    rest,
    run_life_postgres,
    run_life_sqlite,
    search,
    submit_postgres,
    tables,
)
from .harness import Work, keep, measure
from .report import report

RESULTS = Path(__file__).parent / "results"


def main() -> int:
    """Measure what the environment asks for; return the exit code: 2 when it cannot be understood."""
    try:
        works, rounds = asked(os.environ)
    except ValueError as error:
        print(error, file=sys.stderr)
        return 2
    with_peers = os.environ.get("PEERS", "0") not in ("", "0")
    print(f"Python {platform.python_version()}, SQLite {sqlite3.sqlite_version}, {os.cpu_count()} cores", flush=True)
    outcomes = []
    for work in works:
        with tempfile.TemporaryDirectory(prefix="freshline-bench-", ignore_cleanup_errors=True) as directory:
            outcome = measure(work, Path(directory), tell=tell, rounds=rounds, with_peers=with_peers)
        keep(outcome, RESULTS)
        outcomes.append(outcome)
    tell("")
    for line in report(outcomes):
        tell(line)
    return 0


def asked(environment: Mapping[str, str]) -> tuple[list[Work], int | None]:
    """Return the works that are asked for, and the number of rounds if one is.

    Raises:
        ValueError: a variable cannot be understood; the message is one line.
    """
    stored = submit_postgres.SIZES
    searched: Sequence[int] = search.SIZES
    if environment.get("STORED"):
        stored = _numbers("STORED", environment["STORED"].split(","))
        if len(stored) < 2 or sorted(set(stored)) != stored:
            raise ValueError(f"STORED={environment['STORED']}: give at least two numbers, in rising order")
        searched = stored
    rounds = None
    if environment.get("ROUNDS"):
        (rounds,) = _numbers("ROUNDS", [environment["ROUNDS"]])
    works = {
        work.name: work
        for work in (
            run_life_sqlite.WORK,
            run_life_postgres.WORK,
            submit_postgres.work(stored),
            claim.WORK,
            flow_overhead.WORK,
            inputs_of_a_run.WORK,
            propagation.work(),
            *tables.works().values(),
            *search.works(searched).values(),
            *rest.works(searched[-1]).values(),
            metric_points.WORK,
            metric_log.WORK,
            metric_log.COST,
            page_graph.WORK,
        )
    }
    wanted = environment.get("BENCH") or ""
    if wanted and wanted not in works:
        near = get_close_matches(wanted, works, n=1)
        hint = f"did you mean {near[0]}?" if near else f"there are: {', '.join(works)}"
        raise ValueError(f"BENCH={wanted}: there is no such work; {hint}")
    return ([works[wanted]] if wanted else list(works.values())), rounds


def tell(line: str) -> None:
    """Print a line at once: a work may take minutes."""
    print(line, flush=True)


def _numbers(name: str, written: list[str]) -> list[int]:
    if not all(part.strip().isdecimal() and int(part) >= 1 for part in written):
        raise ValueError(f"{name}={','.join(written)}: give a number, at least 1")
    return [int(part) for part in written]


if __name__ == "__main__":
    sys.exit(main())
