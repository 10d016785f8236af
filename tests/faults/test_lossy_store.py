"""An S3 server that is busy, slow, breaks off or refuses: what is written is whole, what is read is right.

A failure of chance prints its seed.
"""

import base64
import hashlib
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime

import numpy as np
import pyarrow as pa
import pytest

from freshline.flows.lease import Lease
from freshline.storage import filesystem, s3
from freshline.storage.database import Database
from freshline.storage.errors import AccessRefused, ArtifactError, ObjectCorrupt
from freshline.storage.files import open_file, save_file
from freshline.storage.filesystem import ObjectStore
from freshline.storage.ids import new_id
from freshline.storage.parquet import read_table, scan, to_pandas, write_table
from freshline.storage.patience import Patience
from freshline.storage.probe import Outcome, probe
from tests.contracts.s3_servers import BUCKET, S3Server, moto_server
from tests.faults.lossy_http import BUSY, CUT, FAILED, LOST, RESET, SHORT, LossyHttp, Refusal
from tests.faults.uploads import PART_BYTES
from tests.unit.flows.test_lease import held_run, never

TABLE = pa.table({"day": np.arange(3000), "close": np.random.default_rng(1).normal(size=3000)})
SECRET = "wJalrXUtnFEMI-not-a-real-secret"
MANY_PARTS = np.random.default_rng(2).bytes(3 * PART_BYTES - 5)


@pytest.fixture(scope="module")
def moto() -> Iterator[S3Server]:
    with moto_server() as server:
        yield server


@pytest.fixture
def lossy(moto, monkeypatch) -> Iterator[LossyHttp]:
    """A proxy without faults yet, through which every S3 client of this process goes."""
    monkeypatch.setattr(s3, "PART_BYTES", PART_BYTES)
    monkeypatch.setattr(filesystem, "_RANGE_BYTES", PART_BYTES)
    with LossyHttp(moto.endpoint_url).running() as proxy:
        for name, value in moto.environment().items():
            monkeypatch.setenv(name, value)
        monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.url)
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
        yield proxy


@pytest.fixture
def store(moto, lossy) -> ObjectStore:
    return ObjectStore(f"{moto.url}/{new_id()}", patience=Patience(60, sleep=lambda pause: None))


@pytest.fixture
def impatient(store, monkeypatch) -> ObjectStore:
    """The same place, asked once."""
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    return ObjectStore(store.url, patience=Patience(0))


def unfinished(moto, store) -> list[str]:
    listed = moto.client().list_multipart_uploads(Bucket=BUCKET).get("Uploads", [])
    return [item["Key"] for item in listed if f"s3://{BUCKET}/{item['Key']}".startswith(store.url)]


def objects(moto, store) -> list[str]:
    prefix = store.url.removeprefix(f"s3://{BUCKET}/")
    return [item["Key"] for item in moto.client().list_objects_v2(Bucket=BUCKET, Prefix=prefix).get("Contents", [])]


def is_part(_method: str, path: str) -> bool:
    return "partNumber=" in path


@contextmanager
def failing(lossy, *faults, share=1.0, only=lambda _method, _path: True):
    lossy.faults, lossy.share, lossy.only = faults, share, only
    yield
    lossy.faults = ()


@pytest.mark.parametrize(
    "fault", [BUSY, CUT, SHORT, LOST, *(pytest.param(fault, marks=pytest.mark.slow) for fault in (FAILED, RESET))]
)
def test_third_of_the_requests_fails_and_all_is_right(lossy, store, monkeypatch, fault):
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")  # the client's own pauses are long: it has a test of its own
    with failing(lossy, fault, share=0.3):
        stored = write_table(store, TABLE)
        stored = write_table(store, TABLE, base=stored)
        file = save_file(store, bytes(100_000))
        assert read_table(store, stored).equals(pa.concat_tables([TABLE, TABLE]).combine_chunks())
        assert to_pandas(store, stored, columns=["close"]).shape == (6000, 1)
        assert scan(store, stored).count_rows() == 6000
        assert scan(store, stored).to_table(columns=["day"]).num_rows == 6000
        with open_file(store, file) as content:
            assert content.read() == bytes(100_000)
        assert [item.name for item in store.list()] == sorted({*(one.name for one in stored.fragments), file.name})
    assert lossy.seen[fault] > 3, f"seed {lossy.seed}"


def test_parts_of_a_large_object_are_sent_again_one_by_one(moto, lossy, store, monkeypatch):
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    with failing(lossy, BUSY, RESET, LOST, share=0.4):
        store.put_bytes(MANY_PARTS, "other/large")
        assert store.read_bytes("other/large") == MANY_PARTS
    assert unfinished(moto, store) == []
    assert sum(method == "POST" and "uploads" in path for method, path in lossy.requests) < 10


def test_client_tries_a_busy_store_again_by_itself(lossy, store):
    """Without any patience of ours: what is left to the client's configuration works."""
    once = ObjectStore(store.url, patience=Patience(0))
    struck = iter([True, True])
    with failing(lossy, BUSY, only=lambda method, _path: method == "PUT" and next(struck, False)):
        once.put_bytes(b"x", "other/x")
    assert lossy.seen[BUSY] == 2


def test_completion_whose_answer_is_lost_is_no_failure(moto, lossy, store):
    struck = []

    def is_completion(method: str, path: str) -> bool:
        if method != "POST" or "uploadId=" not in path:
            return False
        if struck:  # a server that has forgotten the upload, because it is completed
            lossy.refusal = Refusal(404, "NoSuchUpload")
        struck.append(path)
        return True

    with failing(lossy, LOST, only=is_completion):
        store.put_bytes(MANY_PARTS, "other/large")
    assert (lossy.seen[LOST], len(struck)) == (2, 2)
    assert store.size_bytes("other/large") == len(MANY_PARTS)
    assert unfinished(moto, store) == []


def test_upload_that_somebody_aborted_is_a_failure(lossy, impatient):
    lossy.only = lambda method, path: method == "POST" and "uploadId=" in path
    lossy.refusal = Refusal(404, "NoSuchUpload")
    with pytest.raises(ArtifactError, match=r"cannot write .*other/large: .*NoSuchUpload"):
        impatient.put_bytes(MANY_PARTS, "other/large")


@pytest.mark.parametrize(("calculation", "is_given"), [("when_supported", True), ("when_required", False)])
def test_server_is_given_the_sha256_to_compare_unless_checksums_are_off(
    lossy, store, monkeypatch, calculation, is_given
):
    monkeypatch.setenv("AWS_REQUEST_CHECKSUM_CALCULATION", calculation)
    save_file(store, b"model")
    compared = base64.b64encode(hashlib.sha256(b"model").digest()).decode()
    (given,) = [
        headers.get("x-amz-checksum-sha256")
        for (method, _), headers in zip(lossy.requests, lossy.headers, strict=True)
        if method == "PUT"
    ]
    assert given == (compared if is_given else None)


def test_upload_that_fails_leaves_no_part_and_no_object(moto, lossy, impatient):
    with failing(lossy, FAILED, only=is_part), pytest.raises(ArtifactError, match=r"cannot write .*other/large"):
        impatient.put_bytes(MANY_PARTS, "other/large")
    assert (unfinished(moto, impatient), objects(moto, impatient)) == ([], [])


def test_read_that_breaks_off_goes_on_where_it_was(lossy, store, monkeypatch):
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    store.put_bytes(MANY_PARTS, "other/large")
    lossy.requests.clear()
    struck = iter([False, True, False, True])
    with failing(lossy, CUT, only=lambda method, _path: method == "GET" and next(struck, False)):
        assert b"".join(store.read_chunks("other/large")) == MANY_PARTS
    assert lossy.seen[CUT] == 2
    assert sum(method == "GET" for method, _ in lossy.requests) == 5  # three ranges, two of them twice


def test_answer_that_does_not_come_is_asked_for_again(lossy, store, monkeypatch):
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    hurried = ObjectStore(
        store.url, options=lambda _: {"config_kwargs": {"read_timeout": 0.5}}, patience=store.driver.patience
    )
    store.put_bytes(b"x", "other/x")
    lossy.requests.clear()
    lossy.delay_s = 5.0  # longer than it waits
    sleeps = []

    def sleep(pause: float) -> None:
        sleeps.append(pause)
        lossy.delay_s = 0.0

    waiting = ObjectStore(store.url, options=hurried.driver.options, patience=Patience(60, sleep=sleep))
    assert waiting.read_bytes("other/x", start=0, end=1) == b"x"
    assert sleeps


def test_slow_store_does_not_cost_the_lease(lossy, store, tmp_path, sqlite_template):
    (tmp_path / "freshline.db").write_bytes(sqlite_template.read_bytes())
    held = held_run(Database(f"sqlite:///{tmp_path / 'freshline.db'}"), lease_s=1.5, heartbeat_s=0.3)
    lossy.delay_s = 1.0
    with Lease(never, interval_s=0.3, terms=held.terms) as lease:
        stored = write_table(store, TABLE)  # three requests: two leases long
        assert held.was_renewed_beyond_its_first_length()
        lease.check()
    lossy.delay_s = 0.0
    held.database.dispose()
    assert read_table(store, stored).equals(TABLE)


def test_store_that_stays_busy_is_given_up_in_its_time(lossy, impatient):
    with failing(lossy, BUSY), pytest.raises(ArtifactError, match=r"cannot write .*Service Unavailable") as caught:
        impatient.put_bytes(b"x", "objects/x")
    assert SECRET not in str(caught.value)


@pytest.mark.parametrize(
    ("status", "code", "said"),
    [
        (400, "ExpiredToken", "the credentials have expired"),
        (403, "InvalidAccessKeyId", "the store does not know the access key"),
        (403, "AccessDenied", "these credentials may not do this"),
    ],
)
def test_refused_credentials_say_which_and_no_secret(lossy, impatient, status, code, said):
    lossy.refusal = Refusal(status, code, f"it is {SECRET}")
    for call in (
        lambda: impatient.put_bytes(b"x", "objects/x"),
        lambda: impatient.read_bytes("objects/x"),
        lambda: impatient.size_bytes("objects/x"),  # its answer has no body, and so no reason
        lambda: list(impatient.list()),
        lambda: impatient.delete("objects/x"),
    ):
        with pytest.raises(AccessRefused, match=said) as caught:
            call()
        assert caught.value.code == code
        assert SECRET not in str(caught.value)


def test_credentials_that_are_missing_say_so(store, monkeypatch):
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    with pytest.raises(AccessRefused, match=r"no credentials were found.*FRESHLINE_S3_ACCESS_KEY_ID"):
        ObjectStore(store.url).read_bytes("objects/x")


def test_credentials_that_expire_in_mid_upload_say_so_and_leave_no_object(moto, lossy, impatient):
    first = iter([False])
    lossy.only = lambda method, path: is_part(method, path) and next(first, True)  # the first part arrives
    lossy.refusal = Refusal(400, "ExpiredToken", "The provided token has expired.")
    with pytest.raises(AccessRefused, match="the credentials have expired"):
        impatient.put_bytes(MANY_PARTS, "other/large")
    assert (unfinished(moto, impatient), objects(moto, impatient)) == ([], [])


def test_credentials_that_expire_for_good_leave_parts_that_are_cleared_later(moto, lossy, impatient):
    first = iter([False])
    began = threading.Event()

    def expire(method: str, path: str) -> bool:
        if is_part(method, path) and next(first, True):
            began.set()
        return began.is_set()

    lossy.only, lossy.refusal = expire, Refusal(400, "ExpiredToken")
    with pytest.raises(AccessRefused, match="the credentials have expired"):
        impatient.put_bytes(MANY_PARTS, "other/large")
    lossy.refusal = None  # renewed
    assert len(unfinished(moto, impatient)) == 1
    assert impatient.clear_staging(datetime.now(UTC)) == 1
    assert unfinished(moto, impatient) == []


def test_uploads_that_are_younger_or_elsewhere_are_left_alone(moto, store):
    client, prefix = moto.client(), store.url.removeprefix(f"s3://{BUCKET}/")
    client.create_multipart_upload(Bucket=BUCKET, Key=f"{prefix}-other/x")
    client.create_multipart_upload(Bucket=BUCKET, Key=f"{prefix}/objects/x")
    assert store.clear_staging(datetime(2000, 1, 1, tzinfo=UTC)) == 0
    assert store.clear_staging(datetime.now(UTC)) == 1
    assert unfinished(moto, store) == [f"{prefix}-other/x"]


def test_damage_on_the_way_is_noticed_by_every_way_of_reading(lossy, store):
    """The server itself returns other bytes of the right length: no error of the network shows it."""
    stored = write_table(store, TABLE)
    name = stored.fragments[0].name
    content = bytearray(store.read_bytes(name))
    content[200] ^= 1
    store.filesystem.pipe_file(store.path_of(name), bytes(content))
    for read in (
        lambda: read_table(store, stored),
        lambda: to_pandas(store, stored),
        lambda: read_table(store, stored, columns=["day", "close"]),
        lambda: write_table(store, TABLE, base=stored),
    ):
        with pytest.raises(ObjectCorrupt, match=name):
            read()
    with pytest.raises(OSError, match=r"CRC|checksum|integrity"):
        scan(store, stored).to_table()


def test_server_that_does_not_know_how_to_list_uploads_has_none_to_clear(lossy, impatient):
    lossy.only = lambda method, path: method == "GET" and "uploads" in path
    lossy.refusal = Refusal(501, "NotImplemented")
    assert impatient.clear_staging(datetime.now(UTC)) == 0
    notes = {one.name: one.detail for one in probe(impatient) if one.outcome != Outcome.OK}
    assert "unfinished ones are not listed" in notes.pop("upload in parts")
    assert not [one for one in notes if one == "unfinished uploads"]
