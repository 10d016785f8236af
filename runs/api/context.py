"""What a route gets besides its own parameters: the store that it speaks for, and who asks."""

from typing import Annotated

from fastapi import Depends, Path, Query, Request
from starlette.convertors import StringConvertor, register_url_convertor

from ..composition import Freshline
from ..queries import Queries
from .access import Access
from .cursors import MAX_PAGE

RUN_ID = "^(run-)?[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}$"
MAX_INTEGER = 2**31 - 1
"""What every column of both databases takes."""


class _RunConvertor(StringConvertor):
    """Takes no address of its own for the id of a run: `DELETE /runs/active` is no deletion."""

    regex = "(?!(?:active|bulk|compare)$)[^/]+"


register_url_convertor("run", _RunConvertor())


async def _freshline(request: Request) -> Freshline:
    opened: Freshline = request.app.state.freshline
    return opened


async def _queries(request: Request) -> Queries:
    opened: Freshline = request.app.state.freshline
    return Queries(opened.database, tenant_id=opened.settings.tenant_id)


async def _is_known(request: Request) -> bool:
    access: Access = request.app.state.access
    return access.is_open_to(request) or access.is_known(request)


Opened = Annotated[Freshline, Depends(_freshline)]
"""The store, its object store and settings."""

Asked = Annotated[Queries, Depends(_queries)]
"""The questions that the store answers."""

MayRead = Annotated[bool, Depends(_is_known)]
"""Whether whoever asks a public route may read the others too."""

RunId = Annotated[
    str,
    Path(
        description="A run's id, with or without `run-`.",
        max_length=100,
        examples=["run-0199b3c2-7d3e-7c4b-9a55-0f6d1c2b3a49"],
        # Said, not checked: whoever reads the id has a better message.
        json_schema_extra={"pattern": RUN_ID},
    ),
]

Kind = Annotated[str, Path(description="First half of a deployment's key.", max_length=100, examples=["backtest"])]
Resource = Annotated[str, Path(description="Second half of a deployment's key.", max_length=500, examples=["book"])]

Limit = Annotated[int, Query(ge=1, le=MAX_PAGE, description="Items of a page.")]
Cursor = Annotated[
    str | None, Query(max_length=2000, description="`next_cursor` of the page before; none: begin at the start.")
]
