"""What a trigger asks of Freshline: the parameters that Freshline adds to every tracked flow."""

from collections.abc import Mapping
from datetime import date
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from ..storage.errors import InvalidInput
from ..storage.words import IfReady, OnStale, Trigger, UpdateMode

DEFAULT_ON_STALE: Mapping[Trigger, OnStale] = {
    Trigger.MANUAL: OnStale.REFUSE,
    Trigger.SUBMITTED: OnStale.REFUSE,
    Trigger.SUBFLOW: OnStale.REFUSE,
    Trigger.SCHEDULE: OnStale.WAIT,
    Trigger.AUTOMATION: OnStale.WAIT,
    Trigger.CASCADE: OnStale.WAIT,
    Trigger.BACKFILL: OnStale.WAIT,
}
"""Somebody who looks at the screen gets an answer; a machine waits."""


_MAX_KEY = 250
HIDDEN = "********"
"""What is recorded in the place of a secret parameter's value."""


class RunRequest(BaseModel):
    """The four parameters; each may be left to the deployment's defaults."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    update_mode: UpdateMode = UpdateMode.INCREMENTAL
    """Only what is new, or everything."""
    if_ready: IfReady | None = None
    """What to do when the deployment is ready already; null: the deployment's default, else run."""
    on_stale: OnStale | None = None
    """What to do when an upstream is not ready; null: the deployment's default for the trigger."""
    data_as_of: date | None = None
    """Nothing later is read."""

    def to_json(self) -> dict[str, Any]:
        """Return what was asked for, ready for JSON; what was left to defaults is absent."""
        return self.model_dump(mode="json", exclude_none=True)


REQUEST_PARAMETERS = frozenset(RunRequest.model_fields)
"""The names that Freshline adds to a flow."""


def split_parameters(values: Mapping[str, Any], renamed: Mapping[str, str]) -> tuple[dict[str, Any], RunRequest]:
    """Return (the flow's own parameters, the request) out of a flow run's parameters.

    `renamed` maps the names that the flow uses for Freshline's parameters to ours.

    Raises:
        InvalidInput: a value is not one of those that the parameter takes.
    """
    names = renamed or {name: name for name in REQUEST_PARAMETERS}
    own = {name: value for name, value in values.items() if name not in names}
    return own, read_request({names[name]: value for name, value in values.items() if name in names})


def join_parameters(own: Mapping[str, Any], request: Mapping[str, Any], renamed: Mapping[str, str]) -> dict[str, Any]:
    """Return a flow run's parameters: the other way round."""
    shown = {ours: name for name, ours in renamed.items()}
    return {**own, **{shown.get(name, name): value for name, value in request.items()}}


def read_request(values: Mapping[str, Any]) -> RunRequest:
    """Return the request in these values; other names among them are left alone.

    Raises:
        InvalidInput: a value is not one of those that the parameter takes.
    """
    given = {name: value for name, value in values.items() if name in REQUEST_PARAMETERS and value is not None}
    try:
        return RunRequest.model_validate(given)
    except ValidationError as error:
        first = error.errors()[0]
        raise InvalidInput(f"{first['loc'][0]}={first['input']!r}: {first['msg']}") from None


def check_key(key: str | None) -> None:
    """Refuse an idempotency key that is none: an empty one comes from a variable that was never set.

    Raises:
        InvalidInput: it is empty or blank, too long, or not printable.
    """
    if key is not None and not (key.strip() and len(key) <= _MAX_KEY and key.isprintable()):
        raise InvalidInput(
            f"the idempotency key {key[:80]!r} must have 1 to {_MAX_KEY} printable characters; leave it out for a run "
            "of its own"
        )


def resolve_if_ready(request: RunRequest, trigger: Trigger, declared: Mapping[str, str] | str | None) -> RunRequest:
    """Return the request with `if_ready` as asked, else as the deployment declares for the trigger, else run.

    What was registered by an earlier release is one word for every trigger.
    """
    if request.if_ready is not None:
        return request
    word = declared.get(trigger) if isinstance(declared, Mapping) else declared
    return request.model_copy(update={"if_ready": IfReady(word or IfReady.RUN)})


def on_stale_for(request: RunRequest, trigger: Trigger, declared: Mapping[str, str]) -> OnStale:
    """Return what the gate does: as asked, else as the deployment declares for the trigger, else the default."""
    if request.on_stale is not None:
        return request.on_stale
    return OnStale(declared[trigger]) if trigger in declared else DEFAULT_ON_STALE[trigger]
