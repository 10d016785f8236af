"""`freshline artifacts`: what a run or a version holds, and how to get it."""

import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import date, datetime
from typing import TYPE_CHECKING, Any

import click

from ...storage.errors import NotFound
from .completing import complete_subject
from .output import console, json_option, print_json, say, table
from .progress import busy

if TYPE_CHECKING:
    from ...storage.artifacts import ArtifactRecord


@click.command()
@click.argument("subject", shell_complete=complete_subject)
@click.argument("name", required=False)
@click.option("--to", metavar="PATH", help="Write NAME there: a file, a folder, or a table as one Parquet file.")
@click.option("--data-date", type=click.DateTime(["%Y-%m-%d"]), help="The version for this data date.")
@click.option("--at", metavar="MOMENT", help="The version of this moment, such as 2026-11-23T08:00.")
@json_option
def artifacts(
    *, subject: str, name: str | None, to: str | None, data_date: datetime | None, at: str | None, as_json: bool
) -> None:
    """List the artifacts of SUBJECT, or show the one called NAME, or write it to a path.

    SUBJECT is a version (training/alpha, training/alpha@v3, @v1.2.0, @champion), or a run that has ended (run-…), whose
    unpublished artifacts are there too.
    """
    from ...storage import reading

    if to is not None and name is None:
        raise click.UsageError("--to PATH needs the NAME of the artifact to write there")
    chosen: dict[str, Any] = {"data_date": _day(data_date), "at": at}
    with _warnings_as_lines():
        if to is not None and name is not None:
            with busy(f"writing {to}"):
                path = reading.download(subject, name, to, **chosen)
            if as_json:
                print_json({"name": name, "path": str(path.absolute())})
            else:
                say(f"{subject} {name} is at {path}")
            return
        found = reading.contents(subject, **chosen)
    if name is None:
        _list(subject, found, as_json=as_json)
    else:
        _show(subject, name, found, as_json=as_json)


def _list(subject: str, found: Iterable["ArtifactRecord"], *, as_json: bool) -> None:
    if as_json:
        print_json([_facts(one) for one in found])
        return
    columns = ("name", "kind", "media type", "rows", "bytes", "published", "digest")
    rows = (
        (one.name, one.kind, one.media_type, one.rows, one.size_bytes, "yes" if one.publish else "no", one.digest[:12])
        for one in found
    )
    console().print(table(f"Artifacts of {subject}", columns, rows))


def _show(subject: str, name: str, found: Iterable["ArtifactRecord"], *, as_json: bool) -> None:
    known = {one.name: one for one in found}
    if name not in known:
        raise NotFound(f"artifact of {subject} (it has {', '.join(known) or 'none'}) called", name, known=known)
    facts = _facts(known[name])
    parts = _parts(known[name])
    if as_json:
        print_json({**facts, "objects": parts})
        return
    out = console()
    out.print(table(f"{name} of {subject}", ("fact", "value"), facts.items()))
    if known[name].kind != "file":
        columns = ("path", "bytes", "sha256") if known[name].kind == "folder" else ("object", "bytes", "sha256", "rows")
        out.print(table("What it is made of", columns, ([*part.values()][: len(columns)] for part in parts)))


def _facts(one: "ArtifactRecord") -> dict[str, Any]:
    return {
        "name": one.name,
        "kind": one.kind.value,
        "media_type": one.media_type,
        "rows": one.rows,
        "size_bytes": one.size_bytes,
        "publish": one.publish,
        "digest": one.digest,
        "root": one.stored.root,
        "first_data_date": one.first_data_date,
        "last_data_date": one.last_data_date,
    }


def _parts(one: "ArtifactRecord") -> list[dict[str, Any]]:
    return [
        {
            "path": getattr(part, "path", part.name),
            "size_bytes": part.size_bytes,
            "sha256": part.sha256,
            "rows": getattr(part, "rows", None),
            "is_executable": getattr(part, "is_executable", None),
        }
        for part in one.objects
    ]


def _day(moment: datetime | None) -> date | None:
    return moment.date() if moment is not None else None


@contextmanager
def _warnings_as_lines() -> Iterator[None]:
    """Print what a reader must know of the version as one line, without the place in the code."""
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        yield
    for warning in said:
        say(f"Warning: {warning.message}", err=True)
