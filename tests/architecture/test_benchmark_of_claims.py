"""The benchmark of a claim: both sides leave the same record, and one that does not is refused."""

import pytest

from benchmarks import claim
from benchmarks.harness import FLOOR, OURS, measure
from benchmarks.servers import Postgres
from freshline.storage.database import Database


def test_subjects_leave_the_same_record_and_are_measured(tmp_path, monkeypatch):
    monkeypatch.setattr(claim, "CLAIMS", 2)
    outcome = measure(claim.WORK, tmp_path, rounds=1, tell=lambda _: None)
    assert set(outcome.subjects) == {OURS, FLOOR}
    assert [finding.comparison.target for finding in outcome.findings()] == [3.0]


def test_floor_that_leaves_less_is_refused(postgres_url):
    server = Postgres(postgres_url)
    ours, floor = (claim.Claims.open(Database(server.make_database(f"claims_{name}"))) for name in ("ours", "floor"))
    ours.per_claim(1)
    floor.prepare(1)
    for store in (ours, floor):
        store.database.dispose()
    conninfos = [server.conninfo(f"claims_{name}") for name in ("ours", "floor")]
    (left,) = claim.left_by_claims(conninfos[0])
    assert left[0] == "running"
    with pytest.raises(AssertionError, match="leaves another record"):
        claim.check(*conninfos)
