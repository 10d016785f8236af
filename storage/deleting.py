"""A table without some of its rows: what nobody may keep, or what should never have been there.

Only fragments that hold such a row are written again. The versions before keep theirs: what they refer to stays until
they are deleted themselves.
"""

from collections.abc import Iterator
from dataclasses import replace

import pyarrow as pa
import pyarrow.compute as pc

from .errors import InvalidInput
from .filesystem import ObjectStore
from .fragments import open_dataset, reading
from .parquet import Where, condition_of
from .plain import plain_schema
from .revision import Revision, base_rows, with_data_dates
from .stored import Fragment, StoredTable


def delete_rows(store: ObjectStore, base: StoredTable, where: Where) -> StoredTable:
    """Return the table without the rows for which `where` holds; the others keep their order.

    A row for which it is null, neither true nor false, stays. The rows after the first deleted one are read once, for
    the digest.

    Raises:
        InvalidInput: a condition that the table's types do not allow, or a table that is only referenced.
        ObjectMissing, ObjectCorrupt: a fragment is not what was written.
    """
    if base.root is not None:
        raise InvalidInput(f"{base.root} is only referenced: nothing can be deleted from it; write the whole table")
    condition = condition_of(base, where, None)
    if condition is None:
        raise InvalidInput("say which rows to delete: where=[('asset', '==', 'AAPL')]")
    plain = plain_schema(base.to_arrow_schema())
    dataset = open_dataset(store, base.fragments, plain)
    revision = Revision(store, base, plain)
    for number, (fragment, part) in enumerate(zip(base.fragments, dataset.get_fragments(), strict=True)):
        with reading(store, [fragment]):
            found = part.count_rows(filter=condition)
        if found:
            revision.keep(number)
            revision.write(_others(store, fragment, plain, condition), until=number + 1)
    revision.keep(len(base.fragments))
    logical, fragments = revision.result(), tuple(revision.fragments)
    if logical.rows == base.rows:
        return base
    kept = replace(
        base,
        digest=logical.sha256,
        blocks=logical.blocks,
        rows=logical.rows,
        fragments=fragments,
        size_bytes=sum(fragment.size_bytes for fragment in fragments),
    )
    return with_data_dates(store, kept, plain)


def _others(
    store: ObjectStore, fragment: Fragment, plain: pa.Schema, condition: pc.Expression
) -> Iterator[pa.RecordBatch]:
    stays = ~condition | condition.is_null()
    for batch in base_rows(store, [fragment], plain):
        yield from pa.Table.from_batches([batch]).filter(stays).to_batches()
