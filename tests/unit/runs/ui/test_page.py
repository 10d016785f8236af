"""The page in a real browser: the Runs view and the Run view, by mouse and by keyboard, over names that are markup."""

import json
from collections.abc import Iterator
from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import expect

from freshline.runs.author_events import AuthorEvent
from freshline.runs.result import Result
from freshline.runs.submission import Submission
from freshline.storage.ids import show_run_id
from tests.asking import NOBODYS, TOKEN
from tests.unit.runs.ui.conftest import (
    HOSTILE,
    HOSTILE_KEY,
    LONG,
    Served,
    Watched,
    log,
    paths_asked,
    stop_time,
    watched,
)

pytestmark = pytest.mark.browser

NAMED = "deployment = 'backtest/book'"


def rows(view: Watched) -> Any:
    return view.page.locator("table.runs tbody tr[data-id]")


def search(view: Watched, text: str) -> None:
    view.page.get_by_role("searchbox", name="Search runs").fill(text)
    view.page.keyboard.press("Enter")


def test_token_becomes_a_session_and_leaves_the_address(browser, served):
    with watched(browser, served.url) as fresh:
        fresh.go(f"/runs?order=deployment#token={TOKEN}")
        expect(rows(fresh).first).to_be_visible()
        assert fresh.page.url == f"{fresh.url}/runs?order=deployment"
        assert fresh.page.evaluate("document.cookie") == ""
        (cookie,) = fresh.page.context.cookies(f"{fresh.url}/api/v1/")
        kept = fresh.page.evaluate(
            "JSON.stringify([{...localStorage, ...sessionStorage}, history.state, document.documentElement.outerHTML])"
        )
        assert TOKEN not in f"{cookie} {kept}"


def test_wrong_token_is_told(browser, served):
    with watched(browser, served.url) as stranger:
        stranger.go("/runs#token=another-token-than-that")
        expect(stranger.page.get_by_role("alert")).to_contain_text("does not hold any more")
        expect(rows(stranger).first).to_be_visible()


@pytest.fixture
def stopped(view: Watched) -> Iterator[Watched]:
    stop_time(view.page)
    yield view
    view.page.unroute_all(behavior="ignoreErrors")  # a request may be on its way still


def test_list_is_read_once_when_it_is_opened_and_once_for_each_search(stopped):
    page, asked = stopped.page, paths_asked(stopped.page)
    stopped.go("/runs")
    expect(rows(stopped).first).to_be_visible()
    page.clock.run_for(5_000)
    search(stopped, NAMED)
    expect(rows(stopped)).to_have_count(1)
    page.clock.run_for(5_000)
    page.evaluate("async () => { await fetch('/api/v1/session'); }")  # which would be asked for after it
    of_list = [path for path in asked if path in ("/runs", "/stream", "/session")]
    assert of_list[of_list.index("/stream") :] == ["/stream", "/runs", "/runs", "/session"]


def test_what_is_told_while_the_list_is_read_has_it_read_again(stopped, served):
    page, held = stopped.page, []
    run_id = show_run_id(served.runs["pending"].id)
    told = [f'event: resync\ndata: {{}}\n\nevent: run\ndata: {{"id": "{run_id}"}}\n\n']
    page.route(
        "**/api/v1/stream",
        lambda route: route.fulfill(content_type="text/event-stream", body=told.pop()) if told else route.abort(),
    )
    page.route("**/api/v1/runs?*", lambda route: held.append((route, route.fetch())))
    stopped.go("/runs")
    page.locator("#live[data-state=waiting]").wait_for()
    page.clock.run_for(1_000)
    while not held:
        page.wait_for_timeout(20)  # which lets the page's events through
    (route, answer) = held.pop()
    route.fulfill(response=answer)
    expect(rows(stopped).first).to_be_visible()
    with page.expect_request("**/api/v1/runs?*"):
        page.clock.run_for(1_000)


def test_list_is_shown_where_no_stream_begins(stopped):
    page, held = stopped.page, []
    page.route("**/api/v1/stream", lambda route: held.append(route))  # noqa: PLW0108 - Playwright marks what it is given
    with page.expect_request("**/api/v1/stream"):
        stopped.go("/runs")
    page.clock.run_for(1_000)
    expect(rows(stopped).first).to_be_visible()
    held[0].abort()


def test_runs_are_listed_and_their_names_stay_text(listed, served):
    expect(listed.page.get_by_role("link", name=HOSTILE_KEY)).to_have_text(HOSTILE_KEY)
    failed = rows(listed).filter(has_text=HOSTILE_KEY)
    expect(failed.locator(".badge")).to_have_text("failed")
    expect(listed.page.locator("p.foot")).to_contain_text("runs")


def test_search_finds_and_its_mistake_is_shown_in_its_place(listed):
    search(listed, NAMED)
    expect(rows(listed)).to_have_count(1)
    assert "q=deployment" in listed.page.url
    search(listed, "statuss = failed")
    mistake = listed.page.locator(".mistake")
    expect(mistake).to_contain_text("did you mean 'status'")
    assert mistake.locator("pre").text_content() == "statuss = failed\n^"
    expect(listed.page.get_by_role("searchbox", name="Search runs")).to_have_attribute("aria-invalid", "true")
    search(listed, "tags has 'nobody has this'")
    listed.page.get_by_role("button", name="Show all runs").click()
    expect(rows(listed).nth(3)).to_be_visible()


def test_filters_and_order_stand_in_the_address(listed):
    listed.page.get_by_role("combobox", name="Status").select_option("completed")
    expect(rows(listed).locator(".badge", has_text="completed").nth(3)).to_be_visible()
    expect(rows(listed).locator(".badge", has_text="failed")).to_have_count(0)
    listed.page.get_by_role("button", name="Deployment").click()
    listed.page.get_by_role("button", name="Columns").click()
    listed.page.get_by_role("checkbox", name="sharpe_ratio").check()
    listed.page.keyboard.press("Escape")
    listed.page.get_by_role("columnheader", name="sharpe_ratio").get_by_role("button").click()
    expect(listed.page.get_by_role("columnheader", name="sharpe_ratio")).to_have_attribute("aria-sort", "descending")
    expect(rows(listed).first).to_contain_text("1.25")
    listed.page.reload()
    expect(rows(listed).first).to_contain_text("backtest/book")
    expect(listed.page.get_by_role("columnheader", name="sharpe_ratio")).to_have_attribute("aria-sort", "descending")
    listed.page.get_by_role("button", name="Remove the filter Status").click()
    expect(rows(listed).locator(".badge", has_text="failed").first).to_be_visible()
    assert "status" not in listed.page.url


def test_new_run_is_shown_without_being_asked_for(listed, served):
    search(listed, "tags has 'live'")
    expect(listed.page.get_by_role("heading", name="No run matches")).to_be_visible()
    expect(listed.page.locator("#live")).to_have_attribute("data-state", "live")
    button = listed.page.get_by_role("button", name="Show all runs").element_handle()
    with listed.page.expect_response("**/api/v1/runs?*"):
        served.world.service.submit("refresh/calendar", tags=["other"])
    run = served.world.service.submit("refresh/calendar", tags=["live"])
    expect(rows(listed)).to_have_attribute("data-id", show_run_id(run.id))
    assert button.evaluate("(one) => one.isConnected"), "whoever was about to press it would have missed it"
    served.world.service.cancel(run.id, actor="ann")
    expect(rows(listed).locator(".badge")).to_have_text("cancelled")


def test_run_shows_what_it_wrote_and_read(view, served):
    view.go(served.path("completed"))
    page = view.page
    expect(page.get_by_role("heading", level=1)).to_have_text("backtest/book")
    expect(page.locator(".standing")).to_contain_text("its result became the current version")
    expect(page.locator(".tile", has_text="max drawdown")).to_contain_text("−20 %")
    expect(page.locator(".tile", has=page.locator("dt", has_text=HOSTILE)).locator("dd")).to_have_text("NaN")
    curve = page.get_by_role("img", name="equity_curve: equity from 1 to 12.97, 400 of 1,200 rows")
    expect(curve.locator("canvas").first).to_be_visible()
    page.get_by_role("button", name="Show the first rows of equity_curve").click()
    expect(page.locator(".preview table tbody tr")).to_have_count(50)
    expect(page.locator(".preview")).to_contain_text(HOSTILE)
    expect(page.locator("#inputs")).to_contain_text("refresh/momentum@v1")
    expect(page.locator("#inputs .holds").first).to_have_text("yes")
    expect(page.locator(".lineage a")).to_have_count(2)
    with page.expect_download() as download:
        page.get_by_role("link", name=f"Download {HOSTILE}", exact=True).click()
    assert b"<script>" in download.value.path().read_bytes()


def test_plot_that_the_server_refuses_is_told_in_its_place(view, served):
    problem = {"code": "invalid_argument", "detail": "its rows lie too far apart"}
    view.page.route(
        "**/preview?*every=*",
        lambda route: route.fulfill(status=400, content_type="application/problem+json", body=json.dumps(problem)),
    )
    view.go(served.path("completed"))
    told = "The plot of equity_curve is not drawn: its rows lie too far apart"
    expect(view.page.locator("#artifacts").get_by_text(told)).to_be_visible()


def test_plot_that_could_not_be_loaded_is_drawn_when_its_run_is_opened_again(view, served):
    page = view.page
    page.route("**/assets/bokeh.min.js", lambda route: route.abort(), times=1)
    view.go(served.path("completed"))
    expect(page.locator("#artifacts").get_by_text("The plot could not be loaded.").first).to_be_visible()
    page.locator("nav [data-view=runs]").click()
    rows(view).filter(has_text="backtest/book").get_by_role("link").first.click()
    expect(page.get_by_role("img", name="equity_curve: equity").locator("canvas").first).to_be_visible()


def test_many_metrics_are_shown_in_part_and_found_by_name(view, served):
    world = served.world
    run = world.service.submit("refresh/calendar")
    claim = world.start(run)
    world.port.complete(run.id, claim.run.fence, Result(metrics={f"ic_{place:02}": place for place in range(30)}))
    view.go(f"/runs/{show_run_id(run.id)}")
    tiles = view.page.locator(".tile")
    expect(tiles).to_have_count(24)
    view.page.get_by_role("searchbox", name="Filter metrics").fill("IC_29")
    expect(tiles).to_have_text("ic 2929")
    expect(view.page.locator(".sifting")).to_contain_text("1 of 30 metrics")
    view.page.get_by_role("searchbox", name="Filter metrics").fill("")
    view.page.get_by_role("button", name="Show all 30").click()
    expect(tiles).to_have_count(30)


def test_failed_run_says_why_and_runs_nothing_of_it(view, served):
    view.go(served.path("failed"))
    page = view.page
    expect(page.locator(".failure")).to_contain_text(f"ValueError {HOSTILE}")
    page.get_by_text("Traceback", exact=True).click()
    expect(page.locator(".failure pre")).to_have_text(f"Traceback\n{HOSTILE}")
    expect(page.locator(".log li").first).to_contain_text("Failed")
    expect(page.locator(".log")).to_contain_text(f"name {HOSTILE}")
    expect(page.locator("#asked-for")).to_contain_text(HOSTILE)
    expect(page.locator(".run-head .facts")).to_contain_text(f"by {HOSTILE}")


def test_run_grows_before_the_eyes(view, served):
    view.go(served.path("running"))
    page = view.page
    expect(page.get_by_role("img", name="loss: 3 values, from 2 to 3, last 2")).to_be_visible()
    attempt = served.attempt
    claim = attempt.claim
    log(attempt, 1.5)
    attempt.world.port.record(claim.run.id, claim.run.fence, [AuthorEvent(name="halfway")], progress=0.5)
    expect(page.locator(".log li").filter(has_text="halfway")).to_be_visible()
    expect(page.get_by_role("progressbar", name="Progress")).to_have_attribute("aria-valuenow", "50")
    expect(page.get_by_role("img", name="loss: 4 values")).to_be_visible()
    attempt.complete()
    expect(page.locator(".title .badge")).to_have_text("completed")
    expect(page.locator("#said")).to_contain_text("The run is completed")
    expect(page.locator("#live")).to_have_attribute("data-state", "ended")
    expect(page.get_by_role("button", name="Cancel run")).to_have_count(0)


def test_cancel_asks_first_and_is_recorded(view, served):
    view.go(served.path("pending"))
    page = view.page
    page.get_by_role("button", name="Cancel run").click()
    page.get_by_role("dialog").get_by_role("button", name="Back").click()
    expect(page.locator(".title .badge")).to_have_text("pending")
    page.get_by_role("button", name="Cancel run").click()
    page.get_by_role("dialog").get_by_role("button", name="Cancel run").click()
    expect(page.locator(".title .badge")).to_have_text("cancelled")
    assert served.world.service.get(served.runs["pending"].id).status == "cancelled"


def test_stranger_reads_and_is_told_what_cancelling_needs(browser, served):
    run = served.world.service.submit("refresh/calendar")
    with watched(browser, served.url) as stranger:
        stranger.go(f"/runs/{show_run_id(run.id)}")
        stranger.page.get_by_role("button", name="Cancel run").click()
        stranger.page.get_by_role("dialog").get_by_role("button", name="Cancel run").click()
        expect(stranger.page.get_by_role("alert")).to_contain_text("not signed in")
    assert served.world.service.get(run.id).status == "pending"


@pytest.mark.parametrize("path", [f"/runs/{NOBODYS}", "/runs/run-1", f"/runs/{HOSTILE.replace('/', '')}"])
def test_run_that_is_not_there_is_told(view, path):
    view.go(path)
    expect(view.page.locator("main").get_by_role("alert")).to_be_visible()


def test_keyboard_alone_finds_and_opens_a_run(listed):
    page, press = listed.page, listed.page.keyboard.press
    expect(rows(listed).first).to_be_visible()
    page.evaluate("document.activeElement.blur(), document.querySelector('.view').dataset.kept = 'yes'")
    press("Tab")
    expect(page.get_by_role("link", name="Skip to the content")).to_be_focused()
    press("Enter")
    expect(page.locator("main")).to_be_focused()
    expect(page.locator(".view[data-kept]")).to_be_visible()  # the same view, not a new one that takes the focus
    press("/")
    expect(page.get_by_role("searchbox", name="Search runs")).to_be_focused()
    page.keyboard.type("status = completed")
    press("Enter")
    expect(rows(listed).locator(".badge", has_text="failed")).to_have_count(0)
    links = rows(listed).get_by_role("link")
    for _ in range(30):
        press("Tab")
        if page.evaluate("Boolean(document.activeElement.closest('tr[data-id]'))"):
            break
    expect(rows(listed).get_by_role("checkbox").first).to_be_focused()
    press("Tab")
    expect(links.first).to_be_focused()
    press("ArrowDown")
    expect(links.nth(1)).to_be_focused()
    outline = page.evaluate("getComputedStyle(document.activeElement).outlineStyle")
    assert outline == "solid"
    wanted = links.nth(1).get_attribute("href")
    press("Enter")
    expect(page.get_by_role("heading", name="Events")).to_be_visible()
    assert page.url == wanted
    expect(page.locator("main")).to_be_focused()


@pytest.mark.parametrize("scheme", ["light", pytest.param("dark", marks=pytest.mark.slow)])
def test_views_are_usable_with_help(browser, served, scheme):
    # The checker styles what it looks at, which the page's policy would stop.
    with watched(browser, served.url, color_scheme=scheme, reduced_motion="reduce", bypass_csp=True) as view:
        for path, ready in (
            ("/runs?metrics=sharpe_ratio", "table.runs tbody tr[data-id]"),
            (served.path("completed"), ".lineage svg"),
        ):
            view.go(path)
            expect(view.page.locator(ready).first).to_be_visible()
            found = Axe().run(view.page, options={"resultTypes": ["violations"]}).response["violations"]
            assert [(one["impact"], one["id"], one["nodes"][0]["html"]) for one in found] == []


def test_narrow_page_does_not_scroll_sideways(browser, served):
    with watched(browser, served.url, viewport={"width": 400, "height": 800}) as view:
        for path in ("/runs", served.path("completed"), served.path("failed")):
            view.go(path)
            expect(view.page.locator("main h1").first).to_be_attached()
            assert view.page.evaluate("document.documentElement.scrollWidth") <= 400
        value = view.page.locator("#asked-for .facts dd", has_text=LONG)
        assert value.bounding_box()["width"] > 120, "a long name leaves its value no room"


def test_chosen_colours_are_kept(listed):
    def ground():
        return listed.page.evaluate("getComputedStyle(document.body).backgroundColor")

    before = ground()
    listed.page.get_by_role("combobox", name="Colours").select_option("dark")
    assert ground() != before
    listed.page.reload()
    assert ground() != before
    listed.page.get_by_role("combobox", name="Colours").select_option("system")
    assert ground() == before


def test_long_list_loads_as_it_is_scrolled_and_draws_what_is_in_sight(listed, served: Served):
    served.world.service.submit_many([Submission(deployment="refresh/calendar", tags=["many"]) for _ in range(230)])
    search(listed, "tags has 'many'")
    expect(listed.page.locator("p.foot")).to_contain_text("100 runs, and more")
    scroller, foot = listed.page.locator(".list .scroll"), listed.page.locator("p.foot")
    while (said := foot.text_content() or "") != "230 runs":
        scroller.evaluate("(element) => { element.scrollTop = element.scrollHeight; }")
        expect(foot).not_to_have_text(said)
    scroller.evaluate("(element) => { element.scrollTop = element.scrollHeight; }")
    expect(rows(listed).last).to_have_attribute("aria-rowindex", "231")
    assert rows(listed).count() < 120
