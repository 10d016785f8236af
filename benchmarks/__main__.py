"""`python -m benchmarks`: measure, show a table, keep a line per work.

Read from the environment: BENCH=name runs one work; PEERS=1 adds the peers; ROUNDS=n, 5 by default.
"""

import os
import platform
import sqlite3
import sys
import tempfile
from difflib import get_close_matches
from pathlib import Path

from . import run_life_sqlite
from .harness import Outcome, keep, measure, shown

WORKS = {work.name: work for work in (run_life_sqlite.WORK,)}
RESULTS = Path(__file__).parent / "results"


def main() -> int:
    """Measure what the environment asks for; return the exit code: 2 when it cannot be understood."""
    wanted = os.environ.get("BENCH") or ""
    if wanted and wanted not in WORKS:
        near = get_close_matches(wanted, WORKS, n=1)
        hint = f"did you mean {near[0]}?" if near else f"there are: {', '.join(WORKS)}"
        print(f"BENCH={wanted}: there is no such work; {hint}", file=sys.stderr)
        return 2
    rounds = os.environ.get("ROUNDS") or "5"
    if not rounds.isdecimal() or int(rounds) < 1:
        print(f"ROUNDS={rounds}: give a number of rounds, at least 1", file=sys.stderr)
        return 2
    with_peers = os.environ.get("PEERS", "0") not in ("", "0")
    print(f"Python {platform.python_version()}, SQLite {sqlite3.sqlite_version}, {os.cpu_count()} cores", flush=True)
    outcomes = []
    for work in [WORKS[wanted]] if wanted else WORKS.values():
        with tempfile.TemporaryDirectory(prefix="freshline-bench-", ignore_cleanup_errors=True) as directory:
            outcome = measure(
                work,
                Path(directory),
                rounds=int(rounds),
                with_peers=with_peers,
                tell=lambda line: print(line, flush=True),
            )
        keep(outcome, RESULTS)
        outcomes.append(outcome)
    show(outcomes)
    return 0


def show(outcomes: list[Outcome]) -> None:
    """Print medians with min-max, the ratios and which way is better."""
    heads = ("work", "unit", "better", "ours", "floor", "ours/floor", "peer", "ours/peer", "rounds")
    rows = [
        (
            outcome.work.name,
            outcome.work.unit,
            "higher" if outcome.work.higher_is_better else "lower",
            str(outcome.measured["ours"]),
            str(outcome.measured["floor"]),
            _ratio(outcome, "floor"),
            str(outcome.measured.get("peer", "-")),
            _ratio(outcome, "peer"),
            str(outcome.rounds),
        )
        for outcome in outcomes
    ]
    widths = [max(map(len, column)) for column in zip(heads, *rows, strict=True)]
    print("\nmedian [min-max] of the rounds; ratios of medians")
    for row in (heads, *rows):
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
    for outcome in outcomes:
        print(f"\n{outcome.work.name}: {outcome.work.what}")
        for role, subject in vars(outcome.subjects).items():
            if subject is not None:
                print(f"  {role}: {subject.name}; {subject.durability}")


def _ratio(outcome: Outcome, role: str) -> str:
    ratio = outcome.ratio(role)
    return "-" if ratio is None else f"{shown(ratio)}x"


if __name__ == "__main__":
    sys.exit(main())
