"""A table four times larger than the memory that its process may have: written, digested, appended to and read back."""

import os
import subprocess
import sys

import pytest

_CHILD = """
import resource, sys, threading
import numpy as np, pyarrow as pa, pyarrow.compute as pc
import pandas, pyarrow.dataset
from freshline.storage.filesystem import ObjectStore
from freshline.storage.parquet import scan, write_table
from freshline.storage.upserting import upsert_table

url, limit, size_bytes = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
threading.stack_size(2**20)  # a stack counts, though most of it is never touched
resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))
rows, columns = 131_072, 6
parts = size_bytes // (rows * columns * 8)
given = {"bytes": 0, "sum": 0}

def batches(start, stop):
    for part in range(start, stop):
        values = {f"x{number}": np.arange(rows) % 100 + number for number in range(1, columns)}
        batch = pa.record_batch({"n": np.arange(part * rows, (part + 1) * rows), **values})
        given["bytes"] += batch.nbytes
        given["sum"] += pc.sum(batch["x3"]).as_py()
        yield batch

def read(stored):
    found = {"rows": 0, "sum": 0}
    for batch in scan(store, stored).to_batches(batch_readahead=1, fragment_readahead=1):
        found["rows"] += batch.num_rows
        found["sum"] += pc.sum(batch["x3"]).as_py()
    return found

store = ObjectStore(url)
base = write_table(store, batches(0, parts))
stored = write_table(store, batches(parts, parts + 1), base=base)
assert given["bytes"] >= 4 * limit, given
assert read(stored) == {"rows": (parts + 1) * rows, "sum": given["sum"]}
if sys.argv[4] == "upsert":
    same = {f"x{number}": [number, number] for number in range(1, columns)}
    changed = pa.table({"n": [0, (parts + 1) * rows], **same})
    stored = upsert_table(store, changed, base=stored, key=["n"])
    assert stored.rows == (parts + 1) * rows + 1
try:
    bytearray(limit)
except MemoryError:
    print("the limit held")
"""


def run_with(limit: int, path, last: str = "") -> str:
    size_bytes = 4 * limit
    few_threads = {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1", "MALLOC_ARENA_MAX": "1"}
    environment = os.environ | few_threads | {"ARROW_DEFAULT_MEMORY_POOL": "system", "OMP_THREAD_LIMIT": "2"}
    command = [sys.executable, "-c", _CHILD, path.as_uri(), str(limit), str(size_bytes), last]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=240, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout


# The libraries alone have 112 MiB; writing reached 195 MiB and reading 218 MiB, whatever the size of the table.
def test_table_four_times_larger_than_the_limit_of_its_process_is_written_and_read(tmp_path):
    assert run_with(288 * 2**20, tmp_path) == "the limit held\n"


@pytest.mark.slow
def test_table_of_gigabytes_is_written_read_and_changed_within_the_same_limit(tmp_path):
    assert run_with(512 * 2**20, tmp_path, "upsert") == "the limit held\n"
