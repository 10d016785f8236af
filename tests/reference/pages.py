"""The reference pages whose facts come from the code, and the marks between which they stand.

    <!-- generated: NAME -->
    …
    <!-- end of generated -->

What stands between the marks is written by `make docs`; all else on the page is written by hand. NAME is one of
`WRITERS`, and may have an argument behind a colon.
"""

import re
from collections.abc import Callable
from pathlib import Path

from freshline.runs.metrics.reference import metrics_reference
from tests.pages import DOCS

from . import commands, names, record, vocabulary

BLOCK = re.compile(r"<!-- generated: ([^\n]+?) -->\n(.*?)<!-- end of generated -->\n", re.DOTALL)
REFERENCE = DOCS / "reference"

WRITERS: dict[str, Callable[[str], str]] = {
    "settings": vocabulary.settings,
    "exit codes": vocabulary.exit_codes,
    "transitions": vocabulary.transitions,
    "command": commands.command,
    "columns": record.columns,
    "details": record.details,
    "events": record.events,
    "room": names.room,
}


def block(name: str) -> str:
    """What the code says under this name, between its marks."""
    writer, _, argument = name.partition(": ")
    assert writer in WRITERS, f"nothing is written under {writer!r}; there are {', '.join(WRITERS)}"
    return f"<!-- generated: {name} -->\n\n{WRITERS[writer](argument).strip()}\n\n<!-- end of generated -->\n"


def written(page: Path) -> str:
    """The page as it has to be."""
    if page == REFERENCE / "metrics.md":
        return metrics_reference()
    text = page.read_text(encoding="utf-8")
    if page == REFERENCE / "cli.md":
        text = commands.with_every_command(text)
    return BLOCK.sub(lambda found: block(found[1]), text)


def outdated() -> dict[Path, str]:
    """The pages that differ from the code, with what they have to be."""
    pages = {page: written(page) for page in sorted(DOCS.rglob("*.md"))}
    return {page: text for page, text in pages.items() if text != page.read_text(encoding="utf-8")}
