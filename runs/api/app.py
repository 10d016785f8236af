"""The application: the groups of routes, and the layers around them.

A new group of routes is a module with `routes = Routes(…)`, named in `API` (under `/api/v1`) or `ROOT` below.
"""

from collections.abc import Sequence
from importlib.metadata import version as version_of

from fastapi import FastAPI, Request, Response
from fastapi.responses import JSONResponse

from ..composition import Freshline
from ..health import HealthCheck, questions_of
from ..live.poller import Live
from ..ui import serving as page
from . import (
    artifacts,
    bulk,
    deployments,
    graph,
    health,
    lists,
    logs,
    prometheus,
    runs,
    session,
    statistics,
    streams,
    tracing,
    versions,
    worker,
)
from .access import PREFIX, Access, access_for
from .head import HeadAsGet
from .lanes import Lane
from .openapi import describe
from .policies import Routes, check_policies, read
from .problems import install
from .security import Security

API: Sequence[Routes] = (
    session.routes,
    lists.routes,
    tracing.routes,
    bulk.routes,
    runs.routes,
    logs.routes,
    artifacts.routes,
    deployments.routes,
    versions.routes,
    graph.routes,
    streams.routes,
    statistics.routes,
    worker.routes,
)
"""The groups of routes under `/api/v1`, in the order of the documentation. Fixed paths (`/runs/active`) come before
those that would take them for an id (`/runs/{run_id}`)."""

ROOT: Sequence[Routes] = (
    health.routes,
    prometheus.routes,
)
"""The groups of routes without the prefix: health and metrics. The page is beside them: anybody may have it."""


def create_app(freshline: Freshline, *, access: Access | None = None, quick_at_once: int = 1) -> FastAPI:
    """Return the server of a store; without `access` it asks what the settings say, for this machine alone.

    `quick_at_once` is the width of the lane of quick reads.

    Its state has `freshline`, `access`, `lane`, `live` (to be closed when the server ends, so that its streams end),
    `health` and `meter`.

    Raises:
        PolicyMissing: a route does not say who may ask it.
        InvalidInput: there is no usable token.
    """
    access = access or access_for(freshline.settings)
    app = FastAPI(
        title="Freshline",
        version=version_of("freshline"),
        docs_url=None,
        redoc_url=None,
        openapi_url=None,
        redirect_slashes=False,
    )
    app.state.freshline, app.state.access = freshline, access
    app.state.lane = Lane(width=quick_at_once)
    app.state.live = Live(freshline.database, tenant_id=freshline.settings.tenant_id)
    app.state.health = HealthCheck(questions_of(freshline, freshline.gateway()))
    app.state.meter = meter = prometheus.Meter(freshline, app.state.live)
    own = _own_routes()
    check_policies([own, *API, *ROOT])
    for group in (own, *API):
        app.include_router(group, prefix=PREFIX)
    for group in ROOT:
        app.include_router(group)
    page.install(app)
    install(app)
    describe(app)
    app.add_middleware(Security, access=access)
    app.add_middleware(HeadAsGet)
    app.add_middleware(prometheus.Timing, meter=meter)
    return app


def _own_routes() -> Routes:
    routes = Routes()

    @routes.get("/openapi.json", include_in_schema=False)
    @read
    async def openapi(request: Request) -> Response:
        return JSONResponse(request.app.openapi())

    return routes
