"""A Prefect for several processes: the one in memory, behind a loopback socket, that loses answers by a seed.

Owns what goes wrong between us and Prefect. What its people and its workers do (`begin`, `click`, `report_end`…)
never goes wrong: that is Prefect's own doing.
"""

import random
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from functools import partial
from multiprocessing.connection import Client, Connection, Listener
from typing import Any
from uuid import UUID

from freshline.deployments.gateway import FlowRunFacts, FlowRunState
from freshline.storage.errors import PrefectError
from tests.fakes import FakeGateway

LOST_SHARE = 0.2
"""Share of the calls that take effect and are answered by nothing, or by 500."""
_FAILED_SHARE = 0.03
"""Share of the calls that do nothing and are answered by 500."""


class LossyPrefect(FakeGateway):
    """A Prefect in memory whose answers are lost by a seed. Two flow runs never have the same time."""

    def __init__(self, seed: int, *, clock: Callable[[], datetime]) -> None:
        self._made = 0
        self._clock_of_the_world = clock
        super().__init__(clock=self._tick)
        self._fate = random.Random(f"answers {seed}")
        self.loses_answers = True
        self.lost: Counter[str] = Counter()
        """How many answers were lost, by method."""
        self.starts: Counter[UUID] = Counter()
        """How often a process was started for a flow run. Prefect's own count does not tell one start from another."""

    def _tick(self) -> datetime:
        # What Prefect orders by time must come in the same order when a seed is replayed.
        self._made += 1
        return self._clock_of_the_world() + timedelta(microseconds=self._made % 1000)

    @contextmanager
    def _call(self, method: str) -> Iterator[None]:
        share = self._fate.random() if self.loses_answers else 1.0
        with super()._call(method):
            if share < _FAILED_SHARE:
                raise PrefectError(f"Prefect answered 500 to {method}")
            yield
            if share < _FAILED_SHARE + LOST_SHARE:
                self.lost[method] += 1
                how = "answered 500 after it had committed" if self.lost[method] % 2 else "did not answer in time"
                raise PrefectError(f"Prefect {how}: {method}")

    def flow_runs(self) -> list[FlowRunFacts]:
        """All flow runs that exist, oldest first."""
        return sorted(self._flow_runs.values(), key=lambda one: (one.created_at, one.id))

    def begin(self, flow_run_id: UUID) -> FlowRunFacts:
        self.starts[flow_run_id] += 1
        return super().begin(flow_run_id)

    def report_end(self, flow_run_id: UUID, start: int, state: FlowRunState, name: str | None = None) -> bool:
        """The process of this start says how its flow run ended; False when it is not the one that runs it."""
        now = self._flow_runs.get(flow_run_id)
        is_over = now is None or now.has_ended or now.state_type == FlowRunState.SCHEDULED
        if is_over or self.starts[flow_run_id] != start:
            return False
        if name == "AwaitingRetry":
            self.start_again(flow_run_id)
        else:
            self.end(flow_run_id, state, name=name)
        return True


class StandInServer:
    """Serves a stand-in to other processes, each of which has a connection of its own."""

    def __init__(self, prefect: LossyPrefect) -> None:
        self._prefect = prefect
        self._is_closing = False
        self._listener = Listener(("127.0.0.1", 0), backlog=64)
        self.address: tuple[str, int] = self._listener.address  # type: ignore[assignment]  # it is one of TCP
        self._accepting = threading.Thread(target=self._accept, daemon=True)
        self._accepting.start()

    def close(self) -> None:
        """Stop taking connections."""
        self._is_closing = True
        Client(self.address).close()  # closing alone does not wake a thread that waits in accept
        self._accepting.join()
        self._listener.close()

    def _accept(self) -> None:
        while not self._is_closing:
            threading.Thread(target=self._serve, args=(self._listener.accept(),), daemon=True).start()

    def _serve(self, connection: Connection) -> None:
        with connection:
            while True:
                try:
                    method, args, kwargs = connection.recv()
                except (EOFError, OSError):
                    return  # the caller has ended, or was killed
                try:
                    answer = (True, getattr(self._prefect, method)(*args, **kwargs))
                except Exception as error:  # whatever it is, the caller gets it
                    # Errors with arguments of their own cannot be pickled as a whole.
                    answer = (False, (type(error), error.args, vars(error)))
                try:
                    connection.send(answer)
                except OSError:
                    return


class RemotePrefect:
    """The stand-in as another process sees it: every method of `LossyPrefect`, over the socket."""

    def __init__(self, address: tuple[str, int]) -> None:
        self._connection = Client(address)

    @property
    def api_url(self) -> str:
        return "http://prefect.test/api"

    def __getattr__(self, method: str) -> Any:
        return partial(self._ask, method)

    def _ask(self, method: str, *args: Any, **kwargs: Any) -> Any:
        plain = [list(one) if isinstance(one, Iterator) else one for one in args]
        self._connection.send((method, plain, kwargs))
        is_well, answer = self._connection.recv()
        if is_well:
            return answer
        kind, arguments, facts = answer
        error = kind.__new__(kind, *arguments)
        vars(error).update(facts)
        raise error
