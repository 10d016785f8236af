import subprocess
import sys

import pytest

from freshline.flows.extra import needs_quant
from freshline.storage.errors import MissingExtra

_MODULES = ("alpha", "bundle", "drift", "engine", "features", "long_short", "portfolio", "signals", "sources", "study")
_WITHOUT_QUANT = """
import importlib, sys
for library in ("skfolio", "sklearn", "skops", "threadpoolctl"):
    sys.modules[library] = None
for module in {modules!r}:
    importlib.import_module("freshline.flows." + module)
assert "prefect" not in sys.modules, "a pure function needs no Prefect"
from freshline.flows.sources import sp500
from freshline.storage.errors import MissingExtra
try:
    sp500()
except MissingExtra as error:
    print(error)
"""


def test_needs_quant_missing_library_names_who_and_the_command():
    with pytest.raises(MissingExtra, match=r"the model needs surely_not_there.*pip install 'freshline\[quant\]'"):  # noqa: SIM117
        with needs_quant("the model"):
            import surely_not_there  # noqa: F401


def test_needs_quant_other_errors_pass():
    with pytest.raises(ValueError, match="no import"), needs_quant("the model"):
        raise ValueError("no import")


def test_shipped_functions_import_without_the_extra_and_without_prefect():
    program = _WITHOUT_QUANT.format(modules=_MODULES)

    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)

    assert done.returncode == 0, done.stderr
    assert "the source sp500 needs skfolio" in done.stdout
