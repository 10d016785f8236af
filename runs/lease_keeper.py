"""Renews the leases of one process, in another one: a body that keeps the interpreter busy cannot starve it.

Started by its path, as `python -I -S lease_keeper.py PARENT`, and told by lines on stdin what to do (a password must
not stand in the list of processes):

    = SURROUNDINGS               JSON: where drivers are, and the environment that they look at; the last line counts
    + NUMBER INTERVAL_S TERMS    renew a lease; its terms are JSON
    - NUMBER                     renew it no more

Writes one line to stdout for each try: the lease's number, a word below, and the reason where there is one. Each lease
has a thread and a connection of its own, so that a database which hangs keeps no other lease waiting. Ends when stdin
ends, because whoever started it has ended then, however it ended.

Owns the one statement that renews, by the database's clock. Imports nothing of Freshline, and before the first renewal
next to nothing at all: most runs end before it, and need the processor for themselves.
"""

from __future__ import annotations

import _thread
import os
import sys

TYPE_CHECKING = False  # importing `typing` would double the time of the start
if TYPE_CHECKING:
    import signal as _signal
    from collections.abc import Mapping
    from typing import Any
else:
    import _signal  # `signal` imports `enum`, which takes as long as all the rest

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
LOST = "lost"
"""This process cannot renew the lease, now or later, and goes on with the others."""

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
ENVIRONMENT = ("PG", "SSL_CERT_")
"""How the names of the variables begin that libpq and OpenSSL look at when they connect."""

_FIRST_PAUSE_S = 0.5
_LONGEST_LINE = 500
"""Bytes: what is not longer is written into a pipe whole or not at all, on every system."""


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
        return AWAY, _in_short(error)
    if not found:
        return FENCED, ""
    cancel_requested_at, pause_requested_at = found[0]
    if cancel_requested_at is not None:
        return CANCEL, ""
    return (OK if pause_requested_at is None else PAUSE), ""


class Renewal:
    """One lease, and the thread that renews it until it is let go, or somebody else holds the run."""

    def __init__(self, number: bytes, interval_s: float, terms: bytes, keeper: Keeper) -> None:
        self._number = number
        self._interval_s = interval_s
        self._terms = terms
        self._keeper = keeper
        self._held = _thread.allocate_lock()
        self._held.acquire()
        _thread.start_new_thread(self._keep, ())

    def end(self) -> None:
        """Let the lease go, without waiting for a renewal that is under way."""
        self._held.release()

    def _keep(self) -> None:
        try:
            self._renew()
        except Exception as error:  # such as a driver that cannot be imported
            while not self._say(LOST, _in_short(error)) and not self._has_ended_within(self._interval_s):
                pass

    def _renew(self) -> None:
        store: Store | None = None
        pause_s, failures = self._interval_s, 0
        while not self._has_ended_within(pause_s):
            pause_s = self._interval_s
            if not self._keeper.parent_runs():
                continue
            if store is None:
                store = self._keeper.store_of(self._terms)
            beat, reason = beat_once(store)
            failures = failures + 1 if beat == AWAY else 0
            if failures:
                pause_s = min(self._interval_s, _FIRST_PAUSE_S * 2 ** min(failures, 16))
            if self._say(beat, reason) and beat == FENCED:
                break
        if store is not None:
            store.close()

    def _has_ended_within(self, seconds: float) -> bool:
        return self._held.acquire(timeout=seconds)

    def _say(self, beat: str, reason: str) -> bool:
        """Return whether the line is on its way: a parent that reads nothing for days must not stop the beats."""
        line = f"{self._number.decode()} {beat} {reason}".rstrip().encode("utf-8", "replace")
        try:
            os.write(1, line[:_LONGEST_LINE] + b"\n")
        except BlockingIOError:
            return False  # the next beat says it again
        except OSError:
            os._exit(0)  # nobody reads any more
        return True


class Keeper:
    """The leases of the process that started this one."""

    def __init__(self, parent: int) -> None:
        self._parent = parent
        self._surroundings = b"{}"
        self._renewals: dict[bytes, Renewal] = {}

    def obey(self, line: bytes) -> None:
        """Do what one line of stdin says."""
        sign, _, rest = line.partition(b" ")
        if sign == b"=":
            self._surroundings = rest
        elif sign == b"+":
            number, interval_s, terms = rest.split(b" ", 2)
            self._renewals[number] = Renewal(number, float(interval_s), terms, self)
        else:
            self._renewals.pop(rest).end()

    def parent_runs(self) -> bool:
        """Return False while the parent is stopped by a signal; when it has ended, end too.

        stdin alone does not tell: processes that the parent has forked may hold it open.
        """
        if os.name == "posix" and os.getppid() != self._parent:
            os._exit(0)
        return not is_stopped(self._parent)

    def store_of(self, terms: bytes) -> Store:
        """Return the store of these terms, as it would be reached from the parent."""
        import json

        around = json.loads(self._surroundings)
        # Behind everything else: the driver is installed where only the parent looks.
        sys.path += [path for path in around["path"] if path not in sys.path]
        wanted = around["environment"]
        for name in [name for name in os.environ if name.startswith(ENVIRONMENT) and name not in wanted]:
            del os.environ[name]
        for name, value in wanted.items():
            if os.environ.get(name) != value:  # another thread may look at it now
                os.environ[name] = value
        return store_of(json.loads(terms))


def main() -> None:
    """Keep leases until whoever started this has ended."""
    # Ctrl+C reaches every process of the terminal: the parent says how long the body goes on.
    _signal.signal(_signal.SIGINT, _signal.SIG_IGN)
    if hasattr(os, "set_blocking"):
        os.set_blocking(1, False)
    keeper = Keeper(int(sys.argv[1]))
    unread = b""
    while part := os.read(0, 65_536):
        *lines, unread = (unread + part).split(b"\n")
        for line in lines:
            keeper.obey(line)
    # At once, also in the middle of a statement: the database rolls back what has no COMMIT.
    os._exit(0)


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


def _in_short(error: Exception) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())}"


if __name__ == "__main__":
    main()
