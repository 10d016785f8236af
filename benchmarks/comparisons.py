"""What is read off the rounds: values, ratios and differences, paired round by round, and whether targets are met.

Paired: a ratio or difference is taken within each round, where both met the same noise, and the median of those is
what counts. Knows no work.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from statistics import median
from typing import Any


@dataclass(frozen=True)
class Measurement:
    """Values, a round each."""

    values: Sequence[float]

    @property
    def median(self) -> float:
        """The value that half of the rounds reached."""
        return median(self.values)

    def __str__(self) -> str:
        return f"{shown(self.median)} [{shown(min(self.values))}-{shown(max(self.values))}]"


class Kind(StrEnum):
    """How a comparison is made."""

    VALUE = "value"
    """The value itself."""
    RATIO = "ratio"
    """How many times the other's value."""
    DIFFERENCE = "difference"
    """How much more than the other's value."""


@dataclass(frozen=True)
class Comparison:
    """One thing that is read off the rounds, and its target if it has one."""

    kind: Kind
    of: str
    """The role that is looked at."""
    to: str | None = None
    """The role that it is compared with; None for a value."""
    target: float | None = None
    """At least, where higher is better for the work; otherwise at most."""
    known: float | None = None
    """What the result must be, because it was put there: a control. Where less than half of it shows, something hides
    differences or the machine is too busy to tell, and no target of the work can be judged."""

    def __str__(self) -> str:
        match self.kind:
            case Kind.VALUE:
                return self.of
            case Kind.RATIO:
                return f"{self.of} / {self.to}"
            case Kind.DIFFERENCE:
                return f"{self.of} - {self.to}"

    def over(self, measured: Mapping[str, Measurement], *, higher_is_better: bool) -> "Finding | None":
        """Return what the rounds give; None when one of the two took no part."""
        roles = (self.of,) if self.to is None else (self.of, self.to)
        if not all(role in measured for role in roles):
            return None
        rounds = zip(*(measured[role].values for role in roles), strict=True)
        values = Measurement([self._of_round(values) for values in rounds])
        is_met = None
        if self.target is not None:
            is_met = values.median >= self.target if higher_is_better else values.median <= self.target
        return Finding(self, values, is_met, sign=">=" if higher_is_better else "<=")

    def _of_round(self, values: Sequence[float]) -> float:
        match self.kind:
            case Kind.VALUE:
                return values[0]
            case Kind.RATIO:
                return values[0] / values[1]
            case Kind.DIFFERENCE:
                return values[0] - values[1]


@dataclass(frozen=True)
class Finding:
    """What a comparison gave."""

    comparison: Comparison
    values: Measurement
    is_met: bool | None
    """Whether its median meets the target; None without one."""
    sign: str

    @property
    def is_blind(self) -> bool:
        """True for a control that does not show what was put there."""
        return self.comparison.known is not None and self.values.median < self.comparison.known / 2

    @property
    def target(self) -> str:
        """The target and whether it is met, for the table."""
        if self.comparison.known is not None:
            return f"control, {shown(self.comparison.known)}{': NOT SEEN' if self.is_blind else ''}"
        if self.comparison.target is None:
            return "-"
        if self.is_met is None:
            return f"{self.sign} {shown(self.comparison.target)}, cannot be judged: the control is not seen"
        return f"{self.sign} {shown(self.comparison.target)}, {'met' if self.is_met else 'NOT MET'}"

    def line(self) -> dict[str, Any]:
        """Return what is kept of it."""
        return {
            "what": str(self.comparison),
            "kind": self.comparison.kind,
            "median": self.values.median,
            "min": min(self.values.values),
            "max": max(self.values.values),
            "target": self.comparison.target,
            "met": self.is_met,
        }


def shown(value: float) -> str:
    """Return a number with three significant digits, and all digits before the point."""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"
