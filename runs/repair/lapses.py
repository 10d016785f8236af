"""The sweep: policies that have lapsed become causes, each once, whoever else sweeps at the same time.

Owns how much one transaction takes on and what is logged; `lineage.lapse` knows the rest. A lapse makes things stale
and nothing ready: no waiting run is let go by it, and none that was let go is held again.
"""

import logging

from ...lineage import lapse
from ...lineage.lapse import Lapsed
from ...lineage.models import Freshness
from ...storage.database import Database
from .. import logs
from .closing import ACTOR

_LOGGER = logging.getLogger(__name__)


def sweep(database: Database) -> int:
    """Turn every policy that has lapsed into its cause, and log each; return how many this sweep has turned.

    Some hundred per transaction, the oldest first: an end in between loses nothing, and the next sweep goes on.
    """
    with database.read() as connection:
        if not lapse.due(connection, now=database.now(connection)):
            return 0
    count = 0
    while turned := database.write(lambda connection: lapse.turn_due(connection, now=database.now(connection))):
        for one in turned:
            _log(one)
        count += len(turned)
    return count


def _log(one: Lapsed) -> None:
    also = " (it was stale already)" if one.was == Freshness.STALE else ""
    logs.deployment_event(
        _LOGGER,
        f"the freshness policy of v{one.number} has lapsed{also}",
        deployment=one.key,
        freshness=Freshness.STALE,
        actor=ACTOR,
    )
