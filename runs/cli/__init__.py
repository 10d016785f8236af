"""The command line `freshline`, and its exit codes.

Commands live in modules that are imported when they are called, so that `freshline --help` starts at once.
"""

import io
import sys
from importlib import import_module

import click

EXIT_FAILED = 1
"""The run failed or was cancelled, or something is out of order: no connection, a port in use."""
EXIT_USAGE = 2
"""The call cannot be understood: an unknown name, a bad value, a bad catalogue."""
EXIT_REFUSED = 3
"""The gate refused the run."""
EXIT_UNEXPECTED = 70
"""Something happened that Freshline does not expect: perhaps a defect of its own."""
EXIT_INTERRUPTED = 130
"""Interrupted."""

_COMMANDS = {
    "alias": ("versions", "Name versions with aliases, such as champion."),
    "artifacts": ("artifacts", "List what a run or version holds, or download some of it."),
    "backfill": ("redo", "Run a deployment for a range of data dates."),
    "cancel": ("running", "Ask for the end of a run."),
    "compare": ("tracing", "Say what tells two runs apart."),
    "completion": ("completing", "Print the script that completes words in a shell."),
    "db": ("store", "Look after the database of records."),
    "delete": ("deletion", "Delete runs, or take that back."),
    "demo": ("demo", "Run the whole chain on real prices, on this machine."),
    "deploy": ("catalogue", "Check prefect.yaml, deploy it with Prefect and register it."),
    "diff": ("tracing", "Say what tells two runs apart: another name of compare."),
    "doctor": ("doctor", "Try out the database, the object store and Prefect."),
    "events": ("watching", "Show what happened to a run, also while it happens."),
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
    "runs": ("finding", "List the runs that a search finds, newest first."),
    "serve": ("serving", "Serve the REST API and the page, without anything else."),
    "show": ("asking", "Show one run: metrics, inputs, steps, artifacts, events."),
    "stats": ("counting", "Count how runs have gone: failures, durations, days."),
    "status": ("asking", "Show every deployment with its freshness."),
    "submit": ("running", "Run a deployment."),
    "up": ("stack", "Start everything on this machine: Prefect, a worker, dispatcher, reconciler, API and page."),
    "verify": ("care", "Check that what is stored is what was written."),
    "versions": ("versions", "List the versions of a deployment, or show one."),
    "withdraw": ("versions", "Declare a version wrong."),
}
"""Name -> (module, one line of help): the help needs no import."""


_OVERVIEW = """\
Freshline: trustworthy Prefect deployments.

Start  freshline demo               the whole chain on real prices, right here
       freshline up                 Prefect, a worker, dispatcher and reconciler
       freshline deploy             check prefect.yaml, deploy and register it
Run    freshline submit KEY --wait  run a deployment, such as backtest/book
Ask    freshline status             every deployment, with its freshness
       freshline explain KEY        why it is stale
       freshline runs               what ran
       freshline show RUN           with what result
       freshline lineage KEY        what went into it, down to the sources
       freshline diff RUN RUN       what tells two runs apart

All commands: freshline --help. One of them: freshline COMMAND --help.
Words completed by your shell: freshline completion --help.
"""


class _Lazy(click.Group):
    def list_commands(self, _ctx: click.Context) -> list[str]:
        return sorted(_COMMANDS)

    def get_command(self, _ctx: click.Context, name: str) -> click.Command | None:
        if name not in _COMMANDS:
            return None
        module, _ = _COMMANDS[name]
        command: click.Command = getattr(import_module(f".{module}", __name__), name)
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args and args[0] not in _COMMANDS and not args[0].startswith("-"):
            from difflib import get_close_matches

            near = get_close_matches(args[0], _COMMANDS, n=2, cutoff=0.75)
            hint = f" Did you mean {' or '.join(map(repr, near))}?" if near else ""
            ctx.fail(f"No such command {args[0]!r}.{hint}")
        return super().resolve_command(ctx, args)

    def format_commands(self, _ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, line) for name, (_, line) in sorted(_COMMANDS.items())])


@click.group(cls=_Lazy, invoke_without_command=True, context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--debug", is_flag=True, help="Show where an error comes from.")
@click.version_option(package_name="freshline")
@click.pass_context
def cli(ctx: click.Context, *, debug: bool) -> None:
    """Trustworthy Prefect deployments: fresh inputs, exact versions, one record per run."""
    ctx.ensure_object(dict)["debug"] = debug
    if ctx.invoked_subcommand is None:
        click.echo(_OVERVIEW, nl=False)


def main() -> None:
    """Run the command line and exit with its code; an error is one line, and a traceback only with `--debug`."""
    # What an old terminal cannot show is written out, and is no error.
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    said: dict[str, bool] = {}
    try:
        code = cli.main(prog_name="freshline", standalone_mode=False, obj=said)
    except (click.Abort, KeyboardInterrupt):
        click.echo("interrupted", err=True)
        sys.exit(EXIT_INTERRUPTED)
    except Exception as error:
        if said.get("debug"):
            import traceback

            click.echo("".join(traceback.format_exception(error)), err=True)
        sys.exit(_tell(error))
    sys.exit(code if isinstance(code, int) else 0)


def exit_code_of(error: Exception) -> int:
    """Return the exit code that says what kind of error it is."""
    from ...storage.errors import FreshlineError, InvalidInput, NotFound, UpstreamNotReady

    match error:
        case click.ClickException():
            return error.exit_code
        case UpstreamNotReady():
            return EXIT_REFUSED
        case InvalidInput() | NotFound():
            return EXIT_USAGE
        case FreshlineError() | OSError():
            return EXIT_FAILED
    return EXIT_UNEXPECTED


def _tell(error: Exception) -> int:
    """Print one line on the error stream; return the exit code."""
    from ...storage.literal import one_line

    code = exit_code_of(error)
    if isinstance(error, click.exceptions.NoArgsIsHelpError):
        error.show()
        return code
    # What a driver raised; around it, SQLAlchemy tells the statement and its values.
    said = getattr(error, "orig", None) or error
    message = error.format_message() if isinstance(error, click.ClickException) else str(said)
    if isinstance(error, click.UsageError) and error.ctx is not None:
        message += f" See `{error.ctx.command_path} --help`."
    if code == EXIT_UNEXPECTED:
        message = f"{type(error).__name__}: {message} (`freshline --debug …` shows where it comes from)"
    click.echo(f"Error: {one_line(message)}", err=True)
    return code
