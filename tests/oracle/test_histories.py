"""After every step of any history the store says what the oracle says, on both databases.

A failure prints its seed; `FRESHLINE_ORACLE_SEED=<seed> pytest …` plays exactly that history again.
"""

import os
from collections import Counter

import pytest

from freshline.lineage.models import CauseKind, Freshness
from freshline.storage.faults import Guard, switched_off
from tests.faults.example import Clock
from tests.oracle.histories import History, history_of, played, shortened
from tests.oracle.steps import Step, open_store

EVERYTHING = {*Freshness, *CauseKind, "completed", "superseded"}
"""What many histories together must have come to: otherwise they say little."""
_SEED = os.environ.get("FRESHLINE_ORACLE_SEED")


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def database(database_url, clock):
    """One store for all histories: each begins by emptying it."""
    opened = open_store(database_url, clock)
    yield opened
    opened.dispose()


ENOUGH = 100
"""So many histories meet every cause, every freshness and every end."""


def play_all(request, database, clock, seeds):
    seen = Counter()
    for seed in [int(_SEED)] if _SEED else seeds:
        player, complaint = played(database, clock, history_of(seed))
        seen += player.seen
        if complaint:
            shortest = shortened(database, clock, history_of(seed))
            player, shown = played(database, clock, shortest)
            replay = f"FRESHLINE_ORACLE_SEED={seed} python -m pytest '{request.node.nodeid}'"
            told = "\n".join(player.told)
            pytest.fail(f"seed {seed}: {replay}\n{complaint}\nThe shortest history that fails:\n{told}\n{shown}")
    assert _SEED or len(seeds) < ENOUGH or seen.keys() == EVERYTHING


@pytest.mark.timeout(600)
def test_histories_agree_with_the_oracle_after_every_step(request, database, clock):
    # Postgres takes longer, and has the two thousand as well.
    play_all(request, database, clock, range(ENOUGH if database.dialect == "sqlite" else ENOUGH // 4))


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("first", range(1000, 3000, 200))
def test_two_thousand_histories_agree_with_the_oracle_after_every_step(request, database, clock, first):
    # In parts, so that what has been played counts when the rest is not.
    play_all(request, database, clock, range(first, first + 200))


def test_same_seed_gives_the_same_history_again(database, clock):
    first, second = (played(database, clock, history_of(7))[0].told for _ in range(2))
    assert len(first) == 50
    assert first == second


def test_history_that_fails_is_shortened_to_the_steps_that_matter(database, clock):
    late = Step("publish_earlier", 0, 0, c=7)
    matter = (Step("publish", 0, c=7), Step("publish", 1, c=7), Step("publish", 0, c=7), late)
    history = History(((), (0,), (1,)), (*(Step("fail", 2), Step("expire")) * 4, *matter, Step("fail", 1)))
    with switched_off(Guard.CLEARING):
        shortest = shortened(database, clock, history)
        complaint = played(database, clock, shortest)[1]
    assert shortest.steps == matter
    assert "has no reason" in complaint
