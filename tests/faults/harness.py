"""The kill harness: one store, one Prefect, and processes that act, die and stand still where they are told to.

Owns how an act happens and what follows from a death; `chance` chooses the acts by a seed, a directed test by itself.
"""

import random
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Any
from uuid import UUID

from freshline.deployments.gateway import FlowRunFacts, FlowRunState
from freshline.storage.database import Database
from freshline.storage.faults import Guard
from tests.factories import START, Graph, declared
from tests.faults import checker, rest
from tests.faults.acts import Order
from tests.faults.crew import Actor, Crew
from tests.faults.prefect_stand_in import LossyPrefect, StandInServer

READS = {
    "refresh/prices": [],
    "refresh/rates": [],
    "refresh/momentum": ["refresh/prices"],
    "backtest/book": ["refresh/momentum", "refresh/prices", "refresh/rates"],
}
REST = "all come to rest"
_MOST_ROUNDS = 60


@dataclass
class _Parked:
    actor: Actor
    order: Order


@dataclass
class Harness:
    """One store, one Prefect, one seed."""

    url: str
    seed: int
    guards_off: tuple[Guard, ...] = ()
    auto_refresh: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    """Deployment -> how it is refreshed by itself."""
    history: list[str] = field(default_factory=list)
    """What happened, one line per act: equal for equal seeds."""
    killed_at: Counter[str] = field(default_factory=Counter)
    parked_at: Counter[str] = field(default_factory=Counter)

    def __post_init__(self) -> None:
        self._choice = random.Random(f"acts {self.seed}")
        self.noticed_share = 0.5
        """How many of the dead workers that hold a lease somebody notices before the lease runs out."""
        self.notices_without_lease = False
        """Whether somebody notices the dead workers that hold none."""
        self.now = START
        self.database = Database(self.url, clock=lambda: self.now, sqlite_synchronous="OFF")
        self.prefect = LossyPrefect(self.seed, clock=lambda: self.now)
        self._prefect_ids: dict[str, UUID] = {}
        items = []
        for key, upstream in READS.items():
            facts = self.prefect.add_deployment(f"flow/{key.replace('/', '-')}")
            self._prefect_ids[key] = facts.id
            by_itself = self.auto_refresh.get(key)
            items.append(replace(declared(key, upstream), prefect_deployment_id=facts.id, auto_refresh=by_itself))
        Graph(self.database, *items)
        self.keys: dict[str, str] = {}
        """Idempotency key -> deployment, of every submission that a client made."""
        self._unanswered: list[dict[str, Any]] = []
        self._parked: list[_Parked] = []
        self._server = StandInServer(self.prefect)
        self._crew = Crew(self.url, self._server.address, self.guards_off)

    def close(self) -> None:
        """End all processes and connections."""
        self._crew.close()
        self._server.close()
        self.database.dispose()

    def come_to_rest(self) -> None:
        """Go on without kills until nothing is under way any more."""
        self._note(REST)
        while self._parked:
            self._go_on(self._parked[0])
        for number in range(_MOST_ROUNDS):
            self.now += timedelta(seconds=20)
            while self._unanswered:
                self._submit(self._unanswered[0])
            self.do("dispatch")
            self.do("reconcile")
            self._stop_cancelled()
            for flow_run in self._flow_runs(lambda one: one.state_type == FlowRunState.SCHEDULED):
                self.work_on(flow_run, "complete")
            for flow_run in self._paused():
                self._do_in_prefect("resume", flow_run)
            if not rest.under_way(self.database, self.prefect):
                return
            stale = rest.waits_for_stale(self.database)
            if stale:
                self._submit(self._new_submission(stale, on_stale="refresh", key=f"rest-{number}"))

    def faults(self) -> list[str]:
        """Everything that is not as it must be, now that all is at rest."""
        return checker.faults(self.database, self.prefect, self.keys, now=self.now)

    def dispatched(self) -> FlowRunFacts:
        """Submit a run and dispatch it; return the flow run that waits for a worker."""
        self.submit("refresh/prices")
        self.do("dispatch")
        (flow_run,) = self._flow_runs(lambda one: one.state_type == FlowRunState.SCHEDULED)
        return flow_run

    def do(self, act: str, *, fate: dict[str, Any] | None = None, **facts: Any) -> tuple[str, Any]:
        """Let a process do this act, with this fate: `kill_at` or `park_at` a point; return what came of it."""
        order = Order(act, self.now, facts, **(fate or {}))
        actor = self._crew.take()
        return self._end(_Parked(actor, order), actor.carry_out(order))

    def work_on(
        self, flow_run: FlowRunFacts, outcome: str = "complete", *, fate: dict[str, Any] | None = None
    ) -> tuple[str, Any]:
        """Let a worker start a flow run whose body ends so; return what came of it."""
        begun = self.prefect.begin(flow_run.id)
        text = str(self._choice.randrange(3))
        start = self.prefect.starts[flow_run.id]
        done = self.do("work", fate=fate, flow_run=begun, start=start, outcome=outcome, text=text)
        if done[0] == "killed":
            self._lose(begun)
        return done

    def go_on(self) -> tuple[str, Any]:
        """Let the one that has stood still for longest go on."""
        return self._go_on(self._parked[0])

    def submit(self, key: str, **options: Any) -> tuple[str, Any]:
        """Let a client submit, with a key of its own."""
        return self._submit(self._new_submission(key, key=f"key-{len(self.keys)}", **options))

    def parked(self) -> list[tuple[Actor, Order]]:
        """Those that stand still, and what they do."""
        return [(one.actor, one.order) for one in self._parked]

    def _new_submission(self, deployment: str, *, key: str, **options: Any) -> dict[str, Any]:
        self.keys[key] = deployment
        submission = {"deployment": deployment, "idempotency_key": key, **options}
        self._unanswered.append(submission)
        return submission

    def _submit(self, submission: dict[str, Any], fate: dict[str, Any] | None = None) -> tuple[str, Any]:
        outcome = self.do("submit", fate=fate, **submission)
        # A client that got no answer sends its request again, with the same key. One that stands still will answer.
        if outcome[0] != "killed":
            self._unanswered.remove(submission)
        return outcome

    def _stop_cancelled(self) -> None:
        """Prefect's worker ends the processes that Prefect wants to be cancelled, dead ones too."""
        for flow_run in self._flow_runs(lambda one: one.state_type == FlowRunState.CANCELLING):
            self.prefect.report_end(flow_run.id, self.prefect.starts[flow_run.id], FlowRunState.CANCELLED)
            self._note("stop", self._number(flow_run))

    def _lose(self, flow_run: FlowRunFacts) -> None:
        """The process of this flow run is dead: somebody may notice, and tell Prefect."""
        is_noticed = self._choice.random() < self.noticed_share
        if not rest.holds_lease(self.database, flow_run.id):
            is_noticed = self.notices_without_lease
        if is_noticed:
            self.prefect.report_end(flow_run.id, self.prefect.starts[flow_run.id], FlowRunState.CRASHED)
            self._note("crash")

    def _go_on(self, parked: _Parked) -> tuple[str, Any]:
        self._parked.remove(parked)
        return self._end(parked, parked.actor.go_on(parked.order, self.now))

    def _end(self, one: _Parked, outcome: tuple[str, Any]) -> tuple[str, Any]:
        how, what = outcome
        self._note(one.order.act, str(one.order.facts.get("deployment", "")), how, str(what))
        if how == "killed":
            self.killed_at[what] += 1
            self._crew.bury(one.actor)
        elif how == "parked":
            self.parked_at[what] += 1
            self._parked.append(one)
        else:
            self._crew.put_back(one.actor)
        return outcome

    def _do_in_prefect(self, method: str, flow_run: FlowRunFacts) -> None:
        losing, self.prefect.loses_answers = self.prefect.loses_answers, False
        getattr(self.prefect, method)(flow_run.id)
        self.prefect.loses_answers = losing
        self._note(method, self._number(flow_run))

    def _paused(self) -> list[FlowRunFacts]:
        ids = rest.paused_flow_runs(self.database)
        return self._flow_runs(lambda one: one.is_suspended and one.id in ids)

    def _flow_runs(self, wanted: Callable[[FlowRunFacts], bool]) -> list[FlowRunFacts]:
        return [one for one in self.prefect.flow_runs() if wanted(one)]

    def _number(self, flow_run: FlowRunFacts) -> str:
        """Its place among all flow runs: ids and names differ from one history to its repetition."""
        return str([one.id for one in self.prefect.flow_runs()].index(flow_run.id))

    def _note(self, *words: str) -> None:
        self.history.append(" ".join(word for word in words if word))
