"""How a run shows itself in a notebook: what it read and whether that holds, as text, without scripts."""

import re
from xml.etree import ElementTree

import pytest

from freshline import lineage
from freshline.runs import composition, interface
from freshline.runs.notebook import drawing
from tests.unit.runs.surface import BOOK, MOMENTUM, NASTY, PRICES, publish

pytestmark = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)


@pytest.fixture
def books(world, monkeypatch):
    """Two runs of the book, whose prices have moved on since; the store that the environment names is this one."""
    made = composition.Freshline(composition.load_settings(), world.database, world.objects)
    monkeypatch.setattr(interface, "shared_freshline", lambda: made)
    monkeypatch.setattr(interface, "opened_already", lambda: made)
    for key in (PRICES, MOMENTUM, BOOK):
        run = publish(world, key, 1)
    publish(world, PRICES, 2)
    return world, run


def shown_as_xml(html):
    """The view as a tree: it is well formed, so nothing in it broke out of its place."""
    return ElementTree.fromstring(html)


def texts(root, tag):
    return ["".join(one.itertext()) for one in root.iter(tag)]


def test_run_shows_what_it_is_what_it_read_and_whether_that_holds(books):
    _, run = books
    root = shown_as_xml(interface.get(run.id)._repr_html_())
    assert f"run-{run.id}" in texts(root, "caption")
    assert "Inputs, down to the sources: 1 of 2 no longer hold" in texts(root, "caption")
    rows = [[cell.text for cell in row] for row in root.iter("tr")]
    assert ["version", f"{BOOK}@v1"] in rows
    inputs = {row[1]: row[-1] for row in rows if len(row) == 5}
    assert inputs[f"{PRICES}@v1"] == "no: there is a newer one"
    assert inputs[f"{MOMENTUM}@v1"] == "yes"


def test_drawing_has_every_version_and_dashes_what_does_not_hold(books):
    world, run = books
    root = ElementTree.fromstring(drawing(world.queries.view(run)))
    svg = "{http://www.w3.org/2000/svg}"
    boxes = {
        group.find(f"{svg}text").text: group.find(f"{svg}rect").get("stroke-dasharray")
        for group in root.iter(f"{svg}g")
    }
    assert boxes == {f"{PRICES}@v1": "4 3", f"{MOMENTUM}@v1": None, f"{BOOK}@v1": None}
    assert len(list(root.iter(f"{svg}path"))) == 3


def test_what_people_wrote_is_text_in_the_view(books):
    _, run = books
    html = interface.get(run.id)._repr_html_()
    assert "<script" not in html
    root = shown_as_xml(html)
    assert {one.tag.rpartition("}")[2] for one in root.iter()} <= {
        *("div", "table", "caption", "thead", "tbody", "tr", "th", "td"), *("svg", "title", "path", "g", "rect", "text")
    }  # fmt: skip
    assert "<script>alert(1)</script>" in " ".join(texts(root, "td"))
    assert not re.search(r"\s(on\w+|href|src)=", html)
    assert "<script" not in interface.report(run.id)._repr_html_()
    assert NASTY.encode("unicode_escape").decode() in "".join(root.itertext())


def test_run_that_has_gone_on_says_so_and_one_that_waits_shows_what_it_is_to_read(books):
    world, _ = books
    record = interface.submit(PRICES)
    waiting = interface.submit(BOOK, on_stale="force")
    world.complete(world.start(record))
    assert "pending; by now completed, get it again" in record._repr_html_()
    world.start(waiting)
    assert "Inputs, down to the sources" in interface.get(waiting.id)._repr_html_()


def test_run_of_a_store_that_is_not_open_or_fails_shows_its_record_alone(books, monkeypatch):
    world, run = books

    def fail():
        raise OSError("no disk")

    for opened in (lambda: None, fail):
        monkeypatch.setattr(interface, "opened_already", opened)
        html = run._repr_html_()
        assert "completed" in html
        assert "Inputs" not in html
    assert world.queries.view(run).inputs


def test_inputs_as_a_table_say_what_holds(books):
    world, run = books
    table = lineage.inputs(run, database=world.database, tenant_id="default").to_pandas()
    shown = table[["role", "resource", "version", "holds"]].to_numpy().tolist()
    assert shown == [["momentum", "momentum", f"{MOMENTUM}@v1", True], ["prices", "prices", f"{PRICES}@v1", False]]
    assert set(table["run_id"]) == {str(one.run_id) for one in world.queries.inputs(run.id)}


def test_record_of_a_run_will_do_where_its_id_is_asked_for(books):
    _, run = books
    assert interface.get(run).id == run.id
    assert interface.wait(run).status == "completed"
    assert interface.report(run).run.id == run.id
    assert interface.explain(run).run_id == run.id
    assert [one.key for one in interface.inputs(run)] == [MOMENTUM, PRICES]
    assert interface.events(run)[-1].kind == "run_completed"
    assert interface.latest_metrics(run).run_id == run.id
