"""The benchmarks of tables: both sides bring the same rows back, and an append is one."""

import pytest

from benchmarks import tables
from benchmarks.harness import FLOOR, OURS, measure


@pytest.mark.parametrize("name", tables.works())
def test_subjects_do_equal_work_and_are_measured(tmp_path, name):
    work = tables.works(rows=2_000, long_rows=20_000)[name]
    # Measuring it refuses rows that do not come back.
    outcome = measure(work, tmp_path, rounds=1, tell=lambda _: None)
    assert set(outcome.subjects) == {OURS, FLOOR}
    assert [finding.comparison.target for finding in outcome.findings()] == [
        {"table_local": 1.15, "table_s3": 1.15, "append_time": 0.05, "append_bytes": 0.02}[name]
    ]
