"""The lease of a running body: renewed in the background, and the place where the body is told to stop.

A process of its own renews it where that is possible (`runs/lease_keeper`): code that holds the interpreter lock for
minutes keeps its lease. Otherwise, and when that process is lost, a thread does.
"""

import logging
import subprocess
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import IO

from ..runs.lease_terms import Beat, LeaseTerms
from ..storage.errors import Fenced
from ..storage.ids import show_run_id

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
        self._keeper: subprocess.Popen[bytes] | None = None
        self._thread = threading.Thread(target=self._keep, name="freshline-lease", daemon=True)

    def __enter__(self) -> "Lease":
        # Here and not in the thread: a body that takes the interpreter lock at once would not let that one run.
        self._keeper = _started(self._terms) if self._terms is not None else None
        self._thread.start()
        return self

    def __exit__(self, *_exc: object) -> None:
        self._closed.set()
        keeper = self._keeper
        if keeper is None:
            self._thread.join()
            return
        # Not asked to end, which it could only notice after its imports: it holds nothing that would be lost.
        keeper.kill()
        # The thread, which listens to it, takes leave of it: the flow need not wait for that.

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

    def _keep(self) -> None:
        wait_s = self._interval_s
        if self._keeper is not None and self._keeper.stdout is not None:
            self._listen(self._keeper.stdout)
            _take_leave(self._keeper)
            if self._fenced is not None or self._closed.is_set():
                return
            _LOGGER.warning("the process that renews the lease has ended; a thread goes on with it")
            wait_s = 0.0  # its beat may be overdue
        while self._fenced is None and not self._closed.wait(wait_s):
            wait_s = self._interval_s
            try:
                self._take(self._beat() or Beat.OK)
            except Fenced as fenced:
                self._fenced = fenced
            except Exception as error:
                self._take(Beat.AWAY, f"{type(error).__name__}: {error}")
            self._send_now()

    def _listen(self, lines: IO[bytes]) -> None:
        for line in lines:
            word, _, reason = line.decode(errors="replace").strip().partition(" ")
            with suppress(ValueError):  # half a line, of one that was killed
                self._take(Beat(word), reason)
            if self._fenced is not None:
                return
            self._send_now()

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
        if self._is_away or self._closed.is_set():  # closed: the run has ended, with all that was to be sent
            return
        try:
            self._send()
        except Fenced as fenced:
            self._fenced = fenced
        except Exception:
            _LOGGER.warning("what waits to be sent could not be sent; the run carries on", exc_info=True)


def _take_leave(keeper: "subprocess.Popen[bytes]") -> None:
    """Wait until the keeper has ended, and close what led to it."""
    keeper.kill()  # one that said "fenced" ends by itself, one whose output broke may not
    keeper.wait()
    for pipe in (keeper.stdin, keeper.stdout):
        if pipe is not None:
            with suppress(OSError):  # what it had not read
                pipe.close()


def _started(terms: LeaseTerms) -> subprocess.Popen[bytes] | None:
    """Start the process that renews the lease, without waiting for it; None when that cannot be."""
    try:
        keeper = subprocess.Popen(
            terms.command(),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )
    except OSError as error:
        _LOGGER.warning("no process can be started to renew the lease (%s); a thread does", error)
        return None
    assert keeper.stdin is not None, "it was asked for"
    with suppress(OSError):  # it has ended already: the thread finds that out
        keeper.stdin.write(terms.as_line())
        keeper.stdin.flush()
    return keeper
