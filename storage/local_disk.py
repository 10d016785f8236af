"""The object store's ground when it is a local disk: putting a file in place all at once, and what dead writers left.

Knows paths, not objects.
"""

import os
import shutil
from collections.abc import Callable
from contextlib import suppress
from datetime import datetime
from pathlib import Path

from . import faults
from .ids import new_id


def put(source: Path, target: Path, *, beside: Path, consume: bool) -> None:
    """Put a file in its place in one step, replacing what is there; folders are made as needed.

    With `consume` the source itself is moved, if it is on the same disk. Otherwise a copy is made in the folder
    `beside`, which must be on the target's disk, and moved.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    if consume:
        with suppress(OSError):  # another disk: copy
            os.replace(source, target)
            return
    _place(target, beside, lambda temporary: shutil.copyfile(source, temporary))


def put_bytes(content: bytes, target: Path, *, beside: Path) -> None:
    """Put a file of these bytes in its place in one step; otherwise as `put`."""
    target.parent.mkdir(parents=True, exist_ok=True)
    _place(target, beside, lambda temporary: temporary.write_bytes(content))


def _place(target: Path, beside: Path, write: Callable[[Path], object]) -> None:
    beside.mkdir(exist_ok=True)
    temporary = beside / str(new_id())
    try:
        write(temporary)
        faults.reach("put.staged")
        os.replace(temporary, target)
    finally:
        temporary.unlink(missing_ok=True)


def clear(folder: Path, before: datetime) -> int:
    """Remove what in a folder was not changed since a moment, with all that is in it; return how many."""
    removed = 0
    for left in folder.iterdir():
        with suppress(FileNotFoundError):  # its writer lives and was quicker
            if _changed_at(left) < before.timestamp():
                shutil.rmtree(left) if left.is_dir() else left.unlink()
                removed += 1
    return removed


def _changed_at(path: Path) -> float:
    return max(each.lstat().st_mtime for each in (path, *path.rglob("*")))
