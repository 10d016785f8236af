"""The ground of Freshline: settings, the database, object storage, tables and files, errors and words.

Knows nothing of runs. Names are imported when they are first asked for, so that a program that needs only the settings
does not pay for Arrow or SQLAlchemy.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .artifacts import ArtifactRecord
    from .database import Database
    from .digest import LogicalDigest, TableDigest
    from .files import download_file, open_file, save_file
    from .filesystem import ObjectStore
    from .parquet import read_table, scan, to_pandas, write_table
    from .settings import Settings, load_settings
    from .stored import StoredFile, StoredTable

__all__ = [
    "ArtifactRecord",
    "Database",
    "LogicalDigest",
    "ObjectStore",
    "Settings",
    "StoredFile",
    "StoredTable",
    "TableDigest",
    "download_file",
    "load_settings",
    "open_file",
    "read_table",
    "save_file",
    "scan",
    "to_pandas",
    "write_table",
]

_MODULES = {
    "ArtifactRecord": "artifacts",
    "Database": "database",
    "LogicalDigest": "digest",
    "ObjectStore": "filesystem",
    "Settings": "settings",
    "StoredFile": "stored",
    "StoredTable": "stored",
    "TableDigest": "digest",
    "download_file": "files",
    "load_settings": "settings",
    "open_file": "files",
    "read_table": "parquet",
    "save_file": "files",
    "scan": "parquet",
    "to_pandas": "parquet",
    "write_table": "parquet",
}


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f".{_MODULES[name]}", __name__), name)


def __dir__() -> list[str]:
    return __all__
