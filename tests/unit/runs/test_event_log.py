"""A run's log: each entry once and in order, what comes too, until the run has ended; and what is refused."""

import pytest

from freshline.runs import EventLog, event_log
from freshline.runs.care.deletion import Deletions
from freshline.runs.run_events import ProgressReported, RunCompleted
from freshline.storage.errors import FreshlineError, InvalidInput, NotFound, RunDeleted
from freshline.storage.ids import show_run_id

PRICES = "refresh/prices"


@pytest.fixture
def log(world):
    return EventLog(world.database)


@pytest.fixture
def few_at_once(monkeypatch):
    """Pages of two entries."""
    monkeypatch.setattr(event_log, "_PAGE", 2)


def test_log_has_who_did_what_and_when_and_the_event_itself(world, log):
    run = world.run_through(PRICES, actor="ada")
    found = log.read(run.id)
    assert [one.seq for one in found] == list(range(1, len(found) + 1))
    assert (found[0].kind, found[0].actor, found[0].at) == ("run_submitted", "ada", world.moment)
    assert found[-1].event == RunCompleted(stop_reason="completed")
    assert list(found.to_pandas().columns) == ["seq", "at", "kind", "actor", "facts"]
    assert log.read(show_run_id(run.id), after=len(found) - 1) == found[-1:]
    assert log.read(run.id, limit=2) == found[:2]


@pytest.mark.usefixtures("few_at_once")
def test_followed_log_of_a_run_that_has_ended_is_the_log(world, log):
    run = world.run_through(PRICES)
    assert list(log.follow(run.id, sleep=pytest.fail)) == log.read(run.id)
    assert [one.seq for one in log.follow(run.id, after=3)] == [one.seq for one in log.read(run.id)[3:]]


@pytest.mark.usefixtures("few_at_once")
def test_followed_log_gives_each_entry_once_and_waits_longer_where_nothing_happens(world, log):
    claim = world.start(world.service.submit(PRICES))
    waited = []
    acts = [lambda: None] * 8 + [
        lambda: world.port.record(
            claim.run.id, claim.run.fence, [ProgressReported(progress=share / 10) for share in range(1, 6)]
        ),
        lambda: None,
        lambda: world.complete(claim),
    ]

    def sleep(seconds):
        waited.append(seconds)
        acts.pop(0)()

    followed = list(log.follow(claim.run.id, sleep=sleep))
    assert followed == log.read(claim.run.id)
    assert acts == []
    assert waited[:8] == sorted(waited[:8])
    assert (waited[0], waited[8], waited[9]) == (0.2, 2.0, 0.2)


def test_followed_log_goes_on_behind_the_last_entry_that_was_seen(world, log):
    claim = world.start(world.service.submit(PRICES))
    first = log.follow(claim.run.id, sleep=pytest.fail)
    seen = [next(first), next(first)]
    world.complete(claim)
    seen += log.follow(claim.run.id, after=seen[-1].seq)
    assert seen == log.read(claim.run.id)


def test_following_gives_up_when_it_was_told_to(world, log):
    run = world.service.submit(PRICES)
    moments = iter([0.0, 4.0, 6.0])
    with pytest.raises(FreshlineError, match="is still pending after 5 s"):
        list(log.follow(run.id, timeout_s=5.0, sleep=lambda _: None, clock=lambda: next(moments)))


def test_log_that_cannot_be_read_is_refused_before_the_first_entry(world, log):
    run = world.run_through(PRICES)
    for read in (log.read, log.follow):
        with pytest.raises(InvalidInput, match="after=-1"):
            read(run.id, after=-1)
        with pytest.raises(InvalidInput, match="is not a run id"):
            read("refresh/prices")
        with pytest.raises(NotFound, match="There is no run"):
            read("run-00000000-0000-7000-8000-000000000000")
    world.run_through(PRICES, 2)
    Deletions(world.database).delete(run.id, reason="a wrong feed", actor="ann")
    with pytest.raises(RunDeleted, match="by ann: a wrong feed"):
        log.follow(run.id)
