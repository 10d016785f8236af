"""The processes of the kill harness: forked from a process without threads, used again until one is killed.

Only one of them acts at any time. Those that stand still keep their place until they are told to go on.
"""

import multiprocessing
from datetime import datetime
from itertools import count
from typing import Any

import psycopg
import sqlalchemy as sa

from freshline.storage.faults import Guard
from tests.faults.acts import Order, serve

_ANSWER_S = 60.0
FORKS = multiprocessing.get_context("forkserver")
FORKS.set_forkserver_preload(["tests.faults.acts", "s3fs"])


class Actor:
    """One process that carries out orders."""

    def __init__(self, name: str, url: str, address: tuple[str, int], guards_off: tuple[Guard, ...]) -> None:
        self.name = name
        self._conversation, theirs = FORKS.Pipe()
        self.process = FORKS.Process(target=serve, args=(theirs, url, address, guards_off), daemon=True)
        self.process.start()
        theirs.close()

    def carry_out(self, order: Order) -> tuple[str, Any]:
        """Return ("done", what it returned), ("parked", the point) or ("killed", the point)."""
        self._conversation.send(order)
        return self._outcome(order)

    def go_on(self, order: Order, moment: datetime) -> tuple[str, Any]:
        """Let one that stands still go on at this moment; return what comes of its order."""
        self.call_on(moment)
        return self._outcome(order)

    def call_on(self, moment: datetime) -> None:
        """Tell it to go on, without waiting for what comes of it."""
        self._conversation.send(moment)

    def await_outcome(self, order: Order) -> tuple[str, Any]:
        """Wait for what comes of an order, as `carry_out`."""
        return self._outcome(order)

    def close(self) -> None:
        """End the process, whatever it does."""
        self._conversation.close()
        self.process.kill()
        self.process.join()
        self.process.close()

    def _outcome(self, order: Order) -> tuple[str, Any]:
        if not self._conversation.poll(_ANSWER_S):
            raise AssertionError(f"{order.act} did nothing for {_ANSWER_S} s")
        try:
            answer: tuple[str, Any] = self._conversation.recv()
        except EOFError:
            self.process.join()
            if order.kill_at is None or self.process.exitcode != -9:
                raise AssertionError(
                    f"{order.act} ended by itself with {self.process.exitcode}: see its output"
                ) from None
            return "killed", order.kill_at
        return answer


class Crew:
    """All processes that work on one store."""

    def __init__(self, url: str, address: tuple[str, int], guards_off: tuple[Guard, ...] = ()) -> None:
        self._url = sa.make_url(url)
        self._address = address
        self._guards_off = guards_off
        self._numbers = count(1)
        self._idle: list[Actor] = []
        self._all: list[Actor] = []

    def take(self) -> Actor:
        """Return a process that has nothing to do; a new one when there is none."""
        if self._idle:
            return self._idle.pop()
        name = f"actor-{next(self._numbers)}"
        url = self._url
        if url.get_backend_name() == "postgresql":
            url = url.update_query_dict({"application_name": name})
        actor = Actor(name, url.render_as_string(hide_password=False), self._address, self._guards_off)
        self._all.append(actor)
        return actor

    def put_back(self, actor: Actor) -> None:
        """It has nothing to do any more."""
        self._idle.append(actor)

    def bury(self, actor: Actor) -> None:
        """It was killed: wait until the database has noticed, so that what follows meets no lock of it."""
        actor.close()
        self._all.remove(actor)
        if self._url.get_backend_name() != "postgresql":
            return
        conninfo = self._url.set(drivername="postgresql").render_as_string(hide_password=False)
        gone = "SELECT count(*) = 0, pg_sleep(0.002) FROM pg_stat_activity WHERE application_name = %s"
        with psycopg.connect(conninfo, autocommit=True) as connection:
            while not connection.execute(gone, [actor.name]).fetchone()[0]:  # type: ignore[index]  # always one row
                continue

    def close(self) -> None:
        """End all processes."""
        for actor in self._all:
            actor.close()
