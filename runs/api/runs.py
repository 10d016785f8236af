"""Routes of one run: asked for, read, cancelled, paused, resumed."""

from datetime import date
from typing import Annotated, Any
from uuid import UUID

from fastapi import Header, Response
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, StrictBool
from sqlalchemy.engine import Connection

from ...lineage import versions
from ...storage.artifacts import artifacts_by_id
from ...storage.errors import InvalidInput
from ...storage.words import IfReady, OnStale, UpdateMode
from .. import contents, reads, steps, store
from ..care import acts
from ..composition import Freshline
from ..details import kind_of
from ..record import as_run
from ..service import Submitted
from ..submission import Submission
from .artifact_documents import artifact_document
from .context import RUN_ID, Opened, RunId
from .documents import (
    CreatedRun,
    ReadDocument,
    RunDocument,
    UsageDocument,
    fields_of,
    run_url,
    seconds,
)
from .policies import Routes, read, write

routes = Routes(tags=["runs"])

_MOST_KEY = 250


def _only_text(value: Any) -> Any:
    # Pydantic takes numbers for days since 1970; whoever sends one means something else.
    if value is not None and not isinstance(value, str):
        raise ValueError("give a date, such as 2026-01-31")
    return value


Day = Annotated[date, BeforeValidator(_only_text)]
GivenRunId = Annotated[
    str,
    Field(
        max_length=100,
        json_schema_extra={"pattern": RUN_ID, "examples": ["run-0199b3c2-7d3e-7c4b-9a55-0f6d1c2b3a49"]},
    ),
]
Actor = Annotated[str, Field(min_length=1, max_length=200, description="Who asks: it is recorded.")]


class Body(BaseModel):
    """What all bodies share: unknown fields are refused."""

    model_config = ConfigDict(extra="forbid")


class NewRun(Body):
    """A run that is asked for."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [{"deployment": "backtest/book", "on_stale": "refresh", "tags": ["nightly"]}],
        }
    )

    deployment: str = Field(min_length=1, max_length=600, description="Key of the deployment.")
    parameters: dict[str, Any] = Field(default_factory=dict, description="The flow's own parameters.")
    on_stale: OnStale | None = Field(default=None, description="What to do when an upstream is not ready.")
    if_ready: IfReady | None = Field(default=None, description="What to do when it is ready already.")
    update_mode: UpdateMode = Field(default=UpdateMode.INCREMENTAL, description="Only what is new, or everything.")
    data_as_of: Day | None = Field(default=None, description="Nothing later is read.")
    idempotency_key: str | None = Field(
        default=None, min_length=1, max_length=_MOST_KEY, description="The same key gives the same run."
    )
    tags: list[Annotated[str, Field(max_length=250)]] = Field(default_factory=list, max_length=100)
    metadata: dict[str, Any] = Field(default_factory=dict, description="Your own; Freshline does not read it.")
    detail: dict[str, Any] = Field(default_factory=dict, description="Facts of its type that are known beforehand.")
    background: StrictBool = Field(default=True, description="Nobody waits for it.")
    parent: GivenRunId | None = Field(default=None, description="The run that needs it.")
    actor: Actor = "api"

    def submission(self, *, key: str | None = None) -> Submission:
        """Return what the service is asked for; `key` is that of the header.

        Raises:
            InvalidInput: header and body have different keys.
        """
        if key is not None and self.idempotency_key not in (None, key):
            raise InvalidInput("the header Idempotency-Key and idempotency_key in the body differ: give one of them")
        own = {name: getattr(self, name) for name in type(self).model_fields}
        return Submission(**own | {"idempotency_key": self.idempotency_key or key})


class Act(Body):
    """Who does something, and why."""

    actor: Actor = "api"
    reason: str = Field(default="", max_length=2000, description="Why: it is recorded where the act records it.")


@routes.post("/runs", status_code=201, summary="Ask for a run", responses={200: {"model": CreatedRun}})
@write
def create_run(
    freshline: Opened,
    asked: NewRun,
    response: Response,
    idempotency_key: Annotated[
        str | None,
        Header(min_length=1, max_length=_MOST_KEY, description="The same key gives the same run; or in the body."),
    ] = None,
) -> CreatedRun:
    """Record a run and have it dispatched; answers at once, with 200 and the same run when the key is known.

    A run that the gate refuses or skips is recorded too: its status says so.
    """
    (submitted,) = freshline.service.submit_all([asked.submission(key=idempotency_key)])
    response.status_code = 201 if submitted.is_new else 200
    response.headers["Location"] = run_url(submitted.run.id)
    return created(submitted)


@routes.get("/runs/{run_id:run}", summary="Read a run")
@read
def get_run(freshline: Opened, run_id: RunId) -> RunDocument:
    """Return one run with metrics, what it read, artifacts and usage."""
    return run_document(freshline, run_id)


@routes.post("/runs/{run_id}/cancel", status_code=202, summary="Ask for the end of a run")
@write
def cancel_run(freshline: Opened, run_id: RunId, act: Act | None = None) -> RunDocument:
    """End a run that has not started; tell one that runs at its next heartbeat."""
    wanted = readable(freshline, run_id)
    freshline.service.cancel(wanted, actor=(act or Act()).actor)
    return run_document(freshline, wanted)


@routes.post("/runs/{run_id}/pause", status_code=202, summary="Ask a running run to pause")
@write
def pause_run(freshline: Opened, run_id: RunId, act: Act | None = None) -> RunDocument:
    """Tell it at its next heartbeat; its flow run is suspended then."""
    wanted = readable(freshline, run_id)
    freshline.service.pause(wanted, actor=(act or Act()).actor)
    return run_document(freshline, wanted)


@routes.post("/runs/{run_id}/resume", status_code=202, summary="Let a paused run go on")
@write
def resume_run(freshline: Opened, run_id: RunId, act: Act | None = None) -> RunDocument:
    """Have Prefect start its flow run again, as its next attempt."""
    wanted = readable(freshline, run_id)
    freshline.service.resume(wanted, actor=(act or Act()).actor)
    return run_document(freshline, wanted)


def created(submitted: Submitted) -> CreatedRun:
    """Return the answer about a run that was asked for."""
    run = submitted.run
    url = run_url(run.id)
    return CreatedRun(
        id=run.id,
        status=run.status,
        stop_reason=run.stop_reason,
        reason=run.error_message or (run.decision or {}).get("reason"),
        created_at=run.created_at,
        stream_url=f"{url}/stream",
        url=url,
    )


def readable(freshline: Freshline, run_id: UUID | str) -> UUID:
    """Return the id of a run of this tenant that nobody deleted.

    Raises:
        InvalidInput: the text is no id.
        NotFound: there is no such run.
    """
    with freshline.database.read() as connection:
        found: UUID = acts.readable_run(connection, run_id, tenant_id=freshline.settings.tenant_id).id
    return found


def run_document(freshline: Freshline, run_id: UUID | str) -> RunDocument:
    """Return a run with what belongs to it, from one snapshot; errors as of `readable`."""
    with freshline.database.read() as connection:
        row = acts.readable_run(connection, run_id, tenant_id=freshline.settings.tenant_id)
        found = _belongings(connection, row)
    prefect = freshline.flow_run_page(row.flow_run_id)
    return RunDocument(**fields_of(as_run(row), prefect=prefect, **found.pop("summary")), **found)


def _belongings(connection: Connection, row: Any) -> dict[str, Any]:
    metrics = contents.metrics_of(connection, [row.id])
    version = versions.version_of_run(connection, row.id)
    detail = dict(contents.detail_of(connection, kind_of(row), row.id)._mapping)
    detail.pop("run_id")
    return {
        "summary": {
            "deployment": store.deployment_key(connection, row.deployment_id),
            "version": version.number if version is not None else None,
            "metrics": {metric.name: contents.metric_value(metric) for metric in metrics},
        },
        "conventions": {metric.name: metric.convention for metric in metrics if metric.convention},
        "detail": detail,
        "schema_diff": version.schema_diff if version is not None else None,
        "reads": [_read_document(one) for one in reads.reads_of(connection, row.id)],
        "artifacts": [
            artifact_document(row.id, artifact_id, record)
            for artifact_id, record in artifacts_by_id(connection, row.id).items()
        ],
        "usage": usage_document(steps.usage_of(connection, row.id)),
    }


def usage_document(row: Any | None) -> UsageDocument:
    """Return the answer about what a run's steps and counters add up to; none: to nothing."""
    if row is None:
        return UsageDocument(num_steps=0, num_failed_steps=0, step_s=0.0, step_names=[], counters={})
    return UsageDocument(
        num_steps=row.num_steps,
        num_failed_steps=row.num_failed_steps,
        step_s=seconds(row.step_ns) or 0.0,
        step_names=row.step_names,
        counters=row.counters,
    )


def _read_document(one: reads.RunRead) -> ReadDocument:
    return ReadDocument(
        role=one.role,
        deployment=one.key,
        pinned=one.pinned,
        read=one.read,
        agreement=one.agreement,
        is_withdrawn=one.is_withdrawn,
    )
