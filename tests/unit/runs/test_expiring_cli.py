"""`freshline expiring`: what ceases to hold by a moment, with exit codes and one clear line."""

import json
import shutil
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from tests.unit.runs.test_cli import freshline

PRICES = "refresh/prices"


@pytest.fixture
def database_url(request, tmp_path):
    shutil.copy(request.getfixturevalue("sqlite_template"), tmp_path / "freshline.db")
    return f"sqlite:///{tmp_path / 'freshline.db'}"


@pytest.fixture
def published_at(world):
    """Prices hold for a day from now on, by the clock that the command has."""
    world.moment = datetime.now(UTC)
    policy = {"max_age": "1d", "warn": "1h", "fail": "2h"}
    declared = world.graph.declared | {PRICES: replace(world.graph.declared[PRICES], policy=policy)}
    world.graph.register(*declared.values())
    world.run_through(PRICES)
    return world.moment


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "Missing option '--before'"),
        (("--before", "Monday"), "'Monday' is no moment; write it like 2026-11-23T08:00"),
        (("--before", "2020-01-01T08:00"), "2020-01-01 08:00 UTC has passed"),
        (("--before", "2100-01-01", "--timezone", "New York"), "timezone: 'New York' is not a time zone"),
        (("--before", "0001-01-01", "--timezone", "Asia/Tokyo"), "0001-01-01 lies outside of the years 1 to 9999"),
    ],
)
def test_moment_that_makes_no_sense_is_one_line_and_exits_2(world, tmp_path, arguments, message):
    done = freshline(tmp_path, "expiring", *arguments, TZ="UTC")
    assert done.returncode == 2
    assert message in done.stderr
    assert "Traceback" not in done.stderr


def test_what_expires_is_shown_in_the_zone_that_was_asked_for(published_at, tmp_path):
    wanted = published_at + timedelta(days=2)
    done = freshline(tmp_path, "expiring", "--before", f"{wanted:%Y-%m-%dT%H:%M}", "--timezone", "UTC")
    assert done.returncode == 0, done.stderr
    assert f"What lapses by {wanted:%a %Y-%m-%d %H:%M} UTC: 1" in done.stdout
    (row,) = [line for line in done.stdout.splitlines() if PRICES in line]
    moments = [f"{published_at + timedelta(hours=hours):%a %Y-%m-%d %H:%M} UTC" for hours in (25, 26)]
    assert [cell.strip() for cell in row.split("  ") if cell.strip()] == [
        PRICES, "v1", "ready", "-", *moments, "max_age 1d, warn 1h, fail 2h",
    ]  # fmt: skip
    soon = published_at + timedelta(hours=25)
    done = freshline(tmp_path, "expiring", "--before", soon.isoformat())
    assert ": 0" in done.stdout


def test_what_expires_as_json_has_every_moment(published_at, tmp_path):
    wanted = published_at + timedelta(days=2)
    done = freshline(tmp_path, "expiring", "--before", wanted.isoformat(), "--json")
    assert done.returncode == 0, done.stderr
    (found,) = json.loads(done.stdout)
    assert found == {
        "deployment": PRICES,
        "version": 1,
        "freshness": "ready",
        "data_end": None,
        "published_at": published_at.isoformat(),
        "warns_at": (published_at + timedelta(hours=25)).isoformat(),
        "lapses_at": (published_at + timedelta(hours=26)).isoformat(),
        "policy": {"max_age": "1d", "warn": "1h", "fail": "2h"},
    }


def test_what_has_lapsed_is_shown_when_asked_for(published_at, tmp_path, world):
    done = freshline(tmp_path, "expiring", "--before", "2100-01-01", "--lapsed", "--json")
    assert [one["deployment"] for one in json.loads(done.stdout)] == [PRICES]
    done = freshline(tmp_path, "expiring", "--before", "2020-01-01", "--lapsed", "--json")
    assert (done.returncode, json.loads(done.stdout)) == (0, [])
