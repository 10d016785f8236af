"""When is a stale deployment to be refreshed by itself? A pure function of what is recorded.

Knows no database and no clock. A cause is told from another one by all that is stored of it: the same causes after a
run are causes that a run does not clear.
"""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

from ...lineage.reasons import Reason
from ...storage.auto_refresh import AutoRefresh
from ...storage.durations import as_written
from ..status import RunStatus

_FIRST_PAUSE = timedelta(minutes=1)
_LONGEST_PAUSE = timedelta(days=1)
_MOST_DOUBLINGS = 20
_SHOWN = 5


@dataclass(frozen=True)
class OwnCause:
    """A stored cause that is not inherited from an upstream."""

    reason: Reason
    upstream_id: UUID | None
    origin_version_id: UUID | None


@dataclass(frozen=True)
class EndedRun:
    """A run that has ended, and what it has to do with the causes that there are now."""

    status: RunStatus
    started_at: datetime | None
    ended_at: datetime


@dataclass(frozen=True)
class Stale:
    """What is recorded of a stale deployment that is refreshed by itself."""

    deployment_id: UUID
    key: str
    tenant_id: str
    terms: AutoRefresh
    declaration_digest: str
    causes: Sequence[OwnCause]
    """Its own ones, the first to arise first; none when everything is inherited."""
    is_held_back: bool
    """A direct upstream is not ready: its own refresh comes first."""
    is_under_way: bool
    """A run of it has not ended, or a backfill."""
    is_upstream_busy: bool
    """A run of a direct upstream has not ended: what it reads may change any moment."""
    num_runs: int = 0
    last_run_at: datetime | None = None
    tried_for: str | None = None
    num_tries: int = 0
    waiting_since: datetime | None = None
    last_of_these: EndedRun | None = None
    """The last run that nobody asked for, when it has ended."""
    last_ended: EndedRun | None = None
    """The last run that ended, whoever asked for it."""

    @property
    def digest(self) -> str:
        """The sha256 (hex) of what it is stale for."""
        told = [
            [one.reason.kind, one.reason.role, *map(str, (one.upstream_id, one.reason.origin_run_id)),
             str(one.origin_version_id), one.reason.since.isoformat()]
            for one in self.causes
        ]  # fmt: skip
        return hashlib.sha256(json.dumps([self.declaration_digest, sorted(told)]).encode()).hexdigest()

    @property
    def tries(self) -> int:
        """How many runs in a row have not cleared the causes that there are now."""
        return self.num_tries if self.tried_for == self.digest else 0

    @property
    def since(self) -> datetime:
        """When the first of the causes arose that no run of these was submitted for."""
        new = [
            one.reason.since for one in self.causes if self.last_run_at is None or one.reason.since > self.last_run_at
        ]
        return min(new or [one.reason.since for one in self.causes])

    def because(self) -> str:
        """Say what it is stale for."""
        said = [one.reason.sentence() for one in self.causes[:_SHOWN]]
        more = len(self.causes) - len(said)
        return "; ".join([*said, f"and {more} reasons more"] if more else said)


@dataclass(frozen=True)
class Due:
    """When the next run is due, if it is, and what decides on it."""

    at: datetime | None
    """None: not before something else happens."""
    why: str
    is_settling: bool = False
    """It waits for its upstreams to be quiet: since when has to be remembered."""

    def sentence(self) -> str:
        """Say it in one sentence."""
        if self.at is None:
            return f"auto-refresh: {self.why}"
        return f"auto-refresh due at {self.at:%Y-%m-%d %H:%M:%S} UTC: {self.why}"


def due(stale: Stale) -> Due:
    """Return when the deployment is to be refreshed."""
    if stale.is_under_way:
        return Due(None, "a run is under way; what it leaves stale is looked at when it has ended")
    if stale.is_held_back or not stale.causes:
        return Due(None, "when its upstreams are ready")
    terms = stale.terms
    if stale.tries and stale.last_of_these is not None:
        if stale.last_of_these.status == RunStatus.CANCELLED:
            return Due(None, "its last run was cancelled; it waits until something else changes")
        pause = pause_after(stale.tries, terms)
        ended = f"its last run {stale.last_of_these.status}, and it is stale for the same reasons"
        return Due(stale.last_of_these.ended_at + pause, f"{ended}; {as_written(pause)} after that")
    newest = max(one.reason.since for one in stale.causes)
    quiet_at, latest_at = newest + terms.quiet, (stale.waiting_since or stale.since) + terms.wait_at_most
    at, why = min(quiet_at, latest_at), f"once nothing has changed for {as_written(terms.quiet)}"
    if stale.is_upstream_busy:
        at, why = latest_at, "when the runs of its upstreams have ended, or then at the latest"
    elif latest_at < quiet_at:
        why = f"its upstreams keep changing, and it waits {as_written(terms.wait_at_most)} at most"
    is_settling = True
    if stale.last_run_at is not None and stale.last_run_at + terms.at_most_every > at:
        at, why = stale.last_run_at + terms.at_most_every, f"at most every {as_written(terms.at_most_every)}"
    failed = stale.last_ended
    if failed is not None and failed.status == RunStatus.FAILED and (failed.started_at or failed.ended_at) >= newest:
        # Somebody else's run has failed on what is there now: a try like one of ours.
        pause = pause_after(1, terms)
        if failed.ended_at + pause > at:
            at, why = failed.ended_at + pause, f"its last run failed; {as_written(pause)} after that"
    return Due(at, why, is_settling)


def pause_after(tries: int, terms: AutoRefresh) -> timedelta:
    """Return how long it pauses after so many runs in a row that did not help: doubled each time, to a day."""
    first = max(_FIRST_PAUSE, terms.at_most_every)
    longest = max(first, _LONGEST_PAUSE)
    return longest if tries > _MOST_DOUBLINGS else min(first * (1 << (tries - 1)), longest)
