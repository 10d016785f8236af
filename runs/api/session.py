"""Routes of the page's session: a browser's streams send no headers, so a cookie stands for the token."""

from fastapi import Request, Response
from pydantic import Field

from .access import Access
from .documents import Document
from .policies import Routes, public
from .problems import Code, Refusal
from .runs import Body

routes = Routes(tags=["session"])


class Token(Body):
    """What a session is made for."""

    token: str = Field(min_length=1, max_length=500, description="The server's token.")


class Session(Document):
    """Whether the caller is known."""

    authenticated: bool = Field(description="The request had the token, or a session that was made for it.")
    may_read: bool = Field(description="It may ask the routes that read.")


@routes.get("/session", summary="Am I known?")
@public
async def get_session(request: Request) -> Session:
    """Say whether this caller may read and write."""
    access: Access = request.app.state.access
    known = access.is_known(request)
    return Session(authenticated=known, may_read=known or access.is_open_to(request))


@routes.post("/session", summary="Begin a session")
@public
async def begin_session(request: Request, response: Response, given: Token) -> Session:
    """Set a cookie that stands for the token; scripts cannot read it, and other sites cannot send it."""
    access: Access = request.app.state.access
    if not access.is_token(given.token):
        raise Refusal(Code.UNAUTHENTICATED, "this is not the token of this server")
    access.begin_session(response, is_secure=request.url.scheme == "https")
    return Session(authenticated=True, may_read=True)


@routes.delete("/session", status_code=204, summary="End the session")
@public
async def end_session(request: Request, response: Response) -> None:
    """Let the browser forget the session."""
    access: Access = request.app.state.access
    access.end_session(response)
