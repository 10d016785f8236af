"""MLflow: create a run, one log_batch with 10 parameters and 10 metrics, terminate. The cheapest way that it offers.

Called with its store's URL, the number of runs in a round and, for SQLite, the journal and synchronous settings.
"""

import sys
import time

import mlflow
from mlflow.tracking import MlflowClient
from mlflow_store import durability, log_values, open_client, say, use_sqlite_settings


def main() -> None:
    """Say who this is, then measure one round per line of the input."""
    url, runs, *settings = sys.argv[1:]
    if settings:
        use_sqlite_settings(*settings)
    client, experiment = open_client(url)
    say({"name": f"MLflow {mlflow.__version__}, log_batch", "durability": durability(client)})
    for _ in sys.stdin:
        began = time.perf_counter()
        for _ in range(int(runs)):
            live(client, experiment)
        say({"value": int(runs) / (time.perf_counter() - began)})


def live(client: MlflowClient, experiment: str) -> None:
    """Lead one run through its life."""
    run_id = client.create_run(experiment).info.run_id
    log_values(client, run_id, at_ms=int(time.time() * 1000))
    client.set_terminated(run_id)


if __name__ == "__main__":
    main()
