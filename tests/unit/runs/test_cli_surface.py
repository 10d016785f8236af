"""Every command on a store that wants to do harm: nothing is obeyed, nothing is cut off, and JSON keeps its keys."""

import json
import re
import shutil
from typing import Any

import pytest
from click.testing import CliRunner
from rich.cells import cell_len

from freshline.runs import composition
from freshline.runs.cli import _COMMANDS, cli
from freshline.runs.models import Run
from freshline.storage.errors import FreshlineError
from freshline.storage.literal import one_line
from tests.pages import read
from tests.unit.runs.surface import CALLS, NASTY, PRINTABLE, make_surface

NEED_A_STACK = {"demo", "reconcile", "serve", "up"}
"""Commands that keep running, and have tests of their own."""
WITHOUT_JSON = {"completion"}
LINES = {"events --follow"}
"""Commands whose JSON is an object a line."""
PARAGRAPHS = {"completion", "artifacts --to", "db upgrade", "deploy --check", "events --follow", "publish", "replay"}
"""Commands that print what is not folded: a script, or a line for each thing."""
SAY_IN_A_LINE = {
    *("alias", "backfill", "cancel", "delete", "gc", "init", "label", "pause", "resume", "retention", "submit"),
    "verify",
}
"""Commands that say what they did in a line."""
RUN = {name.rstrip("_") for name in Run.model_fields}


@pytest.fixture(scope="module")
def surface(request, tmp_path_factory):
    """The store, which the environment names."""
    home = tmp_path_factory.mktemp("surface")
    shutil.copy(request.getfixturevalue("sqlite_template"), home / "freshline.db")
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("FRESHLINE_HOME", str(home))
        patched.setenv("PREFECT_API_URL", "http://127.0.0.1:9/api")
        patched.setattr(composition, "_opened", {})
        made = make_surface(home)
        yield made
        for opened in composition._opened.values():
            opened.database.dispose()
        made.world.database.dispose()


def call(surface, name, *more):
    """Return what a command prints, and what `main` would print of its error."""
    done = CliRunner().invoke(cli, [*CALLS[name](surface), *more], standalone_mode=False)
    assert done.exception is None or isinstance(done.exception, FreshlineError), done.exc_info
    return done.stdout, done.stderr + (one_line(str(done.exception)) if done.exception else "")


def test_every_command_is_called_here():
    called = {name.split()[0] for name in CALLS}
    assert called <= _COMMANDS.keys()
    assert _COMMANDS.keys() - called <= NEED_A_STACK


@pytest.mark.parametrize("name", CALLS)
def test_command_prints_nothing_that_a_terminal_obeys_and_fits_a_narrow_one(surface, monkeypatch, name):
    monkeypatch.setenv("COLUMNS", "60")
    out, err = call(surface, name)
    assert [one for one in out + err if not one.isprintable() and one != "\n"] == []
    if name not in PARAGRAPHS and name.split()[0] not in SAY_IN_A_LINE:
        assert [line for line in out.splitlines() if cell_len(line) > 60] == []


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        *((name, NASTY) for name in (
            "alias list", "alias list ALIAS", "delete --list", "events", "events --follow", "explain RUN", "metrics",
            "show", "show (with steps)", "show (failed)", "versions VERSION", "compare RUN RUN RUN",
        )),
        *((name, PRINTABLE) for name in ("artifacts", "artifacts NAME", "artifacts --to", "compare")),
    ],
)  # fmt: skip
def test_what_people_wrote_is_shown_as_it_is(surface, monkeypatch, name, shown):
    monkeypatch.setenv("COLUMNS", "4000")
    out, _ = call(surface, name)
    assert shown.encode("unicode_escape").decode() in " ".join(out.split())


@pytest.mark.parametrize("name", [name for name in CALLS if name not in WITHOUT_JSON])
def test_json_has_the_keys_of_the_reference(surface, name):
    out, err = call(surface, name, "--json")
    if not out:
        assert "cannot be" in err  # a refusal
        return
    assert out.isascii()
    answer = json.loads(f"[{','.join(out.splitlines())}]" if name in LINES else out)
    told, form = documented(), name.partition(" (")[0]
    assert found_in(answer) == {part: told.get((form, part)) for part in found_in(answer)}


FREE = {
    *("parameters", "request", "workflow", "metadata", "decision", "outputs", "settings", "counters", "counts"),
    *("conventions", "convention", "metrics", "detail", "table_schema", "schema_diff", "facts", "behind", "stored"),
    "statuses",
}
"""Parts whose keys are data, or what another page tells."""


def found_in(answer: Any, part: str = "") -> dict[str, frozenset[str]]:
    """The keys of each part of an answer; a part is named as jq would find it."""
    if isinstance(answer, list):
        return found_in(answer[0], f"{part}[]") if answer and isinstance(answer[0], dict | list) else {}
    if not isinstance(answer, dict):
        return {}
    keys = set(answer)
    found = {part: frozenset(keys - RUN | {"run"} if keys >= RUN else keys)}
    for name, value in answer.items():
        is_free = name in FREE and isinstance(value, dict)
        if not is_free and not keys >= RUN:
            found |= found_in(value, f"{part}.{name}" if part else name)
    return found


def documented() -> dict[tuple[str, str], frozenset[str]]:
    """(command, part) -> keys, as the reference says."""
    table = read("reference/cli.md").partition("## JSON")[2]
    said = {}
    for line in re.findall(r"^\| `.*$", table, re.MULTILINE):
        commands, part, keys = (re.findall(r"`([^`]*)`", cell) for cell in line.strip("|").split("|"))
        said |= {(command, "".join(part)): frozenset(keys) for command in commands}
    return said


def test_reference_names_no_command_that_is_not_called_here():
    assert {command for command, _ in documented()} <= CALLS.keys()
