"""The flow that fits a model: the deployment's `trainer`, on the tables of its upstreams."""

import pandas as pd
from prefect import flow

from ..runs.metrics import TrainingMetrics, training_metrics
from .alpha import Trained
from .bundle import MEDIA_TYPE, dump_bundle
from .context import RunContext
from .drift import dump_reference, reference_of
from .inputs import read_roles
from .panels import DATE
from .tracking import track

MODEL_FILE = "models.skops"
REFERENCE_FILE = "reference.json"


@flow(name="training")
@track.training
def training(
    run: RunContext,
    *,
    horizon_d: int = 21,
    refit_months: int = 12,
    min_months: int = 36,
    penalty: float = 100.0,
) -> TrainingMetrics:
    """Fit a model walk-forward: one per refit date, each on what was known by then.

    Calls `trainer(**tables by role, horizon_d=..., refit_months=..., min_months=..., penalty=...)`, which returns an
    `alpha.Trained`. Publishes the models, whose digest is that of their coefficients, and the reference histograms of
    the newest one's training sample; leaves the tables `validation`, `feature_importance` and `refits` with the run.
    The metrics are those of the newest model in its sample (`train_`), and of every model on the months until the next
    refit (`val_`).

    Args:
        horizon_d: the target is the return of this many trading days, less the mean over the assets.
        refit_months: months between refits.
        min_months: months with a known target before the first fit.
        penalty: the ridge's weight on the squared coefficients.
    """
    trained: Trained = run.callable("trainer")(
        **read_roles(run), horizon_d=horizon_d, refit_months=refit_months, min_months=min_months, penalty=penalty
    )
    run.save(MODEL_FILE, dump_bundle(trained.bundle), media_type=MEDIA_TYPE, digest=trained.bundle.digest())
    run.save(REFERENCE_FILE, dump_reference(reference_of(trained.train)), media_type="application/json")
    run.write("validation", trained.validation, publish=False)
    run.write("feature_importance", trained.importance, publish=False)
    run.write("refits", trained.refits, data_date="refit_date", publish=False)
    importance = trained.importance.set_index("feature")["importance"]
    return training_metrics(
        train=_actual_and_predicted(trained.train),
        validation=_actual_and_predicted(trained.validation),
        features=trained.bundle.features,
        feature_importance={str(name): float(share) for name, share in importance.items()},
    )


def _actual_and_predicted(samples: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return both sides as dates x assets: the rank correlation is then that of each date."""
    actual, predicted = (samples.pivot(index=DATE, columns="asset", values=name) for name in ("target", "prediction"))
    return actual, predicted
