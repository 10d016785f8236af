"""Who may ask a route: every route says it, or the server does not start.

A group of routes is a `Routes`, its functions are marked with `read`, `write` or `public`:

    routes = Routes(tags=["runs"])

    @routes.get("/runs/{run_id}")
    @read
    def get_run(...): ...

Owns the marks, and that they are obeyed before a request's body is read; what they demand is in `access`.
"""

from collections.abc import Awaitable, Callable, Iterable, Sequence
from enum import StrEnum
from typing import Any, TypeVar

from fastapi import APIRouter, Request, Response
from fastapi.dependencies.models import Dependant
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from starlette.exceptions import HTTPException

from ...storage.errors import FreshlineError, nearest_names
from . import problems
from .access import Access
from .bodies import StrictRequest
from .problems import Code, Refusal
from .tags import tagged

F = TypeVar("F", bound=Callable[..., Any])

_MARK = "_freshline_policy"


class Policy(StrEnum):
    """What a route demands of its caller."""

    PUBLIC = "public"
    """Nothing."""
    READ = "read"
    """The token, unless the server speaks to this machine alone."""
    WRITE = "write"
    """The token, always."""
    RUN = "run"
    """The token, or the one that the claim of the run in its path has given."""


class PolicyMissing(RuntimeError):
    """A route does not say who may ask it; the server does not start."""


def public(endpoint: F) -> F:
    """Let everybody ask this route."""
    return _marked(endpoint, Policy.PUBLIC)


def read(endpoint: F) -> F:
    """Let those ask this route who may read."""
    return _marked(endpoint, Policy.READ)


def write(endpoint: F) -> F:
    """Let those ask this route who have the token."""
    return _marked(endpoint, Policy.WRITE)


def run_token(endpoint: F) -> F:
    """Let those ask this route who have the token, or that of the run in its path."""
    return _marked(endpoint, Policy.RUN)


def policy_of(endpoint: Callable[..., Any]) -> Policy | None:
    """Return what a route's function is marked with."""
    return getattr(endpoint, _MARK, None)


class GuardedRoute(APIRoute):
    """A route that obeys its policy, knows its query parameters, and reads strict JSON."""

    def get_route_handler(self) -> Callable[[Request], Awaitable[Response]]:  # type: ignore[override]  # a coroutine
        """Return what answers a request: refused before its body is read."""
        answer = super().get_route_handler()
        known = sorted(_query_names(self.dependant))

        async def guarded(request: Request) -> Response:
            access: Access = request.app.state.access
            # No mark, no entry: even if nobody has checked the routes.
            policy = policy_of(self.endpoint) or Policy.WRITE
            if policy != Policy.PUBLIC:
                run_id = request.path_params.get("run_id") if policy == Policy.RUN else None
                access.admit(request, writes=policy != Policy.READ, run_id=run_id)
            _refuse_unknown(request, known)
            try:
                response = await answer(StrictRequest(request.scope, request.receive))
                return tagged(request, response) if policy == Policy.READ else response
            except (FreshlineError, RequestValidationError, HTTPException):
                raise
            except Exception as error:
                # Further out it would be logged a second time, with all that a traceback may hold.
                return problems.answer(request, error)

        return guarded


class Routes(APIRouter):
    """A group of routes, each of which must be marked."""

    def __init__(self, **options: Any) -> None:
        super().__init__(route_class=GuardedRoute, redirect_slashes=False, **options)


def check_policies(routers: Iterable[APIRouter]) -> None:
    """Let pass groups of routes of which every one says who may ask it.

    Raises:
        PolicyMissing: naming the route that does not.
    """
    for router in routers:
        for route in router.routes:
            name = getattr(route, "path", type(route).__name__)
            if not isinstance(route, GuardedRoute):
                raise PolicyMissing(f"{name}: declare it in a group made with Routes(), which knows policies")
            if policy_of(route.endpoint) is None:
                raise PolicyMissing(f"{name}: mark {route.endpoint.__name__} with @read, @write or @public")


def _query_names(dependant: Dependant) -> set[str]:
    own = {field.alias for field in dependant.query_params}
    return own.union(*(_query_names(one) for one in dependant.dependencies))


def _marked(endpoint: F, policy: Policy) -> F:
    setattr(endpoint, _MARK, policy)
    return endpoint


def _refuse_unknown(request: Request, known: Sequence[str]) -> None:
    for name in request.query_params:
        if name not in known:
            near = nearest_names(name, known)
            takes = f"it takes {', '.join(known) or 'none'}"
            hint = f"did you mean {near[0]!r}?" if near else takes
            detail = f"there is no query parameter {name!r}; {hint}"
            raise Refusal(Code.INVALID_ARGUMENT, detail, pointer=f"/query/{name}")
