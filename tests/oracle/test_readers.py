"""A run and its upstream at the same time: digests decide, and nothing else."""

import pytest

from tests.faults.example import Clock
from tests.oracle import stored
from tests.oracle.histories import History, played
from tests.oracle.steps import Step, open_store

UPSTREAM, READER = 0, 1
BEGIN = Step("publish", UPSTREAM, c=7)
READ = Step("claim", READER)
MOVE = Step("publish", UPSTREAM, c=7)
REPEAT = Step("publish_equal", UPSTREAM, c=7)
GO_BACK = Step("publish_earlier", UPSTREAM, 0, c=7)
COMPLETE = Step("complete", c=7)


@pytest.fixture
def judged(database_url):
    """Play the steps after an upstream was published; return what is stored of the reader then."""
    clock = Clock()
    database = open_store(database_url, clock)

    def judge(*steps):
        player, complaint = played(database, clock, History(((), (UPSTREAM,)), (BEGIN, *steps)))
        assert complaint == "", "\n".join(player.told)
        return stored.judgements(database)[0][f"refresh/n{READER}"]

    yield judge
    database.dispose()


@pytest.mark.parametrize(
    "steps",
    [
        (READ, MOVE, COMPLETE),
        (READ, MOVE, REPEAT, COMPLETE),
        (READ, MOVE, GO_BACK, MOVE, COMPLETE),
        (MOVE, READ, GO_BACK, COMPLETE),
    ],
)
def test_upstream_that_publishes_while_a_run_reads_leaves_its_version_stale(judged, steps):
    reader = judged(*steps)
    assert reader.freshness == "stale"
    assert [cause.kind for cause in reader.causes] == ["input_changed"]


@pytest.mark.parametrize(
    "steps",
    [
        (READ, COMPLETE),
        (READ, REPEAT, COMPLETE),
        (READ, MOVE, GO_BACK, COMPLETE),
        (READ, REPEAT, MOVE, GO_BACK, REPEAT, COMPLETE),
        # An upstream's run that was claimed before, and ends last, is superseded.
        (Step("claim", UPSTREAM), REPEAT, READ, Step("complete", b=0, c=7), COMPLETE),
    ],
)
def test_run_that_read_exactly_the_current_digests_is_never_stale(judged, steps):
    reader = judged(*steps)
    assert (reader.freshness, reader.causes) == ("ready", frozenset())
