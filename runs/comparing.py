"""What tells two runs apart: what was asked, what they read, code and environment, metrics, schema and outputs.

`compare` is a pure function of the facts that `facts_of` reads. Equal content counts as equal, whatever its version
number: digests decide.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.engine import Connection, Row

from ..lineage import questions
from ..lineage.listing import Listing, html_table
from ..lineage.models import Deployment, Version
from ..storage.artifacts import ArtifactRecord, artifacts_of
from ..storage.ids import show_run_id
from ..storage.stored import StoredTable
from . import contents

if TYPE_CHECKING:
    import pandas as pd

_DEPLOYMENT = Deployment.__table__  # type: ignore[attr-defined]
_VERSION = Version.__table__  # type: ignore[attr-defined]


class Section(StrEnum):
    """What a compared fact is about."""

    REQUEST = "request"
    """Which deployment, and what was asked of Freshline."""
    PARAMETERS = "parameters"
    """The flow's own."""
    INPUTS = "inputs"
    """The versions that were read directly, by role."""
    UPSTREAM_INPUTS = "upstream_inputs"
    """The versions that went into these, by deployment."""
    CODE = "code"
    """Commit, digests of code and declaration, entrypoint and callables."""
    ENVIRONMENT = "environment"
    """Python, platform, installed distributions."""
    OUTCOME = "outcome"
    """How they ended."""
    METRICS = "metrics"
    """The latest values."""
    SCHEMA = "schema"
    """Columns and types of the tables that both published."""
    OUTPUTS = "outputs"
    """Published tables and files by digest, and what the body returned besides."""


@dataclass(frozen=True, slots=True)
class ComparedFact:
    """One fact of two runs."""

    section: Section
    name: str
    a: Any
    """What the first run has; None where it has none."""
    b: Any
    """What the second run has."""
    is_equal: bool
    change: float | None = None
    """Second minus first, of two finite numbers."""
    note: str = ""


@dataclass(frozen=True)
class Comparison:
    """Two runs, fact by fact."""

    run_a: UUID
    run_b: UUID
    deployment_a: str
    deployment_b: str
    facts: Listing[ComparedFact]
    """In the order of the sections, by name within each."""

    @property
    def differences(self) -> Listing[ComparedFact]:
        """The facts that differ."""
        return Listing((fact for fact in self.facts if not fact.is_equal), ComparedFact)

    def section(self, section: Section | str) -> Listing[ComparedFact]:
        """Return the facts of one section."""
        return Listing((fact for fact in self.facts if fact.section == Section(section)), ComparedFact)

    @property
    def has_equal_outputs(self) -> bool:
        """Both published the same tables and files, with the same content."""
        return all(fact.is_equal for fact in self.section(Section.OUTPUTS))

    def sentence(self) -> str:
        """Say in one sentence where they differ, section by section."""
        counted = {
            section: sum(not fact.is_equal for fact in self.section(section))
            for section in dict.fromkeys(fact.section for fact in self.differences)
        }
        pair = f"{show_run_id(self.run_a)} and {show_run_id(self.run_b)}"
        if not counted:
            return f"{pair} are equal in everything that is recorded of them"
        return f"{pair} differ in {', '.join(f'{name} ({count})' for name, count in counted.items())}"

    def to_pandas(self) -> "pd.DataFrame":
        """Return one row per fact: section, name, a, b, is_equal, change, note."""
        return self.facts.to_pandas()

    def _repr_html_(self) -> str:
        rows = [(fact.section, fact.name, fact.a, fact.b, fact.change, fact.note) for fact in self.differences]
        columns = ("section", "name", show_run_id(self.run_a), show_run_id(self.run_b), "change", "note")
        return html_table(columns, rows, caption=self.sentence())


@dataclass(frozen=True)
class RunFacts:
    """What is compared of a run."""

    run: Row[Any]
    deployment: str
    inputs: Sequence[questions.InputVersion]
    """Down to the sources."""
    metrics: Mapping[str, float]
    artifacts: Mapping[str, ArtifactRecord]
    """What it published, by name."""


def facts_of(connection: Connection, run: Row[Any]) -> RunFacts:
    """Read what is compared of a run: of one that has not published, what it has pinned or read until now."""
    key = connection.execute(sa.select(_DEPLOYMENT.c.key).where(_DEPLOYMENT.c.id == run.deployment_id)).scalar_one()
    published = connection.execute(sa.select(_VERSION.c.id).where(_VERSION.c.run_id == run.id)).scalar_one_or_none()
    if published is not None:
        inputs = questions.inputs_of(connection, published)
    else:
        reads = [(row.role, row.version_id) for row in contents.inputs_of(connection, run.id)]
        inputs = questions.inputs_from(connection, reads)
    metrics = contents.metrics_of(connection, [run.id])
    return RunFacts(
        run=run,
        deployment=key,
        inputs=inputs,
        metrics={metric.name: contents.metric_value(metric) for metric in metrics},
        artifacts={one.name: one for one in artifacts_of(connection, run.id) if one.publish},
    )


def compare(a: RunFacts, b: RunFacts) -> Comparison:
    """Return every fact of the two runs, with whether it is equal."""
    code = ("git_commit", "code_digest", "declaration_digest")
    outcome = ("status", "stop_reason", "error_type", "error_message")
    asked = [{"deployment": side.deployment, **side.run.request} for side in (a, b)]
    facts = [
        *_mappings(Section.REQUEST, *asked),
        *_mappings(Section.PARAMETERS, a.run.parameters, b.run.parameters),
        *_inputs(a.inputs, b.inputs),
        *_upstream_inputs(a.inputs, b.inputs),
        *_mappings(Section.CODE, *({name: getattr(side.run, name) for name in code} for side in (a, b))),
        *_mappings(Section.CODE, *(_workflow(side.run) for side in (a, b))),
        *_mappings(Section.ENVIRONMENT, *({"digest": side.run.environment_digest} for side in (a, b))),
        *_mappings(Section.OUTCOME, *({name: getattr(side.run, name) for name in outcome} for side in (a, b))),
        *_mappings(Section.METRICS, a.metrics, b.metrics),
        *_schemas(a.artifacts, b.artifacts),
        *_artifacts(a.artifacts, b.artifacts),
        *_mappings(Section.OUTPUTS, a.run.outputs or {}, b.run.outputs or {}),
    ]
    return Comparison(a.run.id, b.run.id, a.deployment, b.deployment, Listing(facts, ComparedFact))


def _mappings(section: Section, a: Mapping[str, Any], b: Mapping[str, Any]) -> Iterator[ComparedFact]:
    for name in sorted(a.keys() | b.keys()):
        ours, theirs = a.get(name), b.get(name)
        note = "" if name in a and name in b else _only(in_a=name in a)
        is_equal = name in a and name in b and _same(ours, theirs)
        yield ComparedFact(section, name, ours, theirs, is_equal, _change(ours, theirs), note)


def _inputs(a: Sequence[questions.InputVersion], b: Sequence[questions.InputVersion]) -> Iterator[ComparedFact]:
    ours, theirs = ({read.role: read for read in side if read.depth == 1} for side in (a, b))
    for role in sorted(ours.keys() | theirs.keys()):
        one, other = ours.get(role), theirs.get(role)
        shown, shown_too = (f"{read.key}@v{read.number}" if read else None for read in (one, other))
        is_equal = one is not None and other is not None and (one.key, one.digest) == (other.key, other.digest)
        note = _only(in_a=one is not None) if one is None or other is None else ""
        if is_equal and shown != shown_too:
            note = "another version with the same content"
        yield ComparedFact(Section.INPUTS, role, shown, shown_too, is_equal, note=note)


def _upstream_inputs(
    a: Sequence[questions.InputVersion], b: Sequence[questions.InputVersion]
) -> Iterator[ComparedFact]:
    direct = {read.key for read in a if read.depth == 1} & {read.key for read in b if read.depth == 1}
    for key in sorted({read.key for read in (*a, *b)} - direct):
        ours, theirs = ({read.number: read.digest for read in side if read.key == key} for side in (a, b))
        shown, shown_too = (", ".join(f"v{number}" for number in sorted(side)) or None for side in (ours, theirs))
        is_equal = set(ours.values()) == set(theirs.values())
        note = "" if ours and theirs else _only(in_a=bool(ours))
        if is_equal and shown != shown_too:
            note = "other versions with the same content"
        yield ComparedFact(Section.UPSTREAM_INPUTS, key, shown, shown_too, is_equal, note=note)


def _schemas(a: Mapping[str, ArtifactRecord], b: Mapping[str, ArtifactRecord]) -> Iterator[ComparedFact]:
    for name in sorted(a.keys() & b.keys()):
        ours, theirs = a[name].stored, b[name].stored
        if not isinstance(ours, StoredTable) or not isinstance(theirs, StoredTable):
            continue
        shown, shown_too = (f"{len(table.schema)} columns" for table in (ours, theirs))
        is_equal = ours.schema == theirs.schema
        is_moved = not is_equal and sorted(ours.schema) == sorted(theirs.schema)
        note = "the same columns in another order" if is_moved else ""
        yield ComparedFact(Section.SCHEMA, name, shown, shown_too, is_equal, note=note)
        for fact in _mappings(Section.SCHEMA, dict(ours.schema), dict(theirs.schema)):
            if not fact.is_equal:
                yield ComparedFact(
                    Section.SCHEMA, f"{name}.{fact.name}", fact.a, fact.b, is_equal=False, note=fact.note
                )


def _artifacts(a: Mapping[str, ArtifactRecord], b: Mapping[str, ArtifactRecord]) -> Iterator[ComparedFact]:
    for name in sorted(a.keys() | b.keys()):
        ours, theirs = a.get(name), b.get(name)
        is_equal = ours is not None and theirs is not None and ours.digest == theirs.digest
        note = _only(in_a=ours is not None) if ours is None or theirs is None else ""
        change = _change(*(one.rows if one is not None else None for one in (ours, theirs)))
        yield ComparedFact(Section.OUTPUTS, name, _content(ours), _content(theirs), is_equal, change, note)


def _content(artifact: ArtifactRecord | None) -> str | None:
    if artifact is None:
        return None
    size = f"{artifact.rows:,} rows" if artifact.rows is not None else f"{artifact.size_bytes:,} bytes"
    return f"{artifact.digest[:12]}, {size}"


def _workflow(run: Row[Any]) -> dict[str, Any]:
    """Return what of the declaration says which code runs."""
    workflow = run.workflow or {}
    callables = {f"callable {name}": path for name, path in (workflow.get("callables") or {}).items()}
    return {"entrypoint": workflow.get("entrypoint"), **callables}


def _same(a: Any, b: Any) -> bool:
    if isinstance(a, float) and isinstance(b, float) and math.isnan(a) and math.isnan(b):
        return True
    # In JSON true is not 1, though Python says so.
    return bool(a == b) and isinstance(a, bool) == isinstance(b, bool)


def _change(a: Any, b: Any) -> float | None:
    numbers = [one for one in (a, b) if isinstance(one, int | float) and not isinstance(one, bool)]
    if len(numbers) < 2 or not all(math.isfinite(one) for one in numbers):
        return None
    return float(b - a)


def _only(*, in_a: bool) -> str:
    return "only in the first" if in_a else "only in the second"
