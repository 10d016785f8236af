"""The server process: uvicorn around the application, in the foreground or beside other threads.

Owns how it starts, what it says of where it listens, and that it ends soon: open streams are told first.
"""

import asyncio
import socket
import threading
import time
from typing import Self
from uuid import UUID

import uvicorn
from fastapi import FastAPI

from ...storage.errors import StackError
from ..composition import Freshline
from .access import Access, access_for, token_place
from .app import create_app
from .lanes import WIDTHS

_START_S = 20.0
_END_S = 3.0
"""How long requests under way are waited for at the end."""


class Server(uvicorn.Server):
    """A server that tells its streams that it ends."""

    def __init__(self, config: uvicorn.Config, app: FastAPI) -> None:
        super().__init__(config)
        self._app = app

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """End: no new connections, streams told, the others waited for a moment."""
        await asyncio.to_thread(self._app.state.live.close)
        await super().shutdown(sockets)


class Serving:
    """The API of a store at an address; the port is taken when this is made."""

    def __init__(self, freshline: Freshline, *, host: str = "127.0.0.1", port: int | None = None) -> None:
        self._freshline = freshline
        wanted = freshline.settings.api_port if port is None else port
        self._socket = _listen(host, wanted)
        self.host, self.port = host, int(self._socket.getsockname()[1])
        try:
            self.access: Access = access_for(freshline.settings, host=host, port=self.port)
            at_once = WIDTHS[freshline.database.dialect]
            app = create_app(freshline, access=self.access, quick_at_once=at_once)
        except BaseException:
            self._socket.close()
            raise
        config = uvicorn.Config(
            app,
            access_log=False,
            log_config=None,
            server_header=False,
            # Larger than what `security` takes: who asks too much is to get a problem.
            h11_max_incomplete_event_size=256 * 1024,
            # What a proxy says of its clients is not believed: nothing here depends on it.
            proxy_headers=False,
            timeout_graceful_shutdown=int(_END_S),
            lifespan="on",
        )
        self._server = Server(config, app)
        self._thread: threading.Thread | None = None

    @property
    def url(self) -> str:
        """Where the page and the API are, for a browser on this machine."""
        name = "127.0.0.1" if self.host in ("", "0.0.0.0") else "[::1]" if self.host == "::" else self.host
        return f"http://{f'[{name}]' if ':' in name and not name.startswith('[') else name}:{self.port}"

    @property
    def page_url(self) -> str:
        """The page's address with the token behind the `#`, which no browser sends to any server."""
        return f"{self.url}/#token={self.access.token}"

    def told(self, *, to_terminal: bool) -> list[str]:
        """Return the lines that say where the page is: with the token for a person, and without for what keeps them.

        What a service prints is kept by its journal, for more readers than the token has.
        """
        if to_terminal:
            return [f"Page: {self.page_url}"]
        return [f"Page: {self.url}", f"Token: {token_place(self._freshline.settings)}"]

    def check(self) -> None:
        """Let pass a server that serves.

        Raises:
            StackError: it has ended by itself.
        """
        if self._thread is None or not self._thread.is_alive():
            raise StackError(f"the API at {self.url} has ended; its log says why")

    def __enter__(self) -> Self:
        """Serve beside the other threads."""
        # Imports Prefect: whoever asked first would wait for it, and everybody else meanwhile.
        self._freshline.flow_run_page(UUID(int=0))
        self._thread = threading.Thread(
            target=self._server.run, kwargs={"sockets": [self._socket]}, name="freshline-api", daemon=True
        )
        self._thread.start()
        deadline = time.monotonic() + _START_S
        while not self._server.started:
            if not self._thread.is_alive() or time.monotonic() > deadline:
                self.__exit__()
                raise StackError(f"the API did not start at {self.url}; its log says why")
            time.sleep(0.01)
        return self

    def __exit__(self, *_exc: object) -> None:
        self._server.should_exit = True
        if self._thread is not None:
            self._thread.join(timeout=2 * _END_S)
        self._socket.close()


def _listen(host: str, port: int) -> socket.socket:
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host or "0.0.0.0", port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        listening = socket.socket(family, kind, protocol)
    except OSError as error:
        raise StackError(f"cannot listen at {host!r}: {error.strerror or error}") from None
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind(address)
        listening.listen(1024)
    except OSError as error:
        listening.close()
        raise StackError(
            f"cannot listen at {host}:{port} ({error.strerror}); choose another port with FRESHLINE_API_PORT"
        ) from None
    return listening
