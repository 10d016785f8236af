"""The ground of Freshline: settings, the database, object storage, tables and files, errors and words.

Knows nothing of runs. Names are imported when they are first asked for, so that a program that needs only the settings
does not pay for Arrow or SQLAlchemy.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .artifacts import ArtifactRecord
    from .compaction import compact
    from .database import Database
    from .deleting import delete_rows
    from .digest import LogicalDigest, TableDigest
    from .files import download_file, open_file, save_file
    from .filesystem import ObjectStore
    from .folders import download_folder, save_folder
    from .parquet import read_table, to_pandas, write_table
    from .reading import WithdrawnVersion, contents, download, fragment_paths, open, read, scan
    from .settings import Settings, load_settings
    from .stored import StoredFile, StoredFolder, StoredTable
    from .upserting import upsert_table

__all__ = [
    "ArtifactRecord",
    "Database",
    "LogicalDigest",
    "ObjectStore",
    "Settings",
    "StoredFile",
    "StoredFolder",
    "StoredTable",
    "TableDigest",
    "WithdrawnVersion",
    "compact",
    "contents",
    "delete_rows",
    "download",
    "download_file",
    "download_folder",
    "fragment_paths",
    "load_settings",
    "open",
    "open_file",
    "read",
    "read_table",
    "save_file",
    "save_folder",
    "scan",
    "to_pandas",
    "upsert_table",
    "write_table",
]

_MODULES = {
    "ArtifactRecord": "artifacts",
    "Database": "database",
    "LogicalDigest": "digest",
    "ObjectStore": "filesystem",
    "Settings": "settings",
    "StoredFile": "stored",
    "StoredFolder": "stored",
    "StoredTable": "stored",
    "TableDigest": "digest",
    "WithdrawnVersion": "reading",
    "compact": "compaction",
    "contents": "reading",
    "delete_rows": "deleting",
    "download": "reading",
    "download_file": "files",
    "download_folder": "folders",
    "fragment_paths": "reading",
    "load_settings": "settings",
    "open": "reading",
    "open_file": "files",
    "read": "reading",
    "read_table": "parquet",
    "save_file": "files",
    "save_folder": "folders",
    "scan": "reading",
    "to_pandas": "parquet",
    "upsert_table": "upserting",
    "write_table": "parquet",
}


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f".{_MODULES[name]}", __name__), name)


def __dir__() -> list[str]:
    return __all__
