"""Dispatcher and reconciler as background threads: in `freshline up` and `demo`, or alone (`freshline reconcile`)."""

import logging
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

from ..deployments.gateway import Gateway
from ..storage.errors import FreshlineError
from .care.collecting import Collector
from .composition import Freshline
from .dispatcher import Dispatcher
from .gate_artifacts import GateArtifacts
from .points.left_behind import LeftBehind
from .points.recording import PointRecording
from .redo.backfilling import advance_all
from .repair.auto_refresh import refresh_stale
from .repair.reconcile import Reconciler
from .run_artifacts import RunArtifacts

_LOGGER = logging.getLogger(__name__)
_DISPATCH_S = 0.25
_BACKFILL_S = 1.0
_REFRESH_S = 1.0
_SHOW_S = 5.0
_SPOOLS_S = 60.0
_COLLECT_S = 60.0


class Background:
    """Keeps dispatching and reconciling until it is closed; an error is logged, and the next pass tries again."""

    def __init__(
        self,
        freshline: Freshline,
        gateway: Gateway,
        *,
        reconcile_s: float | None = None,
        page_url: str | None = None,
    ) -> None:
        settings = freshline.settings
        self._freshline = freshline
        self._closed = threading.Event()
        self._dispatcher = Dispatcher(freshline.database, gateway)
        interval_s = reconcile_s or settings.reconcile_s
        self._reconciler = Reconciler(
            freshline.database,
            gateway,
            lease_s=settings.lease_s,
            interval_s=interval_s,
            start_within_s=settings.start_within_s,
            cancel_within_s=settings.cancel_within_s,
            wait_within_s=settings.wait_within_s,
        )
        self._threads = [
            self._thread("dispatcher", self._dispatcher.pass_once, _DISPATCH_S),
            self._thread("reconciler", self._reconciler.pass_once, interval_s),
            # The reconciler does it too; from here the next date follows the one before within a second.
            self._thread("backfills", partial(advance_all, freshline.database), _BACKFILL_S),
            # So does this; from here a chain goes on within a second or two of each completion.
            self._thread("auto-refresh", partial(refresh_stale, freshline.database, {}), _REFRESH_S),
            self._thread("spools", self._send_spools, _SPOOLS_S),
        ]
        if settings.prefect_artifacts:
            # The setting before this process's own address: people may reach the page by another one.
            runs = RunArtifacts(freshline.database, gateway, settings.page_url or page_url)
            self._threads += [
                self._thread("gate-artifacts", GateArtifacts(freshline.database, gateway).pass_once, _SHOW_S),
                self._thread("run-artifacts", runs.pass_once, _SHOW_S),
            ]
        if settings.gc_every_s:
            collector = Collector(freshline.database, freshline.objects)
            every, grace = timedelta(seconds=settings.gc_every_s), timedelta(seconds=settings.gc_grace_s)
            # Asked for often, done once in an interval, by one of those that run.
            collect = partial(collector.collect_when_due, grace, every=every)
            self._threads.append(self._thread("gc", collect, min(_COLLECT_S, settings.gc_every_s)))
        self.last_pass_at: dict[str, datetime] = {}
        """When each last came through without an error."""

    def __enter__(self) -> "Background":
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_exc: object) -> None:
        self._closed.set()
        for thread in self._threads:
            thread.join(timeout=30)

    def wait(self) -> None:
        """Block until the program is interrupted."""
        while not self._closed.wait(3600):
            pass

    def _send_spools(self) -> None:
        """Send what processes of this machine that are gone had not sent."""
        LeftBehind(self._freshline.spools, PointRecording(self._freshline.database)).pass_once()

    def _thread(self, name: str, work: Callable[[], Any], interval_s: float) -> threading.Thread:
        def loop() -> None:
            while not self._closed.is_set():
                began = time.monotonic()
                try:
                    work()
                    self.last_pass_at[name] = datetime.now(UTC)
                except FreshlineError as error:
                    _LOGGER.warning("%s: %s", name, error)
                except Exception:
                    _LOGGER.exception("the %s failed; it tries again", name)
                # From start to start: a long pass must not make the next one late.
                self._closed.wait(max(0.0, interval_s - (time.monotonic() - began)))

        return threading.Thread(target=loop, name=f"freshline-{name}", daemon=True)
