"""How the object store gets its credentials: from the settings and a Prefect block, and never into a pickle."""

import pickle

import pytest

from freshline.deployments import credentials
from freshline.runs.composition import DriverOptions, open_objects
from freshline.storage.settings import Settings

SECRET = "correct-horse-battery-staple"


@pytest.fixture
def settings() -> Settings:
    return Settings(artifacts_url="s3://bucket/x", s3_access_key_id="me", s3_secret_access_key=SECRET)


def test_store_is_opened_with_the_settings_credentials_and_shows_none(settings):
    store = open_objects(settings)
    assert (store.filesystem.key, store.filesystem.secret) == ("me", SECRET)
    assert SECRET not in repr(store) + repr(store.driver) + repr(store.driver.options)


def test_pickle_of_a_store_holds_no_secret_and_reads_its_own_environment(settings, monkeypatch):
    store = open_objects(settings)
    assert store.filesystem is not None
    pickled = pickle.dumps(store)
    assert SECRET.encode() not in pickled
    monkeypatch.setenv("FRESHLINE_S3_ACCESS_KEY_ID", "worker")
    monkeypatch.setenv("FRESHLINE_S3_SECRET_ACCESS_KEY", "another")
    received = pickle.loads(pickled)
    assert (received.url, received.filesystem.key) == ("s3://bucket/x", "worker")


def test_settings_come_before_a_block(settings, monkeypatch):
    asked = []

    def block_options(reference, *, protocol):
        asked.append((reference, protocol))
        return {"key": "block", "profile": "research"}

    monkeypatch.setattr(credentials, "block_options", block_options)
    named = settings.model_copy(update={"artifacts_block": "aws-credentials/research"})
    assert DriverOptions(named)("s3") == {"key": "me", "secret": SECRET, "profile": "research"}
    assert asked == [("aws-credentials/research", "s3")]


def test_retry_is_that_of_the_settings_unless_it_is_given(settings):
    assert open_objects(settings).driver.patience.limit_s == 60
    assert open_objects(settings, retry_s=0).driver.patience.limit_s == 0


BLOCK = {
    "key": "block",
    "secret": "of the block",
    "token": "token of the block",
    "client_kwargs": {"endpoint_url": "http://minio:9000", "use_ssl": False},
}


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (
            {"s3_region": "eu-west-1"},
            BLOCK | {"client_kwargs": BLOCK["client_kwargs"] | {"region_name": "eu-west-1"}},
        ),
        (
            {"s3_endpoint_url": "http://s3.internal"},
            BLOCK | {"endpoint_url": "http://s3.internal", "client_kwargs": {"use_ssl": False}},
        ),
        (
            {"s3_access_key_id": "me", "s3_secret_access_key": SECRET},
            {"key": "me", "secret": SECRET, "client_kwargs": BLOCK["client_kwargs"]},
        ),
        (
            {
                "s3_endpoint_url": "http://s3.internal",
                "artifacts_options": '{"client_kwargs": {"endpoint_url": "http://other"}}',
            },
            BLOCK | {"client_kwargs": {"endpoint_url": "http://other", "use_ssl": False}},
        ),
    ],
)
def test_setting_above_a_block_replaces_what_it_says_and_nothing_else(monkeypatch, given, expected):
    monkeypatch.setattr(credentials, "block_options", lambda reference, *, protocol: BLOCK)
    assert DriverOptions(Settings(artifacts_block="minio-credentials/x", **given))("s3") == expected
