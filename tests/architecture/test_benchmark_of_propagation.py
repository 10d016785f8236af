"""The benchmark of propagation: its floor leaves the rows that ours leaves, and everything is put back in between."""

import psycopg
import pytest

from benchmarks import layered_graphs, propagation
from benchmarks.floors.propagation import RawPropagations
from benchmarks.harness import FLOOR, OURS, measure
from benchmarks.servers import durable_postgres

SMALL, LARGER = 150, 250


@pytest.fixture(scope="module")
def server():
    with durable_postgres() as running:
        yield running


def left_by(server, name, publish):
    """What is stored after a publication: freshness and causes, and the number of the version that brought each."""
    publish()
    with psycopg.connect(server.conninfo(name)) as connection:
        states = connection.execute("SELECT deployment_id, freshness, fence, next_number FROM deployment_state")
        causes = connection.execute(
            "SELECT cause.deployment_id, kind, role, upstream_id, number, origin_run_id = version.run_id"
            " FROM cause JOIN version ON version.id = origin_version_id"
        )
        return set(states.fetchall()), set(causes.fetchall())


def test_floor_leaves_the_rows_that_ours_leaves_and_both_are_put_back(server):
    ours, floor = (propagation.build(server, name, SMALL) for name in ("ours", "floor"))
    raw = RawPropagations(server.conninfo("floor"), floor.root)
    for _ in range(2):
        states, causes = left_by(server, "ours", ours.publish)
        assert (states, causes) == left_by(server, "floor", raw.publish)
        assert {cause[1] for cause in causes} == {"input_changed", "upstream_stale"}
        stale = sum(state[1] == "stale" for state in states)
        assert propagation.put_back(server.conninfo("ours")) == stale
        assert propagation.put_back(server.conninfo("floor")) == stale
    with psycopg.connect(server.conninfo("ours")) as connection:
        assert connection.execute("SELECT count(*) FROM cause").fetchone() == (0,)
        assert connection.execute("SELECT DISTINCT freshness, fence FROM deployment_state").fetchall() == [("ready", 1)]
    raw.close()
    for one in (ours, floor):
        one.database.dispose()


def test_smaller_graph_is_the_beginning_of_a_larger_one_and_nobody_reads_a_later_one():
    small, larger = layered_graphs.upstreams(SMALL), layered_graphs.upstreams(LARGER)
    assert larger[:SMALL] == small
    assert all(upstream < node for node, read in enumerate(larger) for upstream in read)
    assert {len(set(read)) for read in larger} == {0, 2, 3, 4}


@pytest.mark.slow
def test_propagation_is_measured_at_each_size_beside_the_floor(tmp_path):
    outcome = measure(propagation.work([SMALL, LARGER]), tmp_path, tell=lambda _: None, rounds=1)
    assert list(outcome.subjects) == [OURS, "at 250", FLOOR]
    assert {subject.durability for subject in outcome.subjects.values()} == {
        "Postgres fsync=on, synchronous_commit=on, full_page_writes=on"
    }
    assert [(str(one.comparison), one.comparison.target) for one in outcome.findings()] == [
        ("ours / floor", 2.0),
        ("at 250 / ours", 1.2),
    ]
