"""A proxy on loopback in front of a server that speaks HTTP, which fails as networks and busy servers do.

Each fault hits a share of the requests, chosen by a seed; what `only` does not match is passed on as it is. Nothing is
assumed of the server but HTTP, and what is passed on is passed on unchanged.
"""

import http.client
import random
import socket
import struct
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

BUSY, FAILED, RESET, CUT, SHORT, LOST = "busy", "failed", "reset", "cut", "short", "lost"
"""503 SlowDown · 500 · the connection is reset before an answer · the answer's body breaks off · it is shorter than
what was asked for, and nothing says so · the request is carried out, and its answer is lost."""

_ERRORS = {BUSY: (503, "SlowDown"), FAILED: (500, "InternalError")}
_ANSWER_S = 30.0


@dataclass
class Refusal:
    """An answer in the server's place."""

    status: int
    code: str
    message: str = "refused by the proxy"


@dataclass
class LossyHttp:
    """The proxy and its faults, which may be changed while it runs."""

    upstream: str
    seed: int = 0
    share: float = 0.0
    """Of the requests, that a fault hits."""
    faults: tuple[str, ...] = ()
    delay_s: float = 0.0
    """Every answer waits for so long."""
    only: Callable[[str, str], bool] = lambda _method, _path: True
    """Which requests a fault may hit."""
    refusal: Refusal | None = None
    """What every request gets instead of an answer, if anything."""
    seen: Counter[str] = field(default_factory=Counter)
    """How often which fault struck; `passed` for none."""
    requests: list[tuple[str, str]] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)
    """Those of each request."""

    def __post_init__(self) -> None:
        self._random = random.Random(f"requests {self.seed}")
        self._lock = threading.Lock()
        self._released = threading.Event()
        parts = urlsplit(self.upstream)
        outer, host, port = self, parts.hostname or "", parts.port or 80

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True

            def answer(self) -> None:
                content = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                outer._handle(self, content, host, port)

            do_GET = do_PUT = do_POST = do_DELETE = do_HEAD = answer  # noqa: N815 - the server's names

            def log_message(self, *_: object) -> None: ...

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"

    @contextmanager
    def running(self) -> Iterator["LossyHttp"]:
        """Serve until the block ends."""
        thread = threading.Thread(target=self.server.serve_forever, args=(0.01,), daemon=True)
        thread.start()
        try:
            yield self
        finally:
            self._released.set()
            self.server.shutdown()
            self.server.server_close()
            thread.join()

    def _handle(self, handler: BaseHTTPRequestHandler, content: bytes, host: str, port: int) -> None:
        self._released.wait(self.delay_s)
        with self._lock:
            self.requests.append((handler.command, handler.path))
            self.headers.append(dict(handler.headers))
            fault, is_meant = None, self.only(handler.command, handler.path)
            if self.faults and is_meant and self._random.random() < self.share:
                fault = self._random.choice(self.faults)
            self.seen[fault or "passed"] += 1
            refusal = self.refusal if is_meant else None
        if refusal is not None:
            return _answer_error(handler, refusal.status, refusal.code, refusal.message)
        if fault in _ERRORS:
            status, code = _ERRORS[fault]
            return _answer_error(handler, status, code, "by the proxy")
        if fault == RESET:
            return _reset(handler)
        upstream = http.client.HTTPConnection(host, port, timeout=_ANSWER_S)
        try:
            headers = {name: value for name, value in handler.headers.items() if name.lower() != "expect"}
            upstream.request(handler.command, handler.path, content, headers)
            answer = upstream.getresponse()
            body = answer.read()
        finally:
            upstream.close()
        if fault == LOST:
            return _reset(handler)
        if fault == SHORT and handler.command != "HEAD":
            body = body[: len(body) // 2]
        handler.send_response_only(answer.status, answer.reason)
        for name, value in answer.getheaders():
            if name.lower() not in ("transfer-encoding", "connection", "content-length"):
                handler.send_header(name, value)
        length = answer.getheader("Content-Length") if handler.command == "HEAD" else str(len(body))
        handler.send_header("Content-Length", length or "0")
        handler.end_headers()
        if fault == CUT and len(body) > 1:
            handler.wfile.write(body[: len(body) // 2])
            handler.wfile.flush()
            return _reset(handler)
        handler.wfile.write(body)
        return None


def _answer_error(handler: BaseHTTPRequestHandler, status: int, code: str, message: str) -> None:
    body = f"<?xml version='1.0'?><Error><Code>{code}</Code><Message>{message}</Message></Error>".encode()
    body = b"" if handler.command == "HEAD" else body  # nobody learns the reason from a HEAD
    handler.send_response_only(status)
    handler.send_header("Content-Type", "application/xml")
    handler.send_header("Content-Length", str(len(body)))
    handler.end_headers()
    handler.wfile.write(body)


def _reset(handler: BaseHTTPRequestHandler) -> None:
    # Without lingering, closing sends a reset instead of an orderly end.
    handler.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    handler.close_connection = True
    handler.connection.close()
