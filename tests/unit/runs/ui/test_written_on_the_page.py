"""What people write is text on the page, in a real browser: no markup, no link, nothing that turns text around.

The runs are those of the other surfaces' tests, and one more that has every text at once.
"""

from collections.abc import Iterator
from pathlib import Path
from shutil import copy
from typing import Any

import pytest
from playwright.sync_api import expect

from freshline.runs.api.serving import Serving
from freshline.runs.author_events import AuthorEvent
from freshline.runs.composition import Freshline
from freshline.storage.ids import show_run_id
from freshline.storage.settings import Settings
from tests import corpora
from tests.asking import TOKEN
from tests.unit.runs.conftest import make_world
from tests.unit.runs.test_injection import SHOWN_CONTROLS, complete_with_names
from tests.unit.runs.ui.conftest import watched

pytestmark = pytest.mark.browser


class Everything:
    """A run that failed and one that completed, whose texts are all that somebody may write."""

    def __init__(self, directory: Path, template: Path) -> None:
        copy(template, directory / "freshline.db")
        self.world = world = make_world(f"sqlite:///{directory / 'freshline.db'}")
        said = "\n".join(corpora.ALL)
        asked = world.service.submit(
            "refresh/prices", tags=list(corpora.ALL), metadata={text: text for text in corpora.ALL}, actor=said
        )
        claim = world.start(asked)
        noted = [AuthorEvent(name=name, data={name: [name]}) for name in corpora.NAMES]
        world.port.record(asked.id, claim.run.fence, noted)
        world.port.fail(asked.id, claim.run.fence, ValueError(said), f"Traceback\n{said}", will_retry=False)
        self.failed = show_run_id(asked.id)
        self.completed = show_run_id(complete_with_names(world).id)
        self.freshline = Freshline(Settings(home=directory, api_token=TOKEN), world.database, world.objects)


@pytest.fixture(scope="module")
def everything(tmp_path_factory: pytest.TempPathFactory, sqlite_template: Path) -> Iterator[Everything]:
    made = Everything(tmp_path_factory.mktemp("written"), sqlite_template)
    yield made
    made.world.database.dispose()


def test_every_text_is_text_on_the_page(browser: Any, everything: Everything) -> None:
    with Serving(everything.freshline, port=0) as serving, watched(browser, serving.url) as view:
        page = view.page
        view.go(f"/runs/{everything.failed}")
        expect(page.locator(".tag")).to_have_count(len(corpora.ALL))
        expect(page.locator(".failure")).to_be_visible()
        expect(page.locator(".log li").nth(len(corpora.NAMES))).to_be_attached()
        shown = look(page)
        assert [text for text in corpora.ALL if written_out(text) not in shown] == []
        view.go(f"/runs/{everything.completed}")
        # By the keyboard: a browser may load beforehand where a link leads that the mouse comes to lie on.
        page.get_by_role("button", name=f"Show all {len(corpora.NAMES)}", exact=True).press("Enter")
        expect(page.locator(".tile").nth(len(corpora.NAMES) - 1)).to_be_attached()
        expect(page.locator("#artifacts tbody tr").nth(len(corpora.NAMES) - 1)).to_be_attached()
        shown = look(page)
        assert [name for name in corpora.NAMES if name not in shown] == []
        view.go("/runs")
        expect(page.locator("table.runs tbody tr[data-id]")).to_have_count(2)
        page.get_by_role("button", name="Columns").click()
        expect(page.locator("#columns label").nth(len(corpora.NAMES) - 1)).to_be_visible()
        look(page)


def look(page: Any) -> str:
    """The text of the page, which has no link to elsewhere, and no character that cannot be seen in text or title."""
    hrefs = page.eval_on_selector_all("[href]", "(found) => found.map((one) => one.href.baseVal ?? one.href)")
    assert [one for one in hrefs if not one.startswith(page.url.partition("/runs")[0])] == []
    text: str = page.evaluate("document.body.textContent")
    titles: list[str] = page.eval_on_selector_all(
        "[title], [aria-label]", "(found) => found.flatMap((one) => [one.title ?? '', one.ariaLabel ?? ''])"
    )
    for one in (text, *titles):
        found = SHOWN_CONTROLS.search(one.replace("\t", " "))
        assert found is None, one[max(0, found.start() - 40) : found.end() + 40]
    return text


def written_out(text: str) -> str:
    """The text as the page has it."""
    return "".join(as_shown(one) if SHOWN_CONTROLS.match(one) and one != "\t" else one for one in text)


def as_shown(character: str) -> str:
    code = ord(character)
    return f"\\x{code:02x}" if code < 256 else f"\\u{code:04x}"
