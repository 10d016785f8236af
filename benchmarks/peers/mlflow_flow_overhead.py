"""A Prefect flow with one task that does nothing: `plain`, or `tracked` by MLflow with 10 parameters and 10 metrics.

Called with the store's URL and SQLite's journal and synchronous settings; Prefect's server is the one that
PREFECT_API_URL names. As with ours, the flow run is made beforehand and Prefect's flow heartbeat is off; the flow's
body begins and ends MLflow's run. A round is one flow, its value milliseconds.
"""

import logging
import sys
import time
from typing import Any

import mlflow
from mlflow_store import durability, log_values, open_client, say, use_sqlite_settings
from prefect import flow, get_client, task
from prefect.flow_engine import run_flow
from prefect.settings import PREFECT_FLOWS_HEARTBEAT_FREQUENCY, temporary_settings
from prefect.states import Pending


def main() -> None:
    """Say who this is, then measure one round per line of the input."""
    url, journal, synchronous = sys.argv[1:]
    logging.getLogger("prefect").setLevel(logging.ERROR)
    use_sqlite_settings(journal, synchronous)
    client, experiment = open_client(url)

    @task
    def nothing() -> None:
        return None

    @flow
    def plain() -> None:
        nothing()

    @flow
    def tracked() -> None:
        run_id = client.create_run(experiment).info.run_id
        log_values(client, run_id, at_ms=int(time.time() * 1000))
        nothing()
        client.set_terminated(run_id)

    say({"name": f"MLflow {mlflow.__version__}, its store used directly", "durability": durability(client)})
    offered = {"plain": plain, "tracked": tracked}
    with temporary_settings({PREFECT_FLOWS_HEARTBEAT_FREQUENCY: None}):
        for line in sys.stdin:
            say({"value": timed(offered[line.strip()])})


def timed(made: Any) -> float:
    """Return how many milliseconds one flow takes."""
    with get_client(sync_client=True) as prefect:
        flow_run = prefect.create_flow_run(made, state=Pending())
    began = time.perf_counter()
    state: Any = run_flow(made, flow_run=flow_run, return_type="state")
    took_ms = (time.perf_counter() - began) * 1000
    assert state.is_completed(), state
    return took_ms


if __name__ == "__main__":
    main()
