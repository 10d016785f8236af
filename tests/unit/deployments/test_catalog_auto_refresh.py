"""`auto_refresh:` as people write it in prefect.yaml: what it means, and how a bad one is refused."""

from datetime import timedelta

import pytest

from freshline.storage.auto_refresh import AutoRefresh, read_auto_refresh
from freshline.storage.errors import CatalogError
from tests.unit.deployments.project import Project, refuse_bad

PRICES = """
name: prices
entrypoint: MODULE.refresh
resource:
  name: prices
  kind: dataset
  runs: refresh
  auto_refresh: {}
"""


def loaded(project: Project, written: str) -> AutoRefresh | None:
    project.write_deployments(PRICES.replace("{}", written))
    (spec,) = project.load(check_policy=refuse_bad).deployments
    return spec.auto_refresh


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("true", AutoRefresh()),
        ("{ }", AutoRefresh()),
        ("false", None),
        ("~", None),
        ("{quiet: 30s, at_most_every: 1w}", AutoRefresh(timedelta(seconds=30), at_most_every=timedelta(weeks=1))),
        ("{quiet: 0s}", AutoRefresh(timedelta(0))),
    ],
)
def test_auto_refresh_is_read_and_stored_with_every_default(
    project: Project, written: str, meant: AutoRefresh | None
) -> None:
    found = loaded(project, written)
    assert found == meant
    if found is not None:
        assert read_auto_refresh(found.to_json()) == meant
        assert found.to_json().keys() == {"quiet", "wait_at_most", "at_most_every"}


@pytest.mark.parametrize(
    ("written", "said"),
    [
        ("often", "`auto_refresh` must be true, false or options like {quiet: 30s, at_most_every: 10m}, not the text"),
        ("10", "not the number 10"),
        ("[30s]", "not a list"),
        ("{quite: 30s}", "auto_refresh: unknown option 'quite'; did you mean quiet?"),
        ("{quiet: 30}", "`quiet`: 30 is not a duration; write it like 90m, 2h, 1d12h or 1w"),
        ("{quiet: -30s}", "`quiet`: '-30s' is not a duration"),
        ("{at_most_every: 0s}", "write at least 1s"),
        ("{at_most_every: 2000d}", "'2000d' is longer than 52w2d; leave auto_refresh out"),
        ("{wait_at_most: 999999999999w}", "is longer than 52w2d"),
        ("{quiet: 1h}", "`wait_at_most` (10m) is shorter than `quiet` (1h)"),
        ("{1: 2s}", "the key 1 is not text; quote it"),
    ],
)
def test_auto_refresh_that_cannot_be_read_names_deployment_line_and_fix(
    project: Project, written: str, said: str
) -> None:
    with pytest.raises(CatalogError) as caught:
        loaded(project, written)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)
    assert (caught.value.deployment, caught.value.line) == ("prices", 8)


def test_auto_refresh_of_an_external_resource_is_refused(project: Project) -> None:
    project.write_yaml("resources:\n  - {external: true, name: vendor, kind: dataset, auto_refresh: true}\n")
    with pytest.raises(CatalogError, match="unknown key 'auto_refresh'"):
        project.load(check_policy=refuse_bad)


def test_auto_refresh_is_no_part_of_the_declaration(project: Project) -> None:
    digests = set()
    for written in ("true", "false", "{quiet: 1m}"):
        project.write_deployments(PRICES.replace("{}", written))
        digests.add(project.load(check_policy=refuse_bad).deployments[0].declaration_digest)
    assert len(digests) == 1
