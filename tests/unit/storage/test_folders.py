"""Folders as one artifact: which can be kept, that they come back whole or not at all, and what their digest says."""

import os
import socket
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import sqlalchemy as sa
from hypothesis import given, settings
from hypothesis import strategies as st

from freshline.storage import folders, gc
from freshline.storage.artifacts import ArtifactRecord, artifacts_of, insert_artifacts
from freshline.storage.errors import Conflict, InvalidInput, NotFound, ObjectCorrupt, ObjectMissing
from freshline.storage.files import save_file
from freshline.storage.filesystem import ObjectStore
from freshline.storage.folders import check_paths, download_folder, save_folder
from freshline.storage.ids import new_id
from freshline.storage.local_copies import LocalCopies
from freshline.storage.models import Artifact, ArtifactObject
from freshline.storage.stored import FolderFile, StoredFile, StoredFolder

NOW = datetime(2026, 1, 5, 12, tzinfo=UTC)


@pytest.fixture
def store(tmp_path) -> ObjectStore:
    return ObjectStore((tmp_path / "root").as_uri())


@pytest.fixture
def folder(tmp_path) -> Path:
    """Two files with the same bytes, one in a folder below, a hidden one, one that can be executed, an empty folder."""
    made = tmp_path / "model"
    (made / "assets" / "none").mkdir(parents=True)
    for path in ("weights.bin", "assets/copy.bin"):
        (made / path).write_bytes(b"weights")
    (made / ".config").write_bytes(b"{}")
    (made / "run.sh").write_bytes(b"#!/bin/sh\n")
    (made / "run.sh").chmod(0o750)
    return made


def content_of(folder: Path) -> dict[str, bytes | None]:
    """Path -> bytes, none for a folder."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes() if path.is_file() else None for path in folder.rglob("*")
    }


# What is refused.


def test_folder_that_is_not_there_or_no_folder_is_refused(store, tmp_path):
    with pytest.raises(NotFound, match=r"no folder '.*nothing'"):
        save_folder(store, tmp_path / "nothing")
    (tmp_path / "file").write_bytes(b"x")
    with pytest.raises(InvalidInput, match="file is no folder"):
        save_folder(store, tmp_path / "file")


def test_empty_folder_is_refused(store, tmp_path):
    (tmp_path / "empty" / "below").mkdir(parents=True)
    with pytest.raises(InvalidInput, match="is an empty folder: there is nothing to save"):
        save_folder(store, tmp_path / "empty")


@pytest.mark.parametrize("target", ["weights.bin", "assets", "/etc/passwd", "nowhere"])
def test_symbolic_link_is_refused_wherever_it_leads(store, folder, target):
    (folder / "link").symlink_to(target)
    with pytest.raises(InvalidInput, match=r"model/link is a symbolic link: put what it leads to in its place"):
        save_folder(store, folder)
    assert list(store.list()) == []


def test_pipe_and_socket_are_refused_and_not_waited_for(store, folder, monkeypatch):
    os.mkfifo(folder / "pipe")
    with pytest.raises(InvalidInput, match="pipe is a pipe, a socket or a device"):
        save_folder(store, folder)
    (folder / "pipe").unlink()
    monkeypatch.chdir(folder)  # a socket's path must be short
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind("socket")
        with pytest.raises(InvalidInput, match="socket is a pipe, a socket or a device"):
            save_folder(store, folder)


@pytest.mark.parametrize("name", [b"a\\b", b"a\nb", b"\xff", b"a\x7f"])
def test_name_that_does_not_come_back_everywhere_is_refused(store, folder, name):
    Path(os.fsdecode(os.fsencode(folder) + b"/" + name)).write_bytes(b"x")
    with pytest.raises(InvalidInput, match="cannot be kept: a name may hold printable characters, and no backslash"):
        save_folder(store, folder)


@pytest.mark.parametrize(
    ("one", "other"), [("Weights.bin", "weights.bin"), ("A/x", "a/y"), ("\u00e9", "e\u0301"), ("a", "A/x")]
)
def test_names_that_differ_in_case_alone_are_refused(one, other):
    with pytest.raises(InvalidInput, match="are one name where capitals do not count"):
        check_paths([one, other], of="model")


@pytest.mark.parametrize("path", ["../x", "a/../../x", "/etc/passwd", "a//b", "./a", "a/", "", ".", "x" * 1001])
def test_path_that_leads_out_of_its_folder_is_refused(path):
    with pytest.raises(InvalidInput, match="cannot be kept"):
        check_paths([path], of="model")


def test_folder_of_too_many_files_is_refused(store, folder, monkeypatch):
    monkeypatch.setattr(folders, "MOST_FILES", 3)
    with pytest.raises(InvalidInput, match="has more than 3 files: save an archive of it"):
        save_folder(store, folder)
    with pytest.raises(InvalidInput, match="has more than 3 files"):
        check_paths("abcd", of="the record")


@pytest.mark.parametrize("change", ["grown", "added", "gone"])
def test_folder_that_changes_while_it_is_saved_is_refused(store, folder, monkeypatch, change):
    def changing(*arguments, **options):
        stored = save_file(*arguments, **options)
        if change == "grown":
            (folder / "weights.bin").write_bytes(b"other weights")
        elif change == "added":
            (folder / "new").write_bytes(b"")
        else:
            (folder / "weights.bin").unlink(missing_ok=True)
        return stored

    monkeypatch.setattr(folders, "save_file", changing)
    monkeypatch.setattr(folders, "_AT_ONCE", 1)
    with pytest.raises(Conflict, match="changed while it was saved"):
        save_folder(store, folder)


@pytest.mark.parametrize("path", ["../escaped", "/tmp/escaped", "a/../../escaped", "C:\\escaped"])
def test_record_that_leads_out_of_the_folder_is_not_restored(store, tmp_path, path):
    stored = save_file(store, b"x")
    file = FolderFile(path=path, name=stored.name, sha256=stored.sha256, size_bytes=1)
    record = StoredFolder(sha256="0", size_bytes=1, files=(file,))
    with pytest.raises(InvalidInput, match="in the record cannot be kept"):
        download_folder(store, record, tmp_path / "target" / "folder")
    with pytest.raises(InvalidInput, match="in the record cannot be kept"):
        download_folder(store, replace(record, files=(), empty_folders=(path,)), tmp_path / "folder")
    assert [item.name for item in tmp_path.iterdir()] == ["root"]


@pytest.mark.parametrize("there", ["file", "folder", "link"])
def test_folder_is_not_restored_over_what_is_there(store, folder, tmp_path, there):
    stored, target = save_folder(store, folder), tmp_path / "target"
    if there == "file":
        target.write_bytes(b"mine")
    elif there == "link":
        target.symlink_to(tmp_path / "nowhere")
    else:
        target.mkdir()
        (target / "mine").write_bytes(b"mine")
    with pytest.raises(InvalidInput, match="is there already: choose a path where nothing is"):
        download_folder(store, stored, target)


def test_folder_is_restored_where_a_folder_can_be_made_only(store, folder, tmp_path):
    with pytest.raises(InvalidInput, match=r"cannot write .*: No such file or directory"):
        download_folder(store, save_folder(store, folder), tmp_path / "nowhere" / "model")


@pytest.mark.parametrize(
    ("damage", "error"), [("flipped", ObjectCorrupt), ("cut", ObjectCorrupt), ("gone", ObjectMissing)]
)
def test_folder_with_a_damaged_file_is_not_restored_at_all(store, folder, tmp_path, damage, error):
    stored = save_folder(store, folder)
    name = next(file.name for file in stored.files if file.path == "run.sh")
    place = Path(store.path_of(name))
    content = place.read_bytes()
    place.unlink()
    if damage != "gone":
        place.write_bytes(content[:-1] + (b"" if damage == "cut" else b"?"))
    with pytest.raises(error, match=name):
        download_folder(store, stored, tmp_path / "target")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model", "root"]


# What comes back.


def test_folder_comes_back_as_it_was(store, folder, tmp_path):
    stored = save_folder(store, folder)
    download_folder(store, stored, tmp_path / "copy")
    assert content_of(tmp_path / "copy") == content_of(folder)
    files = [path for path in (tmp_path / "copy").rglob("*") if path.is_file()]
    assert [path.name for path in files if path.stat().st_mode & 0o111] == ["run.sh"]
    assert StoredFolder.from_json(stored.to_json()) == stored
    assert stored.size_bytes == 2 * 7 + 2 + 10


def test_folder_is_restored_into_an_empty_one(store, folder, tmp_path):
    (tmp_path / "copy").mkdir()
    download_folder(store, save_folder(store, folder), tmp_path / "copy")
    assert content_of(tmp_path / "copy") == content_of(folder)


def test_same_bytes_are_one_object_and_shared_with_the_next_version(store, folder):
    first = save_folder(store, folder)
    assert len(list(store.list())) == 3
    (folder / "new").write_bytes(b"new")
    second = save_folder(store, folder)
    assert len(list(store.list())) == 4
    assert {file.name for file in first.files} < {file.name for file in second.files}


def test_digest_is_over_paths_and_bytes_and_nothing_else(store, folder):
    digest = save_folder(store, folder).sha256
    os.utime(folder / "weights.bin", (0, 0))
    (folder / "weights.bin").chmod(0o700)
    assert save_folder(store, folder).sha256 == digest
    digests = {digest}
    for change in (
        lambda: (folder / "weights.bin").write_bytes(b"weighty"),
        lambda: (folder / "weights.bin").rename(folder / "weights"),
        lambda: (folder / "weights").rename(folder / "assets" / "weights"),
        (folder / "assets" / "none").rmdir,
        (folder / "assets" / "none").touch,
    ):
        change()
        digests.add(save_folder(store, folder).sha256)
    assert len(digests) == 6


NAMES = st.text(st.sampled_from("aAbß.é _-\u0301漢🎲"), min_size=1, max_size=6)
PATHS = st.lists(NAMES, min_size=1, max_size=3).map("/".join)
CONTENTS = st.dictionaries(PATHS, st.binary(max_size=9), min_size=1, max_size=5)


@settings(max_examples=10, deadline=None)
@given(CONTENTS)
def test_any_folder_comes_back_or_is_refused(tmp_path_factory, contents):
    check_comes_back_or_is_refused(tmp_path_factory.mktemp("any"), contents)


@pytest.mark.slow
@settings(max_examples=500, deadline=None)
@given(CONTENTS)
def test_any_folder_of_many_comes_back_or_is_refused(tmp_path_factory, contents):
    check_comes_back_or_is_refused(tmp_path_factory.mktemp("any"), contents)


def check_comes_back_or_is_refused(directory: Path, contents: dict[str, bytes]) -> None:
    store = ObjectStore(f"memory://{new_id()}")
    for path, content in contents.items():
        place = directory / "in" / path
        # A name may be a file and a folder, or lead elsewhere: then it cannot be written at all.
        if ".." not in path.split("/") and not place.exists() and not any(above.is_file() for above in place.parents):
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_bytes(content)
    try:
        stored = save_folder(store, directory / "in")
    except (InvalidInput, NotFound):
        return
    download_folder(store, stored, directory / "out")
    assert content_of(directory / "out") == content_of(directory / "in")


def test_copy_of_an_artifact_has_its_name_where_that_is_the_name_of_a_file(store):
    copies = LocalCopies()
    stored = save_file(store, b"x")
    names = {name: copies.add(store, ArtifactRecord.of_file(name, stored)) for name in ("a.html", "../a", "..", "a/b")}
    assert [path.name for path in names.values()] == ["a.html", "content", "content", "content"]
    assert all(path.read_bytes() == b"x" for path in names.values())
    copies.close()
    assert not any(path.exists() for path in names.values())


# In the records.


def test_folder_is_recorded_with_all_its_objects_and_garbage_collection_leaves_them(database, folder):
    store = ObjectStore(f"memory://{new_id()}")
    owner, stored = new_id(), save_folder(store, folder)
    record = ArtifactRecord.of_file("model", stored)
    database.write(lambda connection: insert_artifacts(connection, owner, [record], now=NOW))
    with database.read() as connection:
        assert artifacts_of(connection, owner) == [record]
    assert (record.kind, record.media_type, record.digest) == ("folder", "inode/directory", stored.sha256)
    garbage = save_file(store, b"garbage")
    grace = timedelta(0)
    later = NOW + timedelta(days=1)
    gc.adopt(database, store)
    database.write(lambda connection: gc.condemn(connection, later))
    assert gc.sweep(database, store, grace=grace).objects == 1
    assert not store.exists(garbage.name)
    assert all(store.exists(file.name) for file in stored.files)

    def forget(connection):
        connection.execute(sa.delete(ArtifactObject.__table__))
        connection.execute(sa.delete(Artifact.__table__))

    database.write(forget)
    database.write(lambda connection: gc.condemn(connection, later))
    assert gc.sweep(database, store, grace=grace).objects == 3
    assert list(store.list()) == []


def test_program_that_knows_no_folders_refuses_the_record(store, folder):
    with pytest.raises(InvalidInput, match="format 3"):
        _read_by_an_older_program(save_folder(store, folder).to_json())


def _read_by_an_older_program(text: str) -> None:
    """What a program did that knew formats up to 2: every artifact but a table was a file to it."""
    loaded = StoredFile.from_json(text)
    if loaded.format > 2:
        raise InvalidInput(f"the record has format {loaded.format}; this program reads 2: upgrade Freshline")
