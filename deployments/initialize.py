"""Adds `resource:` blocks to a prefect.yaml that exists, and leaves every other character of it alone.

Owns the edit of the text. Whether the result is a valid catalogue is for `catalog` to say.

The block is put in after the deployment's `entrypoint`: after the last key it could land behind a comment that
speaks of the next deployment.
"""

import os
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml  # type: ignore[import-untyped]  # it ships no types

from ..storage.errors import CatalogError, NotFound
from .blocks import read_block
from .document import read_document, read_text


@dataclass(frozen=True, slots=True)
class _Place:
    """A deployment in the text."""

    name: str
    node: Any
    """Its mapping, as a PyYAML node with marks."""
    line: int

    def value(self, key: str) -> Any:
        """Return the node of a key's value, or None."""
        return next((value for one, value in self.node.value if one.value == key), None)


def initialize(path: Path | str, adoptions: Mapping[str, tuple[str, str, str]]) -> list[str]:
    """Add a `resource:` block to each deployment named, and return one line for each that says what was done.

    The file is replaced in one step, or not at all. Idempotent: a block that is there is left alone.

    Args:
        path: prefect.yaml.
        adoptions: Prefect's name of a deployment, without its flow's -> (resource name, kind, runs).

    Raises:
        CatalogError: the file cannot be read or written, a deployment's name stands in it twice, or the name, kind
            and `runs` are no words of Freshline or do not fit each other.
        NotFound: the file has no deployment of that name; the nearest are suggested.
    """
    path = Path(path).absolute()
    read_document(path)  # refuses what is too large, too deep or no YAML, with the line
    text = read_text(path)
    places = _places(text)
    chosen = [_chosen(name, places) for name in adoptions]
    said, edits = [], []
    for place in sorted(chosen, key=lambda place: place.line):
        name, kind, runs = adoptions[place.name]
        block = read_block({"name": name, "kind": kind, "runs": runs}, deployment=place.name, line=place.line)
        if place.value("resource") is not None:
            said.append(f"line {place.line}: {place.name} has a resource block already; it was left alone")
            continue
        written = {"name": block.resource_name, "kind": str(block.resource_kind), "runs": str(block.runs)}
        edits.append(_insertion(text, place, written))
        said.append(f"line {place.line}: {place.name} becomes {block.key} ({block.resource_kind})")
    for at, addition in sorted(edits, reverse=True):
        text = text[:at] + addition + text[at:]
    if edits:
        _check(text, chosen)
        _replace(path, text)
    return said


def _places(text: str) -> list[_Place]:
    root = yaml.compose(text, Loader=yaml.SafeLoader)
    pairs = root.value if isinstance(root, yaml.MappingNode) else []
    for key, entries in pairs:
        if key.value == "deployments" and isinstance(entries, yaml.SequenceNode):
            found = [_Place("", node, node.start_mark.line + 1) for node in entries.value]
            return [
                _Place(name.value, place.node, place.line)
                for place in found
                if isinstance(place.node, yaml.MappingNode) and (name := place.value("name")) is not None
            ]
    return []


def _chosen(name: str, places: list[_Place]) -> _Place:
    found = [place for place in places if place.name == name]
    if not found:
        raise NotFound("deployment", name, known=[place.name for place in places])
    if len(found) > 1:
        lines = " and ".join(str(place.line) for place in found)
        raise CatalogError(f"the name stands in lines {lines}; write the `resource:` blocks by hand", deployment=name)
    return found[0]


def _insertion(text: str, place: _Place, block: Mapping[str, str]) -> tuple[int, str]:
    """Return where to insert, as an index into the text, and what."""
    anchor = place.value("entrypoint") or place.value("name")
    if place.node.flow_style:
        inner = ", ".join(f"{key}: {value}" for key, value in block.items())
        return anchor.end_mark.index, f", resource: {{{inner}}}"
    newline = "\r\n" if "\r\n" in text else "\n"
    key, _ = place.node.value[0]
    indent = " " * key.start_mark.column
    lines = [f"{indent}resource:", *(f"{indent}  {name}: {value}" for name, value in block.items())]
    at = anchor.end_mark.index
    if text[:at].rstrip(" ").endswith("\n"):  # a block scalar ends where the next line begins
        at = text.rindex("\n", 0, at)
    end = text.find("\n", at)
    if end < 0:  # the last line of the file, without a line end
        return len(text), newline + newline.join(lines)
    return end + 1, newline.join(lines) + newline


def _check(text: str, chosen: list[_Place]) -> None:
    """Refuse to write a file in which a block did not land in its deployment: a layout that was not foreseen."""
    try:
        adopted = {place.name for place in _places(text) if place.value("resource") is not None}
    except yaml.YAMLError:
        adopted = set()
    for place in chosen:
        if place.name not in adopted:
            raise CatalogError(
                "is written in a way that cannot be edited safely; write its `resource:` block by hand",
                deployment=place.name,
                line=place.line,
            )


def _replace(path: Path, text: str) -> None:
    """Write the file anew beside the old one and move it there: nobody sees half of it."""
    try:
        descriptor, name = tempfile.mkstemp(prefix=".prefect-", suffix=".yaml", dir=path.parent)
        try:
            with os.fdopen(descriptor, "w", encoding="utf-8", newline="") as file:
                file.write(text)
            os.chmod(name, path.stat().st_mode & 0o7777)
            os.replace(name, path)
        except BaseException:
            with suppress(FileNotFoundError):
                os.unlink(name)
            raise
    except OSError as error:
        raise CatalogError(f"{path} cannot be written: {error.strerror or error}") from None
