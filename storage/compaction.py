"""When small fragments are written again as larger ones: what the rows are, and so the digest, stays as it is.

Every append leaves a fragment. With thousands of them a reader would wait for thousands of requests, so an append
that finds many small ones at the end of its base writes them again with its own rows. Each size is gathered in turn:
a row is written again about three times in its life, however many appends follow it.
"""

from collections.abc import Sequence
from dataclasses import replace

from .encoding import row_groups, write_fragments
from .filesystem import ObjectStore
from .plain import plain_schema
from .revision import base_rows
from .stored import Fragment, StoredTable

_MIB = 1024 * 1024
_GATHERED = ((_MIB, 16), (16 * _MIB, 32))
"""(smaller than, at least so many of them at the end): they are written again, with the rows that follow."""
_SMALL_BYTES = 64 * _MIB


def num_gathered(fragments: Sequence[Fragment]) -> int:
    """Return how many of the last fragments an append should write again together with its own rows."""
    for size_bytes, most in _GATHERED:
        larger = (number for number, one in enumerate(reversed(fragments)) if one.size_bytes >= size_bytes)
        found = next(larger, len(fragments))
        if found >= most:
            return found
    return 0


def compact(store: ObjectStore, stored: StoredTable, *, smaller_than: int = _SMALL_BYTES) -> StoredTable:
    """Return the same table with its small neighbouring fragments written again as larger ones; digest and rows stay.

    The fragments that were there are left alone: other versions may share them.

    Args:
        store: where the fragments are.
        stored: which table; one that is only referenced is returned as it is.
        smaller_than: bytes of a fragment that is small.

    Raises:
        ArtifactError: the object store cannot be read or written.
    """
    if stored.root is not None:
        return stored
    plain = plain_schema(stored.to_arrow_schema())
    fragments: list[Fragment] = []
    for run in _runs(stored.fragments, smaller_than):
        if len(run) == 1:
            fragments += run
            continue
        fragments += write_fragments(store, row_groups(base_rows(store, run, plain), plain), plain)
    return replace(stored, fragments=tuple(fragments), size_bytes=sum(one.size_bytes for one in fragments))


def _runs(fragments: Sequence[Fragment], size_bytes: int) -> list[list[Fragment]]:
    """Return the fragments in their order; those that stand in one list become one."""
    runs: list[list[Fragment]] = []
    for fragment in fragments:
        if runs and fragment.size_bytes < size_bytes and runs[-1][-1].size_bytes < size_bytes:
            runs[-1].append(fragment)
        else:
            runs.append([fragment])
    return runs
