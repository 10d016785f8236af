"""A preview of every so manieth row: what a plot of a long table is drawn from, without reading all of it."""

import pandas as pd
import pyarrow as pa
import pytest

from freshline.runs.result import Result
from freshline.storage import encoding, preview
from freshline.storage.artifacts import ArtifactRecord
from freshline.storage.parquet import write_table

pytestmark = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)

ROWS = 10


def written(api, world, data):
    """Return the record of a table that a run has written, and the path of its preview."""
    run = world.service.submit("refresh/prices")
    claim = world.start(run)
    stored = write_table(world.objects, data)
    world.port.complete(run.id, claim.run.fence, Result(artifacts=[ArtifactRecord.of_table("t", stored)]))
    (found,) = api.get(f"/runs/{run.id}/artifacts")["items"]
    return stored, found["preview_url"].removeprefix("/api/v1")


@pytest.fixture(params=[(1, 3, 100), (3, 1, 2), (100, 1, 3)], ids=["3 fragments", "4 row groups", "several batches"])
def table(request, api, world, monkeypatch):
    """The preview of ten rows in parts of this size: a real table has that many only when it is large."""
    group_rows, num_fragments, batch_rows = request.param
    monkeypatch.setattr(encoding, "ROW_GROUP_ROWS", group_rows)
    monkeypatch.setattr(preview, "_BATCH_ROWS", batch_rows)
    stored, path = written(api, world, pd.DataFrame({"x": range(ROWS), "y.z": "text"}))
    assert len(stored.fragments) == num_fragments
    return path


ASKED = [
    ({"every": 4}, [0, 4, 8]),
    ({"every": 4, "limit": 2}, [0, 4]),
    ({"every": 3}, [0, 3, 6, 9]),
    ({"every": 100}, [0]),
    ({"limit": 5}, [0, 1, 2, 3, 4]),
    ({}, list(range(ROWS))),
]


def test_preview_of_every_so_manieth_row(api, table):
    for asked, rows in ASKED:
        found = api.get(table, **asked)
        assert ([row[0] for row in found["rows"]], found["num_rows"]) == (rows, ROWS), asked


@pytest.mark.parametrize("every", [0, -1, 2**31, "x"])
def test_preview_of_no_such_step_is_refused(api, world, every):
    _, path = written(api, world, pd.DataFrame({"x": range(3)}))
    api.problem("GET", path, params={"every": every}, status=422, code="invalid_argument")


def test_preview_reads_no_fragment_without_a_row_that_it_shows(api, world, monkeypatch):
    monkeypatch.setattr(encoding, "ROW_GROUP_ROWS", 1)
    stored, path = written(api, world, pd.DataFrame({"x": range(ROWS)}))
    assert [fragment.rows for fragment in stored.fragments] == [4, 4, 2]
    world.objects.delete(stored.fragments[1].name)
    assert api.get(path, every=8)["rows"] == [[0], [8]]
    assert api.get(path, limit=4)["rows"] == [[0], [1], [2], [3]]
    api.problem("GET", path, params={"every": 7}, status=500, code="internal")


def test_preview_of_rows_too_far_apart_is_refused(api, world, monkeypatch):
    monkeypatch.setattr(encoding, "ROW_GROUP_ROWS", 1)
    _, path = written(api, world, pd.DataFrame({"x": range(ROWS), "y.z": "text"}))
    monkeypatch.setattr(preview, "MOST_BYTES", 200)
    problem = api.problem("GET", path, params={"every": 3}, status=422, code="invalid_argument")
    assert "4 rows, one of every 3, lie so far apart that more than 200 bytes" in problem["detail"]
    assert len(api.get(path, limit=1)["rows"]) == 1


@pytest.mark.parametrize(
    ("data", "rows"),
    [
        (pa.table({}), []),
        (pa.table({"x": pa.array([], pa.int64())}), []),
        (
            pa.table({"d": pa.array(["a", "b", "a"]).dictionary_encode(), "s": [{"t": 1}, None, {"t": 2}]}),
            [["a", {"t": 1}], ["a", {"t": 2}]],
        ),
    ],
    ids=["no columns", "no rows", "nested and encoded"],
)
def test_preview_of_a_table_of_any_form(api, world, data, rows):
    _, path = written(api, world, data)
    assert api.get(path, every=2)["rows"] == rows
