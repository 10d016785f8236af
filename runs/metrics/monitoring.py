"""Metrics of a MonitoringRun: has the world moved away from the training sample, is the data sound, did it come true?

Owns what each metric means and when it raises an alert; the arithmetic is in `drift`, `quality` and `skill`.
"""

from collections.abc import Iterator, Mapping, Sequence
from datetime import date, datetime
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ConfigDict, Field

from ...storage.errors import InvalidInput
from .histogram import Histogram
from .model import DAILY, Convention, Metrics, measure

if TYPE_CHECKING:
    import pandas as pd


class MonitoringType(StrEnum):
    """What a monitoring run, or one of its alerts, is about."""

    MODEL_DRIFT = "model_drift"
    """Distributions against the training sample."""
    DATA_QUALITY = "data_quality"
    """Completeness, plausibility, repetition, age."""
    PERFORMANCE = "performance"
    """Predictions against what came."""


class Alert(BaseModel):
    """Something that a person should look at."""

    model_config = ConfigDict(frozen=True, extra="forbid", ser_json_inf_nan="strings")

    type: MonitoringType
    """What it is about."""
    metric: str
    """The metric that crossed its limit."""
    subject: str | None = None
    """The column that it is about; None for all."""
    value: float
    """What was measured."""
    limit: float
    """What it should not exceed; for ic, what it should not fall below."""
    message: str
    """One sentence."""


class Limits(BaseModel):
    """From where on a metric raises an alert; None never does."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    false_alarm: float = Field(default=0.01, gt=0, lt=1)
    """Probability that a check without any drift raises one, all columns together."""
    missing_pct: float | None = Field(default=5.0, ge=0)
    """More missing cells than this, in %."""
    outlier_pct: float | None = Field(default=1.0, ge=0)
    """More outliers than this, in %."""
    duplicate_pct: float | None = Field(default=0.0, ge=0)
    """More repeated rows than this, in %."""
    staleness_h: float | None = Field(default=None, ge=0)
    """Data older than this, in hours."""
    ic: float | None = None
    """A lower rank correlation than this."""


LIMITS = Limits()
"""The defaults."""


class MonitoringMetrics(Metrics):
    """State of a model or dataset. With several columns psi, ks_statistic and drift_score are those of the worst."""

    psi: float | None = measure(
        "1",
        "population stability index Σ (p − q) ln(p / q) over the reference's quantile bins, "
        "p, q = (count + 0.5) / (rows + 0.5 · bins)",
        source="Yurdakul & Naranjo 2020",
    )
    ks_statistic: float | None = measure(
        "fraction",
        "largest distance of the two cumulative distributions, at the reference's bin edges",
        source="Kolmogorov 1933, Smirnov 1948",
    )
    drift_score: float | None = measure(
        "1",
        "psi / threshold; above 1 is an alarm. The threshold is (1/n + 1/m) · χ² quantile with bins − 1 degrees of "
        "freedom at 1 − false_alarm / columns, n and m the rows of reference and sample",
        source="Yurdakul & Naranjo 2020; Wilson & Hilferty 1931",
    )
    missing_pct: float | None = measure("%", "100 · missing cells / cells")
    outlier_pct: float | None = measure(
        "%",
        "100 · values beyond 3 interquartile ranges from the quartiles of the reference (else the sample) / values",
        source="Tukey 1977 (far out)",
    )
    duplicate_pct: float | None = measure("%", "100 · rows whose key occurred in an earlier row / rows")
    staleness_h: float | None = measure("h", "time from the last data (a date: its first moment, UTC) to the check")
    direction_accuracy: float | None = measure(
        "fraction", "predictions with the sign of the outcome / predictions, where both are other than 0"
    )
    ic: float | None = measure(
        "1",
        "mean over dates of Spearman's rank correlation across assets of prediction and outcome",
        fixed={"method": "spearman", "by": "date"},
        source="Grinold & Kahn 2000",
    )
    ic_ir: float | None = measure(
        "1 per √period",
        "mean / std of the dates' rank correlations, not annualised; NaN without variance",
        uses=["ddof"],
        fixed={"method": "spearman", "by": "date"},
        source="Grinold & Kahn 2000",
    )
    hit_rate: float | None = measure("fraction", "dates with a rank correlation above 0 / dates where it is defined")
    monitoring_type: MonitoringType | None = measure("text", "model_drift, data_quality or performance")
    alerts: tuple[Alert, ...] | None = measure("table", "what was raised: type, metric, subject, value, limit, message")


def monitoring_metrics(
    sample: "pd.DataFrame | None" = None,
    *,
    reference: Mapping[str, Histogram] | None = None,
    keys: Sequence[str] = (),
    predictions: "pd.DataFrame | None" = None,
    outcomes: "pd.DataFrame | None" = None,
    last_data_at: date | None = None,
    now: datetime | None = None,
    overlap: float = 1.0,
    limits: Limits = LIMITS,
    monitoring_type: MonitoringType | None = None,
    convention: Convention = DAILY,
) -> MonitoringMetrics:
    """Compute what the inputs allow, and the alerts that follow; the other metrics are None.

    Args:
        sample: recent rows; one column per feature. Its quality is judged as a whole.
        reference: histograms of the training sample by column; needs `sample`.
        keys: columns that make a row unique; default: the index.
        predictions: n dates x assets; needs `outcomes` of the same dates and assets, what was predicted.
        outcomes: what came.
        last_data_at: the latest data date, or an aware time; needs `now`.
        now: when the check is made, aware.
        overlap: rows of `sample` that share one independent observation: 21 for daily rows of 21-day windows.
        limits: from where on an alert is raised.
        monitoring_type: default: model_drift with a reference, else performance with predictions, else data_quality.
        convention: ddof of ic_ir.

    Raises:
        InvalidInput: an input comes without the one that it needs, or cannot be used.
    """
    pairs = (("predictions", predictions, "outcomes", outcomes), ("last_data_at", last_data_at, "now", now))
    for first, given, second, needed in pairs:
        if given is not None and needed is None:
            raise InvalidInput(f"{first} was given without {second}: give both, or neither")
    if outcomes is not None and predictions is None:
        raise InvalidInput("outcomes was given without predictions: give both, or neither")
    if reference is not None and sample is None:
        raise InvalidInput("reference was given without sample: there is nothing to compare with it")
    found: dict[str, Any] = {}
    alerts: list[Alert] = []
    details: dict[str, dict[str, Any]] = {}
    if sample is not None and reference is not None:
        found |= _drift(sample, reference, limits, overlap=overlap, alerts=alerts, details=details)
    if sample is not None:
        from . import quality

        found["missing_pct"] = quality.missing_pct(sample)
        found["outlier_pct"] = quality.outlier_pct(sample, reference=reference)
        found["duplicate_pct"] = quality.duplicate_pct(sample, keys=keys)
        details["outlier_pct"] = {"fence": quality.FENCE, "reference": "sample" if reference is None else "training"}
    if last_data_at is not None and now is not None:
        from .quality import staleness_h

        found["staleness_h"] = staleness_h(last_data_at, now=now)
    if predictions is not None and outcomes is not None:
        from .skill import skill

        came = skill(predictions, outcomes, ddof=convention.ddof)
        found |= {"direction_accuracy": came.direction_accuracy, "ic": came.ic}
        found |= {"ic_ir": came.ic_ir, "hit_rate": came.hit_rate}
        details |= {name: {"dates": came.dates} for name in ("ic", "ic_ir", "hit_rate")}
    alerts.extend(_crossed(found, limits))
    if monitoring_type is None:
        other = MonitoringType.PERFORMANCE if predictions is not None else MonitoringType.DATA_QUALITY
        monitoring_type = MonitoringType.MODEL_DRIFT if reference is not None else other
    return MonitoringMetrics(
        **found, monitoring_type=monitoring_type, alerts=tuple(alerts), convention=convention.computed_here(details)
    )


def _drift(
    sample: "pd.DataFrame",
    reference: Mapping[str, Histogram],
    limits: Limits,
    *,
    overlap: float,
    alerts: list[Alert],
    details: dict[str, dict[str, Any]],
) -> dict[str, Any]:
    """Return psi, ks_statistic and drift_score of the worst columns; add to `alerts` and `details`."""
    from .drift import drift_table

    table = drift_table(reference, sample, false_alarm=limits.false_alarm, overlap=overlap)
    for row in table[table["is_drifted"]].to_dict("records"):
        message = (
            f"{row['feature']} has drifted: PSI {row['psi']:.3f} over {row['rows']} rows, "
            f"where {row['psi_threshold']:.3f} would be chance"
        )
        alerts.append(
            Alert(
                type=MonitoringType.MODEL_DRIFT,
                metric="psi",
                subject=row["feature"],
                value=row["psi"],
                limit=row["psi_threshold"],
                message=message,
            )
        )
    chosen = {"false_alarm": limits.false_alarm, "columns": len(reference), "overlap": overlap}
    details |= {"psi": {"bins": max(len(histogram.counts) for histogram in reference.values())}, "drift_score": chosen}
    return {name: float(table[name].max()) for name in ("psi", "ks_statistic", "drift_score")}


def _crossed(found: Mapping[str, Any], limits: Limits) -> Iterator[Alert]:
    """Yield an alert for each metric beyond its limit."""
    quality = {"missing_pct": "% of the cells are missing", "outlier_pct": "% of the values are outliers"}
    quality |= {"duplicate_pct": "% of the rows repeat an earlier key", "staleness_h": " hours since the last data"}
    for name, words in quality.items():
        value, limit = found.get(name), getattr(limits, name)
        if value is not None and limit is not None and value > limit:
            yield Alert(
                type=MonitoringType.DATA_QUALITY,
                metric=name,
                value=value,
                limit=limit,
                message=f"{value:.3g}{words}; the limit is {limit:g}",
            )
    ic = found.get("ic")
    if ic is not None and limits.ic is not None and ic < limits.ic:
        yield Alert(
            type=MonitoringType.PERFORMANCE,
            metric="ic",
            value=ic,
            limit=limits.ic,
            message=f"the rank correlation of predictions and outcomes is {ic:.3f}; the limit is {limits.ic:g}",
        )
