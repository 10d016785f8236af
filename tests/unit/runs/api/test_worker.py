"""What the server takes from a worker: less than a process that has the database may do."""

import base64
import json

import pyarrow as pa
import pytest

from freshline.runs.points.chunks import MOST_POINTS, Chunk, encode, schema, table_of
from freshline.runs.points.unpacking import MOST_UNPACKED_BYTES, check
from freshline.storage.errors import InvalidInput
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


def packed(*columns, names=None):
    """Return the payload of a chunk whose columns hold what they are given, fitting or not."""
    made = schema() if names is None else pa.schema(list(zip(names, (column.type for column in columns), strict=True)))
    return encode_as(pa.Table.from_arrays(list(columns), schema=made))


def encode_as(table, compression="zstd"):
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema, options=pa.ipc.IpcWriteOptions(compression=compression)) as writer:
        writer.write_table(table)
    return b"\x01" + sink.getvalue().to_pybytes()


def points(names):
    return [
        pa.array(names, pa.string()),
        pa.array([0] * len(names), pa.int64()),
        pa.array([0.5] * len(names), pa.float64()),
        pa.array([0] * len(names), schema().field("at").type),
    ]


ROWS = 3
USUAL = packed(*points(["loss"] * ROWS))
LONG = packed(*points(["l" * 1000] * ROWS))


def lied(payload, length, said):
    """Return a payload in which the buffers of a length say that they have another one."""
    assert length.to_bytes(8, "little") in payload
    return payload.replace(length.to_bytes(8, "little"), said.to_bytes(8, "little"))


def test_chunk_that_becomes_too_large_is_refused_before_it_is_unpacked(api, world):
    """It says that it has a terabyte: nobody finds out whether that is so."""
    claim = world.start(world.service.submit("refresh/prices"))
    payload = base64.b64encode(lied(LONG, 1000 * ROWS, 1 << 40)).decode()
    sent = {"fence": claim.run.fence, "first": 0, "rows": ROWS, "payload": payload}
    path = f"/worker/runs/{claim.run.id}/points"
    problem = api.problem("POST", path, json=sent, status=422, code="invalid_argument")
    assert "bytes when it is unpacked; at most 100,663,296" in problem["detail"]


REFUSED = {
    "nothing": (b"", "unknown form b''"),
    "another form": (b"\x02" + USUAL[1:], "unknown form"),
    "no stream": (b"\x01garbage, and a little more of it", "cannot be read"),
    "cut off": (USUAL[:-40], "cannot be read"),
    "a length that is not so": (lied(LONG, 1000 * ROWS, 999 * ROWS), "cannot be read"),
    "other columns": (packed(pa.array([1] * ROWS), names=["x"]), "has other columns: x"),
    "a dictionary": (packed(pa.array(["a"] * ROWS).dictionary_encode(), names=["x"]), "another type: dictionary"),
    "an empty place": (packed(*points(["loss", None, "loss"])), "an empty place"),
    "fewer points": (packed(*points(["loss"])), "says that it has 3 metric values, and has 1"),
}


@pytest.mark.parametrize("how", REFUSED)
def test_chunk_that_does_not_hold_what_it_says_is_refused(how):
    payload, said = REFUSED[how]
    with pytest.raises(InvalidInput, match=said):
        check(Chunk(0, ROWS, payload))


def test_chunk_of_as_many_points_as_it_may_have_passes_with_the_longest_names():
    longest_name, of_numbers, of_offsets = 250 * 4, 3 * 8, 4
    assert MOST_POINTS * (longest_name + of_numbers + of_offsets) < MOST_UNPACKED_BYTES
    check(Chunk(0, MOST_POINTS, encode(table_of([("loss", 0, 0.5, 0)] * MOST_POINTS))))
    check(Chunk(0, ROWS, USUAL))
    check(Chunk(0, ROWS, encode_as(pa.Table.from_arrays(points(["loss"] * ROWS), schema=schema()), compression=None)))
