"""Roots, names and local disks; what holds on every backend is in the contract."""

import os
import resource
import signal
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from freshline.storage.errors import ArtifactError, InvalidInput
from freshline.storage.files import save_file
from freshline.storage.filesystem import ObjectStore
from freshline.storage.parquet import read_table, write_table


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("", "file:///absolute/path"),
        ("file://objects/here", "file:///absolute/path"),
        ("nowhere://bucket/x", "is no object store"),
        ("s3://", "names no bucket"),
        ("s3:///prefix", "names no bucket"),
        ("memory://", "names no bucket"),
    ],
)
def test_root_that_cannot_be_used_says_what_to_write(url, message):
    with pytest.raises(InvalidInput, match=message):
        ObjectStore(url)


def test_root_with_credentials_is_refused_without_showing_them():
    with pytest.raises(InvalidInput, match="AWS_") as caught:
        ObjectStore("s3://my-key:my-secret@bucket/prefix")
    assert "my-secret" not in str(caught.value)


@pytest.mark.parametrize(
    "name", ["", "/etc/passwd", "../x", "objects/../x", "a//b", "a/", ".hidden", "a b", "ä", "a\0", "a\n"]
)
def test_name_that_is_not_ours_is_refused(tmp_path, name):
    with pytest.raises(InvalidInput, match="cannot be the name of an object"):
        ObjectStore(tmp_path.as_uri()).path_of(name)


def test_root_under_a_file_gives_one_clear_error(tmp_path):
    (tmp_path / "file").write_text("in the way")
    store = ObjectStore((tmp_path / "file" / "root").as_uri())
    for write, said in (
        (lambda: store.put_bytes(b"x", "objects/x"), "cannot write file:///.*/objects/x: .*FRESHLINE_ARTIFACTS_URL"),
        (lambda: write_table(store, pa.table({"a": [1]})), "cannot write file:///.*objects/.*FRESHLINE_ARTIFACTS_URL"),
        (lambda: save_file(store, b"x"), "cannot write to file:///.*FRESHLINE_ARTIFACTS_URL"),
    ):
        with pytest.raises(ArtifactError, match=said) as caught:
            write()
        assert caught.value.__cause__ is None


def test_full_disk_is_a_clear_error_and_leaves_no_object(tmp_path):
    store = ObjectStore(tmp_path.as_uri())
    small, large = (pa.table({"x": np.random.default_rng(0).normal(size=rows)}) for rows in (20_000, 200_000))
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, limits[1]))  # a write beyond fails as on a full disk
    try:
        for write, said in (
            (lambda: write_table(store, small), "cannot write file:///.*/objects/"),
            (lambda: write_table(store, large), "cannot write to file:///"),
            (lambda: save_file(store, bytes(100_000)), "cannot write to file:///"),
        ):
            with pytest.raises(ArtifactError, match=said):
                write()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, ignored)
    assert list(store.list()) == []
    assert list((tmp_path / "staging").iterdir()) == []


def test_secrets_of_the_environment_are_struck_out(tmp_path, monkeypatch):
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "my-secret")
    store = ObjectStore(tmp_path.as_uri())
    with pytest.raises(ArtifactError, match=r"said \*\*\*") as caught, store.translated("read"):
        raise RuntimeError("the driver said my-secret")
    assert "my-secret" not in str(caught.value)


def test_error_of_ours_passes_untranslated(tmp_path):
    with pytest.raises(InvalidInput), ObjectStore(tmp_path.as_uri()).translated("read"):
        raise InvalidInput("as it is")


def test_local_root_may_contain_anything_that_a_path_may(tmp_path):
    root = tmp_path / "a b%20ü#?"
    store = ObjectStore(root.as_uri())
    store.put_bytes(b"x", "objects/x")
    assert (root / "objects" / "x").read_bytes() == b"x"
    stored = write_table(store, pa.table({"a": [1]}))
    assert read_table(store, stored, columns=["a"]).num_rows == 1
    assert next(store.list()).name == stored.fragments[0].name


def test_root_given_as_a_path_is_that_directory(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert ObjectStore("artifacts").url == (tmp_path / "artifacts").as_uri()
    assert ObjectStore(str(tmp_path)).local_root == tmp_path


def test_opening_a_store_touches_nothing(tmp_path):
    ObjectStore((tmp_path / "root").as_uri())
    ObjectStore("s3://bucket/prefix")
    assert list(tmp_path.iterdir()) == []


def test_stores_without_atomic_puts_get_a_rename(monkeypatch):
    store = ObjectStore("memory://renamed")
    assert store.filesystem is not None
    monkeypatch.setattr(store, "protocol", "sftp")  # the same file system, taken for one that shows half an upload
    store.put_bytes(b"whole", "objects/x")
    assert [item.name for item in store.list()] == ["objects/x"]
    assert store.read_bytes("objects/x") == b"whole"
    assert list(store.list("staging/")) == []


def test_file_from_another_disk_is_copied(tmp_path, monkeypatch):
    store = ObjectStore((tmp_path / "root").as_uri())
    (tmp_path / "local").write_bytes(b"x")
    replace = os.replace

    def replace_on_one_disk(source, target):
        if Path(source).parent == tmp_path:
            raise OSError(18, "Invalid cross-device link")
        replace(source, target)

    monkeypatch.setattr(os, "replace", replace_on_one_disk)
    store.put_file(tmp_path / "local", "objects/x", consume=True)
    assert store.read_bytes("objects/x") == b"x"


def test_what_is_not_ours_is_not_listed(tmp_path):
    store = ObjectStore(tmp_path.as_uri())
    store.put_bytes(b"x", "objects/ab/x")
    (tmp_path / "objects" / "ab" / ".DS_Store").write_bytes(b"")
    assert [item.name for item in store.list()] == ["objects/ab/x"]


def test_clear_staging_removes_what_is_older_and_keeps_what_is_in_use(tmp_path):
    store = ObjectStore(tmp_path.as_uri())
    now = datetime.now(UTC)
    assert store.clear_staging(now) == 0
    with store.staging() as old, store.staging() as used:
        (old / "left").write_bytes(b"x")
        (used / "growing").write_bytes(b"x")
        long_ago = (now - timedelta(days=2)).timestamp()
        for path in (old / "left", old, used):
            os.utime(path, (long_ago, long_ago))
        assert store.clear_staging(now - timedelta(days=1)) == 1
        assert (old.exists(), used.exists()) == (False, True)
