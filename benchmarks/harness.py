"""How a work is measured: in interleaved rounds, so that a busy minute hits all subjects alike.

Owns works, subjects and rounds. Knows no work, and not how an outcome is shown.
"""

import gc
import json
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median
from typing import Any

from .comparisons import Comparison, Finding, Kind, Measurement, shown

Tell = Callable[[str], None]
"""Told what is going on, a line at a time."""

OURS, FLOOR, PEER = "ours", "floor", "peer"
"""The usual roles; a work may have others beside them."""

RATIOS = (Comparison(Kind.RATIO, OURS, FLOOR), Comparison(Kind.RATIO, OURS, PEER))


@dataclass(frozen=True)
class Subject:
    """One that is measured."""

    name: str
    """What it is, for the table."""
    measure: Callable[[], float]
    """Does one round and returns its value in the work's unit."""
    durability: str | None
    """What a commit survives: settings that were read back, not those that were asked for. None: it stores nothing."""


Subjects = Mapping[str, Subject]
"""Who takes part in a work, by role, in the order of the first round."""


@dataclass(frozen=True)
class Setting:
    """What a work gets to prepare its subjects with."""

    directory: Path
    """Empty, and removed afterwards."""
    with_peers: bool
    tell: Tell


@dataclass(frozen=True)
class Work:
    """One thing that is measured."""

    name: str
    what: str
    """What one unit of it is, in a sentence."""
    unit: str
    higher_is_better: bool
    prepare: Callable[[Setting], AbstractContextManager[Subjects]]
    comparisons: Sequence[Comparison] = RATIOS
    """What is read off the rounds, with the targets."""
    rounds: int = 5
    """How many there are unless somebody asks for another number."""
    turns: int = 1
    """How often a round goes through all subjects; a subject's value in the round is the median of its turns."""


@dataclass(frozen=True)
class Outcome:
    """A work that was measured."""

    work: Work
    subjects: Subjects
    measured: Mapping[str, Measurement]
    """By role."""
    rounds: int

    def findings(self) -> list[Finding]:
        """Return what the work's comparisons give; those with somebody who took no part are left out.

        No target is judged when a control is not seen.
        """
        found = [
            finding
            for comparison in self.work.comparisons
            if (finding := comparison.over(self.measured, higher_is_better=self.work.higher_is_better)) is not None
        ]
        if any(finding.is_blind for finding in found):
            return [replace(finding, is_met=None) for finding in found]
        return found

    def line(self) -> dict[str, Any]:
        """Return what is kept of it: the medians of ours, floor and peer, the ratios to ours, and the findings."""
        ratios = {
            role: Comparison(Kind.RATIO, OURS, role).over(self.measured, higher_is_better=True)
            for role in (FLOOR, PEER)
        }
        medians = {role: self.measured[role].median if role in self.measured else None for role in (OURS, FLOOR, PEER)}
        return {
            "work": self.work.name,
            **medians,
            **{f"ratio_{role}": None if found is None else found.values.median for role, found in ratios.items()},
            "unit": self.work.unit,
            "rounds": self.rounds,
            "findings": [finding.line() for finding in self.findings()],
        }


def measure(work: Work, directory: Path, *, tell: Tell, rounds: int | None = None, with_peers: bool = False) -> Outcome:
    """Measure a work; every round measures every subject once, each round begins with another one.

    Raises:
        ValueError: there are no rounds, or those that store something differ in durability: no ratio means anything.
    """
    rounds = work.rounds if rounds is None else rounds
    if rounds < 1:
        raise ValueError(f"{rounds} rounds: measure at least one")
    with work.prepare(Setting(directory, with_peers, tell)) as subjects:
        _check_durability(work, subjects)
        for role, subject in subjects.items():
            tell(f"{work.name}: {role} is {subject.name}; {subject.durability or 'stores nothing of its own'}")
            subject.measure()  # not counted: imports, caches, the first pages of a file
        values: dict[str, list[float]] = {role: [] for role in subjects}
        for number in range(rounds):
            for role, value in _round(subjects, number, turns=work.turns).items():
                values[role].append(value)
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


def _round(subjects: Subjects, number: int, *, turns: int) -> dict[str, float]:
    """Measure everybody, in another order than in the turn before; return role -> median of the turns."""
    members = list(subjects.items())
    taken: dict[str, list[float]] = {role: [] for role in subjects}
    for turn in range(turns):
        first = (number * turns + turn) % len(members)
        for role, subject in members[first:] + members[:first]:
            gc.collect()
            taken[role].append(subject.measure())
    return {role: median(values) for role, values in taken.items()}


def _check_durability(work: Work, subjects: Subjects) -> None:
    ours = subjects[OURS].durability
    for role, subject in subjects.items():
        if subject.durability not in (ours, None):
            raise ValueError(
                f"{work.name}: ours has {ours}, the {role} {subject.durability}: give both the same settings"
            )
