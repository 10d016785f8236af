"""What is kept of a run: the columns of the tables, the facts of each run type, the events."""

from importlib import import_module
from typing import Any, get_args

import sqlalchemy as sa
from sqlmodel import AutoString, SQLModel

from freshline.runs import author_events, run_events
from freshline.runs import details as run_details
from freshline.runs.details import run_type
from freshline.storage.database import UtcDateTime

from .docstrings import described, in_a_cell
from .tables import table

_TYPES: list[tuple[Any, str]] = [
    (UtcDateTime, "time"),
    (sa.Uuid, "uuid"),
    (sa.Boolean, "boolean"),
    (sa.Integer, "integer"),
    (sa.Float, "float"),
    (sa.Date, "date"),
    (sa.JSON, "JSON"),
    (sa.LargeBinary, "bytes"),
    (sa.String, "text"),
    (AutoString, "text"),
]
_SEE = {
    "run.type": "[run types](words.md#deployment-kinds-and-run-types)",
    "run.trigger": "[triggers](words.md#triggers)",
    "run.request": "[what a trigger may ask](words.md#what-a-trigger-may-ask)",
    "run.status": "[run statuses](words.md#run-statuses)",
    "run.stop_reason": "[stop reasons](words.md#stop-reasons)",
    "run.decision": "[what the gate saw](../how-to/gate.md#what-the-gate-saw)",
    "run.replay_of": "[replay a run](../how-to/replay-a-run.md)",
    "run.deleted_at": "[delete a run](../how-to/keep-and-delete.md#delete-a-run)",
    "run.erased_at": "[for good](../how-to/keep-and-delete.md#for-good)",
    "step.status": "[step statuses](words.md#step-statuses)",
    "metric.convention": "[standard metrics](metrics.md)",
    "message_added": "[messages](record.md#messages)",
}
"""Where to read on."""


def columns(argument: str) -> str:
    """The columns of a table, without `run_id`; those that are named behind it, in that order, or all."""
    name, _, chosen = argument.partition(": ")
    model = next(item for item in _models() if item.__tablename__ == name)
    texts = {field.removesuffix("_"): text for field, text in described(model).items()}
    found = model.__table__.columns
    wanted = chosen.split() or [column.name for column in found if column.name != "run_id"]
    rows = []
    for column in (found[one] for one in wanted):
        kind = next(word for of, word in _TYPES if isinstance(column.type, of))
        rows.append(
            (f"`{column.name}`", kind + (", or null" if column.nullable else ""), _said(name, column.name, texts))
        )
    return table(("column", "type", "meaning"), rows)


def _models() -> list[Any]:
    for module in ("models", "author_models", "care.models", "points.models"):
        import_module(f"freshline.runs.{module}")
    return [mapper.class_ for mapper in SQLModel._sa_registry.mappers]


def _said(owner: str, name: str, texts: dict[str, str]) -> str:
    assert texts.get(name), f"{owner}.{name} has no text under it"
    key = f"{owner}.{name}"
    return in_a_cell(texts[name]) + (f"; see {_SEE[key]}" if key in _SEE else "")


def details(_: str) -> str:
    """The facts of each run type."""
    rows = [
        (f"`{run_type(kind)}`", ", ".join(f"`{name}`" for name in schema.model_fields))
        for kind, schema in run_details.SCHEMA_OF.items()
    ]
    return table(("type", "fields"), rows)


def events(of: str) -> str:
    """Every kind of event that Freshline records, or that a body may emit, with its fields."""
    by_a_body = get_args(author_events.RecordableEvent)
    every = get_args(get_args(run_events.Event)[0])
    chosen = by_a_body if of == "of a body" else [event for event in every if event not in by_a_body]
    return table(("kind", "fields", "meaning"), [_event(event) for event in chosen])


def _event(event: Any) -> tuple[str, str, str]:
    kind = event.model_fields["kind"].default
    fields = [name for name in event.model_fields if name != "kind"]
    texts = described(event)
    said = in_a_cell(event.__doc__)
    for name in fields:
        if texts[name]:
            said += f". `{name}`: {in_a_cell(texts[name])}"
    if kind in _SEE:
        said += f"; see {_SEE[kind]}"
    return f"`{kind}`", ", ".join(f"`{name}`" for name in fields), said
