"""The schema of a version: the columns of its published tables, as they are recorded with it."""

import json
from collections.abc import Sequence

from ..storage.artifacts import ArtifactRecord
from ..storage.stored import StoredTable

Schema = dict[str, list[list[str]]]
"""Published table -> [[column, type], …], columns in their order."""

_MOST_BYTES = 200_000
"""The database takes 256 KiB of JSON; a version must not fail for what its artifacts hold as well."""
_MOST_BYTES_EACH = 6
"""An escaped control character; any other takes fewer."""


def published_schema(artifacts: Sequence[ArtifactRecord]) -> Schema | None:
    """Return the columns of the published tables, by table; null when they are too many to be kept with the version.

    Files, and tables that are not published, do not count: two versions with equal digests have equal schemas.
    """
    found = {
        one.name: [list(column) for column in one.stored.schema]
        for one in sorted(artifacts, key=lambda artifact: artifact.name)
        if one.publish and isinstance(one.stored, StoredTable)
    }
    characters = sum(len(text) + 4 for columns in found.values() for column in columns for text in column)
    # Measured only where it could matter: this is on the way of every completion.
    if characters * _MOST_BYTES_EACH > _MOST_BYTES and _size(found) > _MOST_BYTES:
        return None
    return found


def _size(schema: Schema) -> int:
    return len(json.dumps(schema, ensure_ascii=False).encode())
