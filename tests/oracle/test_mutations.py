"""Each guard of the judgement is needed: the oracle agrees with it, and complains of the same history without it.

The order of locks is shown beside the kill harness: without it nothing is wrong, but completions deadlock.
"""

from contextlib import nullcontext

import pytest

from freshline.storage.faults import Guard, switched_off
from tests.faults.example import Clock
from tests.oracle.histories import History, played
from tests.oracle.steps import Step, open_store

READS_ITSELF = 1
"""As the third number of a completion: it reads what it did not declare, here its own version."""

OLDER_COMPLETES_LAST = History(
    ((),), (Step("claim"), Step("claim"), Step("complete", b=1, c=7), Step("complete", b=0, c=7))
)
TWO_APPEND_TO_ONE_BASE = History(
    ((),), (Step("publish", c=7), Step("claim"), Step("claim"), Step("append", c=7), Step("append", c=7))
)
UPSTREAM_COMES_BACK = History(
    ((), (0,)),
    (
        Step("publish", 0, c=7),
        Step("publish", 1, c=7),
        Step("publish", 0, c=7),
        Step("publish_earlier", 0, 0, c=7),
    ),
)
IT_READS_ITS_OWN_VERSION = History(((),), (Step("publish", c=7), Step("publish", c=READS_ITSELF)))


@pytest.mark.parametrize("is_on", [True, False], ids=["on", "off"])
@pytest.mark.parametrize(
    ("guard", "history", "complaint"),
    [
        (Guard.POINTER_FENCE, OLDER_COMPLETES_LAST, "@v2 is completed; it is current: False"),
        (Guard.BASE, TWO_APPEND_TO_ONE_BASE, "@v3 is completed; it is current: False"),
        (Guard.CLEARING, UPSTREAM_COMES_BACK, "has no reason"),
        (Guard.SELF, IT_READS_ITS_OWN_VERSION, "would read each other in a cycle"),
    ],
)
def test_guard_that_is_off_is_missed_by_the_oracle(database_url, guard, history, complaint, is_on):
    clock = Clock()
    database = open_store(database_url, clock)
    with nullcontext() if is_on else switched_off(guard):
        _, complained = played(database, clock, history)
    database.dispose()
    if is_on:
        assert complained == ""
    else:
        assert complaint in complained
