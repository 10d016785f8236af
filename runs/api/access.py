"""Who is let in: the token, the session that a page gets for it, and which names and origins this server answers to.

Owns these rules alone; that they are asked for every request is the part of `security` (before the route is known)
and of `policies` (when it is).
"""

import hashlib
import hmac
import ipaddress
import os
import secrets
import time
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit
from uuid import UUID

from fastapi import Request, Response
from starlette.datastructures import Headers

from ...storage.errors import InvalidInput
from ...storage.settings import Settings
from ..remote.tokens import fence_of
from .problems import Code, Refusal

PREFIX = "/api/v1"
TOKEN_FILE = "api-token"
_TOKEN_BYTES = 32
_LEAST_CHARACTERS = 16
_SESSION_S = 30 * 24 * 3600
_LOCAL_NAMES = frozenset({"localhost"})
_SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})


@dataclass(frozen=True)
class Access:
    """What this server asks of a request."""

    token: str = field(repr=False)
    reads_are_open: bool = True
    """Whoever asks under a name of this machine may read: it listens on this machine alone."""
    names: frozenset[str] = _LOCAL_NAMES
    """Names under which it is asked. Addresses of numbers need not be listed: no name of others leads to them."""
    port: int = 4280
    """Tells its sessions from those of another server on the same machine."""

    @property
    def cookie(self) -> str:
        """The name of the session's cookie."""
        return f"freshline_session_{self.port}"

    def admit(self, request: Request, *, writes: bool, run_id: str | None = None) -> None:
        """Let pass a request that may be answered; with `run_id`, also one that has the token of that run.

        Raises:
            Refusal: the token is missing or wrong.
        """
        known = self.is_known(request) or (run_id is not None and self._has_run_token(request, run_id))
        if not (known or (self.is_open_to(request) and not writes)):
            raise Refusal(
                Code.UNAUTHENTICATED,
                f"send the token as `Authorization: Bearer …`; it is in the file {TOKEN_FILE} of Freshline's home, or "
                "in FRESHLINE_API_TOKEN",
            )
        by_session = "authorization" not in request.headers
        is_own = "origin" in request.headers or request.headers.get("sec-fetch-site") == "same-origin"
        if writes and by_session and not is_own:
            raise Refusal(
                Code.PERMISSION_DENIED, "a session writes only from this server's own page; send the token instead"
            )

    def is_open_to(self, request: Request) -> bool:
        """Return whether it may read without the token: it asks this machine for itself, not a proxy's name for it."""
        if not self.reads_are_open:
            return False
        name = urlsplit(f"//{request.headers.get('host', '')}").hostname
        return name is not None and is_loopback(name)

    def is_known(self, request: Request) -> bool:
        """Return whether the request has the token, or a session that was made for it."""
        scheme, _, given = request.headers.get("authorization", "").partition(" ")
        if scheme:
            return scheme.lower() == "bearer" and self.is_token(given.strip())
        session = request.cookies.get(self.cookie)
        return session is not None and self._is_session(session)

    def is_token(self, given: str) -> bool:
        """Return whether this is the token, in a time that says nothing of it."""
        return hmac.compare_digest(given.encode(errors="replace"), self.token.encode())

    def _has_run_token(self, request: Request, run_id: str) -> bool:
        """Return whether the request has the token of an attempt of this run, and note which."""
        scheme, _, given = request.headers.get("authorization", "").partition(" ")
        try:
            fence = fence_of(self.token, UUID(run_id), given.strip()) if scheme.lower() == "bearer" else None
        except ValueError:
            return False
        request.state.fence = fence
        return fence is not None

    def begin_session(self, response: Response, *, is_secure: bool) -> None:
        """Give a browser what stands for the token; not the token, which other servers of this machine would see."""
        until = str(int(time.time()) + _SESSION_S)
        response.set_cookie(
            self.cookie,
            f"{until}.{self._signed(until)}",
            max_age=_SESSION_S,
            path=PREFIX,
            httponly=True,
            samesite="strict",
            secure=is_secure,
        )

    def end_session(self, response: Response) -> None:
        """Let a browser forget it."""
        response.delete_cookie(self.cookie, path=PREFIX, httponly=True, samesite="strict")

    def check_origin(self, method: str, headers: Headers) -> None:
        """Let pass a request that no page of another site sends.

        Raises:
            Refusal: it is asked under a foreign name (DNS rebinding), or by a page of another origin.
        """
        host = headers.get("host", "")
        if not self._is_ours(host):
            raise Refusal(
                Code.PERMISSION_DENIED,
                f"this server is not called {host[:200]!r}; names that it is to answer to are set in "
                "FRESHLINE_API_NAMES",
            )
        origin = headers.get("origin")
        if origin is not None:
            if urlsplit_netloc(origin) != host.lower():
                raise Refusal(
                    Code.PERMISSION_DENIED, f"a page of {origin[:200]!r} asks; only this server's own page may"
                )
            return
        site, mode = headers.get("sec-fetch-site", "none"), headers.get("sec-fetch-mode", "navigate")
        if site not in ("same-origin", "none") and not (mode == "navigate" and method in _SAFE_METHODS):
            raise Refusal(Code.PERMISSION_DENIED, "a page of another site asks; only this server's own page may")

    def _is_ours(self, host: str) -> bool:
        try:
            name = urlsplit(f"//{host}").hostname
        except ValueError:
            return False
        if not name or urlsplit(f"//{host}").path:
            return False
        try:
            ipaddress.ip_address(name)
        except ValueError:
            return name in self.names
        return True

    def _is_session(self, session: str) -> bool:
        until, _, signed = session.partition(".")
        is_signed = hmac.compare_digest(signed.encode(errors="replace"), self._signed(until).encode())
        return is_signed and until.isdigit() and int(until) > time.time()

    def _signed(self, until: str) -> str:
        said = f"session:{self.port}:{until}".encode(errors="replace")
        return hmac.new(self.token.encode(), said, hashlib.sha256).hexdigest()


def urlsplit_netloc(origin: str) -> str | None:
    """Return host and port of an origin, as they stand in a Host header; none if it is no origin of a page."""
    try:
        parts = urlsplit(origin)
    except ValueError:
        return None
    return parts.netloc.lower() if parts.scheme in ("http", "https") else None


def access_for(settings: Settings, *, host: str = "127.0.0.1", port: int | None = None) -> Access:
    """Return what a server that listens there asks, with the token of the settings, or of a new file in the home.

    Raises:
        InvalidInput: the token is too short, or others can read its file.
    """
    own = settings.api_token
    token = _usable(own.get_secret_value(), "FRESHLINE_API_TOKEN") if own is not None else token_in(settings.home)
    names = {name.strip().lower() for name in (settings.api_names or "").split(",") if name.strip()}
    return Access(
        token=token,
        reads_are_open=is_loopback(host),
        names=_LOCAL_NAMES | names | _as_name(host),
        port=settings.api_port if port is None else port,
    )


def token_place(settings: Settings) -> str:
    """Return where the token of these settings is found, for people: never the token."""
    return "the setting FRESHLINE_API_TOKEN" if settings.api_token is not None else str(_file_in(settings.home))


def token_in(home: Path) -> str:
    """Return the token in the file of this home; a new one is made for its owner alone.

    Raises:
        InvalidInput: others can read the file, or it holds no token.
    """
    path = _file_in(home)
    try:
        if not path.exists():
            _make(path)
        if os.name == "posix" and path.stat().st_mode & 0o077:
            raise InvalidInput(f"others can read {path}: delete it, and a new token is made; or `chmod 600` it")
        return _usable(path.read_text().strip(), str(path))
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidInput(f"the token in {path} cannot be read or written: {error}") from None


def is_loopback(host: str) -> bool:
    """Return whether only this machine reaches a server that listens there."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _file_in(home: Path) -> Path:
    return home.expanduser().absolute() / TOKEN_FILE


def _make(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    made = path.with_name(f"{path.name}.{os.getpid()}.{secrets.token_hex(4)}")
    try:
        with os.fdopen(os.open(made, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            file.write(secrets.token_urlsafe(_TOKEN_BYTES) + "\n")
        # Whole or not at all, and never over one that another process has just made.
        os.link(made, path)
    except FileExistsError:
        pass
    finally:
        made.unlink(missing_ok=True)


def _usable(token: str, where: str) -> str:
    if len(token) < _LEAST_CHARACTERS or not token.isascii() or not token.isprintable() or " " in token:
        raise InvalidInput(f"{where}: a token has {_LEAST_CHARACTERS} or more printable ASCII characters, no space")
    return token


def _as_name(host: str) -> set[str]:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return {host.lower()}
    return set()
