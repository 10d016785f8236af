"""Whatever Arrow can hold comes back as it was, or is refused with the reason; its digest is of what it says alone."""

import io

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from freshline.storage.digest import table_digest
from freshline.storage.errors import NotStorable
from freshline.storage.filesystem import ObjectStore
from freshline.storage.ids import new_id
from freshline.storage.parquet import read_table, write_table
from freshline.storage.plain import plain_batch, plain_schema
from tests.unit.storage.any_tables import any_tables
from tests.unit.storage.tables import arrow_tables, rechunked, shown

QUICK = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
LONG = settings(QUICK, max_examples=2_000)


def comes_back_or_is_refused(table: pa.Table) -> None:
    store = ObjectStore(f"memory://test-{new_id()}")
    try:
        stored = write_table(store, table)
    except NotStorable:
        assert list(store.list()) == []
        return
    read = read_table(store, stored)
    assert read.schema.equals(table.schema)
    assert shown(read) == shown(table)
    assert stored.digest == write_table(store, read).digest


@QUICK
@given(any_tables())
def test_any_table_comes_back_as_it_was_or_is_refused(table):
    comes_back_or_is_refused(table)


@pytest.mark.slow
@LONG
@given(any_tables())
def test_any_of_many_tables_comes_back_as_it_was_or_is_refused(table):
    comes_back_or_is_refused(table)


WRITERS = [
    {},
    {"compression": "snappy", "version": "1.0", "data_page_version": "1.0"},
    {"compression": "gzip", "version": "2.4", "data_page_version": "2.0", "use_dictionary": False},
    {"compression": "none", "version": "2.6", "row_group_size": 1, "write_statistics": False, "write_page_index": True},
    {"compression": "lz4", "use_byte_stream_split": False, "data_page_size": 8, "store_schema": True},
]


@settings(QUICK, max_examples=30)
@given(arrow_tables(min_rows=1), st.sampled_from(WRITERS[1:]), st.lists(st.integers(0, 12), max_size=3))
def test_digest_is_the_same_whoever_writes_the_rows_and_in_which_pieces(table, options, cuts):
    plain = _plain(table)
    file = io.BytesIO()
    try:
        pq.write_table(plain, file, coerce_timestamps=None, **options)
    except pa.ArrowException:
        assume(False)
    read = pq.read_table(file)
    assume(read.schema.equals(plain.schema))  # an older version of Parquet has no nanoseconds
    expected = table_digest(table.schema, [table]).sha256
    assert table_digest(read.schema, rechunked(read, cuts)).sha256 == expected
    store = ObjectStore(f"memory://test-{new_id()}")
    stored = write_table(store, table.slice(0, 0))
    for part in rechunked(table, cuts):
        stored = write_table(store, part, base=stored)
    assert stored.digest == expected


def _plain(table: pa.Table) -> pa.Table:
    schema = plain_schema(table.schema)
    return pa.Table.from_batches([plain_batch(batch, schema) for batch in table.to_batches()], schema)


@QUICK
@given(arrow_tables(min_rows=1, min_columns=2), st.data())
def test_digest_after_any_one_change_of_names_types_or_order_differs(table, data):
    digest = table_digest(table.schema, [table]).sha256
    at = data.draw(st.integers(0, table.num_columns - 1))
    renamed = table.rename_columns(
        [name if number != at else name + "'" for number, name in enumerate(table.column_names)]
    )
    assert table_digest(renamed.schema, [renamed]).sha256 != digest
    rolled = table.select([*table.column_names[1:], table.column_names[0]])
    if table.num_columns > 1:
        assert table_digest(rolled.schema, [rolled]).sha256 != digest
    shorter = table.select([number for number in range(table.num_columns) if number != at])
    assert table_digest(shorter.schema, [shorter]).sha256 != digest
    retyped = table.set_column(at, table.column_names[at], pa.nulls(table.num_rows, pa.month_day_nano_interval()))
    with pytest.raises(NotStorable):
        table_digest(retyped.schema, [retyped])
    other = table.set_column(at, table.column_names[at], pa.nulls(table.num_rows, pa.time64("ns")))
    assert table_digest(other.schema, [other]).sha256 != digest
