"""What a replay reads: all SQL for the inputs of the run that it repeats, and whether they are still to be had.

Every function works in the caller's transaction.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date, datetime
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from ...lineage.models import Deployment, DeploymentState, Freshness, Version
from ...storage.ids import show_run_id
from ...storage.models import Artifact, ArtifactObject, StoredObject
from ...storage.words import OnStale
from ..gate import Decision, UpstreamReport, Verdict
from ..models import RunInput

_INPUT = RunInput.__table__  # type: ignore[attr-defined]
_DEPLOYMENT = Deployment.__table__  # type: ignore[attr-defined]
_STATE = DeploymentState.__table__  # type: ignore[attr-defined]
_VERSION = Version.__table__  # type: ignore[attr-defined]
_ARTIFACT = Artifact.__table__  # type: ignore[attr-defined]
_LINK = ArtifactObject.__table__  # type: ignore[attr-defined]
_OBJECT = StoredObject.__table__  # type: ignore[attr-defined]


@dataclass(frozen=True)
class Pinned:
    """A version that the repeated run pinned or read."""

    role: str
    upstream_id: UUID
    key: str
    version_id: UUID
    number: int
    digest: str
    data_end: date | None
    run_id: UUID
    """The run that published it."""
    withdrawn_reason: str | None
    """Why it was withdrawn; none when it was not."""
    freshness: Freshness
    """Of its deployment, now."""
    current_number: int | None
    """Number of its deployment's current version."""

    @property
    def name(self) -> str:
        """As people write it: `refresh/prices@v3`."""
        return f"{self.key}@v{self.number}"


def pins_of(connection: Connection, run_id: UUID) -> list[Pinned]:
    """Return what a run pinned, and what it read without having pinned it, by role."""
    current = _VERSION.alias("current")
    query = (
        sa.select(
            _INPUT.c.role,
            _INPUT.c.upstream_id,
            _DEPLOYMENT.c.key,
            _VERSION.c.id.label("version_id"),
            _VERSION.c.number,
            _VERSION.c.digest,
            _VERSION.c.data_end,
            _VERSION.c.run_id,
            _VERSION.c.withdrawn_at,
            _VERSION.c.withdrawn_reason,
            _STATE.c.freshness,
            current.c.number.label("current_number"),
        )
        .join(_VERSION, _VERSION.c.id == _INPUT.c.version_id)
        .join(_DEPLOYMENT, _DEPLOYMENT.c.id == _INPUT.c.upstream_id)
        .join(_STATE, sa.and_(_STATE.c.deployment_id == _DEPLOYMENT.c.id, _STATE.c.partition == ""))
        .outerjoin(current, current.c.id == _STATE.c.version_id)
        .where(_INPUT.c.run_id == run_id)
        .order_by(_INPUT.c.role)
    )
    return [
        Pinned(
            role=row.role,
            upstream_id=row.upstream_id,
            key=row.key,
            version_id=row.version_id,
            number=row.number,
            digest=row.digest,
            data_end=row.data_end,
            run_id=row.run_id,
            withdrawn_reason=None if row.withdrawn_at is None else row.withdrawn_reason or "no reason was given",
            freshness=Freshness(row.freshness),
            current_number=row.current_number,
        )
        for row in connection.execute(query)
    ]


def collected(connection: Connection, run_ids: Iterable[UUID]) -> dict[UUID, str]:
    """Return, of these runs, those of whose published artifacts the data are gone: run -> name of the artifact."""
    is_gone = sa.or_(_ARTIFACT.c.removed_at.is_not(None), _OBJECT.c.swept_at.is_not(None))
    query = (
        sa.select(_ARTIFACT.c.owner_id, sa.func.min(_ARTIFACT.c.name).label("name"))
        .outerjoin(_LINK, _LINK.c.artifact_id == _ARTIFACT.c.id)
        .outerjoin(_OBJECT, _OBJECT.c.name == _LINK.c.object_name)
        .where(_ARTIFACT.c.owner_id.in_(list(run_ids)), _ARTIFACT.c.publish, is_gone)
        .group_by(_ARTIFACT.c.owner_id)
    )
    return {row.owner_id: row.name for row in connection.execute(query)}


def decision_of(connection: Connection, original_id: UUID, *, now: datetime) -> Decision:
    """Return the decision on a replay of this run: it starts, however fresh the upstreams are, on what that run read.

    It is refused when one of those versions was withdrawn meanwhile.
    """
    pins = pins_of(connection, original_id)
    reason = f"replay of {show_run_id(original_id)}: it reads the versions that that run read"
    verdict = Verdict.RUN
    withdrawn = next((pin for pin in pins if pin.withdrawn_reason is not None), None)
    if withdrawn is not None:
        verdict = Verdict.REFUSE
        reason = (
            f"replay of {show_run_id(original_id)}: {withdrawn.name}, which it would read, was withdrawn: "
            f"{withdrawn.withdrawn_reason}"
        )
    return Decision(
        verdict=verdict,
        reason=reason,
        on_stale=OnStale.FORCE,
        upstreams=tuple(_report(pin) for pin in pins),
        as_of=now,
    )


def _report(pin: Pinned) -> UpstreamReport:
    is_old = pin.current_number != pin.number
    return UpstreamReport(
        role=pin.role,
        deployment_id=pin.upstream_id,
        key=pin.key,
        freshness=pin.freshness,
        reason=f"{pin.name} is read again, v{pin.current_number} is current" if is_old and pin.current_number else "",
        version_id=pin.version_id,
        number=pin.number,
        digest=pin.digest,
        data_end=pin.data_end,
    )
