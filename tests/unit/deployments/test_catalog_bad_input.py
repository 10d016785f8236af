"""Every mistake in prefect.yaml ends in one sentence with the deployment, the line and the fix."""

from pathlib import Path

import pytest

from freshline.deployments.catalog import load_catalog
from freshline.deployments.document import MAX_BYTES
from freshline.storage.errors import CatalogError
from tests.unit.deployments.project import Project, refuse_bad

PRICES = """
name: prices
entrypoint: MODULE.refresh
resource:
  name: prices
  kind: dataset
  runs: refresh
"""


def refusal(project: Project, **options: object) -> CatalogError:
    with pytest.raises(CatalogError) as caught:
        project.load(**options)
    assert "\n" not in str(caught.value)
    return caught.value


def block(line: str, *, name: str = "prices") -> str:
    """PRICES with one line more in its resource block, which is line 8."""
    return PRICES.replace("name: prices\nentry", f"name: {name}\nentry") + f"  {line}\n"


def changed(old: str, new: str) -> str:
    assert old in PRICES
    return PRICES.replace(old, new)


# The file itself.


def test_file_missing_names_the_path(tmp_path: Path) -> None:
    with pytest.raises(CatalogError, match=r"there is no file .*prefect\.yaml"):
        load_catalog(tmp_path / "prefect.yaml", check_policy=refuse_bad)


def test_file_is_a_directory_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CatalogError, match="cannot be read"):
        load_catalog(tmp_path, check_policy=refuse_bad)


@pytest.mark.parametrize(
    ("text", "line", "said"),
    [
        ("deployments: [", 1, "is not YAML"),
        ("a: 1\nb:\n\tc: 2", 3, "cannot start any token"),
        ("a: 1\na: 2", 2, "the key 'a' is repeated (first in line 1)"),
        ("a: *nowhere", 1, "undefined alias"),
        ("a: 1\n---\nb: 2", 2, "another document"),
        ("- 1", 1, "must be a mapping"),
        ("just text", 1, "must be a mapping"),
        ("deployments: 3", 1, "`deployments` must be a list, not the number 3"),
        ("x: 1\nresources: {a: b}", 2, "`resources` must be a list, not a mapping"),
        ("a: 2024-13-45", None, "is not YAML: month must be in 1..12"),
        ("a: \x00", None, "is not YAML"),
        ("x: 1\na: !x y", 2, "could not determine a constructor for the tag '!x'"),
        ("? [a]\n: b", 1, "unhashable key"),
        ("a: " + "[" * 100 + "]" * 100, None, "nested deeper than"),
        ("a: " + "[" * 5000, None, "nested deeper than"),
        ("", None, "has no deployment with a `resource:` block"),
        ("deployments:\n  - name: a\n    entrypoint: b.c", None, "`freshline init`"),
    ],
)
def test_file_that_is_no_catalogue_is_refused(project: Project, text: str, line: int | None, said: str) -> None:
    project.write_yaml(text)
    error = refusal(project)
    assert error.line == line
    assert said in str(error)


def test_file_larger_than_the_limit_is_refused(project: Project) -> None:
    project.write_yaml("# " + "x" * MAX_BYTES)
    assert "larger than 1024 KiB" in str(refusal(project))


def test_file_that_is_not_utf8_names_the_line(project: Project) -> None:
    (project.directory / "prefect.yaml").write_bytes(b"a: 1\nb: \xff")
    error = refusal(project)
    assert error.line == 2
    assert "not UTF-8" in str(error)


def test_file_whose_aliases_explode_is_refused(project: Project) -> None:
    levels = [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]" for i in range(1, 12)]
    project.write_yaml("\n".join(["a0: &a0 [x]", *levels]))
    assert "aliases grow" in str(refusal(project))


# The resource block.


@pytest.mark.parametrize(
    ("deployment", "line", "said"),
    [
        (changed("name: prices\nentry", "entry"), 2, "needs a `name`"),
        (changed("name: prices\nentry", "name: 3\nentry"), 2, "needs a `name`"),
        (changed("name: prices\nentry", "name: a/b\nentry"), 2, "allows no / in a deployment's name"),
        (changed("resource:\n  name", "resource: 3\nx:\n  name"), 2, "must be a mapping, not the number 3"),
        (changed("  name: prices\n", ""), 2, "has no `name`"),
        (changed("  name: prices\n", "  name: [a]\n"), 5, "`name` must be text, not a list"),
        (changed("  name: prices\n", "  name: a b/c\n"), 5, "the resource name 'a b/c' must be"),
        (changed("  kind: dataset\n", ""), 2, "has no `kind`; write one of dataset, signal"),
        (changed("kind: dataset", "kind: datset"), 6, "did you mean dataset"),
        (changed("kind: dataset", "kind: 7"), 6, "`kind` is the number 7; write one of"),
        (changed("  runs: refresh\n", ""), 2, "has no `runs`; write one of refresh"),
        (changed("runs: refresh", "runs: refrsh"), 7, "did you mean refresh"),
        (changed("runs: refresh", "runs: training"), 7, "does not fit `kind: dataset`; it runs model"),
        (
            block("upstrem: {a: refresh/b}"),
            8,
            "unknown key 'upstrem' in the resource block; did you mean upstream?",
        ),
        (block("zzz: 1"), 8, "unknown key 'zzz'"),
        (block("study: a.b"), 8, "`study` is not for `runs: refresh`, which takes source or transform"),
        (block("source: 3"), 8, "`source` must be text, not the number 3"),
        (block("source: a.b\n  transform: c.d"), 9, "has both source and transform"),
        (block("if_ready: maybe"), 8, "`if_ready` is the text 'maybe'; write one of run, skip"),
        (block("if_ready: {schedul: skip}"), 8, "did you mean schedule"),
        (block("if_ready: {schedule: wait}"), 8, "`if_ready.schedule` is the text 'wait'; write one of run, skip"),
        (block("if_ready: [skip]"), 8, "`if_ready` is a list; write one of run, skip"),
        (block("on_stale: refus"), 8, "did you mean refuse"),
        (block("on_stale: 4"), 8, "`on_stale` is the number 4"),
        (block("on_stale: {manul: wait}"), 8, "did you mean manual"),
        (block("on_stale: {manual: wiat}"), 8, "`on_stale.manual` is the text 'wiat'; did you mean wait"),
        (block("freshness: 1d"), 8, "`freshness` must be a policy like {max_age: 1d}, not the text '1d'"),
        (block("freshness: {bad: 1}"), 8, "freshness.bad is no policy; write max_age"),
        (block("freshness: {1: y}"), 8, "the key 1 is not text"),
        (block("upstream: [refresh/a]"), 8, "must map roles to deployments"),
        (
            block("upstream: {a: 3}"),
            8,
            "upstream 'a' must name a deployment like refresh/prices, not the number 3",
        ),
        (block("upstream: {a: {kind: data}}"), 8, "must name a deployment like refresh/prices, not nothing"),
        (block("upstream: {a: {deployment: refresh/prices, kind: dta}}"), 8, "did you mean data"),
        (block("upstream: {a: {deploymnt: x}}"), 8, "unknown key 'deploymnt' in upstream 'a'"),
        (block("upstream: {1: refresh/prices}"), 8, "the role 1 of an upstream must be"),
        (block("upstream: {a b: refresh/prices}"), 8, "the role 'a b' of an upstream must be"),
        (block("upstream:\n    a: refresh/price"), 9, "did you mean refresh/prices?"),
        (block("upstream:\n    a: prices"), 9, "did you mean refresh/prices?"),
        (block("upstream: {a: refresh/prices}"), 8, "form a cycle: refresh/prices reads refresh/prices"),
        (block("external: true"), 8, "move the block out of `deployments:` into the list `resources:`"),
    ],
)
def test_block_with_a_mistake_names_deployment_line_and_fix(
    project: Project, deployment: str, line: int, said: str
) -> None:
    project.write_deployments(deployment)
    error = refusal(project)
    assert said in str(error)
    assert error.line == line
    if "name:" in deployment.partition("entrypoint")[0] and "name: 3" not in deployment:
        assert error.deployment == ("a/b" if "a/b\n" in deployment.partition("entry")[0] else "prices")


# Prefect's own keys, where a mistake would be found with half of the file deployed.


@pytest.mark.parametrize(
    ("keys", "line", "said"),
    [
        ("parameters: [1]", 4, "`parameters` must be a mapping, not a list"),
        ("parameters: {m: 1}", 4, "the flow declares no parameter 'm'; did you mean n"),
        ("parameters:\n  n: many", 5, "parameter 'n': "),
        ("parameters: {1: 2}", 4, "the key 1 is not text"),
        ("schedules: {cron: x}", 4, "`schedules` must be a list"),
        ("schedules: [3]", 4, "a schedule must be a mapping"),
        ("schedules: [{cron: nonsense}]", 4, "Invalid cron string"),
        ("schedules: [{crn: '0 0 * * *'}]", 4, "unknown key 'crn'; did you mean cron"),
        ("schedules: [{cron: '0 0 * * *', interval: 3}]", 4, "exactly one of cron, interval, rrule"),
        ("schedules: [{timezone: UTC}]", 4, "exactly one of cron, interval, rrule"),
        ("schedules: [{cron: '0 0 * * *', timezone: Mars/Base}]", 4, "timezone"),
        ("schedules: [{interval: 0}]", 4, "interval"),
        ("schedules: [{rrule: nonsense}]", 4, "rrule"),
        ("work_pool: local", 4, "`work_pool` must be a mapping with the key `name`"),
        ("work_pool: {name: 3}", 4, "`work_pool` must be text"),
        ("work_pool: {name: '{{ $FRESHLINE_TEST_UNSET }}'}", 4, "FRESHLINE_TEST_UNSET is not set"),
        ("tags: {a: b}", 4, "`tags` must be a list"),
        ("description: [a]", 4, "`description` must be text"),
    ],
)
def test_prefect_key_with_a_mistake_names_deployment_line_and_fix(
    project: Project, keys: str, line: int, said: str
) -> None:
    project.write_deployments(changed("resource:", f"{keys}\nresource:"))
    error = refusal(project)
    assert said in str(error)
    assert error.line == line
    assert error.deployment == "prices"


@pytest.mark.parametrize(
    ("entrypoint", "said"),
    [
        ("", "has no `entrypoint`"),
        ("[a]", "`entrypoint` must be text, not a list"),
        ("nothing", "is not `path.py:function`"),
        ("no_such_module_x.flow", "ModuleNotFoundError: No module named 'no_such_module_x'"),
        ("MODULE.nothing", "Flow function with name 'nothing' not found"),
        ("MODULE.fetch", "is not a flow"),
        ("flows/none.py:refresh", "names no file in"),
        ("MODULE.py:nothing", "not found"),
        ("broken.py:refresh", "RuntimeError: no luck"),
        ("syntax.py:refresh", "SyntaxError"),
        ("leaving.py:refresh", "SystemExit: 3"),
        ("leaving.refresh", "SystemExit: 3"),
        ("MODULE.untracked", "is not tracked; decorate its function with @track.refresh, below @flow"),
        ("'{{ prefect.variables.x }}'", "template that is no environment variable"),
        ("'{{ $FRESHLINE_TEST_UNSET }}'", "FRESHLINE_TEST_UNSET is not set"),
    ],
)
def test_entrypoint_that_is_no_tracked_flow_says_what_the_import_said(
    project: Project, entrypoint: str, said: str
) -> None:
    project.write_flows("@flow\ndef untracked(): ...")
    (project.directory / "broken.py").write_text("raise RuntimeError('no luck')")
    (project.directory / "leaving.py").write_text("import sys; sys.exit(3)")
    (project.directory / "syntax.py").write_text("def (")
    project.write_deployments(changed("entrypoint: MODULE.refresh", f"entrypoint: {entrypoint}"))
    error = refusal(project)
    assert said in str(error)
    assert (error.deployment, error.line) == ("prices", 3)


def test_runs_that_disagrees_with_the_decorator_is_refused(project: Project) -> None:
    project.write_deployments(changed("MODULE.refresh", "MODULE.training"))
    error = refusal(project)
    assert "`runs: refresh` disagrees with the flow" in str(error)
    assert "write `runs: training`" in str(error)
    assert (error.deployment, error.line) == ("prices", 7)


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("fetch", "is not a dotted path"),
        ("a..b", "is not a dotted path"),
        ("os.system('x')", "is not a dotted path"),
        (
            "no_such_module_x.fetch",
            "cannot be imported: ModuleNotFoundError: No module named 'no_such_module_x'",
        ),
        ("MODULE.fetsh", "has no 'fetsh'; did you mean fetch"),
        ("MODULE.TABLE", "is not callable, but a int"),
        ("broken.fetch", "cannot be imported: ZeroDivisionError"),
    ],
)
def test_callable_that_cannot_be_used_says_what_the_import_said(project: Project, path: str, said: str) -> None:
    (project.directory / "broken.py").write_text("1/0")
    project.write_deployments(block(f"source: {path}"))
    error = refusal(project)
    assert said in str(error)
    assert (error.deployment, error.line) == ("prices", 8)


@pytest.mark.parametrize(
    ("schema", "said"),
    [
        ("3", "`schema` must map tables to their columns, like {prices: {columns: "),
        ("{}", "`schema` must map tables"),
        ("{1: {columns: {a: bool}}}", "schema: 1 cannot be the name of a table"),
        ("{prices: [a]}", "schema.prices must be a mapping like {columns: {close: float64}}, not a list"),
        ("{prices: {column: {a: bool}}}", "unknown key 'column' in schema.prices; did you mean columns?"),
        ("{prices: {columns: {}}}", "schema.prices.columns must map columns to types"),
        ("{prices: {extra: allow}}", "schema.prices.columns must map columns to types, like {date: date"),
        ("{prices: {columns: {a: bool}, extra: maybe}}", "schema.prices.extra is the text 'maybe'; write refuse"),
        ("{prices: {columns: {1: bool}}}", "the column 1 is no text; quote it"),
        ("{prices: {columns: {a: flot64}}}", "schema.prices.a: 'flot64' is no type; did you mean float64?"),
        ("{prices: {columns: {a: datetime}}}", "'datetime' is no type; did you mean timestamp[us]?"),
        ("{prices: {columns: {a: null}}}", "is no type: write a name such as float64"),
    ],
)
def test_schema_that_cannot_be_used_names_the_place_and_the_fix(project: Project, schema: str, said: str) -> None:
    project.write_deployments(block(f"schema: {schema}"))
    error = refusal(project)
    assert said in str(error)
    assert (error.deployment, error.line) == ("prices", 8)


def test_schema_with_a_wrong_type_names_its_own_line(project: Project) -> None:
    lines = "schema:\n    prices:\n      columns:\n        date: date\n        close: doubel"
    project.write_deployments(block(lines))
    assert refusal(project).line == 12


# The file as a whole.


def test_two_deployments_with_one_key_name_both(project: Project) -> None:
    project.write_deployments(PRICES, changed("name: prices\nentry", "name: again\nentry"))
    error = refusal(project)
    assert "refresh/prices is already the key of 'prices' (line 2)" in str(error)
    assert (error.deployment, error.line) == ("again", 11)


def test_two_deployments_with_one_prefect_name_name_both(project: Project) -> None:
    project.write_deployments(PRICES, changed("  name: prices\n", "  name: other\n"))
    error = refusal(project)
    assert "Prefect would call it 'refresh/prices', like refresh/prices (line 2)" in str(error)
    assert (error.deployment, error.line) == ("prices", 8)


def test_cycle_shows_its_path_and_the_line_of_an_edge(project: Project) -> None:
    def reads(name: str, other: str) -> str:
        return block(f"upstream: {{in: refresh/{other}}}", name=name).replace("  name: prices", f"  name: {name}")

    project.write_deployments(reads("a", "b"), reads("b", "c"), reads("c", "a"))
    error = refusal(project)
    path = [part.split(":")[-1].split(";")[0].strip() for part in str(error).split(" reads ")]
    assert sorted(set(path)) == ["refresh/a", "refresh/b", "refresh/c"]
    assert path[0] == path[-1]
    assert error.line is not None
    assert error.deployment in ("a", "b", "c")


def test_cycle_through_a_registered_deployment_is_found(project: Project) -> None:
    project.write_deployments(block("upstream: {in: refresh/elsewhere}"))
    error = refusal(project, registered={"refresh/elsewhere": ["refresh/prices"]})
    assert "refresh/elsewhere" in str(error)
    assert (error.deployment, error.line) == ("prices", 8)


@pytest.mark.parametrize(
    ("entry", "line", "said"),
    [
        ("{name: a, kind: dataset}", 2, "write `external: true`"),
        ("{external: true, kind: dataset}", 2, "has no `name`"),
        ("{external: true, name: a}", 2, "has no `kind`"),
        (
            "{external: true, name: a, kind: model}",
            2,
            "an external resource is a dataset or signal, not a model",
        ),
        ("{external: true, name: a, kind: dataset, runs: refresh}", 2, "unknown key 'runs'"),
        ("{external: true, name: a, kind: dataset, freshness: {bad: 1}}", 2, "freshness.bad is no policy"),
        ("3", 2, "must be a mapping, not the number 3"),
    ],
)
def test_external_resource_with_a_mistake_is_refused(project: Project, entry: str, line: int, said: str) -> None:
    project.write_yaml(f"resources:\n  - {entry}")
    error = refusal(project)
    assert said in str(error)
    assert error.line == line
