"""The tables of the lineage graph: what exists, what it was built from, and what is wrong with it.

    resource ──< deployment ──< edge (declared or observed) >── deployment
                     │
                     ├──1 deployment_state   per partition: freshness, current version, fence
                     ├──< version ──< version_input >── version
                     │       └──< version_act  what people did to it: labelled, withdrawn, restored
                     ├──< alias              a name that moves from version to version
                     │       └──< alias_move   who moved it, when, why
                     └──< cause              why it is stale

Runs are known here by their id alone; the link between a run and its version belongs to the room `runs`.
"""

from datetime import date, datetime
from enum import StrEnum
from typing import Any
from uuid import UUID

import sqlalchemy as sa
from sqlmodel import Field, SQLModel

from ..storage.database import UtcDateTime, json_type


class Freshness(StrEnum):
    """What the gate reads."""

    NOT_INITIALIZED = "not_initialized"
    """There is no version: none was published, or all of them were withdrawn."""
    READY = "ready"
    """The current version still holds: no cause is stored."""
    SOURCE_DELAYED = "source_delayed"
    """The source ran and had nothing new."""
    STALE = "stale"
    """At least one cause is stored."""


class Activity(StrEnum):
    """The second axis: says nothing of whether the current version holds."""

    IDLE = "idle"
    """No run is under way and the last one did not fail."""
    RUNNING = "running"
    """A run holds a lease."""
    ERROR = "error"
    """The last run failed."""


class CauseKind(StrEnum):
    """Why a deployment is stale."""

    INPUT_CHANGED = "input_changed"
    """The digest that it read of an upstream is not the digest of that upstream's current version."""
    UPSTREAM_STALE = "upstream_stale"
    """An upstream is stale itself."""
    DECLARATION_CHANGED = "declaration_changed"
    """Upstreams, callables, parameters or code are not those that the current version was built with."""
    EXPIRED = "expired"
    """Its freshness policy lapsed."""
    MISSING_INPUT = "missing_input"
    """An upstream was retired."""
    WITHDRAWN = "withdrawn"
    """A version that it read was withdrawn."""


class ActKind(StrEnum):
    """What people do to a version that was published."""

    LABELLED = "labelled"
    """It was given a label, which stays."""
    WITHDRAWN = "withdrawn"
    """It was declared wrong."""
    RESTORED = "restored"
    """Its withdrawal was taken back."""


class Resource(SQLModel, table=True):
    """A thing that is kept up to date."""

    __table_args__ = (sa.UniqueConstraint("tenant_id", "kind", "name"),)

    id: UUID = Field(primary_key=True)
    tenant_id: str
    """Whose it is."""
    name: str
    """As in prefect.yaml."""
    kind: str
    """A `ResourceKind`."""
    created_at: datetime = Field(sa_type=UtcDateTime)


_IS_AUTO = sa.text("auto_refresh IS NOT NULL")


class Deployment(SQLModel, table=True):
    """One static way to run a resource: the node of the graph."""

    __table_args__ = (
        sa.UniqueConstraint("tenant_id", "key"),
        sa.Index("ix_deployment_prefect_deployment_id", "prefect_deployment_id"),
        sa.Index("ix_deployment_auto_refresh", "id", sqlite_where=_IS_AUTO, postgresql_where=_IS_AUTO),
    )

    id: UUID = Field(primary_key=True)
    tenant_id: str
    """Whose it is."""
    key: str
    """`<kind>/<resource>`, such as `refresh/prices`."""
    kind: str
    """A `DeploymentKind`: the type of its runs."""
    resource_id: UUID = Field(foreign_key="resource.id")
    project: str
    """Whose catalogue declares it: only that catalogue retires it."""
    prefect_name: str | None = None
    """Prefect's `flow/name`; null when external."""
    prefect_deployment_id: UUID | None = None
    """Prefect's id; null when external."""
    external: bool = False
    """Prefect does not run it: its versions are published by hand."""
    declaration: dict[str, Any] = Field(sa_type=json_type())
    """Callables, parameters, gate defaults, as resolved at deploy."""
    declaration_digest: str
    """sha256 of what the declaration and its code were; a version built with another one is stale."""
    parameter_schema: dict[str, Any] = Field(sa_type=json_type())
    """JSON schema of the flow's parameters."""
    policy: dict[str, Any] | None = Field(default=None, sa_type=json_type())
    """The freshness policy, as written."""
    auto_refresh: dict[str, Any] | None = Field(default=None, sa_type=json_type())
    """When a run follows by itself once it is stale, every default resolved; null: never."""
    retention: dict[str, Any] | None = Field(default=None, sa_type=json_type())
    """How long its versions keep their data, as written; null: for ever."""
    created_at: datetime = Field(sa_type=UtcDateTime)
    """When it was first registered: what Prefect did with it before is none of our business."""
    registered_at: datetime = Field(sa_type=UtcDateTime)
    """When it was last registered."""
    retired_at: datetime | None = Field(default=None, sa_type=UtcDateTime)
    """When it disappeared from the catalogue; its runs and versions stay."""


_HAS_LABEL = sa.text("label IS NOT NULL")


class Version(SQLModel, table=True):
    """The immutable output of one completed run of a deployment."""

    __table_args__ = (
        sa.UniqueConstraint("deployment_id", "partition", "number"),
        sa.UniqueConstraint("deployment_id", "partition", "fence"),
        sa.UniqueConstraint("run_id"),
        sa.Index(
            "ix_version_label",
            "deployment_id",
            "partition",
            "label",
            unique=True,
            sqlite_where=_HAS_LABEL,
            postgresql_where=_HAS_LABEL,
        ),
    )

    id: UUID = Field(primary_key=True)
    deployment_id: UUID = Field(foreign_key="deployment.id")
    partition: str = ""
    """Reserved; empty."""
    number: int
    """1, 2, 3… per deployment and partition."""
    run_id: UUID
    """The run that published it."""
    fence: int = Field(sa_type=sa.BigInteger)
    """The fence of that run: a higher one read newer data."""
    base_version_id: UUID | None = Field(default=None, foreign_key="version.id")
    """The version that it appended to, if any."""
    digest: str
    """sha256 over the published outputs: (name, digest), sorted."""
    declaration_digest: str
    """The deployment's declaration digest when the run was claimed."""
    label: str | None = None
    """A name given by people, such as `v1.2.3`: once, and for good."""
    rows: int | None = Field(default=None, sa_type=sa.BigInteger)
    """Rows of all published tables."""
    size_bytes: int | None = Field(default=None, sa_type=sa.BigInteger)
    """Bytes of all published objects."""
    data_start: date | None = None
    """First data date of the published tables."""
    data_end: date | None = None
    """Last data date of the published tables."""
    table_schema: dict[str, Any] | None = Field(default=None, sa_type=json_type())
    """Published table -> [[column, type], …]; null when it was not recorded."""
    schema_diff: dict[str, Any] | None = Field(default=None, sa_type=json_type())
    """Published table -> the columns that were added, removed, widened or changed since the version that was current
    before; null when none were, or when it was not recorded."""
    source_delayed: bool | None = None
    """Its run found that the source had nothing new; null when it was not recorded."""
    may_become_current: bool | None = None
    """False when only its number names it, as for a replay; null when it was not recorded: it may."""
    withdrawn_at: datetime | None = Field(default=None, sa_type=UtcDateTime)
    """When somebody declared it wrong."""
    withdrawn_reason: str | None = None
    """Why."""
    created_at: datetime = Field(sa_type=UtcDateTime)
    removed_at: datetime | None = Field(default=None, sa_type=UtcDateTime)
    """Since when its data cannot be read; null while they can."""
    removal: str | None = None
    """A `Removal`: what took them."""
    removed_reason: str | None = None
    """One sentence on who took them, and why."""


class VersionAct(SQLModel, table=True):
    """What somebody did to a version after it was published: never changed, never deleted."""

    __tablename__ = "version_act"

    version_id: UUID = Field(primary_key=True, foreign_key="version.id")
    number: int = Field(primary_key=True)
    """1, 2, 3… per version."""
    kind: str
    """An `ActKind`."""
    actor: str
    """Who did it."""
    reason: str
    """Why; empty when nobody said so."""
    at: datetime = Field(sa_type=UtcDateTime)


class Alias(SQLModel, table=True):
    """A name for a version of a deployment, such as `champion`; it moves from one to another."""

    deployment_id: UUID = Field(primary_key=True, foreign_key="deployment.id")
    partition: str = Field(default="", primary_key=True)
    """Reserved; empty."""
    name: str = Field(primary_key=True)
    """Lower case; never what a number or a label looks like."""
    version_id: UUID = Field(foreign_key="version.id")
    """The version that it names now."""


class AliasMove(SQLModel, table=True):
    """An alias was set, moved or removed: never changed, never deleted."""

    __tablename__ = "alias_move"

    deployment_id: UUID = Field(primary_key=True, foreign_key="deployment.id")
    partition: str = Field(default="", primary_key=True)
    """Reserved; empty."""
    name: str = Field(primary_key=True)
    """The alias."""
    number: int = Field(primary_key=True)
    """1, 2, 3… per alias."""
    from_version_id: UUID | None = Field(default=None, foreign_key="version.id")
    """What it named before; null when it was new."""
    to_version_id: UUID | None = Field(default=None, foreign_key="version.id")
    """What it names since; null when it was removed."""
    actor: str
    """Who did it."""
    reason: str
    """Why; empty when nobody said so."""
    at: datetime = Field(sa_type=UtcDateTime)


class DeploymentState(SQLModel, table=True):
    """What changes about a deployment: its freshness, its current version and its fence."""

    __tablename__ = "deployment_state"
    __table_args__ = (sa.Index("ix_deployment_state_lapses_at", "lapses_at"),)

    deployment_id: UUID = Field(primary_key=True, foreign_key="deployment.id")
    partition: str = Field(default="", primary_key=True)
    """Reserved; empty."""
    freshness: str = Freshness.NOT_INITIALIZED
    """A `Freshness`."""
    activity: str = Activity.IDLE
    """An `Activity`."""
    version_id: UUID | None = Field(default=None, foreign_key="version.id")
    """The current version."""
    fence: int = Field(default=0, sa_type=sa.BigInteger)
    """The fence of the current version; only a withdrawal makes it smaller."""
    next_fence: int = Field(default=0, sa_type=sa.BigInteger)
    """The last fence that a claim drew."""
    next_number: int = 0
    """The last version number that was given."""
    source_delayed: bool = False
    """The last run found that the source had nothing new."""
    lapses_at: datetime | None = Field(default=None, sa_type=UtcDateTime)
    """When the policy of the current version lapses, computed in advance."""
    last_run_id: UUID | None = None
    """The run that ended last."""
    last_run_at: datetime | None = Field(default=None, sa_type=UtcDateTime)
    """When it ended."""
    last_stop_reason: str | None = None
    """Why it ended."""


class Edge(SQLModel, table=True):
    """Deployment B reads deployment A, in a role."""

    __table_args__ = (sa.Index("ix_edge_upstream_id", "upstream_id"),)

    deployment_id: UUID = Field(primary_key=True, foreign_key="deployment.id")
    role: str = Field(primary_key=True)
    """What B calls it."""
    upstream_id: UUID = Field(foreign_key="deployment.id")
    kind: str
    """An `EdgeKind`."""
    observed: bool = False
    """Not declared: a run read it."""


class VersionInput(SQLModel, table=True):
    """A version was built from another one, read in a role."""

    __tablename__ = "version_input"
    __table_args__ = (sa.Index("ix_version_input_input_version_id", "input_version_id"),)

    version_id: UUID = Field(primary_key=True, foreign_key="version.id")
    role: str = Field(primary_key=True)
    """The role that it was read in."""
    upstream_id: UUID = Field(foreign_key="deployment.id")
    """The deployment of the version that was read."""
    input_version_id: UUID = Field(foreign_key="version.id")
    """The version that was read."""


_IS_OWN = sa.text("kind <> 'upstream_stale'")


class Cause(SQLModel, table=True):
    """One reason why a deployment is stale; removed in the transaction that removes the reason."""

    # Few beside what is inherited from them: of a change that reaches 100,000 deployments, its readers have one each.
    __table_args__ = (sa.Index("ix_cause_own", "deployment_id", sqlite_where=_IS_OWN, postgresql_where=_IS_OWN),)

    deployment_id: UUID = Field(primary_key=True, foreign_key="deployment.id")
    partition: str = Field(default="", primary_key=True)
    """Reserved; empty."""
    kind: str = Field(primary_key=True)
    """A `CauseKind`."""
    role: str = Field(default="", primary_key=True)
    """The role of the upstream that it is about; empty when about none."""
    upstream_id: UUID | None = Field(default=None, foreign_key="deployment.id")
    """The upstream that it is about."""
    origin_run_id: UUID | None = None
    """The run that brought it, when a run did."""
    origin_version_id: UUID | None = Field(default=None, foreign_key="version.id")
    """The version that brought it, when a version did."""
    since: datetime = Field(sa_type=UtcDateTime)
    """When it arose."""
