"""The flow that predicts with a trained model: the deployment's `predictor`, on the tables of its upstreams."""

import time

from prefect import flow

from ..runs.metrics import InferenceMetrics, inference_metrics
from .alpha import Predicted
from .context import RunContext
from .inputs import read_roles
from .tracking import track
from .training import MODEL_FILE


@flow(name="inference")
@track.inference
def inference(run: RunContext) -> InferenceMetrics:
    """Predict every rebalance date out of sample, each by the newest model that was fitted by then.

    Calls `predictor(path of the model file, **tables by role)`, which returns an `alpha.Predicted`. Publishes the
    tables `predictions` (dates x assets) and `samples` (the same, long, with the features and what came of it). The
    role `model` is the training.
    """
    predictor = run.callable("predictor")
    tables = read_roles(run, without=("model",))
    path = run.open("model", MODEL_FILE)
    began = time.perf_counter()
    predicted: Predicted = predictor(path, **tables)
    latency_ms = (time.perf_counter() - began) * 1000.0
    run.write("predictions", predicted.predictions)
    run.write("samples", predicted.samples)
    return inference_metrics(predicted.predictions, latency_ms=latency_ms)
