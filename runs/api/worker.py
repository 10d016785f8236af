"""The server's side of RunPort over HTTP: for workers that have no credentials of the database.

Each route is one call of `DirectPort`, with its arguments as `remote.wire` has them. A claim needs the server's token,
and gives that of the run, with which everything else of the run is asked.
"""

from collections.abc import Sequence
from typing import Annotated
from uuid import UUID

from fastapi import Query, Request

from ...storage.errors import InvalidInput
from ..composition import Freshline
from ..points import unpacking
from ..points.recording import PointRecording
from ..port import DirectPort
from ..remote import wire
from ..remote.tokens import mint
from ..store import store_id
from .policies import Routes, run_token, write
from .problems import Code, Refusal

routes = Routes(prefix="/worker", tags=["worker"], include_in_schema=False)

FenceQuery = Annotated[int, Query(ge=0, le=2**63 - 1, description="What the claim drew.")]


def port_of(request: Request, *, reached: UUID | None = None) -> DirectPort:
    """Return the port of this server's store; `reached` is the store that the worker expects to reach."""
    freshline: Freshline = request.app.state.freshline
    settings = freshline.settings
    return DirectPort(
        freshline.database,
        freshline.objects,
        freshline.gateway(),
        lease_s=settings.lease_s,
        heartbeat_s=settings.heartbeat_s,
        tenant_id=settings.tenant_id,
        store_id=None if reached is None else str(reached),
    )


@routes.get("/store", summary="The store of this server")
@write
def read_store(request: Request) -> wire.StoreMessage:
    """Return the store's id and how often its leases are renewed."""
    freshline: Freshline = request.app.state.freshline
    with freshline.database.read() as connection:
        found = store_id(connection)
    settings = freshline.settings
    return wire.StoreMessage(store_id=found, heartbeat_s=settings.heartbeat_s, lease_s=settings.lease_s)


@routes.post("/claims", summary="Claim the run of a start")
@write
def claim(request: Request, body: wire.ClaimRequest) -> wire.ClaimMessage:
    """Find or record the run of this start of a flow's function, and let it start or not."""
    port = port_of(request, reached=body.store_id)
    claimed = port.claim(body.call, provenance=body.provenance, worker=body.worker)
    token = mint(request.app.state.access.token, claimed.run.id, claimed.run.fence) if claimed.may_start else None
    return wire.ClaimMessage.of(claimed, token=token)


@routes.get("/versions", summary="Find a version by its name")
@write
def resolve(request: Request, reference: str) -> wire.UpstreamMessage:
    """Return a version that no deployment has declared: `refresh/other@v3`."""
    return wire.UpstreamMessage.of(port_of(request).resolve(reference))


@routes.get("/versions/{version_id}", summary="Find a version by its id")
@write
def read_version(request: Request, version_id: UUID) -> wire.UpstreamMessage:
    """Return a version, such as the one that was current at the claim."""
    return wire.UpstreamMessage.of(port_of(request).version(version_id))


@routes.post("/runs/{run_id}/heartbeat", summary="Renew a lease")
@run_token
def beat(request: Request, run_id: UUID, body: wire.HeldMessage) -> wire.BeatMessage:
    """Renew the lease, and return what was asked of the body meanwhile."""
    asked = port_of(request).heartbeat(run_id, _fence(request, body))
    return wire.BeatMessage(asked=None if asked is None else asked.value)


@routes.get("/runs/{run_id}/pins", summary="The versions that a run may read")
@run_token
def read_pins(request: Request, run_id: UUID) -> list[wire.UpstreamMessage]:
    """Return the pinned versions by role."""
    return [wire.UpstreamMessage.of(pin) for pin in port_of(request).pins(run_id).values()]


@routes.post("/runs/{run_id}/record", status_code=204, summary="Log events, metrics and progress")
@run_token
def record(request: Request, run_id: UUID, body: wire.RecordMessage) -> None:
    """Append events, latest metric values and progress."""
    port_of(request).record(run_id, _fence(request, body), body.entries, metrics=body.metrics, progress=body.progress)


@routes.post("/runs/{run_id}/messages", status_code=204, summary="Add a message")
@run_token
def add_message(request: Request, run_id: UUID, body: wire.MessageMessage) -> None:
    """Append a message, with its event."""
    port_of(request).add_message(run_id, _fence(request, body), body.role, body.content)


@routes.post("/runs/{run_id}/checkpoints", status_code=201, summary="Save a state")
@run_token
def save_checkpoint(request: Request, run_id: UUID, body: wire.CheckpointMessage) -> wire.NumberMessage:
    """Save a state from which a later attempt may go on."""
    return wire.NumberMessage(number=port_of(request).save_checkpoint(run_id, _fence(request, body), body.state))


@routes.get("/runs/{run_id}/checkpoints/newest", summary="The state that was saved last")
@run_token
def newest_checkpoint(request: Request, run_id: UUID) -> wire.NewestMessage:
    """Return the state that was saved last, by whichever attempt."""
    saved = port_of(request).newest_checkpoint(run_id)
    return wire.NewestMessage(saved=None if saved is None else wire.SavedMessage.of(saved))


@routes.post("/runs/{run_id}/points", summary="Send metric values")
@run_token
def record_points(request: Request, run_id: UUID, body: wire.PointsMessage) -> wire.EndMessage:
    """Store a chunk of metric values."""
    chunk = body.chunk()
    unpacking.check(chunk)
    return wire.EndMessage(end=port_of(request).record_points(run_id, _fence(request, body), chunk, body.latest))


@routes.get("/runs/{run_id}/points", summary="The metric values that were sent")
@run_token
def read_points(request: Request, run_id: UUID) -> list[wire.SentPointsMessage]:
    """Return the chunks that the run's attempts have sent."""
    return [wire.SentPointsMessage.of(chunk) for chunk in port_of(request).sent_points(run_id)]


@routes.get("/runs/{run_id}/points/end", summary="How many metric values an attempt has sent")
@run_token
def end_of_points(request: Request, run_id: UUID, fence: FenceQuery) -> wire.EndMessage:
    """Return the number behind the last point of an attempt that has arrived."""
    freshline: Freshline = request.app.state.freshline
    return wire.EndMessage(end=PointRecording(freshline.database).end_of(run_id, fence))


@routes.post("/runs/{run_id}/complete", status_code=204, summary="Publish a result")
@run_token
def complete(request: Request, run_id: UUID, body: wire.CompleteMessage) -> None:
    """Publish the result and end the run; again, it changes nothing."""
    _check_own(body.artifacts)
    port_of(request).complete(run_id, _fence(request, body), body.result())


@routes.post("/runs/{run_id}/fail", status_code=204, summary="Report an error")
@run_token
def fail(request: Request, run_id: UUID, body: wire.FailMessage) -> None:
    """End the run with an error, or leave it to Prefect's next attempt; again, it changes nothing."""
    _check_own(body.artifacts)
    port_of(request).fail(
        run_id,
        _fence(request, body),
        body.error(),
        body.traceback,
        will_retry=body.will_retry,
        artifacts=wire.artifact_records(body.artifacts),
        traceback_ref=body.traceback_ref,
        counters=body.counters,
        step_counters=body.step_counters,
        resume_due_at=body.resume_due_at,
    )


@routes.post("/runs/{run_id}/pause", status_code=204, summary="Give a lease back")
@run_token
def pause(request: Request, run_id: UUID, body: wire.HeldMessage) -> None:
    """Give the lease back while the body is suspended."""
    port_of(request).pause(run_id, _fence(request, body))


@routes.post("/runs/{run_id}/cancelled", status_code=204, summary="Say that a body has stopped")
@run_token
def acknowledge_cancel(request: Request, run_id: UUID, body: wire.HeldMessage) -> None:
    """End the run as cancelled."""
    port_of(request).acknowledge_cancel(run_id, _fence(request, body))


def _fence(request: Request, body: wire.HeldMessage) -> int:
    """Return the fence that is spoken for; the token of an attempt speaks for its own alone.

    Raises:
        Refusal: it is another attempt's.
    """
    own = getattr(request.state, "fence", None)
    if own not in (None, body.fence):
        raise Refusal(Code.PERMISSION_DENIED, f"this token is of the fence {own}, not of {body.fence}")
    return body.fence


def _check_own(artifacts: Sequence[wire.ArtifactMessage]) -> None:
    """Let pass what lies in the store: of what is referenced elsewhere this server would open any file or address."""
    for artifact in artifacts:
        if artifact.record().stored.root is not None:
            raise InvalidInput(
                f"the artifact {artifact.name!r} lies outside the store: only a publication refers to that"
            )
