"""A client of the REST server in the test's own process: no port, no socket, the whole application."""

import asyncio
from types import TracebackType
from typing import Any, Self

import httpx
from fastapi import FastAPI

TOKEN = "a-token-that-only-tests-know"
ADDRESS = "http://127.0.0.1:4280"
NOBODYS = "0199b3c2-7d3e-7c4b-9a55-0f6d1c2b3a49"
"""An id that nothing has; the same in each process that collects tests."""


class Asking:
    """Asks an application as somebody who has the token, or with `token=None` as anybody.

    An answer is given when it is complete: a stream that does not end needs a real server.
    """

    def __init__(self, app: FastAPI, *, token: str | None = TOKEN) -> None:
        self.app = app
        self._runner = asyncio.Runner()
        self._client = httpx.AsyncClient(
            transport=httpx.ASGITransport(app, raise_app_exceptions=False),
            base_url=ADDRESS,
            headers={"Authorization": f"Bearer {token}"} if token is not None else {},
        )

    def request(self, method: str, path: str, **options: Any) -> httpx.Response:
        """Ask, under `/api/v1` unless the path begins with two slashes."""
        address = path[1:] if path.startswith("//") else f"/api/v1{path}"
        return self._runner.run(self._client.request(method, address, **options))

    def get(self, path: str, **params: Any) -> Any:
        """Return the JSON of what must be found."""
        answer = self.request("GET", path, params=params)
        assert answer.status_code == 200, answer.text
        return answer.json()

    def post(self, path: str, body: Any = None, *, status: int = 200, **options: Any) -> Any:
        """Return the JSON of what must be done, with this status."""
        answer = self.request("POST", path, **({} if body is None else {"json": body}), **options)
        assert answer.status_code == status, answer.text
        return answer.json()

    def problem(self, method: str, path: str, *, status: int, code: str, **options: Any) -> dict[str, Any]:
        """Return the problem that must come of it."""
        answer = self.request(method, path, **options)
        assert answer.status_code == status, answer.text
        assert answer.headers["content-type"] == "application/problem+json"
        problem: dict[str, Any] = answer.json()
        assert (problem["status"], problem["code"]) == (status, code)
        assert problem["type"] == f"urn:freshline:problem:{code}"
        return problem

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        self._runner.run(self._client.aclose())
        self._runner.close()
