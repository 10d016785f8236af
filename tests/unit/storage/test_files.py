"""Files that are not tables."""

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
