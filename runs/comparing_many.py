"""Several runs side by side: each is compared with the first one, as `comparing` compares two."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from uuid import UUID

from ..lineage.listing import Listing, cell, html_table
from ..storage.errors import InvalidInput
from ..storage.ids import parse_run_id, show_run_id
from .comparing import ComparedFact, RunFacts, Section, compare

if TYPE_CHECKING:
    import pandas as pd

_Facts = dict[tuple[Section, str], ComparedFact]

_FEWEST, _MOST = 2, 50
"""A table with more columns than that is read by nobody; search gives one with a row for each run."""


@dataclass(frozen=True, slots=True)
class FactOfRuns:
    """One fact of several runs."""

    section: Section
    name: str
    values: tuple[Any, ...]
    """What each run has, in the order in which the runs were given; None where it has none."""
    is_equal: bool
    """All have what the first one has."""
    equals: tuple[bool, ...]
    """Whether each has what the first one has."""


@dataclass(frozen=True)
class RunTable:
    """Several runs, fact by fact."""

    runs: tuple[UUID, ...]
    deployments: tuple[str, ...]
    """The deployment of each."""
    facts: Listing[FactOfRuns]
    """In the order of the sections, by name within each."""

    @property
    def differences(self) -> Listing[FactOfRuns]:
        """The facts in which not all are equal."""
        return Listing((fact for fact in self.facts if not fact.is_equal), FactOfRuns)

    def section(self, section: Section | str) -> Listing[FactOfRuns]:
        """Return the facts of one section."""
        return Listing((fact for fact in self.facts if fact.section == Section(section)), FactOfRuns)

    def sentence(self) -> str:
        """Say in one sentence where they differ, section by section."""
        counted: dict[Section, int] = {}
        for fact in self.differences:
            counted[fact.section] = counted.get(fact.section, 0) + 1
        if not counted:
            return f"these {len(self.runs)} runs are equal in everything that is recorded of them"
        where = ", ".join(f"{name} ({count})" for name, count in counted.items())
        return f"these {len(self.runs)} runs differ in {where}"

    def to_pandas(self) -> "pd.DataFrame":
        """Return one row per fact: section, name, is_equal, and a column per run, named `run-…`."""
        import pandas as pd

        columns: dict[str, list[Any]] = {
            "section": [fact.section.value for fact in self.facts],
            "name": [fact.name for fact in self.facts],
            "is_equal": [fact.is_equal for fact in self.facts],
        }
        for at, run_id in enumerate(self.runs):
            # Object columns: values of one fact are numbers, those of the next one words.
            values = [cell(fact.values[at]) for fact in self.facts]
            columns[show_run_id(run_id)] = pd.Series(values, dtype=object)  # type: ignore[assignment]  # a column too
        return pd.DataFrame(columns)

    def _repr_html_(self) -> str:
        columns = ("section", "name", *(show_run_id(run_id) for run_id in self.runs))
        rows = [(fact.section, fact.name, *fact.values) for fact in self.differences]
        return html_table(columns, rows, caption=self.sentence())


def check(run_ids: Sequence[UUID | str]) -> None:
    """Refuse what cannot be compared.

    Raises:
        InvalidInput: they are fewer than two, more than fifty, or one comes twice.
    """
    if not _FEWEST <= len(run_ids) <= _MOST:
        raise InvalidInput(f"{len(run_ids)} runs were given: from {_FEWEST} to {_MOST} can be compared")
    seen: set[UUID] = set()
    for run_id in map(parse_run_id, run_ids):
        if run_id in seen:
            raise InvalidInput(f"{show_run_id(run_id)} was given twice: a run is equal to itself")
        seen.add(run_id)


def compare_all(runs: Sequence[RunFacts]) -> RunTable:
    """Return every fact of the runs, with whether all have the same."""
    first, *others = runs
    found = [{(fact.section, fact.name): fact for fact in compare(first, other).facts} for other in others]
    keys = dict.fromkeys(key for facts in found for key in facts)
    sections = list(Section)
    rows = [_side_by_side(key, found) for key in sorted(keys, key=lambda key: (sections.index(key[0]), key[1]))]
    return RunTable(tuple(one.run.id for one in runs), tuple(one.deployment for one in runs), Listing(rows, FactOfRuns))


def _side_by_side(key: tuple[Section, str], found: Sequence[_Facts]) -> FactOfRuns:
    facts = [pair.get(key) for pair in found]
    ours = next(fact.a for fact in facts if fact is not None)
    theirs = [fact.b if fact is not None else _unsaid(key, ours, pair) for fact, pair in zip(facts, found, strict=True)]
    # What a comparison does not tell of two runs is alike in them, if only because neither has it.
    equals = (True, *(fact is None or fact.is_equal for fact in facts))
    return FactOfRuns(*key, (ours, *theirs), is_equal=all(equals), equals=equals)


def _unsaid(key: tuple[Section, str], ours: Any, pair: _Facts) -> Any:
    """Return what a run has of a fact that its comparison does not tell: nothing, or a column of the same type."""
    section, name = key
    has_table = any(told is section and name.startswith(f"{table}.") for told, table in pair)
    return ours if section is Section.SCHEMA and has_table else None
