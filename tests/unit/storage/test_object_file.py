"""An object as a file: exactly what is read is asked for."""

import io

import pytest

from freshline.storage.object_file import ObjectFile

CONTENT = b"0123456789"


class Remote:
    """An object of ten bytes that remembers what it was asked for."""

    def __init__(self) -> None:
        self.asked: list[tuple[int, int]] = []

    def read(self, start: int, end: int) -> bytes:
        self.asked.append((start, end))
        return CONTENT[start:end]


@pytest.fixture
def remote() -> Remote:
    return Remote()


@pytest.fixture
def file(remote) -> ObjectFile:
    return ObjectFile(remote.read, len(CONTENT))


def test_each_read_asks_for_its_range_and_no_more(file, remote):
    assert (file.read(3), file.read(2), file.tell()) == (b"012", b"34", 5)
    assert remote.asked == [(0, 3), (3, 5)]


def test_whole_file_is_one_request(file, remote):
    assert file.read() == CONTENT
    assert (file.read(), file.readall(), file.read(5)) == (b"", b"", b"")
    assert remote.asked == [(0, 10)]


def test_seek_moves_without_a_request(file, remote):
    assert (file.seek(-2, io.SEEK_END), file.seek(-3, io.SEEK_CUR), file.seek(-9, io.SEEK_CUR)) == (8, 5, 0)
    assert file.seek(20) == 20
    assert file.read() == b""
    assert remote.asked == []


def test_buffer_is_filled(file):
    buffer = bytearray(4)
    file.seek(8)
    assert (file.readinto(buffer), bytes(buffer)) == (2, b"89\0\0")


def test_closed_file_is_not_read(file):
    file.close()
    with pytest.raises(ValueError, match="closed"):
        file.read(1)
