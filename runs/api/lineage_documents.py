"""The forms of the answers about versions, deployments and the reasons for their freshness."""

from datetime import date, datetime
from typing import Any

from pydantic import Field

from ...lineage.aliases import AliasRecord
from ...lineage.history import VersionRecord
from ...lineage.models import ActKind
from ...lineage.questions import BuiltVersion, InputVersion, LinkedDeployment
from ...lineage.reasons import Explanation, Reason, StaleOrigin
from ...storage.words import EdgeKind
from ..explaining import RunExplanation
from ..queries import DeploymentStatus
from .access import PREFIX
from .documents import Document, InputDocument, ShownRunId


class BuiltDocument(Document):
    """A version that was built from another one."""

    depth: int = Field(description="1 for what read it directly.")
    role: str
    deployment: str
    number: int
    run_id: ShownRunId = Field(description="The run that published it.")
    digest: str
    data_end: date | None
    created_at: datetime
    is_current: bool = Field(description="It is the current version of its deployment.")
    is_withdrawn: bool


class LinkedDocument(Document):
    """A deployment above or below another one."""

    depth: int = Field(description="1 for a direct neighbour.")
    role: str
    kind: EdgeKind = Field(description="What the lower one takes.")
    key: str
    freshness: str
    version: int | None
    data_end: date | None
    is_observed: bool = Field(description="Not declared: a run read it.")
    is_retired: bool


class DeploymentLinks(Document):
    """Where to go from a deployment; paths on this server."""

    self: str
    versions: str
    explanation: str
    upstream: str
    downstream: str


class DeploymentSummary(Document):
    """One deployment as it is now."""

    key: str = Field(examples=["backtest/book"])
    kind: str = Field(examples=["backtest"])
    resource: str = Field(examples=["book"])
    freshness: str = Field(description="not_initialized, ready, source_delayed or stale.")
    activity: str = Field(description="idle, running or error.")
    version: int | None = Field(description="Number of its current version.")
    data_end: date | None
    last_run_at: datetime | None
    last_stop_reason: str | None
    lapses_at: datetime | None = Field(description="When its freshness policy lapses.")
    why: str = Field(description="One sentence on its freshness.")
    auto_refresh: str | None = Field(description="One sentence on the run that follows by itself.")
    links: DeploymentLinks


class AliasDocument(Document):
    """An alias and the version that it names."""

    name: str
    number: int
    is_withdrawn: bool
    moved_at: datetime
    moved_by: str
    reason: str


class DeploymentDocument(DeploymentSummary):
    """One deployment with what was declared of it."""

    project: str
    resource_kind: str
    prefect_name: str | None = Field(description="Prefect's `flow/name`; null when Prefect does not run it.")
    external: bool
    policy: dict[str, Any] | None = Field(description="Its freshness policy, as written.")
    retention: dict[str, Any] | None
    parameter_schema: dict[str, Any] = Field(description="JSON schema of the flow's parameters.")
    aliases: list[AliasDocument]
    registered_at: datetime


class ReasonDocument(Document):
    """One reason why a deployment is stale."""

    sentence: str
    kind: str = Field(examples=["input_changed"])
    role: str
    upstream: str | None
    origin_run_id: ShownRunId | None
    origin_number: int | None
    since: datetime


class OriginDocument(Document):
    """What started it."""

    sentence: str
    kind: str
    key: str
    number: int | None
    run_id: ShownRunId | None
    since: datetime
    num_hit: int = Field(description="How many of the deployments on the way have it themselves.")


class ExplainedDeployment(Document):
    """Why a deployment is as fresh as it is."""

    sentence: str
    key: str
    freshness: str
    reasons: list[ReasonDocument]
    chain: list[ReasonDocument] = Field(description="From its first reason to one that no other stands behind.")
    num_links: int = Field(description="How long the chain is; of a long one `chain` has the first and last links.")
    origins: list[OriginDocument] = Field(description="What started it, oldest first.")
    num_origins: int
    num_stale_upstream: int
    behind: dict[str, list[ReasonDocument]] = Field(description="The reasons of the upstreams that are stale too.")
    auto_refresh: str | None


class AwaitedDocument(Document):
    """An upstream that a run waits for now."""

    deployment: str
    run_id: ShownRunId | None
    status: str | None


class FailureDocument(Document):
    """An attempt that failed."""

    attempt: int
    error_type: str | None
    message: str | None
    at: datetime


class MomentDocument(Document):
    """One entry of a run's log that tells something of why."""

    seq: int
    at: datetime
    actor: str
    kind: str
    what: str


class ExplainedRun(Document):
    """Why a run is as it is."""

    sentence: str
    run_id: ShownRunId
    deployment: str
    status: str
    stop_reason: str | None
    why: str
    asked_by: str
    verdict: str | None
    gate_reason: str | None
    forced_by: str | None
    upstreams: list[dict[str, Any]] = Field(description="What the gate saw of each upstream.")
    waits_for: list[AwaitedDocument]
    waited_for: list[str]
    waited_s: float
    attempts: int
    failures: list[FailureDocument]
    retry_of: ShownRunId | None
    replay_of: ShownRunId | None
    version: int | None
    moments: list[MomentDocument]


class VersionDocument(Document):
    """One version of a deployment."""

    reference: str = Field(examples=["refresh/prices@v12"])
    deployment: str
    number: int
    label: str | None
    aliases: list[str]
    is_current: bool
    rows: int | None
    size_bytes: int | None
    data_start: date | None
    data_end: date | None
    created_at: datetime
    withdrawn_at: datetime | None
    withdrawn_reason: str | None
    removed_at: datetime | None = Field(description="Since when its data cannot be read.")
    removed_reason: str | None
    base: int | None = Field(description="Number of the version that it was appended to.")
    digest: str
    table_schema: dict[str, Any] | None = Field(description="Published table -> [[column, type], …].")
    schema_diff: dict[str, Any] | None
    run_id: ShownRunId = Field(description="The run that published it.")


class VersionAct(Document):
    """What somebody did to a version after it was published."""

    kind: ActKind
    actor: str
    reason: str
    at: datetime


class VersionWithActs(VersionDocument):
    """One version with all that was done to it."""

    acts: list[VersionAct]


class ImpactDocument(Document):
    """Everything that was built from a version, nearest first."""

    items: list[BuiltDocument]
    next_cursor: str | None
    num_built: int
    num_current: int = Field(description="How many of them are the current version of their deployment.")


def input_document(one: InputVersion) -> InputDocument:
    """Return the answer about a version that went into another one."""
    return InputDocument(**_of_version(one))


def built_document(one: BuiltVersion) -> BuiltDocument:
    """Return the answer about a version that was built from another one."""
    return BuiltDocument(**_of_version(one))


def linked_document(one: LinkedDeployment) -> LinkedDocument:
    """Return the answer about a deployment above or below."""
    return LinkedDocument(
        depth=one.depth,
        role=one.role,
        kind=one.kind,
        key=one.key,
        freshness=one.freshness,
        version=one.number,
        data_end=one.data_end,
        is_observed=one.is_observed,
        is_retired=one.is_retired,
    )


def summary_fields(one: DeploymentStatus) -> dict[str, Any]:
    """Return the fields of a deployment's summary."""
    kind, _, resource = one.key.partition("/")
    url = f"{PREFIX}/deployments/{one.key}"
    links = DeploymentLinks(
        self=url,
        versions=f"{url}/versions",
        explanation=f"{url}/explanation",
        upstream=f"{url}/upstream",
        downstream=f"{url}/downstream",
    )
    plain = DeploymentSummary.model_fields.keys() - {"kind", "resource", "links"}
    return {name: getattr(one, name) for name in plain} | {"kind": kind, "resource": resource, "links": links}


def alias_document(one: AliasRecord) -> AliasDocument:
    """Return the answer about an alias."""
    return AliasDocument(**{name: getattr(one, name) for name in AliasDocument.model_fields})


def explained_deployment(one: Explanation) -> ExplainedDeployment:
    """Return an explanation flat: what stands behind an upstream comes once, under its key."""
    behind = {reason.upstream: reason.because for _, reason in one.lines() if reason.because and reason.upstream}
    return ExplainedDeployment(
        sentence=one.sentence(),
        key=one.key,
        freshness=one.freshness,
        reasons=[_reason(reason) for reason in one.reasons],
        chain=[_reason(reason) for reason in one.chain],
        num_links=one.num_links,
        origins=[_origin(origin) for origin in one.origins],
        num_origins=one.num_origins,
        num_stale_upstream=one.num_stale_upstream,
        behind={key: [_reason(reason) for reason in reasons] for key, reasons in behind.items()},
        auto_refresh=one.auto_refresh,
    )


def explained_run(one: RunExplanation) -> ExplainedRun:
    """Return the answer about why a run is as it is."""
    nested = {"sentence", "waits_for", "failures", "moments", "upstreams"}
    plain = {name: getattr(one, name) for name in ExplainedRun.model_fields.keys() - nested}
    return ExplainedRun(
        **plain,
        sentence=one.sentence(),
        upstreams=[dict(said) for said in one.upstreams],
        waits_for=[
            AwaitedDocument(deployment=said.deployment, run_id=said.run_id, status=said.status)
            for said in one.waits_for
        ],
        failures=[
            FailureDocument(attempt=said.attempt, error_type=said.error_type, message=said.message, at=said.at)
            for said in one.failures
        ],
        moments=[
            MomentDocument(seq=said.seq, at=said.at, actor=said.actor, kind=said.kind, what=said.what)
            for said in one.moments
        ],
    )


def version_fields(one: VersionRecord) -> dict[str, Any]:
    """Return the fields of a version's document."""
    plain = VersionDocument.model_fields.keys() - {"deployment"}
    return {name: getattr(one, name) for name in plain} | {"deployment": one.key}


def _of_version(one: InputVersion | BuiltVersion) -> dict[str, Any]:
    return {name: getattr(one, name) for name in InputDocument.model_fields.keys() - {"deployment"}} | {
        "deployment": one.key
    }


def _reason(one: Reason) -> ReasonDocument:
    return ReasonDocument(
        sentence=one.sentence(),
        kind=one.kind,
        role=one.role,
        upstream=one.upstream,
        origin_run_id=one.origin_run_id,
        origin_number=one.origin_number,
        since=one.since,
    )


def _origin(one: StaleOrigin) -> OriginDocument:
    return OriginDocument(
        sentence=one.sentence(),
        kind=one.kind,
        key=one.key,
        number=one.number,
        run_id=one.run_id,
        since=one.since,
        num_hit=one.num_hit,
    )
