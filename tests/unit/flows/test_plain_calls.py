"""A tracked function that a flow's body calls plainly: what it asks for, and what its caller gets."""

import asyncio
from uuid import uuid4

import pytest
from prefect.exceptions import Pause

from freshline.flows import RunContext, track
from freshline.flows.lease import RunCancelled
from freshline.storage.errors import Conflict, UpstreamNotReady
from tests.unit.flows.ports import Port, called_plainly, started


@track.training
def train(run: RunContext, lookback_d: int = 252, *, penalty: float = 1.0) -> dict[str, float]:
    return {"val_ic": lookback_d * penalty}


def test_plain_call_returns_what_the_body_returns(monkeypatch):
    with called_plainly(monkeypatch, Port()) as port:
        assert train(3, penalty=2.0) == {"val_ic": 6.0}
    assert port.calls == ["claim", "complete"]
    assert (port.call.flow_run, port.call.flow_names) == (None, ("train",))
    assert port.call.parameters == {
        "lookback_d": 3, "penalty": 2.0, "update_mode": "incremental", "if_ready": None, "on_stale": None,
        "data_as_of": None,
    }  # fmt: skip


def test_plain_call_that_raises_is_failed_for_good_although_prefect_retries_its_caller(monkeypatch):
    @track.training
    def unlucky(run: RunContext):
        raise ValueError("no luck")

    with called_plainly(monkeypatch, Port(), retries=3) as port, pytest.raises(ValueError, match="no luck"):
        unlucky()
    assert port.calls == ["claim", "fail ValueError"]
    assert port.will_retry is False


@pytest.mark.parametrize("signal", [KeyboardInterrupt, SystemExit, asyncio.CancelledError, Pause])
def test_plain_call_that_is_unwound_is_failed_and_unwinds_its_caller(monkeypatch, signal):
    @track.training
    def unwound(run: RunContext):
        raise signal

    with called_plainly(monkeypatch, Port()) as port, pytest.raises(signal):
        unwound()
    assert port.calls == ["claim", f"fail {signal.__name__}"]
    assert port.will_retry is False


@pytest.mark.parametrize(
    ("status", "error", "why"),
    [("refused", UpstreamNotReady, "refresh/prices is stale"), ("cancelled", Conflict, "was cancelled")],
)
def test_plain_call_that_may_not_start_raises_and_says_why(monkeypatch, status, error, why):
    with called_plainly(monkeypatch, Port(status=status)) as port, pytest.raises(error, match=why):
        train()
    assert port.calls == ["claim"]


def test_plain_call_that_is_not_needed_returns_nothing(monkeypatch):
    with called_plainly(monkeypatch, Port(status="skipped")) as port:
        assert train() is None
    assert port.calls == ["claim"]


def test_plain_call_that_is_cancelled_raises(monkeypatch):
    @track.training
    def cancelled(run: RunContext):
        raise RunCancelled

    with called_plainly(monkeypatch, Port()) as port, pytest.raises(Conflict, match="was cancelled"):
        cancelled()
    assert port.calls == ["claim", "cancel"]


def test_call_with_arguments_that_do_not_fit_is_refused_before_anything_is_recorded(monkeypatch):
    with called_plainly(monkeypatch, Port()) as port, pytest.raises(TypeError, match="lookback"):
        train(lookback=3)
    assert port.calls == []


def test_arguments_reach_the_body_by_position_by_name_and_in_any_number(monkeypatch):
    reached = []

    @track.training
    def gathering(run: RunContext, first, /, second=2, *rest, third, **others):
        reached.append((first, second, rest, third, others))

    with called_plainly(monkeypatch, Port()):
        gathering(1, third=3, update_mode="full")
        gathering(1, 5, 6, 7, third=3, fourth=4)
    assert reached == [(1, 2, (), 3, {}), (1, 5, (6, 7), 3, {"fourth": 4})]


def test_call_that_waits_and_cannot_be_suspended_ends_in_prefect(monkeypatch):
    with started(monkeypatch, Port(status="waiting"), train, parent_task_run_id=uuid4()) as port:
        assert train().is_cancelled()
    assert port.calls == ["claim"]
