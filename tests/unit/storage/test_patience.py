"""What is tried again, for how long, and what is not."""

import errno

import pytest

from freshline.storage.patience import Patience, ShortAnswer, is_transient
from freshline.storage.refusals import code_of, refusal, strike_out


class Clock:
    """A clock that moves when somebody sleeps."""

    def __init__(self) -> None:
        self.now = 0.0
        self.pauses: list[float] = []

    def sleep(self, pause: float) -> None:
        self.pauses.append(pause)
        self.now += pause


def patience(clock, limit_s=60.0) -> Patience:
    return Patience(limit_s, clock=lambda: clock.now, sleep=clock.sleep)


def answered(code, status):
    """An error as botocore raises it, in the one that s3fs makes of it."""
    error = OSError(errno.EIO, "it did not work")
    error.__cause__ = Exception(code)
    error.__cause__.response = {"Error": {"Code": code}, "ResponseMetadata": {"HTTPStatusCode": status}}
    return error


def failing(*errors):
    """A function that raises these, one call after the other, and then returns."""
    left = list(errors)

    def work():
        if left:
            raise left.pop(0)
        return "done"

    return work


@pytest.mark.parametrize(
    "error",
    [
        answered("SlowDown", 503),
        answered("InternalError", 500),
        answered("503", 503),
        answered("BadDigest", 400),
        answered("RequestTimeout", 400),
        ConnectionResetError(),
        TimeoutError(),
        ShortAnswer(),
    ],
)
def test_failure_of_a_moment_is_tried_again(error):
    clock = Clock()
    assert patience(clock).call(failing(error, error)) == "done"
    assert len(clock.pauses) == 2


@pytest.mark.parametrize(
    "error",
    [
        answered("AccessDenied", 403),
        answered("ExpiredToken", 400),
        answered("NoSuchBucket", 404),
        answered("PreconditionFailed", 412),
        FileNotFoundError(),
        PermissionError(),
        OSError(errno.ENOSPC, "No space left on device"),
        ValueError(),
    ],
)
def test_failure_that_stays_is_raised_at_once(error):
    clock = Clock()
    with pytest.raises(type(error)) as caught:
        patience(clock).call(failing(error))
    assert caught.value is error
    assert clock.pauses == []


def test_other_stores_are_told_by_their_status():
    for status, expected in ((503, True), (429, True), (403, False)):
        error = Exception()
        error.status = status
        assert is_transient(error) is expected


def test_patience_ends_with_its_time_and_raises_the_last_error():
    clock, errors = Clock(), [answered("SlowDown", 503) for _ in range(1000)]
    with pytest.raises(OSError, match="it did not work"):
        patience(clock).call(failing(*errors))
    assert 50 <= clock.now < 60  # a pause is five seconds at most
    assert max(clock.pauses) <= 5
    assert len(set(clock.pauses)) == len(clock.pauses)  # none like another: that is what jitter is for


def test_no_patience_is_one_attempt():
    clock = Clock()
    with pytest.raises(ConnectionResetError):
        patience(clock, 0).call(failing(ConnectionResetError()))
    assert clock.pauses == []


def test_code_of_an_error_is_that_of_the_answer_behind_it():
    assert code_of(answered("ExpiredToken", 400)) == "ExpiredToken"
    assert code_of(answered("403", 403)) == "403"
    assert code_of(ValueError()) is None


def test_client_without_credentials_says_so():
    from botocore.exceptions import NoCredentialsError

    assert code_of(NoCredentialsError()) == "NoCredentials"
    assert refusal("NoCredentials")[0] == "no credentials were found"
    assert refusal("SlowDown") is None
    assert refusal("SignatureDoesNotMatch")[0] == "the secret does not belong to the access key"
    assert refusal("RequestTimeTooSkewed")[0].startswith("the clock of this machine")


def test_secrets_of_options_are_struck_out_and_nothing_else():
    options = {
        "key": "AKIAEXAMPLE",
        "secret": "wJalrXUtnFEMI",
        "client_kwargs": {"region_name": "eu-west-1", "aws_session_token": "token-of-today"},
        "use_ssl": True,
        "account_key": "",
    }
    text = strike_out("AKIAEXAMPLE wJalrXUtnFEMI eu-west-1 token-of-today", options)
    assert text == "*** *** eu-west-1 ***"


def test_error_that_is_its_own_cause_is_looked_at_once():
    error = OSError()
    error.__context__ = error
    assert not is_transient(error)
