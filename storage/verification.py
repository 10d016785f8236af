"""Whether stored bytes are those that were written: one object at a time, and the logical digest of one table.

Reads objects only; which of them there are, and whose they are, is said by whoever asks.
"""

import hashlib

from .digest import TableDigest
from .errors import ObjectCorrupt, ObjectMissing
from .filesystem import ObjectStore
from .fragments import open_dataset, reading
from .plain import plain_schema
from .referenced import store_of
from .stored import StoredTable


def damage_of(store: ObjectStore, name: str, *, sha256: str, size_bytes: int, reads: bool = True) -> str | None:
    """Return what is wrong with an object, none when nothing is; without `reads` only whether it is there, and whole.

    Raises:
        ArtifactError: the object store does not answer: that says nothing of the object.
    """
    try:
        found = store.size_bytes(name)
        if found != size_bytes:
            return f"it has {found:,} bytes, not {size_bytes:,}"
        if not reads or not sha256:
            return None  # one without a checksum was only stated by its publisher: nobody has read it
        digest = hashlib.sha256()
        for chunk in store.read_chunks(name):
            digest.update(chunk)
    except ObjectMissing:
        return "it is not there"
    return None if digest.hexdigest() == sha256 else f"its sha256 is {digest.hexdigest()}, not {sha256}"


def digest_damage_of(store: ObjectStore, stored: StoredTable) -> str | None:
    """Return what is wrong with the rows of a table, none when their logical digest is that of the record.

    Raises:
        ArtifactError: the object store does not answer.
    """
    where = store_of(store, stored)
    plain = plain_schema(stored.to_arrow_schema())
    digest = TableDigest(plain)
    try:
        with reading(where, stored.fragments):
            for batch in open_dataset(where, stored.fragments, plain).to_batches():
                digest.update(batch)
    except (ObjectMissing, ObjectCorrupt) as error:
        return str(error)
    found = digest.result().sha256
    return None if found == stored.digest else f"the logical digest of its rows is {found}, not {stored.digest}"
