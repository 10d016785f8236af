"""A folder as one artifact: its files as objects of their own, and one digest over all of them.

Owns which folders can be kept so that they come back the same on every system, and their restoration, whole or not
at all. The bytes of each file are copied and checked by `files`. What is kept of a file is its path, its bytes and
whether it is executable; owner, times and other modes are not.
"""

import hashlib
import os
import shutil
import stat
import unicodedata
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath
from typing import TypeVar

from .errors import Conflict, InvalidInput, NotFound
from .files import copy_checked, save_file
from .filesystem import ObjectStore
from .ids import new_id
from .referenced import store_of
from .stored import FolderFile, StoredFolder

In = TypeVar("In")
Out = TypeVar("Out")

MOST_FILES = 10_000
"""Files in one folder: each is a row of the database and an object of the store."""

_MOST_CHARACTERS = 1000
_SMALL_BYTES = 1024 * 1024
"""Up to here it is the waiting that takes time: several at once. Of larger ones several would fill the memory."""
_AT_ONCE = 8


@dataclass(frozen=True)
class _Listed:
    """What was in a folder when it was looked at."""

    files: dict[str, os.stat_result]
    empty_folders: tuple[str, ...]

    @property
    def stamp(self) -> object:
        """What changes when something in the folder does."""
        return [(path, facts.st_size, facts.st_mtime_ns) for path, facts in self.files.items()], self.empty_folders


def save_folder(store: ObjectStore, folder: Path) -> StoredFolder:
    """Store a folder and return what a record needs; bytes that the store has already are not stored again.

    Files that begin with a dot count like any other. Memory holds a few megabytes, however large the files.

    Raises:
        NotFound: there is no such folder.
        InvalidInput: it is no folder or an empty one, or holds what does not come back the same on every system: a
            symbolic link, a pipe or device, a name that is no plain text, two names that differ in case alone, more
            than 10,000 files.
        Conflict: it changed while it was stored; nothing is recorded.
        ArtifactError: the object store cannot be written.
    """
    listed = _list(folder)
    if not listed.files:
        raise InvalidInput(f"{folder} is an empty folder: there is nothing to save")
    check_paths([*listed.files, *listed.empty_folders], of=str(folder))
    try:
        files = _each(partial(_save, store, folder), listed.files.items(), size_of=lambda item: item[1].st_size)
    except NotFound as error:
        raise _changed(folder) from error
    if _list(folder).stamp != listed.stamp:
        raise _changed(folder)
    return folder_of(files, listed.empty_folders)


def folder_of(files: Iterable[FolderFile], empty_folders: Iterable[str] = ()) -> StoredFolder:
    """Return the record of a folder with these files, which are stored."""
    by_path = tuple(sorted(files, key=lambda file: file.path))
    empty = tuple(sorted(empty_folders))
    return StoredFolder(
        sha256=_digest(by_path, empty),
        size_bytes=sum(file.size_bytes for file in by_path),
        files=by_path,
        empty_folders=empty,
    )


def download_folder(store: ObjectStore, stored: StoredFolder, path: Path) -> None:
    """Write the folder to a local path, where nothing is yet: whole and checked, or not at all.

    Raises:
        InvalidInput: something is at the path or it cannot be written; or the record names a file that would lie
            outside of the folder.
        ObjectMissing: an object is not there.
        ObjectCorrupt: an object's bytes are not those that were written.
        ArtifactError: an object cannot be read.
    """
    check_paths([*(file.path for file in stored.files), *stored.empty_folders], of="the record")
    if path.is_symlink() or (path.exists() and not (path.is_dir() and not any(path.iterdir()))):
        raise InvalidInput(f"{path} is there already: choose a path where nothing is")
    temporary = path.with_name(f".{path.name[:100]}.{new_id()}")
    try:
        temporary.mkdir()
        for below in stored.empty_folders:
            _inside(temporary, below).mkdir(parents=True, exist_ok=True)
        for parent in sorted({PurePosixPath(file.path).parent for file in stored.files}):
            if parent != PurePosixPath("."):
                _inside(temporary, str(parent)).mkdir(parents=True, exist_ok=True)
        restore = partial(_restore, store_of(store, stored), temporary)
        _each(restore, stored.files, size_of=lambda file: file.size_bytes)
        os.replace(temporary, path)
    except OSError as error:
        raise InvalidInput(f"cannot write {path}: {error.strerror}; choose a path that you can write") from None
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def check_paths(paths: Iterable[str], *, of: str) -> None:
    """Refuse paths that lead out of their folder, or do not come back the same on every system.

    Raises:
        InvalidInput: with the first such path, and what to do.
    """
    known: dict[str, str] = {}
    for count, path in enumerate(paths):
        if count == MOST_FILES:
            raise InvalidInput(f"{of} has more than {MOST_FILES:,} files: save an archive of it instead")
        _check_path(path, of)
        steps = PurePosixPath(path).parts
        for length in range(1, len(steps) + 1):
            part = "/".join(steps[:length])
            same = known.setdefault(unicodedata.normalize("NFC", part).casefold(), part)
            if same != part:
                raise InvalidInput(
                    f"{same!r} and {part!r} in {of} are one name where capitals do not count: rename one"
                )


def _check_path(path: str, of: str) -> None:
    reason = None
    if not path or len(path) > _MOST_CHARACTERS:
        reason = f"a path in a folder has 1 to {_MOST_CHARACTERS:,} characters"
    elif any(step in ("", ".", "..") for step in path.split("/")):
        reason = "it leads out of the folder"
    elif "\\" in path or not path.isprintable():  # a lone surrogate, from a name that is not UTF-8, is not printable
        reason = "a name may hold printable characters, and no backslash"
    if reason is not None:
        raise InvalidInput(f"{path[:100]!r} in {of} cannot be kept: {reason}; rename it")


def _list(folder: Path) -> _Listed:
    if not folder.exists():
        raise NotFound("folder", str(folder))
    files: dict[str, os.stat_result] = {}
    empty: list[str] = []
    waiting = [""]
    while waiting:
        below = waiting.pop()
        entries = _entries(folder / below)
        if not entries and below:
            empty.append(below)
        for entry in entries:
            path = f"{below}/{entry.name}" if below else entry.name
            facts = _facts(entry)
            if stat.S_ISDIR(facts.st_mode):
                waiting.append(path)
                continue
            _check_is_file(folder / path, facts.st_mode)
            files[path] = facts
            if len(files) > MOST_FILES:
                raise InvalidInput(f"{folder} has more than {MOST_FILES:,} files: save an archive of it instead")
    return _Listed(dict(sorted(files.items())), tuple(sorted(empty)))


def _entries(folder: Path) -> list["os.DirEntry[str]"]:
    try:
        with os.scandir(folder) as entries:
            return list(entries)
    except NotADirectoryError:
        raise InvalidInput(f"{folder} is no folder") from None
    except FileNotFoundError:
        raise _changed(folder) from None
    except OSError as error:
        raise InvalidInput(f"cannot read {folder}: {error.strerror}") from None


def _facts(entry: "os.DirEntry[str]") -> os.stat_result:
    try:
        return entry.stat(follow_symlinks=False)
    except FileNotFoundError:
        raise _changed(Path(entry.path)) from None


def _check_is_file(path: Path, mode: int) -> None:
    if stat.S_ISLNK(mode):
        raise InvalidInput(f"{path} is a symbolic link: put what it leads to in its place (cp -rL copies so)")
    if not stat.S_ISREG(mode):
        raise InvalidInput(f"{path} is a pipe, a socket or a device, no file: take it out of the folder")


def _save(store: ObjectStore, folder: Path, listed: tuple[str, os.stat_result]) -> FolderFile:
    path, facts = listed
    stored = save_file(store, folder / path)
    return FolderFile(
        path=path,
        name=stored.name,
        sha256=stored.sha256,
        size_bytes=stored.size_bytes,
        is_executable=bool(facts.st_mode & stat.S_IXUSR),
    )


def _restore(store: ObjectStore, folder: Path, file: FolderFile) -> None:
    target = _inside(folder, file.path)
    with target.open("xb") as content:
        copy_checked(store, file, content)
    if file.is_executable:
        mode = target.stat().st_mode
        target.chmod(mode | (mode & 0o444) >> 2)  # by whom it may be read


def _inside(folder: Path, path: str) -> Path:
    """Return where a file of the folder goes; a drive in its name must not lead elsewhere."""
    target = folder.joinpath(*path.split("/"))
    if not target.is_relative_to(folder):
        raise InvalidInput(f"{path!r} leads out of the folder: it cannot be restored here")
    return target


def _each(act: Callable[[In], Out], items: Iterable[In], *, size_of: Callable[[In], int]) -> list[Out]:
    """Do it with each: several small ones at once, large ones one after another."""
    small: list[In] = []
    large: list[In] = []
    for item in items:
        (small if size_of(item) <= _SMALL_BYTES else large).append(item)
    with ThreadPoolExecutor(_AT_ONCE) as executor:
        return [*executor.map(act, small), *map(act, large)]


def _digest(files: Iterable[FolderFile], empty_folders: Iterable[str]) -> str:
    digest = hashlib.sha256()
    contents = [(file.path, file.sha256) for file in files] + [(f"{path}/", "") for path in empty_folders]
    for path, content in sorted(contents):
        digest.update(f"{len(path)}:{path}={content};".encode())
    return digest.hexdigest()


def _changed(path: Path) -> Conflict:
    return Conflict(f"{path} changed while it was saved: save it when its writer has finished")
