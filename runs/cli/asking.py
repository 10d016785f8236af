"""Questions about runs and deployments as they are: status, show."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

import click

from ...storage.ids import show_run_id
from .completing import complete_run
from .output import changed_columns, console, inputs_table, json_option, print_json, seconds_of, table, told
from .output import show as show_value

if TYPE_CHECKING:
    from ..models import RunUsage, Step
    from ..queries import DeploymentStatus, Queries


def _queries() -> "Queries":
    from ..interface import queries

    return queries()


@click.command()
@json_option
def status(*, as_json: bool) -> None:
    """Show every deployment with its freshness."""
    rows = _queries().status()
    if as_json:
        print_json(rows)
        return
    columns = ("deployment", "freshness", "activity", "version", "data until", "last run", "why")
    cells = (
        (row.key, row.freshness, row.activity, row.version, row.data_end, row.last_run_at, _why(row)) for row in rows
    )
    console().print(table("Deployments", columns, cells, lesser=("last run", "data until", "activity")))


@click.command()
@click.argument("run", shell_complete=complete_run)
@json_option
def show(*, run: str, as_json: bool) -> None:
    """Show one RUN: metrics, inputs, steps, artifacts, events."""
    from ..event_log import EventLog

    queries = _queries()
    report = queries.report(run)
    log = EventLog(queries.database, tenant_id=queries.tenant_id).read(run)
    if as_json:
        print_json({"report": report, "events": log})
        return
    out = console()
    record = report.run
    facts = {
        "deployment": report.deployment,
        "type": record.type,
        "status": record.status,
        "stop reason": record.stop_reason,
        "trigger": f"{record.trigger} by {record.actor}",
        "version": f"{report.deployment}@v{report.version}" if report.version else None,
        "data as of": record.data_as_of,
        "created": record.created_at,
        "took": seconds_of(record),
        "gate": (record.decision or {}).get("reason"),
        "error": record.error_message,
        "counters": _pairs(report.usage.counters),
        **{name.replace("_", " "): value for name, value in report.detail.items() if value is not None},
    }
    out.print(table(show_run_id(record.id), ("fact", "value"), facts.items()))
    units = {name: convention.get("unit") for name, convention in report.conventions.items()}
    metrics = ((name, value, units.get(name)) for name, value in report.metrics.items())
    out.print(table("Metrics", ("name", "value", "unit"), metrics))
    reads = ((one.role, one.key, _number(one.pinned), _number(one.read), one.agreement) for one in report.reads)
    out.print(table("Pinned and read", ("role", "deployment", "pinned", "read", "agreement"), reads))
    out.print(inputs_table("Inputs, down to the sources", report.inputs))
    if report.steps:
        columns = ("step", "status", "attempt", "started", "took", "counters", "message")
        out.print(table(_steps_title(report.usage), columns, (_step_cells(step) for step in report.steps)))
    artifacts = ((item.name, item.kind, item.rows, item.size_bytes, item.digest[:12]) for item in report.artifacts)
    out.print(table("Artifacts", ("name", "kind", "rows", "bytes", "digest"), artifacts))
    if report.schema_diff:
        out.print(changed_columns(report.schema_diff))
    out.print(table("Events", ("#", "kind", "facts"), ((one.seq, one.kind, told(one.facts)) for one in log)))


def _why(row: "DeploymentStatus") -> str:
    return row.why if row.auto_refresh is None else f"{row.why}; {row.auto_refresh}"


def _number(version: int | None) -> str | None:
    return f"v{version}" if version is not None else None


def _steps_title(usage: "RunUsage") -> str:
    failed = f", {usage.num_failed_steps} failed" if usage.num_failed_steps else ""
    return f"Steps: {usage.num_steps}{failed}, {usage.step_ns / 1e9:.1f} s together"


def _step_cells(step: "Step") -> tuple[object, ...]:
    took = f"{step.duration_ns / 1e9:.1f} s" if step.duration_ns is not None else None
    return step.name, step.status, step.attempt, step.started_at, took, _pairs(step.counters), step.message


def _pairs(counters: Mapping[str, float]) -> str | None:
    return ", ".join(f"{name} {show_value(value)}" for name, value in sorted(counters.items())) or None
