"""What a body counts, such as rows or tokens: for the run as a whole, and for each step that counted."""

import math
import sys
import threading
from collections.abc import Mapping, Sequence
from typing import Any
from uuid import UUID

from ..runs.steps import StepCount
from ..storage.errors import InvalidInput

_MAX_NAME = 250


class Counters:
    """Named sums, safe to use from several threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._of_run: dict[str, float] = {}
        self._of_steps: dict[UUID, tuple[str, dict[str, float]]] = {}

    def add(self, counters: Mapping[str, float]) -> None:
        """Add to the step that this thread executes, or to the run outside of any.

        Raises:
            InvalidInput: a name or a number cannot be used. Nothing is added then.
        """
        amounts = {_name(name): _amount(name, amount) for name, amount in counters.items()}
        step = _current_step()
        with self._lock:
            sums = self._of_run if step is None else self._of_steps.setdefault(step[0], (step[1], {}))[1]
            for name, amount in amounts.items():
                sums[name] = sums.get(name, 0) + amount

    @property
    def of_run(self) -> dict[str, float]:
        """What was counted outside of steps."""
        with self._lock:
            return dict(self._of_run)

    @property
    def of_steps(self) -> Sequence[StepCount]:
        """What was counted in each step."""
        with self._lock:
            return [StepCount(id_, name, dict(sums)) for id_, (name, sums) in self._of_steps.items()]


def _current_step() -> tuple[UUID, str] | None:
    """Return (task run id, name) of the Prefect task that this thread executes, if any."""
    if "prefect.context" not in sys.modules:
        return None  # a test without Prefect need not wait for its import: no task executes

    from prefect.runtime import task_run

    return (UUID(task_run.id), str(task_run.name)) if task_run.id else None


def _name(name: str) -> str:
    if not 1 <= len(name) <= _MAX_NAME or not name.isprintable():
        raise InvalidInput(f"the counter name {name[:50]!r} must have 1 to {_MAX_NAME} printable characters")
    return name


def _amount(name: str, amount: Any) -> float:
    if not isinstance(amount, int | float) or not math.isfinite(amount):
        raise InvalidInput(f"the counter {name}={amount!r} is no finite number")
    return amount
