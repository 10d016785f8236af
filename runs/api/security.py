"""What stands before every request and behind every answer, whatever the route: names, origins, sizes, headers.

A plain ASGI layer around the application. What a route demands of its caller is in `policies`.
"""

from collections.abc import Mapping
from urllib.parse import unquote_to_bytes

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from .access import PREFIX, Access
from .bodies import MAX_BODY_BYTES, MAX_WORKER_BODY_BYTES, check_text
from .problems import Code, Refusal, problem_of, response_of, shown_path

CONTENT_SECURITY_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "font-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
SANDBOX = "default-src 'none'; sandbox; frame-ancestors 'none'"
"""For what others have written: shown by a browser after all, it may do nothing."""

_HEADERS: Mapping[str, str] = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "X-Frame-Options": "DENY",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Content-Security-Policy": CONTENT_SECURITY_POLICY,
    "Cache-Control": "no-store",
}
"""What every answer carries unless its route says otherwise."""
_MAX_QUERY_BYTES = 64 * 1024


class Security:
    """The layer."""

    def __init__(self, app: ASGIApp, *, access: Access) -> None:
        self._app = app
        self._access = access

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, or let the application answer it."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)

        async def send_headed(message: Message) -> None:
            if message["type"] == "http.response.start":
                answered = MutableHeaders(scope=message)
                for name, value in _HEADERS.items():
                    answered.setdefault(name, value)
            await send(message)

        try:
            self._access.check_origin(scope["method"], headers)
            _check_address(scope)
            limit = MAX_WORKER_BODY_BYTES if scope["path"].startswith(f"{PREFIX}/worker/") else MAX_BODY_BYTES
            _check_announced(headers, limit)
        except Refusal as refusal:
            response = response_of(problem_of(refusal), path=shown_path(scope))
            await response(scope, receive, send_headed)
            return
        await self._app(scope, _bounded(receive, limit), send_headed)


def _bounded(receive: Receive, limit: int) -> Receive:
    """Return what receives a request's body up to its limit, announced or not."""
    received = 0

    async def bounded() -> Message:
        nonlocal received
        message = await receive()
        if message["type"] == "http.request":
            received += len(message.get("body", b""))
            if received > limit:
                raise _too_large(limit)
        return message

    return bounded


def _check_announced(headers: Headers, limit: int) -> None:
    length = headers.get("content-length", "")
    if length.isdigit() and (len(length) > 18 or int(length) > limit):
        raise _too_large(limit)


def _check_address(scope: Scope) -> None:
    query: bytes = scope.get("query_string", b"")
    if len(query) > _MAX_QUERY_BYTES:
        raise Refusal(Code.TOO_LARGE, f"the query has {len(query):,} bytes; at most {_MAX_QUERY_BYTES:,}")
    check_text(scope["path"], "/path")
    for text, pointer in ((query, "/query"), (scope.get("raw_path") or b"", "/path")):
        try:
            check_text(unquote_to_bytes(text).decode(), pointer)
        except UnicodeDecodeError:
            raise Refusal(Code.INVALID_ARGUMENT, f"{pointer}: it is not UTF-8", pointer=pointer) from None


def _too_large(limit: int) -> Refusal:
    return Refusal(Code.TOO_LARGE, f"the request's body is larger than {limit:,} bytes")
