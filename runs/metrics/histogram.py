"""The distribution of a training sample, small enough to be stored with the model's version."""

from itertools import pairwise
from typing import Any, Self

from pydantic import BaseModel, ConfigDict, model_validator

from ...storage.errors import InvalidInput


class Histogram(BaseModel):
    """Counts of a sample by bin. Round-trips through JSON (`model_dump_json`, `model_validate_json`) exactly.

    The bins are (-inf, edges[0]], (edges[0], edges[1]], ..., (edges[-1], inf): the two outer ones are open, so every
    later value has a bin.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    edges: tuple[float, ...]
    """Where one bin ends and the next begins, ascending; a value on an edge belongs to the lower bin."""
    counts: tuple[int, ...]
    """Values per bin; one more than edges."""
    missing: int = 0
    """NaN in the sample; in no bin."""
    low_quartile: float
    """25 % quantile of the sample."""
    high_quartile: float
    """75 % quantile of the sample."""

    @model_validator(mode="after")
    def _is_consistent(self) -> Self:
        if len(self.counts) != len(self.edges) + 1 or len(self.counts) < 2:
            raise ValueError(
                f"{len(self.edges)} edges make {len(self.edges) + 1} bins, at least 2; got {len(self.counts)} counts"
            )
        if any(second <= first for first, second in pairwise(self.edges)):
            raise ValueError("the edges must ascend")
        if min(self.counts) < 0 or self.missing < 0 or not self.rows:
            raise ValueError("counts must not be negative, and one value at least must be in a bin")
        return self

    @property
    def rows(self) -> int:
        """Values in all bins, NaN left out."""
        return sum(self.counts)

    @classmethod
    def from_sample(cls, sample: Any, *, bins: int = 10) -> Self:
        """Count a sample into at most `bins` bins of equal share, cut at its quantiles.

        Quantiles that coincide (values that occur often) are merged. A sample of one value only gets three bins: below,
        equal, above.

        Raises:
            InvalidInput: `bins` below 2, no value at all, or an infinite or non-numeric one.
        """
        import numpy as np

        from .moments import numbers

        if bins < 2:
            raise InvalidInput(f"bins={bins}: a histogram needs at least 2")
        flat = numbers(sample, "the training sample").ravel()
        values = flat[~np.isnan(flat)]
        if not values.size:
            raise InvalidInput(
                f"the training sample has {flat.size} rows and no value: there is nothing to compare with later"
            )
        if not np.isfinite(values).all():
            raise InvalidInput(
                f"the training sample has {int(np.isinf(values).sum())} infinite values: replace them or leave them out"
            )
        low, high = values.min(), values.max()
        cuts = np.unique(np.quantile(values, np.linspace(0.0, 1.0, bins + 1)[1:-1]))
        cuts = cuts[(cuts >= low) & (cuts < high)]
        if low == high:
            cuts = np.array([np.nextafter(low, -np.inf), low])
        elif not cuts.size:
            cuts = np.array([values[values < high].max()])
        quartiles = np.quantile(values, [0.25, 0.75])
        return cls(
            edges=tuple(cuts.tolist()),
            counts=tuple(_counts(cuts, values).tolist()),
            missing=int(flat.size - values.size),
            low_quartile=float(quartiles[0]),
            high_quartile=float(quartiles[1]),
        )

    def count(self, sample: Any) -> tuple[int, ...]:
        """Return how many values of another sample fall into each bin; NaN into none, infinities into the outer ones.

        Raises:
            InvalidInput: something in it is not a number.
        """
        import numpy as np

        from .moments import numbers

        flat = numbers(sample, "the sample").ravel()
        return tuple(_counts(np.asarray(self.edges), flat[~np.isnan(flat)]).tolist())


def _counts(edges: Any, values: Any) -> Any:
    import numpy as np

    return np.bincount(np.searchsorted(edges, values, side="left"), minlength=len(edges) + 1)
