"""Which call is this? From a start of a tracked function to the facts by which its run is found.

A tracked function starts in one of four ways: as the flow of a deployment's flow run, as a flow that another flow or
a script calls (a flow run of its own, no deployment), or as a plain function within a flow (no flow run of its own).
Owns what one thread or task of the process is executing, and `run_as`. Knows no run record.
"""

import logging
import reprlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from datetime import date, time
from enum import Enum
from pathlib import Path
from typing import Any
from uuid import UUID

from ..deployments.gateway import Execution
from ..runs.intake import FlowCall
from ..storage.database import dump_json
from ..storage.errors import InvalidInput
from ..storage.words import DeploymentKind

_LOGGER = logging.getLogger(__name__)
_LONGEST_ARGUMENT = 8_192
"""Characters of JSON; a longer argument is data, and is described instead of recorded."""
_LONGEST_REPR = 200


@dataclass(frozen=True)
class _Body:
    """A body that is executed."""

    run_id: UUID
    within: UUID
    """The flow run in which it is executed; a plain call has none of its own."""


_EXECUTING: ContextVar[_Body | None] = ContextVar("freshline_executing", default=None)
_RUN_AS: ContextVar[str | None] = ContextVar("freshline_run_as", default=None)


@dataclass(frozen=True)
class Tracked:
    """A function that was decorated."""

    body: Callable[..., Any]
    kind: DeploymentKind
    names: Mapping[str, str]
    """Its names for Freshline's parameters -> ours."""
    system_metrics: bool | None = None
    """Whether the use of the system is sampled; None: as the setting says."""


@contextmanager
def run_as(deployment: str) -> Iterator[None]:
    """Make the tracked functions that the block calls runs of this deployment: `run_as("refresh/prices")`.

    Needed where a flow has several deployments, or none by its name. It holds for calls in the block itself, as flow
    or as plain function, not for what those call in their turn; a flow run of a deployment is that deployment's.

    Raises:
        InvalidInput: `deployment` is not text.
    """
    if not isinstance(deployment, str):
        raise InvalidInput(f"run_as takes a deployment's key, such as 'refresh/prices', not {deployment!r}")
    token = _RUN_AS.set(deployment)
    try:
        yield
    finally:
        _RUN_AS.reset(token)


@contextmanager
def executing(run_id: UUID, *, within: UUID) -> Iterator[None]:
    """The block is this run's body, in this flow run: what it calls has the run as its parent."""
    executed = _EXECUTING.set(_Body(run_id, within))
    named = _RUN_AS.set(None)
    try:
        yield
    finally:
        _RUN_AS.reset(named)
        _EXECUTING.reset(executed)


def call_of(tracked: Tracked, arguments: Mapping[str, Any], execution: Execution) -> FlowCall:
    """Return this start of a tracked function, called with these arguments while Prefect executes `execution`."""
    flow_run, caller = execution.flow_run, _EXECUTING.get()
    is_plain = not _is_flow_s_own(tracked, execution, caller)
    if not is_plain and flow_run.deployment_id is not None:
        return FlowCall.of_deployment(flow_run)
    return FlowCall(
        None if is_plain else flow_run,
        kind=tracked.kind,
        flow_names=_flow_names(tracked.body) if is_plain else (str(execution.flow_name),),
        deployment=_RUN_AS.get(),
        parent_run_id=caller.run_id if caller is not None else None,
        # In another process, such as a task's, the flow run alone tells whose body makes the call.
        caller_id=flow_run.id if is_plain and caller is None else None,
        parameters={name: as_json(value) for name, value in arguments.items()},
        renamed=tracked.names,
    )


def as_json(value: Any) -> Any:
    """Return an argument as it is recorded: as JSON, or if it is none, or long, as {"type": …, "repr": …}."""
    try:
        plain = _plain(value)
        if len(dump_json(plain)) <= _LONGEST_ARGUMENT:
            return plain
    except Exception:  # whatever somebody's own model raises: a record must not keep a call from being made
        _LOGGER.debug("an argument of the type %s is described, not recorded", type(value), exc_info=True)
    return {"type": f"{type(value).__module__}.{type(value).__qualname__}", "repr": _short_repr(value)}


def _is_flow_s_own(tracked: Tracked, execution: Execution, caller: _Body | None) -> bool:
    """True when Prefect calls the function as that of its flow run; False when a body calls it."""
    if execution.in_task or (caller is not None and caller.within == execution.flow_run.id):
        return False
    return getattr(execution.function, "__freshline_body__", None) is tracked.body


def _flow_names(body: Callable[..., Any]) -> tuple[str, ...]:
    """Return the names of the flows that the function's module makes of it; of none, the one Prefect would give."""
    from prefect.flows import Flow

    found = [value for value in list(getattr(body, "__globals__", {}).values()) if isinstance(value, Flow)]
    names = {flow.name for flow in found if getattr(flow.fn, "__freshline_body__", None) is body}
    return tuple(sorted(names)) or (body.__name__.replace("_", "-"),)


def _plain(value: Any) -> Any:
    """Return the value in JSON's types; what has no such form is returned as it is, and refused afterwards."""
    if isinstance(value, str | list | tuple | Mapping) and len(value) > _LONGEST_ARGUMENT:
        raise InvalidInput(f"it has {len(value):,} parts")  # before all of them are looked at
    if isinstance(value, Enum):
        return _plain(value.value)
    if isinstance(value, date | time):  # a datetime is a date
        return value.isoformat()
    if isinstance(value, UUID | Path):
        return str(value)
    if isinstance(value, Mapping) and all(isinstance(key, str) for key in value):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    dump = getattr(value, "model_dump", None)  # a pydantic model
    return dump(mode="json") if callable(dump) and not isinstance(value, type) else value


def _short_repr(value: Any) -> str:
    """Return the beginning and the end of a value's repr, as text that both databases take."""
    shortener = reprlib.Repr()
    shortener.maxstring = shortener.maxlong = shortener.maxother = _LONGEST_REPR
    try:
        shown = shortener.repr(value)
    except Exception as error:  # a class may have the name of a built-in one, and not its methods
        shown = f"<no repr: {type(error).__name__}>"
    return shown.encode("utf-8", "replace").decode().replace("\0", "\ufffd")
