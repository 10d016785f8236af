"""How a work is measured: in interleaved rounds, so that a busy minute hits all subjects alike.

Owns rounds, medians, ratios and the line of results. Knows no work.
"""

import gc
import json
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any


@dataclass(frozen=True)
class Subject:
    """One that is measured."""

    name: str
    """What it is, for the table."""
    measure: Callable[[], float]
    """Does one round and returns its value in the work's unit."""
    durability: str
    """What a commit survives: settings that were read back, not those that were asked for."""


@dataclass(frozen=True)
class Subjects:
    """Who takes part in a work."""

    ours: Subject
    floor: Subject
    peer: Subject | None = None


@dataclass(frozen=True)
class Work:
    """One thing that is measured."""

    name: str
    what: str
    """What one unit of it is, in a sentence."""
    unit: str
    higher_is_better: bool
    prepare: Callable[[Path, bool], AbstractContextManager[Subjects]]
    """Called with an empty directory and whether peers take part."""


@dataclass(frozen=True)
class Measurement:
    """The values of one subject, a round each."""

    values: Sequence[float]

    @property
    def median(self) -> float:
        """The value that half of the rounds reached."""
        return median(self.values)

    def __str__(self) -> str:
        return f"{shown(self.median)} [{shown(min(self.values))}-{shown(max(self.values))}]"


@dataclass(frozen=True)
class Outcome:
    """A work that was measured."""

    work: Work
    subjects: Subjects
    measured: Mapping[str, Measurement]
    """By role: ours, floor, and peer when one took part."""
    rounds: int

    def ratio(self, role: str) -> float | None:
        """Return the median of ours over that of `role`; none when it took no part."""
        other = self.measured.get(role)
        return None if other is None else self.measured["ours"].median / other.median

    def line(self) -> dict[str, Any]:
        """Return what is kept of it: medians and the ratios ours/floor and ours/peer."""
        peer = self.measured.get("peer")
        return {
            "work": self.work.name,
            "ours": self.measured["ours"].median,
            "floor": self.measured["floor"].median,
            "peer": None if peer is None else peer.median,
            "ratio_floor": self.ratio("floor"),
            "ratio_peer": self.ratio("peer"),
            "unit": self.work.unit,
            "rounds": self.rounds,
        }


def measure(work: Work, directory: Path, *, rounds: int, with_peers: bool, tell: Callable[[str], None]) -> Outcome:
    """Measure a work; every round measures every subject once, each round begins with another one.

    Raises:
        ValueError: there are no rounds, or ours and the floor have different durability: no ratio means anything then.
    """
    if rounds < 1:
        raise ValueError(f"{rounds} rounds: measure at least one")
    with work.prepare(directory, with_peers) as subjects:
        if subjects.ours.durability != subjects.floor.durability:
            raise ValueError(
                f"{work.name}: ours has {subjects.ours.durability}, the floor {subjects.floor.durability}: "
                "give both the same settings"
            )
        members = [("ours", subjects.ours), ("floor", subjects.floor)]
        if subjects.peer is not None:
            members.append(("peer", subjects.peer))
        for role, subject in members:
            tell(f"{work.name}: {role} is {subject.name}; {subject.durability}")
            subject.measure()  # not counted: imports, caches, the first pages of a file
        values: dict[str, list[float]] = {role: [] for role, _ in members}
        for number in range(rounds):
            first = number % len(members)
            for role, subject in members[first:] + members[:first]:
                gc.collect()
                values[role].append(subject.measure())
            latest = ", ".join(f"{role} {shown(found[-1])}" for role, found in values.items())
            tell(f"{work.name}: round {number + 1} of {rounds}: {latest} {work.unit}")
        return Outcome(work, subjects, {role: Measurement(found) for role, found in values.items()}, rounds)


def keep(outcome: Outcome, directory: Path) -> Path:
    """Append the outcome's line to the work's file; return the file."""
    directory.mkdir(parents=True, exist_ok=True)
    path = directory / f"{outcome.work.name}.jsonl"
    with path.open("a", encoding="utf-8") as file:
        file.write(json.dumps(outcome.line()) + "\n")
    return path


def shown(value: float) -> str:
    """Return a number with three significant digits, and all digits before the point."""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"
