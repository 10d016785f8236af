"""Tables by nobody but Arrow: pandas to Parquet and back, and nothing is recorded."""

from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq


def there_and_back_local(frame: pd.DataFrame, directory: Path) -> pd.DataFrame:
    """Write to a file with pyarrow's defaults (snappy) and read it back."""
    path = directory / "table.parquet"
    pq.write_table(pa.Table.from_pandas(frame), path)
    read: pd.DataFrame = pq.read_table(path).to_pandas()
    return read


def there_and_back_s3(frame: pd.DataFrame, filesystem: Any, path: str) -> pd.DataFrame:
    """Write an object through s3fs with pyarrow's defaults (snappy) and read it back."""
    with filesystem.open(path, "wb") as target:
        pq.write_table(pa.Table.from_pandas(frame), target)
    with filesystem.open(path, "rb") as source:
        read: pd.DataFrame = pq.read_table(source).to_pandas()
    return read
