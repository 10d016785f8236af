"""Markdown that Prefect's pages show: text stays text, whatever it holds, and tables keep their columns."""

import html
import re
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime

_LONGEST_CELL = 300
_LONGEST_TEXT = 3_000
_MOST_ROWS = 100
_SIGNS = re.compile(r"[\\`*|\[\]~]|(?<![^\W_])_|_(?![^\W_])")
"""What markdown reads as more than itself; an underscore only at a word's edge."""
_BEGINS_A_BLOCK = re.compile(r"^(\d{0,9})(?=[.)#+=-](?:\s|$)|[#=-]+(?:\s|$))")
"""At the beginning of a line: a heading, a list, a line under a heading."""


def text(value: str, *, longest: int = _LONGEST_TEXT) -> str:
    """Return what says in markdown, in a table's cell too, what the text says: one line, of bounded length."""
    plain = " ".join(value.split())
    if len(plain) > longest:
        plain = plain[: longest - 1] + "…"
    escaped = _SIGNS.sub(lambda sign: "\\" + sign[0], html.escape(plain, quote=False))
    return _BEGINS_A_BLOCK.sub(r"\1\\", escaped)


def cell(value: object) -> str:
    """Return what stands in a table's cell."""
    return text(str(value), longest=_LONGEST_CELL)


def row(cells: Iterable[str]) -> str:
    """Return a table's line."""
    return f"| {' | '.join(cells)} |"


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Return the lines of a table; of very many rows the first ones, and how many more there are."""
    lines = [row(head), row("---" for _ in head), *(row(cells) for cells in rows[:_MOST_ROWS])]
    if len(rows) > _MOST_ROWS:
        lines.append(row([f"… and {len(rows) - _MOST_ROWS} more", *[""] * (len(head) - 1)]))
    return lines


def moment(at: datetime) -> str:
    """Return a moment to the minute."""
    return f"{at.astimezone(UTC):%Y-%m-%d %H:%M} UTC"


def artifact_key(prefix: str, deployment: str) -> str:
    """Return the key of Prefect artifacts of a deployment, in the characters that Prefect allows."""
    return prefix + re.sub(r"[^a-z0-9]+", "-", deployment.lower()).strip("-")
