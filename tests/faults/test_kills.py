"""Processes are killed at every step, and Prefect loses its answers: nothing is lost, doubled or wrong.

A failure prints its seed; `FRESHLINE_KILL_SEED=<seed> pytest …` replays exactly that history.
"""

import os
from collections import Counter
from contextlib import closing
from itertools import count

import pytest

from tests.databases import new_database_url
from tests.faults.chance import Chance
from tests.faults.harness import REST
from tests.faults.points import POINTS

_SEED = os.environ.get("FRESHLINE_KILL_SEED")


def play(url, seed, kills, **options):
    with closing(Chance(url, seed, **options)) as harness:
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


@pytest.fixture(params=["sqlite", "postgres"])
def new_store(request, tmp_path):
    """A function that makes another store on the same database, migrated and empty, and returns its URL."""
    numbers = count(1)

    def make():
        directory = tmp_path / str(next(numbers))
        directory.mkdir()
        return new_database_url(request, directory)

    return make


def test_twenty_kills_leave_exactly_one_right_record_per_trigger(request, database_url):
    harness, faults = play(database_url, int(_SEED or 20), 20)
    assert not faults, report(request, harness, faults)
    assert harness.killed_at.total() == 20
    assert harness.prefect.lost.total() > 0


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_five_hundred_kills_at_every_point_leave_exactly_one_right_record_per_trigger(request, new_store):
    killed_at = Counter()
    # Five seeds make five hundred kills; more, while a point was not among them: some are rarely reached.
    for seed in [int(_SEED)] if _SEED else range(500, 530):
        if killed_at.total() >= 500 and killed_at.keys() == POINTS:
            break
        harness, faults = play(new_store(), seed, 100)
        assert not faults, report(request, harness, faults)
        assert harness.killed_at.total() == 100
        killed_at += harness.killed_at
    assert _SEED or killed_at.keys() == POINTS


def test_same_seed_gives_the_same_history_again(new_store):
    first, second = (play(new_store(), 7, 6)[0].history for _ in range(2))
    assert first == second
