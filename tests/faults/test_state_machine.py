"""Whatever happens to runs in whatever order: the records stay right, on both databases."""

from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis.stateful import run_state_machine_as_test

from freshline.storage.database import Database
from tests.faults.example import Clock
from tests.faults.machine import Machine


def run_machine(url: str, **options: Any) -> None:
    """Let Hypothesis look for a history after which a record is wrong."""
    clock = Clock()
    database = Database(url, clock=clock, sqlite_synchronous="OFF")
    machine = type("MachineOnOneStore", (Machine,), {"database": database, "clock": clock})
    checks = [HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much]
    chosen = settings(deadline=None, database=None, suppress_health_check=checks, print_blob=True, **options)
    try:
        run_state_machine_as_test(machine, settings=chosen)
    finally:
        database.dispose()


def test_any_history_of_runs_keeps_the_records_right(database_url):
    # Postgres takes longer, and has the three hundred as well.
    examples = 25 if database_url.startswith("sqlite") else 10
    run_machine(database_url, max_examples=examples, stateful_step_count=30, derandomize=True)


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_any_long_history_of_runs_keeps_the_records_right(database_url):
    run_machine(database_url, max_examples=300, stateful_step_count=60)
