"""Objects of others: a file, or the files of a folder, that a record refers to where they are.

Reached like the store's own objects, with the same credentials where it is the same kind of store. Only read: nothing
here is written or deleted, and since others may change them at any time, every reader checks what it gets against the
record.
"""

from pathlib import Path

from .errors import InvalidInput, ObjectCorrupt, ObjectMissing
from .filesystem import ObjectStore
from .stored import StoredFile, StoredFolder, StoredTable


class ReferencedStore(ObjectStore):
    """What lies at the URL of a file (its one name is empty) or in a folder (names are relative to it).

    Raises:
        InvalidInput: the URL cannot be used, or contains a password.
    """

    @property
    def is_mappable(self) -> bool:
        """False: a mapped file that is cut off by its owner would end the process that reads it."""
        return False

    def path_of(self, name: str) -> str:
        """Return the path of a file as the fsspec file system wants it."""
        if not name:
            return self._root
        if any(part in ("", ".", "..") for part in name.split("/")):
            raise InvalidInput(f"{name!r} is no file below {self.url}")
        return f"{self._root}/{name}"

    def url_of(self, name: str) -> str:
        """Return the URL of a file."""
        self.path_of(name)
        return f"{self.url}/{name}" if name else self.url

    def put_file(self, local_path: Path, name: str, *, consume: bool = False) -> None:  # noqa: ARG002 - as above it
        """Refuse: it belongs to others."""
        raise InvalidInput(f"{self.url_of(name)} is only referenced: Freshline does not write there")

    def delete(self, name: str) -> None:
        """Refuse: it belongs to others."""
        raise InvalidInput(f"{self.url_of(name)} is only referenced: Freshline does not delete there")

    def corrupt(self, name: str, fact: str) -> ObjectCorrupt:
        """Return the error that a file is not what was published any more; the fact shows it."""
        return ObjectCorrupt(
            f"{self.url_of(name)} has changed since it was published: {fact}. Publish it again, or restore it"
        )

    def _missing(self, target: str) -> ObjectMissing:
        return ObjectMissing(
            f"{target} is not there any more, though a version refers to it: restore it, or publish it"
        )

    def _advice(self) -> str:
        if self.protocol == "file":
            return "Check the path, and that this user may read it"
        return super()._advice() if self.driver.is_s3 else "Check its address and the credentials for it"


def store_of(store: ObjectStore, stored: StoredTable | StoredFile | StoredFolder) -> ObjectStore:
    """Return where the objects of a record lie: in the store, or elsewhere."""
    return store if stored.root is None else referenced_at(stored.root, store)


def referenced_at(url: str, store: ObjectStore | None) -> ReferencedStore:
    """Return what lies at a URL, reached with the store's own credentials when it is of the store's kind.

    Raises:
        InvalidInput: the URL cannot be used, or contains a password.
    """
    found = ReferencedStore(url)
    if store is None or found.protocol != store.protocol:
        return found
    return ReferencedStore(url, options=store.driver.options, patience=store.driver.patience)
