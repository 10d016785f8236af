"""What a package exports is said, sorted, importable, and told to type checkers as well."""

import ast
from importlib import import_module

import pytest

from tests.architecture.sources import sources

PACKAGES = [source for source in sources() if source.name.endswith(("/__init__.py", "/_freshline.py"))]
INSIDE = {
    f"freshline.runs.{name}"
    for name in ("api", "care", "cli", "live", "points", "redo", "remote", "repair", "searching", "ui")
}
"""Packages that export nothing: they are called by the rest of their room."""
WITH_NAMES = [source for source in PACKAGES if source.module not in INSIDE]


def in_order(name):
    """Constants, then classes, then the rest, each by name: as ruff's RUF022 sorts them."""
    return (0 if name.isupper() else 1 if name[0].isupper() else 2, name)


@pytest.mark.parametrize("source", WITH_NAMES, ids=lambda source: source.module)
def test_public_names_are_sorted_and_importable(source):
    package = import_module(source.module)
    assert list(package.__all__) == sorted(set(package.__all__), key=in_order)
    for name in package.__all__:
        assert getattr(package, name) is not None, f"{source.module}.{name}"


@pytest.mark.parametrize("source", WITH_NAMES, ids=lambda source: source.module)
def test_type_checkers_see_every_public_name(source):
    bound = {
        alias.asname or alias.name
        for node in ast.walk(source.tree)
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    assert set(import_module(source.module).__all__) <= bound


@pytest.mark.parametrize("source", WITH_NAMES, ids=lambda source: source.module)
def test_unknown_name_is_an_attribute_error(source):
    with pytest.raises(AttributeError, match="no_such_name"):
        _ = import_module(source.module).no_such_name


@pytest.mark.parametrize("source", PACKAGES, ids=lambda source: source.module)
def test_package_has_a_docstring(source):
    assert ast.get_docstring(source.tree)
