"""Renews the lease of one run, in a process of its own: a body that keeps the interpreter busy cannot starve it.

Started by its path, as `python -I -S lease_keeper.py INTERVAL_S PARENT`, with its terms as one line of JSON on stdin (a
password must not stand in the list of processes). Writes one line to stdout for each try: a word below, and for
`away` the reason. Ends when stdin ends, because whoever started it has ended then, however it ended; and when it is
fenced.

Owns the one statement that renews, by the database's clock. Imports nothing of Freshline, and at its start next to
nothing at all: most runs end before the first renewal, and need the processor for themselves.
"""

from __future__ import annotations

import _thread
import os
import sys
import time

TYPE_CHECKING = False  # importing `typing` would double the time of the start
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

OK = "ok"
"""Renewed."""
CANCEL = "cancel"
"""Renewed, and the run's cancellation was asked for."""
PAUSE = "pause"
"""Renewed, and the run's pause was asked for."""
FENCED = "fenced"
"""Somebody else holds the run, or it has ended."""
AWAY = "away"
"""The database, or the server before it, could not be reached; it is tried again soon."""

_GUARD = "status IN ('cancelling', 'running') RETURNING cancel_requested_at, pause_requested_at"
_SQLITE = f"""
    UPDATE run SET lease_until = :lease_until, heartbeat_at = :heartbeat_at
    WHERE id = :run_id AND fence = :fence AND {_GUARD}
"""
_POSTGRES = f"""
    UPDATE run SET lease_until = clock.now + make_interval(secs => %(lease_s)s::float8), heartbeat_at = clock.now
    FROM (SELECT clock_timestamp() AS now) AS clock
    WHERE id = %(run_id)s::uuid AND fence = %(fence)s AND {_GUARD}
"""
_FIRST_PAUSE_S = 0.5


class SqliteStore:
    """A SQLite file: its clock is this machine's, and it keeps UTC as text and ids as 32 hexadecimal digits."""

    def __init__(self, terms: Mapping[str, Any]) -> None:
        import sqlite3
        from pathlib import Path

        self.error: type[Exception] = sqlite3.Error
        self._terms = terms
        # A file that is gone is an error, and never made anew.
        self._uri = Path(terms["connect"]["path"]).as_uri() + "?mode=rw"
        self._connect = sqlite3.connect
        self._open: Any = None

    def renew(self) -> list[Any]:
        """Renew the lease and return (cancel requested, pause requested), or nothing when the run is not held."""
        from datetime import UTC, datetime, timedelta

        if self._open is None:
            self._open = self._connect(self._uri, uri=True, timeout=self._terms["interval_s"], isolation_level=None)
            self._open.execute("PRAGMA synchronous = NORMAL")
        now = datetime.now(UTC)
        values = {
            "run_id": self._terms["run_id"].replace("-", ""),
            "fence": self._terms["fence"],
            "heartbeat_at": f"{now:%Y-%m-%d %H:%M:%S.%f}",
            "lease_until": f"{now + timedelta(seconds=self._terms['lease_s']):%Y-%m-%d %H:%M:%S.%f}",
        }
        found: list[Any] = self._open.execute(_SQLITE, values).fetchall()
        return found

    def close(self) -> None:
        """Give the connection up; the next `renew` opens another one."""
        if self._open is not None:
            self._open.close()
            self._open = None


class PostgresStore:
    """A Postgres server, whose own clock counts."""

    def __init__(self, terms: Mapping[str, Any]) -> None:
        import psycopg

        self.error: type[Exception] = psycopg.Error
        self._terms = terms
        interval_s = terms["interval_s"]
        # An address that swallows packets must not keep a beat waiting for minutes. A pooler may give each
        # statement another session, so nothing is prepared there.
        self._arguments: dict[str, Any] = {
            "connect_timeout": max(2, min(10, int(interval_s))),
            "tcp_user_timeout": max(2000, int(interval_s * 1000)),
            "prepare_threshold": None,
            **terms["connect"],
        }
        self._connect = psycopg.connect
        self._open: Any = None

    def renew(self) -> list[Any]:
        """Renew the lease and return (cancel requested, pause requested), or nothing when the run is not held."""
        if self._open is None:
            self._open = self._connect(**self._arguments, autocommit=True)
        found: list[Any] = self._open.execute(_POSTGRES, self._terms).fetchall()
        return found

    def close(self) -> None:
        """Give the connection up; the next `renew` opens another one."""
        if self._open is not None:
            self._open.close()
            self._open = None


class HttpStore:
    """A server of Freshline, which asks its database."""

    def __init__(self, terms: Mapping[str, Any]) -> None:
        import http.client
        import urllib.request

        self.error: tuple[type[Exception], ...] = (OSError, ValueError, http.client.HTTPException)
        self._terms = terms
        self._request = urllib.request.Request
        # The server is ours: a proxy that is meant for other places must not see the token.
        self._opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))

    def renew(self) -> list[Any]:
        """Renew the lease and return (cancel requested, pause requested), or nothing when the run is not held."""
        import json
        import urllib.error

        connect = self._terms["connect"]
        headers = {"Content-Type": "application/json", "Authorization": f"Bearer {connect['token']}"}
        body = json.dumps({"fence": self._terms["fence"]}).encode()
        request = self._request(connect["url"], data=body, headers=headers, method="POST")
        try:
            with self._opener.open(request, timeout=max(2.0, self._terms["interval_s"])) as answer:
                asked = json.loads(answer.read())["asked"]
        except urllib.error.HTTPError as refusal:
            with refusal:
                if refusal.code != _CONFLICT:
                    raise
                return []
        # Its moments stay with the server: whether they are there is all that counts.
        return [(asked == CANCEL or None, asked == PAUSE or None)]

    def close(self) -> None:
        """Nothing is kept open between two renewals."""


Store = SqliteStore | PostgresStore | HttpStore
_STORES: dict[str, type[Store]] = {"sqlite": SqliteStore, "psycopg": PostgresStore, "http": HttpStore}
_CONFLICT = 409


def store_of(terms: Mapping[str, Any]) -> Store:
    """Return the store that the terms name, not connected yet."""
    return _STORES[terms["driver"]](terms)


def beat_once(store: Store) -> tuple[str, str]:
    """Try to renew the lease once; return what it gave, with the reason when the database is away."""
    try:
        found = store.renew()
    except store.error as error:
        store.close()
        return AWAY, f"{type(error).__name__}: {' '.join(str(error).split())}"
    if not found:
        return FENCED, ""
    cancel_requested_at, pause_requested_at = found[0]
    if cancel_requested_at is not None:
        return CANCEL, ""
    return (OK if pause_requested_at is None else PAUSE), ""


def main() -> None:
    """Keep the lease until whoever started this has ended, or somebody else holds the run."""
    interval_s, parent = float(sys.argv[1]), int(sys.argv[2])
    line = _read_line()
    _thread.start_new_thread(_end_with_stdin, ())
    if hasattr(os, "set_blocking"):
        os.set_blocking(1, False)  # a parent that reads nothing for days must not stop the beats
    _pause(interval_s)
    _ignore_interrupts()
    store = _store_of_line(line)
    pause_s, failures = 0.0, 0
    while True:
        _pause(pause_s)
        pause_s = interval_s
        if os.name == "posix" and os.getppid() != parent:
            return  # stdin may be held open by processes that the parent had forked
        if is_stopped(parent):
            continue
        beat, reason = beat_once(store)
        failures = failures + 1 if beat == AWAY else 0
        if failures:
            pause_s = min(interval_s, _FIRST_PAUSE_S * 2 ** min(failures, 16))
        _say(f"{beat} {reason}".rstrip())
        if beat == FENCED:
            return


def is_stopped(process_id: int) -> bool:
    """Return whether a process was stopped by a signal: its body does nothing, so its lease must run out.

    Where /proc does not tell, it is taken to run.
    """
    try:
        with open(f"/proc/{process_id}/stat", "rb") as stat:
            status = stat.read()
    except OSError:
        return False
    # The name in parentheses may hold anything; the state is the first letter behind it.
    return status.rpartition(b")")[2].split()[:1] == [b"T"]


def _pause(seconds: float) -> None:
    until = time.monotonic() + seconds
    while (left_s := until - time.monotonic()) > 0:
        try:  # noqa: SIM105 - `contextlib` is not worth its import here
            time.sleep(left_s)
        except KeyboardInterrupt:
            pass  # see `_ignore_interrupts`, which comes after the first pause


def _ignore_interrupts() -> None:
    """Leave Ctrl+C, which reaches every process of the terminal, to the parent: it says how long the body goes on."""
    import signal

    signal.signal(signal.SIGINT, signal.SIG_IGN)


def _store_of_line(line: bytes) -> Store:
    import json

    terms = json.loads(line)
    # Behind everything else: the driver is installed where only the parent looks.
    sys.path += [path for path in terms["path"] if path not in sys.path]
    return store_of(terms)


def _read_line() -> bytes:
    line = b""
    while not line.endswith(b"\n"):
        part = os.read(0, 65_536)
        if not part:
            os._exit(0)
        line += part
    return line


def _end_with_stdin() -> None:
    while os.read(0, 1):
        pass
    # At once, also in the middle of a statement: the database rolls back what has no COMMIT.
    os._exit(0)


def _say(line: str) -> None:
    try:
        os.write(1, f"{line}\n".encode("utf-8", "replace"))
    except BlockingIOError:
        pass  # the next beat says it again
    except OSError:
        os._exit(0)  # nobody reads any more


if __name__ == "__main__":
    main()
