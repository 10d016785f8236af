"""Deploying: what is refused before anything is deployed, and that the result is that of Prefect's own command."""

import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from uuid import uuid4

import pytest

from freshline.deployments.catalog import Catalog, load_catalog
from freshline.deployments.client import PrefectGateway
from freshline.deployments.deploy import deploy_catalog, read_deployed
from freshline.deployments.gateway import FlowRunState
from freshline.storage.errors import CatalogError, NotFound, PrefectError
from tests.fakes import FakeGateway
from tests.stack import WAIT_S, RunningStack
from tests.unit.deployments.project import Project

PRICES = """
name: prices
entrypoint: MODULE.refresh
work_pool: {name: local}
resource: {name: prices, kind: dataset, runs: refresh}
"""


def catalogue(project: Project, *deployments: str) -> Catalog:
    project.write_deployments(*deployments)
    return project.load()


# Refused before anything is deployed.


def test_work_pool_that_does_not_exist_names_the_deployment_and_the_fix(project: Project) -> None:
    catalog = catalogue(project, PRICES.replace("local", "nowhere"))
    with pytest.raises(CatalogError, match="prefect work-pool create nowhere") as said:
        deploy_catalog(catalog, FakeGateway())
    assert (said.value.deployment, said.value.line) == ("prices", 2)


def test_deployment_without_a_work_pool_is_refused(project: Project) -> None:
    catalog = catalogue(project, PRICES.replace("work_pool: {name: local}\n", ""))
    with pytest.raises(CatalogError, match=r"has no work pool; write .*one of: local"):
        deploy_catalog(catalog, FakeGateway())


def test_key_that_is_unknown_suggests_the_nearest(project: Project) -> None:
    with pytest.raises(NotFound, match="Did you mean 'refresh/prices'"):
        deploy_catalog(catalogue(project, PRICES), FakeGateway(), keys=["refresh/price"])


def test_external_resources_are_not_deployed(project: Project) -> None:
    project.write_yaml("resources: [{external: true, name: vendor, kind: dataset}]")
    gateway = FakeGateway()
    assert deploy_catalog(project.load(), gateway) == {}
    assert gateway.calls == []


def test_prefect_that_is_away_is_named(project: Project) -> None:
    with pytest.raises(PrefectError, match=r"127\.0\.0\.1:9/api cannot be reached"):
        deploy_catalog(catalogue(project, PRICES), PrefectGateway("http://127.0.0.1:9/api"))


# With a real server.


@pytest.mark.stack
def test_refusal_of_prefect_is_passed_on_without_its_traceback(stack: RunningStack, project: Project) -> None:
    catalog = catalogue(project, PRICES)
    (project.directory / f"{project.module}.py").write_text("raise RuntimeError('changed meanwhile')")
    with stack.local.activated(), pytest.raises(PrefectError, match="`prefect deploy` refused: ") as said:
        deploy_catalog(catalog, stack.gateway)
    assert "changed meanwhile" in str(said.value)
    assert "Traceback" not in str(said.value)
    assert "\n" not in str(said.value)


@pytest.mark.stack
def test_deploy_that_takes_too_long_is_given_up(stack: RunningStack, project: Project) -> None:
    catalog = catalogue(project, PRICES)
    with stack.local.activated(), pytest.raises(PrefectError, match="did not end within 0 s"):
        deploy_catalog(catalog, stack.gateway, timeout_s=0.01)


@pytest.mark.stack
def test_only_the_deployments_asked_for_are_deployed(stack: RunningStack, project: Project) -> None:
    name = f"same-{uuid4().hex[:8]}"
    same_name = PRICES.replace("name: prices\nentry", f"name: {name}\nentry")
    catalog = catalogue(
        project,
        same_name,
        same_name.replace("MODULE.refresh", "MODULE.training").replace(
            "kind: dataset, runs: refresh", "kind: model, runs: training"
        ),
        f"name: {name}\nentrypoint: MODULE.backtest\nwork_pool: {{name: local}}\n",
    )
    with stack.local.activated():
        assert set(deploy_catalog(catalog, stack.gateway, keys=[f"training/{name}"])) == {"training/prices"}
        for gone in (f"refresh/{name}", f"backtest/{name}"):
            with pytest.raises(NotFound):
                stack.gateway.read_deployment(gone)
        deployed = deploy_catalog(catalog, stack.gateway)
        assert set(deployed) == {"refresh/prices", "training/prices"}
        assert deployed == read_deployed(catalog.deployments, stack.gateway)
        with pytest.raises(NotFound):
            stack.gateway.read_deployment(f"backtest/{name}")


@pytest.mark.stack
def test_deploy_gives_what_prefects_own_command_gives(stack: RunningStack, project: Project) -> None:
    project.write_deployments(
        """
        name: own
        entrypoint: MODULE.py:refresh
        description: All prices, from é to z.
        tags: [daily]
        parameters: {n: 3, label: yes it is}
        schedules: [{cron: "0 18 * * 1-5", timezone: America/New_York, active: false}]
        work_pool: {name: local, job_variables: {env: {A: "1"}}}
        resource: {name: own, kind: dataset, runs: refresh, freshness: {max_age: 1d}}
        """,
        PRICES.replace("name: prices\nentry", "name: own-too\nentry"),
    )
    catalog = project.load()
    with stack.local.activated():
        ours = deploy_catalog(catalog, stack.gateway)
        command = [sys.executable, "-m", "prefect", "--no-prompt", "deploy", "--all"]
        subprocess.run(command, cwd=project.directory, check=True, capture_output=True)
        theirs = read_deployed(catalog.deployments, stack.gateway)
        with_steps = [stack.deployment_json(facts.id) for facts in ours.values()]
        again = deploy_catalog(catalog, stack.gateway)

    def without_schedule_ids(facts: object) -> object:
        schedules = tuple(replace(one, id=None) for one in facts.schedules)  # type: ignore[attr-defined]
        return replace(facts, schedules=schedules)  # type: ignore[type-var]

    assert {key: without_schedule_ids(one) for key, one in ours.items()} == {
        key: without_schedule_ids(one) for key, one in theirs.items()
    }
    assert again.keys() == ours.keys()
    after = [stack.deployment_json(facts.id) for facts in again.values()]
    for one, other in zip(with_steps, after, strict=True):
        for key in ("entrypoint", "pull_steps", "path", "description", "enforce_parameter_schema"):
            assert one[key] == other[key]


# That one fires, with its run, is seen among the ways in.
@pytest.mark.slow
@pytest.mark.stack
def test_schedule_fires(stack: RunningStack, tmp_path: Path) -> None:
    """Prefect 3.8's scheduler says in its log alone that it cannot work with SQLAlchemy 2.1."""
    (tmp_path / "prefect.yaml").write_text(
        "deployments:\n"
        "  - name: every-10-seconds\n"
        f"    entrypoint: {stack.directory / 'stack_flows.py'}:counting\n"
        "    work_pool: {name: local}\n"
        "    schedules: [{interval: 10}]\n"
        "    resource: {name: scheduled, kind: dataset, runs: refresh}\n"
    )
    catalog = load_catalog(tmp_path / "prefect.yaml", check_policy=lambda policy: None)
    with stack.local.activated():
        (facts,) = deploy_catalog(catalog, stack.gateway).values()
    assert facts.schedules[0].is_active
    try:
        ended = stack.wait_for_any(facts.id, lambda flow_run: flow_run.has_ended, within_s=WAIT_S)
    finally:
        stack.gateway.pause_schedules(facts.id)
    assert ended.state_type == FlowRunState.COMPLETED
    assert ended.created_by_type == "SCHEDULE"
    assert ended.is_auto_scheduled
