"""How the newest runs are read."""

import pytest
import sqlalchemy as sa


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
def test_newest_runs_are_read_in_their_order(world):
    """SQLite takes any index to be selective: by that of the tenant it would read all runs, and sort them."""
    world.service.submit("refresh/prices")
    asked = []

    @sa.event.listens_for(world.database.engine, "before_cursor_execute")
    def keep(_connection, _cursor, statement, parameters, *_):
        asked.append((statement, parameters))

    assert [key for key, _ in world.queries.runs(limit=5)] == ["refresh/prices"]
    (statement, parameters), *_ = asked
    with world.database.read() as connection:
        plan = "\n".join(str(row) for row in connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}", parameters))
    assert "SCAN run USING INDEX sqlite_autoindex_run_1" in plan
    assert "TEMP B-TREE" not in plan
