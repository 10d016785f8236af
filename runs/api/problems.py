"""Problem details (RFC 9457): the one form of every error, and the one table from our errors to it.

A problem says what went wrong with which value and what to do. No word of internals: what nobody expected is logged
with an id, and the problem names the id.
"""

import json
import logging
from collections.abc import Mapping, Sequence
from enum import StrEnum
from typing import Any
from uuid import uuid4

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.routing import iter_route_contexts
from pydantic import BaseModel, Field
from sqlalchemy import exc
from starlette.exceptions import HTTPException

from ...storage import errors

_LOGGER = logging.getLogger(__name__)

MEDIA_TYPE = "application/problem+json"
_MOST_ERRORS = 20
_MOST_CHARACTERS = 4000


class Code(StrEnum):
    """What kind of problem it is."""

    INVALID_ARGUMENT = "invalid_argument"
    """A value that was given cannot be used."""
    NOT_FOUND = "not_found"
    """There is nothing of that name or id, or it was deleted."""
    CONFLICT = "conflict"
    """The call contradicts what is recorded."""
    UNAUTHENTICATED = "unauthenticated"
    """The token is missing, or is another one."""
    PERMISSION_DENIED = "permission_denied"
    """The request comes from where none is taken from."""
    TOO_LARGE = "too_large"
    """The request is larger than allowed."""
    UNAVAILABLE = "unavailable"
    """The database, the object store or Prefect cannot be reached; try again."""
    INTERNAL = "internal"
    """A fault of ours, or stored data that is damaged."""


STATUS_OF: Mapping[Code, int] = {
    Code.INVALID_ARGUMENT: 422,
    Code.NOT_FOUND: 404,
    Code.CONFLICT: 409,
    Code.UNAUTHENTICATED: 401,
    Code.PERMISSION_DENIED: 403,
    Code.TOO_LARGE: 413,
    Code.UNAVAILABLE: 503,
    Code.INTERNAL: 500,
}

_TITLES: Mapping[Code, str] = {
    Code.INVALID_ARGUMENT: "A value cannot be used",
    Code.NOT_FOUND: "Not found",
    Code.CONFLICT: "It contradicts what is recorded",
    Code.UNAUTHENTICATED: "The token is missing or wrong",
    Code.PERMISSION_DENIED: "Not from there",
    Code.TOO_LARGE: "Too large",
    Code.UNAVAILABLE: "Something that is needed cannot be reached",
    Code.INTERNAL: "Something went wrong",
}

CODE_OF: Mapping[type[errors.FreshlineError], Code] = {
    errors.InvalidInput: Code.INVALID_ARGUMENT,
    errors.NotFound: Code.NOT_FOUND,
    errors.Conflict: Code.CONFLICT,
    errors.UpstreamNotReady: Code.CONFLICT,
    errors.StoreError: Code.UNAVAILABLE,
    errors.ArtifactError: Code.UNAVAILABLE,
    errors.DataRemoved: Code.NOT_FOUND,
    errors.ObjectMissing: Code.INTERNAL,
    errors.ObjectCorrupt: Code.INTERNAL,
    errors.PrefectError: Code.UNAVAILABLE,
    errors.FreshlineError: Code.INTERNAL,
}
"""Our errors by their nearest ancestor here."""

_CODE_OF_STATUS = {status: code for code, status in STATUS_OF.items()}


class Fault(BaseModel):
    """One value that cannot be used."""

    pointer: str = Field(description="Where it is: `/body/parameters/days`, `/query/limit`, `/path/run_id`.")
    detail: str = Field(description="Why it cannot be used.")


class Problem(BaseModel):
    """What went wrong (RFC 9457)."""

    type: str = Field(description="`urn:freshline:problem:` and the code.")
    title: str = Field(description="The kind of problem in words.")
    status: int = Field(description="The HTTP status.")
    detail: str = Field(description="What happened, with which value, and what to do.")
    code: Code = Field(description="The kind of problem, for programs.")
    instance: str = Field(description="What was asked; of an internal problem the id under which it is logged.")
    error: str | None = Field(default=None, description="The name of the error, where it is one of Freshline's own.")
    errors: list[Fault] | None = Field(default=None, description="Each value that cannot be used, if several may be.")


class Refusal(HTTPException):
    """A problem that is found before any of our own parts is asked."""

    def __init__(
        self,
        code: Code,
        detail: str,
        *,
        pointer: str | None = None,
        status: int | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(status or STATUS_OF[code], detail=detail, headers=dict(headers or {}))
        self.code = code
        self.faults = [Fault(pointer=pointer, detail=detail)] if pointer is not None else None


def code_of(error: errors.FreshlineError) -> Code:
    """Return the code of one of our errors."""
    return next(CODE_OF[kind] for kind in type(error).__mro__ if kind in CODE_OF)


def problem_of(error: Exception) -> Problem:
    """Return the problem of an error that has been raised; one that nobody expected is logged with an id."""
    if isinstance(error, Refusal):
        return _problem(error.code, error.detail, status=error.status_code, faults=error.faults)
    if isinstance(error, errors.FreshlineError):
        code = code_of(error)
        problem = _logged(code, str(error), error) if code == Code.INTERNAL else _problem(code, str(error))
        return problem.model_copy(update={"error": type(error).__name__})
    if isinstance(error, RequestValidationError):
        faults = [_fault(one) for one in error.errors()[:_MOST_ERRORS]]
        return _problem(Code.INVALID_ARGUMENT, f"{faults[0].pointer}: {faults[0].detail}", faults=faults)
    if isinstance(error, HTTPException):
        code = _CODE_OF_STATUS.get(error.status_code, Code.INVALID_ARGUMENT)
        return _problem(code, _of_http(error), status=error.status_code)
    if isinstance(error, exc.OperationalError | exc.InterfaceError | exc.TimeoutError):
        return _logged(Code.UNAVAILABLE, "the database of records cannot be reached, or is busy; try again", error)
    return _logged(Code.INTERNAL, "something that nobody expected", error)


def response_of(problem: Problem, *, headers: Mapping[str, str] | None = None, path: str = "") -> Response:
    """Return the answer that carries a problem."""
    if not problem.instance:
        problem = problem.model_copy(update={"instance": path})
    # What a client sent may hold half a character: as an escape it is legal JSON.
    body = json.dumps(problem.model_dump(mode="json", exclude_none=True), ensure_ascii=False)
    more = dict(headers or {})
    if problem.code == Code.UNAUTHENTICATED:
        more["WWW-Authenticate"] = 'Bearer realm="freshline"'
    if problem.code == Code.UNAVAILABLE:
        more["Retry-After"] = "5"
    return Response(
        body.encode(errors="backslashreplace"), status_code=problem.status, media_type=MEDIA_TYPE, headers=more
    )


def answer(request: Request, error: Exception) -> Response:
    """Return the answer to a request that has failed."""
    if isinstance(error, HTTPException) and error.status_code == 405:
        # FastAPI knows the methods of the first route of this address alone.
        error.headers = {"Allow": ", ".join(_methods(request))}
    headers = getattr(error, "headers", None)
    return response_of(problem_of(error), headers=headers, path=shown_path(request.scope))


def shown_path(scope: Mapping[str, Any]) -> str:
    """Return what was asked, as it stood in the request: percent-encoded, without the query."""
    raw: bytes = scope.get("raw_path") or b""
    return raw.partition(b"?")[0].decode("ascii", "replace")[:_MOST_CHARACTERS]


def install(app: FastAPI) -> None:
    """Let every error of the application become a problem."""
    for kind in (errors.FreshlineError, RequestValidationError, HTTPException, Exception):
        app.add_exception_handler(kind, answer)


def _methods(request: Request) -> list[str]:
    """Return what the address takes; an address that is also one with an id in it counts as itself."""
    found = [one for one in iter_route_contexts(request.app.routes) if one.path_regex.match(request.url.path)]
    names = {name for one in found if one.path_format == found[0].path_format for name in one.methods or ()}
    return sorted(names | {"HEAD"} if "GET" in names else names)


def _problem(
    code: Code,
    detail: str,
    *,
    status: int | None = None,
    faults: Sequence[Fault] | None = None,
    instance: str = "",
) -> Problem:
    return Problem(
        type=f"urn:freshline:problem:{code}",
        title=_TITLES[code],
        status=status or STATUS_OF[code],
        detail=detail[:_MOST_CHARACTERS],
        code=code,
        instance=instance,
        errors=list(faults) if faults is not None else None,
    )


def _logged(code: Code, detail: str, error: Exception) -> Problem:
    instance = f"urn:uuid:{uuid4()}"
    _LOGGER.error("%s: a request failed", instance, exc_info=error)
    return _problem(code, f"{detail}; it is logged as {instance}", instance=instance)


def _fault(error: Mapping[str, Any]) -> Fault:
    """Return what is wrong with one value; never the value itself, which may be a secret."""
    kind, place = error["type"], error["loc"]
    if kind == "json_invalid":
        return Fault(pointer="/body", detail=f"it is no JSON: {error['ctx']['error']} at character {place[-1]}")
    pointer = "/" + "/".join(str(part).replace("~", "~0").replace("/", "~1") for part in place)
    message = str(error["msg"]).removeprefix("Value error, ")
    return Fault(pointer=pointer, detail=message[:1].lower() + message[1:])


def _of_http(error: HTTPException) -> str:
    if error.status_code == 404:
        return "there is no such address"
    if error.status_code == 405:
        allowed = (error.headers or {}).get("Allow", "")
        return f"the address does not take this method; it takes {allowed}"
    return str(error.detail)
