"""Clients of a server, for measuring it: each asks one question after the other, and all of them are one thread.

They read of HTTP what our server sends, and nothing else. A client that works on its answers takes the processor from
the server; several threads of them would wait for one another, and take it for the server's time.
"""

import socket
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from selectors import EVENT_READ, DefaultSelector
from time import monotonic, perf_counter
from urllib.parse import urlsplit

MOST_S = 60.0
"""No client asks any more when it takes as long."""

_PART_BYTES = 1 << 18
_OVER = object()


class Client:
    """Asks a server through one connection, which stays open until it is closed."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        assert parts.hostname is not None
        assert parts.port is not None
        self._address = parts.hostname, parts.port
        self._connection: socket.socket | None = None
        self._received = bytearray()

    def open(self) -> None:
        """Connect, which is not measured: a server closes connections that are idle for seconds."""
        self._connection = socket.create_connection(self._address, timeout=MOST_S)
        self._connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def fileno(self) -> int:
        """Return what to wait for."""
        return self._open().fileno()

    def send(self, path: str) -> None:
        """Ask, and leave the answer to `receive`."""
        self._received.clear()
        host, port = self._address
        self._open().sendall(f"GET {path} HTTP/1.1\r\nHost: {host}:{port}\r\n\r\n".encode())

    def receive(self) -> bytes | None:
        """Take what has come: the answer when it is complete, else None; anything but 200 is an error."""
        part = self._open().recv(_PART_BYTES)
        assert part, f"the server has closed the connection after {bytes(self._received)!r}"
        self._received += part
        head, end, body = self._received.partition(b"\r\n\r\n")
        if not end:
            return None
        status, *lines = head.lower().split(b"\r\n")
        assert status.startswith(b"http/1.1 200 "), bytes(self._received[:500])
        length = next(int(line.partition(b":")[2]) for line in lines if line.startswith(b"content-length:"))
        return bytes(body) if len(body) == length else None

    def ask(self, path: str) -> bytes:
        """Ask, wait, and return the answer."""
        if self._connection is None:
            self.open()
        self.send(path)
        while (answer := self.receive()) is None:
            pass
        return answer

    def close(self) -> None:
        """Close the connection."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _open(self) -> socket.socket:
        assert self._connection is not None, "open it first"
        return self._connection


class Clients:
    """So many clients of one server, in one thread: it takes each answer when it comes, and sends the next question."""

    def __init__(self, url: str, number: int) -> None:
        self._clients = [Client(url) for _ in range(number)]

    def durations_ms(self, paths: Sequence[str], questions: int) -> list[float]:
        """Have each client ask so many questions; return how long every one took.

        Each has paths of its own among them, where there are as many as clients.
        """
        taken: list[float] = []
        until = monotonic() + MOST_S
        with DefaultSelector() as answers, ExitStack() as exits:
            for client in self._clients:
                exits.callback(client.close)
                client.open()
            for at, client in enumerate(self._clients):
                own = paths[at % len(paths) :: len(self._clients)]
                asking = _asking(client, [own[number % len(own)] for number in range(questions)], until, taken)
                if next(asking, _OVER) is not _OVER:
                    answers.register(client, EVENT_READ, asking)
            while answers.get_map():
                come = answers.select(MOST_S)
                assert come, f"no answer within {MOST_S:g} s"
                for key, _ in come:
                    if next(key.data, _OVER) is _OVER:
                        answers.unregister(key.fileobj)
        return taken


def _asking(client: Client, paths: Sequence[str], until: float, taken: list[float]) -> Iterator[None]:
    """Ask one question after the other; yields when there is an answer to wait for."""
    for path in paths:
        if monotonic() > until:
            return
        began = perf_counter()
        client.send(path)
        yield
        while client.receive() is None:
            yield
        taken.append((perf_counter() - began) * 1000)
