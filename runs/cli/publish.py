"""`freshline publish`: give a version to what Prefect does not run."""

import getpass
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import TYPE_CHECKING

import click

from ...storage.ids import show_run_id
from .output import json_option, print_json, say

if TYPE_CHECKING:
    from ...storage.external import Watch


@click.command()
@click.argument("name")
@click.option("--uri", required=True, help="Where the data lie: any fsspec URL or a local path; a file or a folder.")
@click.option(
    "--data-date", type=click.DateTime(["%Y-%m-%d"]), help="The last day that they speak of; a column may tell."
)
@click.option("--date-column", default="date", show_default=True, help="The column of dates, if the table has one.")
@click.option("--no-date-column", is_flag=True, help="No column says which day a row speaks of.")
@click.option("--digest", help="State what stands for the content of what cannot be read from here.")
@click.option("--copy", is_flag=True, help="Keep a copy in the store; otherwise it is referenced where it is.")
@click.option("--allow-older", is_flag=True, help="Let it take the place of a version of a later day.")
@click.option("--key", "--idempotency-key", "key", help="The same key gives the same publication.")
@json_option
def publish(
    *,
    name: str,
    uri: str,
    data_date: datetime | None,
    date_column: str,
    no_date_column: bool,
    digest: str | None,
    copy: bool,
    allow_older: bool,
    key: str | None,
    as_json: bool,
) -> None:
    """Publish a version of the external resource NAME, which prefect.yaml lists under `resources:`."""
    from .. import interface

    with _progress() as watch:
        published = interface.publish(
            name,
            uri=uri,
            data_date=data_date.date() if data_date is not None else None,
            date_column=None if no_date_column else date_column,
            digest=digest,
            copy=copy,
            allow_older=allow_older,
            idempotency_key=key,
            actor=getpass.getuser(),
            watch=watch,
        )
    if as_json:
        print_json(published)
        return
    rows = f"{published.rows:,} rows, " if published.rows is not None else ""
    outputs = published.run.outputs or {}
    digest_said = f"digest {published.digest[:12]} ({outputs.get('digest')})"
    say(
        f"{published.deployment}@v{published.version}: {rows}until {published.data_date}, {digest_said}, "
        f"{outputs.get('kept')} {outputs.get('uri')}, by {show_run_id(published.run.id)}"
    )
    if not published.is_current:
        say("It is not the current version: a later publication is.")


@contextmanager
def _progress() -> Iterator["Watch | None"]:
    """Show how much has been read, where somebody looks."""
    if not sys.stderr.isatty():
        yield None
        return
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn

    columns = (TextColumn("reading"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("reading", total=None)
        yield lambda done, total: progress.update(task, completed=done, total=total)
