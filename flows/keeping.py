"""The process that renews the leases of this one (`runs/lease_keeper`), and the thread that listens to it.

There is one of each: started with the first lease, shared by all that are held at once or one after another, and ended
with this process. Whoever holds a lease is told what each beat gave. A fork begins without: it has its own leases.
"""

import atexit
import logging
import os
import subprocess
import threading
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from itertools import count
from typing import IO

from ..runs.lease_terms import Beat, LeaseTerms, keeper_command, surroundings

_LOGGER = logging.getLogger(__name__)

Hear = Callable[[Beat, str], None]
"""Takes what a beat gave, with the reason where there is one, and returns at once: others are to be told too."""

_ENDS_WITHIN_S = 1.0


def hold(terms: LeaseTerms, hear: Hear) -> Callable[[], None] | None:
    """Have the lease renewed by another process, without waiting for that.

    Returns what lets the lease go, without waiting either; None when no process can be started.
    """
    return _shared.hold(terms, hear)


class Keeper:
    """One process that renews leases, with the thread that listens to it.

    Raises:
        OSError: it cannot be started.
    """

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            keeper_command(), stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, bufsize=0
        )
        assert self._process.stdin is not None, "it was asked for"
        assert self._process.stdout is not None, "it was asked for"
        self._orders: IO[bytes] = self._process.stdin
        self._words: IO[bytes] = self._process.stdout
        if hasattr(os, "set_blocking"):
            os.set_blocking(self._orders.fileno(), False)  # a body never waits for a keeper that does not read
        self._lock = threading.Lock()
        self._numbers = count()
        self._leases: dict[int, Hear] = {}
        self._told = b""
        self._thread = threading.Thread(target=self._listen, name="freshline-leases", daemon=True)
        self._thread.start()

    def add(self, terms: LeaseTerms, hear: Hear) -> int | None:
        """Have the lease renewed, without waiting for that; return its number, or None when the keeper is lost."""
        around = surroundings()
        with self._lock:
            number = next(self._numbers)
            order = b"+ %d %r %s\n" % (number, terms.interval_s, terms.as_json())
            if around != self._told:
                order = b"= " + around + b"\n" + order
            if not self._order(order):
                return None
            self._told = around
            self._leases[number] = hear
            return number

    def drop(self, number: int) -> None:
        """Have the lease renewed no more, without waiting for that."""
        with self._lock:
            if self._leases.pop(number, None) is not None:
                self._order(b"- %d\n" % number)

    def end(self) -> None:
        """End the process, which holds nothing that would be lost, and the thread."""
        with self._lock:
            self._leases.clear()
        self._process.kill()
        self._thread.join(_ENDS_WITHIN_S)

    def forget(self) -> None:
        """Let go of it in a process that was forked from its parent: here is neither the thread nor a child."""
        self._lock = threading.Lock()
        self._leases.clear()
        self._close()
        self._process.returncode = 0  # otherwise its object warns that it still runs

    def _order(self, line: bytes) -> bool:
        """Return whether the whole line is on its way. If it is not, the keeper is of no use any more, and is ended."""
        with suppress(OSError, ValueError):  # it has ended; the thread has found that out, and closed the pipe
            if self._orders.write(line) == len(line):
                return True
        self._process.kill()
        return False

    def _listen(self) -> None:
        unread = b""
        while part := self._words.read(65_536):
            *lines, unread = (unread + part).split(b"\n")
            for line in lines:
                with suppress(ValueError):  # of another release, which was installed meanwhile
                    self._pass_on(line)
        self._process.kill()  # one whose output broke may not have ended
        self._process.wait()
        with self._lock:
            self._close()
            lost, self._leases = list(self._leases.values()), {}
        for hear in lost:
            _tell(hear, Beat.LOST, "it has ended")

    def _pass_on(self, line: bytes) -> None:
        number, _, said = line.decode(errors="replace").partition(" ")
        word, _, reason = said.partition(" ")
        hear = self._leases.get(int(number))
        if hear is not None:  # it may have been dropped meanwhile
            _tell(hear, Beat(word), reason)

    def _close(self) -> None:
        for pipe in (self._orders, self._words):
            pipe.close()


def _tell(hear: Hear, beat: Beat, reason: str) -> None:
    try:
        hear(beat, reason)
    except Exception:
        _LOGGER.exception("what the lease's process said could not be taken in")


class _Shared:
    """The keeper of this process: started when it is first needed, and again when it was lost."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._keeper: Keeper | None = None

    def hold(self, terms: LeaseTerms, hear: Hear) -> Callable[[], None] | None:
        with self._lock:
            keeper = self._keeper
            number = None if keeper is None else keeper.add(terms, hear)
            if keeper is None or number is None:
                try:
                    keeper = self._keeper = Keeper()
                except OSError as error:
                    _LOGGER.warning("no process can be started to renew the lease (%s); a thread does", error)
                    return None
                number = keeper.add(terms, hear)
            return None if number is None else partial(keeper.drop, number)

    def end(self) -> None:
        with self._lock:
            if self._keeper is not None:
                self._keeper.end()

    def forget(self) -> None:
        self._lock = threading.Lock()
        if self._keeper is not None:
            self._keeper.forget()
            self._keeper = None


_shared = _Shared()
atexit.register(_shared.end)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_shared.forget)
