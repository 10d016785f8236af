"""The token of a run: what lets a worker speak for one attempt, and for nothing else.

Minted when the run is claimed, from the server's own token, so that nothing is stored and every server that has that
token knows it. Whoever claims the run again gets another one.
"""

import base64
import hashlib
import hmac
from uuid import UUID

_PREFIX = "fr1_"
"""Of tokens of this form; it also makes one easy to find where it should not be."""


def mint(secret: str, run_id: UUID, fence: int) -> str:
    """Return the token of the attempt that drew this fence."""
    digest = hmac.new(secret.encode(), f"freshline:run:{run_id.hex}:{fence}".encode(), hashlib.sha256).digest()
    return f"{_PREFIX}{fence}_{base64.urlsafe_b64encode(digest).rstrip(b'=').decode()}"


def fence_of(secret: str, run_id: UUID, token: str) -> int | None:
    """Return the fence of the attempt that this token is of; None: it is no token of this run."""
    if not token.startswith(_PREFIX):
        return None
    digits = token.removeprefix(_PREFIX).partition("_")[0]
    if not (digits.isascii() and digits.isdecimal() and len(digits) < 20):
        return None
    fence = int(digits)
    return fence if hmac.compare_digest(mint(secret, run_id, fence).encode(), token.encode()) else None
