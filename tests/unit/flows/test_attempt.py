"""What a start of a body leaves in the record: pauses, cancellations, tracebacks, counters, messages, checkpoints."""

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any

import pytest
import sqlalchemy as sa

from freshline.deployments.gateway import Execution, FlowRunFacts
from freshline.flows import RunContext, track, tracking
from freshline.runs.author_models import RunMessage
from freshline.runs.dispatcher import Dispatcher
from freshline.runs.models import Run, RunUsage
from freshline.runs.port import DirectPort
from freshline.runs.queries import Queries
from freshline.runs.service import RunExecutionService
from freshline.storage.artifacts import artifacts_of
from freshline.storage.database import Database
from freshline.storage.errors import ArtifactError, InvalidInput, PrefectError
from freshline.storage.filesystem import ObjectStore
from freshline.storage.ids import new_id
from tests.factories import Graph, declared
from tests.fakes import FakeGateway, Suspension


@dataclass
class Worker:
    """Prefect and the process that executes one flow run, however often it is started."""

    database: Database
    gateway: FakeGateway
    objects: ObjectStore
    flow_run: FlowRunFacts
    monkeypatch: pytest.MonkeyPatch
    retries: int = 0
    retry_delay_s: float = 0.0

    def start(self, body: Callable[..., Any]) -> Any:
        """Start the body as the flow of the flow run."""
        function = track.training(body)
        begun = replace(self.gateway.begin(self.flow_run.id), retries=self.retries)
        begun = replace(begun, retry_delay_s=self.retry_delay_s)
        execution = Execution(flow_run=begun, flow_name="alpha", function=function, in_task=False)
        port = DirectPort(self.database, self.objects, self.gateway, heartbeat_s=0.05)
        self.monkeypatch.setattr(tracking, "flow_port", lambda: (port, execution))
        with self.gateway.within(begun.id):
            return function()

    def fail(self, error: Exception) -> None:
        """Start a body that raises."""

        def body(run: RunContext) -> None:
            raise error

        with pytest.raises(type(error)):
            self.start(body)

    @property
    def service(self) -> RunExecutionService:
        return RunExecutionService(self.database)

    @property
    def run(self) -> Run:
        (found,) = [run for _, run in Queries(self.database).runs()]
        return self.service.get(found.id)

    def kinds(self) -> list[str]:
        return [event.kind for _, event in Queries(self.database).events(self.run.id)]

    def traceback(self) -> str:
        with self.database.read() as connection:
            (artifact,) = artifacts_of(connection, self.run.id)
        assert (artifact.name, artifact.publish, artifact.media_type) == ("traceback", False, "text/plain")
        return self.objects.read_bytes(artifact.stored_file().name).decode()


@pytest.fixture
def worker(database: Database, monkeypatch: pytest.MonkeyPatch) -> Worker:
    gateway = FakeGateway()
    facts = gateway.add_deployment("flow/alpha")
    Graph(database, replace(declared("training/alpha"), prefect_deployment_id=facts.id))
    objects = ObjectStore(f"memory://{new_id()}")
    return Worker(database, gateway, objects, gateway.click(facts.id), monkeypatch)


def work_on(run: RunContext) -> None:
    """Work until the run says stop."""
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        run.count(turns=1)
        time.sleep(0.005)


# Pause.


def pause_and_work_on(worker: Worker) -> Callable[[RunContext], None]:
    def body(run: RunContext) -> None:
        run.checkpoint({"epoch": 3})
        worker.service.pause(run.id)
        work_on(run)

    return body


def test_pause_suspends_the_flow_run_and_gives_the_lease_back(worker):
    with pytest.raises(Suspension):
        worker.start(pause_and_work_on(worker))
    assert (worker.run.status, worker.run.lease_until) == ("paused", None)
    assert worker.gateway.read_flow_run(worker.flow_run.id).is_suspended
    assert worker.kinds()[-1] == "run_paused"


def test_body_that_is_resumed_goes_on_from_its_checkpoint(worker):
    with pytest.raises(Suspension):
        worker.start(pause_and_work_on(worker))
    worker.service.resume(worker.run.id)
    Dispatcher(worker.database, worker.gateway).pass_once()
    seen: list[Any] = []

    def body(run: RunContext) -> dict[str, float]:
        seen.append((run.attempt, run.resume_from()))
        return {"val_ic": 1.0}

    worker.start(body)
    assert seen == [(2, {"epoch": 3})]
    assert (worker.run.status, worker.run.pause_requested_at) == ("completed", None)
    assert "checkpoint_restored" in worker.kinds()


def test_pause_that_prefect_refuses_fails_the_attempt(worker):
    worker.gateway.fail_next("suspend")
    with pytest.raises(PrefectError):
        worker.start(pause_and_work_on(worker))
    assert (worker.run.status, worker.run.error_type) == ("failed", "PrefectError")


# Cancellation.


def test_cancelled_body_is_acknowledged(worker):
    def body(run: RunContext) -> None:
        worker.service.cancel(run.id)
        work_on(run)

    assert worker.start(body).is_cancelled()
    assert (worker.run.status, worker.run.stop_reason) == ("cancelled", "cancelled_by_user")


def test_step_that_was_told_to_stop_is_a_cancellation_whatever_the_flow_makes_of_it(worker):
    def body(run: RunContext) -> None:
        worker.service.cancel(run.id)
        try:
            work_on(run)
        except BaseException:
            # So does Prefect with a task that ends by what is no Exception.
            raise RuntimeError("the task run crashed") from None

    assert worker.start(body).is_cancelled()
    assert worker.run.status == "cancelled"


def test_body_that_finishes_while_cancelling_completes(worker):
    def body(run: RunContext) -> dict[str, float]:
        worker.service.cancel(run.id)
        return {"val_ic": 1.0}

    assert worker.start(body) == {"val_ic": 1.0}
    assert worker.run.status == "completed"


def test_process_that_slept_while_its_run_was_cancelled_ends_as_cancelled_and_says_why(worker):
    worker.retries = 1
    worker.fail(ValueError("first"))
    worker.service.cancel(worker.run.id)
    state = worker.start(work_on)
    assert (state.is_cancelled(), state.message) == (True, f"run-{worker.run.id} was cancelled")
    assert worker.run.attempt == 1


# Tracebacks.


def test_whole_traceback_of_a_failure_is_kept(worker):
    worker.fail(ValueError("x" * 50_000 + "\udc00"))
    assert worker.run.traceback_ref == "traceback"
    kept = worker.traceback()
    assert kept.startswith("Traceback (most recent call last)")
    assert "x" * 50_000 + "\\udc00" in kept
    assert len(worker.run.error_traceback) == 20_000


def test_traceback_of_the_last_attempt_that_failed_is_kept(worker):
    worker.retries = 1
    worker.fail(ValueError("first"))
    assert worker.run.status == "retrying"
    assert "ValueError: first" in worker.traceback()
    worker.fail(ValueError("second"))
    assert worker.run.status == "failed"
    assert "ValueError: second" in worker.traceback()


def test_body_that_succeeds_after_a_failure_completes(worker):
    worker.retries = 1
    worker.fail(ValueError("first"))

    def body(run: RunContext) -> None:
        run.save("report", b"hello")

    worker.start(body)
    assert worker.run.status == "completed"


def test_attempt_that_failed_says_when_the_next_one_is_due(worker):
    worker.retries, worker.retry_delay_s = 1, 600.0
    worker.fail(ValueError("first"))
    due_in = worker.run.resume_due_at - worker.run.started_at
    assert timedelta(seconds=600) <= due_in < timedelta(seconds=660)
    worker.start(lambda run: None)
    assert (worker.run.status, worker.run.resume_due_at) == ("completed", None)


def test_what_a_failed_attempt_counted_is_kept_and_added_to(worker):
    def body(run: RunContext) -> None:
        run.count(rows=2)
        raise ValueError("no luck")

    worker.retries = 1
    for attempt, (status, rows) in enumerate([("retrying", 2), ("failed", 4)], start=1):
        with pytest.raises(ValueError, match="no luck"):
            worker.start(body)
        assert (worker.run.attempt, worker.run.status) == (attempt, status)
        assert Queries(worker.database).report(worker.run.id).usage.counters == {"rows": rows}


def test_what_was_counted_before_its_result_could_not_be_published_is_kept_once(worker):
    def body(run: RunContext) -> str:
        run.count(rows=2)
        return "no metrics"

    with pytest.raises(InvalidInput):
        worker.start(body)
    assert worker.run.status == "failed"
    assert Queries(worker.database).report(worker.run.id).usage.counters == {"rows": 2}


def test_object_store_that_is_away_does_not_hide_the_error(worker, caplog):
    class Away:
        def staging(self) -> Any:
            raise ArtifactError("the object store is away")

    worker.objects = Away()  # type: ignore[assignment]
    worker.fail(ValueError("the body's own error"))
    assert (worker.run.error_message, worker.run.traceback_ref) == ("the body's own error", None)
    assert "ValueError" in worker.run.error_traceback
    assert "could not be stored" in caplog.text


# What a body tells.


def test_what_a_body_tells_is_in_the_record(worker):
    def body(run: RunContext) -> dict[str, float]:
        run.message("user", "What moved?")
        run.message("assistant", "Everything.")
        run.checkpoint({"epoch": 1})
        run.count(rows=2, tokens=1.5)
        run.count(rows=3)
        for _ in run.progress(range(3)):
            pass
        run.save("report", b"hello")
        return {"val_ic": 1.0}

    worker.start(body)
    run, usage, message = worker.run, RunUsage.__table__, RunMessage.__table__
    with worker.database.read() as connection:
        counters = connection.execute(sa.select(usage.c.counters)).scalar_one()
        talk = connection.execute(sa.select(message.c.role, message.c.content).order_by(message.c.number)).all()
    assert counters == {"rows": 5, "tokens": 1.5}
    assert [tuple(one) for one in talk] == [("user", "What moved?"), ("assistant", "Everything.")]
    assert 0 < run.first_output_ns < run.duration_ns + 1_000_000_000
    told = [kind for kind in worker.kinds() if kind not in ("run_submitted", "run_started", "gate_decided")]
    assert told[:3] == ["message_added", "message_added", "checkpoint_saved"]
    assert 1 <= told.count("progress_reported") <= 3
    assert told[-2:] == ["version_published", "run_completed"]


def test_record_says_which_code_and_environment_the_body_ran_in(worker):
    from freshline.flows.provenance import provenance

    worker.start(lambda run: None)
    found = {"git_commit": worker.run.git_commit, "environment_digest": worker.run.environment_digest}
    assert {name: value for name, value in found.items() if value is not None} == provenance()
