"""Questions: status, runs, show, lineage, explain."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

import click

from ...storage.errors import NotFound
from ...storage.ids import show_run_id
from .output import console, inputs_table, json_option, print_json, reasons_tree, seconds_of, table
from .output import show as show_value

if TYPE_CHECKING:
    from ..models import RunUsage, Step
    from ..queries import Queries


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
        (row.key, row.freshness, row.activity, row.version, row.data_end, row.last_run_at, row.why) for row in rows
    )
    console().print(table("Deployments", columns, cells))


@click.command()
@click.argument("deployment", required=False)
@click.option("--limit", default=20, show_default=True, type=click.IntRange(1, 500), help="How many.")
@json_option
def runs(*, deployment: str | None, limit: int, as_json: bool) -> None:
    """List runs, newest first; of one DEPLOYMENT, such as backtest/book, or of all."""
    found = _queries().runs(deployment=deployment, limit=limit)
    if as_json:
        print_json([{"deployment": key, **run.model_dump()} for key, run in found])
        return
    columns = ("run", "deployment", "type", "status", "stop reason", "trigger", "created", "took")
    rows = (
        (
            show_run_id(run.id),
            key,
            run.type,
            run.status,
            run.stop_reason,
            run.trigger,
            run.created_at,
            seconds_of(run),
        )
        for key, run in found
    )
    console().print(table("Runs", columns, rows))


@click.command()
@click.argument("run")
@json_option
def show(*, run: str, as_json: bool) -> None:
    """Show one RUN: metrics, inputs, steps, artifacts, events."""
    queries = _queries()
    report = queries.report(run)
    log = queries.events(run)
    if as_json:
        print_json({"report": report, "events": [{"seq": seq, "event": event} for seq, event in log]})
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
    out.print(inputs_table("Inputs, down to the sources", report.inputs))
    if report.steps:
        columns = ("step", "status", "attempt", "started", "took", "counters", "message")
        out.print(table(_steps_title(report.usage), columns, (_step_cells(step) for step in report.steps)))
    artifacts = ((item.name, item.kind, item.rows, item.size_bytes, item.digest[:12]) for item in report.artifacts)
    out.print(table("Artifacts", ("name", "kind", "rows", "bytes", "digest"), artifacts))
    out.print(table("Events", ("#", "kind", "facts"), ((seq, event.kind, event.payload()) for seq, event in log)))


def _steps_title(usage: "RunUsage") -> str:
    failed = f", {usage.num_failed_steps} failed" if usage.num_failed_steps else ""
    return f"Steps: {usage.num_steps}{failed}, {usage.step_ns / 1e9:.1f} s together"


def _step_cells(step: "Step") -> tuple[object, ...]:
    took = f"{step.duration_ns / 1e9:.1f} s" if step.duration_ns is not None else None
    return step.name, step.status, step.attempt, step.started_at, took, _pairs(step.counters), step.message


def _pairs(counters: Mapping[str, float]) -> str | None:
    return ", ".join(f"{name} {show_value(value)}" for name, value in sorted(counters.items())) or None


@click.command()
@click.argument("version")
@click.option("--direct", is_flag=True, help="Only what was read directly.")
@json_option
def lineage(*, version: str, direct: bool, as_json: bool) -> None:
    """Show what went into a VERSION (backtest/book, or backtest/book@v2), down to the sources."""
    inputs = _queries().inputs(version, recursive=not direct)
    if as_json:
        print_json(inputs)
        return
    console().print(inputs_table(f"What went into {version}", inputs))


@click.command()
@click.argument("subject")
@json_option
def explain(*, subject: str, as_json: bool) -> None:
    """Say why SUBJECT is as it is: a deployment (backtest/book) or a run (run-…)."""
    queries = _queries()
    if "/" in subject:
        explanation = queries.explain(subject)
        if as_json:
            print_json(explanation)
        else:
            console().print(reasons_tree(explanation))
        return
    run = queries.report(subject).run
    if run.decision is None:
        raise NotFound("decision of the gate on", show_run_id(run.id))
    if as_json:
        print_json({"status": run.status, "stop_reason": run.stop_reason, "decision": run.decision})
        return
    out = console()
    out.print(f"{show_run_id(run.id)} is {run.status} ({run.stop_reason or 'under way'}): {run.decision['reason']}")
    columns = ("role", "deployment", "freshness", "version", "data until", "reason")
    keys = ("role", "deployment", "freshness", "version", "data_end", "reason")
    rows = ([upstream[key] for key in keys] for upstream in run.decision["upstreams"])
    out.print(table("What the gate saw", columns, rows))
