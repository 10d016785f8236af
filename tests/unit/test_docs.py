"""The documentation is true: its links resolve, its lists are the code's, and its examples run."""

import ast
import builtins
import dataclasses
import inspect
import re
import shlex
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any, get_args

import click
import pandas as pd
import pytest
import yaml
from click.testing import CliRunner

from freshline import flows, lineage, runs, storage, testing
from freshline.deployments import blocks
from freshline.deployments.catalog import load_catalog
from freshline.flows import RunContext
from freshline.flows.tracking import Track, track
from freshline.lineage.freshness import parse_policy
from freshline.lineage.models import Activity, CauseKind, Freshness
from freshline.runs import author_events, author_models, details, models
from freshline.runs import run_events as events
from freshline.runs.care.models import RunAct
from freshline.runs.cli import _COMMANDS, cli
from freshline.runs.details import run_type
from freshline.runs.gate import Verdict
from freshline.runs.register import check_policy
from freshline.runs.request import DEFAULT_ON_STALE, REQUEST_PARAMETERS
from freshline.runs.service import RunExecutionService
from freshline.runs.status import TRANSITIONS, RunStatus, StepStatus, StopReason
from freshline.storage import errors, words
from freshline.storage.auto_refresh import AutoRefresh
from freshline.storage.settings import Settings
from tests.pages import DOCS, FENCE, ROOT, code, read
from tests.reference.commands import every_command as commands

PAGES = [ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted(DOCS.rglob("*.md"))]


def section(text: str, heading: str) -> str:
    """The text below a heading, until the next one of its level or above."""
    begin = re.search(rf"^(#+) {re.escape(heading)}$", text, re.MULTILINE)
    assert begin is not None, f"there is no heading {heading!r}"
    rest = text[begin.end() :]
    end = re.search(rf"^#{{1,{len(begin[1])}}} ", rest, re.MULTILINE)
    return rest[: end.start()] if end else rest


def rows(text: str) -> list[list[str]]:
    """The rows of the tables in a text, without their heads."""
    found = []
    for table in re.findall(r"(?:^\|.*\n?)+", text, re.MULTILINE):
        lines = table.strip().splitlines()
        found += [[cell.strip() for cell in line.strip()[1:-1].split("|")] for line in lines[2:]]
    return found


def names(cell: str) -> list[str]:
    """What stands in backticks in a cell."""
    return re.findall(r"`([^`]+)`", cell)


def first_column(text: str) -> list[str]:
    return [name for row in rows(text) for name in names(row[0])]


def anchors(text: str) -> set[str]:
    """The fragments that GitHub makes of a page's headings."""
    headings = re.findall(r"^#+ (.+)$", FENCE.sub("", text), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def links(page: Path) -> Iterator[str]:
    for target in re.findall(r"\]\(([^)\s]+)\)", FENCE.sub("", page.read_text(encoding="utf-8"))):
        if not re.match(r"[a-z]+:", target):
            yield target


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_of_a_page_resolve(page: Path) -> None:
    for target in links(page):
        path, _, fragment = target.partition("#")
        aim = (page.parent / path) if path else page
        assert aim.exists(), f"{target} leads nowhere"
        if fragment:
            assert fragment in anchors(aim.read_text(encoding="utf-8")), f"{target} has no such heading"


def test_index_leads_to_every_page() -> None:
    index = DOCS / "index.md"
    reached = {(index.parent / target.partition("#")[0]).resolve() for target in links(index)}
    assert {page.resolve() for page in DOCS.rglob("*.md")} - reached == {index.resolve()}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_sharpe_ratios_on_shipped_prices_come_with_the_caveat(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    if re.search(r"sharpe", text, re.IGNORECASE):
        assert re.search(r"surviv", text, re.IGNORECASE), "says Sharpe ratio, and not that the stocks are survivors"


@pytest.mark.parametrize(
    ("heading", "vocabulary"),
    [
        ("Resource kinds", words.ResourceKind),
        ("Deployment kinds and run types", words.DeploymentKind),
        ("Edge kinds", words.EdgeKind),
        ("Run statuses", RunStatus),
        ("Stop reasons", StopReason),
        ("Step statuses", StepStatus),
        ("Freshness", Freshness),
        ("Activity", Activity),
        ("Causes", CauseKind),
        ("Triggers", words.Trigger),
        ("Removals", words.Removal),
    ],
)
def test_words_list_every_member_and_no_other(heading: str, vocabulary: Any) -> None:
    text = section(read("reference/words.md"), heading).partition("\n### ")[0]
    assert first_column(text) == [member.value for member in vocabulary]


def test_words_explain_every_enum_of_the_shared_vocabulary() -> None:
    shared = [item for item in vars(words).values() if inspect.isclass(item) and item.__module__ == words.__name__]
    said = names(read("reference/words.md"))
    assert {member.value for vocabulary in [*shared, Verdict] for member in vocabulary} <= set(said)


def test_words_name_the_run_type_of_each_kind() -> None:
    table = rows(section(read("reference/words.md"), "Deployment kinds and run types"))
    assert {names(row[0])[0]: names(row[1])[0] for row in table} == {
        kind.value: run_type(kind) for kind in words.DeploymentKind
    }


def test_words_mark_the_statuses_that_have_ended() -> None:
    table = rows(section(read("reference/words.md"), "Run statuses").partition("\n### ")[0])
    assert {names(row[0])[0] for row in table if row[-1] == "yes"} == {
        item.value for item in RunStatus if item.is_terminal
    }


def test_words_list_what_a_trigger_may_ask() -> None:
    assert set(first_column(section(read("reference/words.md"), "What a trigger may ask"))) == REQUEST_PARAMETERS


def test_state_diagram_has_the_transitions_of_the_code() -> None:
    (diagram,) = code(read("explanation/the-life-of-a-run.md"), "mermaid")
    drawn = set(re.findall(r"^\s+(\w+) --> (\w+)$", diagram, re.MULTILINE))
    assert drawn == {(source.value, target.value) for source, after in TRANSITIONS.items() for target in after}
    ends = set(re.findall(r"^\s+(\w+) --> \[\*\]$", diagram, re.MULTILINE))
    assert ends == {status.value for status in RunStatus if status.is_terminal}


def test_ways_in_name_every_trigger_that_starts_something() -> None:
    table = rows(section(read("explanation/the-life-of-a-run.md"), "Every way in"))
    assert {name for row in table for name in names(row[-1])} == {*words.Trigger}


def test_ways_out_name_every_stop_reason_with_the_status_that_it_goes_with() -> None:
    table = rows(section(read("explanation/the-life-of-a-run.md"), "Every way out"))
    assert {names(row[2])[0] for row in table} == {*StopReason}
    assert {names(row[1])[0] for row in table} == {status for status in RunStatus if status.is_terminal}


def fields_by_name(table: str) -> dict[str, list[str]]:
    """The rows of a table: what is named first -> what is named in its second column."""
    return {names(row[0])[0]: names(row[1]) for row in rows(table)}


def fields_of(union: Any) -> dict[str, list[str]]:
    """The kinds of a union of events -> the fields of each."""
    return {
        event.model_fields["kind"].default: [name for name in event.model_fields if name != "kind"]
        for event in get_args(union)
    }


def test_events_page_lists_every_kind_with_its_fields() -> None:
    by_freshline, by_body = (
        fields_by_name(section(read("reference/events.md"), heading))
        for heading in ("What Freshline records", "What a body may emit")
    )
    assert by_body == fields_of(author_events.RecordableEvent)
    assert by_freshline | by_body == fields_of(get_args(events.Event)[0])


def test_record_page_lists_every_column_of_a_run() -> None:
    said = first_column(section(read("reference/record.md"), "The run"))
    assert sorted(said) == sorted(column.name for column in models.Run.__table__.columns)


def test_record_page_lists_every_field_of_a_detail() -> None:
    assert fields_by_name(section(read("reference/record.md"), "Details")) == {
        run_type(kind): list(schema.model_fields) for kind, schema in details.SCHEMA_OF.items()
    }


@pytest.mark.parametrize(
    ("heading", "table"),
    [
        ("Events", models.RunEvent),
        ("Steps", models.Step),
        ("Usage", models.RunUsage),
        ("Messages", author_models.RunMessage),
        ("Checkpoints", author_models.Checkpoint),
        ("Inputs", models.RunInput),
        ("Metrics", models.Metric),
        ("Waits", models.RunDependency),
        ("Acts", RunAct),
    ],
)
def test_record_page_lists_every_column_beside_a_run(heading: str, table: Any) -> None:
    text = section(section(read("reference/record.md"), "Beside the run"), heading)
    assert names(text)[0] == table.__table__.name
    assert ["run_id", *first_column(text)] == [column.name for column in table.__table__.columns]


def test_freshness_page_lists_the_causes() -> None:
    assert first_column(section(read("explanation/freshness-and-staleness.md"), "The rule")) == [*CauseKind]


def test_settings_list_every_field_with_its_default() -> None:
    table = {
        names(row[0])[0]: names(row[1])[0] if names(row[1]) else row[1] for row in rows(read("reference/settings.md"))
    }
    assert list(table) == [f"FRESHLINE_{name.upper()}" for name in Settings.model_fields]
    for name, field in Settings.model_fields.items():
        if isinstance(field.default, str | float):
            shown = f"{field.default:g}" if isinstance(field.default, float) else field.default
            assert table[f"FRESHLINE_{name.upper()}"] == shown


def test_command_reference_lists_every_command_and_no_other() -> None:
    assert (
        set(re.findall(r"^### `freshline ([\w ]+)`$", read("reference/cli.md"), re.MULTILINE))
        == dict(commands()).keys()
    )


@pytest.mark.parametrize("name", dict(commands()))
def test_command_reference_names_every_option(name: str) -> None:
    text = section(read("reference/cli.md"), f"`freshline {name}`")
    for parameter in dict(commands())[name].params:
        if isinstance(parameter, click.Option) and "--json" not in parameter.opts:
            assert all(option in text for option in parameter.opts), f"{parameter.opts} is not explained"


def shown_calls() -> list[str]:
    """Every call of the command line in a shell block or in backticks, without its comment."""
    found = set()
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        lines = [line for block in code(text, "sh") for line in block.splitlines()]
        for call in [*lines, *names(FENCE.sub("", text))]:
            if call.startswith("freshline ") and "…" not in call and "COMMAND" not in call:
                found.add(call.partition(" # ")[0])
    return sorted(found)


@pytest.mark.parametrize("call", shown_calls())
def test_calls_that_a_page_shows_are_understood(call: str) -> None:
    words_ = shlex.split(call)[1:]
    # A group's command has two words; where one may be left out, it is `start`.
    spelled = [name for name in (" ".join(words_[:2]), words_[0]) if name in dict(commands())]
    name = spelled[0] if spelled else f"{words_[0]} start"
    arguments = words_[len(name.split()) :] if spelled else words_[1:]
    if arguments or not [item for item in dict(commands())[name].params if item.required]:
        dict(commands())[name].make_context(name, arguments)


def test_command_reference_has_the_exit_codes() -> None:
    from freshline.runs import cli as module

    codes = {value for name, value in vars(module).items() if name.startswith("EXIT_")}
    assert {int(row[0]) for row in rows(section(read("reference/cli.md"), "Exit codes"))} == codes | {0}


def test_changelog_lists_the_commands() -> None:
    text = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    listed = names(text[text.index("- The command line:") :])
    assert [name.split()[0] for name in listed] == sorted(_COMMANDS)


def test_catalogue_lists_every_key_of_a_block() -> None:
    text = read("reference/catalogue.md")
    assert set(first_column(section(text, "Keys of a resource block"))) == set(blocks._BLOCK_KEYS)
    assert set(first_column(section(text, "External resources"))) == set(blocks._EXTERNAL_KEYS)


def test_guide_to_automatic_refresh_has_the_options_and_defaults_of_the_code() -> None:
    table = rows(read("how-to/refresh-automatically.md"))
    assert {names(row[0])[0]: names(row[1])[0] for row in table} == AutoRefresh().to_json()


def test_catalogue_says_which_kinds_go_together() -> None:
    table = rows(section(read("reference/catalogue.md"), "Which kinds go together"))
    said = {names(row[0])[0]: (tuple(names(row[1])), tuple(names(row[2]))) for row in table}
    assert said == {
        kind.value: (tuple(map(str, blocks.RESOURCE_KINDS[kind])), blocks.CALLABLE_KEYS[kind])
        for kind in words.DeploymentKind
    }


def test_catalogue_shows_policies_that_can_be_read() -> None:
    shown = first_column(section(read("reference/catalogue.md"), "Freshness policies"))
    assert {key for policy in shown for key in yaml.safe_load(policy)} >= {"max_age", "cron", "calendar"}
    for policy in shown:
        parse_policy(yaml.safe_load(policy) | {"grace": "2h"})


@pytest.mark.parametrize("page", ["reference/catalogue.md", "how-to/gate.md", "how-to/refresh-automatically.md"])
def test_blocks_that_a_page_shows_can_be_read(page: str) -> None:
    found = 0
    for text in code(read(page), "yaml"):
        document = yaml.safe_load(text)
        for entry in document.get("deployments", [document] if "resource" in document else []):
            blocks.read_block(entry["resource"], deployment="shown", line=None)
            found += 1
        for entry in document.get("resources", []):
            blocks.read_external(entry, line=None)
    assert found


def test_callables_that_the_catalogue_page_shows_exist() -> None:
    (text,) = code(read("reference/catalogue.md"), "yaml", "catalogue")
    for entry in yaml.safe_load(text)["deployments"]:
        for path in [entry["entrypoint"], *(v for v in entry["resource"].values() if str(v).startswith("freshline."))]:
            module, _, function = path.rpartition(".")
            assert callable(getattr(import_module(module), function))


def test_gate_page_has_the_defaults_of_the_code() -> None:
    said = {}
    for row in rows(section(read("how-to/gate.md"), "For a deployment")):
        said |= dict.fromkeys(names(row[0]), names(row[1])[0])
    assert said == {str(trigger): str(mode) for trigger, mode in DEFAULT_ON_STALE.items()}
    assert first_column(read("how-to/gate.md").partition("## ")[0]) == [*words.OnStale]


@pytest.mark.parametrize(
    ("room", "heading"),
    [
        (runs, "`freshline.runs`: submit and ask"),
        (lineage, "`freshline.lineage`: what the answers are made of"),
        (storage, "`freshline.storage`: tables and files"),
        (flows, "`freshline.flows`: write flows"),
    ],
)
def test_python_reference_lists_every_public_name(room: Any, heading: str) -> None:
    # A subsection's table is about a class.
    text = section(read("reference/python.md"), heading).partition("\n### ")[0]
    assert {name.partition("(")[0] for name in first_column(text)} == set(room.__all__)


def test_python_reference_lists_what_a_run_context_has() -> None:
    said = {name.partition("(")[0] for name in first_column(section(read("reference/python.md"), "`RunContext`"))}
    public = {name for name in vars(RunContext) if not name.startswith("_")}
    assert said == public | {"logger"}


def test_python_reference_lists_the_options_of_submit() -> None:
    options = set(inspect.signature(RunExecutionService.submit).parameters) - {"self", "deployment", "parameters"}
    assert set(first_column(section(read("reference/python.md"), "Options of `submit`"))) == options


def test_python_reference_lists_what_the_service_does() -> None:
    said = {
        name.partition("(")[0] for name in first_column(section(read("reference/python.md"), "`RunExecutionService`"))
    }
    typed = fields_by_name(section(read("reference/python.md"), "Typed submission"))
    public = {
        name
        for name in vars(RunExecutionService)
        if not name.startswith("_") and name not in RunExecutionService.__annotations__
    }
    assert said | typed.keys() == public
    assert typed == {
        f"submit_{details.TABLE_OF[kind].__tablename__}": [schema.__name__]
        for kind, schema in details.SCHEMA_OF.items()
    }


def test_python_reference_lists_the_decorators() -> None:
    decorators = {f"track.{name}" for name, value in vars(type(track)).items() if isinstance(value, Track)}
    assert decorators <= set(names(FENCE.sub("", read("reference/python.md"))))


def test_errors_are_listed_with_what_they_are() -> None:
    said = {names(row[0])[0]: (names(row[1]) or ["Exception"])[0] for row in rows(read("reference/errors.md"))}
    found = {
        name: item.__base__.__name__
        for name, item in vars(errors).items()
        if inspect.isclass(item) and issubclass(item, errors.FreshlineError)
    }
    assert said == found


def test_makefile_has_every_target_that_the_readme_names() -> None:
    targets = re.findall(r"^(\w[\w-]*):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
    assert set(re.findall(r"`?make ([\w-]+)", readme())) <= {*targets, "and"}


def readme() -> str:
    return (ROOT / "README.md").read_text(encoding="utf-8")


def test_readme_flow_runs_and_its_block_can_be_read() -> None:
    (text,) = code(readme(), "python", "flow")
    assert len([line for line in text.splitlines() if line.strip()]) <= 10
    made: dict[str, Any] = {"__name__": "readme"}
    exec(compile(text, "README.md", "exec"), made)
    prices = pd.DataFrame({"date": pd.date_range("2024-01-01", periods=3), "AAPL": [100.0, 110.0, 121.0]})
    result = testing.run(made["momentum"], inputs={"prices": prices}, parameters={"days": 1})
    assert result.tables["momentum"]["AAPL"].round(6).tolist()[1:] == [0.1, 0.1]
    (block,) = code(readme(), "yaml", "catalogue")
    read_ = blocks.read_block(yaml.safe_load(block)["resource"], deployment="momentum", line=None)
    assert read_.key == "refresh/momentum"
    assert [edge.key for edge in read_.upstream] == ["refresh/prices"]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_python_that_a_page_shows_compiles_and_its_imports_exist(page: Path) -> None:
    for text in code(page.read_text(encoding="utf-8"), "python"):
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("freshline"):
                for alias in node.names:
                    assert hasattr(import_module(node.module or ""), alias.name), f"{node.module} has no {alias.name}"
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "runs":
                assert node.attr in runs.__all__


def test_tutorial_steps_need_only_what_the_text_has_made() -> None:
    """The steps run, in order, in the acceptance tests; what stands between setup and teardown takes `stack` alone."""
    known = {*dir(builtins), "stack"}
    steps = [found for found in FENCE.finditer(read("tutorials/the-chain.md")) if found[1] == "python" and not found[2]]
    assert len(steps) >= 8
    for step in steps:
        tree = ast.parse(step[3])
        known |= {node.id for node in ast.walk(tree) if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)}
        known |= {alias.name for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) for alias in node.names}
        for node in ast.walk(tree):
            if isinstance(node, ast.Name):
                assert node.id in known, f"{node.id} is used before it is made"
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "stack":
                assert node.attr in {"service", "queries", "freshline"}


def test_adopted_flow_passes_every_step_of_the_guide(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = read("how-to/adopt-a-flow.md")
    before, final = code(text, "yaml", "prefect.yaml")
    (initialized,) = code(text, "yaml", "prefect.yaml after init")
    untracked, tracked = code(text, "python", "flows/daily.py")
    catalogue, module = tmp_path / "prefect.yaml", tmp_path / "flows" / "daily.py"
    module.parent.mkdir()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("FRESHLINE_HOME", str(tmp_path / "home"))

    catalogue.write_text(before)
    module.write_text(untracked)
    first_words = next(line for line in text.splitlines() if line.startswith("freshline init")).split()
    done = CliRunner().invoke(cli, first_words[1:], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    assert catalogue.read_text() == initialized

    catalogue.write_text(final)
    module.write_text(tracked)
    catalog = load_catalog(catalogue, check_policy=check_policy)
    assert catalog.keys == ("refresh/prices", "refresh/momentum")
    assert [edge.key for edge in catalog.get("refresh/momentum").upstream] == ["refresh/prices"]

    monkeypatch.syspath_prepend(module.parent)
    (check,) = code(text, "python", "check")
    exec(compile(check, "adopt-a-flow.md", "exec"), {"__name__": "check"})


def test_adopted_flow_changes_as_many_lines_as_the_guide_says() -> None:
    text = read("how-to/adopt-a-flow.md")
    before, after = ([line.strip() for line in block.splitlines()] for block in code(text, "python", "flows/daily.py"))
    python = [line for line in after if line and (line not in before or after.count(line) > before.count(line))]
    (initialized,) = code(text, "yaml", "prefect.yaml after init")
    final = code(text, "yaml", "prefect.yaml")[1].splitlines()
    by_hand = [line for line in final if line not in initialized.splitlines()]
    assert (len(python), len(by_hand)) == (8, 2)
    assert "Eight lines of Python change, and two lines of YAML" in text


def test_guide_to_testing_shows_tests_that_pass() -> None:
    (text,) = code(read("how-to/test-a-flow.md"), "python", "check")
    made: dict[str, Any] = {"__name__": "shown"}
    exec(compile(text, "test-a-flow.md", "exec"), made)
    shown = [item for name, item in made.items() if name.startswith("test_")]
    assert len(shown) == 3
    for test in shown:
        test()


def test_guide_to_testing_lists_every_argument() -> None:
    given, _ = read("how-to/test-a-flow.md").split("What you get:")
    assert set(first_column(given)) == set(inspect.signature(testing.run).parameters) - {"flow"}


def test_guide_to_testing_lists_what_comes_back() -> None:
    _, got = read("how-to/test-a-flow.md").split("What you get:")
    assert first_column(got) == [field.name for field in dataclasses.fields(testing.TestResult)]
