import subprocess
import sys

import pytest

import freshline.deployments as room


def test_every_public_name_is_there_and_sorted() -> None:
    assert room.__all__ == sorted(room.__all__)
    for name in room.__all__:
        assert getattr(room, name) is not None
    with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
        _ = room.nothing


@pytest.mark.parametrize(
    "module", ["", ".catalog", ".gateway", ".keeper", ".local", ".client", ".deploy", ".initialize", ".facts"]
)
def test_module_is_imported_without_prefect(module: str) -> None:
    code = f"import sys, freshline.deployments{module}; sys.exit('prefect' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
