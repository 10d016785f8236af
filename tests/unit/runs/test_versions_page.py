"""The guide to versions runs: its Python as it stands, its commands, and what it lists is the code's."""

import shlex
import sys

import pytest

from freshline.lineage import references
from freshline.runs.cli import main
from freshline.runs.composition import shared_freshline
from freshline.runs.reads import Agreement
from tests.factories import Graph, declared
from tests.pages import code, read

PAGE = "how-to/versions.md"


@pytest.fixture
def graph(tmp_path, monkeypatch):
    """Two versions of prices, and two of a model that was fitted on them, in the environment's store."""
    monkeypatch.setenv("FRESHLINE_HOME", str(tmp_path))
    for name in ("FRESHLINE_DATABASE_URL", "FRESHLINE_ARTIFACTS_URL"):
        monkeypatch.delenv(name, raising=False)
    database = shared_freshline().database
    made = Graph(database, declared("refresh/prices"), declared("training/alpha", ["refresh/prices"]))
    for content in ("one", "two"):
        made.publish("refresh/prices", content)
        made.publish("training/alpha", f"on {content}")
    yield made
    database.dispose()


def test_python_of_the_guide_runs_in_order(graph, capsys):
    made = {"__name__": "shown"}
    for text in code(read(PAGE), "python", "check"):
        exec(compile(text, PAGE, "exec"), made)
    said = capsys.readouterr().out
    assert "training/alpha: stale" in said
    assert "v2 of refresh/prices, which it read, was withdrawn" in said


def test_every_python_block_of_the_guide_is_run():
    assert len(code(read(PAGE), "python")) == len(code(read(PAGE), "python", "check")) >= 3


def test_commands_of_the_guide_run_in_order(graph, monkeypatch, capsys):
    calls = [shlex.split(line)[1:] for text in code(read(PAGE), "sh") for line in text.splitlines()]
    assert len(calls) >= 9
    for call in calls:
        monkeypatch.setattr(sys, "argv", ["freshline", *call])
        with pytest.raises(SystemExit) as ended:
            main()
        assert ended.value.code == 0, (call, capsys.readouterr().err)
    assert "refresh/prices@v2 is restored; refresh/prices@v2 is current." in capsys.readouterr().out


def first_column(text):
    cells = [line.split("|")[1].strip(" `") for line in text.splitlines() if line.startswith("| ")]
    return cells[2:]


def test_references_that_the_guide_shows_are_read_in_four_ways():
    shown = [references.parse(text) for text in first_column(read(PAGE).partition("## ")[0])]
    forms = [(one.is_current, one.number, one.label, one.alias) for one in shown]
    assert forms == [
        (True, None, None, None),
        (False, 12, None, None),
        (False, None, "v1.2.0", None),
        (False, None, None, "champion"),
    ]


def test_names_that_the_guide_says_are_refused_are_those_of_the_code():
    assert set(references._RESERVED) == {"current", "latest", "newest"}
    assert "`current`, `latest` and `newest` are refused" in " ".join(read(PAGE).split())


def test_agreements_that_the_guide_lists_are_those_of_the_code():
    assert first_column(read(PAGE).partition("## What was pinned")[2]) == [*Agreement]
