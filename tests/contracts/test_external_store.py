"""What others keep is found, digested, read and checked alike on every kind of store."""

import io

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from freshline.storage import external, found, parquet
from freshline.storage.errors import Conflict, InvalidInput, NotFound, ObjectCorrupt
from freshline.storage.files import open_file
from freshline.storage.filesystem import ObjectStore
from freshline.storage.stored import StoredFile, StoredTable

ROWS = pd.DataFrame({"close": [1.0, 2.0, 3.0]})


def put(store: ObjectStore, name: str, content: bytes | pd.DataFrame) -> str:
    if isinstance(content, pd.DataFrame):
        sink = io.BytesIO()
        pq.write_table(pa.Table.from_pandas(content), sink)
        content = sink.getvalue()
    store.put_bytes(content, name)
    return store.url_of(name)


def test_referenced_folder_is_read_as_one_table_until_it_changes(store):
    put(store, "vendor/b.parquet", ROWS[1:])
    put(store, "vendor/a.parquet", ROWS[:1])
    put(store, "vendor2/c.parquet", ROWS)
    stored = external.refer_to(found.find(store.url_of("vendor"), store=store))
    assert isinstance(stored, StoredTable)
    assert stored.digest == parquet.write_table(store, ROWS).digest
    assert parquet.to_pandas(store, stored)["close"].tolist() == [1.0, 2.0, 3.0]
    assert parquet.read_table(store, stored, columns=["close"]).num_rows == 3
    put(store, "vendor/b.parquet", ROWS[:2])
    for columns in (None, ["close"]):
        with pytest.raises(ObjectCorrupt, match="has changed since it was published"):
            parquet.read_table(store, stored, columns=columns)


def test_copied_table_is_the_same_table(store):
    url = put(store, "vendor/a.parquet", ROWS)
    copied = external.copy(store, found.find(url, store=store))
    assert copied.root is None
    assert copied.digest == external.refer_to(found.find(url, store=store)).digest


def test_any_other_file_is_its_bytes(store):
    stored = external.refer_to(found.find(put(store, "vendor/codes.csv", b"a,b\n"), store=store))
    assert isinstance(stored, StoredFile)
    with open_file(store, stored) as content:
        assert content.read() == b"a,b\n"


def test_nothing_and_an_empty_file_are_told_apart(store):
    with pytest.raises(NotFound, match="no file or folder at"):
        found.find(store.url_of("vendor"), store=store)
    put(store, "vendor/_SUCCESS", b"done")
    with pytest.raises(InvalidInput, match="is an empty folder"):
        found.find(store.url_of("vendor"), store=store)


def test_change_while_it_is_read_is_noticed(store):
    at = found.find(put(store, "vendor/a.csv", b"1"), store=store)
    found.check_unchanged(at)
    put(store, "vendor/a.csv", b"22")
    with pytest.raises(Conflict, match="changed while it was read"):
        found.check_unchanged(at)
