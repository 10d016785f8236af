"""How a client of Prefect's API is opened, and what its failures mean.

Owns credentials, settings and the sentences in which Prefect's errors are passed on. Imported when the first
request is made: it imports Prefect.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib.metadata import version as installed_version
from typing import Any
from uuid import UUID

import httpx
from prefect.client.orchestration import SyncPrefectClient
from prefect.context import SettingsContext, get_settings_context
from prefect.exceptions import ObjectNotFound
from prefect.settings import PREFECT_CLIENT_MAX_RETRIES, get_current_settings
from prefect.utilities.urls import url_for
from pydantic import ValidationError

from ..storage.errors import PrefectError


class AnswerError(PrefectError):
    """Prefect answered with an error; the status says which."""

    def __init__(self, message: str, *, status: int) -> None:
        self.status = status
        super().__init__(message)


def open_client(api_url: str | None) -> tuple[SyncPrefectClient, SettingsContext]:
    """Return a client and the settings that its requests are made with.

    Credentials are sent only to the address that the settings name.

    Raises:
        PrefectError: no address is given and the settings name none.
    """
    settings = get_current_settings()
    url = api_url or settings.api.url
    if not url:
        raise PrefectError(
            "no Prefect server is named; set PREFECT_API_URL, or start one with `freshline up`"
        )  # Prefect's own client would start a temporary server here
    key, auth = settings.api.key, settings.api.auth_string
    is_ours = url.rstrip("/") == (settings.api.url or "").rstrip("/")
    context = get_settings_context()
    # Its own retries, five within a minute, would make every caller wait for a server that is gone.
    once = context.settings.copy_with_update({PREFECT_CLIENT_MAX_RETRIES: 0})
    frozen = SettingsContext(profile=context.profile, settings=once)
    with settings_in_force(frozen), translated(url):
        client = SyncPrefectClient(
            url,
            auth_string=auth.get_secret_value() if is_ours and auth is not None else None,
            api_key=key.get_secret_value() if is_ours and key is not None else None,
        )
        client.__enter__()
    return client, frozen


def flow_run_page(flow_run_id: UUID) -> str | None:
    """Return the address of a flow run in Prefect's page; none when the settings name no server."""
    return url_for("flow-run", obj_id=flow_run_id) or None


def ask(path: str, *, api_url: str | None = None, names: Mapping[str, str] | None = None, **parameters: Any) -> Any:
    """Return the JSON of one answer of Prefect's API, over a connection of its own; `names` are parts of the path.

    Raises:
        PrefectError: it cannot be reached, or answered with an error.
    """
    client, settings = open_client(api_url)
    try:
        with settings_in_force(settings), translated(str(client.api_url)):
            request: Any = client.request  # typed for the paths of one release
            return request("GET", path, path_params=dict(names or {}), params=parameters).json()
    finally:
        client.__exit__(None, None, None)


def versions(api_url: str | None = None) -> tuple[str, str]:
    """Return the version of Prefect that the server has, and the one that is installed here.

    Raises:
        PrefectError: the server cannot be reached, or does not tell.
    """
    return str(ask("/admin/version", api_url=api_url)), installed_version("prefect")


@contextmanager
def settings_in_force(context: SettingsContext) -> Iterator[None]:
    """Let Prefect's client see these settings, in this thread."""
    with SettingsContext(profile=context.profile, settings=context.settings):
        yield


@contextmanager
def translated(api_url: str) -> Iterator[None]:
    """Turn what Prefect's client raises into PrefectError.

    Raises:
        PrefectError: with the address, what happened, and what to do.
    """
    try:
        yield
    except ObjectNotFound as error:
        answer = getattr(error, "http_exc", None)
        detail = _detail(answer.response) if isinstance(answer, httpx.HTTPStatusError) else str(error)
        raise AnswerError(f"Prefect answered 404: {detail}", status=httpx.codes.NOT_FOUND) from None
    except httpx.HTTPStatusError as error:
        raise _of_answer(error, api_url) from None
    except httpx.TransportError as error:
        reason = str(error) or type(error).__name__
        raise PrefectError(
            f"Prefect at {api_url} cannot be reached ({reason}); start it, or correct PREFECT_API_URL"
        ) from None
    except (httpx.InvalidURL, httpx.HTTPError) as error:
        raise PrefectError(f"Prefect at {api_url} cannot be used: {error}; correct PREFECT_API_URL") from None
    except ValueError as error:  # what is no JSON, or not what the client expects
        raise PrefectError(
            f"Prefect at {api_url} answered with something that this Prefect client cannot read "
            f"({_first_problem(error)}); see whether the address is Prefect's, and of an equal version"
        ) from None


def answer_status(error: PrefectError) -> int | None:
    """Return the HTTP status of Prefect's answer; None when there was no answer."""
    return error.status if isinstance(error, AnswerError) else None


def _of_answer(error: httpx.HTTPStatusError, api_url: str) -> PrefectError:
    status = error.response.status_code
    if status in (httpx.codes.UNAUTHORIZED, httpx.codes.FORBIDDEN):
        fix = "set PREFECT_API_KEY or PREFECT_API_AUTH_STRING"
        return AnswerError(f"Prefect at {api_url} refused the credentials ({status}); {fix}", status=status)
    request = f"{error.request.method} {error.request.url.path}"
    return AnswerError(f"Prefect answered {status} to {request}: {_detail(error.response)}", status=status)


def _first_problem(error: ValueError) -> str:
    if isinstance(error, ValidationError):
        first = error.errors()[0]
        return f"{'.'.join([error.title, *map(str, first['loc'])])}: {first['msg']}"
    return str(error)


def _detail(response: httpx.Response) -> str:
    try:
        body: Any = response.json()
    except ValueError:
        body = response.text
    if isinstance(body, dict):
        body = body.get("detail") or body.get("exception_message") or body
    return " ".join(str(body).split())[:1000] or "no reason given"
