"""Which tests share a worker process when `make test` runs several, and in what order the workers take them.

Owns the groups alone: how many workers there are is said on the command line. Without workers nothing changes.

Tests of one module stay together, so that what a module prepares is prepared once. All tests with a real Prefect stay
together, one server after the other: each with its flow runs takes more than a processor, and waits a lot, while the
other workers have the rest. A test says `xdist_group` where neither is right.
"""

from collections import defaultdict
from collections.abc import Iterator

import pytest

PREFECT = "prefect"
"""The group of tests with a real Prefect."""


@pytest.hookimpl(wrapper=True)  # around pytest-xdist's own, which puts the group into the test's id
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> Iterator[None]:
    """Give every test its group; the groups that may take longest come first, so that none is left at the end."""
    if not getattr(config.option, "loadgroup", False):
        return (yield)
    groups: defaultdict[str, list[pytest.Item]] = defaultdict(list)
    for item in items:
        name = group_of(item)
        item.add_marker(pytest.mark.xdist_group(name))
        groups[name].append(item)
    if PREFECT in groups:
        groups[PREFECT].sort(key=_uses_stack)
    items[:] = [item for group in sorted(groups.values(), key=_longest_first) for item in group]
    yield
    if lost := [item.nodeid for item in items if not item.nodeid.endswith(f"@{group_of(item)}")]:
        raise pytest.UsageError(f"pytest-xdist does not know the groups of {len(lost)} tests, first of {lost[0]}")
    return None


def group_of(item: pytest.Item) -> str:
    """The group that the test says, or else that of what it shares with others."""
    said = item.get_closest_marker("xdist_group")
    if said is not None:
        return str(said.args[0])
    if item.get_closest_marker("stack") or _uses_stack(item):
        return PREFECT
    return item.nodeid.partition("::")[0]


def _uses_stack(item: pytest.Item) -> bool:
    """Whether it uses the session's stack, which stays until the session ends: these tests come last."""
    return "stack" in getattr(item, "fixturenames", ())


def _longest_first(group: list[pytest.Item]) -> tuple[float, bool, int]:
    """Sort by the time that the tests ask for, then those that wait for a Prefect server, then by number."""
    longest = max((float(mark.args[0]) for item in group for mark in item.iter_markers("timeout")), default=0.0)
    waits = any(item.get_closest_marker("stack") for item in group)
    return -longest, not waits, -len(group)
