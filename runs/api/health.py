"""The route that a load balancer or an alarm asks: whether everything that is needed answers."""

from datetime import datetime
from enum import StrEnum

from anyio import CapacityLimiter, to_thread
from fastapi import Request, Response
from pydantic import Field

from ..health import Condition, HealthCheck
from .context import MayRead
from .documents import Document
from .policies import Routes, public

routes = Routes(tags=["monitoring"])

_THREADS = CapacityLimiter(4)
"""Of its own: those of the other routes may all wait for a database that hangs."""


class Overall(StrEnum):
    """How all parts are together."""

    OK = "ok"
    FAILING = "failing"


class CheckDocument(Document):
    """How one part is."""

    status: Condition
    detail: str | None = Field(default=None, description="One sentence; only for those who may read.")
    took_s: float | None = Field(default=None, description="Seconds until it answered; only for those who may read.")


class HealthDocument(Document):
    """How all parts are."""

    status: Overall = Field(description="`failing` when a part is `down` or `late`.")
    at: datetime = Field(description="When they were asked; an answer is kept for some seconds.")
    checks: dict[str, CheckDocument] = Field(
        description="`database`, `object_store`, `prefect`, and `reconciler`: when one last came through."
    )


@routes.get(
    "/health",
    summary="Is everything there?",
    responses={503: {"model": HealthDocument, "description": "Something that is needed does not answer."}},
)
@public
async def get_health(request: Request, response: Response, may_read: MayRead) -> HealthDocument:
    """Ask the database, the object store, Prefect and when a reconciler last came through; 503 if one of them fails.

    Answers within a few seconds, whatever hangs. Who may not read gets the statuses alone.
    """
    check: HealthCheck = request.app.state.health
    found = await to_thread.run_sync(check.look, limiter=_THREADS)
    if not found.is_ok:
        response.status_code = 503
    return HealthDocument(
        status=Overall.OK if found.is_ok else Overall.FAILING,
        at=found.at,
        checks={
            name: CheckDocument(
                status=one.condition,
                detail=one.detail if may_read else None,
                took_s=one.took_s if may_read else None,
            )
            for name, one in found.checks.items()
        },
    )
