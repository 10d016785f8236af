"""Many small fragments become few: the same rows, the same digest, and each row written again only a few times."""

import numpy as np
import pyarrow as pa
import pytest

from freshline.storage.compaction import compact, num_gathered
from freshline.storage.digest import BLOCK_ROWS
from freshline.storage.filesystem import ObjectStore
from freshline.storage.ids import new_id
from freshline.storage.parquet import read_table, write_table
from freshline.storage.stored import Fragment


@pytest.fixture
def store() -> ObjectStore:
    return ObjectStore(f"memory://test-{new_id()}")


def appended(store, first, parts):
    stored = write_table(store, pa.table({"n": first}))
    for part in parts:
        stored = write_table(store, pa.table({"n": part}), base=stored)
    return stored


def test_compacted_table_has_the_same_rows_and_digest_in_fewer_fragments(store):
    stored = appended(store, range(BLOCK_ROWS + 7), [[1, 2], [3], [4]])
    found = compact(store, stored)
    assert (len(stored.fragments), len(found.fragments)) == (4, 1)
    assert (found.digest, found.blocks, found.rows) == (stored.digest, stored.blocks, stored.rows)
    assert read_table(store, found).equals(read_table(store, stored))
    assert found.size_bytes == sum(fragment.size_bytes for fragment in found.fragments)
    assert compact(store, found) == found


def test_compaction_leaves_large_fragments_alone(store):
    many = np.random.default_rng(1).integers(0, 2**60, 20_000)
    stored = appended(store, many, [[1, 2], [3], many[::-1], [5]])
    found = compact(store, stored, smaller_than=5_000)
    assert [one.rows for one in found.fragments] == [20_000, 3, 20_000, 1]
    assert [found.fragments[at] for at in (0, 2, 3)] == [stored.fragments[at] for at in (0, 3, 4)]


def test_appends_gather_small_fragments_without_being_asked(store):
    stored = appended(store, range(1_000), ([number] for number in range(40)))
    assert len(stored.fragments) < 17
    assert read_table(store, stored)["n"].to_pylist() == [*range(1_000), *range(40)]
    assert stored.digest == write_table(store, read_table(store, stored)).digest


def test_appends_write_each_row_again_a_few_times_at_most():
    """A thousand appends of 64 KiB: sizes alone, as the rule sees them."""
    sizes, written = [], 0
    for _ in range(1_000):
        old = num_gathered([_fragment(size) for size in sizes])
        merged = sum(sizes[len(sizes) - old :]) + 64 * 1024
        sizes = [*sizes[: len(sizes) - old], merged]
        written += merged
        assert len(sizes) < 48
    assert written < 4 * sum(sizes)


def _fragment(size_bytes: int) -> Fragment:
    return Fragment(name="", sha256="", size_bytes=size_bytes, rows=1, footer_bytes=1, footer_sha256="")


def test_compaction_of_fragments_larger_than_one_writes_several(store, monkeypatch):
    monkeypatch.setattr("freshline.storage.encoding._FRAGMENT_BYTES", 100)
    monkeypatch.setattr("freshline.storage.encoding.ROW_GROUP_ROWS", 2)
    monkeypatch.setattr("freshline.storage.encoding._SMALL_BYTES", 0)
    stored = appended(store, [0], [[1], [2], [3], [4]])
    assert len(compact(store, stored).fragments) > 1
    assert compact(store, stored).digest == stored.digest
