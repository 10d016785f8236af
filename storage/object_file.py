"""An object of a remote store as a seekable file.

Knows only how to ask for a range of bytes. Every read is one request, and asks for what is read and no more: whoever
reads a file format chooses the ranges better than a guess ahead would.
"""

import io
from collections.abc import Callable


class ObjectFile(io.RawIOBase):
    """The bytes of an object, read through a function of (start, end) that returns them all or raises."""

    def __init__(self, read_range: Callable[[int, int], bytes], size_bytes: int) -> None:
        self._read_range = read_range
        self._size_bytes = size_bytes
        self._position = 0

    def readable(self) -> bool:
        """True."""
        return True

    def seekable(self) -> bool:
        """True."""
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET, /) -> int:
        """Move, without a request."""
        begin = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._size_bytes}[whence]
        self._position = max(0, begin + offset)
        return self._position

    def tell(self) -> int:
        """Return the position."""
        return self._position

    def read(self, size: int | None = -1, /) -> bytes:
        """Return the next bytes: fewer than asked for only at the end."""
        if self.closed:
            raise ValueError("I/O operation on a closed file")
        left = max(0, self._size_bytes - self._position)
        wanted = left if size is None or size < 0 else min(size, left)
        if not wanted:
            return b""
        content = self._read_range(self._position, self._position + wanted)
        self._position += len(content)
        return content

    def readall(self) -> bytes:
        """Return the rest."""
        return self.read()

    def readinto(self, buffer, /) -> int:  # type: ignore[no-untyped-def]  # typeshed's WriteableBuffer is not there at run time
        """Fill a buffer with the next bytes; return how many."""
        content = self.read(len(buffer))
        buffer[: len(content)] = content
        return len(content)
