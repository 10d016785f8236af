"""The guides that ask: each example runs, and prints what the page says."""

import re
import shlex
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pandas as pd
import pytest
from click.testing import CliRunner

from freshline.lineage import interface
from freshline.runs import composition
from freshline.runs.cli import cli
from freshline.runs.queries import Queries
from freshline.runs.repair.auto_refresh import refresh_stale
from freshline.runs.result import Read, Result
from freshline.runs.searching.fields import FIELDS
from freshline.runs.searching.grammar import Operator
from freshline.storage.artifacts import ArtifactRecord
from freshline.storage.auto_refresh import AutoRefresh
from freshline.storage.ids import show_run_id
from freshline.storage.parquet import write_table
from tests.factories import Graph, declared
from tests.pages import FENCE, code, read

PRICES, MOMENTUM, BOOK = "refresh/prices", "refresh/momentum", "backtest/book"


@pytest.fixture
def _here(database_url, monkeypatch, tmp_path):
    """The store of the test is the one that the environment names."""
    monkeypatch.setenv("FRESHLINE_DATABASE_URL", database_url)
    monkeypatch.setenv("FRESHLINE_HOME", str(tmp_path / "home"))
    yield
    for opened in (interface._opened, composition._opened):
        for url in [url for url in opened if database_url in url]:
            found = opened.pop(url)
            getattr(found, "database", found).dispose()


def follow(page, capsys, **known):
    """Run the examples of a page in order; each prints what the block behind it shows."""
    text = read(page)
    blocks = [found for found in FENCE.finditer(text) if found[2] in ("check", "output")]
    assert [found[2] for found in blocks] == ["check", "output"] * (len(blocks) // 2)
    for example, output in zip(blocks[::2], blocks[1::2], strict=True):
        exec(compile(example[3], page, "exec"), known)
        assert capsys.readouterr().out == output[3]
    calls = [line for block in code(text, "sh") for line in block.splitlines() if line.startswith("freshline ")]
    assert calls
    for call in calls:
        words = shlex.split(re.sub(r"run-0199a1b2-…", str(known.get("earlier_id")), call))
        words = [str(known["run_id"]) if word == "run-0199b3c2-…" else word for word in words]
        done = CliRunner().invoke(cli, words[1:], catch_exceptions=False)
        assert done.exit_code == 0, done.output


@pytest.mark.usefixtures("_here")
def test_guide_to_staleness_prints_what_it_says(database, capsys):
    chain = Graph(
        database,
        declared(PRICES),
        declared(MOMENTUM, [PRICES]),
        declared("training/alpha", [MOMENTUM]),
        declared(BOOK, ["training/alpha"]),
    )
    chain.publish_all(PRICES, MOMENTUM, "training/alpha", BOOK)
    chain.publish(PRICES, "new")
    follow("how-to/why-is-this-stale.md", capsys)


def two_books(world):
    """Run everything twice, with other content and another parameter; return the ids of the runs of the book."""
    others = [item for key, item in world.graph.declared.items() if key != BOOK]
    book = world.graph.declared[BOOK]
    schema = declared(BOOK, parameters=["cost_bps"]).parameter_schema
    world.graph.register(*others, replace(book, parameter_schema=schema))
    ids = []
    for content, cost_bps, turnover in ((1, 5, 1.5), (2, 10, 1.25)):
        world.run_through(PRICES, content)
        world.run_through(MOMENTUM, content)
        run = world.service.submit(BOOK, {"cost_bps": cost_bps}, actor="anna")
        claim = world.start(run)
        reads = [Read(role, pin.upstream_id, pin.version_id) for role, pin in world.port.pins(run.id).items()]
        table = ArtifactRecord.of_table("returns", write_table(world.objects, pd.DataFrame({"x": [1.0]})))
        result = Result(artifacts=[table], reads=reads, metrics={"turnover": turnover})
        world.port.complete(run.id, claim.run.fence, result)
        ids.append(run.id)
    return {"earlier_id": ids[0], "run_id": ids[1]}


@pytest.mark.usefixtures("_here")
def test_guide_to_a_run_prints_what_it_says(world, capsys):
    follow("how-to/what-went-into-this-run.md", capsys, **two_books(world))


@pytest.mark.usefixtures("_here")
def test_guide_to_notebooks_prints_what_it_says(world, capsys):
    follow("how-to/ask-in-a-notebook.md", capsys, **two_books(world))


@pytest.mark.usefixtures("_here")
def test_guide_to_automatic_refresh_prints_what_it_says(database, capsys):
    by_itself = AutoRefresh().to_json()
    chain = Graph(
        database,
        declared(PRICES),
        replace(declared(MOMENTUM, [PRICES]), auto_refresh=by_itself),
        replace(declared(BOOK, [MOMENTUM]), auto_refresh=by_itself),
    )
    chain.publish_all(PRICES, MOMENTUM, BOOK)
    chain.publish(PRICES, "other")
    assert refresh_stale(database) == 1
    ((_, run),) = Queries(database).runs()
    follow("how-to/refresh-automatically.md", capsys, run_id=show_run_id(run.id))


@pytest.mark.usefixtures("_here")
def test_guide_to_searching_prints_what_it_says(world, capsys):
    others = [item for key, item in world.graph.declared.items() if key != BOOK]
    book = world.graph.declared[BOOK]
    schema = declared(BOOK, parameters=["cost_bps"]).parameter_schema
    world.graph.register(*others, replace(book, parameter_schema=schema))
    world.moment = datetime.now(UTC) - timedelta(hours=1)  # the store of the guide has no clock of its own
    for content, cost_bps, metrics in (
        (1, 5, {"turnover": 1.5, "hit_rate": 0.5}),
        (2, 10, {"turnover": 1.25, "hit_rate": 0.6}),
        (2, 20, None),
    ):
        if metrics is not None:
            world.run_through(PRICES, content)
            world.run_through(MOMENTUM, content)
        claim = world.start(world.service.submit(BOOK, {"cost_bps": cost_bps}))
        if metrics is not None:
            world.complete(claim, content, metrics=metrics)
        else:
            world.port.fail(claim.run.id, claim.run.fence, ValueError("no prices"), "", will_retry=False)
    follow("how-to/search-runs.md", capsys)


def test_search_page_lists_every_field_and_comparison():
    text = read("reference/search.md")
    fields = re.findall(r"^\| `(\w+)` \|", text[text.index("## Fields") : text.index("## Comparisons")], re.MULTILINE)
    assert fields == list(FIELDS)
    compared = text[text.index("## Comparisons") : text.index("## Values")]
    assert [one for one in Operator if f"`{one}" not in compared] == []
