"""Metric values that a body logs, in memory until somebody takes them, and the latest value of each.

Adding one costs its caller microseconds: nothing is sent or written here, and nobody is waited for.
"""

import os
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any

from ..runs.points.chunks import MOST_POINTS, SYSTEM, Point
from ..storage.errors import InvalidInput

_MAX_NAME = 250
_LAST_STEP = 2**63 - 1


class MetricSeries:
    """An append-only buffer, safe to use from several threads of the process that made it.

    Args:
        notice: called by whoever adds the first value, and again when many wait to be taken.
    """

    def __init__(self, notice: Callable[[], None] = lambda: None) -> None:
        self._notice = notice
        self._lock = threading.Lock()
        self._process_id = os.getpid()
        self._points: list[Point] = []
        self._notice_at = 1
        self._next_step: dict[str, int] = {}
        self._step_is_last = False
        self.latest: dict[str, float] = {}

    def __len__(self) -> int:
        return len(self._points)

    def add(self, step: int | None, metrics: Mapping[str, Any]) -> None:
        """Append one value per metric; without a step, each metric counts on from its last one, and first from 0.

        Raises:
            InvalidInput: a name, a value or the step cannot be used, or this is another process. Nothing is appended.
        """
        at_ns = time.time_ns()
        if os.getpid() != self._process_id:
            raise InvalidInput(
                "run.log works in the flow's own process, and this is another one: return the values from the task, "
                "and log them in the flow"
            )
        if step is not None and (type(step) is not int or not -_LAST_STEP <= step <= _LAST_STEP):
            step = _step(step)
        next_step = self._next_step
        for name, value in metrics.items():
            if type(value) is not float or name not in self.latest:
                metrics = {name: _number(name, value) for name, value in metrics.items()}
                break
        with self._lock:
            if self._step_is_last and step is None:
                self._refuse_full(metrics)
            points, latest = self._points, self.latest
            for name, value in metrics.items():
                at_step = next_step.get(name, 0) if step is None else step
                next_step[name] = at_step + 1
                points.append((name, at_step, value, at_ns))
                latest[name] = value
                if at_step == _LAST_STEP:
                    self._step_is_last = True
            many = len(points) >= self._notice_at
            if many:
                self._notice_at = max(MOST_POINTS, 2 * len(points))
        if many:
            self._notice()

    def observe(self, values: Mapping[str, float]) -> None:
        """Append how the system was used (names that begin with `system/`), which is no latest value of the run."""
        at_ns = time.time_ns()
        with self._lock:
            for name, value in values.items():
                at_step = self._next_step.get(name, 0)
                self._next_step[name] = at_step + 1
                self._points.append((name, at_step, value, at_ns))
            is_first, self._notice_at = self._notice_at == 1, max(self._notice_at, MOST_POINTS)
        if is_first:
            self._notice()

    def take(self) -> list[Point]:
        """Return the points that were not taken yet, and forget them."""
        with self._lock:
            taken, self._points = self._points, []
            self._notice_at = MOST_POINTS
        return taken

    def waiting(self) -> list[Point]:
        """Return the points that were not taken yet, and keep them."""
        with self._lock:
            return list(self._points)

    def _refuse_full(self, metrics: Mapping[str, Any]) -> None:
        for name in metrics:
            if self._next_step.get(name, 0) > _LAST_STEP:
                raise InvalidInput(f"the metric {name!r} has reached the last step that there is: give a step")


def _step(step: Any) -> int:
    """Return a step that is no plain `int`, or not in its range, as one."""
    try:
        if isinstance(step, bool):
            raise TypeError
        whole = int(step.__index__())
    except (AttributeError, TypeError):
        raise InvalidInput(f"the step {step!r} is no whole number") from None
    if not -_LAST_STEP - 1 <= whole <= _LAST_STEP:
        raise InvalidInput(f"the step {whole} does not fit into 64 bits")
    return whole


def _number(name: str, value: Any) -> float:
    """Return a value as a float, after a look at its name."""
    if not isinstance(name, str) or not 1 <= len(name) <= _MAX_NAME or not name.isprintable():
        raise InvalidInput(f"the metric name {str(name)[:50]!r} must have 1 to {_MAX_NAME} printable characters")
    if name.startswith(SYSTEM):
        raise InvalidInput(f"the metric name {name!r} begins with {SYSTEM!r}, which is for what Freshline samples")
    if isinstance(value, float):
        return float(value)
    # Text that looks like a number, or a whole array of one, is more likely a mistake than meant.
    if not isinstance(value, str | bytes | bytearray) and getattr(value, "ndim", 0) == 0:
        try:
            return float(value)
        except OverflowError:
            raise InvalidInput(f"the metric {name} is an integer too large for a float") from None
        except (TypeError, ValueError):
            pass
    shown = repr(value)
    raise InvalidInput(f"the metric {name}={shown[:100]} is no number")
