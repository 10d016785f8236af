"""MLflow: metric values in batches of a thousand, the most that a call takes, or one by one.

Called with its store's URL. A line asks for `batches NAMES STEPS` or `one_by_one VALUES`, in values per second, or for
`cost VALUES`, in microseconds: the median of the calls. Each makes a run of its own, which is not timed.
"""

import sys
import time
from statistics import median

import mlflow
from mlflow.entities import Metric
from mlflow.tracking import MlflowClient
from mlflow_store import durability, open_client, say

_MOST_AT_ONCE = 1000


def main() -> None:
    """Say who this is, then measure what each line of the input asks for."""
    client, experiment = open_client(sys.argv[1])
    say({"name": f"MLflow {mlflow.__version__}", "durability": durability(client)})
    for line in sys.stdin:
        what, *numbers = line.split()
        run_id = client.create_run(experiment).info.run_id
        say({"value": _OFFERED[what](client, run_id, *map(int, numbers))})


def batches(client: MlflowClient, run_id: str, names: int, steps: int) -> float:
    """Log what lies ready as entities; return values per second."""
    at_ms = int(time.time() * 1000)
    points = [Metric(f"m{number}", number * 0.5, at_ms, step) for step in range(steps) for number in range(names)]
    began = time.perf_counter()
    for start in range(0, len(points), _MOST_AT_ONCE):
        client.log_batch(run_id, metrics=points[start : start + _MOST_AT_ONCE])
    took_s = time.perf_counter() - began
    found = sum(len(client.get_metric_history(run_id, f"m{number}")) for number in range(names))
    assert found == len(points), "not all values are readable"
    return len(points) / took_s


def one_by_one(client: MlflowClient, run_id: str, values: int) -> float:
    """Log a value a call; return values per second."""
    return values * 1e9 / sum(_calls(client, run_id, values))


def cost(client: MlflowClient, run_id: str, values: int) -> float:
    """Log a value a call; return the median microseconds of a call."""
    return median(_calls(client, run_id, values)) / 1000


def _calls(client: MlflowClient, run_id: str, values: int) -> list[int]:
    costs = []
    for step in range(values):
        began = time.perf_counter_ns()
        client.log_metric(run_id, "loss", step * 0.5, step=step)
        costs.append(time.perf_counter_ns() - began)
    return costs


_OFFERED = {"batches": batches, "one_by_one": one_by_one, "cost": cost}


if __name__ == "__main__":
    main()
