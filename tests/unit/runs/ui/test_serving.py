"""The page's files over HTTP: what is sent, as what, and under which policy; and what the scripts must not use."""

import re
from html.parser import HTMLParser

import pytest
from starlette.applications import Starlette

from freshline.runs.ui import serving
from tests.asking import Asking

SCRIPTS = sorted((serving.FOLDER / "scripts").rglob("*.js"))
MARKUP = re.compile(
    r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|createContextualFragment|DOMParser|srcdoc|"
    r"\beval\(|new Function|javascript:|setHTML",
)
ABROAD = re.compile(r"https?://(?!www\.w3\.org/2000/svg)|[\"'`]//")


@pytest.fixture(scope="module")
def asking():
    app = Starlette()
    serving.install(app)
    with Asking(app, token=None) as made:  # type: ignore[arg-type]
        yield made


class Marks(HTMLParser):
    """What of a document a strict policy would stop."""

    def __init__(self) -> None:
        super().__init__()
        self.stopped: list[str] = []

    def handle_starttag(self, tag, attrs):
        given = dict(attrs)
        self.stopped += [f"{tag} {name}" for name in given if name.startswith("on") or name == "style"]
        if tag == "style" or (tag == "script" and not given.get("src")):
            self.stopped.append(tag)


@pytest.mark.parametrize(
    "path",
    [
        "//",
        "//runs",
        "//runs/run-1",
        "//compare?runs=run-1",
        "//deployments/refresh/prices",
        "//runs/%2e%2e?q=x&anything=1",
    ],
)
def test_every_view_is_the_same_shell_under_a_strict_policy(asking, path):
    answer = asking.request("GET", path)
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    policy = answer.headers["content-security-policy"]
    assert "unsafe" not in policy
    assert policy.startswith("default-src 'none'; script-src 'self'; style-src 'self' 'nonce-")
    assert "frame-ancestors 'none'" in policy
    marks = Marks()
    marks.feed(answer.text)
    assert marks.stopped == []


def test_nonce_is_new_with_every_answer_and_stands_in_the_page(asking):
    found = [asking.request("GET", "//") for _ in range(2)]
    nonces = [re.search(r"'nonce-([\w-]{20,})'", one.headers["content-security-policy"])[1] for one in found]
    assert nonces[0] != nonces[1]
    assert [f'nonce="{nonce}"' in one.text for nonce, one in zip(nonces, found, strict=True)] == [True, True]


@pytest.mark.parametrize("view", serving.VIEWS.values())
def test_view_names_every_script_that_it_imports_and_no_other_one(asking, view):
    path = next(path for path, script in serving.VIEWS.items() if script == view)
    text = asking.request("GET", "/" + path.replace("{", "").replace("}", "")).text
    named = re.findall(r'<link rel="modulepreload" href="/assets/scripts/([^"]+)">', text)
    assert len(named) == len(set(named))
    scripts = {name: (serving.FOLDER / "scripts" / name).read_text(encoding="utf-8") for name in named}
    imported = {name for script in scripts.values() for name in re.findall(r'from "\./([^"]+)"', script)}
    assert imported | {"app.js", view} == set(named)


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("style.css", "text/css; charset=utf-8"),
        ("scripts/app.js", "text/javascript; charset=utf-8"),
        ("icon.svg", "image/svg+xml"),
        ("bokeh.min.js", "text/javascript; charset=utf-8"),
    ],
)
def test_asset_has_its_type_and_is_not_sent_twice(asking, name, kind):
    answer = asking.request("GET", f"//assets/{name}")
    assert (answer.status_code, answer.headers["content-type"]) == (200, kind)
    assert answer.headers["x-content-type-options"] == "nosniff"
    again = asking.request("GET", f"//assets/{name}", headers={"If-None-Match": answer.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")


def test_asset_that_changes_is_sent_anew(asking, tmp_path, monkeypatch):
    script = tmp_path / "made.js"
    script.write_text("one")
    monkeypatch.setattr(serving, "assets", lambda: {"made.js": script})
    first = asking.request("GET", "//assets/made.js")
    script.write_text("three")
    again = asking.request("GET", "//assets/made.js", headers={"If-None-Match": first.headers["etag"]})
    assert (again.status_code, again.text) == (200, "three")


@pytest.mark.parametrize(
    "name",
    ["serving.py", "__init__.py", "../../storage/settings.py", "..%2f..%2fsettings.py", "index.html", "scripts", ""],
)
def test_only_what_belongs_to_the_page_is_sent(asking, name):
    assert asking.request("GET", f"//assets/{name}").status_code == 404


def test_page_takes_no_method_but_reading(asking):
    assert asking.request("POST", "//").status_code == 405


def test_everything_that_the_shell_names_is_there(asking):
    named = re.findall(r'(?:href|src)="/assets/([^"]+)"', asking.request("GET", "//").text)
    imported = {
        f"scripts/{name}"
        for script in SCRIPTS
        for name in re.findall(r'(?:from |import\()"\./([\w.-]+)"', script.read_text(encoding="utf-8"))
    }
    missing = [name for name in {*named, *imported} if name not in serving.assets()]
    assert named
    assert missing == []


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_script_parses_no_markup_and_asks_nobody_else(script):
    text = script.read_text(encoding="utf-8")
    assert MARKUP.findall(text) == []
    assert ABROAD.findall(text) == []


@pytest.mark.parametrize("styles", sorted(serving.FOLDER.glob("*.css")), ids=lambda path: path.name)
def test_styles_bring_nothing_from_elsewhere(styles):
    assert re.findall(r"url\(|@import", styles.read_text(encoding="utf-8")) == []


@pytest.mark.parametrize(
    "text", ["e.innerHTML = x", "document.write(x)", 'fetch("//cdn.example")', "https://x.example"]
)
def test_patterns_find_what_they_are_for(text):
    assert MARKUP.search(text) or ABROAD.search(text)
