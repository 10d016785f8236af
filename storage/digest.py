"""The logical digest of a table: what it says, not how it is stored.

Equal for equal content on every platform, library version, chunking, row-group size and fragment layout. It changes
with any value, null, column name, column type, order of columns or order of rows. Knows Arrow and sha256, no file.

How it is made (version 1). Rows are cut into blocks of 65,536, counted from the first row of the table. A block's
digest is sha256 over its columns, one after another; a column is, recursively:

    rows, nulls         two 64-bit integers
    null positions      when there are nulls: one bit per row, 1 = null, lowest bit first, the last byte padded with 0
    the other values    fixed width: little-endian; booleans: one byte; text and bytes: 64-bit lengths, then the bytes;
                        lists and maps: 64-bit lengths, then their items as columns; structs: their fields as columns

All integers are little-endian. The table's digest is sha256 over "freshline-table-1", the canonical schema as JSON,
the number of rows and the digests of the blocks, each followed by a line feed. Appending keeps the digests of full
blocks, so only the rows of the last, partial block are read again.

What counts as equal. Types are compared in their plain form (`plain`): dictionaries and runs are decoded, a view or
a `large_` variant is the same as its ordinary type, seconds are milliseconds; whether a column may hold nulls does not
count, nor does metadata. Each NaN is the same NaN; NaN is not null; -0.0 is not 0.0. Text is compared by its bytes,
without Unicode normalisation. Time zones are compared by their names.
"""

import hashlib
import json
import struct
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from .plain import plain_batch, plain_schema

BLOCK_ROWS = 65_536
_FORMAT = "freshline-table-1"
_MAX_OFFSET_BYTES = 2**31 - 1


@dataclass(frozen=True)
class LogicalDigest:
    """The digest of a table with what it was made from."""

    sha256: str
    """The digest, hexadecimal."""
    rows: int
    blocks: tuple[str, ...]
    """The digest of each block of 65,536 rows, in order; the last block may be shorter."""
    schema: tuple[tuple[str, str], ...]
    """Name and canonical type of each column, in order."""


class TableDigest:
    """The digest of a table whose batches arrive one after another.

    >>> digest = TableDigest(pa.schema({"a": pa.int64()}))
    >>> digest.update(pa.record_batch({"a": [1, 2]}))
    >>> digest.result().rows
    2
    """

    def __init__(self, schema: pa.Schema) -> None:
        self._plain = plain_schema(schema)
        self._blocks: list[str] = []
        self._pending: list[pa.RecordBatch] = []
        self._pending_rows = 0

    @property
    def rows(self) -> int:
        """How many rows it has taken."""
        return len(self._blocks) * BLOCK_ROWS + self._pending_rows

    def take(self, full_blocks: Sequence[str]) -> None:
        """Take the next rows as blocks that are known and full; those before must have filled theirs.

        A table of n rows that is appended to keeps its first n // 65,536 blocks; its last n % 65,536 rows are fed
        again, then the new rows.
        """
        assert not self._pending_rows, "a block begins in the middle of another"
        self._blocks.extend(full_blocks)

    def update(self, batch: pa.RecordBatch | pa.Table) -> None:
        """Take the next rows.

        Raises:
            NotStorable: a value has no plain form.
        """
        for part in batch.to_batches() if isinstance(batch, pa.Table) else [batch]:
            self._update(plain_batch(part, self._plain))

    def update_plain(self, table: pa.Table) -> None:
        """Take the next rows, which are known to be in plain form: nothing of them is looked at again."""
        for part in table.to_batches():
            self._update(part)

    def _update(self, rest: pa.RecordBatch) -> None:
        while self._pending_rows + rest.num_rows >= BLOCK_ROWS:
            cut = BLOCK_ROWS - self._pending_rows
            self._blocks.append(self._digest_of([*self._pending, rest.slice(0, cut)]))
            self._pending, self._pending_rows = [], 0
            rest = rest.slice(cut)
        if rest.num_rows:
            self._pending.append(rest)
            self._pending_rows += rest.num_rows

    def result(self) -> LogicalDigest:
        """Return the digest of all rows so far; more may follow."""
        blocks = list(self._blocks)
        if self._pending_rows:
            blocks.append(self._digest_of(self._pending))
        schema = schema_types(self._plain)
        parts = [_FORMAT, json.dumps(schema, ensure_ascii=True, separators=(",", ":")), str(self.rows), *blocks]
        sha256 = hashlib.sha256("".join(f"{part}\n" for part in parts).encode("ascii")).hexdigest()
        return LogicalDigest(sha256, self.rows, tuple(blocks), schema)

    def _digest_of(self, batches: list[pa.RecordBatch]) -> str:
        block = hashlib.sha256()
        for index in range(len(self._plain)):
            _feed(block, _joined([batch.column(index) for batch in batches]))
        return block.hexdigest()


def table_digest(schema: pa.Schema, batches: Iterable[pa.RecordBatch | pa.Table]) -> LogicalDigest:
    """Return the digest of a whole table."""
    digest = TableDigest(schema)
    for batch in batches:
        digest.update(batch)
    return digest.result()


def schema_types(schema: pa.Schema) -> tuple[tuple[str, str], ...]:
    """Return name and canonical type of each column: equal on every version of Arrow."""
    return tuple((field.name, type_name(field.type)) for field in plain_schema(schema))


def type_name(kind: pa.DataType) -> str:
    """Return the canonical name of a type in plain form, such as `timestamp[us, UTC]` or `list<int64>`."""
    if kind in _SIMPLE:
        return _SIMPLE[kind]
    if isinstance(kind, pa.BaseExtensionType):
        return f"{kind.extension_name}<{type_name(kind.storage_type)}>"
    for is_kind, name in _NAMES:
        if is_kind(kind):
            return name(kind)
    raise AssertionError(f"no plain type: {kind}")


def file_sha256(path: Path) -> tuple[str, int]:
    """Return the sha256 of a file's bytes, hexadecimal, and their number."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest(), file.tell()


_SIMPLE = {
    pa.null(): "null",
    pa.bool_(): "bool",
    **{kind(): f"int{8 * 2**i}" for i, kind in enumerate((pa.int8, pa.int16, pa.int32, pa.int64))},
    **{kind(): f"uint{8 * 2**i}" for i, kind in enumerate((pa.uint8, pa.uint16, pa.uint32, pa.uint64))},
    **{kind(): f"float{16 * 2**i}" for i, kind in enumerate((pa.float16, pa.float32, pa.float64))},
    pa.date32(): "date",
    pa.string(): "string",
    pa.large_string(): "string",
    pa.binary(): "binary",
    pa.large_binary(): "binary",
}
_NAMES: list[tuple[Callable[[pa.DataType], bool], Callable[[pa.DataType], str]]] = [
    (pa.types.is_fixed_size_binary, lambda t: f"binary[{t.byte_width}]"),
    (pa.types.is_decimal, lambda t: f"decimal{t.bit_width}({t.precision}, {t.scale})"),
    (pa.types.is_timestamp, lambda t: f"timestamp[{t.unit}{f', {t.tz}' if t.tz else ''}]"),
    (pa.types.is_time, lambda t: f"time[{t.unit}]"),
    (pa.types.is_duration, lambda t: f"duration[{t.unit}]"),
    (pa.types.is_list, lambda t: f"list<{type_name(t.value_type)}>"),
    (pa.types.is_large_list, lambda t: f"list<{type_name(t.value_type)}>"),
    (pa.types.is_fixed_size_list, lambda t: f"list<{type_name(t.value_type)}>[{t.list_size}]"),
    (pa.types.is_map, lambda t: f"map<{type_name(t.key_type)}, {type_name(t.item_type)}>"),
    (
        pa.types.is_struct,
        lambda t: f"struct<{', '.join(f'{json.dumps(f.name)}: {type_name(f.type)}' for f in t)}>",
    ),
]


def _joined(arrays: list[pa.Array]) -> pa.Array:
    if len(arrays) == 1:
        return arrays[0]
    if sum(array.nbytes for array in arrays) > _MAX_OFFSET_BYTES:  # 32-bit offsets would overflow
        if pa.types.is_string(arrays[0].type):
            arrays = [array.cast(pa.large_string()) for array in arrays]
        elif pa.types.is_binary(arrays[0].type):
            arrays = [array.cast(pa.large_binary()) for array in arrays]
    return pa.concat_arrays(arrays)


def _feed(block: Any, array: pa.Array) -> None:
    """Add one array in plain form to a hash; the type says how many bytes follow, so no two contents look alike."""
    if isinstance(array, pa.ExtensionArray):
        array = array.storage
    block.update(struct.pack("<qq", len(array), array.null_count))
    if array.null_count == len(array):
        return
    if array.null_count:
        nulls = np.asarray(array.is_null())
        block.update(np.packbits(nulls, bitorder="little"))
        array = array.drop_null()
    if pa.types.is_nested(array.type):
        _feed_nested(block, array)
    else:
        _feed_values(block, array)


def _feed_nested(block: Any, array: pa.Array) -> None:
    kind = array.type
    if pa.types.is_struct(kind):
        for field in array.flatten():
            _feed(block, field)
    elif pa.types.is_fixed_size_list(kind):
        _feed(block, array.flatten())
    else:
        offsets = np.asarray(array.offsets)
        block.update(np.diff(offsets).astype("<i8"))
        first, length = offsets[0], offsets[-1] - offsets[0]
        for items in (array.keys, array.items) if pa.types.is_map(kind) else (array.values,):
            _feed(block, items.slice(first, length))


def _feed_values(block: Any, array: pa.Array) -> None:
    kind, types = array.type, pa.types
    if types.is_boolean(kind):
        block.update(_fixed_width(array.cast(pa.uint8()), 1))
    elif types.is_floating(kind):
        block.update(_floats(array))
    elif types.is_string(kind) or types.is_binary(kind):
        _feed_text(block, array, np.dtype(np.int32))
    elif types.is_large_string(kind) or types.is_large_binary(kind):
        _feed_text(block, array, np.dtype(np.int64))
    elif kind.bit_width:
        block.update(_fixed_width(array, kind.bit_width // 8))


def _fixed_width(array: pa.Array, width: int) -> memoryview:
    return memoryview(array.buffers()[1])[array.offset * width : (array.offset + len(array)) * width]


def _floats(array: pa.Array) -> Any:
    width = array.type.bit_width // 8
    values = np.frombuffer(_fixed_width(array, width), dtype=f"<f{width}")
    unordered = np.isnan(values)
    if not unordered.any():
        return values
    canonical = values.copy()
    canonical[unordered] = np.nan
    return canonical


def _feed_text(block: Any, array: pa.Array, offset_type: Any) -> None:
    _, offset_buffer, data = array.buffers()
    offsets = np.frombuffer(offset_buffer, dtype=offset_type)[array.offset : array.offset + len(array) + 1]
    block.update(np.diff(offsets).astype("<i8"))
    if data is not None:
        block.update(memoryview(data)[offsets[0] : offsets[-1]])
