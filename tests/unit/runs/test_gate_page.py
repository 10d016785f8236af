"""The guide to the gate runs: its Python as it stands, its commands, and what it lists is what is stored."""

import sys
from dataclasses import replace

import pytest
import yaml

from freshline.deployments import blocks
from freshline.runs.cli import EXIT_REFUSED, main
from freshline.runs.composition import shared_freshline
from tests.factories import Graph, declared
from tests.pages import code, read

PAGE = "how-to/gate.md"
UPSTREAM = [
    "role", "deployment", "freshness", "reason", "warning", "version", "digest", "data_end", "policy", "warns_at",
    "lapses_at",
]  # fmt: skip
"""What is stored of an upstream, in the order in which the page explains it."""


@pytest.fixture
def graph(tmp_path, monkeypatch):
    """The deployments of the page, the one that it shows with the words that it shows, in the environment's store."""
    monkeypatch.setenv("FRESHLINE_HOME", str(tmp_path))
    for name in ("FRESHLINE_DATABASE_URL", "FRESHLINE_ARTIFACTS_URL"):
        monkeypatch.delenv(name, raising=False)
    (text,) = code(read(PAGE), "yaml")
    shown = blocks.read_block(yaml.safe_load(text)["resource"], deployment="momentum", line=None)
    upstream = {edge.role: edge.key for edge in shown.upstream}
    said = {
        "on_stale": {str(trigger): str(word) for trigger, word in shown.on_stale.items()},
        "if_ready": {str(trigger): str(word) for trigger, word in shown.if_ready.items()},
    }
    database = shared_freshline().database
    yield Graph(
        database,
        declared("refresh/prices"),
        replace(declared(shown.key, upstream), declaration=said),
        declared("backtest/book", [shown.key, "refresh/prices"]),
    )
    database.dispose()


def test_python_of_the_guide_runs_in_order(graph, capsys):
    made = {"__name__": "shown"}
    for text in code(read(PAGE), "python", "check"):
        exec(compile(text, PAGE, "exec"), made)
    assert capsys.readouterr().out == "prices refresh/prices not_initialized refresh/prices has no version yet\n"


def test_every_python_block_of_the_guide_is_run():
    assert len(code(read(PAGE), "python")) == len(code(read(PAGE), "python", "check")) >= 3


def command(arguments, monkeypatch, capsys):
    """Run `freshline …`; return its exit code and the words that it prints."""
    monkeypatch.setattr(sys, "argv", ["freshline", *arguments])
    with pytest.raises(SystemExit) as ended:
        main()
    return ended.value.code, capsys.readouterr().out


def test_commands_of_the_guide_run(graph, monkeypatch, capsys):
    calls = [line.split()[1:] for text in code(read(PAGE), "sh") for line in text.splitlines()]
    done = [command(call, monkeypatch, capsys) for call in calls]
    assert [(exit_code, said.split()[1].rstrip(":")) for exit_code, said in done] == [
        (0, "waiting"),
        (0, "pending"),
        (0, "waiting"),
    ]
    assert "forced by" in done[1][1]


def test_refused_submission_on_the_command_line_has_its_own_exit_code(graph, monkeypatch, capsys):
    exit_code, said = command(["submit", "backtest/book"], monkeypatch, capsys)
    assert (exit_code, said.split()[1]) == (EXIT_REFUSED, "refused")
    assert "refresh/prices has no version yet" in said


def test_evidence_that_the_guide_lists_is_what_is_stored(graph):
    from freshline.runs import submit

    decision = submit("refresh/momentum", on_stale="refuse").decision
    rows = [line.split("|")[1] for line in read(PAGE).partition("## What the gate saw")[2].splitlines() if "|" in line]
    listed = [name.strip(" `,") for row in rows for name in row.split("`, `")]
    listed = [name for name in listed if name and not name.startswith(("of ", "---"))]
    assert listed == ["verdict", "reason", "on_stale", "forced_by", "as_of", "upstreams", *UPSTREAM]
    assert set(listed[:6]) == set(decision)
    assert set(UPSTREAM) == set(decision["upstreams"][0])
