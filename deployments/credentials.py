"""The object store's credentials from a Prefect block, so that they are kept in one place.

Reads the block's document, not its class: what a block of credentials holds is known by its fields, and the package
that defines it need not be installed. Nothing of it is kept or recorded.
"""

from collections.abc import Mapping
from typing import Any

from ..storage.errors import InvalidInput, NotFound, PrefectError

_S3_FIELDS = {
    "aws_access_key_id": "key",
    "aws_secret_access_key": "secret",
    "aws_session_token": "token",
    "profile_name": "profile",
    "minio_root_user": "key",
    "minio_root_password": "secret",
}
"""Field of a block -> option of s3fs."""
_CLIENT_FIELDS = ("endpoint_url", "use_ssl", "verify")
_S3 = ("s3", "s3a")
_HTTP_NOT_FOUND = 404


def block_options(reference: str, *, protocol: str, api_url: str | None = None) -> dict[str, Any]:
    """Return what an object store's driver is opened with, from a block `type/name`. Contains secrets.

    Understood are blocks with AWS or MinIO credentials (`aws-credentials`, `minio-credentials`), blocks that hold such
    a block (`s3-bucket`), and `remote-file-system` with its settings.

    Raises:
        NotFound: there is no such block.
        InvalidInput: the block holds nothing of the kind, or belongs to another kind of store.
        PrefectError: Prefect cannot be asked.
    """
    from .connection import answer_status, ask

    slug, _, name = reference.partition("/")
    path, names = "/block_types/slug/{slug}/block_documents/name/{block_document_name}", {"slug": slug}
    try:
        document = ask(path, api_url=api_url, names=names | {"block_document_name": name}, include_secrets=True)
    except PrefectError as error:
        if answer_status(error) == _HTTP_NOT_FOUND:
            raise NotFound("Prefect block", reference) from None
        raise
    return options_in(document.get("data") or {}, reference, protocol=protocol)


def options_in(data: Mapping[str, Any], reference: str, *, protocol: str) -> dict[str, Any]:
    """Return the options that the fields of a block mean; errors as `block_options`."""
    if "basepath" in data:
        return _of_file_system(data, reference, protocol)
    for field in ("credentials", "aws_credentials", "minio_credentials"):
        if isinstance(inner := data.get(field), Mapping):
            data = inner
            break
    options: dict[str, Any] = {option: data[field] for field, option in _S3_FIELDS.items() if data.get(field)}
    client = data.get("aws_client_parameters") or {}
    more = {field: client[field] for field in _CLIENT_FIELDS if client.get(field) is not None}
    if data.get("region_name"):
        more["region_name"] = data["region_name"]
    if not options and not more and not data.keys() & _S3_FIELDS.keys():
        raise InvalidInput(
            f"FRESHLINE_ARTIFACTS_BLOCK={reference} holds no credentials of an object store: name an aws-credentials, "
            "a minio-credentials or a remote-file-system block"
        )
    if protocol not in _S3:
        raise InvalidInput(
            f"FRESHLINE_ARTIFACTS_BLOCK={reference} holds credentials of S3: set FRESHLINE_ARTIFACTS_URL to s3://…"
        )
    if more:
        options["client_kwargs"] = more
    return options


def _of_file_system(data: Mapping[str, Any], reference: str, protocol: str) -> dict[str, Any]:
    kind = str(data["basepath"] or "").partition("://")[0] if "://" in str(data["basepath"]) else "file"
    if kind != protocol and {kind, protocol} != set(_S3):
        raise InvalidInput(
            f"FRESHLINE_ARTIFACTS_BLOCK={reference} is of {kind}://, and FRESHLINE_ARTIFACTS_URL of {protocol}://: "
            "name a place of the block's kind"
        )
    settings = data.get("settings") or {}
    if not isinstance(settings, Mapping):
        raise PrefectError(f"the settings of the Prefect block {reference} are no mapping")
    return dict(settings)
