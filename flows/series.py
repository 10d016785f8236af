"""Metric values that a body logs: the series in memory, the latest value of each, and what was not sent yet."""

import threading
import time
from collections.abc import Mapping
from typing import Any

from ..storage.errors import InvalidInput


class MetricSeries:
    """An append-only buffer, safe to use from several threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._points: list[tuple[str, int, float, int]] = []
        self._next_step: dict[str, int] = {}
        self._unsent: set[str] = set()
        self.latest: dict[str, float] = {}

    def __bool__(self) -> bool:
        return bool(self._points)

    def add(self, step: int | None, metrics: Mapping[str, float]) -> None:
        """Append one value per metric; without a step, each metric counts its own from 0.

        Raises:
            InvalidInput: a value is no number. Nothing is appended then.
        """
        values = {name: _number(name, value) for name, value in metrics.items()}
        at_ns = time.time_ns()
        with self._lock:
            for name, value in values.items():
                at_step = self._next_step.get(name, 0) if step is None else step
                self._next_step[name] = at_step + 1
                self._points.append((name, at_step, value, at_ns))
                self.latest[name] = value
                self._unsent.add(name)

    def take_unsent(self) -> dict[str, float]:
        """Return the latest values that were not taken yet."""
        with self._lock:
            taken = {name: self.latest[name] for name in self._unsent}
            self._unsent.clear()
            return taken

    def to_arrow(self) -> Any:
        """Return the series: n rows; columns name: string, step: int64, value: float64, at: timestamp[us, UTC]."""
        import pyarrow as pa

        with self._lock:
            names, steps, values, times = zip(*self._points, strict=True) if self._points else ((), (), (), ())
        return pa.table(
            {
                "name": pa.array(names, pa.string()),
                "step": pa.array(steps, pa.int64()),
                "value": pa.array(values, pa.float64()),
                "at": pa.array([at // 1000 for at in times], pa.timestamp("us", tz="UTC")),
            }
        )


def _number(name: str, value: Any) -> float:
    if isinstance(value, bool):
        return float(value)
    try:
        return float(value)
    except (TypeError, ValueError):
        raise InvalidInput(f"the metric {name}={value!r} is no number") from None
