"""Processes are killed at every step, and Prefect loses its answers: nothing is lost, doubled or wrong.

A failure prints its seed; `FRESHLINE_KILL_SEED=<seed> pytest …` replays exactly that history.
"""

import os
from contextlib import closing

import pytest

from tests.faults.harness import REST, Harness

_SEED = os.environ.get("FRESHLINE_KILL_SEED")


def play(url, seed, kills, **options):
    with closing(Harness(url, seed, **options)) as harness:
        harness.play(kills)
        return harness, harness.faults()


def report(request, harness, faults):
    """What a person needs who wants to see it again."""
    return "\n".join(
        [
            f"seed {harness.seed}: FRESHLINE_KILL_SEED={harness.seed} python -m pytest '{request.node.nodeid}'",
            *faults,
            *harness.history[: harness.history.index(REST)][-80:],
            REST,
            *harness.history[-8:],
        ]
    )


def test_twenty_kills_leave_exactly_one_right_record_per_trigger(request, database_url):
    harness, faults = play(database_url, int(_SEED or 20), 20)
    assert not faults, report(request, harness, faults)
    assert sum(harness.killed_at.values()) == 20
    assert sum(harness.prefect.lost.values()) > 0


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("part", range(5))
def test_five_hundred_kills_leave_exactly_one_right_record_per_trigger(request, database_url, part):
    harness, faults = play(database_url, int(_SEED or 500 + part), 100)
    assert not faults, report(request, harness, faults)
    assert sum(harness.killed_at.values()) == 100


def test_same_seed_gives_the_same_history_again(sqlite_template, tmp_path):
    histories = []
    for name in ("one", "two"):
        path = tmp_path / f"{name}.db"
        path.write_bytes(sqlite_template.read_bytes())
        histories.append(play(f"sqlite:///{path}", 7, 10)[0].history)
    assert histories[0] == histories[1]
