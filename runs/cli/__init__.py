"""The command line `freshline`.

Exit codes: 0 done · 1 the run failed, or something is out of order · 2 the call cannot be understood (unknown name,
bad value, bad catalogue) · 3 the gate refused the run · 130 interrupted.

Commands live in modules that are imported when they are called, so that `freshline --help` starts at once.
"""

import sys
from importlib import import_module

import click

EXIT_FAILED = 1
EXIT_USAGE = 2
EXIT_REFUSED = 3
EXIT_INTERRUPTED = 130

_COMMANDS = {
    "alias": ("versions", "Name versions with aliases, such as champion."),
    "artifacts": ("artifacts", "List what a run or version holds, or download some of it."),
    "backfill": ("redo", "Run a deployment for a range of data dates."),
    "cancel": ("running", "Ask for the end of a run."),
    "compare": ("tracing", "Say what tells two runs apart."),
    "db": ("store", "Look after the database of records."),
    "delete": ("deletion", "Delete runs, or take that back."),
    "demo": ("demo", "Run the whole chain on real prices, on this machine."),
    "deploy": ("catalogue", "Check prefect.yaml, deploy it with Prefect and register it."),
    "doctor": ("doctor", "Try out the database, the object store and Prefect."),
    "expiring": ("expiring", "Show which versions cease to hold by a moment."),
    "explain": ("tracing", "Say why a deployment is stale, or why a run ended as it did."),
    "gc": ("care", "Collect garbage: erase what was deleted, delete what nothing needs."),
    "init": ("catalogue", "Add resource blocks to the prefect.yaml that you have."),
    "label": ("versions", "Give a version its label, such as v1.2.3."),
    "lineage": ("tracing", "Show what went into a version, or what was built from it."),
    "metrics": ("measuring", "Show a run's metrics, or what it logged over time."),
    "pause": ("running", "Ask a running run to pause."),
    "publish": ("publish", "Give a version to what Prefect does not run."),
    "reconcile": ("stack", "Dispatch and reconcile, without anything else."),
    "replay": ("redo", "Run again on what a run read, and compare."),
    "restore": ("versions", "Take the withdrawal of a version back."),
    "resume": ("running", "Let a paused run go on."),
    "retention": ("retention", "Let go the data that no rule keeps."),
    "runs": ("asking", "List runs, newest first."),
    "serve": ("serving", "Serve the REST API and the page, without anything else."),
    "show": ("asking", "Show one run: metrics, inputs, steps, artifacts, events."),
    "status": ("asking", "Show every deployment with its freshness."),
    "submit": ("running", "Run a deployment."),
    "up": ("stack", "Start everything on this machine: Prefect, a worker, dispatcher, reconciler, API and page."),
    "verify": ("care", "Check that what is stored is what was written."),
    "versions": ("versions", "List the versions of a deployment, or show one."),
    "withdraw": ("versions", "Declare a version wrong."),
}
"""Name -> (module, one line of help): the help needs no import."""


class _Lazy(click.Group):
    def list_commands(self, _ctx: click.Context) -> list[str]:
        return sorted(_COMMANDS)

    def get_command(self, _ctx: click.Context, name: str) -> click.Command | None:
        if name not in _COMMANDS:
            return None
        module, _ = _COMMANDS[name]
        command: click.Command = getattr(import_module(f".{module}", __name__), name)
        return command

    def format_commands(self, _ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, line) for name, (_, line) in sorted(_COMMANDS.items())])


@click.group(cls=_Lazy, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="freshline")
def cli() -> None:
    """Trustworthy Prefect deployments: fresh inputs, exact versions, one record per run."""


def main() -> None:
    """Run the command line and exit with its code; an error of ours is one line, never a traceback."""
    from ...storage.errors import FreshlineError, InvalidInput, NotFound, UpstreamNotReady

    try:
        code = cli.main(standalone_mode=False)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except (click.Abort, KeyboardInterrupt):
        click.echo("interrupted", err=True)
        sys.exit(EXIT_INTERRUPTED)
    except FreshlineError as error:
        click.echo(f"Error: {error}", err=True)
        if isinstance(error, UpstreamNotReady):
            sys.exit(EXIT_REFUSED)
        sys.exit(EXIT_USAGE if isinstance(error, InvalidInput | NotFound) else EXIT_FAILED)
    sys.exit(code if isinstance(code, int) else 0)
