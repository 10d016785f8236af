"""How a call of a tracked function is told apart, what is recorded of it, and `run_as`."""

import asyncio
import contextvars
from datetime import UTC, date, datetime
from enum import Enum
from functools import wraps
from pathlib import Path
from uuid import UUID, uuid4

import numpy as np
import pandas as pd
import pytest
from prefect import flow
from pydantic import BaseModel, SecretStr

from freshline.deployments.gateway import Execution
from freshline.flows import RunContext, run_as, track
from freshline.flows.calls import Tracked, as_json, call_of, executing
from freshline.storage.database import dump_json
from freshline.storage.errors import InvalidInput
from freshline.storage.ids import new_id
from freshline.storage.words import DeploymentKind
from tests.fakes import FakeGateway


@flow(name="Fit, every night")
@track.training
def fit(run: RunContext, days: int = 3): ...


@track.training
def score(run: RunContext): ...


@track.training
def fold_two(run: RunContext): ...


one_flow = flow(name="b")(fold_two)
other_flow = flow(name="a")(fold_two)

TRACKED = Tracked(fit.fn.__freshline_body__, DeploymentKind.TRAINING, fit.fn.__freshline_names__)


def tracked(function):
    return Tracked(function.__freshline_body__, DeploymentKind.TRAINING, function.__freshline_names__)


@pytest.fixture
def gateway():
    return FakeGateway()


def execution(flow_run, function=fit.fn, *, in_task=False):
    return Execution(flow_run=flow_run, flow_name="fit", function=function, in_task=in_task)


def deployed(gateway):
    return gateway.begin(gateway.click(gateway.add_deployment("fit/alpha").id).id)


# Bad use first.


@pytest.mark.parametrize("key", [None, 3, b"training/alpha", ["training/alpha"]])
def test_run_as_takes_text_alone(key):
    with pytest.raises(InvalidInput, match="run_as takes a deployment's key"), run_as(key):
        raise AssertionError("the block must not be entered")


class Unshowable:
    def __repr__(self):
        raise RuntimeError("no")


class Refusing(BaseModel):
    def model_dump(self, **_options):
        raise RuntimeError("no")


@pytest.mark.parametrize(
    ("value", "type_name", "shown"),
    [
        (pd.DataFrame({"x": [1]}), f"{pd.DataFrame.__module__}.DataFrame", "x\n0  1"),
        (np.float32(1.5), "numpy.float32", "1.5"),
        (float("nan"), "builtins.float", "nan"),
        ("a\0b", "builtins.str", "'a\\x00b'"),
        ("lone \ud800", "builtins.str", "lone"),
        ("x" * 9000, "builtins.str", "xxx...xxx"),
        (list(range(9000)), "builtins.list", "[0, 1, 2, 3, 4, 5, ...]"),
        ({1: 2}, "builtins.dict", "{1: 2}"),
        ({"x": object}, "builtins.dict", "object"),
        (SecretStr("hush"), "pydantic.types.SecretStr", "**********"),
        (Unshowable(), f"{__name__}.Unshowable", "<Unshowable instance at"),
        (type("array", (), {})(), f"{__name__}.array", "<no repr: AttributeError>"),
        (Refusing(), f"{__name__}.Refusing", "Refusing()"),
        (fit, "prefect.flows.Flow", "Flow"),
    ],
)
def test_argument_that_is_no_json_or_long_is_described(value, type_name, shown):
    described = as_json(value)
    assert described["type"] == type_name
    assert shown in described["repr"]
    assert len(dump_json(described)) < 1000


def test_argument_that_contains_itself_is_described():
    endless = []
    endless.append(endless)
    assert as_json(endless) == {"type": "builtins.list", "repr": "[[[[[[[...]]]]]]]"}


def test_arguments_that_are_iterated_once_are_left_whole():
    values = iter([1, 2])
    assert as_json(values)["type"] == "builtins.list_iterator"
    assert list(values) == [1, 2]


class Mode(Enum):
    FAST = "fast"


class Window(BaseModel):
    start: date
    token: SecretStr


@pytest.mark.parametrize(
    ("value", "recorded"),
    [
        (None, None),
        ({"a": [1, 2.5, True, "é"]}, {"a": [1, 2.5, True, "é"]}),
        ((1, (2,)), [1, [2]]),
        (date(2024, 1, 2), "2024-01-02"),
        (datetime(2024, 1, 2, tzinfo=UTC), "2024-01-02T00:00:00+00:00"),
        (UUID(int=1), "00000000-0000-0000-0000-000000000001"),
        (Path("data/prices.csv"), "data/prices.csv"),
        (Mode.FAST, "fast"),
        (
            Window(start=date(2024, 1, 2), token=SecretStr("hush")),
            {"start": "2024-01-02", "token": "**********"},
        ),
    ],
)
def test_argument_with_a_plain_form_is_recorded_so(value, recorded):
    assert as_json(value) == recorded


# The four ways.


def test_start_of_a_deployment_s_flow_run_is_that_flow_run_s(gateway):
    flow_run = deployed(gateway)
    with run_as("training/other"):
        call = call_of(TRACKED, {"days": 5}, execution(flow_run))
    assert (call.flow_run, call.deployment, call.parameters) == (flow_run, None, {})
    assert call.can_wait


def test_flow_that_a_script_calls_is_found_by_its_name_and_has_no_parent(gateway):
    flow_run = gateway.begin(gateway.run_script().id)
    call = call_of(TRACKED, {"days": 5}, execution(flow_run))
    assert (call.flow_run, call.kind, call.flow_names) == (flow_run, DeploymentKind.TRAINING, ("fit",))
    assert (call.parent_run_id, call.caller_id, call.parameters) == (None, None, {"days": 5})
    assert not call.can_wait


def test_flow_that_a_body_calls_has_its_run_as_parent(gateway):
    caller, run_id = deployed(gateway), new_id()
    flow_run = gateway.begin(gateway.call(caller.id).id)
    with executing(run_id, within=caller.id):
        call = call_of(TRACKED, {}, execution(flow_run))
    assert (call.flow_run, call.parent_run_id) == (flow_run, run_id)
    assert not call.can_wait


def test_flow_of_a_deployment_that_was_called_cannot_wait(gateway):
    called = gateway.begin(gateway.call(uuid4(), gateway.add_deployment("fit/alpha").id).id)
    assert not call_of(TRACKED, {}, execution(called)).can_wait


def test_function_that_a_body_calls_plainly_has_no_flow_run_of_its_own(gateway):
    caller, run_id = deployed(gateway), new_id()
    with executing(run_id, within=caller.id):
        call = call_of(tracked(score), {}, execution(caller))
    assert (call.flow_run, call.parent_run_id, call.caller_id) == (None, run_id, None)
    assert not call.can_wait


def test_function_that_calls_itself_plainly_is_not_taken_for_its_flow_run(gateway):
    caller, run_id = deployed(gateway), new_id()
    with executing(run_id, within=caller.id):
        assert call_of(TRACKED, {}, execution(caller)).flow_run is None


def test_plain_call_within_a_plain_call_is_not_taken_for_the_flow_run(gateway):
    caller, outer, inner = deployed(gateway), new_id(), new_id()
    with executing(outer, within=caller.id), executing(inner, within=caller.id):
        call = call_of(TRACKED, {}, execution(caller))
    assert (call.flow_run, call.parent_run_id) == (None, inner)


def test_plain_call_in_a_task_of_another_process_knows_its_caller_s_flow_run(gateway):
    caller = deployed(gateway)
    call = call_of(TRACKED, {}, execution(caller, in_task=True))
    assert (call.flow_run, call.parent_run_id, call.caller_id) == (None, None, caller.id)


def test_plain_call_within_an_untracked_flow_is_no_start_of_that_flow(gateway):
    call = call_of(TRACKED, {}, execution(deployed(gateway), function=lambda: None))
    assert call.flow_run is None


def test_tracked_function_below_another_decorator_is_its_flow_s_own(gateway):
    @wraps(fit.fn)
    def logged(*args, **kwargs):
        return fit.fn(*args, **kwargs)

    flow_run = deployed(gateway)
    assert call_of(TRACKED, {}, execution(flow_run, function=logged)).flow_run is flow_run


@pytest.mark.parametrize(
    ("function", "names"), [(fit.fn, ("Fit, every night",)), (score, ("score",)), (fold_two, ("a", "b"))]
)
def test_plain_call_is_of_the_flows_that_its_module_makes_or_the_name_prefect_would_give(gateway, function, names):
    with executing(new_id(), within=(caller := deployed(gateway)).id):
        assert call_of(tracked(function), {}, execution(caller)).flow_names == names


def test_name_of_a_function_in_no_module_is_the_one_prefect_would_give(gateway):
    @track.training
    def fit_again(run: RunContext): ...

    call = call_of(tracked(fit_again), {}, execution(deployed(gateway)))
    assert call.flow_names == (flow(fit_again).name,)


# Who is executed, and as what.


def test_run_as_holds_for_the_block_and_not_for_what_its_calls_call(gateway):
    caller = deployed(gateway)

    def said():
        return call_of(tracked(score), {}, execution(caller)).deployment

    with executing(new_id(), within=caller.id):
        assert said() is None
        with run_as("training/alpha"):
            assert said() == "training/alpha"
            with run_as("training/beta"):
                assert said() == "training/beta"
            assert said() == "training/alpha"
            with executing(new_id(), within=caller.id):
                assert said() is None
        assert said() is None


def test_body_that_raises_is_executed_no_more(gateway):
    caller = deployed(gateway)
    with pytest.raises(ValueError, match="no luck"), executing(new_id(), within=caller.id), run_as("training/alpha"):
        raise ValueError("no luck")
    call = call_of(tracked(score), {}, execution(caller))
    assert (call.parent_run_id, call.deployment) == (None, None)


def test_bodies_that_are_awaited_together_keep_their_own_children_apart(gateway):
    caller = deployed(gateway)

    async def body(run_id, turn, other):
        with executing(run_id, within=caller.id):
            turn.set()
            await other.wait()
            return call_of(tracked(score), {}, execution(caller)).parent_run_id

    async def both():
        here, there, ids = asyncio.Event(), asyncio.Event(), [new_id(), new_id()]
        assert await asyncio.gather(body(ids[0], here, there), body(ids[1], there, here)) == ids

    asyncio.run(both())


def test_thread_with_a_copy_of_the_context_knows_the_caller(gateway):
    caller, run_id = deployed(gateway), new_id()
    with executing(run_id, within=caller.id):
        context = contextvars.copy_context()
    assert context.run(lambda: call_of(tracked(score), {}, execution(caller)).parent_run_id) == run_id
