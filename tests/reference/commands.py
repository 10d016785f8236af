"""The commands of `freshline`, with the arguments and options that each takes."""

import re
from collections.abc import Iterator

import click

from freshline.runs.cli import cli

from .docstrings import in_a_cell
from .tables import table

_PLACE = re.compile(r"<!-- generated: command: [^\n]+ -->\n.*?<!-- end of generated -->\n\n?", re.DOTALL)


def every_command() -> Iterator[tuple[str, click.Command]]:
    """Every command with its full name, those of groups too."""
    context = click.Context(cli)
    for name in cli.list_commands(context):
        found = cli.get_command(context, name)
        assert found is not None
        if isinstance(found, click.Group):
            yield from ((f"{name} {below}", command) for below, command in found.commands.items())
        else:
            yield name, found


def command(name: str) -> str:
    """How the command is called, and what each option does."""
    found = dict(every_command())[name]
    context = click.Context(found, info_name=f"freshline {name}")
    usage = " ".join([context.command_path, *found.collect_usage_pieces(context)])
    rows = [_row(item, context) for item in found.params if isinstance(item, click.Option) and not item.hidden]
    shown = f"```text\n{usage}\n```"
    return f"{shown}\n\n{table(('option', 'default', 'meaning'), rows)}" if rows else shown


def _row(option: click.Option, context: click.Context) -> tuple[str, str, str]:
    spelled = ", ".join(f"`{one}`" for one in [*option.opts, *option.secondary_opts])
    if not option.is_flag and not option.count:
        kind = option.make_metavar(context).replace("|", "\\|")
        spelled += f" `{kind}`"
    default = option.get_default(context, call=False)
    shown = f"`{default}`" if isinstance(default, str | int | float) and not isinstance(default, bool) else ""
    said = in_a_cell(option.help or "")
    if option.multiple:
        said += "; may be given several times"
    return spelled, shown, said + (" (required)" if option.required else "")


def with_every_command(text: str) -> str:
    """The page with a place for each command: at the end of its section, or in a section of its own at the page's end.

    What its author has written by hand stays.
    """
    text = _PLACE.sub("", text)
    for name, found in every_command():
        heading = f"### `freshline {name}`\n"
        if heading not in text:
            text = f"{text.rstrip()}\n\n{heading}\n{found.get_short_help_str(200)}\n"
        begin = text.index(heading) + len(heading)
        end = re.compile(r"^#{1,3} ", re.MULTILINE).search(text, begin)
        at = end.start() if end else len(text)
        place = f"<!-- generated: command: {name} -->\n<!-- end of generated -->\n"
        text = f"{text[:at].rstrip()}\n\n{place}\n{text[at:]}".rstrip() + "\n"
    return text
