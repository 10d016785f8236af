"""A stored table as one Parquet file on a local disk, for programs that know nothing of fragments."""

import os
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from .errors import ArtifactError, InvalidInput
from .filesystem import ObjectStore
from .forms import read_batches
from .ids import new_id
from .stored import StoredTable


def export_table(objects: ObjectStore, stored: StoredTable, path: Path) -> None:
    """Write a table to a local path, all or nothing, in a stream: rows and types are those of `read_batches`.

    What pandas noted of its index is kept, so that pandas reads the same table from it.

    Raises:
        InvalidInput: the path cannot be written.
        ObjectMissing, ObjectCorrupt, ArtifactError: the table cannot be read.
    """
    batches = read_batches(objects, stored)
    schema = batches.schema.with_metadata(stored.to_arrow_schema().metadata)
    temporary = path.with_name(f".{path.name[:100]}.{new_id()}")
    try:
        with pq.ParquetWriter(temporary, schema, compression="zstd", write_page_checksum=True) as writer:
            for batch in batches:
                writer.write_batch(batch.replace_schema_metadata(schema.metadata))
        os.replace(temporary, path)
    except pa.ArrowException as error:
        raise ArtifactError(f"the table cannot be written to {path}: {error}") from None
    except OSError as error:
        raise InvalidInput(
            f"cannot write {path}: {error.strerror or error}; choose a path that you can write"
        ) from None
    finally:
        temporary.unlink(missing_ok=True)
