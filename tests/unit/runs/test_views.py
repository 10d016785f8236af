"""The SQL views: what they say of runs, inputs, metrics and freshness, and of what they are silent; their page runs."""

import json
import re
from datetime import timedelta

import pytest
import sqlalchemy as sa

from freshline.runs import views
from freshline.runs.care.deletion import Deletions
from freshline.storage.ids import show_run_id
from tests.pages import code, read

PAGE = "reference/sql.md"


def rows(world, query, **values):
    with world.database.read() as connection:
        return [row._asdict() for row in connection.execute(sa.text(query), values)]


def only(world, query, **values):
    (row,) = rows(world, query, **values)
    return row


def as_json(value):
    """What a client of SQLite gets as text."""
    return json.loads(value) if isinstance(value, str) else value


@pytest.fixture
def book(world):
    """A backtest of a book that completed with a metric, after the runs of all that it reads."""
    world.run_through("refresh/prices")
    world.run_through("refresh/momentum")
    run = world.service.submit("backtest/book", metadata={"who": "ada"}, tags=["weekly"])
    claim = world.start(run)
    world.pass_time(timedelta(seconds=90))
    conventions = {"sharpe_ratio": {"unit": "1 per √year", "ddof": 1}}
    world.complete(claim, metrics={"sharpe_ratio": 1.5, "hit_ratio": float("nan")}, conventions=conventions)
    return world.service.get(run.id)


def test_run_is_shown_with_what_it_was_asked_and_gave(world, book):
    row = only(world, "SELECT * FROM v_runs WHERE deployment = 'backtest/book'")
    assert row["run_id"] == show_run_id(book.id)
    assert (row["kind"], row["resource"], row["type"]) == ("backtest", "book", "BacktestRun")
    assert (row["status"], row["stop_reason"], row["version"]) == ("completed", "completed", 1)
    assert row["duration_s"] == pytest.approx(90)
    assert [as_json(row[name]) for name in ("metadata", "tags")] == [{"who": "ada"}, ["weekly"]]
    assert (row["parent_run_id"], row["retry_of"], row["replay_of"]) == (None, None, None)


def test_run_of_another_one_names_it(world):
    parent = world.service.submit("backtest/book", on_stale="refresh")
    found = rows(world, "SELECT deployment, parent_run_id FROM v_runs WHERE parent_run_id IS NOT NULL")
    assert {row["parent_run_id"] for row in found} == {show_run_id(parent.id)}


def test_inputs_say_which_version_was_read_whose_it_is_and_whether_it_still_holds(world, book):
    query = "SELECT * FROM v_run_inputs WHERE run_id = :run ORDER BY role"
    momentum, prices = rows(world, query, run=show_run_id(book.id))
    assert [(row["role"], row["upstream"], row["version"]) for row in (momentum, prices)] == [
        ("momentum", "refresh/momentum", 1),
        ("prices", "refresh/prices", 1),
    ]
    produced = only(world, "SELECT run_id FROM v_runs WHERE deployment = 'refresh/prices'")
    assert prices["produced_by"] == produced["run_id"]
    assert [bool(prices[name]) for name in ("pinned", "was_read", "still_current", "withdrawn")] == [1, 1, 1, 0]

    world.run_through("refresh/prices", 2)
    assert not rows(world, query, run=show_run_id(book.id))[1]["still_current"]
    world.run_through("refresh/prices", 1)  # version 3, with the content that was read
    assert rows(world, query, run=show_run_id(book.id))[1]["still_current"]


def test_metrics_have_their_run_deployment_and_unit_and_nan_is_null(world, book):
    query = "SELECT run_id, deployment, status, name, value, unit FROM v_metrics ORDER BY name"
    hit, sharpe = rows(world, query)
    told = {"run_id": show_run_id(book.id), "deployment": "backtest/book", "status": "completed"}
    assert sharpe == told | {"name": "sharpe_ratio", "value": 1.5, "unit": "1 per √year"}
    assert hit == told | {"name": "hit_ratio", "value": None, "unit": None}


def test_freshness_counts_the_causes_and_says_why(world, book):
    world.run_through("refresh/prices", 2)
    found = {row["deployment"]: row for row in rows(world, "SELECT * FROM v_freshness")}
    assert {key: row["freshness"] for key, row in found.items()} == {
        "refresh/calendar": "not_initialized",
        "refresh/prices": "ready",
        "refresh/momentum": "stale",
        "backtest/book": "stale",
    }
    row = found["backtest/book"]
    assert (row["causes"], row["version"], row["activity"]) == (2, 1, "idle")
    assert row["why"] == (
        "refresh/prices is at v2 now, with other content than was read; refresh/momentum is stale itself"
    )
    assert (found["refresh/prices"]["causes"], found["refresh/prices"]["why"]) == (0, None)
    assert row["last_run_id"] == show_run_id(book.id)


def test_retired_deployment_has_no_freshness_and_what_read_it_says_so(world, book):
    kept = [one for key, one in world.graph.declared.items() if key != "refresh/prices"]
    world.graph.register(*kept)
    found = {row["deployment"]: row["why"] for row in rows(world, "SELECT deployment, why FROM v_freshness")}
    assert "refresh/prices" not in found
    assert "refresh/prices was retired" in found["backtest/book"]


def test_deleted_run_is_in_no_view_until_it_is_restored(world, book):
    counts = {name: f"SELECT count(*) AS n FROM {name}" for name in ("v_runs", "v_run_inputs", "v_metrics")}
    world.run_through("backtest/book", 2)  # a current version is not deleted
    before = {name: only(world, query)["n"] for name, query in counts.items()}
    deletions = Deletions(world.database)
    deletions.delete(book.id, reason="wrong", actor="ada")
    assert {name: only(world, query)["n"] for name, query in counts.items()} == {
        "v_runs": before["v_runs"] - 1,
        "v_run_inputs": before["v_run_inputs"] - 2,
        "v_metrics": 0,
    }
    deletions.restore(book.id, reason="right", actor="ada")
    assert {name: only(world, query)["n"] for name, query in counts.items()} == before


def test_newest_runs_are_found_by_the_key_of_the_table(world, book):
    with world.database.read() as connection:
        explain = "EXPLAIN QUERY PLAN" if world.database.dialect == "sqlite" else "EXPLAIN"
        if world.database.dialect == "postgresql":
            connection.execute(sa.text("SET LOCAL enable_seqscan = off"))
        query = f"{explain} SELECT run_id FROM v_runs ORDER BY run_key DESC LIMIT 50"
        plan = "\n".join(str(row) for row in connection.execute(sa.text(query)))
    assert "sqlite_autoindex_run" in plan or "pk_run" in plan
    assert "TEMP B-TREE" not in plan
    assert "Sort" not in plan


def test_every_view_is_there_with_its_columns(database):
    with database.read() as connection:
        found = views.columns_of(connection)
    assert tuple(found) == views.NAMES
    assert all(columns[0] in ("run_id", "tenant_id") for columns in found.values())


# The page.


def test_queries_of_the_page_run_on_both_databases(world, book):
    world.run_through("refresh/prices", 2)
    shown = [text.replace("run-0199b3c2-…", show_run_id(book.id)) for text in code(read(PAGE), "sql", "check")]
    answers = [rows(world, text.replace(":", "\\:")) for text in shown]
    assert len(answers) >= 6
    newest, inputs, _, side_by_side, stale, failures = answers
    assert [row["deployment"] for row in newest] == [
        "refresh/prices", "backtest/book", "refresh/momentum", "refresh/prices"
    ]  # fmt: skip
    assert [(row["role"], bool(row["still_current"])) for row in inputs] == [("momentum", True), ("prices", False)]
    assert [row["run_id"] for row in side_by_side] == [show_run_id(book.id)]
    assert stale[0]["deployment"] == "backtest/book"
    assert {row["failure_rate"] for row in failures} == {0}


def test_page_explains_every_column_in_its_place(database):
    with database.read() as connection:
        found = views.columns_of(connection)
    for name, columns in found.items():
        text = re.search(rf"^## {name}$(.*?)^## ", read(PAGE), re.MULTILINE | re.DOTALL)[1]
        said = [
            word for row in re.findall(r"^\| (`.*?) \|", text, re.MULTILINE) for word in re.findall(r"`(\w+)`", row)
        ]
        assert sorted(said) == sorted(columns), name
