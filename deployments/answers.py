"""What Prefect's refusals mean: its answers as our errors.

Owns which answer becomes which error. Sends nothing.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from http import HTTPStatus
from typing import Any
from uuid import UUID

from ..storage.errors import Conflict, InvalidInput, NotFound, PrefectError


def check_accepted(answer: Any, done: str, flow_run_id: UUID) -> None:
    """Refuse an answer in which Prefect's rules did not let the flow run into the state.

    Raises:
        Conflict: with Prefect's reason.
    """
    from prefect.client.schemas.responses import SetStateStatus

    if answer.status != SetStateStatus.ACCEPT:
        reason = getattr(answer.details, "reason", None) or "Prefect gave no reason"
        raise Conflict(f"flow run {flow_run_id} cannot be {done}: {reason}")


@contextmanager
def not_found(what: str, name: object) -> Iterator[None]:
    """Translate the answer that there is no such thing.

    Raises:
        NotFound: Prefect answered 404.
    """
    from .connection import answer_status

    try:
        yield
    except PrefectError as error:
        if answer_status(error) == HTTPStatus.NOT_FOUND:
            raise NotFound(what, str(name)) from None
        raise


@contextmanager
def refused_parameters() -> Iterator[None]:
    """Translate the answer that the parameters of a flow run cannot be used.

    Raises:
        InvalidInput: with Prefect's reason.
    """
    from .connection import answer_status

    try:
        yield
    except PrefectError as error:
        if answer_status(error) in (400, 409, 422):
            raise InvalidInput(f"Prefect refused the parameters: {error}") from None
        raise
