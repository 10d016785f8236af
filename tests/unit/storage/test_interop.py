"""Freshline's files are anybody's, and anybody's are Freshline's: the same rows, and the same digest."""

from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path

import duckdb
import polars
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from freshline.storage import external, found
from freshline.storage.filesystem import ObjectStore
from freshline.storage.parquet import write_table
from tests.unit.storage.tables import shown

_AT = datetime(2020, 1, 1, 12, tzinfo=UTC)

TABLE = pa.table(
    {
        "date": pa.array([date(2020, 1, 1), date(2020, 1, 2), date(2020, 1, 3)]),
        "n": pa.array([1, None, -(2**63)], pa.int64()),
        "small": pa.array([-128, None, 127], pa.int8()),
        "x": pa.array([1.5, float("nan"), None], pa.float64()),
        "y": pa.array([float("inf"), -0.0, None], pa.float32()),
        "who": pa.array(["ü", "", None], pa.string()),
        "is_open": pa.array([True, None, False]),
        "at": pa.array([_AT, None, _AT], pa.timestamp("us", "UTC")),
        "local": pa.array([_AT.replace(tzinfo=None), None, datetime(1900, 1, 1)], pa.timestamp("us")),
        "price": pa.array([Decimal("1.10"), None, Decimal("-99999.99")], pa.decimal128(18, 2)),
        "blob": pa.array([b"\0", b"", None]),
        "parts": pa.array([["a", None], [], None], pa.list_(pa.string())),
        "pair": pa.array(
            [{"x": 1, "y": "a"}, {"x": None, "y": None}, None], pa.struct({"x": pa.int64(), "y": pa.string()})
        ),
    }
)


def _duckdb(sql: str) -> pa.Table:
    with duckdb.connect() as connection:
        connection.execute("SET TimeZone = 'UTC'")
        return connection.sql(sql).to_arrow_table()


def _write_with_duckdb(path: Path) -> None:
    with duckdb.connect() as connection:
        connection.execute("SET TimeZone = 'UTC'")
        connection.register("rows", TABLE)
        connection.execute(f"COPY rows TO '{path}' (FORMAT parquet)")


READERS = {
    "pyarrow": lambda path: pq.read_table(path, page_checksum_verification=True),
    "polars": lambda path: polars.read_parquet(path).to_arrow(),
    "duckdb": lambda path: _duckdb(f"SELECT * FROM '{path}'"),
}
WRITERS = {
    "pyarrow": lambda path: pq.write_table(TABLE, path, compression="gzip", row_group_size=2),
    "pyarrow 1.0": lambda path: pq.write_table(TABLE, path, version="1.0", store_schema=False, use_dictionary=False),
    "polars": lambda path: polars.DataFrame(TABLE).write_parquet(path),
    "duckdb": _write_with_duckdb,
}


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """The table as Freshline writes it, and the path of its one fragment."""
    store = ObjectStore(tmp_path_factory.mktemp("objects").as_uri())
    stored = write_table(store, TABLE)
    return stored, Path(store.path_of(stored.fragments[0].name))


@pytest.mark.parametrize("reader", READERS)
def test_file_that_freshline_wrote_is_read_by_others_with_equal_content(written, reader):
    read = READERS[reader](written[1])
    assert read.column_names == TABLE.column_names
    assert shown(read) == shown(TABLE)


@pytest.mark.parametrize("writer", WRITERS)
def test_file_that_others_wrote_is_published_with_the_digest_of_the_same_rows(written, tmp_path, writer):
    WRITERS[writer](tmp_path / "vendor.parquet")
    stored = external.refer_to(found.find(str(tmp_path / "vendor.parquet")))
    assert stored.schema == written[0].schema
    assert stored.digest == written[0].digest
