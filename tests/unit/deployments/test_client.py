"""What the gateway makes of a Prefect that is away, busy, strict or strange: a scripted server over real HTTP."""

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from uuid import UUID, uuid4

import pytest

from freshline.deployments.client import PrefectGateway
from freshline.deployments.gateway import FlowRunState
from freshline.storage.errors import InvalidInput, NotFound, PrefectError

DEPLOYMENT = UUID(int=7)


class Scripted:
    """A server that answers what it is told, in order, and keeps the requests."""

    def __init__(self) -> None:
        self.answers: list[tuple[int, Any]] = []
        self.requests: list[tuple[str, str, Any, dict[str, str]]] = []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def answer(self) -> None:
                length = int(self.headers.get("Content-Length", 0))
                body = json.loads(self.rfile.read(length)) if length else None
                if self.path.startswith("/api/csrf-token"):
                    status, content = 422, {"detail": "CSRF protection is disabled."}
                else:
                    outer.requests.append((self.command, self.path, body, dict(self.headers)))
                    status, content = outer.answers.pop(0) if len(outer.answers) > 1 else outer.answers[0]
                payload = content if isinstance(content, bytes) else json.dumps(content).encode()
                self.send_response(status)
                self.send_header("Content-Length", str(len(payload)))
                self.send_header("Retry-After", "0")  # Prefect's own client waits for it, with the real clock
                self.end_headers()
                self.wfile.write(payload)

            do_GET = do_POST = do_PATCH = answer  # noqa: N815 - the server's names

            def log_message(self, *_: Any) -> None: ...

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}/api"
        threading.Thread(target=self.server.serve_forever, args=(0.01,), daemon=True).start()


@pytest.fixture
def prefect() -> Iterator[Scripted]:
    made = Scripted()
    yield made
    made.server.shutdown()
    made.server.server_close()


@pytest.fixture
def pauses() -> list[float]:
    return []


@pytest.fixture
def gateway(prefect: Scripted, pauses: list[float]) -> Iterator[PrefectGateway]:
    made = PrefectGateway(prefect.url, sleep=pauses.append)
    yield made
    made.close()


def flow_run(**changes: Any) -> dict[str, Any]:
    made = {
        "id": str(uuid4()),
        "name": "calm-otter",
        "flow_id": str(UUID(int=1)),
        "deployment_id": str(DEPLOYMENT),
        "created": "2026-01-05T12:00:00+01:00",
        "idempotency_key": "key",
        "labels": {"freshline.run": "r", "count": 3},
        "state": {"id": str(uuid4()), "type": "SCHEDULED", "name": "Scheduled"},
        "created_by": {"id": str(uuid4()), "type": "SCHEDULE", "display_value": "daily"},
    }
    return made | changes


def create(gateway: PrefectGateway) -> UUID:
    made = gateway.create_flow_run(DEPLOYMENT, parameters={}, idempotency_key="key", labels={})
    return made.id


# Away.


def test_prefect_that_is_away_is_named_with_the_fix() -> None:
    gateway = PrefectGateway("http://127.0.0.1:9/api")
    with pytest.raises(PrefectError, match=r"http://127\.0\.0\.1:9/api cannot be reached .*; start it"):
        gateway.read_flow_run(uuid4())
    assert not gateway.is_healthy()


@pytest.mark.parametrize("url", ["not a url", "ftp://x/api", "http://", "http://[::1/api"])
def test_address_that_is_no_address_is_refused(url: str) -> None:
    gateway = PrefectGateway(url)
    assert not gateway.is_healthy()
    with pytest.raises(PrefectError, match="PREFECT_API_URL"):
        gateway.read_flow_run(uuid4())


def test_no_address_at_all_is_refused() -> None:
    from prefect.settings import PREFECT_API_URL, temporary_settings

    with temporary_settings(restore_defaults={PREFECT_API_URL}):
        gateway = PrefectGateway()
        assert not gateway.is_healthy()
        with pytest.raises(PrefectError, match="set PREFECT_API_URL, or start one with `freshline up`"):
            gateway.read_flow_run(uuid4())


# Busy.


def test_busy_prefect_is_asked_again_with_the_same_key(
    prefect: Scripted, gateway: PrefectGateway, pauses: list[float]
) -> None:
    made = flow_run()
    prefect.answers = [(503, {"exception_message": "Service Unavailable"}), (503, {}), (201, made)]
    assert create(gateway) == UUID(made["id"])
    assert pauses == [0.2, 0.4]
    assert [body["idempotency_key"] for _, _, body, _ in prefect.requests] == ["key"] * 3


def test_prefect_that_stays_busy_is_given_up(prefect: Scripted, gateway: PrefectGateway, pauses: list[float]) -> None:
    prefect.answers = [(503, {"exception_message": "database is locked"})]
    with pytest.raises(PrefectError, match=r"answered 503 to POST .*database is locked"):
        create(gateway)
    assert pauses == [0.2, 0.4, 0.8, 1.6, 2.0, 2.0, 2.0]
    assert len(prefect.requests) == 8


def test_health_of_a_busy_prefect_is_answered_at_once(
    prefect: Scripted, gateway: PrefectGateway, pauses: list[float]
) -> None:
    prefect.answers = [(503, {})]
    assert not gateway.is_healthy()
    assert pauses == []


# Strict.


def test_error_of_prefect_is_passed_on_and_not_tried_again(
    prefect: Scripted, gateway: PrefectGateway, pauses: list[float]
) -> None:
    prefect.answers = [(500, {"exception_message": "Internal\nServer Error"})]
    with pytest.raises(PrefectError, match="answered 500 to POST /api/flow_runs/filter: Internal Server Error"):
        gateway.read_flow_run(uuid4())
    assert len(prefect.requests) == 1
    assert pauses == []


@pytest.mark.parametrize("status", [400, 409, 422])
def test_refused_parameters_are_bad_input(prefect: Scripted, gateway: PrefectGateway, status: int) -> None:
    prefect.answers = [(status, {"detail": "Validation failed for field 'n'"})]
    with pytest.raises(InvalidInput, match=r"Prefect refused the parameters: .*field 'n'"):
        create(gateway)


def test_missing_deployment_is_not_found(prefect: Scripted, gateway: PrefectGateway) -> None:
    prefect.answers = [(404, {"detail": "Deployment not found"})]
    with pytest.raises(NotFound, match=str(DEPLOYMENT)):
        create(gateway)
    with pytest.raises(NotFound, match="'flow/name'"):
        gateway.read_deployment("flow/name")


@pytest.mark.parametrize("status", [401, 403])
def test_refused_credentials_name_the_setting_and_no_secret(
    prefect: Scripted, gateway: PrefectGateway, status: int
) -> None:
    prefect.answers = [(status, {"detail": "no"})]
    with pytest.raises(PrefectError, match=r"refused the credentials .* set PREFECT_API_KEY"):
        gateway.read_flow_run(uuid4())


def test_credentials_go_only_to_the_address_of_the_settings(prefect: Scripted) -> None:
    from prefect.settings import PREFECT_API_KEY, PREFECT_API_URL, temporary_settings

    prefect.answers = [(200, [])]
    with temporary_settings({PREFECT_API_URL: prefect.url, PREFECT_API_KEY: "s3cret"}):
        PrefectGateway().read_flow_run(uuid4())
    with temporary_settings({PREFECT_API_URL: "http://127.0.0.1:9/api", PREFECT_API_KEY: "s3cret"}):
        PrefectGateway(prefect.url).read_flow_run(uuid4())
    sent = [headers.get("Authorization") for _, _, _, headers in prefect.requests]
    assert sent == ["Bearer s3cret", None]


def test_api_url_is_shown_without_credentials() -> None:
    assert PrefectGateway("https://me:s3cret@prefect.test/api/").api_url == "https://prefect.test/api"


# Strange.


@pytest.mark.parametrize("answer", [b"<html>", [{"id": "x"}], {"detail": "?"}, [3]])
def test_answer_that_cannot_be_read_is_an_error_of_prefect(
    prefect: Scripted, gateway: PrefectGateway, answer: Any
) -> None:
    prefect.answers = [(200, answer)]
    with pytest.raises(PrefectError):
        gateway.read_flow_run(uuid4())


def test_other_deployment_in_the_answer_is_a_conflict(prefect: Scripted, gateway: PrefectGateway) -> None:
    prefect.answers = [(200, flow_run(deployment_id=str(uuid4())))]
    with pytest.raises(Exception, match="the idempotency key 'key' belongs to flow run"):
        create(gateway)


def test_facts_are_those_of_the_answer(prefect: Scripted, gateway: PrefectGateway) -> None:
    made = flow_run(auto_scheduled=True, run_count=2)
    prefect.answers = [(200, [made])]
    facts = gateway.read_flow_run(UUID(made["id"]))
    assert facts is not None
    assert facts.labels == {"freshline.run": "r"}
    assert (facts.created_by_type, facts.created_by_name) == ("SCHEDULE", "daily")
    assert facts.is_auto_scheduled
    assert facts.run_count == 2
    assert str(facts.created_at) == "2026-01-05 11:00:00+00:00"
    assert facts.state_type is FlowRunState.SCHEDULED
    assert facts.state_message is None


def test_flow_run_without_a_state_has_none(prefect: Scripted, gateway: PrefectGateway) -> None:
    made = flow_run(state=None, created_by=None)
    prefect.answers = [(200, [made])]
    facts = gateway.read_flow_run(UUID(made["id"]))
    assert facts is not None
    assert (facts.state_type, facts.state_name, facts.created_by_type) == (None, None, None)
    assert not facts.has_ended


def test_gateway_that_was_closed_opens_again(prefect: Scripted, gateway: PrefectGateway) -> None:
    prefect.answers = [(200, [])]
    gateway.close()
    assert gateway.read_flow_run(uuid4()) is None
    gateway.close()
    gateway.close()
    assert gateway.read_flow_run(uuid4()) is None
