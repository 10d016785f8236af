"""The flow that computes an experiment: the deployment's `study`, on the tables of its upstreams."""

from prefect import flow

from ..runs.metrics import ExperimentMetrics, experiment_metrics
from .context import RunContext
from .inputs import read_roles
from .study import HORIZONS_D, Study
from .tracking import track


@flow(name="preview")
@track.preview
def preview(run: RunContext, *, horizons_d: tuple[int, ...] = HORIZONS_D) -> ExperimentMetrics:
    """Study a signal: the distribution of its values, and how well they rank the returns that followed.

    Calls `study(**tables by role, horizons_d=...)`, which returns a `study.Study`. Publishes the tables `rank_ic`,
    `quantile_returns` and `preview`, and logs `rank_ic_<n>d` per horizon.

    Args:
        horizons_d: horizons of the rank correlation with the following return, in trading days.
    """
    study: Study = run.callable("study")(**read_roles(run), horizons_d=horizons_d)
    run.write("rank_ic", study.rank_ic)
    run.write("quantile_returns", study.quantile_returns)
    run.write("preview", study.preview)
    for horizon_d, mean_ic in study.rank_ic.set_index("horizon_d")["mean_ic"].items():
        run.log(step=None, **{f"rank_ic_{horizon_d}d": float(mean_ic)})
    return experiment_metrics(study.values)
