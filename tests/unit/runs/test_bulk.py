"""Several runs at once: submitted all or none, annotated all or none, cancelled each by itself."""

import pytest

from freshline.runs.submission import Submission
from freshline.storage.errors import IllegalTransition, InvalidInput, NotFound
from freshline.storage.ids import new_id


def asked(count, **options):
    return [Submission(deployment="refresh/prices", tags=[str(number)], **options) for number in range(count)]


def test_submit_many_records_every_run_in_order(world):
    runs = world.service.submit_many(asked(3))
    assert [run.tags for run in runs] == [["0"], ["1"], ["2"]]
    assert {run.status for run in runs} == {"pending"}
    assert world.dispatch() == 3


def test_submit_many_with_one_bad_request_records_none(world):
    bad = Submission(deployment="refresh/prices", parameters={"no_such": 1})
    with pytest.raises(InvalidInput, match="no_such"):
        world.service.submit_many([*asked(2), bad])
    assert world.queries.runs() == []


def test_submit_many_with_the_same_key_twice_gives_the_same_run(world):
    first, second = world.service.submit_many(
        [Submission(deployment="refresh/prices", idempotency_key="k") for _ in range(2)]
    )
    assert first.id == second.id
    assert len(world.queries.runs()) == 1


def test_submit_many_of_too_many_is_refused_before_anything_is_recorded(world):
    with pytest.raises(InvalidInput, match="1,001 runs at once; at most 1,000"):
        world.service.submit_many(asked(1001))
    assert world.queries.runs() == []


def test_annotate_many_merges_metadata_and_replaces_tags(world):
    runs = world.service.submit_many(asked(2, metadata={"desk": "a"}))
    changed = world.service.annotate_many([run.id for run in runs], tags=["x", "x"], metadata={"ticket": 7})
    assert [run.tags for run in changed] == [["x"], ["x"]]
    assert world.service.get(runs[1].id).metadata_ == {"desk": "a", "ticket": 7}


def test_annotate_many_with_an_ended_run_changes_none(world):
    open_run, ended = world.service.submit_many(asked(2))
    world.service.cancel(ended.id)
    with pytest.raises(IllegalTransition, match="cancelled: an ended run does not change"):
        world.service.annotate_many([open_run.id, ended.id], tags=["x"])
    assert world.service.get(open_run.id).tags == ["0"]


def test_cancel_many_ends_what_goes_on_and_leaves_what_has_ended(world):
    done = world.run_through("refresh/prices")
    waiting = world.service.submit("refresh/prices")
    assert [run.status for run in world.service.cancel_many([done.id, waiting.id])] == ["completed", "cancelled"]


def test_cancel_many_with_an_unknown_run_says_which(world):
    unknown = new_id()
    with pytest.raises(NotFound, match=str(unknown)):
        world.service.cancel_many([unknown])
