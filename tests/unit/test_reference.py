"""The reference pages say what the code says: what `make docs` would write is what stands there."""

import pytest

from tests.pages import DOCS, ROOT
from tests.reference import commands, pages


@pytest.fixture(scope="module")
def outdated():
    return {str(page.relative_to(ROOT)): text for page, text in pages.outdated().items()}


def test_pages_say_what_the_code_says(outdated):
    assert list(outdated) == [], "these pages differ from the code: run `make docs`"


def test_everything_that_can_be_written_stands_on_a_page():
    marked = {
        found[1].partition(": ")[0]
        for page in DOCS.rglob("*.md")
        for found in pages.BLOCK.finditer(page.read_text(encoding="utf-8"))
    }
    assert marked == pages.WRITERS.keys()


def test_every_mark_that_begins_ends(outdated):
    for page in DOCS.rglob("*.md"):
        text = page.read_text(encoding="utf-8")
        counts = {
            text.count("<!-- generated:"),
            text.count("<!-- end of generated -->"),
            len(pages.BLOCK.findall(text)),
        }
        assert len(counts) == 1, f"{page} has a mark without its other half"


def test_page_that_differs_from_the_code_is_found(tmp_path):
    page = tmp_path / "page.md"
    page.write_text(f"Mine.\n\n{pages.block('transitions').replace('`paused`', '`resting`')}\nMine too.\n")
    assert pages.written(page) == f"Mine.\n\n{pages.block('transitions')}\nMine too.\n"


def test_mark_that_nobody_writes_is_refused(tmp_path):
    page = tmp_path / "page.md"
    page.write_text("<!-- generated: setings -->\n<!-- end of generated -->\n")
    with pytest.raises(AssertionError, match="nothing is written under 'setings'"):
        pages.written(page)


def test_command_without_a_section_gets_one_and_what_was_written_by_hand_stays():
    text = commands.with_every_command("# Command line\n\n### `freshline status`\n\nBy hand.\n\n## Next\n")
    assert "By hand.\n\n<!-- generated: command: status -->\n<!-- end of generated -->\n\n## Next\n" in text
    assert "### `freshline submit`\n\nRun a DEPLOYMENT" in text
    assert commands.with_every_command(text) == text


def test_command_whose_place_is_in_the_wrong_section_is_put_right():
    right = commands.with_every_command("# Command line\n\n### `freshline status`\n\nBy hand.\n")
    place = "<!-- generated: command: status -->\n<!-- end of generated -->\n\n"
    assert right.count(place) == 1
    assert commands.with_every_command(right.replace(place, "") + f"\n{place}") == right
