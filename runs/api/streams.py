"""Routes that stay open: a run's log as it grows, and what changes in the project (server-sent events).

Owns who gets which stream, and from where on; what is sent is `live`'s.
"""

import asyncio
from typing import Annotated, Any

from fastapi import Header, Query, Request, Response
from fastapi.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from ...lineage import registry
from ...storage.errors import InvalidInput
from ..care import acts
from ..composition import Freshline
from ..live.poller import Live
from ..live.sse import log_stream, project_stream
from .context import MAX_INTEGER, Opened, RunId
from .policies import Routes, read
from .problems import Code, Refusal

routes = Routes(tags=["live"])

MAX_STREAMS = 1_000
"""Streams of one server: each costs a connection and a buffer."""

LastEventId = Annotated[
    str | None,
    Header(max_length=100, description="The id of the last message that was received: a browser sends it by itself."),
]

_EXAMPLE = """\
retry: 1000

event: run_started
data: {"seq":3,"kind":"run_started","at":"2026-01-05T12:00:00Z","actor":"worker","payload":{"attempt":1,"fence":7,\
"worker":"host-1"}}
id: 3

"""


def _streamed(what: str, example: str) -> dict[int | str, dict[str, Any]]:
    return {
        200: {
            "description": what,
            "content": {"text/event-stream": {"schema": {"type": "string"}, "example": example}},
        }
    }


class Stream(StreamingResponse):
    """An answer that goes on; its source is closed with it, whoever ends it."""

    media_type = "text/event-stream"

    def __init__(self, source: Any) -> None:
        # Proxies that gather what they pass on would hold back what is to be seen at once.
        super().__init__(source, headers={"X-Accel-Buffering": "no"})

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send it until it ends or nobody reads it."""
        try:
            await super().__call__(scope, receive, send)
        finally:
            await self.body_iterator.aclose()  # type: ignore[attr-defined]  # a generator


@routes.get(
    "/runs/{run_id}/stream",
    summary="Follow a run",
    response_class=Response,
    responses={
        **_streamed("The run's log from there on, one message for each entry; ends with the run.", _EXAMPLE),
        204: {"description": "The run has ended, and nothing follows: a browser asks no more."},
    },
)
@read
async def follow_run(
    request: Request,
    freshline: Opened,
    run_id: RunId,
    after: Annotated[int, Query(ge=0, le=MAX_INTEGER, description="Only entries with a higher number.")] = 0,
    last_event_id: LastEventId = None,
) -> Response:
    """Send the run's log as it grows: `id` is the entry's number, `event` its kind, `data` the entry.

    Without gaps, each once, in order; after a break it goes on behind `Last-Event-ID`, which counts more than `after`.
    Whoever reads too slowly gets a message `resync`, and then everything all the same.
    """
    seen = after if last_event_id is None else _number(last_event_id)
    run = await asyncio.to_thread(_run, freshline, run_id)
    if seen > run.last_seq:
        raise InvalidInput(f"the run's log has {run.last_seq} entries until now; none has the number {seen}")
    if run.ended_at is not None and seen == run.last_seq:
        return Response(status_code=204)
    live = _live(request)
    return Stream(log_stream(live, run.id, after=seen))


@routes.get(
    "/stream",
    summary="Follow the project",
    response_class=Response,
    responses=_streamed(
        "What changes, for as long as it is read.",
        'retry: 1000\n\nevent: resync\ndata: {"why":"started"}\nid: x7Fq0aZk.0\n\n',
    ),
)
@read
async def follow_project(
    request: Request,
    freshline: Opened,
    deployment: Annotated[str | None, Query(max_length=600, description="Only this one and its runs.")] = None,
    last_event_id: LastEventId = None,
) -> Response:
    """Send the newest state of each run and deployment when it changes: `run`, `run_deleted`, `deployment` or
    `deployment_retired`.

    A message `resync` comes first, and whenever something may have been missed: read what you show again. What changes
    from there on is sent.
    """
    if deployment is not None:
        await asyncio.to_thread(_check_deployment, freshline, deployment)
    return Stream(project_stream(_live(request), cursor=last_event_id, deployment=deployment))


def _live(request: Request) -> Live:
    live: Live = request.app.state.live
    if live.num_subscribers >= MAX_STREAMS:
        raise Refusal(Code.UNAVAILABLE, f"{MAX_STREAMS:,} streams of this server are open already; try again later")
    return live


def _run(freshline: Freshline, run_id: str) -> Any:
    with freshline.database.read() as connection:
        return acts.readable_run(connection, run_id, tenant_id=freshline.settings.tenant_id)


def _check_deployment(freshline: Freshline, key: str) -> None:
    with freshline.database.read() as connection:
        registry.deployment(connection, key, tenant_id=freshline.settings.tenant_id)


def _number(last_event_id: str) -> int:
    if not (last_event_id.isascii() and last_event_id.isdigit() and int(last_event_id) <= MAX_INTEGER):
        raise InvalidInput(f"Last-Event-ID: {last_event_id!r} is not the number of an entry of a run's log")
    return int(last_event_id)
