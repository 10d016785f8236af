"""Files pass through in parts, tables in batches: a child process with large ones needs little more memory."""

import os
import subprocess
import sys

import pytest

PROGRAM = """
import resource, sys
from pathlib import Path
from freshline.storage.files import download_file, open_file, save_file
from freshline.storage.filesystem import ObjectStore
from freshline.storage.folders import download_folder, save_folder

url, directory, megabytes = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3])

def parts(count):
    for number in range(count):
        yield number.to_bytes(4, "big") * 2**18

def there_and_back(name, count):
    store = ObjectStore(url)
    stored = save_file(store, parts(count))
    download_file(store, stored, directory / name)
    with (directory / name).open("rb") as source:
        assert save_file(store, source) == stored
    (directory / f"{name}-folder").mkdir()
    (directory / name).rename(directory / f"{name}-folder" / "weights")
    folder = save_folder(store, directory / f"{name}-folder")
    download_folder(store, folder, directory / f"{name}-copy")
    with open_file(store, stored) as source:
        assert source.read(4) == bytes(4)

def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024

there_and_back("small", 1)
before = peak()
there_and_back("large", megabytes)
print(peak() - before)
"""


IN_BATCHES = """
import re, sys
from pathlib import Path
import numpy as np, pyarrow as pa
from freshline.storage import encoding
from freshline.storage.filesystem import ObjectStore
from freshline.storage.forms import read_batches
from freshline.storage.parquet import write_table

def written(megabytes):
    random = np.random.default_rng(1)
    for _ in range(megabytes):
        yield pa.record_batch({"x": random.normal(size=131_072)})

def used():
    return int(re.search(r"RssAnon:\\s+(\\d+)", Path("/proc/self/status").read_text())[1]) / 1024

encoding._LOTS = 0  # one large fragment, as there are in a long table
store = ObjectStore("memory://in-batches")  # nothing of it is mapped, as of a store elsewhere
stored = write_table(store, written(int(sys.argv[3])))
assert len(stored.fragments) == 1
sum(batch.num_rows for batch in read_batches(store, write_table(store, written(1))))
before = used()
print(max(used() for batch in read_batches(store, stored)) - before)
"""


def growth_mb(url, directory, megabytes, *, program=PROGRAM, **environment):
    """How many megabytes more the process needed for a file of this size."""
    command = [sys.executable, "-W", "ignore", "-c", program, url, str(directory), str(megabytes)]
    env = os.environ | environment
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=240, check=False)
    assert done.returncode == 0, done.stderr
    return float(done.stdout)


def test_large_file_and_folder_need_little_memory_on_a_local_disk(tmp_path):
    url = (tmp_path / "objects").as_uri()
    assert growth_mb(url, tmp_path, 64) < 32  # what is kept of an open file in memory is 16 MiB


def test_table_in_batches_needs_little_memory(tmp_path):
    assert growth_mb("", tmp_path, 64, program=IN_BATCHES) < 40


@pytest.mark.slow
def test_large_file_and_folder_need_few_parts_of_memory_on_s3(tmp_path, moto):
    url = f"{moto.url}/memory"
    # Four parts of 16 MiB wait at once, and are copied on their way.
    assert growth_mb(url, tmp_path, 256, **moto.environment()) < 192
