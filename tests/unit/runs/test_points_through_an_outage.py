"""Metric values when a real Postgres cannot be reached for a while, as its clients see it: cut off, then refused."""

import socket
import threading
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path

import pytest
from sqlalchemy.engine import make_url

from freshline.runs.points.recording import PointRecording
from freshline.storage.database import Database
from tests.unit.runs.test_point_sending import Attempt, Line


class Forwarder:
    """A port on loopback that leads to another one, until it is cut; then it hangs up, and refuses whoever calls."""

    def __init__(self, target: int) -> None:
        self._target = target
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._open: list[socket.socket] = []
        self._accepting = self._start()

    def cut(self) -> None:
        """Hang up."""
        # Closing alone would not wake whoever accepts.
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._accepting.join()
        for one in self._open:
            with suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
            one.close()
        self._open.clear()

    def mend(self) -> None:
        """Listen again."""
        self._listener = socket.create_server(("127.0.0.1", self.port))
        self._accepting = self._start()

    def _start(self) -> threading.Thread:
        thread = threading.Thread(target=self._accept, args=(self._listener,), daemon=True)
        thread.start()
        return thread

    def _accept(self, listener: socket.socket) -> None:
        while True:
            try:
                caller, _ = listener.accept()
            except OSError:
                return
            called = socket.create_connection(("127.0.0.1", self._target))
            self._open += [caller, called]
            for source, sink in ((caller, called), (called, caller)):
                threading.Thread(target=_pump, args=(source, sink), daemon=True).start()


def _pump(source: socket.socket, sink: socket.socket) -> None:
    with suppress(OSError):
        while content := source.recv(65_536):
            sink.sendall(content)


class DirectLine(Line):
    """A line whose way to the store is a database of its own."""

    database: Database

    def record_points(self, run_id, fence, chunk, latest):
        self.tries += 1
        return PointRecording(self.database).record(run_id, fence, chunk, latest)


@pytest.fixture
def way(database_url: str) -> Iterator[tuple[Forwarder, Database]]:
    url = make_url(database_url)
    assert url.port is not None
    forwarder = Forwarder(url.port)
    database = Database(url.set(port=forwarder.port).render_as_string(hide_password=False))
    yield forwarder, database
    database.dispose()
    forwarder.cut()


@pytest.mark.parametrize("database_url", ["postgres"], indirect=True)
def test_database_that_is_away_loses_nothing_and_is_found_again(world, way, tmp_path: Path):
    forwarder, database = way
    attempt = Attempt(world, tmp_path)
    line = DirectLine(world, attempt.line.spools)
    line.database = database
    attempt.sender._port = line  # type: ignore[assignment]
    attempt.log(1.0)
    attempt.sender.spool()
    assert attempt.sender.send()
    forwarder.cut()
    for minute in range(10):
        attempt.log(float(minute))
        attempt.sender.spool()
        assert not attempt.sender.send()
        attempt.now_s += 60
    with closing(socket.socket()) as caller, pytest.raises(ConnectionRefusedError):
        caller.connect(("127.0.0.1", forwarder.port))
    forwarder.mend()
    assert attempt.sender.send()
    assert attempt.series() == [1.0, *map(float, range(10))]
    assert line.tries == 12
