"""What runs leave in Prefect: which pages, what they say, that each is written once, and that nothing waits for it."""

import re
import threading
from dataclasses import replace
from datetime import date, timedelta
from types import SimpleNamespace

import pandas as pd
import pytest

from freshline.runs import markdown
from freshline.runs.background import Background
from freshline.runs.care.deletion import Deletions
from freshline.runs.run_artifacts import RunArtifacts
from freshline.storage.artifacts import ArtifactRecord
from freshline.storage.errors import InvalidInput, PrefectError
from freshline.storage.files import save_file
from freshline.storage.ids import show_run_id
from freshline.storage.parquet import write_table
from freshline.storage.settings import load_settings

URL = "http://127.0.0.1:4280"


@pytest.fixture
def shown(world):
    return RunArtifacts(world.database, world.gateway, URL)


def pages(world, run=None):
    """Key -> text of what is there, of one run or of all."""
    return {
        one.key: one.data for one in world.gateway.artifacts.values() if run is None or show_run_id(run.id) in one.data
    }


def rows_of(text):
    """The table's rows as cells."""
    lines = [line for line in text.splitlines() if line.startswith("| ")][2:]
    return [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines]


def book(world, **options):
    """A backtest of a book that completed on the first versions of what it reads."""
    for key in ("refresh/prices", "refresh/momentum"):
        world.run_through(key)
    claim = world.start(world.service.submit("backtest/book"))
    world.pass_time(timedelta(seconds=90))
    world.complete(claim, **options)
    return world.service.get(claim.run.id)


# What they say.


def test_completed_run_shows_what_it_read_measured_and_wrote_and_where_its_page_is(world, shown):
    conventions = {"total_return": {"unit": "fraction", "missing": "drop", "calendar": "XNYS"}}
    run = book(world, metrics={"total_return": 0.12345678, "beta": float("nan")}, conventions=conventions)
    assert shown.pass_once() == 9, "outputs and links of all three, inputs of two, metrics of one"
    found = pages(world, run)
    assert set(found) == {f"freshline-{what}-backtest-book" for what in ("inputs", "metrics", "outputs", "run")}
    facts = f"\n\n{show_run_id(run.id)} of backtest/book · completed · v1 · ended 2026-01-05 12:01 UTC · took 90.0 s\n"
    assert all(text.endswith(facts) for text in found.values())
    assert found["freshline-inputs-backtest-book"].startswith(
        "| role | deployment | version | data until | read | current when the run ended |\n"
        "| --- | --- | --- | --- | --- | --- |\n"
        "| momentum | refresh/momentum | v1 |  | yes | yes |\n"
        "| prices | refresh/prices | v1 |  | yes | yes |\n"
    )
    assert rows_of(found["freshline-metrics-backtest-book"]) == [
        ["beta", "NaN", "", ""],
        ["total_return", "0.123457", "fraction", "calendar: XNYS, missing: drop"],
    ]
    ((name, kind, rows, size, digest, published),) = rows_of(found["freshline-outputs-backtest-book"])
    assert (name, kind, rows, published, len(digest)) == ("data", "table", "1", "yes", 16)
    assert int(size.replace(",", "")) > 0
    link = f"[Show {show_run_id(run.id)} in Freshline]({URL}/runs/{show_run_id(run.id)})\n"
    assert found["freshline-run-backtest-book"].startswith(link)


def test_table_and_file_show_rows_bytes_and_whether_they_were_published(world, shown):
    run = world.service.submit("refresh/prices")
    claim = world.start(run)
    table = write_table(world.objects, pd.DataFrame({"x": range(1500), "date": pd.Timestamp("2026-01-02")}))
    report = save_file(world.objects, b"<h1>Fine</h1>", media_type="text/html")
    result = world.result(claim=claim)
    result.artifacts[:] = [
        ArtifactRecord.of_table("prices", table), ArtifactRecord.of_file("report.html", report, publish=False)
    ]  # fmt: skip
    world.port.complete(run.id, claim.run.fence, result)
    shown.pass_once()
    prices, report = rows_of(pages(world)["freshline-outputs-refresh-prices"])
    assert (prices[:3], prices[-1]) == (["prices", "table", "1,500"], "yes")
    assert (report[:4], report[-1]) == (["report.html", "file", "", "13"], "no")


def test_input_that_moved_while_the_run_read_it_is_not_current_any_more(world, shown):
    for key in ("refresh/prices", "refresh/momentum"):
        world.run_through(key)
    claim = world.start(world.service.submit("backtest/book"))
    world.pass_time(timedelta(seconds=1))
    world.run_through("refresh/prices", 2)
    world.pass_time(timedelta(seconds=1))
    world.complete(claim)
    world.pass_time(timedelta(seconds=1))
    world.run_through("refresh/prices", 3)  # after the end: it does not count
    shown.pass_once()
    held = {row[0]: row[-1] for row in rows_of(pages(world, claim.run)["freshline-inputs-backtest-book"])}
    assert held == {"momentum": "yes", "prices": "no: v2 was"}


def test_input_that_was_withdrawn_after_the_end_was_current_then(world, shown):
    from freshline.runs.curation import Curation

    run = book(world)
    world.pass_time(timedelta(seconds=1))
    Curation(world.database).withdraw("refresh/prices@v1", reason="wrong", actor="ada")
    shown.pass_once()
    held = {row[0]: row[-1] for row in rows_of(pages(world, run)["freshline-inputs-backtest-book"])}
    assert held == {"momentum": "yes", "prices": "yes"}


def test_failed_run_shows_what_it_was_to_read_and_its_page(world, shown):
    world.run_through("refresh/prices")
    claim = world.start(world.service.submit("refresh/momentum"))
    world.port.fail(claim.run.id, claim.run.fence, ValueError("no"), "", will_retry=False)
    shown.pass_once()
    found = pages(world, claim.run)
    assert set(found) == {"freshline-inputs-refresh-momentum", "freshline-run-refresh-momentum"}
    assert rows_of(found["freshline-inputs-refresh-momentum"])[0][-2] == "no"
    assert " · failed · ended " in found["freshline-run-refresh-momentum"]


def test_without_the_address_of_the_page_there_is_no_link(world):
    book(world)
    RunArtifacts(world.database, world.gateway).pass_once()
    assert pages(world)
    assert not [text for text in pages(world).values() if "](" in text]


@pytest.mark.parametrize(
    ("key", "names"),
    [
        ("freshline-metrics-refresh-prices", ["a | b", "<img src=x onerror=alert(1)>", "`rm`", "[c](http://e)", "*d*"]),
        (
            "freshline-outputs-refresh-prices",
            ["a | b", "<script>alert(1)</script>", "![c](http://e)", "__d__", "~~e~~"],
        ),
    ],
)
def test_names_are_shown_and_run_nothing(world, shown, key, names):
    run = world.service.submit("refresh/prices")
    claim = world.start(run)
    result = world.result(claim=claim, metrics=dict.fromkeys(names, 1.0))
    file = save_file(world.objects, b"x")
    result.artifacts[:] = [ArtifactRecord.of_file(name, file) for name in names]
    world.port.complete(run.id, claim.run.fence, result)
    shown.pass_once()
    text = pages(world)[key]
    assert [row[0] for row in rows_of(text.replace("\\|", "¦"))] == [
        markdown.cell(name).replace("\\|", "¦") for name in sorted(names)
    ]
    assert not [sign for sign in ("<img", "<script", "*d*", "__d", "~~e", "`rm`") if sign in text]
    assert not re.search(r"(?<!\\)\]\(", text)


def test_parameters_and_what_the_caller_attached_are_nowhere(world, shown):
    schema = {"type": "object", "properties": {"days": {"type": "string"}}}
    graph = world.graph
    graph.register(*(replace(one, parameter_schema=schema) for one in graph.declared.values()))
    run = world.service.submit("refresh/prices", {"days": "tuesday"}, metadata={"note": "hunter2"}, tags=["red"])
    world.complete(world.start(run))
    assert shown.pass_once() == 2
    assert not [word for word in ("days", "tuesday", "hunter2", "red") if word in "".join(pages(world).values())]


# How often, and what becomes of failures.


def test_pages_are_written_once_however_many_look(world, shown):
    book(world)
    first = shown.pass_once()
    world.pass_time(timedelta(seconds=5))
    assert (first > 0, shown.pass_once()) == (True, 0)
    assert RunArtifacts(world.database, world.gateway, URL).pass_once() == 0
    assert len(world.gateway.artifacts) == first


def test_pass_without_news_asks_prefect_nothing(world, shown):
    book(world)
    shown.pass_once()
    before = list(world.gateway.calls)
    shown.pass_once()
    assert world.gateway.calls == before


def test_run_that_is_under_way_or_was_never_started_shows_nothing(world, shown):
    world.start(world.service.submit("refresh/prices"))
    assert world.service.submit("refresh/momentum").status == "refused"
    assert (shown.pass_once(), pages(world)) == (0, {})


def test_run_that_was_deleted_before_it_was_shown_is_not(world, shown):
    claim = world.start(world.service.submit("refresh/prices"))
    world.port.fail(claim.run.id, claim.run.fence, ValueError("no"), "", will_retry=False)
    Deletions(world.database).delete(claim.run.id, actor="ada")
    assert shown.pass_once() == 0


def test_prefect_that_is_away_gets_them_later_even_from_another_program(world, shown):
    shown.pass_once()
    run = book(world)
    world.gateway.is_down = True
    with pytest.raises(PrefectError):
        shown.pass_once()
    assert world.service.get(run.id).status == "completed"
    world.pass_time(timedelta(days=3))
    world.gateway.is_down = False
    assert RunArtifacts(world.database, world.gateway, URL).pass_once() == 8


def test_prefect_that_goes_away_in_the_middle_gets_the_rest_later_and_nothing_twice(world, shown, monkeypatch):
    book(world)
    write = world.gateway.write_markdown_artifact

    def write_three(*args, **options):
        if len(world.gateway.artifacts) == 3:
            world.gateway.is_down = True
        return write(*args, **options)

    monkeypatch.setattr(world.gateway, "write_markdown_artifact", write_three)
    with pytest.raises(PrefectError):
        shown.pass_once()
    monkeypatch.undo()
    world.gateway.is_down = False
    assert (shown.pass_once(), len(world.gateway.artifacts)) == (5, 8)


def test_page_whose_reply_was_lost_is_not_written_again(world, shown):
    book(world)
    world.gateway.lose_reply_of_next("write_markdown_artifact")
    shown.pass_once()
    world.pass_time(timedelta(minutes=2))
    RunArtifacts(world.database, world.gateway, URL).pass_once()
    keys = [(one.flow_run_id, one.key) for one in world.gateway.artifacts.values()]
    assert len(keys) == len(set(keys)) == 8


def test_page_that_prefect_does_not_take_keeps_no_other_and_is_given_up(world, shown, monkeypatch, caplog):
    book(world)
    write = world.gateway.write_markdown_artifact

    def refuse_metrics(key, *args, **options):
        if key.startswith("freshline-outputs-"):
            raise InvalidInput("no")
        return write(key, *args, **options)

    monkeypatch.setattr(world.gateway, "write_markdown_artifact", refuse_metrics)
    assert shown.pass_once() == 5
    assert "freshline-outputs-backtest-book of run-" in caplog.text
    world.pass_time(timedelta(seconds=5))
    assert shown.pass_once() == 0


def test_runs_of_before_the_first_look_are_left_alone_and_all_since_are_shown_in_parts(world, shown):
    world.run_through("refresh/prices")
    world.pass_time(timedelta(hours=2))
    for content in range(45):
        world.run_through("refresh/prices", content)
    assert shown.pass_once() == 90
    world.pass_time(timedelta(seconds=5))
    world.run_through("refresh/prices", 46)
    assert shown.pass_once() == 2


def test_turn_belongs_to_one_until_it_is_given_back_or_runs_out(world, shown, monkeypatch):
    book(world)
    other = RunArtifacts(world.database, world.gateway, URL)
    answers = []
    read = world.gateway.read_artifacts

    def ask_the_other_first(*args, **options):
        if not answers:
            answers.append(other.pass_once())
        return read(*args, **options)

    monkeypatch.setattr(world.gateway, "read_artifacts", ask_the_other_first)
    assert (shown.pass_once(), answers) == (8, [0])

    def end_here(*_args, **_options):
        raise KeyboardInterrupt

    monkeypatch.setattr(shown, "_ended", end_here)
    monkeypatch.setattr("freshline.runs.run_artifacts._give_back", lambda *_: None)  # as if the process were killed
    with pytest.raises(KeyboardInterrupt):
        shown.pass_once()
    monkeypatch.undo()
    world.run_through("refresh/prices", 2)
    assert other.pass_once() == 0
    world.pass_time(timedelta(seconds=61))
    assert other.pass_once() == 2


# In the background.


@pytest.mark.parametrize(("setting", "is_written"), [("1", True), ("0", False)])
def test_background_writes_them_unless_it_is_switched_off(world, monkeypatch, setting, is_written):
    monkeypatch.setenv("FRESHLINE_PREFECT_ARTIFACTS", setting)
    monkeypatch.delenv("FRESHLINE_PAGE_URL", raising=False)
    book(world)
    program = SimpleNamespace(settings=load_settings(), database=world.database, objects=world.objects)
    background = Background(program, world.gateway, reconcile_s=60, page_url=URL)
    names = {thread.name for thread in background._threads}
    assert {"freshline-gate-artifacts", "freshline-run-artifacts"} <= names or not is_written
    assert {"freshline-gate-artifacts", "freshline-run-artifacts"}.isdisjoint(names) or is_written
    if not is_written:
        return
    written, write = threading.Event(), world.gateway.write_markdown_artifact

    def write_and_tell(key, *args, **options):
        made = write(key, *args, **options)
        if key == "freshline-run-backtest-book":
            written.set()
        return made

    monkeypatch.setattr(world.gateway, "write_markdown_artifact", write_and_tell)
    with background:
        assert written.wait(timeout=30)


@pytest.mark.parametrize("url", ["page", "javascript:alert(1)", "http://a b", "http://a)[x](http://e", "http://a<b"])
def test_address_of_a_page_that_is_none_is_refused(monkeypatch, url):
    monkeypatch.setenv("FRESHLINE_PAGE_URL", url)
    with pytest.raises(InvalidInput, match="FRESHLINE_PAGE_URL"):
        load_settings()


# The markdown.


@pytest.mark.parametrize(
    ("said", "shown_as"),
    [
        ("not_initialized", "not_initialized"),
        ("_a_ __b__", "\\_a\\_ \\_\\_b\\_\\_"),
        ("# a", "\\# a"),
        ("- a", "\\- a"),
        ("1. a", "1\\. a"),
        ("---", "\\---"),
        ("-1.5", "-1.5"),
        ("a\nb\u2028c\td", "a b c d"),
        ("x" * 400, "x" * 299 + "…"),
    ],
)
def test_text_says_in_markdown_what_it_says(said, shown_as):
    assert markdown.cell(said) == shown_as


def test_date_of_the_data_is_shown(world, shown):
    frame = pd.DataFrame({"date": [pd.Timestamp("2026-01-02")], "x": [1]})
    run = world.service.submit("refresh/prices")
    claim = world.start(run)
    result = world.result(claim=claim)
    result.artifacts[:] = [ArtifactRecord.of_table("prices", write_table(world.objects, frame, data_date="date"))]
    world.port.complete(run.id, claim.run.fence, result)
    world.gateway.end(claim.run.flow_run_id)
    world.run_through("refresh/momentum")
    shown.pass_once()
    ((_, _, _, until, _, _),) = rows_of(pages(world)["freshline-inputs-refresh-momentum"])
    assert until == str(date(2026, 1, 2))
