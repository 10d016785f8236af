"""The object store's credentials from a Prefect block."""

import pytest

from freshline.deployments.credentials import block_options, options_in
from freshline.storage.errors import InvalidInput, NotFound

AWS = {
    "aws_access_key_id": "me",
    "aws_secret_access_key": "s3cret",
    "aws_session_token": None,
    "profile_name": None,
    "region_name": "eu-west-1",
    "aws_client_parameters": {"endpoint_url": "https://s3.example", "verify": None, "use_ssl": False, "config": None},
}
AWS_OPTIONS = {
    "key": "me",
    "secret": "s3cret",
    "client_kwargs": {"endpoint_url": "https://s3.example", "use_ssl": False, "region_name": "eu-west-1"},
}


@pytest.mark.parametrize(
    ("data", "options"),
    [
        (AWS, AWS_OPTIONS),
        ({"bucket_name": "b", "credentials": AWS}, AWS_OPTIONS),
        ({"minio_root_user": "me", "minio_root_password": "s3cret"}, {"key": "me", "secret": "s3cret"}),
        ({"profile_name": "research", "aws_access_key_id": None}, {"profile": "research"}),
        ({"basepath": "s3://bucket/x", "settings": {"key": "me", "anon": False}}, {"key": "me", "anon": False}),
        ({"basepath": "s3a://bucket/x", "settings": None}, {}),
        # An instance role: all fields are there, and none is filled in.
        ({"aws_access_key_id": None, "aws_secret_access_key": None}, {}),
    ],
)
def test_fields_of_a_block_are_options_of_the_driver(data, options):
    assert options_in(data, "kind/name", protocol="s3") == options


@pytest.mark.parametrize(
    ("data", "protocol", "message"),
    [
        ({"value": "s3cret"}, "s3", "kind/name holds no credentials"),
        (AWS, "gs", "holds credentials of S3"),
        ({"basepath": "gs://bucket", "settings": {"token": "s3cret"}}, "s3", "is of gs://"),
        ({"basepath": "/srv/objects"}, "s3", "is of file://"),
    ],
)
def test_block_that_does_not_fit_is_refused_without_a_secret(data, protocol, message):
    with pytest.raises(InvalidInput, match=message) as caught:
        options_in(data, "kind/name", protocol=protocol)
    assert "s3cret" not in str(caught.value)


@pytest.mark.stack
def test_block_is_read_from_prefect_with_its_secrets(stack):
    from prefect.filesystems import RemoteFileSystem

    with stack.local.activated():
        RemoteFileSystem(basepath="s3://bucket/x", settings={"key": "me", "secret": "s3cret"}).save("objects")
        read = block_options("remote-file-system/objects", protocol="s3")
        with pytest.raises(NotFound, match="Prefect block 'remote-file-system/none'"):
            block_options("remote-file-system/none", protocol="s3")
    assert read == {"key": "me", "secret": "s3cret"}
