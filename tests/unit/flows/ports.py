"""A port that records what a start of a body asks of it, and a Prefect that executes the body."""

from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any
from uuid import uuid4

from freshline.deployments.gateway import Execution
from freshline.flows import tracking
from freshline.runs.execution import Claim
from freshline.runs.intake import FlowCall
from freshline.storage.filesystem import ObjectStore
from tests.factories import START
from tests.fakes import FakeGateway


@dataclass
class Port:
    """A RunPort that records what it is asked, in order."""

    status: str = "running"
    fails_on_complete: Exception | None = None
    calls: list[str] = field(default_factory=list)
    heartbeat_s: float = 3600.0
    system_metrics: bool = False
    objects: ObjectStore = field(default_factory=lambda: ObjectStore(f"memory://{uuid4()}"))
    result: Any = None
    will_retry: bool | None = None
    resume_due_at: datetime | None = None
    call: FlowCall | None = None
    declaration: dict[str, Any] = field(default_factory=dict)

    def claim(self, call, *, provenance=None):
        self.calls.append("claim")
        self.call = call
        run = _Row(
            id=uuid4(), fence=1, attempt=1, status=self.status, request={}, base_version_id=None, stop_reason="x",
            error_message="refresh/prices is stale", heartbeat_at=START, decision=None,
        )  # fmt: skip
        deployment = _Row(id=uuid4(), key="training/alpha", kind="training", declaration=self.declaration)
        return Claim(run, deployment, None, may_start=self.status == "running")

    def pins(self, run_id):
        return {}

    def send_left_behind(self):
        pass

    def open_spool(self, run_id, fence):
        raise OSError("there is no disk")

    def record_points(self, run_id, fence, chunk, latest):
        self.calls.append("record_points")
        raise ConnectionError("the database is away")

    def lease_terms(self, run_id, fence):
        return None

    def suspend(self, flow_run, *, reason):
        self.calls.append("suspend")
        raise Unwound

    def complete(self, run_id, fence, result):
        self.calls.append("complete")
        self.result = result
        if self.fails_on_complete is not None:
            raise self.fails_on_complete

    def fail(self, run_id, fence, error, traceback, *, will_retry, resume_due_at=None, **_left):
        self.calls.append(f"fail {type(error).__name__}")
        self.will_retry = will_retry
        self.resume_due_at = resume_due_at

    def acknowledge_cancel(self, run_id, fence):
        self.calls.append("cancel")

    def pause(self, run_id, fence):
        self.calls.append("pause")

    def record(self, *_args, **_values):
        self.calls.append("record")
        raise ConnectionError("the database is away")


class Unwound(BaseException):
    """What Prefect raises to unwind a suspended flow."""


class _Row:
    def __init__(self, **values):
        self.__dict__.update(values)


@contextmanager
def started(monkeypatch, port, function, **facts):
    """Prefect executes the function as that of a deployment's flow run."""
    gateway = FakeGateway()
    flow_run = gateway.begin(gateway.click(gateway.add_deployment("train/alpha").id).id)
    execution = Execution(flow_run=replace(flow_run, **facts), flow_name="train", function=function, in_task=False)
    monkeypatch.setattr(tracking, "flow_port", lambda: (port, execution))
    yield port


@contextmanager
def called_plainly(monkeypatch, port, **facts):
    """Prefect executes another function, which calls the tracked one."""
    with started(monkeypatch, port, lambda: None, **facts):
        yield port
