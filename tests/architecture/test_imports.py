"""Who may import what. The layers themselves are import-linter's contract, in `make check`."""

import subprocess
import sys
from textwrap import dedent

import pytest

from tests.architecture.sources import FOLDERS, is_below, sources

QUANT = ("skfolio", "sklearn", "skops")
PREFECT_OF_FLOWS = (
    "prefect.flow",
    "prefect.task",
    "prefect.runtime",
    "prefect.states",
    "prefect.flows.Flow",
    "prefect.tasks.Task",
)
PREFECTS_CLIENT = (
    "prefect.artifacts",
    "prefect.cli",
    "prefect.client",
    "prefect.deployments",
    "prefect.events",
    "prefect.server",
)
WITHOUT_SQL = (
    "freshline.deployments",
    "freshline.flows",
    "freshline.runs.cli",
    "freshline.runs.demo",
    "freshline.runs.run_events",
    "freshline.runs.interface",
    "freshline.runs.metrics",
    "freshline.runs.request",
    "freshline.runs.status",
    "freshline.storage.errors",
    "freshline.storage.settings",
    "freshline.storage.words",
)


def imported(folder_or_module: tuple[str, ...]):
    """(file:line, module) of every absolute import in the modules that lie below these."""
    return [
        (f"{source.name}:{line}", module)
        for source in sources()
        if is_below(source.module, folder_or_module)
        for module, line in source.imports()
    ]


def test_bare_folder_names_are_never_imported_absolutely():
    # The working directory comes first on sys.path in a worker: `import runs` would be the user's, or a second copy.
    bare = [found for found in imported(("freshline",)) if is_below(found[1], FOLDERS)]
    assert bare == []


def test_package_imports_itself_relatively():
    # Alembic loads its environment and the revisions by path: these cannot.
    absolute = [found for found in imported(("freshline",)) if is_below(found[1], ("freshline",))]
    assert [place for place, _ in absolute if not place.startswith("runs/migrations/")] == []


def test_only_deployments_uses_the_client_of_prefect():
    others = tuple(f"freshline.{folder}" for folder in FOLDERS if folder != "deployments")
    assert [found for found in imported(others) if is_below(found[1], PREFECTS_CLIENT)] == []


def test_flows_use_of_prefect_only_what_a_flow_author_uses():
    used = [found for found in imported(("freshline.flows",)) if is_below(found[1], ("prefect",))]
    assert used, "the rule looks at nothing"
    assert [found for found in used if not is_below(found[1], PREFECT_OF_FLOWS)] == []


@pytest.mark.parametrize("room", ["lineage", "runs", "storage"])
def test_room_does_not_import_prefect(room):
    assert [found for found in imported((f"freshline.{room}",)) if is_below(found[1], ("prefect",))] == []


@pytest.mark.parametrize("room", WITHOUT_SQL)
def test_module_without_sql_does_not_import_sqlalchemy(room):
    assert any(is_below(source.module, (room,)) for source in sources()), f"{room} is not there any more"
    assert [found for found in imported((room,)) if is_below(found[1], ("sqlalchemy", "sqlmodel"))] == []


def test_vocabulary_imports_the_standard_library_alone():
    for module in ("freshline.runs.status", "freshline.storage.errors", "freshline.storage.words"):
        foreign = [found for found in imported((module,)) if found[1].split(".")[0] not in sys.stdlib_module_names]
        assert foreign == [], module


def test_core_imports_no_library_of_the_quant_extra():
    core = tuple(f"freshline.{folder}" for folder in FOLDERS if folder != "flows")
    assert [found for found in imported(core) if is_below(found[1], QUANT)] == []


def test_package_is_importable_without_the_quant_extra():
    # The flows that ship name these libraries inside functions only: a run says what to install.
    modules = sorted(
        source.module
        for source in sources()
        if "migrations" not in source.module and source.module != "freshline.runs.cli.__main__"
    )
    program = f"""
    import sys
    from importlib import import_module

    for name in {QUANT!r}:
        sys.modules[name] = None  # importing it is an ImportError now
    for name in {modules!r}:
        import_module(name)
    """
    python(program)


@pytest.mark.parametrize("arguments", [[], ["--help"], ["--version"], ["no-such-command"], ["completion", "zsh"]])
def test_command_line_starts_without_heavy_imports(arguments):
    program = f"""
    import sys
    from freshline.runs.cli import main

    sys.argv = ["freshline", *{arguments!r}]
    try:
        main()
    except SystemExit:
        pass
    heavy = {{"alembic", "pandas", "prefect", "pyarrow", "pydantic", "rich", "sqlalchemy", "sqlmodel"}}
    loaded = sorted(heavy & sys.modules.keys())
    assert loaded == [], loaded
    """
    python(program)


@pytest.mark.parametrize("command", ["status", "runs"])
def test_question_starts_without_what_it_does_not_need(command, tmp_path):
    program = f"""
    import os, sys
    from freshline.runs.cli import main

    os.environ["FRESHLINE_HOME"] = {str(tmp_path)!r}
    sys.argv = ["freshline", {command!r}]
    try:
        main()
    except SystemExit:
        pass
    heavy = {{"fastapi", "fsspec", "numpy", "pandas", "prefect", "pyarrow", "scipy", "uvicorn", "igraph", "bokeh"}}
    loaded = sorted(heavy & sys.modules.keys())
    assert loaded == [], loaded
    """
    python(program)


def test_package_imports_nothing_heavy_by_itself():
    python("""
    import sys
    import freshline
    from freshline import deployments, lineage, runs, storage

    loaded = sorted({"pandas", "prefect", "pyarrow", "sqlalchemy"} & sys.modules.keys())
    assert loaded == [], loaded

    from freshline.flows import RunContext, track  # what the process of a flow run does first

    assert "pandas" not in sys.modules
    """)


def python(program):
    """Run a program in an interpreter of its own."""
    command = [sys.executable, "-P", "-c", dedent(program)]
    done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
