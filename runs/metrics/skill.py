"""Did predictions come true, date by date? Pure functions on wide tables; must not know models or runs."""

from dataclasses import dataclass

import numpy as np
import pandas as pd

from .moments import std
from .scores import mean_of_present, paired, ratio, row_ic

NAN = float("nan")


@dataclass(frozen=True)
class Skill:
    """How predictions relate to outcomes."""

    direction_accuracy: float
    """Share of predictions with the sign of the outcome, where both are other than 0."""
    ic: float
    """Mean of the dates' rank correlations."""
    ic_ir: float
    """That mean over their standard deviation."""
    hit_rate: float
    """Share of dates with a rank correlation above 0."""
    dates: int
    """Dates whose rank correlation is defined."""


def skill(predictions: pd.DataFrame, outcomes: pd.DataFrame, *, ddof: int = 1) -> Skill:
    """Judge predictions (n dates x assets) by what came; a cell that one side lacks is left out.

    Raises:
        InvalidInput: the tables differ in dates or assets, or hold something that is not a number.
    """
    came, said = paired(outcomes, predictions)
    decided = ~(np.isnan(came) | np.isnan(said)) & (came != 0.0) & (said != 0.0)
    by_date = row_ic(said, came)
    known = by_date[~np.isnan(by_date)]
    spread = std(known, ddof=ddof)
    mean = mean_of_present(known)
    return Skill(
        direction_accuracy=ratio(int((np.sign(came) == np.sign(said))[decided].sum()), int(decided.sum())),
        ic=mean,
        ic_ir=mean / spread if spread > 0.0 else NAN,
        hit_rate=ratio(int((known > 0.0).sum()), known.size),
        dates=int(known.size),
    )


def ic_by_date(predictions: pd.DataFrame, outcomes: pd.DataFrame) -> pd.Series:
    """Return the rank correlation of each date; NaN where fewer than two assets have both, or one side is constant.

    Raises:
        InvalidInput: the tables differ in dates or assets, or hold something that is not a number.
    """
    came, said = paired(outcomes, predictions)
    return pd.Series(row_ic(said, came), index=predictions.index, name="ic")
