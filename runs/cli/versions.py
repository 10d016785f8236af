"""Versions of a deployment and what people say of them: versions, alias, label, withdraw, restore."""

import getpass
from typing import TYPE_CHECKING, Any

import click

from ...lineage.models import ActKind
from ...storage.errors import NotFound
from ...storage.ids import show_run_id
from .completing import complete_deployment
from .output import changed_columns, console, json_option, print_json, say, table

if TYPE_CHECKING:
    from ...lineage.history import VersionRecord
    from ...lineage.withdrawal import Judged
    from ..curation import Curation

_NO_VERSION = 0
_MOST_SHOWN = 50
"""Deployments whose change is printed: a withdrawal may reach a hundred thousand."""

reason_option = click.option("--reason", default="", help="Why: it is recorded.")
expected_option = click.option(
    "--expected",
    type=click.IntRange(min=1),
    metavar="NUMBER",
    help="Only if the alias names the version of this number now.",
)


def _curation() -> "Curation":
    from ..interface import curation

    return curation()


@click.command()
@click.argument("subject", shell_complete=complete_deployment)
@click.option("--limit", default=20, show_default=True, type=click.IntRange(1, 500), help="How many.")
@json_option
def versions(*, subject: str, limit: int, as_json: bool) -> None:
    """List the versions of a deployment, newest first; or show one.

    SUBJECT is a deployment (training/alpha), or a version (training/alpha@v3, @v1.2.3 or @champion).
    """
    if "@" in subject:
        _show_one(subject, as_json=as_json)
        return
    found = _curation().versions(subject, limit=limit)
    if as_json:
        print_json(list(found))
        return
    columns = ("version", "label", "aliases", "rows", "bytes", "data", "published", "digest", "state")
    console().print(table(f"Versions of {subject}", columns, (_cells(one) for one in found)))


def _show_one(reference: str, *, as_json: bool) -> None:
    found = _curation().version(reference)
    if as_json:
        print_json(found)
        return
    one, out = found.version, console()
    facts = {
        "label": one.label,
        "aliases": ", ".join(one.aliases) or None,
        "state": _state(one),
        "published": one.created_at,
        "by": show_run_id(one.run_id),
        "appended to": f"{one.key}@v{one.base}" if one.base is not None else None,
        "rows": one.rows,
        "bytes": one.size_bytes,
        "data": _data(one),
        "digest": one.digest,
    }
    out.print(table(one.reference, ("fact", "value"), facts.items()))
    columns = ((name, *column) for name, schema in (one.table_schema or {}).items() for column in schema)
    out.print(table("Columns", ("table", "column", "type"), columns))
    if one.schema_diff:
        out.print(changed_columns(one.schema_diff))
    acts = ((act.at, act.kind.value, act.actor, act.reason) for act in found.acts)
    out.print(table("What was done to it since", ("when", "what", "who", "why"), acts))


def _cells(one: "VersionRecord") -> tuple[Any, ...]:
    names = ", ".join(one.aliases) or None
    state = _state(one)
    return (
        f"v{one.number}", one.label, names, one.rows, one.size_bytes, _data(one), one.created_at, one.digest[:12], state
    )  # fmt: skip


def _data(one: "VersionRecord") -> str | None:
    return f"{one.data_start} - {one.data_end}" if one.data_end is not None else None


def _state(one: "VersionRecord") -> str | None:
    if one.withdrawn_at is not None:
        return f"withdrawn: {one.withdrawn_reason}"
    if one.removed_at is not None:
        return f"without data: {one.removed_reason}"
    return "current" if one.is_current else None


@click.group()
def alias() -> None:
    """Names that move from version to version, such as champion."""


@alias.command("set")
@click.argument("version", shell_complete=complete_deployment)
@click.argument("name")
@reason_option
@json_option
def set_new(*, version: str, name: str, reason: str, as_json: bool) -> None:
    """Give VERSION (training/alpha@v3, or training/alpha for the current one) an alias that is new: NAME.

    An alias that names another version is left alone: move it.
    """
    found = _curation().set_alias(version, name, expected=_NO_VERSION, actor=getpass.getuser(), reason=reason)
    _say_alias(found, name, as_json=as_json)


@alias.command()
@click.argument("version", shell_complete=complete_deployment)
@click.argument("name")
@expected_option
@reason_option
@json_option
def move(*, version: str, name: str, expected: int | None, reason: str, as_json: bool) -> None:
    """Let the alias NAME, which there is, name VERSION (training/alpha@v3) from now on."""
    curation = _curation()
    key = version.partition("@")[0]
    if expected is None:
        there = {one.name: one.number for one in curation.aliases(key)}
        if name not in there:
            known = ", ".join(sorted(there)) or "none"
            raise NotFound(f"alias of {key} (known: {known}; `freshline alias set` makes one)", name, known=there)
        expected = there[name]
    found = curation.set_alias(version, name, expected=expected, actor=getpass.getuser(), reason=reason)
    _say_alias(found, name, as_json=as_json)


@alias.command()
@click.argument("alias")
@expected_option
@reason_option
@json_option
def rm(*, alias: str, expected: int | None, reason: str, as_json: bool) -> None:
    """Remove an ALIAS, such as training/alpha@champion; its moves stay recorded."""
    number = _curation().remove_alias(alias, expected=expected, actor=getpass.getuser(), reason=reason)
    if as_json:
        print_json({"alias": alias, "number": number})
    else:
        say(f"{alias} is removed; it named v{number}")


@alias.command("list")
@click.argument("subject", shell_complete=complete_deployment)
@json_option
def list_all(*, subject: str, as_json: bool) -> None:
    """List the aliases of a deployment (training/alpha), or every move of one (training/alpha@champion)."""
    if "@" in subject:
        steps = _curation().alias_moves(subject)
        if as_json:
            print_json(steps)
            return
        rows = (
            (one.step, _version(one.from_number), _version(one.to_number), one.at, one.actor, one.reason)
            for one in steps
        )
        console().print(table(f"Moves of {subject}", ("#", "from", "to", "when", "who", "why"), rows))
        return
    found = _curation().aliases(subject)
    if as_json:
        print_json(found)
        return
    state = {True: "withdrawn", False: None}
    cells = (
        (one.name, _version(one.number), state[one.is_withdrawn], one.moved_at, one.moved_by, one.reason)
        for one in found
    )
    console().print(table(f"Aliases of {subject}", ("alias", "version", "state", "when", "who", "why"), cells))


@click.command()
@click.argument("version", shell_complete=complete_deployment)
@click.argument("label")
@reason_option
@json_option
def label(*, version: str, label: str, reason: str, as_json: bool) -> None:
    """Give VERSION (training/alpha@v3) a LABEL such as v1.2.3: once, and for good."""
    found = _curation().label(version, label, actor=getpass.getuser(), reason=reason)
    if as_json:
        print_json(found)
    else:
        say(f"{found.reference} is {found.key}@{label}")


@click.command()
@click.argument("version", shell_complete=complete_deployment)
@click.option("--reason", required=True, help="Why: it is recorded, and shown to whoever read the version.")
@json_option
def withdraw(*, version: str, reason: str, as_json: bool) -> None:
    """Declare VERSION (refresh/prices@v3) wrong: the newest that holds is current, and whoever read it is stale."""
    _say_judged(_curation().withdraw(version, reason, actor=getpass.getuser()), version, as_json=as_json)


@click.command()
@click.argument("version", shell_complete=complete_deployment)
@click.option("--reason", required=True, help="Why: it is recorded.")
@json_option
def restore(*, version: str, reason: str, as_json: bool) -> None:
    """Take the withdrawal of VERSION (refresh/prices@v3) back."""
    _say_judged(_curation().restore(version, reason, actor=getpass.getuser()), version, as_json=as_json)


def _say_alias(found: "VersionRecord", name: str, *, as_json: bool) -> None:
    if as_json:
        print_json(found)
    else:
        say(f"{found.key}@{name} is {found.reference}")


def _say_judged(judged: "Judged", version: str, *, as_json: bool) -> None:
    if as_json:
        print_json(judged)
        return
    key = version.partition("@")[0]
    current = f"{key}@v{judged.current} is current" if judged.current is not None else f"{key} has no version left"
    out = console()
    is_withdrawn = judged.verdict == ActKind.WITHDRAWN
    was = f"is {judged.verdict}" if judged.is_new else "was withdrawn before" if is_withdrawn else "was not withdrawn"
    out.print(f"{key}@v{judged.number} {was}; {current}.")
    if judged.aliases and is_withdrawn:
        out.print(f"Aliases that name it: {', '.join(judged.aliases)}. No run reads a withdrawn version by its alias.")
    rows = ((change.key, change.before, change.after) for change in judged.changes[:_MOST_SHOWN])
    more = len(judged.changes) - _MOST_SHOWN
    title = f"What changed; {more:,} more are in the JSON" if more > 0 else "What changed"
    out.print(table(title, ("deployment", "before", "now"), rows))


def _version(number: int | None) -> str | None:
    return f"v{number}" if number is not None else None
