"""Cursors: where a list goes on, as a text that says nothing to its reader.

A cursor belongs to one question: of another one, or changed, it is refused. It names the last thing that was given
(keyset), so that what is inserted meanwhile moves nothing.
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
    except ValueError:  # no base64, or not even ASCII
        raise _refused() from None
    check, payload = raw[:_CHECK_BYTES], raw[_CHECK_BYTES:]
    if check != _check(payload, of, asked) or encode(json.loads(payload), of=of, asked=asked) != cursor:
        raise _refused()
    return json.loads(payload)


def _check(payload: bytes, of: str, asked: Mapping[str, Any] | None) -> bytes:
    question = json.dumps([of, dict(asked or {})], sort_keys=True, default=str).encode()
    return hashlib.blake2b(payload, digest_size=_CHECK_BYTES, key=hashlib.sha256(question).digest()).digest()


def _refused() -> Refusal:
    return Refusal(
        Code.INVALID_ARGUMENT,
        "this cursor does not belong to this question; begin without one",
        pointer="/query/cursor",
    )
