"""A user's own project has its own `flows/` and `storage/`: its deployments run beside Freshline, and are tracked.

The project is deployed with the command line, and run by a real worker with Prefect's own loader: from a file
entrypoint and from module entrypoints, once with packages and once without `__init__.py`.
"""

import json
import os
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from textwrap import dedent

import pandas as pd
import pytest

from freshline.lineage import registry
from freshline.runs.embedded import Embedded, embedded
from freshline.storage.parquet import to_pandas

pytestmark = [pytest.mark.stack, pytest.mark.timeout(600)]

FILES = {
    "flows/daily.py": """
        from prefect import flow

        from freshline.flows import RunContext, track
        from storage.paths import table_of_prices, where


        @flow
        @track.refresh
        def daily(run: RunContext, factor: float = 1.0):
            prices = table_of_prices()
            run.write("prices", prices.assign(close=prices["close"] * factor))
            run.note("imported", storage=where())
            return {"rows_fetched": len(prices)}
        """,
    "flows/weekly.py": """
        from prefect import flow

        from freshline.flows import RunContext, track
        from storage.paths import where


        @flow
        @track.refresh
        def weekly(run: RunContext):
            prices = run.read("prices")
            run.write("weekly", prices.groupby(prices["date"].dt.isocalendar().week).last().reset_index(drop=True))
            run.note("imported", storage=where())
        """,
    "storage/paths.py": """
        from pathlib import Path

        import pandas as pd

        DATA = Path(__file__).parent.parent / "data"


        def table_of_prices() -> pd.DataFrame:
            return pd.read_csv(DATA / "prices.csv", parse_dates=["date"])


        def where() -> str:
            return __file__
        """,
    "storage/feed.py": """
        from storage.paths import table_of_prices


        def closes(since, until):
            prices = table_of_prices().set_index("date")
            return prices if since is None else prices[prices.index > since.isoformat()]
        """,
    "data/prices.csv": """
        date,close
        2024-01-04,10.5
        2024-01-05,11.0
        2024-01-11,12.5
        2024-01-12,12.0
        """,
    "prefect.yaml": """
        deployments:
          - name: {name}-daily
            entrypoint: flows/daily.py:daily
            parameters: {{factor: 2.0}}
            work_pool: {{name: local}}
            resource: {{name: {name}, kind: dataset, runs: refresh}}
          - name: {name}-weekly
            entrypoint: flows.weekly.weekly
            work_pool: {{name: local}}
            resource: {{name: {name}-weekly, kind: dataset, runs: refresh, upstream: {{prices: refresh/{name}}}}}
          - name: {name}-feed
            entrypoint: freshline.flows.refresh.refresh
            work_pool: {{name: local}}
            resource: {{name: {name}-feed, kind: dataset, runs: refresh, source: storage.feed.closes}}
        """,
}


@dataclass(frozen=True)
class Project:
    """A user's project, deployed: its directory, and the name of its resources."""

    name: str
    directory: Path
    embedded: Embedded

    def run(self, key, **options):
        """Submit, wait, and return the report of the completed run."""
        run = self.embedded.queries.wait(self.embedded.service.submit(key, **options).id, timeout_s=120)
        log = self.embedded.stack.log_path("worker").read_text()[-4000:]
        assert run.status == "completed", f"{run.error_message}\n{run.error_traceback}\n{log}"
        return self.embedded.queries.report(run.id)

    def table(self, report):
        """The one published table of a run."""
        (artifact,) = [item for item in report.artifacts if item.kind == "table" and item.publish]
        return to_pandas(self.embedded.freshline.objects, artifact.stored_table())

    def storage_seen_by(self, report):
        """The file of the module `storage.paths` that the flow imported."""
        events = [event for _, event in self.embedded.queries.events(report.run.id)]
        (note,) = [event for event in events if getattr(event, "name", None) == "imported"]
        return Path(note.data["storage"])


@pytest.fixture(scope="module")
def stack(stack_directory):
    with embedded(stack_directory("own-project"), isolated=True, reconcile_s=2.0) as up:
        yield up


@pytest.fixture(scope="module", params=["plain", pytest.param("packaged", marks=pytest.mark.slow)])
def project(request, stack, tmp_path_factory):
    """The project, with its folders as packages or without any `__init__.py`, deployed by its user."""
    directory = tmp_path_factory.mktemp(request.param)
    for name, content in FILES.items():
        path = directory / name
        path.parent.mkdir(exist_ok=True)
        text = dedent(content).lstrip()
        path.write_text(text.format(name=request.param) if name == "prefect.yaml" else text)
    if request.param == "packaged":
        for folder in ("flows", "storage"):
            (directory / folder / "__init__.py").write_text("")
    program = Path(sys.executable).with_name("freshline")
    # A project of its own: its catalogue must not retire the other one's deployments.
    done = subprocess.run(
        [program, "deploy", "--json"],
        cwd=directory,
        env=os.environ | {"FRESHLINE_PROJECT": request.param},
        check=False,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    keys = {f"refresh/{request.param}{suffix}" for suffix in ("", "-weekly", "-feed")}
    assert set(json.loads(done.stdout)["created"]) == keys
    return Project(request.param, directory, stack)


def test_own_flows_import_own_modules_and_are_tracked(project):
    report = project.run(f"refresh/{project.name}-weekly", on_stale="refresh")
    daily = next(run for key, run in project.embedded.queries.runs() if key == f"refresh/{project.name}")
    upstream = project.embedded.queries.report(daily.id)

    assert (upstream.run.type, upstream.run.trigger, upstream.version) == ("PipelineRun", "cascade", 1)
    assert upstream.metrics["rows_fetched"] == 4
    assert project.table(upstream)["close"].tolist() == [21.0, 22.0, 25.0, 24.0]
    assert (report.run.type, report.run.trigger, report.version) == ("PipelineRun", "submitted", 1)
    assert project.table(report)["close"].tolist() == [22.0, 24.0]
    assert project.table(report)["date"].tolist() == [pd.Timestamp("2024-01-05"), pd.Timestamp("2024-01-12")]
    assert [(read.role, read.key, read.number) for read in report.inputs] == [("prices", f"refresh/{project.name}", 1)]
    for one in (upstream, report):
        assert project.storage_seen_by(one) == project.directory / "storage" / "paths.py"


def test_shipped_flow_calls_a_source_in_the_projects_own_storage_folder(project):
    report = project.run(f"refresh/{project.name}-feed")
    assert report.version == 1
    assert project.table(report)["close"].tolist() == [10.5, 11.0, 12.5, 12.0]


def test_flow_run_created_in_prefect_itself_gets_its_record(project):
    with project.embedded.freshline.database.read() as connection:
        target = registry.deployment(connection, f"refresh/{project.name}", tenant_id="default")
    before = {run.id for _, run in project.embedded.queries.runs(deployment=target.key)}
    flow_run_id = _press_run(target.prefect_deployment_id)

    run = _wait_for_new_run(project, target.key, before)
    assert (run.flow_run_id, run.trigger, run.status) == (flow_run_id, "manual", "completed")
    assert project.embedded.queries.report(run.id).version is not None


def _press_run(deployment_id):
    """What the page's button does: create a flow run, without anything of ours."""
    from prefect.client.orchestration import get_client

    with get_client(sync_client=True) as client:
        return client.create_flow_run_from_deployment(deployment_id).id


def _wait_for_new_run(project, key, before):
    deadline = time.monotonic() + 180
    while time.monotonic() < deadline:
        new = [run for _, run in project.embedded.queries.runs(deployment=key) if run.id not in before]
        if new:
            (run,) = new
            return project.embedded.queries.wait(run.id, timeout_s=60)
        project.embedded.stack.check()
        time.sleep(0.1)
    raise AssertionError(f"no run of {key} was recorded within a minute")
