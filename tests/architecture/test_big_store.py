"""The big store of benchmarks and browsers: a small one is a store as the program itself leaves it."""

import sqlalchemy as sa

from benchmarks import big_store
from benchmarks.big_store import Size
from freshline.lineage import staleness
from freshline.runs.queries import Queries
from freshline.storage.filesystem import ObjectStore
from freshline.storage.ids import new_id
from freshline.storage.parquet import read_table

SMALL = Size(runs=1500, deployments=120, artifacts=3)


def one(database, query):
    with database.read() as connection:
        return connection.execute(sa.text(query)).scalar_one()


def test_big_store_is_one_that_the_program_reads_and_has_nothing_to_add_to(database):
    objects = ObjectStore(f"memory://{new_id()}")
    big_store.fill(database, SMALL, objects=objects)
    counts = {table: one(database, f"SELECT count(*) FROM {table}") for table in ("run", "deployment", "metric")}
    assert counts == {"run": SMALL.runs, "deployment": SMALL.deployments, "metric": 10 * SMALL.runs}
    if database.dialect == "sqlite":
        with database.read() as connection:
            assert connection.exec_driver_sql("PRAGMA foreign_key_check").all() == []

    queries = Queries(database)
    newest = queries.runs(limit=SMALL.runs)
    assert [run.id for _, run in newest][::-1] == [big_store.id_of_run(number) for number in range(SMALL.runs)]
    assert {run.status for _, run in newest} == {
        "running", "completed", "failed", "cancelled", "skipped", "refused"
    }  # fmt: skip
    status = {row.key: row for row in queries.status()}
    assert set(status) == {big_store.key_of(node) for node in range(SMALL.deployments)}
    assert {row.freshness for row in status.values()} == {"ready", "stale"}

    for number in (SMALL.runs - 1, SMALL.runs - 100, 500, 510, 520, 530):
        report = queries.report(big_store.id_of_run(number))
        assert len(report.metrics) == 10
        assert all(read.number for read in report.inputs)
        log = queries.events(report.run.id)
        assert [seq for seq, _ in log] == list(range(1, report.run.last_seq + 1))
    kept = [run for _, run in newest if run.status == "completed"][: SMALL.artifacts]
    for run in kept:
        table, _ = queries.report(run.id).artifacts
        assert read_table(objects, table.stored_table()).num_rows == 500

    nodes = [big_store.id_of_deployment(node) for node in range(SMALL.deployments)]
    changes = database.write(lambda connection: staleness.propagate(connection, nodes, now=newest[0][1].created_at))
    assert changes == []
