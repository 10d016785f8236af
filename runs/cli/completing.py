"""Words that a shell completes: `freshline completion`, and the deployments and runs that the store knows.

Somebody who presses the tab key wants a word or nothing: no error, no store that is made on the way, no long wait.
"""

from collections.abc import Callable
from typing import Any

import click
from click.shell_completion import CompletionItem, get_completion_class

from ...storage.literal import literal

_MOST = 100
_SHELLS = ("bash", "fish", "zsh")


@click.command()
@click.argument("shell", type=click.Choice(_SHELLS))
def completion(*, shell: str) -> None:
    """Print the script that lets SHELL complete commands, options, deployments and runs.

    \b
    bash:  eval "$(freshline completion bash)"                 in ~/.bashrc
    zsh:   eval "$(freshline completion zsh)"                  in ~/.zshrc
    fish:  source (freshline completion fish | psub)           in ~/.config/fish/config.fish
    """
    from . import cli

    made = get_completion_class(shell)
    assert made is not None  # click has all three
    click.echo(made(cli, {}, "freshline", "_FRESHLINE_COMPLETE").source())


def complete_deployment(_ctx: click.Context, _param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Return the keys of deployments that begin so."""
    return _silently(
        lambda names, settings: [CompletionItem(key) for key in names.deployment_keys(settings, incomplete, most=_MOST)]
    )


def complete_run(_ctx: click.Context, _param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Return the newest runs whose ids begin so, each with its deployment and status."""
    return _silently(
        lambda names, settings: [
            CompletionItem(run_id, help=literal(f"{key} {status}"))
            for run_id, key, status in names.newest_runs(settings, incomplete, most=_MOST)
        ]
    )


def complete_subject(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Return deployments and runs that begin so."""
    found = complete_deployment(ctx, param, incomplete)
    # Without a letter, the runs would hide the deployments.
    return found if not incomplete else found + complete_run(ctx, param, incomplete)


def _silently(ask: Callable[[Any, Any], list[CompletionItem]]) -> list[CompletionItem]:
    """Return what is found; nothing where the store cannot be asked, for whatever reason."""
    try:
        from ...storage.settings import load_settings
        from .. import known_names

        found = ask(known_names, load_settings())
    except Exception:
        return []
    # A shell would take apart what has blanks, and show what a terminal obeys.
    return [one for one in found if literal(one.value) == one.value and " " not in one.value]
