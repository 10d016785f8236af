import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sklearn.linear_model import Ridge

from freshline.flows.bundle import TRUSTED_TYPES, Bundle, dump_bundle, load_bundle
from freshline.storage.errors import InvalidInput


def fitted(slope: float = 2.0, *, alpha: float = 1.0) -> Ridge:
    inputs = np.arange(12.0).reshape(6, 2)
    return Ridge(alpha=alpha).fit(inputs, inputs @ [slope, -1.0])


def bundle(**changes) -> Bundle:
    said = {
        "features": ("a", "b"),
        "horizon_d": 21,
        "models": {pd.Timestamp("2001-12-31"): fitted(), pd.Timestamp("2002-12-31"): fitted(3.0)},
    }
    return Bundle(**(said | changes))


def dump(content: object, path: Path) -> None:
    import skops.io  # takes seconds once many modules are imported, and every process imports this module to collect

    skops.io.dump(content, path)


class Unknown:
    """A type that nobody trusts."""


def test_load_bundle_not_a_skops_file_is_refused(tmp_path: Path):
    path = tmp_path / "models.skops"
    path.write_bytes(b"not a zip")
    with pytest.raises(InvalidInput, match=r"models.skops cannot be read: BadZipFile.*train the model again"):
        load_bundle(path)


def test_load_bundle_untrusted_type_is_refused(tmp_path: Path):
    path = tmp_path / "models.skops"
    dump({"format": 1, "models": [Unknown()]}, path)
    with pytest.raises(InvalidInput, match="types that are not trusted"):
        load_bundle(path)


def test_load_bundle_function_of_another_module_is_refused(tmp_path: Path):
    path = tmp_path / "models.skops"
    dump({"format": 1, "models": [subprocess.run]}, path)
    with pytest.raises(InvalidInput, match="types that are not trusted"):
        load_bundle(path)


@pytest.mark.parametrize("content", [[1, 2], {"format": 2}, {"format": 1, "features": ["a"]}])
def test_load_bundle_of_another_form_is_refused(tmp_path: Path, content):
    path = tmp_path / "models.skops"
    dump(content, path)
    with pytest.raises(InvalidInput, match="not a bundle of format 1"):
        load_bundle(path)


def test_trusted_types_are_none_beyond_those_of_skops():
    assert TRUSTED_TYPES == ()


def test_bundle_round_trip_predicts_the_same(tmp_path: Path):
    path = tmp_path / "models.skops"
    written = bundle()
    path.write_bytes(dump_bundle(written))

    read = load_bundle(path)

    inputs = np.array([[1.0, 2.0]])
    assert read.refit_dates.equals(written.refit_dates)
    assert (read.features, read.horizon_d) == (written.features, written.horizon_d)
    assert [model.predict(inputs)[0] for model in read.models.values()] == [
        model.predict(inputs)[0] for model in written.models.values()
    ]
    assert read.digest() == written.digest()


def test_bundle_digest_of_equal_models_is_equal_in_another_process():
    program = "from tests.unit.flows.test_bundle import bundle; print(bundle().digest())"

    other = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)

    assert other.stdout.strip() == bundle().digest()


@pytest.mark.parametrize(
    "changes",
    [
        {"features": ("b", "a")},
        {"horizon_d": 20},
        {"models": {pd.Timestamp("2001-12-31"): fitted()}},
        {"models": {pd.Timestamp("2001-12-31"): fitted(), pd.Timestamp("2002-12-30"): fitted(3.0)}},
        {"models": {pd.Timestamp("2001-12-31"): fitted(), pd.Timestamp("2002-12-31"): fitted(3.0 + 1e-12)}},
        {"models": {pd.Timestamp("2001-12-31"): fitted(), pd.Timestamp("2002-12-31"): fitted(3.0, alpha=1.1)}},
    ],
    ids=["feature order", "horizon", "fewer models", "refit date", "coefficient", "penalty"],
)
def test_bundle_digest_changes_with_what_a_prediction_depends_on(changes):
    assert bundle(**changes).digest() != bundle().digest()
