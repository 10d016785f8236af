"""`HttpPort`: RunPort for workers that reach a server of Freshline instead of its database.

The object store is the worker's own, and so is Prefect. What is recorded goes through the server, with the token that
the claim has given; a call that changes nothing the second time is made again while the server is away.
"""

import os
import random
import socket
import time
from collections.abc import Mapping, Sequence
from datetime import datetime
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar
from uuid import UUID

import httpx
from pydantic import TypeAdapter

from ...deployments.gateway import FlowRunFacts, Gateway
from ...storage import errors
from ...storage.artifacts import ArtifactRecord
from ...storage.errors import FreshlineError, StoreError, StoreUnavailable
from ...storage.filesystem import ObjectStore
from .. import run_events as events
from ..execution import Claim
from ..intake import FlowCall
from ..lease_terms import Beat, LeaseTerms
from ..points.chunks import Chunk, SentChunk
from ..points.left_behind import LeftBehind
from ..points.spool import Spool, Spools
from ..port import UpstreamVersion, known_call
from ..recording import SavedState
from ..result import Result
from ..steps import StepCount
from . import wire

M = TypeVar("M", bound=wire.Message)

PATH = "/api/v1/worker"
"""Where the server's side begins."""
ERROR = "error"
"""Member of a problem: the name of the error's class."""

_AGAIN_FOR_S = 60.0
"""How long a call that may be made twice is made again, as long as the database is waited for where it is at hand."""
_TIMEOUT = httpx.Timeout(30.0, connect=5.0)
_AWAY = frozenset({502, 503, 504})
_SENT_POINTS = TypeAdapter(list[wire.SentPointsMessage])
_UPSTREAMS = TypeAdapter(list[wire.UpstreamMessage])


class HttpPort:
    """RunPort over HTTP.

    Args:
        url: the server's address, such as `http://freshline:4280`.
        token: the server's token, or an empty text where the server asks for none.
        objects: the worker's own way to the object store.
        gateway: the worker's own way to Prefect.
        home: where metric values wait for the server.
        store_id: the store that the deployment was registered in.
    """

    def __init__(
        self,
        url: str,
        token: str,
        objects: ObjectStore,
        gateway: Gateway,
        *,
        home: Path | None = None,
        store_id: str | None = None,
        system_metrics: bool = False,
        transport: httpx.BaseTransport | None = None,
        again_for_s: float = _AGAIN_FOR_S,
    ) -> None:
        self.objects = objects
        self.system_metrics = system_metrics
        self._url = url.rstrip("/")
        self._token = token
        self._gateway = gateway
        self._home = home
        self._store_id = store_id
        self._again_for_s = again_for_s
        self._tokens: dict[tuple[UUID, int | None], str] = {}
        """By run and fence; without a fence, that of the run's newest attempt here."""
        self._client = httpx.Client(base_url=self._url + PATH, timeout=_TIMEOUT, transport=transport)

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    @property
    def heartbeat_s(self) -> float:
        """How often the server wants the lease to be renewed."""
        return self._store.heartbeat_s

    def claim(self, call: FlowCall | FlowRunFacts, *, provenance: Mapping[str, str] | None = None) -> Claim:
        """Claim the run of this start of a flow's function, whoever triggered it; errors as `DirectPort.claim`."""
        request = wire.ClaimRequest(
            call=known_call(call, self._gateway),
            worker=f"{socket.gethostname()}:{os.getpid()}",
            provenance=None if provenance is None else dict(provenance),
            store_id=None if self._store_id is None else UUID(self._store_id),
        )
        answer = self._ask("POST", "/claims", request, wire.ClaimMessage, token=self._token, again=True)
        claim = answer.claim()
        if answer.token is not None:
            for fence in (claim.run.fence, None):
                self._tokens[claim.run.id, fence] = answer.token
        return claim

    def suspend(self, flow_run: FlowRunFacts, *, reason: str) -> None:
        """Give the worker back until the run is released; does not return."""
        self._gateway.suspend(flow_run.id, message=reason, timeout_s=7 * 86_400)

    def heartbeat(self, run_id: UUID, fence: int) -> Beat | None:
        """Renew the lease; return what was asked of the body meanwhile: CANCEL, PAUSE or nothing."""
        held = wire.HeldMessage(fence=fence)
        answer = self._ask("POST", f"/runs/{run_id}/heartbeat", held, wire.BeatMessage, run_id=run_id)
        return None if answer.asked is None else Beat(answer.asked)

    def lease_terms(self, run_id: UUID, fence: int) -> LeaseTerms | None:
        """Return what another process needs to renew the lease."""
        connect = {"url": f"{self._url}{PATH}/runs/{run_id}/heartbeat", "token": self._token_of(run_id, fence)}
        store = self._store
        return LeaseTerms(
            driver="http",
            connect=connect,
            run_id=run_id,
            fence=fence,
            lease_s=store.lease_s,
            interval_s=store.heartbeat_s,
        )

    def pins(self, run_id: UUID) -> Mapping[str, UpstreamVersion]:
        """Return the pinned versions by role."""
        answer = self._send("GET", f"/runs/{run_id}/pins", run_id=run_id, again=True)
        return {message.role: message.version() for message in _UPSTREAMS.validate_json(answer.content)}

    def resolve(self, reference: str) -> UpstreamVersion:
        """Return a version that was not declared; errors as `DirectPort.resolve`."""
        answer = self._send("GET", "/versions", token=self._token, again=True, params={"reference": reference})
        return wire.UpstreamMessage.model_validate_json(answer.content).version()

    def version(self, version_id: UUID) -> UpstreamVersion:
        """Return a version by its id."""
        answer = self._send("GET", f"/versions/{version_id}", token=self._token, again=True)
        return wire.UpstreamMessage.model_validate_json(answer.content).version()

    def record(
        self,
        run_id: UUID,
        fence: int,
        entries: Sequence[events.Event] = (),
        *,
        metrics: Mapping[str, float] | None = None,
        progress: float | None = None,
    ) -> None:
        """Append events, latest metric values and progress."""
        message = wire.RecordMessage.model_construct(
            fence=fence,
            entries=list(entries),  # type: ignore[arg-type]  # a body makes no others
            metrics=None if metrics is None else dict(metrics),
            progress=progress,
        )
        self._send("POST", f"/runs/{run_id}/record", message, run_id=run_id)

    def add_message(self, run_id: UUID, fence: int, role: str, content: str) -> None:
        """Append a message, with its event."""
        message = wire.MessageMessage(fence=fence, role=role, content=content)
        self._send("POST", f"/runs/{run_id}/messages", message, run_id=run_id)

    def save_checkpoint(self, run_id: UUID, fence: int, state: Mapping[str, Any]) -> int:
        """Save a state, with its event; return its number."""
        message = wire.CheckpointMessage(fence=fence, state=dict(state))
        answer = self._send("POST", f"/runs/{run_id}/checkpoints", message, run_id=run_id)
        return int(answer.json()["number"])

    def newest_checkpoint(self, run_id: UUID) -> SavedState | None:
        """Return the state that was saved last, by whichever attempt of the run."""
        answer = self._send("GET", f"/runs/{run_id}/checkpoints/newest", run_id=run_id, again=True)
        newest = wire.NewestMessage.model_validate_json(answer.content).saved
        return None if newest is None else newest.saved()

    def open_spool(self, run_id: UUID, fence: int) -> Spool:
        """Make the file in which an attempt's metric values wait.

        Raises:
            OSError: there cannot be one.
        """
        if self._spools is None:
            raise OSError("this port was given no folder for it")
        return self._spools.create(run_id, fence)

    def record_points(self, run_id: UUID, fence: int, chunk: Chunk, latest: Mapping[str, float]) -> int:
        """Store a chunk of an attempt's metric values; return the number behind the last one that the store has."""
        message = wire.PointsMessage.of(fence, chunk, latest)
        # Whoever sends points tries again himself, for as long as it takes.
        return int(self._send("POST", f"/runs/{run_id}/points", message, run_id=run_id).json()["end"])

    def sent_points(self, run_id: UUID) -> Sequence[SentChunk]:
        """Return the chunks of metric values that the run's attempts have sent."""
        answer = self._send("GET", f"/runs/{run_id}/points", run_id=run_id, again=True)
        return [message.chunk() for message in _SENT_POINTS.validate_json(answer.content)]

    def end_of(self, run_id: UUID, fence: int) -> int:
        """Return the number behind the last point of an attempt that has arrived."""
        answer = self._send("GET", f"/runs/{run_id}/points/end", run_id=run_id, again=True, params={"fence": fence})
        return int(answer.json()["end"])

    def send_left_behind(self) -> None:
        """Have sent, in the background, what processes of this machine that are gone had not sent."""
        if self._spools is not None:
            LeftBehind(self._spools, _LeftPoints(self)).start()

    def complete(self, run_id: UUID, fence: int, result: Result) -> None:
        """Publish the result and end the run."""
        message = wire.CompleteMessage.of(fence, result)
        self._send("POST", f"/runs/{run_id}/complete", message, run_id=run_id, again=True)
        self._tokens.pop((run_id, fence), None)

    def fail(
        self,
        run_id: UUID,
        fence: int,
        error: BaseException,
        traceback: str,
        *,
        will_retry: bool,
        artifacts: Sequence[ArtifactRecord] = (),
        traceback_ref: str | None = None,
        counters: Mapping[str, float] | None = None,
        step_counters: Sequence[StepCount] = (),
        resume_due_at: datetime | None = None,
    ) -> None:
        """End the run with an error, or leave it to Prefect's next attempt."""
        message = wire.FailMessage(
            fence=fence,
            error_type=type(error).__name__[:250],
            error_message=_text(str(error))[:4000],
            traceback=_text(traceback)[-_LONGEST_TRACEBACK:],
            will_retry=will_retry,
            artifacts=wire.artifact_messages(artifacts),
            traceback_ref=traceback_ref,
            counters=None if counters is None else dict(counters),
            step_counters=list(step_counters),
            resume_due_at=resume_due_at,
        )
        self._send("POST", f"/runs/{run_id}/fail", message, run_id=run_id, again=True)

    def pause(self, run_id: UUID, fence: int) -> None:
        """Give the lease back while the body is suspended."""
        self._send("POST", f"/runs/{run_id}/pause", wire.HeldMessage(fence=fence), run_id=run_id, again=True)

    def acknowledge_cancel(self, run_id: UUID, fence: int) -> None:
        """End the run as cancelled: its body has stopped."""
        self._send("POST", f"/runs/{run_id}/cancelled", wire.HeldMessage(fence=fence), run_id=run_id, again=True)

    # How it is said.

    @cached_property
    def _store(self) -> wire.StoreMessage:
        answer = self._send("GET", "/store", token=self._token, again=True)
        return wire.StoreMessage.model_validate_json(answer.content)

    @cached_property
    def _spools(self) -> Spools | None:
        return None if self._home is None else Spools(self._home, self._store.store_id)

    def _token_of(self, run_id: UUID, fence: int | None) -> str:
        """Return the token of an attempt; of one that another process made, the server's."""
        return self._tokens.get((run_id, fence), self._token)

    def _ask(self, method: str, path: str, message: wire.Message, answer: type[M], **options: Any) -> M:
        return answer.model_validate_json(self._send(method, path, message, **options).content)

    def _send(
        self,
        method: str,
        path: str,
        message: wire.Message | None = None,
        *,
        run_id: UUID | None = None,
        token: str | None = None,
        again: bool = False,
        params: Mapping[str, Any] | None = None,
    ) -> httpx.Response:
        """Ask the server; with `again`, for a minute, because the call changes nothing the second time.

        Raises:
            FreshlineError: what the server says, by its class.
            StoreUnavailable: the server cannot be reached, or has no database.
        """
        fence = message.fence if isinstance(message, wire.HeldMessage) else None
        allowed = token if run_id is None else self._token_of(run_id, fence)
        headers = {"Authorization": f"Bearer {allowed}"} if allowed else {}
        content = None if message is None else message.model_dump_json(by_alias=True).encode()
        if content is not None:
            headers["Content-Type"] = "application/json"
        give_up_at = time.monotonic() + (self._again_for_s if again else 0.0)
        failures = 0
        while True:
            try:
                answer = self._client.request(method, path, content=content, headers=headers, params=params)
                if answer.status_code not in _AWAY or _error_of(answer) not in (None, StoreUnavailable):
                    return _checked(answer, self._url)
                away = StoreUnavailable(f"{self._url} answers {answer.status_code}: {_detail(answer)}")
            except httpx.TransportError as error:
                away = StoreUnavailable(f"{self._url} cannot be reached: {error or type(error).__name__}")
            failures += 1
            pause_s = random.uniform(0.5, 1.0) * min(5.0, 0.2 * 2**failures)
            if time.monotonic() + pause_s > give_up_at:
                raise away
            time.sleep(pause_s)


class _LeftPoints:
    """Where the points of processes that are gone go: with the server's token, for theirs went with them."""

    def __init__(self, port: HttpPort) -> None:
        self.record = port.record_points
        self.end_of = port.end_of


_LONGEST_TRACEBACK = 20_000


def _text(text: str) -> str:
    """Return text that both databases keep: a lone surrogate has no bytes, and none keeps a NUL."""
    return text.encode("utf-8", "replace").decode().replace("\0", "\ufffd")


def _detail(answer: httpx.Response) -> str:
    problem = _problem(answer)
    return str(problem.get("detail") or problem.get("title") or answer.reason_phrase)


def _problem(answer: httpx.Response) -> dict[str, Any]:
    try:
        problem = answer.json()
    except ValueError:
        return {}
    return problem if isinstance(problem, dict) else {}


def _error_of(answer: httpx.Response) -> type[FreshlineError] | None:
    """Return which of our errors a problem names."""
    kind = getattr(errors, str(_problem(answer).get(ERROR)), None)
    return kind if isinstance(kind, type) and issubclass(kind, FreshlineError) else None


def _checked(answer: httpx.Response, url: str) -> httpx.Response:
    """Return the answer, unless it is a problem.

    Raises:
        FreshlineError: of the class that the problem names, where it is one of ours.
    """
    if answer.is_success:
        return answer
    detail = _detail(answer)
    if (kind := _error_of(answer)) is not None:
        raise _made(kind, detail)
    if answer.status_code in (401, 403):
        raise StoreError(f"{url} does not take this worker's token ({detail}): set FRESHLINE_API_TOKEN to the server's")
    raise StoreError(f"{url} answers {answer.status_code}: {detail}")


def _made(kind: type[FreshlineError], detail: str) -> FreshlineError:
    """Return an error of a class, with the message that the server's had: the classes' own arguments stayed there."""
    error = kind.__new__(kind)
    Exception.__init__(error, detail)
    return error
