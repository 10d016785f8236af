"""Metric values through any sequence of outages, lost replies and ends: each is stored once, in order."""

import random
from pathlib import Path

import pytest

from tests.unit.runs.test_point_sending import Attempt


def lead(attempt: Attempt, chance: random.Random) -> list[float]:
    """Do what comes to mind, and end somehow; return what must be readable."""
    logged: list[float] = []
    spooled = 0
    for _ in range(chance.randint(1, 25)):
        match chance.randrange(4):
            case 0 | 1:
                new = [float(len(logged) + number) for number in range(chance.randint(1, 4))]
                attempt.log(*new)
                logged += new
            case 2:
                attempt.sender.spool()
                spooled = len(logged)
            case 3:
                attempt.line.is_cut, attempt.line.loses_replies = chance.random() < 0.4, chance.random() < 0.4
                attempt.sender.send()
                attempt.now_s += chance.choice([0, 120])
    attempt.line.loses_replies = False
    attempt.line.is_cut = chance.random() < 0.3
    match chance.randrange(4):
        case 0:
            attempt.line.is_cut = False
            attempt.complete()
            attempt.sender.discard()
        case 1:
            attempt.line.is_cut = False
            attempt.complete()
            attempt.die()
        case 2:
            attempt.sender.keep()
            attempt.world.port.fail(attempt.run.id, attempt.claim.run.fence, ValueError(), "", will_retry=False)
        case 3:
            attempt.die()
            attempt.world.port.fail(attempt.run.id, attempt.claim.run.fence, ValueError(), "", will_retry=False)
            del logged[spooled:]
    for _ in range(chance.randint(1, 2)):
        attempt.send_left_behind()
    assert attempt.files() == []
    return logged


def check(world, directory: Path, seeds: range) -> None:
    for seed in seeds:
        attempt = Attempt(world, directory / str(seed))
        assert lead(attempt, random.Random(seed)) == attempt.series(), f"seed {seed}"


def test_every_value_is_stored_once_and_in_order(world, tmp_path):
    check(world, tmp_path, range(15))


@pytest.mark.slow
def test_every_value_is_stored_once_and_in_order_many_times(world, tmp_path):
    check(world, tmp_path, range(1000, 1400))
