"""What `freshline.storage` gives, and what it costs to ask for the settings alone."""

import subprocess
import sys

import pytest

from freshline import storage


def test_exported_names_are_sorted_and_exist():
    assert storage.__all__ == sorted(storage.__all__)
    assert set(storage._MODULES) == set(storage.__all__)
    for name in storage.__all__:
        assert getattr(storage, name).__module__.startswith("freshline.storage.")


def test_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        storage.nothing  # noqa: B018 - asking is what is tested


def test_importing_the_settings_imports_neither_arrow_nor_sqlalchemy():
    code = (
        "import sys, freshline.storage.settings; "
        "print([m for m in ('pyarrow', 'sqlalchemy', 'pandas', 'fsspec') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_opening_a_store_on_disk_imports_no_s3_driver():
    code = (
        "import sys; from freshline.storage import ObjectStore; ObjectStore('file:///tmp').filesystem; "
        "print([m for m in ('s3fs', 'botocore', 'pyarrow') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
