"""Files that are not tables."""

import io
import os
from pathlib import Path

import pytest

from freshline.storage.errors import InvalidInput, NotFound, ObjectCorrupt, ObjectMissing
from freshline.storage.files import download_file, open_file, save_file
from freshline.storage.filesystem import ObjectStore


@pytest.fixture
def store(tmp_path) -> ObjectStore:
    return ObjectStore((tmp_path / "root").as_uri())


def test_file_that_does_not_exist_is_named(store, tmp_path):
    with pytest.raises(NotFound, match=r"nothing\.skops"):
        save_file(store, tmp_path / "nothing.skops")


def test_folder_is_refused(store, tmp_path):
    with pytest.raises(InvalidInput, match="is a folder"):
        save_file(store, tmp_path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "NoneType is no content of a file: give a path, bytes"),
        (7, "int is no content"),
        ({"a": 1}, "dict is no content"),
        (io.StringIO("text"), "the content is text: open the file in binary mode"),
        (io.StringIO(""), "the content is text"),
        (iter(["text"]), "the content is text"),
        (iter([b"bytes", 7]), "a part of the content is int: give bytes"),
        ("a\0b", "cannot read 'a.x00b'"),
    ],
    ids=[
        "nothing",
        "number",
        "object",
        "text file",
        "empty text file",
        "texts",
        "a number among bytes",
        "NUL in a path",
    ],
)
def test_content_that_is_none_is_refused_and_nothing_is_stored(store, content, message):
    with pytest.raises(InvalidInput, match=message):
        save_file(store, content)
    assert list(store.list()) == []
    assert [path for path in Path(store.path_of("staging")).rglob("*") if path.is_file()] == []


def test_pipe_is_refused_and_not_waited_for(store, tmp_path):
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(InvalidInput, match="is no regular file: save what it gives"):
        save_file(store, tmp_path / "pipe")


@pytest.mark.parametrize("media_type", ["", "html", "text/", "/html", "text/html\n"])
def test_media_type_that_is_none_is_refused(store, media_type):
    with pytest.raises(InvalidInput, match="is no media type"):
        save_file(store, b"x", media_type=media_type)


def test_error_of_the_content_itself_comes_through(store):
    def parts():
        yield b"half"
        raise ConnectionError("the source went away")

    with pytest.raises(ConnectionError, match="went away"):
        save_file(store, parts())
    assert list(store.list()) == []


def test_download_into_a_folder_that_does_not_exist_names_the_path(store, tmp_path):
    stored = save_file(store, b"x")
    with pytest.raises(InvalidInput, match=r"cannot write .*missing/copy"):
        download_file(store, stored, tmp_path / "missing" / "copy")


def test_missing_file_is_named(store, tmp_path):
    stored = save_file(store, b"x")
    store.delete(stored.name)
    with pytest.raises(ObjectMissing, match=stored.name):
        open_file(store, stored)
    with pytest.raises(ObjectMissing, match=stored.name):
        download_file(store, stored, tmp_path / "copy")
    assert not (tmp_path / "copy").exists()


def test_file_of_another_length_is_damaged(store):
    stored = save_file(store, b"model")
    Path(store.path_of(stored.name)).write_bytes(b"model and more")
    with pytest.raises(ObjectCorrupt, match="14 bytes, 5 were written"):
        open_file(store, stored)


@pytest.mark.parametrize(
    ("name", "given", "media_type"),
    [
        ("report.html", None, "text/html"),
        ("report.html", "text/plain", "text/plain"),
        ("model", None, "application/octet-stream"),
    ],
)
def test_media_type_comes_from_the_name_unless_it_is_given(store, tmp_path, name, given, media_type):
    (tmp_path / name).write_bytes(b"x")
    assert save_file(store, str(tmp_path / name), media_type=given).media_type == media_type


def test_same_bytes_are_stored_once(store):
    assert save_file(store, b"x") == save_file(store, b"x")
    assert len(list(store.list())) == 1


def test_empty_file_comes_back(store):
    with open_file(store, save_file(store, b"")) as file:
        assert file.read() == b""


def test_large_file_comes_back_and_is_seekable(store):
    content = bytes(range(256)) * 80_000  # more than is kept in memory
    with open_file(store, save_file(store, content)) as file:
        file.seek(-1, 2)
        assert file.read() == b"\xff"


def test_saved_path_is_left_where_it_is(store, tmp_path):
    (tmp_path / "model").write_bytes(b"x")
    save_file(store, tmp_path / "model")
    assert (tmp_path / "model").read_bytes() == b"x"


@pytest.mark.parametrize(
    "content",
    [b"abc", bytearray(b"abc"), memoryview(b"abc"), io.BytesIO(b"abc"), [b"a", b"", bytearray(b"bc")], iter([b"abc"])],
    ids=lambda content: type(content).__name__,
)
def test_content_of_every_kind_is_the_same_file(store, content):
    assert save_file(store, content) == save_file(store, b"abc")


def test_open_file_is_read_from_where_it_stands_and_left_open(store, tmp_path):
    (tmp_path / "report.html").write_bytes(b"head<p>")
    with (tmp_path / "report.html").open("rb") as source:
        source.seek(4)
        stored = save_file(store, source)
        assert not source.closed
    assert (stored.size_bytes, stored.media_type) == (3, "text/html")
