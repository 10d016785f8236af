from pathlib import Path

import pytest

from freshline.deployments.initialize import initialize
from freshline.storage.errors import CatalogError, NotFound
from tests.unit.deployments.project import Project

WRITTEN = """\
# our flows
name: demo   # trailing

deployments:
# first one
- name: "prices"     # quoted
  entrypoint: MODULE.refresh  # where it is
  schedules:
    - cron: "0 18 * * 1-5"   # workdays
      timezone: America/New_York
  parameters: {label: 'yes', n: 0123}
  work_pool:
    name: local
    # the end of prices

# second
- name: fit
  entrypoint: MODULE.training
  description: >
    folded text
    here
# tail comment"""

PRICES = ("prices", "dataset", "refresh")
ALPHA = ("alpha", "model", "training")


@pytest.fixture
def path(project: Project) -> Path:
    project.write_yaml(WRITTEN)
    return project.directory / "prefect.yaml"


def test_unknown_deployment_suggests_the_nearest_and_changes_nothing(path: Path) -> None:
    before = path.read_bytes()
    with pytest.raises(NotFound, match="Did you mean 'prices'"):
        initialize(path, {"prices": PRICES, "price": PRICES})
    assert path.read_bytes() == before


@pytest.mark.parametrize(
    ("adoption", "said"),
    [
        (("prices", "datset", "refresh"), "did you mean dataset"),
        (("prices", "dataset", "refrsh"), "did you mean refresh"),
        (("prices", "dataset", "training"), "does not fit"),
        (("a b", "dataset", "refresh"), "the resource name 'a b'"),
    ],
)
def test_words_that_do_not_fit_are_refused_with_the_line(path: Path, adoption: tuple[str, str, str], said: str) -> None:
    before = path.read_bytes()
    with pytest.raises(CatalogError, match=said) as caught:
        initialize(path, {"prices": adoption})
    assert (caught.value.deployment, caught.value.line) == ("prices", 6)
    assert path.read_bytes() == before


@pytest.mark.parametrize("text", ["deployments: [", "- 1", "a: 1\na: 2"])
def test_file_that_is_no_catalogue_is_refused(path: Path, text: str) -> None:
    path.write_text(text)
    with pytest.raises(CatalogError):
        initialize(path, {"prices": PRICES})


def test_name_that_stands_twice_is_refused(path: Path) -> None:
    path.write_text("deployments:\n- name: a\n- name: a\n")
    with pytest.raises(CatalogError, match="lines 2 and 3"):
        initialize(path, {"a": PRICES})


def test_layout_that_cannot_be_edited_is_refused_and_kept(path: Path) -> None:
    path.write_text("deployments:\n- entrypoint: 'a\n    b'\n  name: a\n  ? resource-not\n  : x\n")
    initialize(path, {"a": PRICES})
    path.write_text(text := "x: &x {name: a, entrypoint: b}\ndeployments: [{<<: *x, n: 1}]\n")
    with pytest.raises(NotFound):
        initialize(path, {"a": PRICES})
    assert path.read_text() == text


def test_file_that_cannot_be_written_is_refused(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.replace", full)
    with pytest.raises(CatalogError, match="No space left on device"):
        initialize(path, {"prices": PRICES})
    assert [file.name for file in path.parent.glob(".prefect-*")] == []


def test_blocks_are_added_and_everything_else_stays(project: Project, path: Path) -> None:
    before = path.read_text()
    said = initialize(path, {"fit": ALPHA, "prices": PRICES})

    after = path.read_text()
    added = [line for line in after.splitlines() if line not in before.splitlines()]
    assert added == [
        "  resource:",
        "    name: prices",
        "    kind: dataset",
        "    runs: refresh",
        "  resource:",
        "    name: alpha",
        "    kind: model",
        "    runs: training",
    ]
    for line in added:
        after = after.replace(line + "\n", "", 1)
    assert after == before
    assert said == ["line 6: prices becomes refresh/prices (dataset)", "line 17: fit becomes training/alpha (model)"]
    assert project.load().keys == ("refresh/prices", "training/alpha")


def test_second_time_changes_nothing(path: Path) -> None:
    initialize(path, {"prices": PRICES})
    once = path.read_bytes()
    assert initialize(path, {"prices": PRICES}) == ["line 6: prices has a resource block already; it was left alone"]
    assert path.read_bytes() == once


@pytest.mark.parametrize(
    "text",
    [
        "deployments: [{name: a, entrypoint: MODULE.refresh}, {name: b}]\n",
        "deployments:\r\n- name: a\r\n  entrypoint: MODULE.refresh\r\n  tags: [x]\r\n",
        "deployments:\n    -   entrypoint: MODULE.refresh\n        name: a",
        "deployments:\n- entrypoint: >-\n    MODULE.refresh\n  name: a\n  tags: [x]\n",
        "\ufeffdeployments:\n- name: a   # é\n  entrypoint: MODULE.refresh\n",
    ],
)
def test_other_layouts_are_edited_in_their_own_style(project: Project, path: Path, text: str) -> None:
    path.write_bytes(text.replace("MODULE", project.module).encode())
    initialize(path, {"a": PRICES})
    assert project.load().keys == ("refresh/prices",)
    assert path.read_bytes().count(b"\r\n") in (0, path.read_bytes().count(b"\n"))


def test_file_keeps_its_mode(path: Path) -> None:
    path.chmod(0o640)
    initialize(path, {"prices": PRICES})
    assert path.stat().st_mode & 0o777 == 0o640
