"""The project that the fixture `ways` deploys: small tracked flows, one deployment for each way in or out.

Owns what is deployed, as text. Knows nothing of the processes that run it.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from textwrap import dedent
from typing import Any

IDLE_POOL = "idle"
"""Has no worker: its flow runs stay scheduled."""
NARROW_POOL = "narrow"
"""Lets one flow run at a time through."""
DOOMED_POOL = "doomed"
"""Its worker is killed."""

FLOWS = """
import time
from pathlib import Path

import pyarrow as pa
from prefect import flow
from prefect.deployments import run_deployment
from prefect.flow_runs import suspend_flow_run

from freshline.flows import RunContext, track


@flow
@track.refresh
def passing(run: RunContext, n: int = 1):
    pass


@flow
@track.backtest
def simulating(run: RunContext, n: int = 1):
    pass


@flow
@track.refresh
def holding(run: RunContext, release: str):
    for _ in run.progress(until_there(Path(release))):
        pass


@flow
@track.refresh
def linking(run: RunContext, edition: int = 1):
    before = run.read("before", as_="arrow")["total"][0].as_py() if "before" in run.inputs else 0
    run.write("total", pa.table({"total": [before + edition]}))


@flow(retries=1)
@track.refresh
def flaky(run: RunContext):
    if run.attempt == 1:
        raise RuntimeError("the first attempt fails")


@flow
@track.refresh
def suspending(run: RunContext):
    if run.attempt == 1:
        suspend_flow_run(timeout=600)


@flow
@track.refresh
def failing(run: RunContext, mended: str):
    if not Path(mended).exists():
        raise RuntimeError("not mended yet")


@flow
@track.refresh
def starting(run: RunContext):
    run_deployment("passing/started", timeout=0)


@flow
@track.training
def called_as_subflow(run: RunContext, n: int = 1):
    pass


@flow
@track.refresh
def called_as_function(run: RunContext, n: int = 1):
    pass


@flow
@track.refresh
def called_from_script(run: RunContext, n: int = 1):
    pass


@flow
@track.refresh
def calling(run: RunContext):
    called_as_subflow(n=2)
    called_as_function.fn(n=3)


def until_there(path):
    while not path.exists():
        yield path
        time.sleep(0.05)
"""

DYING = """
import os

from prefect import flow

from freshline.flows import RunContext, track

if "PREFECT__FLOW_RUN_ID" in os.environ:
    os._exit(7)


@flow
@track.refresh
def dying(run: RunContext):
    pass
"""

SCRIPT = """
from ways_flows import called_from_script

called_from_script(n=4)
"""

FILES = {"ways_flows.py": FLOWS, "ways_dying.py": DYING, "script.py": SCRIPT}
"""The project, but for its prefect.yaml."""

_CATALOGUE: Sequence[tuple[str, str, Mapping[str, Any]]] = [
    # name, flow, what differs from the ordinary
    ("service", "passing", {}),
    ("cli", "passing", {}),
    ("quick", "passing", {}),
    ("custom", "simulating", {"kind": "backtest", "runs": "backtest"}),
    ("scheduled", "passing", {}),
    ("automated", "passing", {}),
    ("commanded", "passing", {}),
    ("starting", "starting", {}),
    ("started", "passing", {}),
    ("calling", "calling", {}),
    ("subflow", "called_as_subflow", {"kind": "model", "runs": "training"}),
    ("function", "called_as_function", {}),
    ("script", "called_from_script", {}),
    ("flaky", "flaky", {}),
    ("suspending", "suspending", {}),
    ("failing", "failing", {}),
    ("link-1", "linking", {"pool": NARROW_POOL}),
    ("link-2", "linking", {"pool": NARROW_POOL, "upstream": {"before": "refresh/link-1"}}),
    ("link-3", "linking", {"pool": NARROW_POOL, "upstream": {"before": "refresh/link-2"}}),
    ("link-4", "linking", {"pool": NARROW_POOL, "upstream": {"before": "refresh/link-3"}}),
    ("waiting", "passing", {"pool": IDLE_POOL}),
    ("dying", "ways_dying.py:dying", {}),
    ("held", "holding", {}),
    ("orphan", "holding", {"pool": DOOMED_POOL}),
]

SCHEDULE = {"interval": 3600, "slug": "every-hour", "active": False}
"""Of the deployment `scheduled`; it is switched on when the deployment is registered."""


def write_project(directory: Path) -> None:
    """Write the project's files."""
    directory.mkdir()
    for name, content in FILES.items():
        (directory / name).write_text(dedent(content).lstrip())
    (directory / "prefect.yaml").write_text(catalogue())


def catalogue(*, edition: int = 1) -> str:
    """The project's prefect.yaml; another edition makes the first link, and what follows it, stale."""
    deployments = []
    for name, flow, differs in _CATALOGUE:
        block = {"name": name, "kind": differs.get("kind", "dataset"), "runs": differs.get("runs", "refresh")}
        entry: dict[str, Any] = {
            "name": name,
            "entrypoint": flow if ":" in flow else f"ways_flows.py:{flow}",
            "work_pool": {"name": differs.get("pool", "local")},
            "resource": block | {key: differs[key] for key in ("upstream",) if key in differs},
        }
        if name == "link-1":
            entry["parameters"] = {"edition": edition}
        if name == "scheduled":
            entry["schedules"] = [SCHEDULE]
        deployments.append(entry)
    return json.dumps({"deployments": deployments}, indent=1)  # JSON is YAML
