"""A history by chance: a seed chooses who does what next, where it dies or stands still, and who notices.

The same seed gives the same history, act by act: one act happens at a time, the clock is the harness's own, and
Prefect loses its answers by the seed too.
"""

from collections.abc import Callable
from datetime import timedelta
from typing import Any

from freshline.deployments.gateway import FlowRunState
from tests.faults import rest
from tests.faults.harness import READS, Harness
from tests.faults.points import KILL_OFTEN, KILL_POINTS, PARK_POINTS

_WEIGHTS = {
    "submit": 20, "dispatch": 22, "work": 40, "reconcile": 16, "cancel": 5, "click": 5, "start_again": 6, "resume": 8,
    "go_on": 8, "stop": 6,
}  # fmt: skip
_MOST_PARKED = 2


class Chance(Harness):
    """A harness that chooses by its seed."""

    def play(self, kills: int) -> None:
        """Let acts happen until this many processes were killed; then let everything come to its end."""
        for _ in range(40 * kills):
            if sum(self.killed_at.values()) >= kills:
                break
            self.now += timedelta(seconds=self._choice.choice([1, 1, 2, 4, 7, 12, 75]))
            self._act()
        self.come_to_rest()

    def _act(self) -> None:
        acts: dict[str, Callable[[], Any]] = {
            "submit": self._some_submit,
            "dispatch": lambda: self.do("dispatch", fate=self._fate("dispatch")),
            "work": self._some_work,
            "reconcile": lambda: self.do("reconcile", fate=self._fate("reconcile")),
            "cancel": self._some_cancel,
            "click": self._click,
            "start_again": self._start_again,
            "resume": self._resume,
            "stop": self._stop_cancelled,
            "go_on": lambda: self._parked and self._go_on(self._parked[0]),
        }
        acts[self._choice.choices(list(_WEIGHTS), list(_WEIGHTS.values()))[0]]()

    def _fate(self, act: str) -> dict[str, Any]:
        share = self._choice.random()
        occurrence = self._choice.choice([1, 1, 1, 2])
        if share < (0.75 if act in KILL_OFTEN else 0.5):
            return {"kill_at": self._choice.choice(KILL_POINTS[act]), "occurrence": occurrence}
        if share < 0.85 and len(self._parked) < _MOST_PARKED:
            return {"park_at": self._choice.choice(PARK_POINTS[act]), "occurrence": occurrence}
        return {}

    def _some_submit(self) -> None:
        if self._unanswered and self._choice.random() < 0.7:
            submission = self._unanswered[0]
        else:
            submission = self._new_submission(
                self._choice.choice(list(READS)),
                on_stale=self._choice.choice(["refuse", "wait", "refresh", "refresh", "force"]),
                if_ready=self._choice.choice(["run", "run", "skip"]),
                key=f"key-{len(self.keys)}",
            )
        self._submit(submission, fate=self._fate("submit"))

    def _some_work(self) -> None:
        due = self._flow_runs(lambda one: one.state_type == FlowRunState.SCHEDULED)
        # Its infrastructure starts a flow run again whose process it has lost, or believes to have lost.
        lost = self._flow_runs(lambda one: one.state_type == FlowRunState.RUNNING)
        candidates = lost if lost and self._choice.random() < 0.12 else due
        if candidates:
            outcome = self._choice.choice(["complete"] * 6 + ["fail", "retry", "pause"])
            kind = {"complete": "complete", "pause": "claim"}.get(outcome, "fail")
            self.work_on(self._choice.choice(candidates), outcome, fate=self._fate(kind))

    def _some_cancel(self) -> None:
        active = rest.active_run_ids(self.database)
        if active:
            self.do("cancel", run_id=self._choice.choice(active), fate=self._fate("cancel"))

    def _click(self) -> None:
        key = self._choice.choice(list(READS))
        wanted = self._choice.choice(["refuse", "wait", "force"])
        self.prefect.click(self._prefect_ids[key], {"on_stale": wanted})
        self._note("click", key, wanted)

    def _start_again(self) -> None:
        ended = self._flow_runs(lambda one: one.has_ended)
        if ended:
            self._do_in_prefect("start_again", self._choice.choice(ended))

    def _resume(self) -> None:
        paused = self._paused()
        if paused:
            self._do_in_prefect("resume", self._choice.choice(paused))
