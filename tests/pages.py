"""The documentation as tests see it: pages, and the fenced blocks that run."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
FENCE = re.compile(r'^```(\w+)(?: title="([^"]*)")?\n(.*?)^```$', re.MULTILINE | re.DOTALL)


def read(page: str) -> str:
    """The text of a page under `docs`."""
    return (DOCS / page).read_text(encoding="utf-8")


def code(text: str, language: str, title: str | None = None) -> list[str]:
    """The fenced blocks of one language; those of a title only, when one is given ("" for those without)."""
    return [found[3] for found in FENCE.finditer(text) if found[1] == language and title in (None, found[2] or "")]
