"""What came out of a replay, beside what came out of the run that it repeats.

Outputs are compared by digest; tables whose digests differ also column by column, in streams, row by row in their
order. Measured times (metrics in seconds) are shown and do not count: they differ from run to run.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any
from uuid import UUID

from ...storage.artifacts import ArtifactRecord, artifacts_of
from ...storage.database import Database
from ...storage.errors import ArtifactError, InvalidInput
from ...storage.filesystem import ObjectStore
from ...storage.ids import parse_run_id, show_run_id
from ...storage.models import ArtifactKind
from .. import contents, store
from ..care import acts
from ..status import RunStatus
from . import replays

if TYPE_CHECKING:
    from .table_comparison import TableComparison

_CODE = ("git_commit", "code_digest", "environment_digest", "declaration_digest")
_MEASURED_UNITS = frozenset({"s", "ms", "ns"})


@dataclass(frozen=True)
class CodeDifference:
    """Something of the code that the two runs do not share."""

    what: str
    """`git_commit`, `code_digest`, `environment_digest` or `declaration_digest`: columns of a run."""
    original: str | None
    replay: str | None


@dataclass(frozen=True)
class OutputComparison:
    """A published table or file of the two runs."""

    name: str
    kind: str
    original_digest: str | None
    """Null when only the replay wrote it."""
    replay_digest: str | None
    """Null when only the original wrote it."""
    table: "TableComparison | None" = None
    """Column by column; null unless both are tables that differ and can be read."""
    note: str | None = None
    """Why the columns were not compared."""

    @property
    def is_equal(self) -> bool:
        """True when the digests are equal."""
        return self.original_digest == self.replay_digest


@dataclass(frozen=True)
class MetricComparison:
    """A metric of the two runs."""

    name: str
    original: float | None
    """Null when only the replay has it."""
    replay: float | None
    """Null when only the original has it."""
    unit: str | None
    counts: bool
    """False for a measured time."""

    @property
    def is_equal(self) -> bool:
        """True when both are the same number, or both NaN."""
        if self.original is None or self.replay is None:
            return False
        return self.original == self.replay or (math.isnan(self.original) and math.isnan(self.replay))

    @property
    def difference(self) -> float | None:
        """Replay minus original; null when one is missing."""
        return None if self.original is None or self.replay is None else self.replay - self.original


@dataclass(frozen=True)
class ReplayComparison:
    """The two runs beside one another."""

    deployment: str
    original: UUID
    replay: UUID
    code: Sequence[CodeDifference]
    """What of the code differs; empty: nothing."""
    outputs: Sequence[OutputComparison]
    metrics: Sequence[MetricComparison]
    returned_is_equal: bool
    """Whatever else the body returned is the same."""

    @property
    def is_equal(self) -> bool:
        """True when every output, every metric that counts, and whatever else was returned is the same."""
        counted = all(metric.is_equal for metric in self.metrics if metric.counts)
        return counted and self.returned_is_equal and all(output.is_equal for output in self.outputs)

    def sentence(self) -> str:
        """Return what differs, in one sentence."""
        parts = [output.name for output in self.outputs if not output.is_equal]
        parts += [metric.name for metric in self.metrics if metric.counts and not metric.is_equal]
        parts += [] if self.returned_is_equal else ["what the body returned"]
        code = ", ".join(f"another {difference.what.replace('_', ' ')}" for difference in self.code)
        ran = f" (with {code})" if code else " (with the same code)"
        if not parts:
            return f"{show_run_id(self.replay)} gave the same result as {show_run_id(self.original)}{ran}"
        return f"{show_run_id(self.replay)} differs from {show_run_id(self.original)}{ran}: {', '.join(parts)}"


def compare_replay(database: Database, objects: ObjectStore, run_id: UUID | str) -> ReplayComparison:
    """Compare a replay that has completed with the run that it repeats.

    Raises:
        NotFound: there is no such run.
        InvalidInput: it is no replay, or has not completed.
    """
    wanted = parse_run_id(run_id)
    with database.read() as connection:
        replay = store.get_run(connection, wanted)
        acts.refuse_deleted(connection, replay)
        if replay.replay_of is None:
            raise InvalidInput(f"{show_run_id(wanted)} is no replay of another run: replay it first")
        if replay.status != RunStatus.COMPLETED:
            ended = f" ({replay.stop_reason})" if replay.stop_reason else ""
            raise InvalidInput(f"{show_run_id(wanted)} is {replay.status}{ended}: there is no result to compare")
        original = store.get_run(connection, replay.replay_of)
        acts.refuse_deleted(connection, original)
        runs = [original.id, replay.id]
        metrics: dict[UUID, dict[str, Any]] = {run_id: {} for run_id in runs}
        for row in contents.metrics_of(connection, runs):
            metrics[row.run_id][row.name] = row
        artifacts = [{one.name: one for one in artifacts_of(connection, run_id) if one.publish} for run_id in runs]
        collected = replays.collected(connection, runs)
        deployment = store.deployment_key(connection, replay.deployment_id)
    before, after = artifacts
    return ReplayComparison(
        deployment=deployment,
        original=original.id,
        replay=replay.id,
        code=tuple(
            CodeDifference(name, getattr(original, name), getattr(replay, name))
            for name in _CODE
            if getattr(original, name) != getattr(replay, name)
        ),
        outputs=tuple(
            _output(objects, before.get(name), after.get(name), is_gone=bool(collected))
            for name in sorted(before.keys() | after.keys())
        ),
        metrics=_metrics(metrics[original.id], metrics[replay.id]),
        returned_is_equal=(original.outputs or {}) == (replay.outputs or {}),
    )


def _output(
    objects: ObjectStore, before: ArtifactRecord | None, after: ArtifactRecord | None, *, is_gone: bool
) -> OutputComparison:
    one = before or after
    assert one is not None, "the name is that of one of them"
    compared = OutputComparison(
        name=one.name,
        kind=one.kind,
        original_digest=before.digest if before else None,
        replay_digest=after.digest if after else None,
    )
    if before is None or after is None or compared.is_equal:
        return compared
    if before.kind != ArtifactKind.TABLE or after.kind != ArtifactKind.TABLE:
        return replace(compared, note="files are compared by their digests alone")
    if is_gone:
        return replace(compared, note="its rows are gone: retention or a deletion took them")
    from .table_comparison import compare_tables

    try:
        return replace(compared, table=compare_tables(objects, before.stored_table(), after.stored_table()))
    except ArtifactError as error:
        return replace(compared, note=str(error))


def _metrics(before: dict[str, Any], after: dict[str, Any]) -> tuple[MetricComparison, ...]:
    found = []
    for name in sorted(before.keys() | after.keys()):
        row = before.get(name) or after.get(name)
        unit = ((row.convention if row is not None else None) or {}).get("unit")
        found.append(
            MetricComparison(
                name=name,
                original=_value(before.get(name)),
                replay=_value(after.get(name)),
                unit=unit,
                counts=unit not in _MEASURED_UNITS,
            )
        )
    return tuple(found)


def _value(row: Any) -> float | None:
    if row is None:
        return None
    return math.nan if row.value is None else float(row.value)
