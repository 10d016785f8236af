import subprocess
import sys
from datetime import date
from pathlib import Path

import pytest

from freshline.deployments.code import callable_digest
from freshline.runs import register
from freshline.storage.errors import NotFound
from freshline.storage.words import DeploymentKind, EdgeKind, IfReady, OnStale, ResourceKind, Trigger
from tests.unit.deployments.project import Project

CHAIN = """
# the whole chain
x-pool: &pool {name: local}
resources:
  - external: true
    name: vendor
    kind: dataset
    description: A file that comes by post.
deployments:
  - name: prices
    entrypoint: MODULE.refresh
    work_pool: *pool
    schedules: [{cron: "0 18 * * 1-5", timezone: America/New_York}]
    parameters: {n: 3, label: "2024"}
    tags: [daily]
    description: All prices.
    resource:
      name: prices
      kind: dataset
      runs: refresh
      source: MODULE.fetch
      upstream: {raw: refresh/vendor}
      freshness: {max_age: 1d}
      schema:
        prices: {columns: {date: date, close: "decimal(10,2)"}, extra: allow}
        more: {columns: {at: "timestamp[us,UTC]"}}
  - name: not-ours
    entrypoint: [nonsense]
  - name: momentum
    entrypoint: MODULE.py:refresh
    resource:
      name: momentum
      kind: signal
      runs: refresh
      upstream:
        prices: {deployment: refresh/prices, kind: schema}
        other: refresh/registered-elsewhere
      on_stale: {manual: refuse, schedule: wait}
      if_ready: skip
  - name: fit
    entrypoint: MODULE.training
    resource:
      name: alpha
      kind: model
      runs: training
      upstream: {x: refresh/momentum}
      on_stale: refresh
      if_ready: {schedule: skip}
"""


def test_catalog_reads_every_key(project: Project) -> None:
    project.write_yaml(CHAIN)
    catalog = project.load(registered=["refresh/registered-elsewhere"])

    assert catalog.keys == ("refresh/vendor", "refresh/prices", "refresh/momentum", "training/alpha")
    assert catalog.directory == project.directory
    vendor, prices, momentum, alpha = catalog.deployments

    assert vendor.external
    assert (vendor.prefect_name, vendor.entrypoint) == (None, None)
    assert vendor.description == "A file that comes by post."

    assert prices.prefect_name == "refresh/prices"
    assert prices.resource_kind is ResourceKind.DATASET
    assert prices.runs is DeploymentKind.REFRESH
    assert prices.work_pool == "local"
    assert prices.parameters == {"n": 3, "label": "2024"}
    assert prices.callables == {"source": f"{project.module}.fetch"}
    assert prices.freshness == {"max_age": "1d"}
    assert prices.schema == {
        "prices": {"columns": {"date": "date", "close": "decimal128(10, 2)"}, "extra": "allow"},
        "more": {"columns": {"at": "timestamp[us, UTC]"}, "extra": "refuse"},
    }
    assert register.declared_of(prices, None).declaration["schema"] == prices.schema
    assert prices.schedules == ({"cron": "0 18 * * 1-5", "timezone": "America/New_York"},)
    assert prices.tags == ("daily",)
    assert prices.description == "All prices."
    assert set(prices.code_digests) == {"flow", "source"}
    assert prices.line == 10

    assert momentum.entrypoint == f"{project.module}.py:refresh"
    assert [(edge.role, edge.key, edge.kind) for edge in momentum.upstream] == [
        ("prices", "refresh/prices", EdgeKind.SCHEMA),
        ("other", "refresh/registered-elsewhere", EdgeKind.DATA),
    ]
    assert momentum.on_stale == {Trigger.MANUAL: OnStale.REFUSE, Trigger.SCHEDULE: OnStale.WAIT}
    assert momentum.if_ready == dict.fromkeys(Trigger, IfReady.SKIP)

    assert alpha.prefect_name == "training/fit"
    assert alpha.on_stale == dict.fromkeys(Trigger, OnStale.REFRESH)
    assert alpha.if_ready == {Trigger.SCHEDULE: IfReady.SKIP}


def test_catalog_get_finds_by_key_and_prefect_name_and_suggests(project: Project) -> None:
    project.write_yaml(CHAIN)
    catalog = project.load(registered=["refresh/registered-elsewhere"])
    assert catalog.get("training/alpha") is catalog.get("training/fit")
    with pytest.raises(NotFound, match="Did you mean 'refresh/prices'"):
        catalog.get("refresh/price")


def test_block_through_a_merge_is_read(project: Project) -> None:
    project.write_yaml("""
        x: &ours {kind: dataset, runs: refresh}
        deployments:
          - {name: a, entrypoint: MODULE.refresh, resource: {<<: *ours, name: a}}
          - {name: b, entrypoint: MODULE.refresh, resource: {<<: *ours, name: b, kind: signal}}
    """)
    a, b = project.load().deployments
    assert (a.resource_kind, b.resource_kind) == (ResourceKind.DATASET, ResourceKind.SIGNAL)


def test_values_are_read_as_prefect_reads_them(project: Project) -> None:
    project.write_flows("@flow\ndef kinds(y: int, flag: bool, day: str): ...\nkinds.fn.__freshline_kind__ = 'refresh'")
    project.write_deployments("""
        name: a
        entrypoint: MODULE.kinds
        parameters: {y: 1:30, flag: yes, day: 2024-02-01}
        resource: {name: a, kind: dataset, runs: refresh}
    """)
    (spec,) = project.load().deployments
    assert spec.parameters == {"y": 90, "flag": True, "day": date(2024, 2, 1)}
    assert len(spec.declaration_digest) == 64


def test_environment_variable_fills_in_name_entrypoint_and_pool(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FRESHLINE_TEST_WHERE", "blue")
    project.write_deployments("""
        name: prices-{{ $FRESHLINE_TEST_WHERE }}
        entrypoint: MODULE.refresh
        work_pool: {name: "{{ $FRESHLINE_TEST_WHERE }}"}
        resource: {name: prices, kind: dataset, runs: refresh}
    """)
    (spec,) = project.load().deployments
    assert (spec.prefect_name, spec.work_pool) == ("refresh/prices-blue", "blue")


def test_load_leaves_sys_path_as_it_was(project: Project) -> None:
    before = list(sys.path)
    project.write_yaml(CHAIN)
    project.load(registered=["refresh/registered-elsewhere"])
    assert sys.path == before


def test_file_entrypoint_finds_callables_beside_it(project: Project) -> None:
    folder = project.directory / "flows"
    folder.mkdir()
    (folder / f"{project.module}_flow.py").write_text(
        "from prefect import flow\n@flow\ndef go(): ...\ngo.fn.__freshline_kind__ = 'refresh'"
    )
    (folder / f"{project.module}_beside.py").write_text("def fetch(): ...")
    project.write_deployments("""
        name: a
        entrypoint: flows/MODULE_flow.py:go
        resource: {name: a, kind: dataset, runs: refresh, source: MODULE_beside.fetch}
    """)
    (spec,) = project.load().deployments
    assert spec.prefect_name == "go/a"


def test_catalog_module_imports_without_prefect() -> None:
    code = "import sys, freshline.deployments.catalog; sys.exit('prefect' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


# Digests.


def digest(project: Project, deployment: str) -> str:
    project.write_deployments(deployment)
    return project.load().deployments[0].declaration_digest


BASE = """
name: a
entrypoint: MODULE.refresh
parameters: {n: 1, label: x}
resource: {name: a, kind: dataset, runs: refresh, source: MODULE.fetch}
"""


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("parameters: {n: 1, label: x}", "parameters: {label: x, n: 1}"),
        ("name: a\n", "name: a\ndescription: Words.\ntags: [b]\nschedules: [{interval: 3600}]\n"),
        (", source:", ", on_stale: wait, freshness: {max_age: 1d}, source:"),
    ],
)
def test_declaration_digest_of_another_spelling_is_equal(project: Project, old: str, new: str) -> None:
    assert digest(project, BASE) == digest(project, BASE.replace(old, new))


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("n: 1", "n: 2"),
        ("MODULE.fetch", "MODULE.fetch_more"),
        (", source:", ", transform:"),
        (", source:", ", schema: {a: {columns: {x: date}}}, source:"),
        ("MODULE.refresh", "MODULE.again"),
    ],
)
def test_declaration_digest_of_another_meaning_differs(project: Project, old: str, new: str) -> None:
    project.write_flows("fetch_more = fetch\nagain = refresh")
    assert digest(project, BASE) != digest(project, BASE.replace(old, new))


def test_declaration_digest_changes_with_the_code(project: Project) -> None:
    before = digest(project, BASE)
    project.write_flows("# another line")
    assert digest(project, BASE) != before


def test_callable_digest_ignores_line_ends_and_sees_through_wrappers(tmp_path: Path) -> None:
    import functools
    import importlib.util

    def load(name: str, text: bytes) -> object:
        (tmp_path / f"{name}.py").write_bytes(text)
        spec = importlib.util.spec_from_file_location(name, tmp_path / f"{name}.py")
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return module.work

    unix = load("unix", b"def work():\n    return 1\n")
    windows = load("windows", b"def work():\r\n    return 1\r\n")
    other = load("other", b"def work():\n    return 2\n")

    @functools.wraps(unix)
    def wrapped() -> None: ...

    assert callable_digest(unix) == callable_digest(windows) == callable_digest(wrapped)
    assert callable_digest(functools.partial(unix)) == callable_digest(unix)
    assert callable_digest(other) != callable_digest(unix)


def test_callable_digest_without_source_tells_callables_apart() -> None:
    import math

    assert callable_digest(math.sin) != callable_digest(math.cos)
    assert callable_digest(math.sin) == callable_digest(math.sin)
