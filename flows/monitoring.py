"""The flow that watches a model: the deployment's `monitor`, on recent predictions and the training's reference."""

from datetime import UTC, datetime, time, timedelta

from prefect import flow

from ..runs.metrics import MonitoringMetrics
from .context import RunContext
from .drift import Checked, known_on, load_reference
from .inputs import read_roles
from .tracking import track
from .training import REFERENCE_FILE


@flow(name="monitoring")
@track.monitoring
def monitoring(
    run: RunContext, *, window_months: int = 24, overlap_months: int = 12, false_alarm: float = 0.01
) -> MonitoringMetrics:
    """Hold the last months against the training sample: drift, data quality, and how predictions came true.

    Calls `monitor(samples, reference, **tables by role, now=..., window_months=..., overlap_months=...,
    false_alarm=...)`, which returns a `drift.Checked`. The role `predictions` is the inference, the role `model` the
    training. Publishes the tables `drift` and `alerts` and a report.

    Args:
        window_months: how many of the last month-ends count.
        overlap_months: months in sequence that share one independent observation, such as the look back of a feature.
        false_alarm: probability of an alert without drift, all columns together.
    """
    samples = run.read("predictions", table="samples")
    now = datetime.now(UTC)
    if run.data_as_of is not None:
        samples = known_on(samples, run.data_as_of)
        # The end of that day.
        now = datetime.combine(run.data_as_of + timedelta(days=1), time(), UTC)
    checked: Checked = run.callable("monitor")(
        samples,
        load_reference(run.open("model", REFERENCE_FILE)),
        **read_roles(run, without=("predictions", "model")),
        now=now,
        window_months=window_months,
        overlap_months=overlap_months,
        false_alarm=false_alarm,
    )
    run.write("drift", checked.drift)
    run.write("alerts", checked.alerts)
    run.save("report.md", checked.report().encode(), media_type="text/markdown")
    for alert in checked.metrics.alerts or ():
        run.logger.warning("%s", alert.message)
    return checked.metrics
