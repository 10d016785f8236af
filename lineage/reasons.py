"""Why is this stale? The stored causes, followed to the runs and versions that started it.

A few queries however long the chains are: the first cause of each deployment on the way (`_FIRST`), what started it
all (`_ORIGINS`), and every cause of the nearest deployments (`_NEAREST`). What is returned is bounded.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from ..storage.statement import Sql, Statement
from .listing import html_table
from .models import Cause, CauseKind, Deployment, DeploymentState, Freshness, Version

_CAUSE = Cause.__table__  # type: ignore[attr-defined]
_DEPLOYMENT = Deployment.__table__  # type: ignore[attr-defined]
_STATE = DeploymentState.__table__  # type: ignore[attr-defined]
_VERSION = Version.__table__  # type: ignore[attr-defined]

MAX_FOLLOWED = 100
"""Deployments whose own reasons an explanation holds, nearest first."""
MAX_LINKS = 20
"""Links of a chain that an explanation holds: half of them from each end."""
MAX_ORIGINS = 20
"""What started it: as many are listed."""
_LINKS_IN_SENTENCE = 6
_INHERITED: sa.ColumnElement[str] = sa.literal_column(f"'{CauseKind.UPSTREAM_STALE}'")


@dataclass(frozen=True)
class Reason:
    """One stored cause, with what lies behind it."""

    kind: CauseKind
    role: str
    upstream: str | None
    """Key of the upstream that it is about."""
    origin_run_id: UUID | None
    """The run that brought it."""
    origin_number: int | None
    """Number of the version that brought it."""
    since: datetime
    because: tuple["Reason", ...] = field(default=(), repr=False, compare=False)
    """For `upstream_stale`: why the upstream is stale. The same reasons may stand behind several."""

    def sentence(self) -> str:
        """Say it in one sentence."""
        version = f"v{self.origin_number}" if self.origin_number is not None else "a version"
        match self.kind:
            case CauseKind.INPUT_CHANGED:
                if self.origin_number is None:
                    what = "has no version any more that holds: what was read continued a withdrawn one"
                else:
                    what = f"is at {version} now, with other content than was read"
                return f"{self.upstream} {what}"
            case CauseKind.UPSTREAM_STALE:
                return f"{self.upstream} is stale itself"
            case CauseKind.DECLARATION_CHANGED:
                return "its declaration or code is not the one that built the current version"
            case CauseKind.EXPIRED:
                return "its freshness policy has lapsed"
            case CauseKind.MISSING_INPUT:
                return f"{self.upstream} was retired"
            case CauseKind.WITHDRAWN:
                return f"{version} of {self.upstream}, which it read, was withdrawn"


@dataclass(frozen=True)
class StaleOrigin:
    """What started it: a cause that no other deployment's staleness stands behind."""

    kind: CauseKind
    key: str
    """The deployment that it is about: the upstream that changed, or the one that is stale by itself."""
    number: int | None
    """Number of the version that brought it."""
    run_id: UUID | None
    """The run that brought it."""
    since: datetime
    """When it first arose."""
    num_hit: int
    """How many of the deployments on the way have it themselves."""

    def sentence(self) -> str:
        """Say it in one sentence."""
        match self.kind:
            case CauseKind.INPUT_CHANGED if self.number is None:
                return f"{self.key} has no version any more that holds"
            case CauseKind.INPUT_CHANGED | CauseKind.UPSTREAM_STALE:
                return f"{self.key} is at v{self.number} now, with other content"
            case CauseKind.DECLARATION_CHANGED:
                return f"the declaration or code of {self.key} has changed"
            case CauseKind.EXPIRED:
                return f"the freshness policy of {self.key} has lapsed"
            case CauseKind.MISSING_INPUT:
                return f"{self.key} was retired"
            case CauseKind.WITHDRAWN:
                return f"{self.key}@v{self.number} was withdrawn"


@dataclass(frozen=True)
class Explanation:
    """The freshness of a deployment and every reason for it."""

    key: str
    freshness: Freshness
    reasons: tuple[Reason, ...]
    chain: tuple[Reason, ...] = ()
    """From its first reason to one that no other stands behind: the first and the last links of a long one."""
    num_links: int = 0
    """How long the chain is."""
    origins: tuple[StaleOrigin, ...] = ()
    """What started it, oldest first; of very many the first ones."""
    num_origins: int = 0
    num_stale_upstream: int = 0
    """How many stale deployments stand behind it."""
    auto_refresh: str | None = None
    """One sentence on the run that follows by itself; none when none does, or where runs are not known."""

    def sentence(self) -> str:
        """Say it in one sentence, what started it last."""
        return _sentence(self.key, self.freshness, self.chain, self.num_links)

    def lines(self) -> Iterator[tuple[int, Reason]]:
        """Yield (depth, reason) for a tree view, depth 0 first; what stands behind a deployment comes once."""
        told: set[str | None] = set()
        below = [iter(self.reasons)]
        while below:
            reason = next(below[-1], None)
            if reason is None:
                below.pop()
                continue
            yield len(below) - 1, reason
            if reason.because and reason.upstream not in told:
                told.add(reason.upstream)
                below.append(iter(reason.because))

    def _repr_html_(self) -> str:
        rows = [("  " * depth + reason.sentence(), reason.role, reason.since) for depth, reason in self.lines()]
        return html_table(("reason", "role", "since"), rows, caption=self.sentence())


def _rank(cause: Any) -> sa.ColumnElement[str]:
    """Sort the causes of one deployment: what people said first, what it inherits last."""
    inherited = sa.case(
        (cause.c.kind == CauseKind.WITHDRAWN, sa.literal_column("'0'")),
        (cause.c.kind == _INHERITED, sa.literal_column("'2'")),
        else_=sa.literal_column("'1'"),
    )
    slash: sa.ColumnElement[str] = sa.literal_column("'/'")
    return inherited.concat(cause.c.kind).concat(slash).concat(cause.c.role)


def _told(cause: Any) -> sa.Select[Any]:
    """Return the causes with the names of what they are about."""
    upstream = _DEPLOYMENT.alias("upstream")
    return (
        sa.select(
            cause.c.deployment_id,
            cause.c.kind,
            cause.c.role,
            cause.c.upstream_id,
            cause.c.origin_run_id,
            cause.c.since,
            upstream.c.key,
            _VERSION.c.number,
        )
        .outerjoin(upstream, upstream.c.id == cause.c.upstream_id)
        .outerjoin(_VERSION, _VERSION.c.id == cause.c.origin_version_id)
    )


def _first_causes(sql: Sql) -> sa.Executable:
    """The first cause of these deployments, of the upstreams that these inherit it from, and so on."""
    other = _CAUSE.alias("other")
    smallest = sa.select(sa.func.min(_rank(other))).where(other.c.deployment_id == _CAUSE.c.deployment_id)
    first = sa.select(_CAUSE).where(_rank(_CAUSE) == smallest.correlate(_CAUSE).scalar_subquery())
    chain = first.where(sql.among(_CAUSE.c.deployment_id, "ids")).cte("chain", recursive=True)
    # UNION: what several chains share is walked once.
    chain = chain.union(
        first.join(chain, sa.and_(chain.c.upstream_id == _CAUSE.c.deployment_id, chain.c.kind == _INHERITED))
    )
    return _told(chain)


def _behind(sql: Sql) -> Any:
    """These deployments, and all that their staleness is inherited from."""
    behind = sa.select(_DEPLOYMENT.c.id).where(sql.among(_DEPLOYMENT.c.id, "ids")).cte("behind", recursive=True)
    return behind.union(
        sa.select(_CAUSE.c.upstream_id)
        .join(behind, _CAUSE.c.deployment_id == behind.c.id)
        .where(_CAUSE.c.kind == _INHERITED)
    )


def _nearest(sql: Sql) -> sa.Executable:
    # Both databases walk level by level, and stop when the limit is reached.
    nearest = sa.select(_behind(sql).c.id).limit(sa.literal_column(str(MAX_FOLLOWED))).cte("nearest")
    return _told(_CAUSE).join(nearest, nearest.c.id == _CAUSE.c.deployment_id).order_by(_rank(_CAUSE))


def _origins(sql: Sql) -> sa.Executable:
    behind = _behind(sql)
    about = sa.func.coalesce(_CAUSE.c.upstream_id, _CAUSE.c.deployment_id)
    brought = (_CAUSE.c.kind, about, _CAUSE.c.origin_version_id, _CAUSE.c.origin_run_id)
    since = sa.func.min(_CAUSE.c.since, type_=_CAUSE.c.since.type)
    grouped = (
        sa.select(
            _CAUSE.c.kind,
            about.label("about"),
            _CAUSE.c.origin_version_id,
            _CAUSE.c.origin_run_id,
            since.label("since"),
            sa.func.count().label("num_hit"),
            sa.func.count().over().label("num_origins"),
            sa.select(sa.func.count()).select_from(behind).scalar_subquery().label("num_behind"),
        )
        .join(behind, behind.c.id == _CAUSE.c.deployment_id)
        .where(_CAUSE.c.kind != _INHERITED)
        .group_by(*brought)
        .order_by(since, _CAUSE.c.kind)
        .limit(sa.literal_column(str(MAX_ORIGINS)))
        .subquery("grouped")
    )
    return (
        sa.select(grouped, _DEPLOYMENT.c.key, _VERSION.c.number)
        .join(_DEPLOYMENT, _DEPLOYMENT.c.id == grouped.c.about)
        .outerjoin(_VERSION, _VERSION.c.id == grouped.c.origin_version_id)
        .order_by(grouped.c.since, grouped.c.kind, _DEPLOYMENT.c.key)
    )


_SUBJECTS = Statement(
    lambda sql: (
        sa.select(_DEPLOYMENT.c.id, _DEPLOYMENT.c.key, _STATE.c.freshness)
        .join(_STATE, _STATE.c.deployment_id == _DEPLOYMENT.c.id)
        .where(sql.among(_DEPLOYMENT.c.id, "ids"), _STATE.c.partition == "")
    )
)
_FIRST = Statement(_first_causes)
_NEAREST = Statement(_nearest)
_ORIGINS = Statement(_origins)


def explain(connection: Connection, deployment_id: UUID) -> Explanation:
    """Return why a deployment is as fresh as it is, down to the runs that started it."""
    subject = _SUBJECTS.rows(connection, ids=[deployment_id])[0]
    freshness = Freshness(subject.freshness)
    if freshness != Freshness.STALE:
        return Explanation(subject.key, freshness, ())
    firsts = {row.deployment_id: row for row in _FIRST.rows(connection, ids=[deployment_id])}
    chain, num_links = _Chains(firsts, most=MAX_LINKS).of(deployment_id)
    origins = _ORIGINS.rows(connection, ids=[deployment_id])
    return Explanation(
        subject.key,
        freshness,
        _reasons(deployment_id, _NEAREST.rows(connection, ids=[deployment_id])),
        chain=chain,
        num_links=num_links,
        origins=tuple(
            StaleOrigin(CauseKind(row.kind), row.key, row.number, row.origin_run_id, row.since, row.num_hit)
            for row in origins
        ),
        num_origins=origins[0].num_origins if origins else 0,
        num_stale_upstream=origins[0].num_behind - 1 if origins else 0,
    )


def sentences_of(connection: Connection, deployment_ids: Iterable[UUID]) -> dict[UUID, str]:
    """Return one sentence on the freshness of each of these deployments, in two queries for all of them."""
    subjects = _SUBJECTS.rows(connection, ids=list(deployment_ids))
    stale = [row.id for row in subjects if row.freshness == Freshness.STALE]
    firsts = {row.deployment_id: row for row in _FIRST.rows(connection, ids=stale)} if stale else {}
    chains = _Chains(firsts, most=_LINKS_IN_SENTENCE)
    return {row.id: _sentence(row.key, Freshness(row.freshness), *chains.of(row.id)) for row in subjects}


def _sentence(key: str, freshness: Freshness, chain: Sequence[Reason], num_links: int) -> str:
    if freshness == Freshness.NOT_INITIALIZED:
        return f"{key} has no version yet"
    if not chain:
        return f"{key} is {freshness}"
    said = [reason.sentence() for reason in chain]
    if num_links > _LINKS_IN_SENTENCE:
        shown = _LINKS_IN_SENTENCE // 2
        said = [*said[:shown], f"{num_links - 2 * shown:,} more are stale in turn", *said[-shown:]]
    return f"{key} is stale: " + ", because ".join(said)


def _reason(row: Any, because: tuple[Reason, ...] = ()) -> Reason:
    return Reason(CauseKind(row.kind), row.role, row.key, row.origin_run_id, row.number, row.since, because)


class _Chains:
    """Follows each deployment's first cause to its end; what several chains share is followed once."""

    def __init__(self, firsts: Mapping[UUID, Any], *, most: int) -> None:
        self._firsts = firsts
        self._half = most // 2
        self._most = most
        self._known: dict[UUID | None, tuple[int, tuple[Reason, ...]]] = {None: (0, ())}
        """Deployment -> how long the chain is from there, and its last links."""

    def of(self, deployment_id: UUID) -> tuple[tuple[Reason, ...], int]:
        """Return the links, of a long chain the first and the last ones, and how many there are."""
        length, last = self._measured(deployment_id)
        if length <= self._half:
            return last, length
        first: list[Reason] = []
        node: UUID | None = deployment_id
        while node is not None and len(first) < length - len(last) and len(first) < self._most - self._half:
            first.append(_reason(self._firsts[node]))
            node = self._next(node)
        return (*first, *last), length

    def _next(self, node: UUID) -> UUID | None:
        row = self._firsts[node]
        return row.upstream_id if row.kind == CauseKind.UPSTREAM_STALE and row.upstream_id in self._firsts else None

    def _measured(self, deployment_id: UUID) -> tuple[int, tuple[Reason, ...]]:
        way: list[UUID] = []
        node: UUID | None = deployment_id if deployment_id in self._firsts else None
        on_the_way: set[UUID] = set()
        while node not in self._known and node not in on_the_way:
            assert node is not None, "the end is known"
            way.append(node)
            on_the_way.add(node)
            node = self._next(node)
        length, last = self._known.get(node, (0, ()))
        for passed in reversed(way):
            length += 1
            if length <= self._half:
                last = (_reason(self._firsts[passed]), *last)
            self._known[passed] = length, last
        return length, last


def _reasons(deployment_id: UUID, rows: Iterable[Any]) -> tuple[Reason, ...]:
    """Hang the reasons of the deployments that were followed behind the causes that inherit them."""
    causes: dict[UUID, list[Any]] = {}
    for row in rows:
        causes.setdefault(row.deployment_id, []).append(row)
    made: dict[UUID, tuple[Reason, ...]] = {}

    def reasons_of(node: UUID) -> tuple[Reason, ...]:
        if node not in made:
            made[node] = ()  # were there a cycle, it would end here
            made[node] = tuple(
                _reason(row, reasons_of(row.upstream_id) if row.kind == CauseKind.UPSTREAM_STALE else ())
                for row in causes.get(node, ())
            )
        return made[node]

    return reasons_of(deployment_id)
