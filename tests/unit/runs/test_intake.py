"""Which run a start belongs to: flow runs that others called, subflows, plain calls, scripts."""

from dataclasses import replace
from datetime import timedelta
from uuid import uuid4

import pytest

from freshline.deployments.gateway import FlowRunState
from freshline.runs.intake import FlowCall
from freshline.runs.status import RunStatus, StopReason
from freshline.storage.errors import Fenced, InvalidInput, NotFound, PrefectError
from freshline.storage.ids import show_run_id
from freshline.storage.words import DeploymentKind, Trigger
from tests.factories import declared
from tests.unit.runs.conftest import World


def named(key, prefect_name, **options):
    return replace(declared(key, **options), prefect_name=prefect_name)


@pytest.fixture
def calls(world: World) -> World:
    """Also registered: `train` once, `load` twice, and a training of another flow whose name is alike."""
    known = world.graph.declared
    world.graph.register(
        named("training/alpha", "train/alpha", parameters=["days"]),
        named("training/beta", "train_it/beta"),
        named("refresh/bonds", "load/bonds"),
        named("refresh/stocks", "load/stocks"),
        declared("refresh/vendor", external=True),
        project="calls",
    )
    world.graph.declared |= known
    return world


def train(flow_run=None, **facts):
    return FlowCall(flow_run, kind=DeploymentKind.TRAINING, flow_names=("train",), **facts)


def started(world, **options):
    """A run of refresh/prices that executes."""
    return world.start(world.service.submit("refresh/prices", **options)).run


def runs_of(world, key):
    return [run for _, run in world.queries.runs(deployment=key)]


# What cannot be told.


def test_call_of_a_flow_with_several_deployments_names_them_and_the_way_out(calls):
    ambiguous = FlowCall(None, kind=DeploymentKind.REFRESH, flow_names=("load",))
    with pytest.raises(InvalidInput, match="several deployments run the flow 'load': refresh/bonds, refresh/stocks;"):
        calls.port.claim(ambiguous)
    with pytest.raises(InvalidInput, match=r"with freshline\.flows\.run_as\('refresh/bonds'\):"):
        calls.port.claim(ambiguous)


@pytest.mark.parametrize("name", ["trai", "TRAIN", "train/alpha", "train%", "train-it", ""])
def test_call_of_a_flow_that_is_not_deployed_is_not_found(calls, name):
    with pytest.raises(NotFound, match=r"no registered training deployment .*run_as\) of the flow"):
        calls.port.claim(FlowCall(None, kind=DeploymentKind.TRAINING, flow_names=(name,)))


def test_call_of_a_function_that_is_tracked_as_another_kind_is_not_found(calls):
    with pytest.raises(NotFound, match="no registered backtest deployment"):
        calls.port.claim(FlowCall(None, kind=DeploymentKind.BACKTEST, flow_names=("train",)))


def test_call_of_a_flow_whose_deployment_was_retired_is_not_found(calls):
    calls.graph.register(project="calls")
    with pytest.raises(NotFound, match="no registered training deployment"):
        calls.port.claim(train())


def test_call_as_a_deployment_that_is_unknown_suggests_the_nearest(calls):
    with pytest.raises(NotFound, match=r"'training/alfa'\. Did you mean 'training/alpha'"):
        calls.port.claim(train(deployment="training/alfa"))


def test_call_as_a_deployment_of_another_kind_is_refused(calls):
    with pytest.raises(InvalidInput, match=r"tracked as training, that deployment is a refresh; name one of the kind"):
        calls.port.claim(train(deployment="refresh/bonds"))


def test_call_as_an_external_deployment_is_refused(calls):
    external = FlowCall(None, kind=DeploymentKind.REFRESH, flow_names=("load",), deployment="refresh/vendor")
    with pytest.raises(InvalidInput, match="it is external, nothing runs it"):
        calls.port.claim(external)


def test_call_with_a_bad_value_for_a_parameter_of_ours_is_refused_and_leaves_no_run(calls):
    with pytest.raises(InvalidInput, match="on_stale='sometimes'"):
        calls.port.claim(train(parameters={"on_stale": "sometimes"}))
    assert runs_of(calls, "training/alpha") == []


def test_flow_run_without_a_deployment_that_says_nothing_else_is_not_found(calls):
    with pytest.raises(NotFound, match="no registered deployment for the flow run"):
        calls.port.claim(calls.gateway.run_script())


# A flow run of a deployment that a flow called.


def test_flow_run_that_a_flow_with_a_run_called_has_that_run_as_its_parent(world):
    caller = started(world)
    called = world.gateway.call(caller.flow_run_id, deployment_of(world, "refresh/calendar"))
    run = world.claim(called.id).run
    assert (run.trigger, run.parent_id, run.flow_run_id) == (Trigger.SUBFLOW, caller.id, called.id)
    assert run.actor == show_run_id(caller.id)
    assert len(runs_of(world, "refresh/calendar")) == 1


def test_flow_run_that_a_flow_without_a_run_called_has_no_parent(world):
    stranger = world.gateway.run_script()
    called = world.gateway.call(stranger.id, deployment_of(world, "refresh/calendar"))
    run = world.claim(called.id).run
    assert (run.trigger, run.parent_id) == (Trigger.MANUAL, None)


def test_flow_run_whose_caller_prefect_has_forgotten_has_no_parent(world):
    clicked = world.gateway.click(deployment_of(world, "refresh/calendar"))
    orphan = replace(world.gateway.begin(clicked.id), parent_task_run_id=uuid4())
    assert world.port.claim(FlowCall.of_deployment(orphan)).run.parent_id is None


def test_prefect_is_asked_for_the_caller_of_called_flow_runs_alone(world):
    clicked = world.gateway.click(deployment_of(world, "refresh/calendar"))
    world.claim(clicked.id)
    assert "read_callers" not in world.gateway.calls
    called = world.gateway.call(clicked.id, deployment_of(world, "refresh/prices"))
    world.claim(called.id)
    assert world.gateway.calls.count("read_callers") == 1


def test_flow_run_is_not_claimed_while_prefect_does_not_say_who_called_it(world):
    caller = started(world)
    called = world.gateway.call(caller.flow_run_id, deployment_of(world, "refresh/calendar"))
    world.gateway.fail_next("read_callers")
    with pytest.raises(PrefectError):
        world.claim(called.id)
    assert runs_of(world, "refresh/calendar") == []
    assert world.claim(called.id).run.parent_id == caller.id


def test_reconciler_finds_the_same_parent_for_a_called_flow_run_that_never_claimed(world):
    caller = started(world)
    called = world.gateway.call(caller.flow_run_id, deployment_of(world, "refresh/calendar"))
    world.gateway.end(world.gateway.begin(called.id).id, FlowRunState.CRASHED, message="no such image")
    assert world.reconcile().adopted == 1
    (run,) = runs_of(world, "refresh/calendar")
    assert (run.trigger, run.parent_id, run.stop_reason) == (Trigger.SUBFLOW, caller.id, StopReason.CRASHED)


def test_run_that_the_reconciler_was_first_to_record_is_the_one_that_the_worker_claims(world):
    caller = started(world)
    called = world.gateway.begin(world.gateway.call(caller.flow_run_id, deployment_of(world, "refresh/calendar")).id)
    world.reconcile()
    (adopted,) = runs_of(world, "refresh/calendar")
    claim = world.claim(called.id)
    assert (claim.run.id, claim.run.parent_id, claim.may_start) == (adopted.id, caller.id, True)


@pytest.mark.parametrize("on_stale", ["wait", "refresh"])
def test_call_that_would_have_to_wait_is_refused_with_the_reason_and_refreshes_nothing(calls, on_stale):
    caller = started(calls)
    momentum = deployment_of(calls, "refresh/momentum")
    calls.graph.register(named("training/late", "late/late", upstream=["refresh/calendar"]), project="late")
    subflow = calls.gateway.begin(calls.gateway.call(caller.flow_run_id).id)
    deployed = calls.gateway.call(caller.flow_run_id, momentum)
    late = {"kind": DeploymentKind.TRAINING, "flow_names": ("late",), "parameters": {"on_stale": on_stale}}
    for call in (
        FlowCall(None, parent_run_id=caller.id, **late),
        FlowCall(subflow, parent_run_id=caller.id, **late),
        FlowCall.of_deployment(replace(calls.gateway.begin(deployed.id), parameters={"on_stale": on_stale})),
    ):
        claim = calls.port.claim(call)
        assert (claim.may_start, claim.run.status) == (False, RunStatus.REFUSED)
        assert "has no version yet" in claim.run.error_message
        assert (
            "a subflow cannot wait for upstreams: submit its deployment instead, "
            "or call run_deployment(..., as_subflow=False)" in claim.run.error_message
        )
    assert runs_of(calls, "refresh/calendar") == []


def test_called_flow_run_started_again_by_hand_is_manual_and_keeps_its_parent(world):
    caller = started(world)
    called = world.gateway.call(caller.flow_run_id, deployment_of(world, "refresh/calendar"))
    first = world.claim(called.id)
    world.complete(first)
    world.gateway.start_again(called.id)
    again = world.claim(called.id).run
    assert (again.trigger, again.generation, again.retry_of) == (Trigger.MANUAL, 1, first.run.id)
    assert again.parent_id == caller.id


# A flow that a flow calls in its process.


def test_subflow_has_one_child_run_with_its_own_flow_run(calls):
    caller = started(calls)
    subflow = calls.gateway.begin(calls.gateway.call(caller.flow_run_id).id)
    claim = calls.port.claim(train(subflow, parent_run_id=caller.id, parameters={"days": 3, "update_mode": "full"}))
    assert claim.may_start
    run = claim.run
    assert (run.trigger, run.parent_id, run.flow_run_id) == (Trigger.SUBFLOW, caller.id, subflow.id)
    assert (run.parameters, run.request["update_mode"]) == ({"days": 3}, "full")
    assert (run.actor, run.background) == (show_run_id(caller.id), False)
    assert claim.deployment.key == "training/alpha"
    assert "read_callers" not in calls.gateway.calls


def test_subflow_in_a_process_that_does_not_know_the_caller_finds_it_through_prefect(calls):
    caller = started(calls)
    subflow = calls.gateway.begin(calls.gateway.call(caller.flow_run_id).id)
    assert calls.port.claim(train(subflow)).run.parent_id == caller.id


def test_subflow_that_prefect_retries_is_the_next_attempt_of_its_run(calls):
    caller = started(calls)
    subflow = calls.gateway.begin(calls.gateway.call(caller.flow_run_id).id)
    first = calls.port.claim(train(subflow, parent_run_id=caller.id)).run
    calls.port.fail(first.id, first.fence, ValueError("no luck"), "", will_retry=True)
    again = calls.port.claim(train(calls.gateway.begin(subflow.id), parent_run_id=caller.id)).run
    assert (again.id, again.attempt, again.status) == (first.id, 2, RunStatus.RUNNING)


def test_subflow_that_is_called_again_with_the_same_flow_run_after_its_end_has_a_new_run(calls):
    caller = started(calls)
    subflow = calls.gateway.begin(calls.gateway.call(caller.flow_run_id).id)
    first = calls.port.claim(train(subflow, parent_run_id=caller.id))
    calls.complete(first)
    again = calls.port.claim(train(calls.gateway.begin(subflow.id), parent_run_id=caller.id)).run
    assert (again.trigger, again.parent_id) == (Trigger.SUBFLOW, caller.id)
    assert (again.generation, again.retry_of) == (1, first.run.id)
    assert calls.service.get(first.run.id).status == RunStatus.COMPLETED
    third = calls.port.claim(train(calls.gateway.begin(subflow.id), parent_run_id=caller.id)).run
    assert third.id == again.id, "the second run has not ended: it goes on"


# A function that a body calls plainly.


def test_plain_call_has_a_child_run_of_its_own_and_leaves_the_caller_s_alone(calls):
    caller = started(calls)
    child = calls.port.claim(train(parent_run_id=caller.id)).run
    assert (child.trigger, child.parent_id, child.flow_run_id) == (Trigger.SUBFLOW, caller.id, None)
    assert child.background is False
    calls.port.heartbeat(caller.id, caller.fence)  # would raise if the caller had been fenced
    calls.port.fail(child.id, child.fence, ValueError("no luck"), "", will_retry=False)
    assert calls.service.get(child.id).stop_reason == StopReason.ERROR
    assert calls.service.get(caller.id).status == RunStatus.RUNNING
    assert calls.service.get(caller.id).attempt == 1


def test_plain_call_in_another_process_finds_its_parent_by_the_flow_run(calls):
    caller = started(calls)
    assert calls.port.claim(train(caller_id=caller.flow_run_id)).run.parent_id == caller.id
    assert "read_callers" not in calls.gateway.calls


def test_plain_call_from_a_flow_without_a_run_is_manual(calls):
    run = calls.port.claim(train(caller_id=calls.gateway.run_script().id)).run
    assert (run.trigger, run.parent_id, run.actor) == (Trigger.MANUAL, None, "prefect")


def test_plain_call_that_is_recorded_twice_has_one_run_and_two_calls_have_two(calls):
    caller = started(calls)
    call = train(parent_run_id=caller.id)
    first, repeated = calls.port.claim(call).run, calls.port.claim(call).run
    assert first.id == repeated.id
    assert calls.port.claim(train(parent_run_id=caller.id)).run.id != first.id
    assert len(runs_of(calls, "training/alpha")) == 2


def test_call_as_a_deployment_is_of_that_deployment(calls):
    plain = FlowCall(None, kind=DeploymentKind.REFRESH, flow_names=("load",), deployment="refresh/stocks")
    assert calls.port.claim(plain).deployment.key == "refresh/stocks"
    assert calls.port.claim(train(deployment="training/beta")).deployment.key == "training/beta"


def test_renamed_parameter_of_ours_goes_into_the_request_and_the_own_one_of_that_name_does_not(calls):
    renamed = {"freshline_mode": "update_mode", "if_ready": "if_ready", "on_stale": "on_stale", "as_of": "data_as_of"}
    call = train(parameters={"freshline_mode": "full", "update_mode": "own"}, renamed=renamed)
    run = calls.port.claim(call).run
    assert (run.request["update_mode"], run.parameters) == ("full", {"update_mode": "own"})


# A flow that a script calls.


def test_flow_that_a_script_calls_has_one_manual_run_without_a_parent(calls):
    flow_run = calls.gateway.begin(calls.gateway.run_script().id)
    run = calls.port.claim(train(flow_run)).run
    assert (run.trigger, run.parent_id, run.flow_run_id) == (Trigger.MANUAL, None, flow_run.id)
    assert (run.actor, run.background) == ("prefect", False)


# What the reconciler makes of them.


def test_reconciler_leaves_running_calls_alone_and_ends_the_lost_ones_by_their_lease(calls):
    caller = started(calls)
    subflow = calls.gateway.begin(calls.gateway.call(caller.flow_run_id).id)
    plain = calls.port.claim(train(parent_run_id=caller.id)).run
    child = calls.port.claim(train(subflow, parent_run_id=caller.id)).run
    calls.reconcile()
    assert {calls.service.get(run.id).status for run in (caller, plain, child)} == {RunStatus.RUNNING}

    calls.pass_time(timedelta(seconds=50))
    calls.port.heartbeat(caller.id, caller.fence)
    calls.pass_time(timedelta(seconds=50))
    calls.reconcile()
    ends = [(run.status, run.stop_reason) for run in map(calls.service.get, (plain.id, child.id))]
    assert ends == [(RunStatus.FAILED, StopReason.LEASE_EXPIRED)] * 2
    assert calls.service.get(caller.id).status == RunStatus.RUNNING
    with pytest.raises(Fenced):
        calls.port.heartbeat(plain.id, plain.fence)
    calls.dispatch()
    assert calls.gateway.read_flow_run(subflow.id).state_type == FlowRunState.CRASHED


def test_reconciler_adopts_no_flow_run_of_a_call(calls):
    caller = started(calls)
    for flow_run in (calls.gateway.call(caller.flow_run_id), calls.gateway.run_script()):
        calls.gateway.end(calls.gateway.begin(flow_run.id).id, FlowRunState.FAILED)
    assert calls.reconcile().adopted == 0


def test_reconciler_ends_a_subflow_s_run_as_prefect_says(calls):
    caller = started(calls)
    subflow = calls.gateway.begin(calls.gateway.call(caller.flow_run_id).id)
    child = calls.port.claim(train(subflow, parent_run_id=caller.id)).run
    calls.gateway.end(subflow.id, FlowRunState.CRASHED, message="killed")
    calls.reconcile()
    assert calls.service.get(child.id).stop_reason == StopReason.CRASHED
    assert calls.service.get(caller.id).status == RunStatus.RUNNING


def deployment_of(world, key):
    return world.graph.declared[key].prefect_deployment_id


def test_flow_run_with_the_label_of_another_one_has_a_run_of_its_own(world):
    run = world.service.submit("refresh/prices")
    world.dispatch()
    first = world.flow_run_of(run)
    copied = world.gateway.create_flow_run(
        first.deployment_id, parameters={}, idempotency_key="copied", labels=first.labels, tags=(), name="copied"
    )
    world.gateway.end(copied.id, FlowRunState.CANCELLED)
    assert (world.reconcile().adopted, world.reconcile().adopted) == (1, 0)
    assert world.service.get(run.id).status == "pending"
    assert world.claim(first.id).run.id == run.id
