"""What the server takes from a worker: less than a process that has the database may do."""

import base64
import json

import pytest

from freshline.runs.points.chunks import encode, table_of
from freshline.storage.stored import REFERENCED_FORMAT, StoredFile


@pytest.mark.parametrize("act", ["complete", "fail"])
def test_worker_cannot_refer_to_what_lies_outside_the_store(api, world, act):
    """The server would open it for whoever asks for its content: its own files, or an address of its network."""
    claim = world.start(world.service.submit("refresh/prices"))
    outside = StoredFile(
        name="",
        sha256="0" * 64,
        size_bytes=1,
        media_type="text/csv",
        root="file:///home/ann/secrets.csv",
        format=REFERENCED_FORMAT,
    )
    artifact = {"name": "found", "kind": "file", "stored": json.loads(outside.to_json()), "digest": "0" * 64}
    failure = {"error_type": "E", "error_message": "", "traceback": "", "will_retry": False} if act == "fail" else {}
    body = {"fence": claim.run.fence, "artifacts": [artifact], **failure}
    path = f"/worker/runs/{claim.run.id}/{act}"
    problem = api.problem("POST", path, json=body, status=422, code="invalid_argument")
    assert "outside the store" in problem["detail"]
    assert api.get(f"/runs/{claim.run.id}")["status"] == "running"


def test_number_that_no_column_holds_is_refused(api, world):
    claim = world.start(world.service.submit("refresh/prices"))
    path = f"/worker/runs/{claim.run.id}"
    payload = base64.b64encode(encode(table_of([("loss", 0, 0.5, 0)]))).decode()
    points = {"fence": claim.run.fence, "first": 2**63, "rows": 1, "payload": payload}
    api.problem("POST", f"{path}/points", json=points, status=422, code="invalid_argument")
    ends = {"fence": claim.run.fence, "series_ends": {str(claim.run.fence): 2**63}}
    api.problem("POST", f"{path}/complete", json=ends, status=422, code="invalid_argument")
