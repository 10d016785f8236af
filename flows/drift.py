"""Watching the alpha model: has its world moved away from the sample that it was trained on?

Owns the reference that is stored with a model, and which recent rows are held against it, as pure functions. The
metrics and their thresholds are those of `runs.metrics`. Knows nothing of runs.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, datetime
from pathlib import Path

import pandas as pd
from pydantic import TypeAdapter, ValidationError

from ..runs.metrics import Histogram, Limits, MonitoringMetrics, drift_table, monitoring_metrics
from ..storage.errors import InvalidInput
from .features import FEATURES
from .panels import DATE, check_panel

_REFERENCE = TypeAdapter(dict[str, Histogram])
_WATCHED = (*FEATURES, "prediction")


@dataclass(frozen=True, slots=True)
class Checked:
    """What a monitoring finds."""

    metrics: MonitoringMetrics
    """The worst drift, the quality of the signal, how predictions came true, and the alerts that follow."""
    drift: pd.DataFrame
    """One row per feature and the prediction: see `runs.metrics.drift_table`."""
    alerts: pd.DataFrame
    """One row per alert: type, metric, subject, message: string; value, limit: float64."""

    def report(self) -> str:
        """Return what was found for people, as Markdown."""
        raised = [f"- **{alert.type}** {alert.message}" for alert in self.metrics.alerts or ()]
        rows = [
            f"| {row.feature} | {row.rows:,} | {row.psi:.3f} | {row.psi_threshold:.3f} | {row.ks_statistic:.3f} |"
            for row in self.drift.itertuples()
        ]
        measured = [f"| {name} | {value:.4g} |" for name, value in self.metrics.values().items()]
        return "\n".join(
            [
                "# Monitoring",
                "",
                *(raised or ["No alerts."]),
                "",
                "| feature | rows | PSI | threshold | KS |",
                "|---|---:|---:|---:|---:|",
                *rows,
                "",
                "| metric | value |",
                "|---|---:|",
                *measured,
                "",
            ]
        )


def reference_of(train: pd.DataFrame) -> dict[str, Histogram]:
    """Return the histograms of a training sample: of each feature and of the prediction."""
    return {name: Histogram.from_sample(train[name]) for name in _WATCHED}


def dump_reference(reference: Mapping[str, Histogram]) -> bytes:
    """Return the reference as JSON; the same reference gives the same bytes."""
    said = {name: histogram.model_dump(mode="json") for name, histogram in reference.items()}
    return json.dumps(said, indent=1).encode()


def load_reference(path: Path) -> dict[str, Histogram]:
    """Return the reference in a file that `dump_reference` made.

    Raises:
        InvalidInput: the file holds something else.
    """
    try:
        return _REFERENCE.validate_json(path.read_bytes())
    except ValidationError as error:
        first = error.errors()[0]
        raise InvalidInput(
            f"{path.name} is not a reference of histograms: {first['msg']} at {first['loc']}; train the model again"
        ) from None


def known_on(samples: pd.DataFrame, day: date) -> pd.DataFrame:
    """Return the samples as they were on a day: targets that came to be known later are blanked."""
    known = samples["realised_on"] <= pd.Timestamp(day)
    return samples.assign(target=samples["target"].where(known), realised_on=samples["realised_on"].where(known))


def alpha_monitor(
    samples: pd.DataFrame,
    reference: Mapping[str, Histogram],
    momentum: pd.DataFrame,
    *,
    now: datetime,
    window_months: int = 24,
    overlap_months: int = 12,
    false_alarm: float = 0.01,
) -> Checked:
    """Hold the last months against the training sample, judge the signal's quality, and what predictions came to.

    The threshold of drift knows the size of the sample, and that its rows are not independent: a momentum of twelve
    months that is read every month is eleven twelfths of what it was. On the shipped prices, taking rows for
    independent (`overlap_months=1`) raises an alarm in every window of two years since 1994; 12 in one of fourteen.

    Args:
        samples: date, asset, the features, prediction, target (NaN while it is not known), one row per month-end
            and asset.
        reference: histograms of the training sample, by column.
        momentum: the signal; index `date`, one column per asset; its rows of the window are checked for missing
            values, outliers and repetition, and its last date for its age.
        now: the moment of the check, aware.
        window_months: how many of the last month-ends count.
        overlap_months: rows in sequence that share one independent observation.
        false_alarm: probability of an alert without drift, all columns together.

    Raises:
        InvalidInput: a table, the reference or a number cannot be used.
    """
    if window_months < 1:
        raise InvalidInput(f"window_months must be at least 1, not {window_months}")
    signal = check_panel(momentum, name="momentum")
    dates = pd.DatetimeIndex(samples[DATE].unique()).sort_values()[-window_months:]
    if dates.empty or signal.empty:
        raise InvalidInput("there is nothing to watch: run the inference first, or choose a later data_as_of")
    recent = samples[samples[DATE] >= dates[0]]
    limits = Limits(false_alarm=false_alarm)
    model = monitoring_metrics(
        recent[list(reference)] if set(reference) <= set(recent.columns) else recent,
        reference=reference,
        predictions=_wide(recent, "prediction"),
        outcomes=_wide(recent, "target"),
        overlap=overlap_months,
        limits=limits,
    )
    quality = monitoring_metrics(
        signal[signal.index >= dates[0]],
        last_data_at=signal.index[-1].date(),
        now=now,
        limits=limits,
    )
    metrics = _joined(model, quality)
    columns = {
        "type": "str",
        "metric": "str",
        "subject": "str",
        "value": "float64",
        "limit": "float64",
        "message": "str",
    }
    raised = [alert.model_dump() for alert in metrics.alerts or ()]
    return Checked(
        metrics=metrics,
        drift=drift_table(reference, recent, false_alarm=false_alarm, overlap=overlap_months),
        alerts=pd.DataFrame(raised, columns=list(columns)).astype(columns),
    )


def _joined(model: MonitoringMetrics, quality: MonitoringMetrics) -> MonitoringMetrics:
    """Return the model's drift and performance with the signal's quality, and the alerts of what is shown."""
    shown = ("missing_pct", "outlier_pct", "duplicate_pct", "staleness_h")
    kept = [alert for alert in model.alerts or () if alert.metric not in shown]
    convention = model.convention
    if convention is not None and quality.convention is not None:
        details = {name: facts for name, facts in convention.details.items() if name not in shown}
        convention = convention.model_copy(update={"details": {**details, **quality.convention.details}})
    return model.model_copy(
        update={
            **{name: getattr(quality, name) for name in shown},
            "alerts": (*kept, *(quality.alerts or ())),
            "convention": convention,
        }
    )


def _wide(samples: pd.DataFrame, column: str) -> pd.DataFrame:
    return samples.pivot(index=DATE, columns="asset", values=column)
