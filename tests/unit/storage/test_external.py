"""What others keep: found, digested as our own tables are, referenced or copied, and checked when it is read."""

import hashlib
import os
from datetime import date
from pathlib import Path

import fsspec
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from freshline.storage import external, found, parquet
from freshline.storage.artifacts import ArtifactRecord
from freshline.storage.errors import (
    ArtifactError,
    Conflict,
    InvalidInput,
    NotFound,
    NotStorable,
    ObjectCorrupt,
    ObjectMissing,
)
from freshline.storage.files import download_file, open_file
from freshline.storage.filesystem import ObjectStore
from freshline.storage.folders import download_folder
from freshline.storage.ids import new_id
from freshline.storage.referenced import ReferencedStore
from freshline.storage.stored import StoredFile, StoredFolder, StoredTable


@pytest.fixture
def objects() -> ObjectStore:
    return ObjectStore(f"memory://{new_id()}")


@pytest.fixture(params=["file", "memory"])
def place(request, tmp_path: Path) -> str:
    """The URL of an empty folder of somebody else's."""
    if request.param == "file":
        (tmp_path / "vendor").mkdir()
        return (tmp_path / "vendor").as_uri()
    return f"memory://{new_id()}/vendor"


PRICES = pd.DataFrame({"date": pd.to_datetime(["2026-01-01", "2026-01-02"] * 2), "close": [1.0, 2.0, 3.0, None]})


def put(url: str, content: bytes | pd.DataFrame | pa.Table, **options: object) -> str:
    """Somebody else writes a file."""
    table = pa.Table.from_pandas(content) if isinstance(content, pd.DataFrame) else content
    with fsspec.open(url, "wb") as target:
        if isinstance(table, pa.Table):
            pq.write_table(table, target, **options)
        else:
            target.write(table)
    return url


def test_uri_where_nothing_is_is_not_found(place):
    with pytest.raises(NotFound, match=r"no file or folder at .*nothing.parquet"):
        found.find(f"{place}/nothing.parquet")


def test_empty_folder_is_refused(place, tmp_path):
    fsspec.open(f"{place}/x", "wb").fs.makedirs(place.removeprefix("file://").removeprefix("memory:/"), exist_ok=True)
    put(f"{place}/_SUCCESS", b"")
    with pytest.raises(InvalidInput, match="is an empty folder: there is nothing to publish"):
        found.find(place)


def test_folder_with_another_file_than_parquet_is_refused(place):
    put(f"{place}/a.parquet", PRICES)
    put(f"{place}/read.me", b"hello, I am text")
    with pytest.raises(InvalidInput, match=r"read.me is no Parquet, and other files beside it are"):
        found.find(place)


def test_name_in_a_folder_that_cannot_be_kept_is_refused(objects, tmp_path):
    (tmp_path / "model").mkdir()
    for name in ("Weights", "weights"):
        (tmp_path / "model" / name).write_bytes(b"x")
    at = found.find(str(tmp_path / "model"))
    for publish in (external.refer_to, lambda at: external.copy(objects, at)):
        with pytest.raises(InvalidInput, match="are one name where capitals do not count"):
            publish(at)


def test_file_named_parquet_that_is_cut_off_is_refused(place):
    put(f"{place}/a.parquet", PRICES)
    with fsspec.open(f"{place}/a.parquet", "rb") as source:
        put(f"{place}/a.parquet", source.read()[:-20])
    with pytest.raises(InvalidInput, match="named as Parquet and is none: it is damaged, cut off or encrypted"):
        found.find(f"{place}/a.parquet")


def test_parquet_with_a_damaged_page_is_refused(place):
    put(f"{place}/a.parquet", PRICES, write_page_checksum=True, compression="none")
    with fsspec.open(f"{place}/a.parquet", "rb") as source:
        content = bytearray(source.read())
    content[60] ^= 0xFF
    put(f"{place}/a.parquet", bytes(content))
    with pytest.raises(InvalidInput, match=r"a.parquet is damaged"):
        external.refer_to(found.find(f"{place}/a.parquet"))


def test_files_of_a_folder_with_other_columns_are_refused_by_name(place):
    put(f"{place}/a.parquet", PRICES)
    put(f"{place}/b.parquet", PRICES.rename(columns={"close": "open"}))
    with pytest.raises(InvalidInput, match=r"b.parquet: the columns are not those of the table: missing 'close'"):
        external.refer_to(found.find(place))


def test_column_that_stands_in_the_paths_alone_is_refused(place):
    put(f"{place}/country=US/a.parquet", PRICES)
    with pytest.raises(InvalidInput, match="has the column 'country' in its path and not in its rows"):
        external.refer_to(found.find(place))


def test_date_column_that_is_not_there_is_refused_unless_it_is_the_default(place):
    at = found.find(put(f"{place}/a.parquet", pd.DataFrame({"x": [1]})))
    with pytest.raises(NotFound, match="'day'"):
        external.refer_to(at, date_column="day")
    assert external.refer_to(at).last_data_date is None


def test_date_column_of_text_says_nothing_by_default(place):
    at = found.find(put(f"{place}/a.parquet", pd.DataFrame({"date": ["2026-01-01"]})))
    assert external.refer_to(at).data_date is None


def test_null_in_the_date_column_is_refused_with_the_place(place):
    at = found.find(put(f"{place}/a.parquet", pd.DataFrame({"date": pd.to_datetime(["2026-01-01", None])})))
    with pytest.raises(NotStorable, match=r"a.parquet: the data date 'date' is null in 1 rows"):
        external.refer_to(at)
    assert external.refer_to(at, date_column=None).rows == 2


@pytest.mark.parametrize(
    ("uri", "said"),
    [
        ("", "must have 1 to 2,000 printable characters"),
        ("a\nb", "printable characters"),
        ("s3://me:hunter2@bucket/x", "holds a secret"),
        ("https://host/x?X-Amz-Signature=abc", "holds a secret"),
        ("https://hunter2@host/x", "holds a secret"),
        ("https://host/x?apikey=hunter2", "holds a secret"),
        ("https://host/x?day=1&passwd=hunter2", "holds a secret"),
        ("snowflake://db/table", "state its digest"),
        ("s3:///x", "names no bucket"),
    ],
)
def test_uri_that_cannot_be_used_is_refused(uri, said):
    with pytest.raises(InvalidInput, match=said) as caught:
        found.find(uri)
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize("uri", ["abfs://container@account/x.csv", "https://host/x?monkey_bars=1"])
def test_user_of_an_address_and_a_harmless_name_are_no_secret(uri):
    assert found.check_uri(uri) == uri


def test_unreadable_file_is_an_error_with_advice(tmp_path, monkeypatch):
    path = tmp_path / "secret.csv"
    path.write_text("x")

    def refuse(*_args: object, **_options: object) -> bytes:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("fsspec.implementations.local.LocalFileSystem.info", refuse)
    with pytest.raises(ArtifactError, match=r"Permission denied.* Check the path, and that this user may read it"):
        found.find(str(path))


def test_referenced_table_has_the_digest_of_our_own(objects, place):
    url = put(f"{place}/a.parquet", PRICES, row_group_size=3)
    stored = external.refer_to(found.find(url))
    ours = parquet.write_table(objects, PRICES, data_date="date")
    assert isinstance(stored, StoredTable)
    assert (stored.digest, stored.rows) == (ours.digest, 4)
    assert (stored.first_data_date, stored.last_data_date) == (date(2026, 1, 1), date(2026, 1, 2))
    assert stored.root == url
    assert StoredTable.from_json(stored.to_json()) == stored
    pd.testing.assert_frame_equal(parquet.to_pandas(objects, stored), PRICES)


def test_folder_is_one_table_in_the_order_of_its_paths(objects, place):
    put(f"{place}/b.parquet", PRICES[2:])
    put(f"{place}/a.parquet", PRICES[:2])
    put(f"{place}/_metadata", b"no row")
    stored = external.refer_to(found.find(place))
    assert stored.digest == parquet.write_table(objects, PRICES.reset_index(drop=True)).digest
    assert [fragment.name for fragment in stored.fragments] == ["a.parquet", "b.parquet"]
    assert parquet.read_table(objects, stored).num_rows == 4


def test_table_without_a_row_has_its_columns(objects, place):
    stored = external.refer_to(found.find(put(f"{place}/a.parquet", PRICES[:0])))
    assert (stored.rows, stored.columns) == (0, ("date", "close"))
    assert parquet.read_table(objects, stored).column_names == ["date", "close"]


def test_dictionary_columns_and_the_index_come_back(objects, place):
    frame = pd.DataFrame({"asset": pd.Categorical(["A", "B", "A"])}, index=pd.Index([1, 2, 3], name="n"))
    stored = external.refer_to(found.find(put(f"{place}/a.parquet", frame, row_group_size=2)))
    pd.testing.assert_frame_equal(parquet.to_pandas(objects, stored), frame)


def test_referenced_table_is_read_in_part(objects, place):
    stored = external.refer_to(found.find(put(f"{place}/a.parquet", PRICES)))
    part = parquet.read_table(objects, stored, columns=["close"], where=pc.field("close") > 1.5)
    assert part.to_pydict() == {"close": [2.0, 3.0]}
    assert parquet.read_table(objects, stored, until=date(2026, 1, 1)).num_rows == 2
    assert parquet.scan(objects, stored).count_rows() == 4


@pytest.mark.parametrize("columns", [None, ["close"]])
def test_referenced_table_that_changed_is_an_error(objects, place, columns):
    url = put(f"{place}/a.parquet", PRICES)
    stored = external.refer_to(found.find(url))
    put(url, PRICES.assign(close=9.0))
    with pytest.raises(ObjectCorrupt, match=r"a.parquet has changed since it was published: .* Publish it again"):
        parquet.read_table(objects, stored, columns=columns)


def test_referenced_table_that_is_gone_is_an_error(objects, place):
    url = put(f"{place}/a.parquet", PRICES)
    stored = external.refer_to(found.find(url))
    file = fsspec.open(url)
    file.fs.rm(file.path)
    with pytest.raises(ObjectMissing, match="not there any more, though a version refers to it"):
        parquet.read_table(objects, stored)


def test_copied_table_has_the_same_digest_and_outlives_its_origin(objects, place):
    url = put(f"{place}/a.parquet", PRICES)
    referenced, copied = external.refer_to(found.find(url)), external.copy(objects, found.find(url))
    assert copied.root is None
    assert copied.digest == referenced.digest
    put(url, b"overwritten by something else")
    pd.testing.assert_frame_equal(parquet.to_pandas(objects, copied), PRICES)


def test_any_other_file_is_its_bytes(objects, place, tmp_path):
    url = put(f"{place}/a.csv", b"x,y\n1,2\n")
    stored, copied = external.refer_to(found.find(url)), external.copy(objects, found.find(url))
    assert isinstance(stored, StoredFile)
    assert stored.sha256 == copied.sha256 == hashlib.sha256(b"x,y\n1,2\n").hexdigest()
    assert stored.media_type == copied.media_type == "text/csv"
    assert StoredFile.from_json(stored.to_json()) == stored
    download_file(objects, stored, tmp_path / "copy")
    assert (tmp_path / "copy").read_bytes() == b"x,y\n1,2\n"


def test_referenced_file_that_changed_is_an_error(objects, place):
    url = put(f"{place}/a.csv", b"x,y\n1,2\n")
    stored = external.refer_to(found.find(url))
    put(url, b"x,y\n1,3\n")
    with pytest.raises(ObjectCorrupt, match=r"a.csv has changed since it was published"):
        open_file(objects, stored)


def test_file_whose_digest_was_stated_cannot_be_opened(objects):
    stored = external.stated("snowflake://db/table")
    with pytest.raises(InvalidInput, match=r"its digest was stated by whoever published it.* Read it by its URI"):
        open_file(objects, stored)


def test_change_while_it_is_read_is_noticed(place):
    at = found.find(put(f"{place}/a.parquet", PRICES))
    found.check_unchanged(at)
    put(f"{place}/a.parquet", PRICES.assign(close=9.0, more=1))
    with pytest.raises(Conflict, match="changed while it was read: nothing was published"):
        found.check_unchanged(at)


def test_change_that_keeps_the_size_is_noticed(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("1")
    at = found.find(str(path))
    path.write_text("2")
    os.utime(path, ns=(0, path.stat().st_mtime_ns + 1_000_000))
    with pytest.raises(Conflict):
        found.check_unchanged(at)


def test_removal_while_it_is_read_is_noticed(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("1")
    at = found.find(str(path))
    path.unlink()
    with pytest.raises(Conflict):
        found.check_unchanged(at)


def test_watcher_is_told_to_the_last_byte(objects, place):
    put(f"{place}/a.parquet", PRICES)
    put(f"{place}/b.parquet", PRICES)
    at = found.find(place)
    told: list[tuple[int, int]] = []
    external.refer_to(at, watch=lambda done, total: told.append((done, total)))
    assert told[-1] == (at.size_bytes, at.size_bytes)
    assert told == sorted(told)


def test_nothing_of_others_is_written_or_deleted(place, tmp_path):
    url = put(f"{place}/a.csv", b"1")
    store = ReferencedStore(url)
    with pytest.raises(InvalidInput, match="Freshline does not delete there"):
        store.delete("")
    with pytest.raises(InvalidInput, match="Freshline does not write there"):
        store.put_file(tmp_path, "")
    with pytest.raises(InvalidInput, match="is no file below"):
        store.path_of("../other")


def test_append_to_a_referenced_table_is_refused(objects, place):
    stored = external.refer_to(found.find(put(f"{place}/a.parquet", PRICES)))
    with pytest.raises(InvalidInput, match="only referenced: nothing can be added"):
        parquet.write_table(objects, PRICES, base=stored)


def test_referenced_artifact_speaks_of_its_data_date(place):
    stored = external.refer_to(found.find(put(f"{place}/a.parquet", PRICES)))
    assert ArtifactRecord.of_table("vendor", stored).last_data_date == date(2026, 1, 2)
    assert ArtifactRecord.of_file("x", external.stated("a://b"), digest="d").last_data_date is None


def test_folder_of_other_files_is_a_folder_with_all_of_them(place, objects, tmp_path):
    contents = {"weights": b"weights", "_meta/config": b"{}", ".hidden": b"h"}
    for name, content in contents.items():
        fsspec.open(f"{place}/{name}", "wb").fs.makedirs(
            f"{place}/{name}".removeprefix("file://").removeprefix("memory:/").rpartition("/")[0], exist_ok=True
        )
        put(f"{place}/{name}", content)
    at = found.find(place)
    assert (at.is_table, at.is_folder) == (False, True)
    seen: list[tuple[int, int]] = []
    referenced = external.refer_to(at, watch=lambda done, total: seen.append((done, total)))
    copied = external.copy(objects, at)
    assert isinstance(referenced, StoredFolder)
    assert isinstance(copied, StoredFolder)
    assert (referenced.root, copied.root) == (at.url, None)
    assert referenced.sha256 == copied.sha256
    assert seen[-1] == (10, 10)
    for number, stored in enumerate((referenced, copied)):
        download_folder(objects, stored, tmp_path / str(number))
        assert {name: (tmp_path / str(number) / name).read_bytes() for name in contents} == contents
    put(f"{place}/weights", b"changed")
    with pytest.raises(ObjectCorrupt, match="has changed since it was published"):
        download_folder(objects, referenced, tmp_path / "again")
    download_folder(objects, copied, tmp_path / "again")
    assert ArtifactRecord.of_file("model", referenced).objects == referenced.files
