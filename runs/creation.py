"""How a run record comes into being, whoever triggered it: one place for every column that a new run has."""

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy.engine import Connection, Row

from ..storage.database import dump_json
from ..storage.errors import IdempotencyConflict, InvalidInput, nearest_names
from ..storage.ids import new_id, show_run_id
from ..storage.words import DeploymentKind, Trigger
from . import contents, details, store
from . import run_events as events
from .gate import Decision
from .request import HIDDEN, RunRequest, resolve_if_ready, split_parameters
from .status import RunStatus

_WORKFLOW = ("entrypoint", "callables", "parameters")
"""What of a deployment's declaration configures the work."""


_SAYS_NOTHING = frozenset({"title", "description", "default", "position"})
"""Keywords of a schema that no value is checked against."""
_TYPES_OF: Mapping[str, frozenset[type]] = {
    "boolean": frozenset({bool}),
    "integer": frozenset({int}),
    "number": frozenset({int, float}),
    "string": frozenset({str}),
}
_validators: dict[UUID, tuple[datetime, tuple[Mapping[str, frozenset[type]], Any]]] = {}
"""Deployment -> when it was registered, and what checks its parameters: making that takes longer than the check."""


@dataclass(frozen=True)
class Origin:
    """Who or what triggered a run."""

    trigger: Trigger
    actor: str
    trigger_name: str | None = None
    because: str | None = None
    """What it is to put right, where nobody asked for it."""
    parent_id: UUID | None = None
    idempotency_key: str | None = None
    background: bool = True
    """Nobody waits for the run."""
    flow_run_id: UUID | None = None
    generation: int = 0
    retry_of: UUID | None = None
    replay_of: UUID | None = None
    base_version_id: UUID | None = None
    """What a replay begins with; any other run gets its base when it is claimed."""


def create_run(
    connection: Connection,
    deployment: Row[Any],
    origin: Origin,
    *,
    parameters: Mapping[str, Any],
    request: RunRequest,
    tags: Iterable[str] = (),
    metadata: Mapping[str, Any] | None = None,
    detail: Mapping[str, Any] | None = None,
    decision: Decision | None = None,
    now: datetime,
) -> Row[Any] | None:
    """Insert a pending run with its detail row and first event; None when its key or flow run has one already.

    `detail` holds facts of the run's type that are known beforehand, validated (`details.valid_detail`); `decision` is
    the gate's, when it was asked first.
    """
    run_id = new_id()
    declaration = deployment.declaration
    parameters = {**parameters, **dict.fromkeys(secrets_of(deployment) & parameters.keys(), HIDDEN)}
    resolved = resolve_if_ready(request, origin.trigger, declaration.get("if_ready"))
    defaults, _ = split_parameters(declaration.get("parameters", {}), declaration.get("renamed", {}))
    happened: list[events.Event] = [
        events.RunSubmitted(trigger=origin.trigger, trigger_name=origin.trigger_name, because=origin.because)
    ]
    if decision is not None:
        happened.append(events.GateDecided(verdict=decision.verdict, reason=decision.reason))
    inserted: Row[Any] | None = store.insert_run(
        connection,
        {
            "id": run_id,
            "tenant_id": deployment.tenant_id,
            "project": deployment.project,
            "deployment_id": deployment.id,
            "type": details.run_type(deployment.kind),
            "kind": deployment.kind,
            "trigger": origin.trigger,
            "trigger_name": origin.trigger_name,
            "actor": origin.actor,
            "parent_id": origin.parent_id,
            "retry_of": origin.retry_of,
            "replay_of": origin.replay_of,
            "base_version_id": origin.base_version_id,
            "generation": origin.generation,
            "status": RunStatus.PENDING,
            "parameters": {**defaults, **parameters},
            "request": resolved.to_json(),
            "tags": sorted(set(tags)),
            "data_as_of": request.data_as_of,
            "idempotency_key": origin.idempotency_key,
            "request_sha256": request_sha256(deployment.key, parameters, request),
            "flow_run_id": origin.flow_run_id,
            "decision": decision.evidence() if decision is not None else None,
            "background": origin.background,
            "workflow": {name: declaration[name] for name in _WORKFLOW if declaration.get(name)},
            "metadata": dict(metadata or {}),
            "code_digest": declaration.get("code_digest"),
        },
        happened,
        actor=origin.actor,
        now=now,
    )
    if inserted is None:
        return None
    facts = {"update_mode": request.update_mode} if deployment.kind == DeploymentKind.REFRESH else {}
    contents.insert_detail(connection, deployment.kind, run_id, {**facts, **(detail or {})})
    return inserted


def secrets_of(deployment: Row[Any]) -> set[str]:
    """Return the names of the parameters whose values are never recorded: those that the flow types as secrets."""
    return set(deployment.declaration.get("secrets", ()))


def request_sha256(key: str, parameters: Mapping[str, Any], request: RunRequest) -> str:
    """Return the digest that tells one request from another under the same idempotency key."""
    asked = {"deployment": key, "parameters": _sorted(dict(parameters)), "request": request.to_json()}
    return hashlib.sha256(dump_json(asked).encode()).hexdigest()


def check_same_request(known: Row[Any], key: str, *, is_same: bool) -> None:
    """Refuse to give the run that came with a key before, when it was asked for otherwise, or is deleted.

    Raises:
        IdempotencyConflict: saying which run it is.
    """
    if not is_same:
        raise IdempotencyConflict(
            f"the idempotency key {key!r} came with another request before ({show_run_id(known.id)}); use a new key"
        )
    if known.deleted_at is not None:
        raise IdempotencyConflict(
            f"the idempotency key {key!r} belongs to {show_run_id(known.id)}, which was deleted: use a new key, or "
            "restore the run"
        )


def check_parameters(deployment: Row[Any], parameters: Mapping[str, Any]) -> None:
    """Refuse parameters that the flow does not declare, and values of the wrong type.

    Raises:
        InvalidInput: naming the parameter, the value and what is declared.
    """
    declared = deployment.parameter_schema.get("properties", {})
    for name in parameters:
        if name not in declared:
            near = nearest_names(name, declared)
            hint = f"did you mean {near[0]!r}?" if near else f"it declares {', '.join(sorted(declared)) or 'none'}"
            raise InvalidInput(f"the flow of {deployment.key} declares no parameter {name!r}; {hint}")
    plain, validator = _validator(deployment)
    unsettled = {name: value for name, value in parameters.items() if type(value) not in plain.get(name, ())}
    for error in validator.iter_errors(unsettled) if unsettled or not plain else ():
        name = str(error.path[0]) if error.path else "parameters"
        raise InvalidInput(f"the parameter {name}={error.instance!r} of {deployment.key}: {error.message}")


def _validator(deployment: Row[Any]) -> tuple[Mapping[str, frozenset[type]], Any]:
    """Return what checks values against the parameters of a deployment; kept until it is registered anew.

    It comes with the types of Python that settle it: whatever value of them a parameter has, it is valid.
    """
    from jsonschema import Draft202012Validator

    kept = _validators.get(deployment.id)
    if kept is None or kept[0] != deployment.registered_at:
        schema = {**deployment.parameter_schema, "required": []}
        made = _settling_types(schema), Draft202012Validator(schema)
        kept = _validators[deployment.id] = (deployment.registered_at, made)
    return kept[1]


def _settling_types(schema: Mapping[str, Any]) -> dict[str, frozenset[type]]:
    """Return for each parameter of which nothing but its type is asked what types of Python are always of it."""
    if not schema.keys() <= _SAYS_NOTHING | {"type", "properties", "required", "definitions", "$defs"}:
        return {}  # it says something about several parameters at once, perhaps
    return {
        name: _TYPES_OF[declared["type"]]
        for name, declared in schema.get("properties", {}).items()
        if declared.keys() <= _SAYS_NOTHING | {"type"} and isinstance(declared.get("type"), str)
        if declared["type"] in _TYPES_OF
    }


def _sorted(value: Any) -> Any:
    """Return JSON with its keys in order: the order in which parameters were written says nothing."""
    if isinstance(value, dict):
        return {key: _sorted(value[key]) for key in sorted(value)}
    if isinstance(value, list):
        return [_sorted(item) for item in value]
    return value
