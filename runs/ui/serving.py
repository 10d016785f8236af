"""Sends the page and its files: those of this folder, and Bokeh's scripts out of the installed package.

Owns the page's policy on content: everything comes from this server, no script or style stands in the markup. Knows
neither the database nor the API.
"""

import re
import secrets
from collections.abc import Mapping
from functools import cache, partial
from importlib.util import find_spec
from pathlib import Path

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from ..entity_tags import is_known, tag_of

FOLDER = Path(__file__).parent
BOKEH_SCRIPTS = ("bokeh.min.js", "bokeh-api.min.js")
VIEWS: Mapping[str, str] = {
    "/": "graph.js",
    "/runs": "runs.js",
    "/runs/{run}": "run.js",
    "/compare": "compare.js",
    "/deployments/{kind}/{resource}": "deployment.js",
}
"""Address -> the script of its view. Each is the same shell, but for the scripts that it has the browser fetch."""

_MEDIA_TYPES: Mapping[str, str] = {
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}
"""What is sent from this folder, and as what; the system's own table may say otherwise, and then no script runs."""

_HEADERS: Mapping[str, str] = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-cache",
}

_IMPORTED = re.compile(r'^import [^(]*?\bfrom "\./([\w.-]+)";$', re.MULTILINE)

_tags: dict[Path, tuple[tuple[int, int], str]] = {}
"""File -> its time and size when it was read, and the tag of what it held: most requests are for what is known."""


def install(app: Starlette) -> None:
    """Let the application answer for the page: anybody may have it, it holds no data."""
    for path, script in VIEWS.items():
        app.router.routes.append(Route(path, partial(_page, script)))
    app.router.routes.append(Route("/assets/{name:path}", _asset))


def content_policy(nonce: str) -> str:
    """Return the Content-Security-Policy of the page.

    Bokeh makes style elements: they carry the response's nonce, so that styles in the markup stay forbidden.
    """
    return "; ".join(
        (
            "default-src 'none'",
            "script-src 'self'",
            f"style-src 'self' 'nonce-{nonce}'",
            "img-src 'self' data:",
            "connect-src 'self'",
            "font-src 'self'",
            "base-uri 'none'",
            "form-action 'none'",
            "frame-ancestors 'none'",
        )
    )


@cache
def assets() -> Mapping[str, Path]:
    """Return every file that is sent below `/assets/`, by its name there: no other path can be asked for.

    Looked for once: a file that is added is there from the server's next start on.
    """
    found = {path.relative_to(FOLDER).as_posix(): path for path in FOLDER.rglob("*") if path.suffix in _MEDIA_TYPES}
    package = find_spec("bokeh")
    if package is None or package.origin is None:
        raise RuntimeError("the page draws with Bokeh, which is not installed: install freshline with its dependencies")
    scripts = Path(package.origin).parent / "server" / "static" / "js"
    return found | {name: scripts / name for name in BOKEH_SCRIPTS}


@cache
def modules(*scripts: str) -> tuple[str, ...]:
    """Return these scripts and all that they import, directly or through others, each once."""
    found: dict[str, None] = {}
    waiting = list(scripts)
    while waiting:
        name = waiting.pop(0)
        if name not in found:
            found[name] = None
            waiting += re.findall(_IMPORTED, (FOLDER / "scripts" / name).read_text(encoding="utf-8"))
    return tuple(found)


def _page(script: str, _: Request) -> Response:
    nonce = secrets.token_urlsafe(16)
    # All at once: otherwise each is known only when the one that imports it has come.
    links = "\n".join(f'<link rel="modulepreload" href="/assets/scripts/{name}">' for name in modules("app.js", script))
    text = (FOLDER / "index.html").read_text(encoding="utf-8").replace("{{modules}}", links).replace("{{nonce}}", nonce)
    headers = {**_HEADERS, "Cache-Control": "no-store", "Content-Security-Policy": content_policy(nonce)}
    return Response(text, media_type="text/html; charset=utf-8", headers=headers)


def _asset(request: Request) -> Response:
    path = assets().get(request.path_params["name"])
    if path is None:
        raise HTTPException(404)
    tag = _tag(path)
    headers = {**_HEADERS, "ETag": tag}
    if is_known(tag, request.headers.getlist("if-none-match")):
        return Response(status_code=304, headers=headers)
    return Response(path.read_bytes(), media_type=_MEDIA_TYPES[path.suffix], headers=headers)


def _tag(path: Path) -> str:
    stat = path.stat()
    state = (stat.st_mtime_ns, stat.st_size)
    state_then, tag = _tags.get(path, (None, ""))
    if state_then != state:
        tag = tag_of(path.read_bytes())
        _tags[path] = (state, tag)
    return tag
