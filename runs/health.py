"""Whether everything that Freshline needs answers: what a load balancer or an alarm asks, often and from many sides.

Each question has a thread of its own and a bounded time; one that hangs is not asked a second time while it hangs, and
nobody waits for it longer than that. An answer is kept for a few seconds, however many ask. Changes nothing. What has
to be tried out, rather than looked at, is `checkup`'s.
"""

import logging
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum

import sqlalchemy as sa

from ..deployments.gateway import Gateway
from ..storage.errors import FreshlineError, PrefectError
from ..storage.ids import new_id
from .composition import Freshline, open_objects
from .repair.passes import last_pass_at

_LOGGER = logging.getLogger(__name__)
_WITHIN_S = 2.0
_KEPT_S = 5.0
_LEAST_LATE_S = 60.0


class Condition(StrEnum):
    """How something is."""

    OK = "ok"
    """It answered."""
    DOWN = "down"
    """It did not answer, or with an error."""
    LATE = "late"
    """It has not been heard of for too long."""
    UNKNOWN = "unknown"
    """This process is not told where it is; others may be."""

    @property
    def is_failing(self) -> bool:
        """True when somebody should look."""
        return self in (Condition.DOWN, Condition.LATE)


@dataclass(frozen=True)
class Finding:
    """How one part is."""

    condition: Condition
    detail: str = ""
    """One sentence; for those who may read."""
    took_s: float | None = None
    """Seconds until it answered; null when it did not."""


@dataclass(frozen=True)
class Health:
    """How all parts are."""

    checks: Mapping[str, Finding]
    """database, object_store, prefect, reconciler."""
    at: datetime
    """When they were asked, by this machine's clock."""

    @property
    def is_ok(self) -> bool:
        """True when nothing fails."""
        return not any(finding.condition.is_failing for finding in self.checks.values())


Question = Callable[[], Finding]
"""Asks one part; may hang, may raise."""


class HealthCheck:
    """Asks all parts at once, and keeps the answer for a few seconds.

    Args:
        questions: by the name of the part.
        within_s: how long an answer is waited for.
        kept_s: how long it is kept.
        clock: the time of day; tests inject their own.
    """

    def __init__(
        self,
        questions: Mapping[str, Question],
        *,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
        within_s: float = _WITHIN_S,
        kept_s: float = _KEPT_S,
    ) -> None:
        self._probes = {name: _Probe(name, question) for name, question in questions.items()}
        self._clock = clock
        self._within_s, self._kept_s = within_s, kept_s
        self._lock = threading.Lock()
        self._last: Health | None = None
        self._good_until = 0.0

    def look(self) -> Health:
        """Return how all parts are, now or a few seconds ago; takes no longer than a question may."""
        last = self._last
        # While somebody asks, what is known is good enough: those who wait would keep the server from its work.
        if not self._lock.acquire(blocking=last is None):
            assert last is not None, "else it would have waited"
            return last
        try:
            if self._last is None or time.monotonic() >= self._good_until:
                self._last = self._ask()
                self._good_until = time.monotonic() + self._kept_s
            return self._last
        finally:
            self._lock.release()

    def _ask(self) -> Health:
        deadline = time.monotonic() + self._within_s
        for probe in self._probes.values():
            probe.begin()
        checks = {name: probe.finding(deadline, self._within_s) for name, probe in self._probes.items()}
        return Health(checks, self._clock())


class _Probe:
    """One question, asked in a thread of its own, one at a time."""

    def __init__(self, name: str, question: Question) -> None:
        self._name, self._question = name, question
        self._thread: threading.Thread | None = None
        self._finding = Finding(Condition.DOWN)

    def begin(self) -> None:
        """Ask, unless it is being asked still."""
        if self._thread is None or not self._thread.is_alive():
            self._thread = threading.Thread(target=self._ask, name=f"freshline-health-{self._name}", daemon=True)
            self._thread.start()

    def finding(self, deadline: float, within_s: float) -> Finding:
        """Return the answer, or that there was none in time."""
        assert self._thread is not None, "it was asked"
        self._thread.join(max(0.0, deadline - time.monotonic()))
        if self._thread.is_alive():
            return Finding(Condition.DOWN, f"no answer within {within_s:g} s")
        return self._finding

    def _ask(self) -> None:
        began = time.perf_counter()
        try:
            found = self._question()
            self._finding = Finding(found.condition, found.detail, time.perf_counter() - began)
        except FreshlineError as error:
            self._finding = Finding(Condition.DOWN, str(error))
        except sa.exc.SQLAlchemyError as error:
            reason = str(getattr(error, "orig", None) or error).strip().splitlines()[0]
            self._finding = Finding(Condition.DOWN, reason)
        except Exception as error:
            _LOGGER.exception("the health of the %s cannot be asked", self._name)
            self._finding = Finding(Condition.DOWN, type(error).__name__)


def questions_of(freshline: Freshline, gateway: Gateway) -> dict[str, Question]:
    """Return what is asked of each part that a store needs."""
    objects = open_objects(freshline.settings, retry_s=0)
    name = f"health/{new_id()}"

    def database() -> Finding:
        with freshline.database.read() as connection:
            connection.execute(sa.text("SELECT 1"))
        return Finding(Condition.OK)

    def object_store() -> Finding:
        objects.exists(name)  # there is none: that it says so is the answer
        return Finding(Condition.OK)

    def prefect() -> Finding:
        try:
            url = gateway.api_url
        except PrefectError as error:
            return Finding(Condition.UNKNOWN, str(error))
        if gateway.is_healthy():
            return Finding(Condition.OK, url)
        return Finding(Condition.DOWN, f"Prefect at {url} does not answer")

    def reconciler() -> Finding:
        return _reconciler(freshline)

    return {"database": database, "object_store": object_store, "prefect": prefect, "reconciler": reconciler}


def _reconciler(freshline: Freshline) -> Finding:
    with freshline.database.read() as connection:
        last, now = last_pass_at(connection), freshline.database.now(connection)
    if last is None:
        return Finding(Condition.LATE, "no reconciler has ever come through: start `freshline reconcile`")
    age_s = max(0.0, (now - last).total_seconds())
    is_late = age_s > late_after_s(freshline.settings.reconcile_s)
    detail = f"a reconciler last came through {age_s:.0f} s ago"
    return Finding(Condition.LATE if is_late else Condition.OK, detail)


def late_after_s(reconcile_s: float) -> float:
    """Return how long ago the last pass may be: several of them may fail before somebody is called."""
    return max(4 * reconcile_s, _LEAST_LATE_S)
