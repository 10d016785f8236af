"""The file of a walk-forward model: one fitted regression per refit date, stored with skops.

Owns the file's form, its digest and how it is loaded without running what is in it. Knows no data.

skops writes a zip of arrays and a description instead of a pickle. Loading builds only types that are trusted: those
that skops itself trusts, which hold every type of this bundle, and those of `TRUSTED_TYPES`.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from ..storage.errors import InvalidInput
from .extra import needs_quant

if TYPE_CHECKING:
    from sklearn.linear_model import Ridge

TRUSTED_TYPES: tuple[str, ...] = ()
"""Types to trust beyond those of skops: none. Never fill it from what a file says about itself."""

MEDIA_TYPE = "application/vnd.skops"

_FORMAT = 1


@dataclass(frozen=True, slots=True)
class Bundle:
    """Fitted models by refit date, ascending: a date is predicted by the newest model fitted on or before it."""

    features: tuple[str, ...]
    """The columns that the models take, in their order."""
    horizon_d: int
    """What they predict: the return of this many trading days."""
    models: Mapping[pd.Timestamp, "Ridge"]

    @property
    def refit_dates(self) -> pd.DatetimeIndex:
        """The dates on which a model was fitted."""
        return pd.DatetimeIndex(list(self.models))

    def digest(self) -> str:
        """Return the sha256 over all that a prediction depends on: settings, coefficients, intercepts.

        The bytes of the file also hold library versions and memory addresses, and differ from run to run.
        """
        said = {
            "format": _FORMAT,
            "features": list(self.features),
            "horizon_d": self.horizon_d,
            "models": [
                {
                    "refit_date": date.date().isoformat(),
                    "parameters": {name: repr(value) for name, value in sorted(model.get_params().items())},
                    "coefficients": [float(number).hex() for number in np.ravel(model.coef_)],
                    "intercept": float(model.intercept_).hex(),
                }
                for date, model in self.models.items()
            ],
        }
        return hashlib.sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()


def dump_bundle(bundle: Bundle) -> bytes:
    """Return the bundle as the bytes of a skops file.

    Raises:
        MissingExtra: the extra `freshline[quant]` is not installed.
    """
    with needs_quant("a model file"):
        import skops.io
    content: bytes = skops.io.dumps(
        {
            "format": _FORMAT,
            "features": list(bundle.features),
            "horizon_d": bundle.horizon_d,
            "refit_dates": [date.date().isoformat() for date in bundle.models],
            "models": list(bundle.models.values()),
        }
    )
    return content


def load_bundle(path: Path) -> Bundle:
    """Return the bundle in a file that `dump_bundle` made; nothing in the file is run.

    Raises:
        MissingExtra: the extra `freshline[quant]` is not installed.
        InvalidInput: the file is no skops file, holds a type that is not trusted, or is not of this form.
    """
    with needs_quant("a model file"):
        import skops.io
        from skops.io.exceptions import UntrustedTypesFoundException
    try:
        content = skops.io.load(path, trusted=list(TRUSTED_TYPES))
    except UntrustedTypesFoundException as error:
        raise InvalidInput(
            f"the model file {path.name} holds types that are not trusted: {error}; train the model again"
        ) from None
    # A damaged zip or description fails in many ways, none of them documented.
    except Exception as error:
        raise InvalidInput(
            f"the model file {path.name} cannot be read: {type(error).__name__}: {error}; train the model again"
        ) from None
    try:
        return _bundle_of(content)
    except (TypeError, KeyError, ValueError):
        raise InvalidInput(
            f"the model file {path.name} is not a bundle of format {_FORMAT}; train the model again"
        ) from None


def _bundle_of(content: Any) -> Bundle:
    from sklearn.linear_model import Ridge

    models = content["models"]
    if content["format"] != _FORMAT or not models or not all(isinstance(model, Ridge) for model in models):
        raise ValueError("another form")
    dates = [pd.Timestamp(date) for date in content["refit_dates"]]
    return Bundle(
        features=tuple(content["features"]),
        horizon_d=int(content["horizon_d"]),
        models=dict(zip(dates, models, strict=True)),
    )
