"""Trying again what failed for a moment: which errors are worth it, for how long, and at what pace.

Knows no store and no verb. Drivers try single requests again by their own rules; this is for what is left when they
have given up, and for drivers that never try again.
"""

import random
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, TypeVar

T = TypeVar("T")

RETRY_S = 60.0
"""How long a verb is tried again, unless a setting says otherwise."""

_FIRST_PAUSE_S = 0.1
_LONGEST_PAUSE_S = 5.0
_TRANSIENT_STATUSES = frozenset({408, 429, 500, 502, 503, 504})
_TRANSIENT_CODES = frozenset(
    {
        "BadDigest",  # the bytes arrived other than they were sent
        "InternalError",
        "OperationAborted",
        "RequestTimeout",
        "RequestTimeoutException",
        "ServiceUnavailable",
        "SlowDown",
        "Throttling",
        "ThrottlingException",
        "TooManyRequests",
        "XAmzContentSHA256Mismatch",
    }
)
_TRANSIENT_CLASSES = frozenset(
    {
        # By name: a program that uses no such store does not import its driver.
        "aiohttp.client_exceptions.ClientError",
        "botocore.exceptions.ConnectionError",
        "botocore.exceptions.HTTPClientError",
        "botocore.exceptions.IncompleteReadError",
        "botocore.parsers.ResponseParserError",
        "http.client.IncompleteRead",
        "requests.exceptions.ConnectionError",
        "requests.exceptions.Timeout",
    }
)


class ShortAnswer(ConnectionError):
    """The answer of a store ended before what was asked for."""


@dataclass(frozen=True)
class Patience:
    """How long and how often something is tried again."""

    limit_s: float = RETRY_S
    """No new attempt begins later than this after the first one; 0: there is one attempt."""
    clock: Callable[[], float] = time.monotonic
    sleep: Callable[[float], None] = time.sleep

    def call(self, work: Callable[[], T]) -> T:
        """Return what `work` returns, called again while it fails for a reason that may pass.

        Pauses grow from a tenth of a second to five, each drawn at random below that: callers that failed together
        do not come back together. The last error is raised as it is.
        """
        give_up_at = self.clock() + self.limit_s
        longest = _FIRST_PAUSE_S
        while True:
            try:
                return work()
            except Exception as error:
                pause = random.uniform(0, longest)
                if not is_transient(error) or self.clock() + pause >= give_up_at:
                    raise
            self.sleep(pause)
            longest = min(2 * longest, _LONGEST_PAUSE_S)


def is_transient(error: BaseException) -> bool:
    """Return whether the same call may succeed a moment later.

    The nearest cause that tells anything decides: what the store said (a code, an HTTP status) before the kind of the
    error. A refusal, a missing object or bucket and a full disk are not transient.
    """
    if isinstance(error, (FileNotFoundError, FileExistsError, PermissionError)):
        return False
    for one in causes(error):
        code, status = answer_of(one)
        if code is not None or status is not None:
            return code in _TRANSIENT_CODES or status in _TRANSIENT_STATUSES
        if isinstance(one, (ConnectionError, TimeoutError)) or _is_named(one):
            return True
    return False


def causes(error: BaseException) -> Iterator[BaseException]:
    """Yield an error and what stands behind it, the nearest first."""
    seen: set[int] = set()
    one: BaseException | None = error
    while one is not None and id(one) not in seen:
        seen.add(id(one))
        yield one
        one = one.__cause__ or (None if one.__suppress_context__ else one.__context__)


def answer_of(error: BaseException) -> tuple[str | None, int | None]:
    """Return the code and the HTTP status of the store's answer that an error carries, as far as it carries them."""
    response: Any = getattr(error, "response", None)
    if isinstance(response, dict) and isinstance(response.get("Error"), dict):  # as botocore has it
        status = response.get("ResponseMetadata", {}).get("HTTPStatusCode")
        return str(response["Error"].get("Code", "")), status if isinstance(status, int) else None
    for name in ("status", "status_code", "code"):
        status = getattr(error, name, None)
        if isinstance(status, int):
            return None, status
    return None, None


def _is_named(error: BaseException) -> bool:
    return any(f"{kind.__module__}.{kind.__name__}" in _TRANSIENT_CLASSES for kind in type(error).__mro__)
