"""What a body tells its run while it works: events, progress, messages and checkpoints. Metric values: see `sending`.

A store that is away for a moment must not end a body that is well: what cannot be sent is logged here instead.
"""

import logging
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any
from uuid import UUID

from ..runs.author_events import CheckpointRestored, RecordableEvent
from ..runs.port import BodyPort
from ..runs.run_events import ProgressReported
from ..storage.database import dump_json
from ..storage.errors import Fenced, InvalidInput

_PROGRESS_INTERVAL_S = 0.2


class Reporting:
    """One run's line to its record; safe to use from several threads."""

    def __init__(
        self,
        port: BodyPort,
        run_id: UUID,
        fence: int,
        logger: logging.Logger,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._port = port
        self._held = (run_id, fence)
        self._logger = logger
        self._clock = clock
        self._lock = threading.Lock()
        self._progress: ProgressReported | None = None
        self._sent_at: float | None = None

    def emit(self, *entries: RecordableEvent) -> None:
        """Send events, behind the progress that waits."""
        for entry in entries:
            dump_json(entry.payload())
        progress = self._take_progress()
        with self._tolerant("an event"):
            self._port.record(
                *self._held,
                [progress, *entries] if progress is not None else entries,
                progress=progress.progress if progress is not None else None,
            )

    def progress(self, share: float, label: str | None) -> None:
        """Report how far the body is, at most five times a second: what lies between is left out.

        The latest one always arrives: with the next report, event, beat, or at the end.
        """
        now = self._clock()
        with self._lock:
            self._progress = ProgressReported(progress=min(1.0, share), label=label)
            if self._sent_at is not None and now - self._sent_at < _PROGRESS_INTERVAL_S:
                return
            self._sent_at = now
        self.flush()

    def flush(self) -> None:
        """Send the progress that waits."""
        progress = self._take_progress()
        if progress is None:
            return
        with self._tolerant("progress"):
            self._port.record(*self._held, [progress], progress=progress.progress)

    def message(self, role: str, content: str) -> None:
        """Add a message to those of the run."""
        for name, text in (("role", role), ("content", content)):
            if not isinstance(text, str):
                raise InvalidInput(f"the {name} of a message is text; {text!r} is not")
            dump_json(text)
        with self._tolerant("a message"):
            self._port.add_message(*self._held, role, content)

    def checkpoint(self, state: Mapping[str, Any]) -> None:
        """Save a state."""
        if not isinstance(state, Mapping):
            raise InvalidInput(f"a checkpoint is a mapping of names to JSON; {type(state).__name__} is none")
        plain = dict(state)
        dump_json(plain)
        with self._tolerant("a checkpoint"):
            self._port.save_checkpoint(*self._held, plain)

    def newest_checkpoint(self) -> Mapping[str, Any] | None:
        """Return the state that was saved last, by whichever attempt, and record that the body goes on from it."""
        saved = self._port.newest_checkpoint(self._held[0])
        if saved is None:
            return None
        self.emit(CheckpointRestored(checkpoint_id=saved.checkpoint_id))
        return saved.state

    def _take_progress(self) -> ProgressReported | None:
        with self._lock:
            taken, self._progress = self._progress, None
        return taken

    @contextmanager
    def _tolerant(self, what: str) -> Iterator[None]:
        try:
            yield
        except (Fenced, InvalidInput):
            raise
        except Exception:
            self._logger.warning("%s of the run could not be sent; the run carries on", what, exc_info=True)
