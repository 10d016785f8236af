"""Random histories: made from a seed, played on a store, and shortened when the oracle disagrees."""

import random
from collections.abc import Sequence
from dataclasses import dataclass

from freshline.storage.database import Database
from tests.faults.example import Clock
from tests.oracle.player import MOST_READS, Player
from tests.oracle.steps import Disagreement, Step

STEPS = 50
_WEIGHTS = {
    "publish": 10,
    "publish_equal": 7,
    "publish_earlier": 7,
    "claim": 12,
    "complete": 12,
    "append": 5,
    "fail": 3,
    "retry": 3,
    "ask_gate": 4,
    "withdraw": 4,
    "take_back": 2,
    "expire": 5,
    "add_edge": 4,
    "remove_edge": 3,
    "change_declaration": 3,
    "change_policy": 2,
    "retire": 2,
    "restore": 2,
    "register_again": 1,
}
"""How often each act is among the steps."""
_MOST = 2**16


@dataclass(frozen=True)
class History:
    """What happens to a graph of a few deployments."""

    graph: tuple[tuple[int, ...], ...]
    """For each deployment the numbers of those that it reads at first."""
    steps: tuple[Step, ...]


def history_of(seed: int, *, steps: int = STEPS) -> History:
    """Return the history of a seed."""
    chance = random.Random(seed)
    reads = [chance.sample(range(at), chance.randint(0, min(at, MOST_READS))) for at in range(chance.randint(3, 12))]
    acts = chance.choices(list(_WEIGHTS), list(_WEIGHTS.values()), k=steps)
    numbers = [[chance.randrange(_MOST) for _ in range(4)] for _ in acts]
    return History(tuple(map(tuple, reads)), tuple(Step(act, *four) for act, four in zip(acts, numbers, strict=True)))


def played(database: Database, clock: Clock, history: History) -> tuple[Player, str]:
    """Play a history; return the player, and what the oracle or the program complained of; empty when nothing was."""
    player = Player(database, clock, history.graph)
    for step in history.steps:
        try:
            player.play(step)
        except Disagreement as error:
            return player, str(error)
        except Exception as error:
            return player, f"{type(error).__name__}: {error}"
    return player, "\n".join(player.misrecorded())


def shortened(database: Database, clock: Clock, history: History, *, tries: int = 200) -> History:
    """Leave out steps of a history that fails, as long as it fails; every part of a history is a history."""
    steps: Sequence[Step] = history.steps
    size = max(len(steps) // 2, 1)
    while tries:
        before = steps
        for start in range(len(steps) - size, -1, -size):
            shorter = History(history.graph, (*steps[:start], *steps[start + size :]))
            tries -= 1
            if tries and played(database, clock, shorter)[1]:
                steps = shorter.steps
        if size == 1 and steps == before:
            break
        size = max(size // 2, 1)
    return History(history.graph, tuple(steps))
