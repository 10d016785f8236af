"""MLflow: create a run, one log_batch with 10 parameters and 10 metrics, terminate. The cheapest way that it offers.

Called with its store's URL and the number of runs in a round. Its SQLite is left as it ships.
"""

import json
import logging
import sqlite3
import sys
import time

import mlflow
from mlflow.entities import Metric, Param
from mlflow.tracking import MlflowClient

_SYNCHRONOUS = ("OFF", "NORMAL", "FULL", "EXTRA")


def main() -> None:
    """Say who this is, then measure one round per line of the input."""
    for name in ("mlflow", "alembic"):
        logging.getLogger(name).setLevel(logging.ERROR)
    url, runs = sys.argv[1], int(sys.argv[2])
    client = MlflowClient(tracking_uri=url)
    experiment = client.create_experiment("bench")
    say({"name": f"MLflow {mlflow.__version__}, log_batch", "durability": durability(url)})
    for _ in sys.stdin:
        began = time.perf_counter()
        for _ in range(runs):
            live(client, experiment)
        say({"value": runs / (time.perf_counter() - began)})


def live(client: MlflowClient, experiment: str) -> None:
    """Lead one run through its life."""
    run_id = client.create_run(experiment).info.run_id
    now = int(time.time() * 1000)
    metrics = [Metric(f"m{number}", number * 0.5, now, 0) for number in range(10)]
    client.log_batch(run_id, metrics=metrics, params=[Param(f"p{number}", str(number)) for number in range(10)])
    client.set_terminated(run_id)


def durability(url: str) -> str:
    """Read the settings back: the journal's mode is the file's, `synchronous` that of any connection of Python's."""
    with sqlite3.connect(url.removeprefix("sqlite:///")) as connection:
        (journal,) = connection.execute("PRAGMA journal_mode").fetchone()
        (synchronous,) = connection.execute("PRAGMA synchronous").fetchone()
    return f"SQLite journal_mode={journal.upper()}, synchronous={_SYNCHRONOUS[synchronous]}"


def say(message: dict[str, object]) -> None:
    """Answer with one line."""
    print(json.dumps(message), flush=True)


if __name__ == "__main__":
    main()
