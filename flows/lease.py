"""The lease of a running body: renewed in the background, and the place where a cancellation is noticed."""

import logging
import threading
from collections.abc import Callable

from ..storage.errors import Fenced

_LOGGER = logging.getLogger(__name__)


class RunCancelled(BaseException):
    """The run's cancellation was asked for. Not an Exception: a body's own `except Exception` must not swallow it."""


class Lease:
    """Calls `beat` every `interval_s` seconds until it is closed; it returns True when a cancellation was asked for.

    When `beat` says that somebody else holds the run, the body is stopped at its next `check`. When the store cannot
    be reached, the body carries on: publication is guarded by the fence anyway.
    """

    def __init__(self, beat: Callable[[], bool], *, interval_s: float) -> None:
        self._beat = beat
        self._interval_s = interval_s
        self._closed = threading.Event()
        self._fenced: Fenced | None = None
        self._cancelled = False
        self._thread = threading.Thread(target=self._keep, name="freshline-lease", daemon=True)

    def __enter__(self) -> "Lease":
        self._thread.start()
        return self

    def __exit__(self, *_exc: object) -> None:
        self._closed.set()
        self._thread.join()

    def check(self) -> None:
        """Stop the body here when it must not go on.

        Raises:
            Fenced: somebody else holds the run.
            RunCancelled: its cancellation was asked for.
        """
        if self._fenced is not None:
            raise self._fenced
        if self._cancelled:
            raise RunCancelled

    def _keep(self) -> None:
        while not self._closed.wait(self._interval_s):
            try:
                self._cancelled |= self._beat()
            except Fenced as fenced:
                self._fenced = fenced
                return
            except Exception:
                _LOGGER.warning("the lease could not be renewed; the run carries on", exc_info=True)
