"""What the server says of itself is true, whatever it is asked: no fault of its own, no answer that its schema has not.

Schemathesis makes the requests out of the OpenAPI document: such as it allows, and such as it does not. Two of three
name runs, artifacts and deployments that there are. On SQLite; streams are left out: they do not end.
"""

import shutil
from collections import Counter
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from freshline.runs import health
from freshline.runs.api.access import Access
from freshline.runs.api.app import create_app
from freshline.runs.composition import Freshline
from freshline.storage.settings import Settings
from tests.asking import TOKEN
from tests.unit.runs.conftest import World, make_world

CHECKS = (
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
)
HEADERS = {"Host": "127.0.0.1:4280", "Authorization": f"Bearer {TOKEN}"}


class Server:
    """The application over a store with runs of each status, and the requests that its document allows."""

    def __init__(self, world: World, directory: Path) -> None:
        self.world = world
        freshline = Freshline(Settings(home=directory), world.database, world.objects)
        app = create_app(freshline, access=Access(token=TOKEN))
        # When something is away, health answers 503 as it should. Here nothing is, so that this would be an error too.
        app.state.health = health.HealthCheck(health.questions_of(freshline, world.gateway), within_s=30)
        schema = schemathesis.openapi.from_asgi("/api/v1/openapi.json", app, headers=HEADERS)
        found = [one.ok() for one in schema.get_all_operations()]
        self.operations = [one for one in found if not one.path.endswith("/stream")]
        with world.database.read() as connection:
            self.run_ids = list(connection.exec_driver_sql("SELECT run_id FROM v_runs").scalars())
            self.artifact_ids = list(connection.exec_driver_sql("SELECT id FROM artifact").scalars())

    def known(self, path: str):
        """Strategy of path parameters that name something."""
        named = {}
        if "{run_id}" in path:
            named["run_id"] = st.sampled_from(self.run_ids)
        if "{artifact_id}" in path:
            named["artifact_id"] = st.sampled_from(self.artifact_ids)
        if "{resource}" in path:
            named |= {"kind": st.just("refresh"), "resource": st.sampled_from(["prices", "momentum"])}
        if "{which}" in path:
            named["which"] = st.sampled_from(["1", "v1", "champion"])
        return st.fixed_dictionaries(named)

    def ask(self, operation, mode: GenerationMode, examples: int, seen: Counter[int]) -> None:
        """Ask one operation many times, and look at each answer."""

        @settings(
            max_examples=examples,
            deadline=None,
            derandomize=True,
            database=None,
            suppress_health_check=list(HealthCheck),
            phases=[Phase.generate],
        )
        @given(
            case=operation.as_strategy(generation_mode=mode),
            known=self.known(operation.path),
            is_known=st.sampled_from([True, True, False]),
        )
        def ask(case, known, is_known):
            if is_known:
                case.path_parameters.update(known)
            answer = case.call(headers=HEADERS)
            seen[answer.status_code] += 1
            case.validate_response(answer, checks=CHECKS)

        ask()


@pytest.fixture(scope="module")
def server(sqlite_template, tmp_path_factory) -> Iterator[Server]:
    directory = tmp_path_factory.mktemp("schema")
    shutil.copy(sqlite_template, directory / "freshline.db")
    world = make_world(f"sqlite:///{directory / 'freshline.db'}")
    for key in ("refresh/prices", "refresh/momentum", "backtest/book"):
        world.run_through(key)
        world.pass_time(timedelta(seconds=1))
    failed = world.start(world.service.submit("refresh/prices"))
    world.port.fail(failed.run.id, failed.run.fence, ValueError("no"), "", will_retry=False)
    world.service.submit("refresh/calendar", on_stale="wait")
    world.start(world.service.submit("refresh/prices"))
    world.reconcile()
    yield Server(world, directory)
    world.database.dispose()


def ask_all(server: Server, *, allowed: int, refused: int) -> Counter[int]:
    """Ask every operation as its schema allows and as it does not; return how often which status came."""
    seen: Counter[int] = Counter()
    failures = []
    for operation in server.operations:
        takes_something = operation.body or any(list(group) for group in (operation.path_parameters, operation.query))
        for mode, examples in ((GenerationMode.POSITIVE, allowed), (GenerationMode.NEGATIVE, refused)):
            if mode == GenerationMode.NEGATIVE and not takes_something:
                continue
            try:
                server.ask(operation, mode, examples, seen)
            except Exception as failure:
                failures.append(f"{operation.label} ({mode}): {failure}")
    assert not failures, "\n\n".join(failures)
    return seen


@pytest.mark.timeout(600)
def test_two_thousand_requests_are_answered_as_the_schema_says(server):
    seen = ask_all(server, allowed=45, refused=10)
    assert seen.total() >= 2_000
    assert {200, 201, 202, 404, 409, 422} <= set(seen)


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_twenty_thousand_requests_are_answered_as_the_schema_says(server):
    assert ask_all(server, allowed=400, refused=150).total() >= 20_000
