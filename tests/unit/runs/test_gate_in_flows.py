"""What a flow run says in Prefect when the gate does not let its body start: one sentence, in its state."""

from contextlib import ExitStack

import pytest

from freshline.deployments.gateway import Execution
from freshline.flows import RunContext, track, tracking
from freshline.runs.port import DirectPort
from freshline.storage.ids import show_run_id
from tests.fakes import Suspension


@track.refresh
def body(run: RunContext) -> None:
    run.note("started")


@pytest.fixture
def worker(world, monkeypatch):
    """Prefect and the process that starts a flow run."""

    def start(flow_run_id):
        begun = world.gateway.begin(flow_run_id)
        execution = Execution(flow_run=begun, flow_name="flow", function=body, in_task=False)
        port = DirectPort(world.database, world.objects, world.gateway, heartbeat_s=3600.0)
        monkeypatch.setattr(tracking, "flow_port", lambda: (port, execution))
        with ExitStack() as exits:
            exits.enter_context(world.gateway.within(begun.id))
            return body()

    return start


def click(world, name, parameters=None):
    return world.gateway.click(world.gateway.read_deployment(f"flow/{name}").id, parameters)


def run_of(world, flow_run):
    (found,) = [run for _, run in world.queries.runs() if run.flow_run_id == flow_run.id]
    return found


def test_refused_flow_run_says_which_upstream_and_why(world, worker):
    flow_run = click(world, "refresh-momentum")
    state = worker(flow_run.id)
    assert (state.type.value, state.name) == ("CANCELLED", "Refused")
    assert state.message == f"{show_run_id(run_of(world, flow_run).id)}: refresh/prices has no version yet"


def test_flow_run_refused_because_nothing_can_refresh_an_upstream_says_so(world, worker):
    world.graph.register(world.graph.declared["refresh/calendar"])
    state = worker(click(world, "backtest-book", {"on_stale": "refresh"}).id)
    assert state.name == "Refused"
    assert "nothing can refresh refresh/momentum: it is retired" in state.message


def test_skipped_flow_run_says_that_the_deployment_was_ready(world, worker):
    world.run_through("refresh/prices")
    world.run_through("refresh/momentum")
    state = worker(click(world, "refresh-momentum", {"if_ready": "skip"}).id)
    assert (state.type.value, state.name) == ("COMPLETED", "Skipped")
    assert state.message.endswith(": the deployment is ready already")


def test_waiting_flow_run_is_suspended_with_what_it_waits_for(world, worker):
    flow_run = click(world, "refresh-momentum", {"on_stale": "wait"})
    with pytest.raises(Suspension):
        worker(flow_run.id)
    suspended = world.gateway.read_flow_run(flow_run.id)
    assert suspended.is_suspended
    assert suspended.state_message.endswith(": waiting: refresh/prices has no version yet")


def test_waiting_flow_run_that_is_resumed_by_hand_says_the_same_again(world, worker):
    flow_run = click(world, "refresh-momentum", {"on_stale": "wait"})
    for _ in range(2):
        with pytest.raises(Suspension):
            worker(flow_run.id)
        said = world.gateway.read_flow_run(flow_run.id).state_message
        assert said.endswith(": waiting: refresh/prices has no version yet")
        world.gateway.resume(flow_run.id)


def test_flow_run_that_became_needless_while_it_waited_says_so(world, worker):
    for key in ("refresh/prices", "refresh/momentum", "backtest/book"):
        world.run_through(key)
    world.run_through("refresh/prices", 2)
    waiting = click(world, "backtest-book", {"on_stale": "wait", "if_ready": "skip"})
    with pytest.raises(Suspension):
        worker(waiting.id)
    world.run_through("refresh/prices", 1)
    assert run_of(world, waiting).status == "skipped"
    world.dispatch()
    state = worker(waiting.id)
    assert (state.name, state.message.partition(": ")[2]) == ("Skipped", "the deployment is ready already")


def test_forced_flow_run_starts_and_its_record_says_so(world, worker):
    flow_run = click(world, "refresh-momentum", {"on_stale": "force"})
    assert worker(flow_run.id) is None
    run = run_of(world, flow_run)
    assert (run.status, run.decision["forced_by"]) == ("completed", "prefect")
