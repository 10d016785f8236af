"""Questions that follow the graph, or set runs side by side: lineage, explain, compare."""

import dataclasses
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any

import click

from ...storage.errors import InvalidInput
from ...storage.ids import show_run_id
from .completing import complete_run, complete_subject
from .output import console, inputs_table, json_option, print_json, reasons_tree, table

if TYPE_CHECKING:
    from uuid import UUID

    from rich.console import Console

    from ...lineage.questions import BuiltVersion, LinkedDeployment
    from ...lineage.reasons import Explanation, Reason
    from ..explaining import RunExplanation
    from ..queries import Queries

_LIMIT = 500


def _queries() -> "Queries":
    from ..interface import queries

    return queries()


@click.command()
@click.argument("subject", shell_complete=complete_subject)
@click.option("--consumers", "question", flag_value="consumers", help="The versions that read it directly.")
@click.option("--impact", "question", flag_value="impact", help="Everything that was built from it.")
@click.option("--upstream", "question", flag_value="upstream", help="The deployments that a deployment reads.")
@click.option("--downstream", "question", flag_value="downstream", help="The deployments that read a deployment.")
@click.option("--direct", is_flag=True, help="Only what was read directly.")
@click.option("--limit", default=_LIMIT, show_default=True, type=click.IntRange(1), help="Rows of the table.")
@json_option
def lineage(*, subject: str, question: str | None, direct: bool, limit: int, as_json: bool) -> None:
    """Show what went into SUBJECT, a version (backtest/book, backtest/book@v2) or a run, down to the sources."""
    if direct and question in ("consumers", "impact"):
        raise click.UsageError(
            "--direct does not go with --consumers or --impact: --consumers is what read it directly"
        )
    queries = _queries()
    match question:
        case "consumers":
            rows: Sequence[Any] = queries.consumers(subject)
            title = f"What read {subject}"
        case "impact":
            rows = queries.impact(subject)
            current = sum(row.is_current for row in rows)
            title = f"What was built from {subject}: {len(rows):,}, of which {current:,} are current"
        case "upstream":
            rows, title = queries.upstream(subject, recursive=not direct), f"What {subject} reads"
        case "downstream":
            rows, title = queries.downstream(subject, recursive=not direct), f"What reads {subject}"
        case _:
            rows, title = queries.inputs(subject, recursive=not direct), f"What went into {subject}"
    if as_json:
        print_json(rows)
        return
    made: dict[str, Callable[[str, Sequence[Any]], Any]] = {
        "consumers": _built_table,
        "impact": _built_table,
        "upstream": _linked_table,
        "downstream": _linked_table,
    }
    out = console()
    out.print(made.get(question or "", inputs_table)(title, rows[:limit]))
    if len(rows) > limit:
        out.print(f"{len(rows) - limit:,} rows more: use --limit, or --json for all of them")


@click.command()
@click.argument("subject", shell_complete=complete_subject)
@json_option
def explain(*, subject: str, as_json: bool) -> None:
    """Say why SUBJECT is as it is: a deployment (backtest/book) or a run (run-…)."""
    if "/" in subject:
        explanation = _queries().explain(subject)
        if as_json:
            print_json(_as_json(explanation))
        else:
            _tell_deployment(explanation)
        return
    explained = _queries().explain_run(subject)
    if as_json:
        print_json({"sentence": explained.sentence(), **_fields(explained)})
    else:
        _tell_run(explained)


@click.command()
@click.argument("runs", nargs=-1, metavar="RUN RUN…", shell_complete=complete_run)
@click.option("--all", "with_equal", is_flag=True, help="Show what is equal, too.")
@json_option
def compare(*, runs: tuple[str, ...], with_equal: bool, as_json: bool) -> None:
    """Say what tells RUNs apart: request, inputs, code, environment, metrics, schema, outputs.

    More than two are set side by side, each against the first one.
    """
    if len(runs) < 2:
        raise InvalidInput("say which runs: two of them, or more")
    if len(runs) > 2:
        _compare_many(runs, with_equal=with_equal, as_json=as_json)
        return
    comparison = _queries().compare(*runs)
    facts = comparison.facts if with_equal else comparison.differences
    if as_json:
        print_json({"sentence": comparison.sentence(), **_fields(comparison), "facts": facts})
        return
    out = console()
    out.print(comparison.sentence())
    if facts:
        _legend(out, (comparison.run_a, comparison.run_b), (comparison.deployment_a, comparison.deployment_b))
        columns = ("section", "name", "1", "2", "change", "note")
        cells = ((fact.section, fact.name, fact.a, fact.b, fact.change, fact.note) for fact in facts)
        out.print(table("All facts" if with_equal else "What differs", columns, cells))


diff = compare
"""The same command: other tools call it so."""


def _compare_many(runs: Sequence[str], *, with_equal: bool, as_json: bool) -> None:
    found = _queries().compare_all(runs)
    facts = found.facts if with_equal else found.differences
    if as_json:
        print_json({"sentence": found.sentence(), **_fields(found), "facts": facts})
        return
    out = console()
    out.print(found.sentence())
    if facts:
        _legend(out, found.runs, found.deployments)
        names = (str(at) for at in range(1, len(found.runs) + 1))
        cells = ((fact.section, fact.name, *fact.values) for fact in facts)
        out.print(table("All facts" if with_equal else "What differs", ("section", "name", *names), cells))


def _legend(out: "Console", runs: Sequence["UUID"], deployments: Sequence[str]) -> None:
    for at, (run_id, key) in enumerate(zip(runs, deployments, strict=True), start=1):
        out.print(f"{at}: {show_run_id(run_id)} of {key}")


def _built_table(title: str, rows: Iterable["BuiltVersion"]) -> Any:
    columns = ("depth", "role", "version", "data until", "produced by", "current", "withdrawn")
    cells = (
        (
            row.depth,
            row.role,
            f"{row.key}@v{row.number}",
            row.data_end,
            show_run_id(row.run_id),
            "yes" if row.is_current else "no",
            "yes" if row.is_withdrawn else "no",
        )
        for row in rows
    )
    return table(title, columns, cells, lesser=("produced by", "withdrawn"))


def _linked_table(title: str, rows: Iterable["LinkedDeployment"]) -> Any:
    columns = ("depth", "role", "kind", "deployment", "freshness", "version", "data until", "edge")
    cells = (
        (
            row.depth,
            row.role,
            row.kind,
            f"{row.key} (retired)" if row.is_retired else row.key,
            row.freshness.value,
            row.number,
            row.data_end,
            "observed" if row.is_observed else "declared",
        )
        for row in rows
    )
    return table(title, columns, cells, lesser=("edge", "kind", "data until", "version"))


def _tell_deployment(explanation: "Explanation") -> None:
    out = console()
    out.print(reasons_tree(explanation))
    if explanation.auto_refresh is not None:
        out.print(explanation.auto_refresh)
    if not explanation.origins:
        return
    if explanation.num_links > len(explanation.chain):
        out.print(explanation.sentence())
    stale = explanation.num_stale_upstream
    behind = f", through {stale:,} stale upstream{'' if stale == 1 else 's'}" if stale else ""
    rows = (
        (origin.sentence(), show_run_id(origin.run_id) if origin.run_id else None, origin.since)
        for origin in explanation.origins
    )
    out.print(table(f"What started it{behind}", ("what", "run", "since"), rows))
    if explanation.num_origins > len(explanation.origins):
        out.print(f"and {explanation.num_origins - len(explanation.origins):,} more")


def _tell_run(explained: "RunExplanation") -> None:
    out = console()
    out.print(explained.sentence())
    if explained.upstreams:
        columns = ("role", "deployment", "freshness", "version", "data until", "reason")
        keys = ("role", "deployment", "freshness", "version", "data_end", "reason")
        rows = ([upstream.get(key) for key in keys] for upstream in explained.upstreams)
        out.print(table("What the gate saw", columns, rows))
    if explained.waits_for:
        cells = (
            (one.deployment, show_run_id(one.run_id) if one.run_id else None, one.status) for one in explained.waits_for
        )
        out.print(table("What it waits for", ("deployment", "run that refreshes it", "status"), cells))
    moments = ((moment.seq, moment.at, moment.actor, moment.what) for moment in explained.moments)
    out.print(table("What its log says of it", ("#", "at", "who", "what"), moments))


def _as_json(explanation: "Explanation") -> dict[str, Any]:
    """Return the explanation flat: what stands behind a deployment comes once, under its key."""
    behind = {reason.upstream: reason.because for _, reason in explanation.lines() if reason.because}
    return {
        "sentence": explanation.sentence(),
        **_fields(explanation),
        "reasons": [_without_because(reason) for reason in explanation.reasons],
        "chain": [_without_because(reason) for reason in explanation.chain],
        "behind": {key: [_without_because(reason) for reason in found] for key, found in behind.items()},
    }


def _without_because(reason: "Reason") -> dict[str, Any]:
    told = {name: value for name, value in _fields(reason).items() if name != "because"}
    return {"sentence": reason.sentence(), **told}


def _fields(record: Any) -> dict[str, Any]:
    """Return a record's own fields; what is in them is not followed."""
    return {field.name: getattr(record, field.name) for field in dataclasses.fields(record)}
