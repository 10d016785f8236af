"""Rows put into a table by key: one whose key is there takes that row's place, any other one follows at the end.

Only fragments that hold one of the keys are written again; which may, Parquet's own statistics say. The new rows are
held in memory, and of the table a few row groups.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain

import numpy as np
import pyarrow as pa

from .batches import TableLike
from .declared import DeclaredTable
from .errors import InvalidInput
from .filesystem import ObjectStore
from .fragments import open_dataset, opened
from .incoming import Incoming
from .keys import KeyIndex, Numbers, check_key
from .revision import Revision, base_rows, widened_column, with_data_dates
from .stored import Fragment, StoredTable


def upsert_table(
    store: ObjectStore,
    data: TableLike,
    *,
    base: StoredTable | None,
    key: Sequence[str] | None = None,
    data_date: str | None = None,
    evolve: bool = False,
    declared: DeclaredTable | None = None,
) -> StoredTable:
    """Put rows into `base` by key and return the new table: as `write_table`, which see, but for these.

    A row whose key is in the base replaces that row, where it stands; the others follow at the end, in their order.
    Fragments without a replaced row are shared.

    Args:
        store: where the fragments are.
        data: the new rows; memory must hold them.
        base: the table; none: the new rows are all of it.
        key: the columns that tell rows apart; without it, those of the last upsert into the base.
        data_date: as in `write_table`.
        evolve, declared: as in `write_table`.

    Raises:
        InvalidInput: besides those of `write_table`: no key is known, a key is null, is twice among the new rows, or
            is that of several rows of the base.
        NotFound: a column of the key is not there.
    """
    incoming = Incoming(data, base=base, data_date=data_date, evolve=evolve, declared=declared)
    wanted = key or (base.key if base else ())
    if not wanted:
        raise InvalidInput("an upsert needs the columns that tell rows apart: say key=[…], such as ['asset', 'date']")
    wanted = check_key(wanted, incoming.plain)
    new = pa.Table.from_batches(incoming.batches(), schema=incoming.plain)
    if base is None:
        revision = Revision(store, None, incoming.plain)
        KeyIndex(new, wanted)
        revision.write(new.to_batches(), until=0)
        return incoming.record(revision.result(), revision.fragments, key=wanted)
    if not new.num_rows and not incoming.is_evolved:
        return replace(base, key=wanted)
    index = KeyIndex(new, wanted)
    found = _find(store, base, index, new, incoming)
    revision = Revision(store, base, incoming.plain)
    added = new.filter(pa.array(found.is_added)).to_batches()
    for run in found.runs(len(base.fragments), joins_end=bool(added), whole=incoming.is_evolved):
        revision.keep(run.start)
        rows = _replaced(store, base, run, found, new)
        ends = run.stop == len(base.fragments)
        revision.write(chain(rows, added) if ends else rows, until=run.stop)
    revision.keep(len(base.fragments))
    stored = incoming.record(revision.result(), revision.fragments, key=wanted)
    if stored.data_date in wanted or not found.places:
        return stored
    return with_data_dates(store, stored, incoming.plain)


@dataclass
class _Found:
    """Which rows of the base have a key of the new rows."""

    is_added: "np.ndarray[tuple[int], np.dtype[np.bool_]]"
    """Of each new row: no row of the base has its key."""
    places: dict[int, tuple[Numbers, Numbers]] = field(default_factory=dict)
    """Fragment -> (rows in it, in order; the new row for each)."""

    def runs(self, fragments: int, *, joins_end: bool, whole: bool) -> list[range]:
        """Return the neighbouring fragments to write again, together: what was written in small pieces becomes one.

        The last run ends where the base ends when rows are added there.
        """
        if whole:
            return [range(fragments)]
        runs: list[range] = []
        for number in sorted(self.places):
            if runs and runs[-1].stop == number:
                runs[-1] = range(runs[-1].start, number + 1)
            else:
                runs.append(range(number, number + 1))
        if joins_end and not (runs and runs[-1].stop == fragments):
            runs.append(range(fragments, fragments))
        return runs


def _find(store: ObjectStore, base: StoredTable, index: KeyIndex, new: pa.Table, incoming: Incoming) -> _Found:
    """Look for the keys in the base: at the columns of the key alone, of row groups that may hold one."""
    found = _Found(np.ones(new.num_rows, dtype=bool))
    fields = [incoming.plain.field(name) for name in index.key]
    for number, (fragment, groups) in enumerate(_candidates(store, base, index, incoming)):
        rows, news = [], []
        if groups:
            with opened(store, fragment) as file:
                starts = _starts(file.metadata)
                for group in groups:
                    read = file.read_row_group(group, columns=list(index.key))
                    keys = pa.table([widened_column(read, field) for field in fields], schema=pa.schema(fields))
                    matched = index.find(keys)
                    (at,) = np.nonzero(matched >= 0)
                    rows.append(at + starts[group])
                    news.append(matched[at])
        if any(len(part) for part in rows):
            found.places[number] = (np.concatenate(rows), np.concatenate(news))
    every = np.concatenate([news for _, news in found.places.values()]) if found.places else np.empty(0, np.int64)
    distinct, counts = np.unique(every, return_counts=True)
    if len(distinct) < len(every):
        first = int(np.argmax(counts > 1))
        shown = index.shown(new, int(distinct[first]))
        raise InvalidInput(
            f"the table holds {counts[first]} rows with the key {shown}: {', '.join(index.key)} does not tell its rows "
            "apart; write it as a whole, or name more columns"
        )
    found.is_added[distinct] = False
    return found


def _candidates(
    store: ObjectStore, base: StoredTable, index: KeyIndex, incoming: Incoming
) -> Iterator[tuple[Fragment, list[int]]]:
    """Yield each fragment with the row groups of it that may hold one of the keys."""
    old = base.to_arrow_schema()
    if any(name not in old.names for name in index.key):  # a new column tells all new rows from all old ones
        yield from ((fragment, []) for fragment in base.fragments)
        return
    condition = index.condition()
    dataset = open_dataset(store, base.fragments, incoming.plain)
    for fragment, part in zip(base.fragments, dataset.get_fragments(), strict=True):
        if incoming.is_evolved:
            yield fragment, [group.id for group in part.row_groups]
        else:
            yield fragment, [group.id for group in part.subset(filter=condition, schema=incoming.plain).row_groups]


def _starts(metadata: "pa.parquet.FileMetaData") -> Numbers:
    rows = [metadata.row_group(group).num_rows for group in range(metadata.num_row_groups)]
    return np.concatenate([[0], np.cumsum(rows)]).astype(np.int64)


def _replaced(
    store: ObjectStore, base: StoredTable, run: range, found: _Found, new: pa.Table
) -> Iterator[pa.RecordBatch]:
    """Yield the rows of these fragments, with the new ones in the places of those that they replace."""
    for number in run:
        fragment = base.fragments[number]
        places, news = found.places.get(number, (np.empty(0, np.int64), np.empty(0, np.int64)))
        first = 0
        for batch in base_rows(store, [fragment], new.schema):
            lower, upper = np.searchsorted(places, [first, first + batch.num_rows])
            yield from _put(batch, places[lower:upper] - first, new.take(pa.array(news[lower:upper])))
            first += batch.num_rows


def _put(batch: pa.RecordBatch, places: Numbers, rows: pa.Table) -> Iterable[pa.RecordBatch]:
    if not len(places):
        return [batch]
    order = np.arange(batch.num_rows)
    order[places] = batch.num_rows + np.arange(len(places))
    put: pa.Table = pa.concat_tables([pa.Table.from_batches([batch]), rows]).take(pa.array(order))
    return list(put.to_batches())
