"""What an object store's refusal means, and what to do about it, in one sentence without a secret.

Knows the codes of S3 and the errors of its client; other stores are told apart by their HTTP status alone.
"""

import os
import re
from collections.abc import Iterator, Mapping
from typing import Any

from .patience import answer_of, causes

_RENEW = "Renew them and run again; long runs want credentials that renew themselves, such as an instance role"
_PAIR = "Check the access key and its secret: FRESHLINE_S3_ACCESS_KEY_ID and _SECRET_ACCESS_KEY, or the AWS_* variables"
_GRANT = "Let them get, put, delete and list objects there, and abort multipart uploads"
_SET = (
    "Set FRESHLINE_S3_ACCESS_KEY_ID and FRESHLINE_S3_SECRET_ACCESS_KEY, the AWS_* variables, a profile, an instance "
    "role, or FRESHLINE_ARTIFACTS_BLOCK"
)
_ACCESS = {
    "ExpiredToken": ("the credentials have expired", _RENEW),
    "ExpiredTokenException": ("the credentials have expired", _RENEW),
    "RequestExpired": ("the credentials have expired", _RENEW),
    "TokenRefreshRequired": ("the credentials have expired", _RENEW),
    "InvalidAccessKeyId": ("the store does not know the access key", _PAIR),
    "InvalidToken": ("the session token is wrong", _PAIR),
    "InvalidClientTokenId": ("the store does not know the access key", _PAIR),
    "SignatureDoesNotMatch": ("the secret does not belong to the access key", _PAIR),
    "AccessDenied": ("these credentials may not do this", _GRANT),
    "AllAccessDisabled": ("access to the bucket is switched off", _GRANT),
    "RequestTimeTooSkewed": (
        "the clock of this machine differs from the store's",
        "Set this machine's clock; `freshline doctor` shows the difference",
    ),
    "NoCredentials": ("no credentials were found", _SET),
    "401": ("the store refused the credentials", _PAIR),
    "403": ("the store refused the credentials, and did not say why", _GRANT),
}
_WITHOUT_REASON = frozenset({"400", "403"})
"""Codes of an answer without a body, as to every HEAD."""

_CREDENTIAL_ERRORS = frozenset(
    {
        "CredentialRetrievalError",
        "NoCredentialsError",
        "PartialCredentialsError",
        "ProfileNotFound",
        "SSOTokenLoadError",
        "TokenRetrievalError",
        "UnauthorizedSSOTokenError",
    }
)
_SECRET_VARIABLES = ("AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_ACCESS_KEY_ID")
_SECRET_OPTION = re.compile(r"secret|token|passw|credential|(^|_)key|sas|connection_string", re.IGNORECASE)
_SHORTEST_SECRET = 4


def code_of(error: BaseException) -> str | None:
    """Return the store's code for what went wrong, such as `ExpiredToken`; none when there is none.

    `NoCredentials` when the client found none to ask with.
    """
    for one in causes(error):
        if type(one).__name__ in _CREDENTIAL_ERRORS and type(one).__module__.startswith("botocore"):
            return "NoCredentials"
        code, status = answer_of(one)
        if code:
            return code
        if status is not None:
            return str(status)
    return None


def says_no_reason(code: str | None) -> bool:
    """Return whether an answer refused without saying why: another request may learn the reason."""
    return code in _WITHOUT_REASON


def refusal(code: str | None) -> tuple[str, str] | None:
    """Return what is wrong with the credentials and what to do, or none when the code is about something else."""
    return _ACCESS.get(code or "")


def strike_out(text: str, options: Mapping[str, Any]) -> str:
    """Return the text without the secrets of the environment and of a driver's options."""
    secrets = {os.environ.get(name, "") for name in _SECRET_VARIABLES} | set(_secrets_in(options))
    for secret in sorted(secrets, key=len, reverse=True):
        if len(secret) >= _SHORTEST_SECRET:
            text = text.replace(secret, "***")
    return text


def _secrets_in(options: Mapping[str, Any]) -> Iterator[str]:
    for name, value in options.items():
        if isinstance(value, Mapping):
            yield from _secrets_in(value)
        elif isinstance(value, str) and _SECRET_OPTION.search(name):
            yield value
