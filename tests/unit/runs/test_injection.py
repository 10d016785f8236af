"""Whatever people write stays what it is on every surface: a statement, a pattern, markup or a path that does nothing.

The page in a browser is looked at in `ui/test_written_on_the_page.py`.
"""

import json
import re
from collections.abc import Iterator
from urllib.parse import quote
from xml.etree import ElementTree

import pytest
import sqlalchemy as sa

from freshline.lineage.listing import as_html
from freshline.runs import interface
from freshline.runs.api.access import Access
from freshline.runs.api.app import create_app
from freshline.runs.cli import cli
from freshline.runs.composition import Freshline
from freshline.runs.models import Run
from freshline.runs.run_artifacts import RunArtifacts
from freshline.runs.searching.searches import Searches
from freshline.storage.artifacts import ArtifactRecord
from freshline.storage.files import save_file
from freshline.storage.ids import show_run_id
from freshline.storage.settings import Settings
from tests import corpora
from tests.asking import TOKEN, Asking
from tests.databases import new_database_url
from tests.unit.runs.conftest import World, make_world

SHOWN_CONTROLS = re.compile(r"[\x00-\x09\x0b-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ufeff]")
"""What a terminal would do instead of show, but for the end of a line."""


class Written:
    """A store in which every text of the corpora stands wherever somebody may write one."""

    def __init__(self, world: World, settings: Settings) -> None:
        self.world = world
        self.freshline = Freshline(settings, world.database, world.objects)
        self.app = create_app(self.freshline, access=Access(token=TOKEN))
        self.runs = {text: self._failed(text) for text in corpora.ALL}
        self.completed = complete_with_names(world)

    def _failed(self, text: str):
        asked = self.world.service.submit("refresh/prices", tags=[text], metadata={text: [text]}, actor=text)
        claim = self.world.start(asked)
        self.world.port.fail(asked.id, claim.run.fence, ValueError(text), f"Traceback\n{text}", will_retry=False)
        return self.world.service.get(asked.id)

    def count(self) -> int:
        with self.world.database.read() as connection:
            return connection.execute(sa.text("SELECT count(*) FROM run")).scalar_one()


def complete_with_names(world: World) -> Run:
    """A run whose metrics, units and artifacts are named after all that may be a name."""
    asked = world.service.submit("refresh/calendar")
    claim = world.start(asked)
    file = save_file(world.objects, b"x")
    result = world.result(
        claim=claim,
        metrics=dict.fromkeys(corpora.NAMES, 1.0),
        conventions={name: {"unit": name} for name in corpora.NAMES},
    )
    result.artifacts[:] = [ArtifactRecord.of_file(name, file) for name in corpora.NAMES]
    world.port.complete(asked.id, claim.run.fence, result)
    return world.service.get(asked.id)


@pytest.fixture(scope="module", params=["sqlite", "postgres"])
def written(request, tmp_path_factory) -> Iterator[Written]:
    directory = tmp_path_factory.mktemp("written")
    world = make_world(new_database_url(request, directory))
    yield Written(world, Settings(home=directory))
    world.database.dispose()


@pytest.fixture(scope="module")
def api(written) -> Iterator[Asking]:
    with Asking(written.app) as asking:
        yield asking


def test_nothing_that_was_written_did_anything(written):
    assert written.count() == len(corpora.ALL) + 1


def test_every_text_comes_back_over_rest_as_it_was_written(written, api):
    for text, run in written.runs.items():
        found = api.get(f"/runs/{show_run_id(run.id)}")
        assert (found["tags"], found["metadata"], found["actor"]) == ([text], {text: [text]}, text)
        assert found["error_message"] == text


def test_names_come_back_over_rest_and_a_download_is_an_attachment_without_a_path(written, api):
    run_id = show_run_id(written.completed.id)
    assert set(api.get(f"/runs/{run_id}")["metrics"]) == set(corpora.NAMES)
    found = api.get(f"/runs/{run_id}/artifacts")["items"]
    assert {one["name"] for one in found} == set(corpora.NAMES)
    for one in found:
        answer = api.request("GET", f"/runs/{run_id}/artifacts/{one['id']}/content")
        assert (answer.status_code, answer.content) == (200, b"x")
        given = answer.headers["content-disposition"]
        assert re.match(r'attachment; filename="[^"/\\\r\n]*"', given), given
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert "sandbox" in answer.headers["content-security-policy"]


def test_every_text_as_a_value_of_the_search_finds_the_runs_that_have_it(written):
    searches = Searches(written.world.database, tenant_id="default")
    for text, run in written.runs.items():
        said = "'" + text.replace("'", "''") + "'"
        for query, expected in (
            (f"tags has {said}", {run.id}),
            (f"error_message = {said}", {run.id}),
            (f"actor contains {said}", {other.id for held, other in written.runs.items() if text in held}),
        ):
            found = {one.run.id for one in searches.search(query).page(size=200).items}
            assert found == expected, query


def test_every_text_as_a_query_is_an_answer_or_a_problem(written, api):
    before = written.count()
    for text in (*corpora.ALL, *corpora.UNSTORABLE[:1]):
        for params in (
            {"query": text},
            {"query": f"tags has {text}"},
            {"query": f"metrics.{text} > 1"},
            {"order_by": text},
            {"cursor": text},
            {"metrics": text},
            {"deployment": text},
            {"status": text},
            {"type": text},
            {"before": text},
        ):
            answer = api.request("GET", "/runs", params=params)
            assert answer.status_code in (200, 404, 422), (params, answer.text)
            if answer.status_code != 200:
                assert answer.headers["content-type"] == "application/problem+json"
    assert written.count() == before


def test_every_text_as_a_part_of_an_address_is_not_found_or_refused(written, api):
    for text in (*corpora.ALL, *corpora.UNSTORABLE[:1]):
        part = quote(text, safe="")
        for path in (
            f"/runs/{part}",
            f"/runs/{show_run_id(written.completed.id)}/artifacts/{part}/content",
            f"/deployments/refresh/{part}",
            f"/deployments/{part}/prices/versions",
            f"/versions/refresh/prices/{part}",
            f"//assets/{part}",
        ):
            answer = api.request("GET", path)
            assert answer.status_code in (404, 405, 422), (path, answer.status_code)
            assert b"root:" not in answer.content


def test_text_that_no_database_keeps_is_refused_over_rest_wherever_it_stands(api, written):
    before = written.count()
    for text in corpora.UNSTORABLE:
        for body in (
            {"tags": [text]},
            {"metadata": {text: 1}},
            {"metadata": {"a": [text]}},
            {"actor": text},
            {"idempotency_key": text},
            {"parameters": {text: 1}},
        ):
            asked = json.dumps({"deployment": "refresh/prices"} | body)
            answer = api.request("POST", "/runs", content=asked, headers={"Content-Type": "application/json"})
            assert answer.status_code == 422, answer.text
    assert written.count() == before


def test_every_text_in_a_body_is_recorded_as_it_is_and_makes_one_run(written, api):
    before = written.count()
    for text in corpora.ALL[:12]:
        body = {"deployment": "refresh/prices", "tags": [text], "metadata": {text: text}, "actor": text}
        made = api.post("/runs", body | {"idempotency_key": text}, status=201)
        assert api.post("/runs", body | {"idempotency_key": text}, status=200)["id"] == made["id"]
        assert api.get(f"/runs/{made['id']}")["tags"] == [text]
    assert written.count() == before + 12


def test_pages_in_prefect_have_one_row_for_each_name(written):
    RunArtifacts(written.world.database, written.world.gateway).pass_once()
    of = show_run_id(written.completed.id)
    pages = {one.key: one.data for one in written.world.gateway.artifacts.values() if of in one.data}
    for what in ("metrics", "outputs"):
        text = pages[f"freshline-{what}-refresh-calendar"]
        rows = [line for line in text.splitlines() if line.startswith("| ")][2:]
        assert len(rows) == len(corpora.NAMES)
        columns = {len(re.split(r"(?<!\\)\|", row.replace("\\\\", ""))) for row in rows}
        assert len(columns) == 1, columns
        assert not re.search(r"<\w|(?<!\\)\]\(|(?<!\\)`", text)


def test_views_have_every_text_as_it_was_written(written):
    ids = {show_run_id(run.id): text for text, run in written.runs.items()}
    with written.world.database.read() as connection:
        asked = "SELECT run_id, actor, error_message, tags, metadata FROM v_runs"
        found = {row.run_id: row for row in connection.execute(sa.text(asked))}
        metrics = connection.execute(sa.text("SELECT name, value, unit FROM v_metrics")).all()
    for run_id, text in ids.items():
        row = found[run_id]
        # What a client of SQLite gets is the text of the JSON.
        tags, metadata = (json.loads(one) if isinstance(one, str) else one for one in (row.tags, row.metadata))
        assert (row.actor, row.error_message, tags, metadata) == (text, text, [text], {text: [text]})
    assert sorted(metrics) == sorted((name, 1.0, name) for name in corpora.NAMES)


# Notebooks and the command line. They ask as REST does, which gives the same texts back from both databases (above).
# What they do with them happens after: the ordinary run looks at one.

on_one_database = pytest.mark.parametrize(
    "written", ["sqlite", pytest.param("postgres", marks=pytest.mark.slow)], indirect=True
)

TAGS = frozenset({"div", "table", "caption", "thead", "tbody", "tr", "th", "td"})


@on_one_database
def test_notebook_shows_every_text_as_text_that_turns_nothing_around(written, monkeypatch):
    monkeypatch.setattr(interface, "shared_freshline", lambda: written.freshline)
    monkeypatch.setattr(interface, "opened_already", lambda: written.freshline)
    for text, run in written.runs.items():
        for shown in (interface.get(run.id), interface.report(run.id), interface.compare(run.id, written.completed.id)):
            assert as_html(text) in as_text(shown._repr_html_()), (type(shown), text)
        as_text(interface.explain(run.id)._repr_html_())
        said = interface.search("actor = '" + text.replace("'", "''") + "'")
        assert show_run_id(run.id) in as_text(said._repr_html_())
    of_all = as_text(interface.search("status = completed")._repr_html_())
    for name in corpora.NAMES:
        assert as_html(name) in of_all


def as_text(html: str) -> str:
    """The HTML, which has to be well formed, of our own elements alone, and of characters that can be seen."""
    root = ElementTree.fromstring(html)
    assert {one.tag for one in root.iter()} <= TAGS
    assert not any(one.attrib.keys() - {"colspan"} for one in root.iter())
    assert SHOWN_CONTROLS.search(html) is None
    return html


# The command line.


@pytest.fixture
def call(written, monkeypatch, capsys):
    monkeypatch.setattr(interface, "shared_freshline", lambda: written.freshline)

    def called(*arguments):
        code = cli.main(list(arguments), standalone_mode=False)
        return code or 0, capsys.readouterr().out

    return called


@on_one_database
def test_terminal_is_told_nothing_that_it_would_obey(written, call):
    for text in (*corpora.SIGNS, *corpora.MARKUP):
        run_id = show_run_id(written.runs[text].id)
        for command in (["show", run_id], ["explain", run_id]):
            said = call(*command)[1]
            assert SHOWN_CONTROLS.search(said) is None, (command, said)
    for command in (["runs"], ["show", show_run_id(written.completed.id)], ["status"]):
        assert SHOWN_CONTROLS.search(call(*command)[1]) is None, command


@on_one_database
def test_markup_of_our_own_tables_is_shown_as_it_was_written(written, call):
    text = "[bold red]b[/] [/] [link=http://e]l[/link]"
    assert text in call("explain", show_run_id(written.runs[text].id))[1]
    assert text in call("show", show_run_id(written.completed.id))[1]


@on_one_database
def test_json_of_the_command_line_has_every_text_as_it_was_written(written, call):
    for text, run in written.runs.items():
        shown = json.loads(call("show", show_run_id(run.id), "--json")[1])
        assert _has(shown, text), text


def _has(value, text: str) -> bool:
    if isinstance(value, dict):
        return any(_has(name, text) or _has(item, text) for name, item in value.items())
    if isinstance(value, list):
        return any(_has(item, text) for item in value)
    return value == text
