"""A table there and back, on a local disk and on an S3 server, and a little appended to a long one.

The rows are daily prices of 500 assets: two columns that repeat, two prices with two decimals, a volume and a return.
Ours digests every row and every byte, checks them when reading, and records schema and fragments; the floor does
nothing of the kind. Every round writes into an empty place: nothing that was stored before is taken for written.
"""

import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from itertools import count
from pathlib import Path
from time import perf_counter
from unittest.mock import patch

import numpy as np
import pandas as pd
import s3fs

from freshline.storage.filesystem import ObjectStore
from freshline.storage.parquet import to_pandas, write_table
from freshline.storage.stored import StoredTable
from tests.contracts.s3_servers import moto_server

from .comparisons import Comparison, Kind
from .floors.tables import there_and_back_local, there_and_back_s3
from .harness import FLOOR, OURS, Setting, Subject, Subjects, Work

ROWS = 1_000_000
LONG_ROWS = 10_000_000
_ASSETS = 500
_STORES_NOTHING = None


def prices(rows: int, *, seed: int = 1) -> pd.DataFrame:
    """n rows; date: datetime, asset: text, open, close: float64 [USD], volume: int64, ret: float64 [1]."""
    random = np.random.default_rng(seed)
    days = -(-rows // _ASSETS)
    names = [f"A{number:04}" for number in range(_ASSETS)]
    return pd.DataFrame(
        {
            "date": np.repeat(pd.date_range("1950-01-01", periods=days, freq="h"), _ASSETS)[:rows],
            "asset": np.tile(names, days)[:rows],
            "open": random.normal(100, 10, rows).round(2),
            "close": random.normal(100, 10, rows).round(2),
            "volume": random.integers(0, 10_000_000, rows),
            "ret": random.normal(0, 0.02, rows),
        }
    )


@contextmanager
def prepare_local(rows: int, setting: Setting) -> Iterator[Subjects]:
    """Make the rows; both sides write below the same directory."""
    frame, numbers = prices(rows), count()

    def in_empty(act: Callable[[pd.DataFrame, Path], pd.DataFrame]) -> float:
        place = setting.directory / str(next(numbers))
        place.mkdir()
        began = perf_counter()
        read = act(frame, place)
        took = perf_counter() - began
        check(read, frame)
        shutil.rmtree(place)
        return took * 1000

    yield {
        OURS: Subject("freshline.storage, with digests", partial(in_empty, _ours_local), durability=_STORES_NOTHING),
        FLOOR: Subject("pyarrow, snappy", partial(in_empty, there_and_back_local), durability=_STORES_NOTHING),
    }


@contextmanager
def prepare_s3(rows: int, _: Setting) -> Iterator[Subjects]:
    """Start the server; every round has a prefix of its own there."""
    frame, numbers = prices(rows), count()
    with moto_server() as server, patch.dict(os.environ, server.environment()):
        filesystem = s3fs.S3FileSystem(skip_instance_cache=True, use_listings_cache=False)
        bucket = server.url.removeprefix("s3://")

        def in_empty(begin: Callable[[str], Callable[[], pd.DataFrame]]) -> float:
            place = f"{bucket}/{next(numbers)}"
            act = begin(place)
            began = perf_counter()
            read = act()
            took = perf_counter() - began
            check(read, frame)
            filesystem.rm(place, recursive=True)
            return took * 1000

        def ours(place: str) -> Callable[[], pd.DataFrame]:
            store = ObjectStore(f"s3://{place}")
            store.exists("objects/none")  # a process makes its client once
            return partial(_there_and_back, frame, store)

        def floor(place: str) -> Callable[[], pd.DataFrame]:
            return partial(there_and_back_s3, frame, filesystem, f"{place}/table.parquet")

        yield {
            OURS: Subject("freshline.storage, with digests", partial(in_empty, ours), durability=_STORES_NOTHING),
            FLOOR: Subject("pyarrow through s3fs, snappy", partial(in_empty, floor), durability=_STORES_NOTHING),
        }


@contextmanager
def prepare_append(
    rows: int, appended: int, measured: Callable[[float, int], float], setting: Setting
) -> Iterator[Subjects]:
    """Write the long table once; a round appends to it, and writes all of it anew elsewhere."""
    store, numbers = ObjectStore((setting.directory / "long").as_uri()), count()
    frame = prices(rows)
    base = write_table(store, frame)
    setting.tell(f"{base.rows:,} rows stored in {len(base.fragments)} fragments")

    def append() -> float:
        # Rows that were not there before, whatever the round.
        added = prices(appended, seed=1_000 + next(numbers))
        began = perf_counter()
        stored = write_table(store, added, base=base)
        took = perf_counter() - began
        assert stored.rows == rows + appended
        known = {fragment.name for fragment in base.fragments}
        return measured(took, sum(one.size_bytes for one in stored.fragments if one.name not in known))

    def rewrite() -> float:
        place = ObjectStore((setting.directory / f"anew-{next(numbers)}").as_uri())
        began = perf_counter()
        stored = write_table(place, frame)
        took = perf_counter() - began
        assert stored.digest == base.digest
        assert place.local_root is not None
        shutil.rmtree(place.local_root)
        return measured(took, stored.size_bytes)

    yield {
        OURS: Subject(f"{appended:,} rows appended to {rows:,}", append, durability=_STORES_NOTHING),
        FLOOR: Subject(f"all {rows:,} rows written", rewrite, durability=_STORES_NOTHING),
    }


def check(read: pd.DataFrame, frame: pd.DataFrame) -> None:
    """Refuse to measure who does not bring the rows back."""
    assert list(read.columns) == list(frame.columns)
    assert len(read) == len(frame)
    rows = [0, len(frame) // 2, len(frame) - 1]
    assert read.iloc[rows].to_dict("records") == frame.iloc[rows].to_dict("records")


def works(*, rows: int = ROWS, long_rows: int = LONG_ROWS) -> Mapping[str, Work]:
    """Return the works on tables, by name."""
    appended = long_rows // 100
    made = (
        _work("table_local", f"{rows:,} x 6 from pandas, written and read, local", partial(prepare_local, rows), 1.15),
        _work("table_s3", f"{rows:,} x 6 from pandas, written and read, S3", partial(prepare_s3, rows), 1.15),
        _work(
            "append_time",
            "1 % appended to a long table",
            partial(prepare_append, long_rows, appended, lambda took, _: took * 1000),
            0.05,
        ),
        _work(
            "append_bytes",
            "bytes that 1 % appended to a long table stores",
            partial(prepare_append, long_rows, appended, lambda _, size_bytes: size_bytes / 2**20),
            0.02,
            unit="MiB",
        ),
    )
    return {work.name: work for work in made}


def _work(name: str, what: str, prepare: Callable[..., object], target: float, *, unit: str = "ms") -> Work:
    return Work(
        name,
        what,
        unit=unit,
        higher_is_better=False,
        prepare=prepare,  # type: ignore[arg-type]  # a partial of a context manager
        comparisons=(Comparison(Kind.RATIO, OURS, FLOOR, target=target),),
        rounds=5 if "append" not in name else 3,
    )


def _ours_local(frame: pd.DataFrame, place: Path) -> pd.DataFrame:
    return _there_and_back(frame, ObjectStore(place.as_uri()))


def _there_and_back(frame: pd.DataFrame, store: ObjectStore) -> pd.DataFrame:
    stored: StoredTable = write_table(store, frame, data_date="date")
    return to_pandas(store, stored)
