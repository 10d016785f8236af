"""What every object store must do: the same tests on each backend."""

import pickle
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, date, datetime, timedelta

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from freshline.storage.errors import ArtifactError, InvalidInput, ObjectCorrupt, ObjectMissing
from freshline.storage.files import download_file, open_file, save_file
from freshline.storage.filesystem import ObjectStore
from freshline.storage.ids import new_id
from freshline.storage.parquet import read_table, scan, to_pandas, write_table
from freshline.storage.patience import Patience
from freshline.storage.probe import Outcome, probe

NAME = "objects/ab/abcd.bin"


def flipped(content: bytes, place: int) -> bytes:
    """The same bytes but for one bit."""
    changed = bytearray(content)
    changed[place] ^= 1
    return bytes(changed)


class TestObjects:
    def test_name_that_leads_out_of_the_root_is_refused(self, store):
        for call in (store.read_bytes, store.exists, store.delete, lambda name: store.put_bytes(b"x", name)):
            with pytest.raises(InvalidInput, match="cannot be the name of an object"):
                call("objects/../../x")

    def test_object_that_is_missing_is_named(self, store, tmp_path):
        for call in (store.read_bytes, store.open, store.size_bytes, lambda name: store.download(name, tmp_path / "x")):
            with pytest.raises(ObjectMissing, match=f"{store.url}/{NAME} is not there"):
                call(NAME)
        with pytest.raises(ObjectMissing):
            list(store.read_chunks(NAME))
        assert not store.exists(NAME)

    def test_folder_is_no_object(self, store):
        store.put_bytes(b"x", NAME)
        assert not store.exists("objects/ab")

    @pytest.mark.parametrize("content", [b"", b"x", bytes(range(256)) * 20_000], ids=["empty", "byte", "5MB"])
    def test_object_reads_back_by_every_way(self, store, tmp_path, content):
        store.put_bytes(content, NAME)
        store.download(NAME, tmp_path / "copy")
        with store.open(NAME) as file:
            assert file.read() == content
        assert (
            store.read_bytes(NAME) == b"".join(store.read_chunks(NAME)) == (tmp_path / "copy").read_bytes() == content
        )
        assert (store.exists(NAME), store.size_bytes(NAME)) == (True, len(content))

    def test_object_reads_a_part(self, store):
        store.put_bytes(b"0123456789", NAME)
        assert store.read_bytes(NAME, start=3, end=6) == b"345"
        with store.open(NAME) as file:
            file.seek(8)
            assert file.read() == b"89"

    def test_object_under_another_name_is_replaced(self, store):
        store.put_bytes(b"old", "other/a")
        store.put_bytes(b"new!", "other/a")
        assert store.read_bytes("other/a") == b"new!"

    def test_object_named_by_its_content_is_not_uploaded_again(self, store):
        store.put_bytes(b"first", NAME)
        store.put_bytes(b"other", NAME)  # as long, so that only an upload could change it
        assert store.read_bytes(NAME) == b"first"

    def test_object_named_by_its_content_but_cut_short_is_uploaded_again(self, store):
        store.put_bytes(b"half", NAME)
        store.put_bytes(b"halves", NAME)
        assert store.read_bytes(NAME) == b"halves"

    def test_put_of_a_local_file_that_is_missing_is_refused(self, store, tmp_path):
        with pytest.raises(FileNotFoundError):
            store.put_file(tmp_path / "none", NAME)
        assert not store.exists(NAME)

    def test_put_leaves_the_local_file_unless_it_may_be_consumed(self, store, tmp_path):
        local = tmp_path / "local"
        local.write_bytes(b"x")
        store.put_file(local, NAME)
        assert local.read_bytes() == b"x"

    def test_put_of_many_parts_is_whole(self, store):
        content = np.random.default_rng(1).bytes(40 * 2**20)
        store.put_bytes(content, NAME)
        assert store.read_bytes(NAME) == content

    def test_puts_of_one_name_at_once_leave_one_whole_object(self, store):
        contents = [bytes([number]) * 100_000 for number in range(6)]
        with ThreadPoolExecutor(6) as executor:
            list(executor.map(lambda content: store.put_bytes(content, "other/race"), contents))
        assert store.read_bytes("other/race") in contents

    def test_delete_removes_an_object_and_may_be_repeated(self, store):
        store.put_bytes(b"x", NAME)
        store.delete(NAME)
        store.delete(NAME)
        assert not store.exists(NAME)

    def test_list_gives_names_in_order_below_the_prefix(self, store):
        before = datetime.now(UTC) - timedelta(minutes=1)
        for name in ("objects/b/2", "objects/a/1", "other/3"):
            store.put_bytes(name.encode(), name)
        listed = list(store.list("objects/"))
        assert [(item.name, item.size_bytes) for item in listed] == [("objects/a/1", 11), ("objects/b/2", 11)]
        assert all(item.modified_at is None or item.modified_at > before for item in listed)
        assert [item.name for item in store.list("other/")] == ["other/3"]

    def test_list_of_nothing_is_empty(self, store):
        assert list(store.list()) == []

    def test_list_sees_at_once_what_was_put_and_deleted(self, store):
        store.put_bytes(b"x", NAME)
        assert [item.name for item in store.list()] == [NAME]
        store.delete(NAME)
        assert list(store.list()) == []

    def test_store_travels_to_another_process(self, store):
        store.put_bytes(b"x", NAME)
        assert pickle.loads(pickle.dumps(store)).url == store.url
        if store.protocol != "memory":
            assert pickle.loads(pickle.dumps(store)).read_bytes(NAME) == b"x"


class TestProbe:
    def test_probe_finds_a_store_that_works_and_leaves_nothing_behind(self, store):
        checks = {check.name: check for check in probe(store)}
        assert Outcome.BROKEN not in {check.outcome for check in checks.values()}, checks
        assert {"open", "write", "read", "read a range", "conditional write", "list", "delete"} <= checks.keys()
        assert list(store.list("doctor/")) == []

    def test_probe_knows_which_servers_write_conditionally(self, moto, rclone, monkeypatch):
        for server, outcome in ((moto, Outcome.OK), (rclone, Outcome.NOTE)):
            for name, value in server.environment().items():
                monkeypatch.setenv(name, value)
            checks = {check.name: check for check in probe(ObjectStore(f"{server.url}/{new_id()}"))}
            assert checks["conditional write"].outcome == outcome, checks
            assert checks["upload in parts"].outcome in (Outcome.OK, Outcome.NOTE), checks


class TestTables:
    FRAME = pd.DataFrame(
        {"AAPL": np.arange(300.0), "MSFT": np.arange(300.0) * 2},
        index=pd.date_range("2020-01-01", periods=300, name="date"),
    )

    def test_table_reads_back_whole_in_part_and_as_a_stream(self, store):
        base = write_table(store, self.FRAME.iloc[:200], data_date="date")
        stored = write_table(store, self.FRAME.iloc[200:], base=base)
        pd.testing.assert_frame_equal(to_pandas(store, stored), self.FRAME, check_freq=False)
        part = to_pandas(store, stored, columns=["MSFT"], where=[("AAPL", ">", 10)], until=date(2020, 7, 31))
        pd.testing.assert_frame_equal(part, self.FRAME.loc["2020-01-12":"2020-07-31", ["MSFT"]], check_freq=False)
        assert sum(batch.num_rows for batch in scan(store, stored).to_batches()) == 300
        assert len(list(store.list())) == 2

    def test_table_of_many_fragments_keeps_its_order(self, store):
        stored = write_table(store, pa.table({"n": [0]}))
        for number in range(1, 12):
            stored = write_table(store, pa.table({"n": [number]}), base=stored)
        assert read_table(store, stored)["n"].to_pylist() == list(range(12))
        assert read_table(store, stored, columns=["n"])["n"].to_pylist() == list(range(12))

    def test_table_without_rows_needs_no_object(self, store):
        stored = write_table(store, self.FRAME.iloc[:0])
        assert list(store.list()) == []
        assert list(to_pandas(store, stored).columns) == ["AAPL", "MSFT"]

    def test_table_whose_object_is_gone_is_an_error(self, store):
        stored = write_table(store, self.FRAME)
        store.delete(stored.fragments[0].name)
        for read in self.ways_to_read(store, stored):
            with pytest.raises(ObjectMissing, match=stored.fragments[0].name):
                read()

    @pytest.mark.parametrize("damage", ["flipped", "flipped in the footer", "truncated", "emptied"])
    def test_table_whose_object_is_damaged_is_an_error(self, store, damage):
        stored = write_table(store, self.FRAME)
        (fragment,) = stored.fragments
        content = store.read_bytes(fragment.name)
        damaged = {
            "flipped": flipped(content, 100),
            "flipped in the footer": flipped(content, -fragment.footer_bytes + 40),
            "truncated": content[:-9],
            "emptied": b"",
        }[damage]
        store.delete(fragment.name)
        store.put_bytes(damaged, fragment.name)
        *ways, scanning = self.ways_to_read(store, stored)
        for read in ways:
            with pytest.raises(ObjectCorrupt, match=fragment.name):
                read()
        # Arrow finds a page that is damaged only when it comes to it, and knows no names of ours.
        with pytest.raises(OSError if damage == "flipped" else ObjectCorrupt):
            scanning()

    def ways_to_read(self, store, stored):
        """Every way that leads to the bytes of a table; the last one is Arrow's own."""
        return (
            lambda: read_table(store, stored),
            lambda: read_table(store, stored, columns=["AAPL", "MSFT", "date"]),
            lambda: read_table(store, stored, where=[("AAPL", ">=", 0)]),
            lambda: to_pandas(store, stored),
            lambda: to_pandas(store, stored, columns=["AAPL"]),
            lambda: write_table(store, self.FRAME, base=stored),  # reads the last rows of the base
            lambda: scan(store, stored).to_table(),
        )


class TestFiles:
    def test_file_comes_back_as_it_was(self, store, tmp_path):
        (tmp_path / "report.html").write_bytes(b"<h1>7</h1>")
        stored = save_file(store, tmp_path / "report.html")
        download_file(store, stored, tmp_path / "copy")
        with open_file(store, stored) as file:
            assert file.read() == (tmp_path / "copy").read_bytes() == b"<h1>7</h1>"
        assert (stored.media_type, stored.size_bytes) == ("text/html", 10)

    def test_file_that_is_damaged_is_an_error_and_leaves_the_target(self, store, tmp_path):
        stored = save_file(store, b"model")
        store.delete(stored.name)
        store.put_bytes(b"m0del", stored.name)
        (tmp_path / "target").write_bytes(b"before")
        with pytest.raises(ObjectCorrupt, match=stored.name):
            download_file(store, stored, tmp_path / "target")
        with pytest.raises(ObjectCorrupt, match=stored.name):
            open_file(store, stored)
        assert [path.name for path in tmp_path.iterdir() if path.is_file()] == ["target"]
        assert (tmp_path / "target").read_bytes() == b"before"


class TestS3Errors:
    """What a user sees when S3 does not answer as hoped; never a secret."""

    SECRET = "wJalrXUtnFEMI-not-a-real-secret"

    @pytest.fixture
    def environment(self, rclone, monkeypatch):
        for name, value in rclone.environment().items():
            monkeypatch.setenv(name, value)
        monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
        return monkeypatch

    def test_wrong_credentials_give_a_clear_error_without_the_secret(self, environment, rclone):
        environment.setenv("AWS_SECRET_ACCESS_KEY", self.SECRET)
        with pytest.raises(ArtifactError, match="AWS_") as caught:
            ObjectStore(rclone.url).put_bytes(b"x", NAME)
        assert self.SECRET not in str(caught.value)
        assert caught.value.__cause__ is None

    def test_missing_bucket_is_named(self, environment):
        with pytest.raises(ArtifactError, match="s3://no-such-bucket/objects/ab"):
            ObjectStore("s3://no-such-bucket").put_bytes(b"x", NAME)

    def test_server_that_does_not_answer_is_no_missing_object(self, environment):
        environment.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
        with pytest.raises(ArtifactError, match="AWS_ENDPOINT_URL") as caught:
            ObjectStore("s3://bucket", patience=Patience(0)).read_bytes(NAME)
        assert not isinstance(caught.value, ObjectMissing)

    def test_table_on_a_server_that_went_away_is_not_called_damaged(self, environment, rclone):
        stored = write_table(ObjectStore(rclone.url), pa.table({"a": [1]}))
        environment.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
        with pytest.raises(ArtifactError) as caught:
            read_table(ObjectStore(rclone.url, patience=Patience(0)), stored, columns=["a"])
        assert not isinstance(caught.value, (ObjectMissing, ObjectCorrupt))
