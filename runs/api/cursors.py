"""Cursors: where a list goes on, as a text that says nothing to its reader.

A cursor belongs to one question: of another one, or changed, it is refused. It names the last thing that was given
(keyset), so that what is inserted meanwhile moves nothing. What tells it from others is no secret: whoever reads this
can make one, and whoever asks with one looks at what stands in it.
"""

import base64
import hashlib
import json
from collections.abc import Mapping
from typing import Any

from .problems import Code, Refusal

MAX_PAGE = 500
_CHECK_BYTES = 9


def encode(last: Any, *, of: str, asked: Mapping[str, Any] | None = None) -> str:
    """Return the cursor behind `last`, JSON, of the list `of` that was asked for with these filters."""
    payload = json.dumps(last, separators=(",", ":")).encode()
    return base64.urlsafe_b64encode(_check(payload, of, asked) + payload).decode().rstrip("=")


def decode(cursor: str, *, of: str, asked: Mapping[str, Any] | None = None) -> Any:
    """Return what stands in a cursor of this list.

    Raises:
        Refusal: it is none, was changed, or belongs to another question.
    """
    try:
        raw = base64.b64decode(cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True)
        check, payload = raw[:_CHECK_BYTES], raw[_CHECK_BYTES:]
        last = json.loads(payload) if check == _check(payload, of, asked) else None
        if last is None or encode(last, of=of, asked=asked) != cursor:
            raise refused()
    except (ValueError, RecursionError):  # no base64, not even ASCII, or no JSON
        raise refused() from None
    return last


def _check(payload: bytes, of: str, asked: Mapping[str, Any] | None) -> bytes:
    question = json.dumps([of, dict(asked or {})], sort_keys=True, default=str).encode()
    return hashlib.blake2b(payload, digest_size=_CHECK_BYTES, key=hashlib.sha256(question).digest()).digest()


def refused() -> Refusal:
    """Return the problem of a cursor that is none of this question."""
    return Refusal(
        Code.INVALID_ARGUMENT,
        "this cursor does not belong to this question; begin without one",
        pointer="/query/cursor",
    )
