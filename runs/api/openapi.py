"""The description of the API for programs (OpenAPI): what FastAPI derives from the routes, and what it cannot know.

Owns that every route says which problems it may answer with, and what its caller must have.
"""

from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from fastapi.routing import iter_route_contexts

from .examples import add_examples
from .policies import Policy, policy_of
from .problems import MEDIA_TYPE, STATUS_OF, Code, Problem

_DESCRIPTION = """\
Runs, versions and freshness of Prefect deployments.

Every error is a problem (RFC 9457), `application/problem+json`, with a `code` for programs. Lists are read page by
page: give `next_cursor` as `cursor`. Times are UTC. A metric's value that is no finite number is the text `NaN`,
`Infinity` or `-Infinity`.
"""
_ALWAYS = (Code.UNAUTHENTICATED, Code.PERMISSION_DENIED, Code.NOT_FOUND, Code.TOO_LARGE, Code.INVALID_ARGUMENT)
_FAULTS = (Code.INTERNAL, Code.UNAVAILABLE)
_WORDS = {
    Code.INVALID_ARGUMENT: "A value cannot be used.",
    Code.NOT_FOUND: "There is nothing of that name or id.",
    Code.CONFLICT: "It contradicts what is recorded.",
    Code.UNAUTHENTICATED: "The token is missing or wrong.",
    Code.PERMISSION_DENIED: "The request comes from where none is taken from.",
    Code.TOO_LARGE: "The request is too large.",
    Code.UNAVAILABLE: "The database, the object store or Prefect cannot be reached.",
    Code.INTERNAL: "A fault of the server; the problem has the id under which it is logged.",
}
_EXAMPLE = {
    "type": "urn:freshline:problem:not_found",
    "title": "Not found",
    "status": 404,
    "detail": "There is no deployment 'backtest/bok'. Did you mean 'backtest/book'?",
    "code": "not_found",
    "instance": "/api/v1/deployments/backtest/bok",
}


def describe(app: FastAPI) -> None:
    """Let the application describe itself so."""

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            app.openapi_schema = _schema(app)
        return app.openapi_schema

    app.openapi = openapi  # type: ignore[method-assign]  # FastAPI's own way of extending it


def _schema(app: FastAPI) -> dict[str, Any]:
    schema = get_openapi(title=app.title, version=app.version, description=_DESCRIPTION, routes=app.routes)
    components = schema.setdefault("components", {})
    schemas = components.setdefault("schemas", {})
    for name in ("HTTPValidationError", "ValidationError"):
        schemas.pop(name, None)
    problem = Problem.model_json_schema(mode="serialization", ref_template="#/components/schemas/{model}")
    schemas.update(problem.pop("$defs", {}))
    schemas["Problem"] = problem | {"examples": [_EXAMPLE]}
    add_examples(schemas)
    components["securitySchemes"] = {
        "token": {"type": "http", "scheme": "bearer", "description": "The server's token."},
        "session": {
            "type": "apiKey",
            "in": "cookie",
            "name": app.state.access.cookie,
            "description": "What `POST /session` gives to a browser.",
        },
    }
    for route in iter_route_contexts(app.routes):
        for method in route.methods or ():
            operation = schema["paths"].get(route.path_format, {}).get(method.lower())
            if operation is not None and route.endpoint is not None:
                _complete(operation, policy_of(route.endpoint), reads=method == "GET")
    return schema


def _complete(operation: dict[str, Any], policy: Policy | None, *, reads: bool) -> None:
    codes = (*_ALWAYS, *(() if reads else (Code.CONFLICT,)), *_FAULTS)
    answers = operation.setdefault("responses", {})
    for code in codes:
        # What a route says itself stays; but what FastAPI says of every route is not how we answer.
        if code != Code.INVALID_ARGUMENT and str(STATUS_OF[code]) in answers:
            continue
        answers[str(STATUS_OF[code])] = {
            "description": _WORDS[code],
            "content": {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}},
        }
    if policy == Policy.READ and "application/json" in answers.get("200", {}).get("content", {}):
        answers.setdefault("304", {"description": "It is as it was when the `ETag` in `If-None-Match` was given."})
    if policy != Policy.PUBLIC:
        needed: list[dict[str, list[str]]] = [{"token": []}, {"session": []}]
        operation["security"] = [*needed, {}] if policy == Policy.READ else needed
