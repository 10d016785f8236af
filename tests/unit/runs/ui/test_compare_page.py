"""The Compare view and the Deployment view in a real browser, by mouse and by keyboard, over names that are markup."""

from typing import Any
from urllib.parse import quote

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import expect

from freshline.runs.curation import Curation
from freshline.storage.ids import show_run_id
from tests.asking import NOBODYS
from tests.unit.runs.test_point_sending import Attempt
from tests.unit.runs.ui.conftest import HOSTILE, HOSTILE_KEY, Served, Watched, log, watched

pytestmark = pytest.mark.browser

NOTHING = "\N{EN DASH}"
REASON = f"wrong {HOSTILE}"


def shown(served: Served, *names: str) -> str:
    return ",".join(show_run_id(served.runs[name].id) for name in names)


def row(view: Watched, fact: str) -> Any:
    return view.page.locator(f'.compare tr[data-fact="{fact}"]')


def deployment(key: str) -> str:
    return f"/deployments/{'/'.join(quote(part, safe='') for part in key.split('/', 1))}"


def count_since(view: Watched) -> None:
    """Let the page ask for the days of the store, whose clock stands still, in the place of the last thirty."""
    span = "since=2026-01-01&until=2026-01-31"
    view.page.route("**/statistics?*", lambda route: route.continue_(url=route.request.url.replace("since=30d", span)))


@pytest.fixture(scope="module")
def momentum(served: Served) -> Served:
    """A deployment with a version that is withdrawn, one with a label and an alias, and causes of being stale."""
    world = served.world
    world.run_through("refresh/momentum", content=2)
    world.run_through("refresh/momentum", content=3)
    curation = Curation(world.database)
    curation.withdraw("refresh/momentum@v1", REASON, actor="ann")
    curation.set_alias("refresh/momentum@v2", "champion", actor="ann")
    world.run_through("refresh/prices", content=7)
    return served


def test_ticked_runs_are_compared_and_the_first_one_may_be_another(listed, served):
    page = listed.page
    for name in ("completed", "failed"):
        page.locator(f'tr[data-id="{show_run_id(served.runs[name].id)}"]').get_by_role("checkbox").check()
    page.get_by_role("link", name="Compare 2 runs").click()
    expect(page).to_have_url(f"{listed.url}/compare?runs={shown(served, 'completed', 'failed')}")
    expect(page.locator(".compare-head p")).to_contain_text("These 2 runs differ in")
    expect(row(listed, "outcome.error_message").locator("td")).to_have_text([NOTHING, f"≠differs: {HOSTILE}"])
    expect(row(listed, "request.deployment").locator("td").nth(1)).to_contain_text(HOSTILE_KEY)
    expect(row(listed, "metrics.sharpe_ratio").locator("td").nth(1)).to_have_attribute("data-differs", "yes")
    expect(page.get_by_role("link", name="refresh/momentum@v1")).to_be_visible()
    page.get_by_role("button", name="Compare the others with").click()
    expect(row(listed, "metrics.sharpe_ratio").locator("td")).to_have_text([NOTHING, "≠differs: 1.25"])
    expect(page.get_by_role("heading", name="Compare runs")).to_be_focused()
    alike = row(listed, "code.git_commit")
    expect(alike).to_have_count(0)
    page.get_by_role("checkbox", name="Only differences").uncheck()
    expect(alike).to_have_count(1)
    page.reload()
    expect(alike).to_have_count(1)
    expect(page.locator("th.run").first).to_have_attribute("data-id", shown(served, "failed"))


def test_run_is_compared_with_another_one_that_is_offered_or_named(view, served):
    page = view.page
    view.go(served.path("completed"))
    page.get_by_role("link", name="Compare…").click()
    expect(page.locator("#with")).to_contain_text("It has no other run.")
    page.get_by_role("button", name="Add a run").click()
    page.get_by_role("textbox", name="Id of a run").fill(shown(served, "running"))
    page.keyboard.press("Enter")
    expect(page.locator("th.run")).to_have_count(2)
    expect(page.get_by_role("img", name="loss of 1 run; last values")).to_be_visible()
    page.get_by_role("button", name="Leave out").first.click()
    expect(page.locator("#with .candidate").first).to_be_visible()
    page.locator("#with .candidate").first.click()
    expect(page.locator("th.run")).to_have_count(2)
    assert page.url.count("run-") == 2


def test_metrics_of_runs_lie_over_one_another_as_they_grow(view, served, tmp_path):
    attempt = Attempt(served.world, tmp_path)
    log(attempt, 5.0, 4.0)
    page = view.page
    page.clock.install()
    view.go(f"/compare?runs={shown(served, 'running')},{show_run_id(attempt.run.id)}")
    expect(page.get_by_role("img", name="loss of 2 runs; last values")).to_be_visible()
    expect(page.locator("#series canvas").first).to_be_visible()
    log(attempt, 0.25)
    page.clock.run_for(6_000)
    expect(row(view, "metrics.loss").locator("td").nth(1)).to_contain_text("0.25")
    attempt.complete()


@pytest.mark.parametrize("ids", [f"run-{NOBODYS},run-1", f"x,{HOSTILE}", f"run-{NOBODYS}"])
def test_runs_that_are_not_there_are_told(view, ids):
    view.go(f"/compare?runs={quote(ids)}")
    expect(view.page.locator("main").get_by_role("alert")).to_be_visible()


def test_comparing_nothing_says_what_to_do(view):
    view.go("/compare")
    view.page.locator(".empty").get_by_role("link", name="list of runs").click()
    expect(view.page.get_by_role("heading", name="Runs", exact=True)).to_be_attached()


def test_keyboard_alone_ticks_two_runs_and_compares_them(listed):
    page, press = listed.page, listed.page.keyboard.press
    boxes = page.locator("table.runs tbody").get_by_role("checkbox")
    boxes.first.focus()
    press("Space")
    press("ArrowDown")
    expect(boxes.nth(1)).to_be_focused()
    press("Space")
    way = page.get_by_role("link", name="Compare 2 runs")
    for _ in range(12):
        press("Shift+Tab")
        if way.evaluate("(link) => link === document.activeElement"):
            break
    expect(way).to_be_focused()
    press("Enter")
    expect(page.locator("th.run")).to_have_count(2)
    expect(page.locator("main")).to_be_focused()


def test_deployment_says_how_it_stands_and_why(view, momentum):
    page = view.page
    count_since(view)
    view.go("/?node=refresh/momentum")
    page.get_by_role("link", name="Open", exact=True).click()
    expect(page.get_by_role("heading", level=1)).to_have_text("refresh/momentum")
    expect(page.locator(".title .badge").first).to_have_text("stale")
    expect(page.locator("#why")).to_contain_text("refresh/prices is at v")
    versions = page.locator("#versions tbody tr")
    expect(versions).to_have_count(3)
    expect(versions.nth(0)).to_contain_text("current")
    expect(versions.nth(1)).to_contain_text("champion")
    expect(versions.nth(2)).to_contain_text(f"withdrawn {REASON}")
    expect(page.locator("#runs tbody tr")).to_have_count(3)
    expect(page.locator("#statistics .tile").first).to_have_text("runs3")
    expect(page.locator("#statistics").get_by_role("img", name="Runs per day")).to_be_visible()
    expect(page.locator("#downstream")).to_contain_text("backtest/book")
    page.locator("#upstream").get_by_role("link", name="refresh/prices").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("refresh/prices")
    expect(page.locator("#why")).to_be_hidden()


def test_deployment_is_run_and_forced_from_its_page(view, served):
    page = view.page
    view.go(deployment(HOSTILE_KEY))
    expect(page.get_by_role("heading", level=1)).to_have_text(HOSTILE_KEY)
    runs = page.locator("#runs tbody tr")
    expect(page.locator("#live")).to_have_attribute("data-state", "live")
    expect(runs.last).to_contain_text("failed")
    before = runs.count()
    page.get_by_role("button", name="Run", exact=True).click()
    expect(runs).to_have_count(before + 1)
    page.get_by_role("button", name="Force…").click()
    page.get_by_role("dialog").get_by_role("button", name="Force the run").click()
    expect(runs).to_have_count(before + 2)
    expect(runs.first.locator(".badge")).to_have_text("pending")
    newest = runs.first.get_by_role("link").get_attribute("href").rpartition("/")[2]
    served.world.service.cancel(newest, actor="ann")
    expect(runs.first.locator(".badge")).to_have_text("cancelled")


@pytest.mark.parametrize("path", ["/deployments/refresh/nothing", deployment(f"x/{HOSTILE}")])
def test_deployment_that_is_not_there_is_told(view, path):
    view.go(path)
    expect(view.page.locator("main").get_by_role("alert")).to_be_visible()


def test_page_asks_again_with_the_tag_of_what_it_has(view):
    page = view.page
    view.go(deployment("backtest/book"))
    expect(page.locator("#versions tbody tr")).to_have_count(1)
    page.get_by_role("navigation").get_by_role("link", name="Runs").click()
    expect(page.get_by_role("searchbox")).to_be_visible()
    with page.expect_request("**/api/v1/deployments/backtest/book") as asked:
        page.go_back()
    assert asked.value.all_headers()["if-none-match"].startswith('"')
    expect(page.locator("#versions tbody tr")).to_have_count(1)


@pytest.mark.parametrize("scheme", ["light", pytest.param("dark", marks=pytest.mark.slow)])
def test_views_are_usable_with_help(browser, momentum, scheme):
    # The checker styles what it looks at, which the page's policy would stop.
    with watched(browser, momentum.url, color_scheme=scheme, reduced_motion="reduce", bypass_csp=True) as view:
        count_since(view)
        for path, ready in (
            (f"/compare?runs={shown(momentum, 'completed', 'failed', 'running')}", "#series canvas"),
            (deployment("refresh/momentum"), "#statistics svg"),
        ):
            view.go(path)
            expect(view.page.locator(ready).first).to_be_visible()
            found = Axe().run(view.page, options={"resultTypes": ["violations"]}).response["violations"]
            assert [(one["impact"], one["id"], one["nodes"][0]["html"]) for one in found] == []


def test_narrow_page_does_not_scroll_sideways(browser, momentum):
    with watched(browser, momentum.url, viewport={"width": 400, "height": 800}) as view:
        for path, ready in (
            (f"/compare?runs={shown(momentum, 'completed', 'failed')}", "th.run"),
            (deployment(HOSTILE_KEY), "#runs tbody tr"),
            (deployment("refresh/momentum"), "#versions tbody tr"),
        ):
            view.go(path)
            expect(view.page.locator(ready).first).to_be_attached()
            assert view.page.evaluate("document.documentElement.scrollWidth") <= 400
