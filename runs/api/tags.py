"""Tags of answers (ETag): whoever has the same answer already gets none again.

A tag is a digest of the whole answer: the question is asked, and only the answer's way is saved.
"""

import hashlib

from fastapi import Request, Response

_JSON = "application/json"


def tagged(request: Request, response: Response) -> Response:
    """Return the answer with its tag, or 304 without it when the asker has it; only of JSON that is complete."""
    if response.status_code != 200 or response.media_type != _JSON or "etag" in response.headers:
        return response
    tag = f'"{hashlib.blake2b(response.body, digest_size=16).hexdigest()}"'
    # A browser may keep it, for nobody else, and asks each time whether it still holds.
    headers = {"ETag": tag, "Cache-Control": "private, no-cache"}
    known = request.headers.get("if-none-match", "")
    if any(one.strip().removeprefix("W/") in (tag, "*") for one in known.split(",")):
        return Response(status_code=304, headers=headers)
    response.headers.update(headers)
    return response
