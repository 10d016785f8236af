"""Local copies of files and folders, checked, in a temporary folder that goes when their owner is done.

Owns where they lie and what they are called. A copy is its reader's: what is done to it changes nothing in the store.
"""

import os
import threading
from pathlib import Path
from tempfile import TemporaryDirectory

from .artifacts import ArtifactRecord
from .files import download_file
from .filesystem import ObjectStore
from .folders import download_folder
from .stored import StoredFile, StoredFolder

_MOST_BYTES = 200
"""Of a file's name: file systems take 255."""


class LocalCopies:
    """Copies of artifacts, one for each time that one is asked for; several threads may ask."""

    def __init__(self) -> None:
        self._directory: TemporaryDirectory[str] | None = None
        self._count = 0
        self._lock = threading.Lock()

    def add(self, objects: ObjectStore, artifact: ArtifactRecord) -> Path:
        """Return a new copy of a file or folder, named as the artifact where that can be the name of a file.

        Raises:
            InvalidInput: it is a table, or nothing can be written to the temporary folder.
            ObjectMissing, ObjectCorrupt, ArtifactError: the object store does not have what was written.
        """
        stored = artifact.stored_content()
        with self._lock:
            if self._directory is None:
                self._directory = TemporaryDirectory(prefix="freshline-", ignore_cleanup_errors=True)
            self._count += 1
            place = Path(self._directory.name, str(self._count))
        place.mkdir()
        target = place / (artifact.name if is_file_name(artifact.name) else "content")
        download(objects, stored, target)
        return target

    def close(self) -> None:
        """Remove all copies."""
        with self._lock:
            if self._directory is not None:
                self._directory.cleanup()
                self._directory = None


def download(objects: ObjectStore, stored: StoredFile | StoredFolder, path: Path) -> None:
    """Write a file or folder to a local path, all or nothing; errors as `download_file` and `download_folder`."""
    if isinstance(stored, StoredFolder):
        download_folder(objects, stored, path)
    else:
        download_file(objects, stored, path)


def is_file_name(name: str) -> bool:
    """Return whether an artifact's name, which may be anything, can be that of a file on every system."""
    return (
        name not in (".", "..")
        and not set(name) & set('/\\:*?"<>|')
        and name.isprintable()
        and len(os.fsencode(name)) <= _MOST_BYTES
        and name == name.strip(" .")
    )
