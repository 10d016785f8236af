"""Tags of answers (ETag): whoever has the same answer already gets none again.

A tag is a digest of the whole answer, unless the route has given one: the question is asked, and only the answer's way
is saved.
"""

from fastapi import Request, Response
from fastapi.responses import StreamingResponse

from ..entity_tags import is_known, tag_of

_JSON = "application/json"


def tagged(request: Request, response: Response) -> Response:
    """Return the answer with its tag, or 304 without it when the asker has it; only of JSON that is complete."""
    if response.status_code != 200 or response.media_type != _JSON or isinstance(response, StreamingResponse):
        return response
    tag = response.headers.get("etag") or tag_of(bytes(response.body))
    # A browser may keep it, for nobody else, and asks each time whether it still holds.
    headers = {"ETag": tag, "Cache-Control": "private, no-cache"}
    if is_known(tag, request.headers.getlist("if-none-match")):
        return Response(status_code=304, headers=headers)
    response.headers.update(headers)
    return response
