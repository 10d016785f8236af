"""A preview of every so manieth row: what a plot of a long table is drawn from."""

import pandas as pd
import pytest

from freshline.runs.result import Result
from freshline.storage import forms
from freshline.storage.artifacts import ArtifactRecord
from freshline.storage.parquet import write_table

pytestmark = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)


@pytest.fixture
def preview_path(api, world):
    run = world.service.submit("refresh/prices")
    claim = world.start(run)
    stored = write_table(world.objects, pd.DataFrame({"x": range(10)}))
    world.port.complete(run.id, claim.run.fence, Result(artifacts=[ArtifactRecord.of_table("t", stored)]))
    (found,) = api.get(f"/runs/{run.id}/artifacts")["items"]
    return found["preview_url"].removeprefix("/api/v1")


@pytest.fixture(params=[3, 100], ids=["several batches", "one batch"])
def batches(request, monkeypatch):
    """The rows come in batches of this size: a real table has that many only when it is large."""
    whole = forms.read_batches

    def read(*arguments, **options):
        return whole(*arguments, **options).read_all().to_batches(max_chunksize=request.param)

    monkeypatch.setattr(forms, "read_batches", read)


@pytest.mark.usefixtures("batches")
@pytest.mark.parametrize(
    ("asked", "rows"),
    [
        ({"every": 4}, [0, 4, 8]),
        ({"every": 4, "limit": 2}, [0, 4]),
        ({"every": 3}, [0, 3, 6, 9]),
        ({"every": 100}, [0]),
        ({"limit": 5}, [0, 1, 2, 3, 4]),
        ({}, list(range(10))),
    ],
)
def test_preview_of_every_so_manieth_row(api, preview_path, asked, rows):
    found = api.get(preview_path, **asked)
    assert [row[0] for row in found["rows"]] == rows
    assert found["num_rows"] == 10


@pytest.mark.parametrize("every", [0, -1, 2**31, "x"])
def test_preview_of_no_such_step_is_refused(api, preview_path, every):
    api.problem("GET", preview_path, params={"every": every}, status=422, code="invalid_argument")
