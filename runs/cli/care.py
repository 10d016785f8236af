"""Care of what is stored: gc, verify."""

from datetime import timedelta
from typing import TYPE_CHECKING

import click

from ...storage.durations import as_written
from ...storage.errors import ArtifactError, InvalidInput
from ...storage.ids import show_run_id
from . import EXIT_FAILED
from .completing import complete_subject
from .durations import share, span
from .output import console, json_option, print_json, say, table
from .progress import progress

if TYPE_CHECKING:
    from ..care.verifying import Verified


@click.command()
@click.option(
    "--grace",
    metavar="SPAN",
    callback=span,
    help="How long garbage is kept, such as 7d; FRESHLINE_GC_GRACE_S by default.",
)
@click.option("--dry-run", is_flag=True, help="Say what would be done, and do nothing.")
@json_option
def gc(*, grace: timedelta | None, dry_run: bool, as_json: bool) -> None:
    """Erase runs that were deleted, and delete objects that nothing needs, when the grace period has passed.

    What is found now is marked; it goes in a later call. Safe at any time, and several times at once.
    """
    from .. import interface

    if grace is None:
        from ...storage.settings import load_settings

        grace = timedelta(seconds=load_settings().gc_grace_s)
    collector = interface.collector()
    if dry_run:
        preview = collector.preview(grace)
        if as_json:
            print_json({"is_done": False, "preview": preview})
            return
        facts = {
            "deleted runs to erase": preview.erasable,
            "objects to delete": preview.objects.due.objects,
            "their bytes": preview.objects.due.size_bytes,
            "objects to mark: no record knows them": preview.objects.unknown,
            "objects to mark: nothing needs them": preview.objects.unneeded,
            "objects marked before, still in their grace period": preview.objects.marked,
        }
        title = f"What garbage collection would do, grace {as_written(grace)}"
        console().print(table(title, ("what", "count"), facts.items()))
        return
    with progress() as show:
        collected = collector.collect(grace, watch=show)
    if as_json:
        print_json({"is_done": True, "collected": collected})
        return
    say(
        f"erased {collected.erased:,} deleted runs; deleted {collected.objects:,} objects, "
        f"{collected.size_bytes:,} bytes; marked {collected.adopted + collected.condemned:,} for later"
    )


@click.command()
@click.argument("reference", required=False, shell_complete=complete_subject)
@click.option("--all", "everything", is_flag=True, help="Every object that a record needs.")
@click.option("--quick", is_flag=True, help="Look only whether objects are there and have their size; read nothing.")
@click.option("--whole", is_flag=True, help="Also compute the digest of every table anew from its rows.")
@click.option(
    "--sample", metavar="SHARE", callback=share, default="100%", show_default=True, help="Which share of the objects."
)
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="Another seed, another sample.")
@click.option("--after", metavar="OBJECT", help="With --all: go on behind this object.")
@json_option
def verify(
    *,
    reference: str | None,
    everything: bool,
    quick: bool,
    whole: bool,
    sample: float,
    seed: int,
    after: str | None,
    as_json: bool,
) -> int:
    """Check that stored bytes are those that were written: of a version, of a run, or of all.

    Exit code 1: something is damaged; each damage is shown with the versions that it belongs to.
    """
    if (reference is None) != everything:
        raise InvalidInput("say what to verify: a version (refresh/prices@v3), a run (run-…), or --all; one of them")
    if quick and whole:
        raise InvalidInput("--quick reads nothing and --whole reads everything: leave one of them out")
    if after is not None and not everything:
        raise InvalidInput("--after goes with --all: the objects of one version are not that many")
    from .. import interface
    from ..care.verifying import How

    how = How(reads=not quick, digests=whole, share=sample, seed=seed)
    verifier = interface.verifier()
    with progress() as show:

        def watch(done: int, of: int, _name: str) -> None:
            show("verify", done, of)

        if reference is not None:
            found = verifier.verify(reference, how, watch=watch)
        else:
            known: list[Verified] = []
            try:
                found = verifier.verify_all(how, after=after, watch=watch, so_far=known.append)
            except (ArtifactError, KeyboardInterrupt):
                _print_cut_short(known[-1:])
                raise
    if as_json:
        print_json(found)
    else:
        _print_verified(found)
    return EXIT_FAILED if found.damaged else 0


def _print_cut_short(known: "list[Verified]") -> None:
    """Say on the error stream what was found before the end came, and where to go on: what is printed may be JSON."""
    for found in known:
        for one in found.damaged:
            say(f"damaged: {one.object} of {one.artifact} of {one.reference}: {one.fact}", err=True)
        say(f"verified {found.objects:,} objects; go on with --after {found.last}", err=True)


def _print_verified(found: "Verified") -> None:
    out = console()
    tables = f", {found.tables:,} tables by their digests" if found.tables else ""
    say(f"verified {found.objects:,} objects, {found.size_bytes:,} bytes{tables}; damaged: {len(found.damaged)}")
    if found.damaged:
        cells = (
            (one.reference, show_run_id(one.run_id), one.artifact, one.object or None, one.fact)
            for one in found.damaged
        )
        out.print(table("Damaged", ("version", "run", "artifact", "object", "what is wrong"), cells))
