"""The lease of a running body: renewed in the background, and the place where the body is told to stop.

Another process renews it where that is possible (`keeping`): code that holds the interpreter lock for minutes keeps its
lease. Otherwise, and when that process is lost, a thread does.
"""

import logging
import threading
from collections.abc import Callable

from ..runs.lease_terms import Beat, LeaseTerms
from ..storage.errors import Fenced
from ..storage.ids import show_run_id
from .keeping import hold

_LOGGER = logging.getLogger(__name__)


class RunCancelled(BaseException):
    """The run's cancellation was asked for. Not an Exception: a body's own `except Exception` must not swallow it."""


class RunPaused(BaseException):
    """The run's pause was asked for. Not an Exception, as `RunCancelled`."""


class Lease:
    """Keeps the lease from its start to its end, and tells the body when it must not go on.

    When somebody else holds the run, the body is stopped at its next `check`. When the store cannot be reached, the
    body carries on: publication is guarded by the fence anyway.

    Args:
        beat: renews the lease from this process; returns what was asked of the body, if anything.
        interval_s: how often that is done.
        terms: with them, another process renews it, and `beat` is called only when that one is lost.
        send: called after each beat, for what waits to be sent.
        can_pause: False when a pause that was asked for cannot be; the body then carries on.
    """

    def __init__(
        self,
        beat: Callable[[], Beat | None],
        *,
        interval_s: float,
        terms: LeaseTerms | None = None,
        send: Callable[[], None] = lambda: None,
        can_pause: bool = True,
    ) -> None:
        self.stopped: BaseException | None = None
        """What `check` has raised; whatever the body made of it, that is why it stopped."""
        self._beat = beat
        self._send = send
        self._interval_s = interval_s
        self._terms = terms
        self._can_pause = can_pause
        self._closed = threading.Event()
        self._fenced: Fenced | None = None
        self._asked: Beat | None = None
        self._is_away = False
        self._pause_refused = False
        self._let_go: Callable[[], None] | None = None
        self._thread: threading.Thread | None = None
        """Renews the lease where no other process does; otherwise it sends what waits, and is gone again."""

    def __enter__(self) -> "Lease":
        if self._terms is not None:
            # Here and not in a thread: a body that takes the interpreter lock at once would not let that one run.
            self._let_go = hold(self._terms, self._hear)
        if self._let_go is None:
            self._start(self._keep, self._interval_s)
        return self

    def __exit__(self, *_exc: object) -> None:
        self._closed.set()
        if self._let_go is not None:
            self._let_go()
        elif self._thread is not None:
            self._thread.join()

    def check(self) -> None:
        """Stop the body here when it must not go on.

        Raises:
            Fenced: somebody else holds the run.
            RunCancelled: its cancellation was asked for.
            RunPaused: its pause was asked for.
        """
        if self._fenced is not None:
            self.stopped = self._fenced
        elif self._asked == Beat.CANCEL:
            self.stopped = RunCancelled()
        elif self._asked == Beat.PAUSE:
            self.stopped = RunPaused()
        else:
            return
        raise self.stopped

    def _start(self, task: Callable[..., None], *arguments: float) -> None:
        self._thread = threading.Thread(target=task, args=arguments, name="freshline-lease", daemon=True)
        self._thread.start()

    def _keep(self, wait_s: float) -> None:
        while self._fenced is None and not self._closed.wait(wait_s):
            wait_s = self._interval_s
            try:
                self._take(self._beat() or Beat.OK)
            except Fenced as fenced:
                self._fenced = fenced
            except Exception as error:
                self._take(Beat.AWAY, f"{type(error).__name__}: {error}")
            self._send_now()

    def _hear(self, beat: Beat, reason: str) -> None:
        """Take in what the other process says; nothing is waited for, since it speaks of other leases too."""
        if self._closed.is_set() or self._fenced is not None:
            return
        if beat == Beat.LOST:
            _LOGGER.warning("no other process renews the lease any more (%s); a thread does", reason)
            if self._let_go is not None:
                self._let_go()
            self._start(self._keep, 0.0)  # its beat may be overdue
            return
        self._take(beat, reason)
        if self._thread is None or not self._thread.is_alive():
            self._start(self._send_now)

    def _take(self, beat: Beat, reason: str = "") -> None:
        """Note what a beat has given; an outage is logged at its beginning and at its end."""
        if beat == Beat.FENCED:
            assert self._terms is not None, "only the other process says it so"
            run_id = show_run_id(self._terms.run_id)
            self._fenced = Fenced(
                f"{run_id} is not held by fence {self._terms.fence} any more: stop without publishing"
            )
            return
        if beat == Beat.AWAY:
            if not self._is_away:
                _LOGGER.warning("the lease could not be renewed (%s); the run carries on", reason)
            self._is_away = True
            return
        if self._is_away:
            _LOGGER.info("the lease is renewed again")
        self._is_away = False
        if Beat.CANCEL in (beat, self._asked):
            self._asked = Beat.CANCEL
        elif beat == Beat.OK:
            self._asked = None  # a pause that the body had not noticed was taken back
        elif self._can_pause:
            self._asked = beat
        elif not self._pause_refused:
            self._pause_refused = True
            _LOGGER.warning("a pause was asked for, but Prefect cannot suspend this flow run; the run carries on")

    def _send_now(self) -> None:
        # Closed: the run has ended, with all that was to be sent.
        if self._fenced is not None or self._is_away or self._closed.is_set():
            return
        try:
            self._send()
        except Fenced as fenced:
            self._fenced = fenced
        except Exception:
            _LOGGER.warning("what waits to be sent could not be sent; the run carries on", exc_info=True)
