"""Freshness policies as people write them in YAML: what is kept of them, and how a bad one is refused."""

import json
from datetime import UTC, date, datetime

import pytest

from freshline.lineage.freshness import parse_policy
from freshline.storage.errors import CatalogError
from tests.unit.deployments.project import Project

PRICES = """
name: prices
entrypoint: MODULE.refresh
resource:
  name: prices
  kind: dataset
  runs: refresh
  freshness: {}
"""


def load(project: Project, policy: str) -> object:
    project.write_deployments(PRICES.replace("{}", policy))
    return project.load(check_policy=parse_policy)


@pytest.mark.parametrize(
    ("policy", "said"),
    [
        ("{weekly: friday, at: 18:00}", '1080 is what YAML reads 18:00 as; quote it: "18:00"'),
        ("{weekly: friday, at: 18:30, timezone: UTC}", 'quote it: "18:30"'),
        ("{monthly: yes, at: '18:00'}", "True is not a day of a month"),
        (
            "{irregular: [2026-03-18]}",
            '`irregular` lists 2026-03-18 without a time of day; write `at: "18:00"` beside it',
        ),
        ("{max_age: 1d, warn: 2h}", "`warn` (2h) must be shorter than `fail` (0s)"),
        ("{calendar: NYSE2}", "'NYSE2' is not a calendar of exchange_calendars"),
        ("{cron: 0 0 30 2 *}", "is never due"),
        ("daily", "`freshness` must be a policy like {max_age: 1d}, not the text 'daily'"),
    ],
)
def test_policy_that_cannot_be_read_names_deployment_line_and_fix(project: Project, policy: str, said: str) -> None:
    with pytest.raises(CatalogError) as caught:
        load(project, policy)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)
    assert (caught.value.deployment, caught.value.line) == ("prices", 8)


def test_dates_of_a_policy_are_kept_as_text_that_means_the_same(project: Project) -> None:
    written = '{irregular: [2026-03-18, 2026-06-17 09:30:00, 2026-09-16 14:00:00+02:00], at: "14:00"}'
    (spec,) = load(project, written).deployments  # type: ignore[attr-defined]
    assert spec.freshness == {
        "irregular": ["2026-03-18", "2026-06-17T09:30:00", "2026-09-16T14:00:00+02:00"],
        "at": "14:00",
    }
    policy = parse_policy(json.loads(json.dumps(spec.freshness)))
    due = [policy.lapses_at(run_at=datetime(2026, month, 1, tzinfo=UTC), data_date=None) for month in (3, 6, 9)]
    assert due == [
        datetime(2026, 3, 18, 14, tzinfo=UTC),
        datetime(2026, 6, 17, 9, 30, tzinfo=UTC),
        datetime(2026, 9, 16, 12, tzinfo=UTC),
    ]
    assert date.fromisoformat(spec.freshness["irregular"][0]) == date(2026, 3, 18)
