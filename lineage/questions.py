"""What went into a version, what was built from it, and how deployments hang together.

Reads only, in the caller's transaction unless it says otherwise; how a graph is walked is in `walking`.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from operator import attrgetter
from typing import Any, ClassVar, TypeVar
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from ..storage.database import Database
from ..storage.errors import InvalidInput, NotFound
from ..storage.ids import parse_run_id, show_run_id
from ..storage.statement import Statement
from ..storage.words import EdgeKind, Removal
from . import references
from .listing import Listing, maker
from .models import Deployment, DeploymentState, Edge, Freshness, Version, VersionInput
from .walking import Reached, Way

T = TypeVar("T")

_VERSION = Version.__table__  # type: ignore[attr-defined]
_INPUT = VersionInput.__table__  # type: ignore[attr-defined]
_STATE = DeploymentState.__table__  # type: ignore[attr-defined]
_DEPLOYMENT = Deployment.__table__  # type: ignore[attr-defined]
_EDGE = Edge.__table__  # type: ignore[attr-defined]
_CURRENT = _VERSION.alias("current")


@dataclass(frozen=True, slots=True)
class InputVersion:
    """One version that went into another one."""

    depth: int
    """1 for what was read directly; the shortest way counts."""
    role: str
    """The role that its reader read it in."""
    key: str
    """Its deployment."""
    number: int
    version_id: UUID
    run_id: UUID
    """The run that published it."""
    digest: str
    data_end: date | None
    created_at: datetime
    is_current: bool
    """It is still the current version of its deployment, or has the same digest as that."""
    is_withdrawn: bool = False
    """Somebody declared it wrong."""

    DERIVED: ClassVar = ("resource", "version", "holds")
    """What a table has besides."""

    @property
    def resource(self) -> str:
        """What it is a version of, such as `prices`."""
        return self.key.partition("/")[2]

    @property
    def version(self) -> str:
        """How it is asked for, such as `refresh/prices@v12`."""
        return f"{self.key}@v{self.number}"

    @property
    def holds(self) -> bool:
        """It is current, and nobody declared it wrong."""
        return self.is_current and not self.is_withdrawn


@dataclass(frozen=True, slots=True)
class BuiltVersion:
    """One version that was built from another one."""

    depth: int
    """1 for what read it directly; the shortest way counts."""
    role: str
    """The role in which it read."""
    key: str
    """Its deployment."""
    number: int
    version_id: UUID
    run_id: UUID
    """The run that published it."""
    digest: str
    data_end: date | None
    created_at: datetime
    is_current: bool
    """It is the current version of its deployment: people build on it now."""
    is_withdrawn: bool = False
    """Somebody declared it wrong."""


class Impact(Listing[BuiltVersion]):
    """Everything that was built from a version, directly or through others, nearest first."""

    def __init__(self, rows: Iterable[BuiltVersion]) -> None:
        super().__init__(rows, BuiltVersion)

    @property
    def current(self) -> Listing[BuiltVersion]:
        """Those of it that are the current version of their deployment: what has to be made anew."""
        return Listing((row for row in self if row.is_current), BuiltVersion)


@dataclass(frozen=True, slots=True)
class LinkedDeployment:
    """One deployment above or below another one in the graph."""

    depth: int
    """1 for a direct neighbour; the shortest way counts."""
    role: str
    """The role in which the lower one reads the upper one."""
    kind: EdgeKind
    """What the lower one takes."""
    key: str
    freshness: Freshness
    number: int | None
    """Number of its current version."""
    data_end: date | None
    """Last data date of its current version."""
    is_observed: bool
    """Not declared: a run read it."""
    is_retired: bool


def is_run(reference: str | UUID) -> bool:
    """Return whether this is meant to be a run: the keys of deployments have a slash, a run's id has none."""
    return isinstance(reference, UUID) or "/" not in reference


def run_named(reference: str | UUID) -> UUID:
    """Return the id of a run, written with or without `run-`.

    Raises:
        InvalidInput: it is no id.
    """
    try:
        return parse_run_id(reference)
    except InvalidInput:
        raise InvalidInput(
            f"{reference!r} is neither a version nor a run; write refresh/prices, refresh/prices@v12 or run-0199b3c2-…"
        ) from None


def version_named(connection: Connection, reference: str | UUID, *, tenant_id: str) -> UUID:
    """Return the id of the version that a reference means: `refresh/prices`, `refresh/prices@v12`, or its run.

    Raises:
        InvalidInput: the text is neither a version nor a run.
        NotFound: there is no such deployment or version, or the run has published none.
    """
    if not is_run(reference):
        found: UUID = references.resolve(connection, str(reference), tenant_id=tenant_id).id
        return found
    run_id = run_named(reference)
    published: UUID | None = _OF_RUN.scalar(connection, run_id=run_id, tenant_id=tenant_id)
    if published is None:
        raise NotFound("version published by", show_run_id(run_id))
    return published


def inputs_of(connection: Connection, version_id: UUID, *, recursive: bool = True) -> Listing[InputVersion]:
    """Return what went into a version, nearest first; each version once per role, down to the sources."""
    return _inputs(_ABOVE.from_node(connection, version_id, recursive=recursive))


def inputs_of_run(database: Database, run_id: UUID, *, tenant_id: str) -> Listing[InputVersion]:
    """Return what went into the version that a run has published, as `inputs_of` does; in one query, and one
    transaction of its own.

    Raises:
        NotFound: the run has published none.
    """
    reached = _ABOVE.from_found(database, run_id=run_id, tenant_id=tenant_id)
    if reached is None:
        raise NotFound("version published by", show_run_id(run_id))
    return _inputs(reached)


def inputs_from(
    connection: Connection, reads: Iterable[tuple[str, UUID]], *, recursive: bool = True
) -> Listing[InputVersion]:
    """Return what goes into something that reads these versions, (role, version) each: a run that is under way."""
    return _inputs(_ABOVE.from_entries(connection, reads, recursive=recursive))


def consumers_of(connection: Connection, version_id: UUID) -> Listing[BuiltVersion]:
    """Return the versions that read this one directly, by deployment and number."""
    return Listing(_built(_BELOW.from_node(connection, version_id, recursive=False)), BuiltVersion)


def impact_of(connection: Connection, version_id: UUID) -> Impact:
    """Return everything that was built from a version, nearest first; each version once per role."""
    return Impact(_built(_BELOW.from_node(connection, version_id)))


def edges_among(connection: Connection, version_ids: Sequence[UUID]) -> list[tuple[UUID, UUID]]:
    """Return which of these versions read which, as (read, reader), each pair once."""
    query = (
        sa.select(_INPUT.c.input_version_id, _INPUT.c.version_id)
        .where(_INPUT.c.version_id.in_(version_ids), _INPUT.c.input_version_id.in_(version_ids))
        .distinct()
    )
    return [(row.input_version_id, row.version_id) for row in connection.execute(query)]


def deployments_above(
    connection: Connection, deployment_id: UUID, *, recursive: bool = True
) -> Listing[LinkedDeployment]:
    """Return what a deployment reads, directly or through others, nearest first; each once per role and kind."""
    return _linked(_UPSTREAM.from_node(connection, deployment_id, recursive=recursive))


def deployments_below(
    connection: Connection, deployment_id: UUID, *, recursive: bool = True
) -> Listing[LinkedDeployment]:
    """Return what reads a deployment, directly or through others, nearest first; each once per role and kind."""
    return _linked(_DOWNSTREAM.from_node(connection, deployment_id, recursive=recursive))


_PUBLISHED, _ITS = _VERSION.alias("published"), _DEPLOYMENT.alias("its")
_BY_RUN = (
    sa.select(_PUBLISHED.c.id)
    .join(_ITS, _ITS.c.id == _PUBLISHED.c.deployment_id)
    .where(_PUBLISHED.c.run_id == sa.bindparam("run_id"), _ITS.c.tenant_id == sa.bindparam("tenant_id"))
    # What a deleted run published is found by its number only.
    .where(_PUBLISHED.c.removal.is_distinct_from(sa.literal_column(f"'{Removal.DELETION}'")))
)
_OF_RUN = Statement(lambda _: _BY_RUN)


def _way_of_versions(
    near: sa.Column[UUID], far: sa.Column[UUID], is_current: sa.ColumnElement[bool], *are_told: sa.ColumnElement[bool]
) -> Way:
    """The facts are in the order of the fields of both kinds of rows."""

    def joined(nodes: sa.Select[Any]) -> sa.Select[Any]:
        is_its = sa.and_(_STATE.c.deployment_id == _VERSION.c.deployment_id, _STATE.c.partition == _VERSION.c.partition)
        of = nodes.join(_DEPLOYMENT, _DEPLOYMENT.c.id == _VERSION.c.deployment_id).outerjoin(_STATE, is_its)
        return of.where(*are_told)

    facts = (
        _DEPLOYMENT.c.key,
        _VERSION.c.number,
        _VERSION.c.id,
        _VERSION.c.run_id,
        _VERSION.c.digest,
        _VERSION.c.data_end,
        _VERSION.c.created_at,
        sa.func.coalesce(is_current, sa.false()).label("is_current"),
        _VERSION.c.withdrawn_at.is_not(None).label("is_withdrawn"),
    )
    return Way(near, far, [_INPUT.c.role], node=_VERSION.c.id, facts=facts, joined=joined, found_by=_BY_RUN)


def _way_of_deployments(near: sa.Column[UUID], far: sa.Column[UUID]) -> Way:
    def joined(nodes: sa.Select[Any]) -> sa.Select[Any]:
        is_its = sa.and_(_STATE.c.deployment_id == _DEPLOYMENT.c.id, _STATE.c.partition == "")
        return nodes.join(_STATE, is_its).outerjoin(_VERSION, _VERSION.c.id == _STATE.c.version_id)

    facts = (
        _DEPLOYMENT.c.key,
        (_DEPLOYMENT.c.retired_at.is_not(None)).label("is_retired"),
        _STATE.c.freshness,
        _VERSION.c.number,
        _VERSION.c.data_end,
    )
    said = [_EDGE.c.role, _EDGE.c.kind, _EDGE.c.observed]
    return Way(near, far, said, node=_DEPLOYMENT.c.id, facts=facts, joined=joined)


_IS_CURRENT = _STATE.c.version_id == _VERSION.c.id
_DIGEST_NOW = sa.select(_CURRENT.c.digest).where(_CURRENT.c.id == _STATE.c.version_id).scalar_subquery()
# Looked up for what is not current alone: a join would do it for each.
_HOLDS = sa.case((_IS_CURRENT, sa.true()), else_=_VERSION.c.digest == _DIGEST_NOW)
# What somebody deleted was not built, as far as people are concerned; what retention took still was.
_IS_NOT_DELETED = _VERSION.c.removal.is_distinct_from(sa.literal_column(f"'{Removal.DELETION}'"))
_ABOVE = _way_of_versions(_INPUT.c.version_id, _INPUT.c.input_version_id, _HOLDS)
_BELOW = _way_of_versions(_INPUT.c.input_version_id, _INPUT.c.version_id, _IS_CURRENT, _IS_NOT_DELETED)
_UPSTREAM = _way_of_deployments(_EDGE.c.deployment_id, _EDGE.c.upstream_id)
_DOWNSTREAM = _way_of_deployments(_EDGE.c.upstream_id, _EDGE.c.deployment_id)


_input_version, _built_version = maker(InputVersion), maker(BuiltVersion)
_NEAREST_FIRST = attrgetter("depth", "key", "role", "number")


def _inputs(reached: Iterable[Reached]) -> Listing[InputVersion]:
    return Listing(_nearest_first(_input_version(*one) for one in reached), InputVersion)


def _built(reached: Iterable[Reached]) -> list[BuiltVersion]:
    return _nearest_first(_built_version(*one) for one in reached)


def _nearest_first(rows: Iterable[T]) -> list[T]:
    return sorted(rows, key=_NEAREST_FIRST)


def _linked(reached: Iterable[Reached]) -> Listing[LinkedDeployment]:
    rows = [
        LinkedDeployment(
            depth,
            role,
            EdgeKind(kind),
            key,
            Freshness(freshness),
            number,
            data_end,
            observed,
            is_retired,
        )
        for depth, role, kind, observed, key, is_retired, freshness, number, data_end in reached
    ]
    rows.sort(key=attrgetter("depth", "key", "role"))
    return Listing(rows, LinkedDeployment)
