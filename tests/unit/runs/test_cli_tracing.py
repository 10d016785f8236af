"""The commands lineage, explain and compare: what they say, as text and as JSON, and what they refuse."""

import json

import pytest
from click.testing import CliRunner

from freshline.runs import composition
from freshline.runs.cli import cli
from freshline.runs.cli.output import console, table
from freshline.storage.errors import FreshlineError
from freshline.storage.ids import show_run_id

PRICES, MOMENTUM, BOOK = "refresh/prices", "refresh/momentum", "backtest/book"


@pytest.fixture
def chain(world, database_url, monkeypatch, tmp_path):
    """Everything ran, then the prices once more with other content; the environment names the store."""
    monkeypatch.setenv("FRESHLINE_DATABASE_URL", database_url)
    monkeypatch.setenv("FRESHLINE_HOME", str(tmp_path / "home"))
    for key in (PRICES, MOMENTUM, BOOK):
        world.run_through(key, actor="ada")
    world.run_through(PRICES, 2)
    yield world
    for url in [url for url in composition._opened if database_url in url]:
        composition._opened.pop(url).database.dispose()


def said(*words):
    done = CliRunner().invoke(cli, [str(word) for word in words], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.output


def told(*words):
    return json.loads(said(*words, "--json"))


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("lineage", "prices"), "neither a version nor a run"),
        (("lineage", "refresh/prices@v9"), "There is no version 'refresh/prices@v9'"),
        (("lineage", "refresh/price", "--downstream"), "Did you mean 'refresh/prices'"),
        (("lineage", "refresh/prices", "--impact", "--direct"), "--direct does not go with --consumers or --impact"),
        (("lineage", "refresh/prices", "--limit", "0"), "0 is not in the range"),
        (("explain", "run-17"), "'run-17' is not a run id"),
        (("explain", "refresh/price"), "Did you mean 'refresh/prices'"),
        (("compare", "run-17", "run-18"), "'run-17' is not a run id"),
        (("compare", "run-00000000-0000-7000-8000-000000000000"), "say which runs: two of them, or more"),
    ],
)
def test_bad_call_says_what_is_wrong(chain, words, message):
    done = CliRunner().invoke(cli, words)
    assert done.exit_code != 0
    # An error of ours goes on to `main`, which prints it as one line.
    assert message in (str(done.exception) if isinstance(done.exception, FreshlineError) else done.output)


def test_lineage_shows_inputs_consumers_impact_and_both_directions(chain):
    assert [(row["key"], row["depth"]) for row in told("lineage", BOOK)] == [(MOMENTUM, 1), (PRICES, 1)]
    assert [row["key"] for row in told("lineage", MOMENTUM, "--consumers")] == [BOOK]
    impact = told("lineage", "refresh/prices@v1", "--impact")
    assert {(row["key"], row["is_current"]) for row in impact} == {(MOMENTUM, True), (BOOK, True)}
    assert [row["key"] for row in told("lineage", MOMENTUM, "--upstream")] == [PRICES]
    assert [row["key"] for row in told("lineage", MOMENTUM, "--downstream", "--direct")] == [BOOK]
    text = said("lineage", "refresh/prices@v1", "--impact")
    assert "What was built from refresh/prices@v1: 3, of which 3 are current" in text
    assert "declared" in said("lineage", MOMENTUM, "--upstream")


def test_lineage_of_a_run_is_that_of_its_version(chain):
    run = next(run for key, run in chain.queries.runs() if key == BOOK)
    assert told("lineage", show_run_id(run.id)) == told("lineage", f"{BOOK}@v1")


def test_lineage_shows_as_many_rows_as_asked_for_and_says_that_there_are_more(chain):
    text = said("lineage", BOOK, "--limit", 1)
    assert "1 rows more: use --limit" in text
    assert PRICES not in text.replace("What went into", "")


def test_explain_of_a_deployment_has_the_tree_and_what_started_it(chain):
    text = said("explain", BOOK)
    assert "backtest/book is stale" in text
    assert "refresh/momentum is stale itself" in text
    assert "What started it, through 1 stale upstream" in text
    newest = chain.queries.runs(deployment=PRICES, limit=1)[0][1]
    assert show_run_id(newest.id) in text


def test_explain_of_a_deployment_as_json_tells_each_upstream_once(chain):
    found = told("explain", BOOK)
    assert found["sentence"].startswith("backtest/book is stale: refresh/prices is at v2")
    assert {reason["kind"] for reason in found["reasons"]} == {"input_changed", "upstream_stale"}
    assert found["behind"].keys() == {MOMENTUM}
    assert [(origin["key"], origin["number"]) for origin in found["origins"]] == [(PRICES, 2)]
    assert told("explain", PRICES)["reasons"] == []


def test_explain_of_a_run_has_the_sentence_the_gate_and_the_log(chain):
    run = next(run for key, run in chain.queries.runs() if key == BOOK)
    text = said("explain", run.id)
    assert "ran because ada submitted it, on upstreams that were ready, and published v1" in text
    assert "What the gate saw" in text
    assert "attempt 1 began" in text
    assert told("explain", run.id)["verdict"] == "run"


def test_explain_of_a_failed_run_shows_square_brackets_as_they_are(chain):
    claim = chain.start(chain.service.submit(PRICES, actor="ada"))
    error = OSError("cannot open [/data] of [red]vendor")
    chain.port.fail(claim.run.id, claim.run.fence, error, "", will_retry=False)
    text = " ".join(said("explain", claim.run.id).split())
    assert "failed because its body raised: OSError: cannot open [/data] of [red]vendor; attempt 1" in text


def test_table_shows_square_brackets_in_its_title_and_head_as_they_are(capsys):
    console().print(table("Of [/data]", ("in [red]a",), [("[/x]",)]))
    assert [line.strip() for line in capsys.readouterr().out.splitlines() if "[" in line] == [
        "Of [/data]",
        "in [red]a",
        "[/x]",
    ]


def test_explain_of_a_waiting_run_shows_what_it_waits_for(chain):
    run = chain.service.submit(BOOK, on_stale="refresh")
    assert "What it waits for" in said("explain", run.id)
    assert [one["deployment"] for one in told("explain", run.id)["waits_for"]] == [MOMENTUM]


def test_compare_shows_what_differs_and_with_all_what_does_not(chain):
    first, second = [run.id for key, run in reversed(chain.queries.runs()) if key == PRICES]
    text = said("compare", first, second)
    assert "differ in outputs (1)" in text
    assert "outcome" not in text
    assert "outcome" in said("compare", first, second, "--all")
    assert [fact["name"] for fact in told("compare", first, second)["facts"]] == ["data"]
    assert "are equal in everything that is recorded" in said("compare", first, first)
